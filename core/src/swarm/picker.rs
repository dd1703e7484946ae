//! Which piece to ask for next, and whom.
//!
//! The rarest piece within a window of the next missing ones: in-order picking is 3 to 5 times slower than the optimum,
//! because everybody wants the same piece; the window keeps the prefix growing for containerd (reference, section 9.3).

use std::sync::Arc;

use super::neighbours::{Neighbour, Neighbours};
use super::readiness::{Asking, Readiness};
use crate::context::Context;
use crate::names::PeerId;

/// The window at a thousand participants, in pieces; it scales with log2 of their number.
pub(crate) const WINDOW_AT_THOUSAND: u32 = 16;
/// Below eight pieces the swarm collapses into in-order picking (reference, section 9.3).
pub(crate) const MIN_WINDOW: u32 = 8;
/// Nodes of a zone that fetch a piece from other zones as soon as they can; the others wait for theirs. One would be enough
/// if it were there and knew somebody who has the piece.
pub(crate) const IMPORTERS: u32 = 3;
/// A piece that holds up the prefix is fetched by this many times as many.
pub(crate) const MORE_IMPORTERS: u32 = 4;

/// The window for a swarm among `members` nodes, in pieces.
pub(crate) fn window(members: usize) -> u32 {
    let log2 = members.max(1).ilog2().max(1);
    (WINDOW_AT_THOUSAND * log2).div_ceil(10).max(MIN_WINDOW)
}

/// With fewer neighbours in the own zone than this, few others take part there, whoever belongs to it.
pub(crate) const FEW_NEAR: usize = 6;

/// This node's zone, and its part in bringing pieces there.
pub(crate) struct Zone<'a> {
    pub(crate) name: &'a Arc<str>,
    /// Number of nodes in it, if many of them take part.
    pub(crate) len: u32,
    /// Tells this node and blob from others: with the piece's number it decides who imports.
    pub(crate) salt: u64,
    /// Nothing has come from it for a while: whoever has something is asked, wherever it is.
    pub(crate) starving: bool,
}

impl Zone<'_> {
    /// Whether this node is one of those that import `piece`. All nodes decide alike without a word, and each piece has
    /// other importers; how many, is a matter of chance.
    fn imports(&self, piece: u32, importers: u32, near: usize) -> bool {
        let len = if near < FEW_NEAR { near as u32 + 1 } else { self.len.max(1) };
        let mut mixed = self.salt ^ u64::from(piece).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        self.starving || (mixed ^ (mixed >> 33)) % u64::from(len) < u64::from(importers)
    }
}

/// What to pick from.
pub(crate) struct Choice<'a> {
    pub(crate) neighbours: &'a Neighbours,
    /// Missing pieces that nobody has been asked for, ascending.
    pub(crate) wanted: &'a [u32],
    /// A reader has waited long for this one.
    pub(crate) first: Option<u32>,
    /// Pieces before this one are more than a window behind the newest one that is here.
    pub(crate) behind: u32,
    pub(crate) zone: Option<Zone<'a>>,
    pub(crate) asking: Asking,
}

impl Choice<'_> {
    fn is_far(&self, neighbour: &Neighbour) -> bool {
        self.zone.as_ref().is_some_and(|zone| neighbour.zone.as_ref() != Some(zone.name))
    }

    /// Whether `piece` may be fetched from another zone: nobody who is known here has it, and it is this node's turn.
    fn may_import(&self, piece: u32) -> bool {
        let Some(zone) = &self.zone else { return true };
        let importers = if piece < self.behind { IMPORTERS * MORE_IMPORTERS } else { IMPORTERS };
        let (mut near, mut is_here) = (0, false);
        for (_, neighbour) in self.neighbours.iter().filter(|(_, neighbour)| !self.is_far(neighbour)) {
            near += 1;
            is_here |= neighbour.pieces.contains(piece);
        }
        zone.imports(piece, importers, near) && (zone.starving || !is_here)
    }
}

/// Picks a piece and a neighbour to ask for it.
///
/// What a reader has waited long for comes first, then what is far behind: it holds up the prefix, and all that is stored
/// after it has to wait to be hashed. Else the piece that the fewest neighbours have; of equally rare ones any. Of its holders
/// one that has a slot for us, or with the fewest fetches. Another zone is asked by a few, for what their own zone does not
/// have. `may_ask`: somebody for anything at all, and for one piece.
pub(crate) fn pick(
    cx: &mut Context,
    choice: &Choice<'_>,
    may_ask: impl Fn(&PeerId, Option<u32>) -> bool,
) -> Option<(u32, PeerId)> {
    if choice.wanted.is_empty() {
        return None;
    }
    let mut free = Vec::with_capacity(choice.neighbours.len());
    free.extend(choice.neighbours.free(choice.asking).filter(|(peer, ..)| may_ask(peer, None)));
    let mut best: Option<((bool, bool, usize, u32), u32)> = None;
    for piece in choice.wanted {
        let has = |(peer, neighbour, _): &&(&PeerId, &Neighbour, &Readiness)| {
            neighbour.pieces.contains(*piece) && may_ask(peer, Some(*piece))
        };
        let mut holders = free.iter().filter(has).peekable();
        if holders.peek().is_none()
            || (holders.all(|(_, neighbour, _)| choice.is_far(neighbour)) && !choice.may_import(*piece))
        {
            continue;
        }
        let is_far_on = *piece >= choice.behind;
        let order = (choice.first != Some(*piece), is_far_on, choice.neighbours.holders(*piece), cx.below(1 << 16));
        if best.is_none_or(|best| (order, *piece) < best) {
            best = Some((order, *piece));
        }
    }
    let (_, piece) = best?;
    let peer = free
        .into_iter()
        .filter(|(peer, neighbour, _)| neighbour.pieces.contains(piece) && may_ask(peer, Some(piece)))
        .map(|(peer, neighbour, ready)| {
            ((choice.is_far(neighbour), !ready.unchoked, ready.fetching, cx.below(1 << 16)), peer)
        })
        .min()?
        .1;
    Some((piece, peer.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Have;
    use crate::swarm::neighbours::MAX_PER_NEIGHBOUR;
    use crate::time::Time;

    fn neighbours(haves: &[(&str, &[u32])]) -> Neighbours {
        let mut neighbours = Neighbours::default();
        neighbours.learn(32 * crate::piece::MIN_PIECE_BYTES, 32);
        for (name, pieces) in haves {
            neighbours.add(&PeerId::new(name), None, None);
            neighbours.heard(&PeerId::new(name), &Have::Also(pieces.to_vec()));
        }
        neighbours
    }

    fn pick_from(neighbours: &Neighbours, wanted: &[u32], banned: &str) -> Option<(u32, PeerId)> {
        let mut cx = Context::new(1, Time::ZERO);
        let choice =
            Choice { neighbours, wanted, first: None, behind: 0, zone: None, asking: Asking::anybody(Time::ZERO) };
        pick(&mut cx, &choice, |peer, _| peer.as_str() != banned)
    }

    #[test]
    fn the_rarest_piece_comes_first() {
        let neighbours = neighbours(&[("a", &[1, 2, 3]), ("b", &[1, 2]), ("c", &[1])]);
        assert_eq!(pick_from(&neighbours, &[1, 2, 3], ""), Some((3, PeerId::new("a"))));
    }

    #[test]
    fn nobody_is_asked_who_is_convicted_busy_or_at_its_limit() {
        let mut neighbours = neighbours(&[("a", &[1]), ("b", &[1]), ("c", &[1])]);
        neighbours.busy(&PeerId::new("a"), Time::ZERO, Time::from_micros(5));
        for _ in 0..MAX_PER_NEIGHBOUR {
            neighbours.fetching(&PeerId::new("b"));
        }
        assert_eq!(pick_from(&neighbours, &[1], "c"), None);
        assert_eq!(pick_from(&neighbours, &[1], ""), Some((1, PeerId::new("c"))));
    }

    #[test]
    fn what_holds_up_the_prefix_comes_before_what_is_rare() {
        let neighbours = neighbours(&[("a", &[1, 20, 21]), ("b", &[1, 20]), ("c", &[1])]);
        let mut cx = Context::new(1, Time::ZERO);
        let choice = Choice {
            neighbours: &neighbours,
            wanted: &[1, 20, 21],
            first: None,
            behind: 5,
            zone: None,
            asking: Asking::anybody(Time::ZERO),
        };
        assert_eq!(pick(&mut cx, &choice, |_, _| true).map(|(piece, _)| piece), Some(1));
    }

    #[test]
    fn what_a_reader_waits_for_comes_before_everything() {
        let neighbours = neighbours(&[("a", &[1, 2, 20]), ("b", &[1, 2]), ("c", &[2])]);
        let mut cx = Context::new(1, Time::ZERO);
        let asking = Asking::anybody(Time::ZERO);
        for (first, expected) in [(None, 1), (Some(2), 2), (Some(3), 1)] {
            let wanted = &[1, 2, 20];
            let choice = Choice { neighbours: &neighbours, wanted, first, behind: 5, zone: None, asking };
            assert_eq!(pick(&mut cx, &choice, |_, _| true).map(|(piece, _)| piece), Some(expected), "{first:?}");
        }
    }

    #[test]
    fn a_piece_crosses_to_a_zone_a_few_times_whatever_its_size() {
        let name: Arc<str> = "here".into();
        let mut neighbours = Neighbours::default();
        neighbours.learn(256 << 20, 256);
        neighbours.add(&PeerId::new("far"), Some("there".into()), None);
        neighbours.heard(&PeerId::new("far"), &Have::All);
        for near in 0..FEW_NEAR {
            neighbours.add(&PeerId::new(&format!("near-{near}")), Some(name.clone()), None);
        }
        let mut cx = Context::new(1, Time::ZERO);
        let mut crossings = |len: u32, starving: bool| -> u32 {
            let mut count = 0;
            for salt in 0..len {
                for piece in 0..256 {
                    let zone = Zone { name: &name, len, salt: u64::from(salt) << 40, starving };
                    let zone = Some(zone);
                    let choice = Choice {
                        neighbours: &neighbours,
                        wanted: &[piece],
                        first: None,
                        behind: 0,
                        zone,
                        asking: Asking::anybody(Time::ZERO),
                    };
                    count += u32::from(pick(&mut cx, &choice, |_, _| true).is_some());
                }
            }
            count
        };
        assert_eq!(crossings(2, false), 2 * 256, "a small zone has no others to wait for");
        for len in [30, 300] {
            let each = crossings(len, false) / 256;
            assert!((IMPORTERS - 1..=IMPORTERS + 1).contains(&each), "{each} times to a zone of {len}");
        }
        assert_eq!(crossings(30, true), 30 * 256, "who starves asks anybody");
    }

    #[test]
    fn what_the_own_zone_has_is_not_fetched_from_another() {
        let name: Arc<str> = "here".into();
        let mut neighbours = Neighbours::default();
        neighbours.learn(1 << 20, 4);
        for (peer, zone) in [("near", "here"), ("far", "there")] {
            neighbours.add(&PeerId::new(peer), Some(zone.into()), None);
            neighbours.heard(&PeerId::new(peer), &Have::All);
        }
        neighbours.busy(&PeerId::new("near"), Time::ZERO, Time::from_micros(5));
        let mut cx = Context::new(1, Time::ZERO);
        for (now, expected) in [(0, None), (5, Some((1, PeerId::new("near"))))] {
            let zone = Some(Zone { name: &name, len: 1, salt: 0, starving: false });
            let now = Time::from_micros(now);
            let choice = Choice {
                neighbours: &neighbours,
                wanted: &[1],
                first: None,
                behind: 0,
                zone,
                asking: Asking::anybody(now),
            };
            assert_eq!(pick(&mut cx, &choice, |_, _| true), expected);
        }
    }

    #[test]
    fn the_window_grows_with_the_logarithm_of_the_cluster() {
        assert_eq!([1, 8, 1000, 1024, 10_000, 1 << 20].map(window), [8, 8, 15, 16, 21, 32]);
    }
}

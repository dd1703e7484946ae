//! Which piece to ask for next, and whom.
//!
//! The rarest piece within a window of the next missing ones: in-order picking is 3 to 5 times slower than the optimum,
//! because everybody wants the same piece; the window keeps the prefix growing for containerd (reference, section 9.3).

use std::sync::Arc;

use super::neighbours::Neighbours;
use crate::context::Context;
use crate::names::PeerId;
use crate::time::Time;

/// The window at a thousand participants, in pieces; it scales with log2 of their number.
pub(crate) const WINDOW_AT_THOUSAND: u32 = 16;
/// Below eight pieces the swarm collapses into in-order picking (reference, section 9.3).
pub(crate) const MIN_WINDOW: u32 = 8;
/// Most pieces fetched from one neighbour at a time: enough to hide a round trip, few enough to spread.
pub(crate) const MAX_PER_NEIGHBOUR: u32 = 4;

/// The window for a swarm among `members` nodes, in pieces.
pub(crate) fn window(members: usize) -> u32 {
    let log2 = members.max(1).ilog2().max(1);
    (WINDOW_AT_THOUSAND * log2).div_ceil(10).max(MIN_WINDOW)
}

/// What to pick from.
pub(crate) struct Choice<'a> {
    pub(crate) neighbours: &'a Neighbours,
    /// Missing pieces that nobody has been asked for, ascending.
    pub(crate) wanted: &'a [u32],
    pub(crate) zone: Option<&'a Arc<str>>,
    pub(crate) now: Time,
}

/// Picks a piece and a neighbour to ask for it: the piece that the fewest neighbours have, of equally rare ones any; of its
/// holders one with the fewest fetches, from the own zone if there is one there.
pub(crate) fn pick(cx: &mut Context, choice: &Choice<'_>, may_ask: impl Fn(&PeerId) -> bool) -> Option<(u32, PeerId)> {
    if choice.wanted.is_empty() {
        return None;
    }
    let free: Vec<_> = choice
        .neighbours
        .iter()
        .filter(|(peer, neighbour)| {
            neighbour.fetching < MAX_PER_NEIGHBOUR && neighbour.busy_until <= choice.now && may_ask(peer)
        })
        .collect();
    let mut best: Option<(usize, u32, u32)> = None;
    for piece in choice.wanted {
        if !free.iter().any(|(_, neighbour)| neighbour.pieces.contains(*piece)) {
            continue;
        }
        let candidate = (choice.neighbours.holders(*piece), cx.below(1 << 16), *piece);
        if best.is_none_or(|best| candidate < best) {
            best = Some(candidate);
        }
    }
    let (_, _, piece) = best?;
    let peer = free
        .into_iter()
        .filter(|(_, neighbour)| neighbour.pieces.contains(piece))
        .map(|(peer, neighbour)| {
            let far = choice.zone.is_some() && neighbour.zone.as_ref() != choice.zone;
            ((far, neighbour.fetching, cx.below(1 << 16)), peer)
        })
        .min()?
        .1;
    Some((piece, peer.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Have;

    fn neighbours(haves: &[(&str, &[u32])]) -> Neighbours {
        let mut neighbours = Neighbours::default();
        neighbours.learn(32 * crate::piece::MIN_PIECE_BYTES, 32);
        for (name, pieces) in haves {
            neighbours.add(&PeerId::new(name), None);
            neighbours.heard(&PeerId::new(name), &Have::Also(pieces.to_vec()));
        }
        neighbours
    }

    fn pick_from(neighbours: &Neighbours, wanted: &[u32], banned: &str) -> Option<(u32, PeerId)> {
        let mut cx = Context::new(1, Time::ZERO);
        let choice = Choice { neighbours, wanted, zone: None, now: Time::ZERO };
        pick(&mut cx, &choice, |peer| peer.as_str() != banned)
    }

    #[test]
    fn the_rarest_piece_comes_first() {
        let neighbours = neighbours(&[("a", &[1, 2, 3]), ("b", &[1, 2]), ("c", &[1])]);
        assert_eq!(pick_from(&neighbours, &[1, 2, 3], ""), Some((3, PeerId::new("a"))));
    }

    #[test]
    fn nobody_is_asked_who_is_convicted_busy_or_at_its_limit() {
        let mut neighbours = neighbours(&[("a", &[1]), ("b", &[1]), ("c", &[1])]);
        neighbours.busy(&PeerId::new("a"), Time::from_micros(5));
        for _ in 0..MAX_PER_NEIGHBOUR {
            neighbours.fetching(&PeerId::new("b"));
        }
        assert_eq!(pick_from(&neighbours, &[1], "c"), None);
        assert_eq!(pick_from(&neighbours, &[1], ""), Some((1, PeerId::new("c"))));
    }

    #[test]
    fn the_window_grows_with_the_logarithm_of_the_cluster() {
        assert_eq!([1, 8, 1000, 1024, 10_000, 1 << 20].map(window), [8, 8, 15, 16, 21, 32]);
    }
}

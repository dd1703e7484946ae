//! The peers that this node exchanges the pieces of one blob with.

use core::time::Duration;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::marks;
use crate::message::Have;
use crate::names::PeerId;
use crate::piece::PieceSet;
use crate::swarm::download::Download;
use crate::swarm::readiness::{Asking, Readiness};
use crate::time::Time;

/// Most neighbours that a participant keeps: those that the tracker named, and those that named us.
pub(crate) const MAX_NEIGHBOURS: usize = 30;
const _: () = assert!(MAX_NEIGHBOURS <= u8::MAX as usize, "holders are counted in bytes");
/// Of those, how many may be in other zones: whoever is known everywhere (a tracker) would know nobody near it.
pub(crate) const MAX_FAR: usize = 5;
/// The longest have-map that is kept while the size of the blob is not known: of 64 GiB in pieces of 8 MiB.
const MAX_EARLY_BYTES: usize = 1024;
/// Most pieces fetched from one neighbour at a time: enough to hide a round trip, few enough to spread.
pub(crate) const MAX_PER_NEIGHBOUR: u32 = 4;
/// However far away it is.
const MOST_PER_NEIGHBOUR: u32 = 128;
/// With this many neighbours, one piece from each is enough to have all that may be fetched at a time: whoever is sending us
/// something has fewer slots for us than others.
pub(crate) const MANY_NEIGHBOURS: usize = 8;

/// In the order of memory: what is looked at for every notice and every piece comes first.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[repr(C)]
pub(crate) struct Neighbour {
    /// It has everything, whatever the size.
    pub(crate) complete: bool,
    /// We have told it what we have.
    pub(crate) greeted: bool,
    /// Of the pieces that came here, in the order of their coming, it knows of so many: see
    /// [`Download::gained`](super::download::Download::gained).
    pub(crate) told: u32,
    /// What it has, as far as it has said; nothing while the blob's size is not known here.
    pub(crate) pieces: PieceSet,
    pub(crate) zone: Option<Arc<str>>,
    /// What it said that it has, of a blob of so many bytes, when the size was not known here.
    early: Option<Box<(u64, Have)>>,
}

/// Two lines of the processor's cache, the first of which is enough mostly.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[repr(C, align(64))]
struct Place {
    peer: PeerId,
    neighbour: Neighbour,
}

impl Neighbour {
    /// The pieces that it has to be told of, and is told of now.
    pub(crate) fn not_told(&mut self, download: &Download) -> Vec<u32> {
        if self.complete || !self.greeted || self.told == download.gained() {
            return Vec::new();
        }
        let told = core::mem::replace(&mut self.told, download.gained());
        if mutant!("same-news-told-again") {
            self.told = told;
        }
        download.news_since(told, &self.pieces)
    }

    /// It has to be told of all that is here, because it has lost what it had.
    pub(crate) fn is_owed_everything(&self, download: &Download) -> bool {
        self.greeted && !self.complete && self.told == 0 && download.gained() > 0
    }

    /// The pieces that it was told of, besides those that it has said it has: for whoever checks that.
    pub(crate) fn was_told(&self, download: &Download) -> Vec<u32> {
        if self.complete || !self.greeted { Vec::new() } else { download.told_until(self.told, &self.pieces) }
    }
}

/// The neighbours of one blob.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Neighbours {
    /// In the order of peers. There are few, and every notice and every piece looks for one of them: a tree would have them
    /// scattered.
    places: Vec<Place>,
    /// [`PeerId::mark`] of each, in the same order, to find them by.
    marks: Vec<u32>,
    /// Whether they may be asked, in the same order.
    ready: Vec<Readiness>,
    /// Those that are neighbours no more and have said when to come back: it still holds when they are met again.
    left: Vec<(PeerId, Time)>,
    pieces: u32,
    /// See [`set_wanted`](Self::set_wanted).
    wanted: u32,
    /// How many neighbours have each piece, and which pieces somebody has: kept up to date, because every piece that is
    /// heard of or arrives asks for it.
    holders: Vec<u8>,
    available: PieceSet,
}

impl Neighbours {
    /// The blob has this size and so many pieces: from now on, have-maps mean something.
    pub(crate) fn learn(&mut self, size: u64, pieces: u32) {
        self.pieces = pieces;
        for Place { neighbour, .. } in &mut self.places {
            neighbour.told = 0;
            neighbour.pieces = if neighbour.complete { PieceSet::all(pieces) } else { PieceSet::none(pieces) };
        }
        let complete = self.places.iter().filter(|place| place.neighbour.complete).count();
        self.holders = vec![complete as u8; pieces as usize];
        self.available = if complete > 0 { PieceSet::all(pieces) } else { PieceSet::none(pieces) };
        let early: Vec<_> = self
            .places
            .iter_mut()
            .filter_map(|place| Some((place.peer.clone(), place.neighbour.early.take()?)))
            .collect();
        for (peer, said) in early {
            let (of, have) = *said;
            if of == size {
                self.heard(&peer, &have);
            }
        }
    }

    /// Somebody has `piece` now.
    fn gain(holders: &mut [u8], available: &mut PieceSet, piece: u32) {
        holders[piece as usize] += 1;
        available.insert(piece);
    }

    /// Somebody who had `piece` does not count any more.
    fn lose(&mut self, piece: u32) {
        self.holders[piece as usize] -= 1;
        if self.holders[piece as usize] == 0 {
            self.available.remove(piece);
        }
    }

    /// Adds a neighbour, unless there are enough, as seen from zone `own`. Returns whether it is a neighbour now.
    pub(crate) fn add(&mut self, peer: &PeerId, zone: Option<Arc<str>>, own: Option<&Arc<str>>) -> bool {
        let is_far = |zone: &Option<Arc<str>>| own.is_some() && zone.as_ref() != own;
        let are_many_far = || self.places.iter().filter(|place| is_far(&place.neighbour.zone)).count() >= MAX_FAR;
        let Err(place) = self.places.binary_search_by(|place| place.peer.cmp(peer)) else { return true };
        if self.places.len() >= MAX_NEIGHBOURS || is_far(&zone) && are_many_far() {
            return false;
        }
        let known = self.left.iter().position(|(left, _)| left == peer);
        let busy_until = known.map_or(Time::ZERO, |known| self.left.remove(known).1);
        let neighbour = Neighbour {
            zone,
            pieces: PieceSet::none(self.pieces),
            complete: false,
            early: None,
            greeted: false,
            told: 0,
        };
        self.places.insert(place, Place { peer: peer.clone(), neighbour });
        self.marks.insert(place, peer.mark());
        self.ready.insert(place, Readiness::busy_since_before(busy_until));
        true
    }

    /// Where a peer is.
    fn find(&self, peer: &PeerId) -> Option<usize> {
        marks::find(&self.marks, peer.mark(), |place| self.places[place].peer == *peer)
    }

    pub(crate) fn remove(&mut self, peer: &PeerId) {
        if let Some(place) = self.find(peer) {
            self.marks.remove(place);
            let ready = self.ready.remove(place);
            let removed = self.places.remove(place);
            for piece in removed.neighbour.pieces.iter() {
                self.lose(piece);
            }
            if let Some(until) = ready.busy_until() {
                self.come_back(removed.peer, until);
            }
        }
    }

    /// Remembers when somebody who is no neighbour may be asked again.
    fn come_back(&mut self, peer: PeerId, until: Time) {
        self.left.retain(|(left, _)| *left != peer);
        if self.left.len() >= MAX_NEIGHBOURS {
            self.left.remove(0);
        }
        self.left.push((peer, until));
    }

    /// Keeps what a neighbour says it has of a blob of `size` bytes until the size is known. Returns whether it is the first that
    /// is kept of this neighbour.
    pub(crate) fn heard_early(&mut self, peer: &PeerId, size: u64, have: &Have) -> bool {
        let is_small = match have {
            Have::All => true,
            Have::Exactly(bytes) => bytes.len() <= MAX_EARLY_BYTES,
            // It adds to what was said before; the next full list, or the tracker, makes up for it.
            Have::Also(_) => false,
        };
        let Some(neighbour) = self.get_mut(peer).filter(|_| is_small) else { return false };
        neighbour.early.replace(Box::new((size, have.clone()))).is_none()
    }

    /// Takes in what a neighbour says it has besides what it has told before. Returns whether that was news.
    pub(crate) fn heard_also(&mut self, peer: &PeerId, pieces: &[u32]) -> bool {
        let Some(place) = self.find(peer) else { return false };
        let neighbour = &mut self.places[place].neighbour;
        let mut news = false;
        for piece in pieces {
            if neighbour.pieces.insert(*piece) {
                Self::gain(&mut self.holders, &mut self.available, *piece);
                news = true;
            }
        }
        if news {
            neighbour.complete = neighbour.pieces.is_full();
        }
        news
    }

    /// Takes in what a neighbour says it has. Returns whether that was news.
    pub(crate) fn heard(&mut self, peer: &PeerId, have: &Have) -> bool {
        let Some(place) = self.find(peer) else { return false };
        let neighbour = &mut self.places[place].neighbour;
        let complete_set = |pieces: &PieceSet| pieces.universe() > 0 && pieces.is_full();
        let stated = match have {
            Have::All => PieceSet::all(self.pieces),
            Have::Exactly(bytes) => PieceSet::from_bytes(self.pieces, bytes),
            Have::Also(pieces) => return self.heard_also(peer, pieces),
        };
        neighbour.complete = matches!(have, Have::All) || complete_set(&stated);
        let before = core::mem::replace(&mut neighbour.pieces, stated.clone());
        let lost: Vec<_> = before.without(&stated, 0).collect();
        if !lost.is_empty() && !mutant!("what-a-neighbour-lost-not-told-again") {
            // It was not told of what it had, and has forgotten what it was told, if it was started again.
            neighbour.told = 0;
        }
        for piece in stated.without(&before, 0) {
            Self::gain(&mut self.holders, &mut self.available, piece);
        }
        for piece in lost {
            self.lose(piece);
        }
        before.count() != stated.count()
    }

    pub(crate) fn get_mut(&mut self, peer: &PeerId) -> Option<&mut Neighbour> {
        self.find(peer).map(|place| &mut self.places[place].neighbour)
    }

    pub(crate) fn get(&self, peer: &PeerId) -> Option<&Neighbour> {
        self.find(peer).map(|place| &self.places[place].neighbour)
    }

    pub(crate) fn contains(&self, peer: &PeerId) -> bool {
        self.find(peer).is_some()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&PeerId, &Neighbour)> {
        self.places.iter().map(|place| (&place.peer, &place.neighbour))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&PeerId, &mut Neighbour)> {
        self.places.iter_mut().map(|place| (&place.peer, &mut place.neighbour))
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Most pieces to fetch from one of them at a time.
    pub(crate) fn most_from_each(&self) -> u32 {
        let usual = if self.places.len() >= MANY_NEIGHBOURS { 1 } else { MAX_PER_NEIGHBOUR };
        usual.max(self.wanted.saturating_mul(2).div_ceil(self.places.len().max(1) as u32)).min(MOST_PER_NEIGHBOUR)
    }

    /// They are far away: so many pieces are fetched at a time. Zero: as many as from those who are near.
    pub(crate) fn set_wanted(&mut self, wanted: u32) {
        self.wanted = wanted;
    }

    /// `peer` has answered after this long. Returns the least that this has ever taken; none if it is a neighbour no more.
    pub(crate) fn answered_after(&mut self, peer: &PeerId, took: Duration) -> Option<Duration> {
        self.ready_mut(peer).map(|ready| ready.answered_after(took))
    }

    /// Whether `peer` may be asked for a piece.
    pub(crate) fn is_free(&self, peer: &PeerId, asking: Asking) -> bool {
        self.find(peer).is_some_and(|place| self.ready[place].is_free(asking, self.most_from_each()))
    }

    /// Whether any of them may be asked for a piece.
    pub(crate) fn anybody_is_free(&self, asking: Asking) -> bool {
        let most = self.most_from_each();
        self.ready.iter().any(|ready| ready.is_free(asking, most))
    }

    /// Those who may be asked for a piece.
    pub(crate) fn free(&self, asking: Asking) -> impl Iterator<Item = (&PeerId, &Neighbour, &Readiness)> {
        let most = self.most_from_each();
        let all = self.ready.iter().zip(&self.places);
        all.filter(move |(ready, _)| ready.is_free(asking, most))
            .map(|(ready, place)| (&place.peer, &place.neighbour, ready))
    }

    /// The pieces that some neighbour has.
    pub(crate) fn available(&self) -> &PieceSet {
        &self.available
    }

    /// How many neighbours have `piece`.
    pub(crate) fn holders(&self, piece: u32) -> usize {
        self.holders.get(piece as usize).copied().map_or(0, usize::from)
    }

    fn ready_mut(&mut self, peer: &PeerId) -> Option<&mut Readiness> {
        self.find(peer).map(|place| &mut self.ready[place])
    }

    /// A fetch from `peer` has started.
    pub(crate) fn fetching(&mut self, peer: &PeerId) {
        if let Some(ready) = self.ready_mut(peer) {
            ready.asked();
        }
    }

    /// A fetch from `peer` ended well.
    pub(crate) fn delivered(&mut self, peer: &PeerId) {
        if let Some(ready) = self.ready_mut(peer) {
            ready.delivered();
        }
    }

    /// `peer` asked us to come back later, if it has not said by `until` that it has a slot.
    pub(crate) fn busy(&mut self, peer: &PeerId, now: Time, until: Time) {
        let until = if mutant!("busy-peer-polled") { Time::ZERO } else { until };
        match self.ready_mut(peer) {
            Some(ready) => ready.refused(now, until),
            // It has left while it was being asked, and may soon be met again.
            None => self.come_back(peer.clone(), until),
        }
    }

    /// `peer` has a slot for us. Returns whether it may be asked now.
    pub(crate) fn unchoked(&mut self, peer: &PeerId, now: Time) -> bool {
        self.ready_mut(peer).is_some_and(|ready| ready.unchoke(now))
    }

    /// A fetch from `peer` was given up for no fault of its own.
    pub(crate) fn cancelled(&mut self, peer: &PeerId) {
        if let Some(ready) = self.ready_mut(peer) {
            ready.cancelled();
        }
    }

    /// A fetch from `peer` failed; it is left alone for `pause` and dropped when that happens again and again. Returns
    /// whether it was dropped.
    pub(crate) fn failed(&mut self, peer: &PeerId, now: Time, pause: Duration) -> bool {
        let dropped = self.ready_mut(peer).is_some_and(|ready| ready.failed(now, pause));
        if dropped {
            self.remove(peer);
        }
        dropped
    }

    /// A neighbour is not asked for this piece again.
    pub(crate) fn forget_piece(&mut self, peer: &PeerId, piece: u32) {
        if let Some(neighbour) = self.get_mut(peer) {
            neighbour.complete = false;
            if neighbour.pieces.remove(piece) {
                self.lose(piece);
            }
        }
    }

    /// When the first neighbour that has told us to come back later can be asked again.
    pub(crate) fn next_free(&self, asking: Asking) -> Option<Time> {
        self.ready.iter().map(|ready| ready.free_at(asking)).filter(|at| *at > asking.now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn have() -> impl Strategy<Value = Have> {
        prop_oneof![
            Just(Have::All),
            proptest::collection::vec(any::<u8>(), 0..12).prop_map(Have::Exactly),
            proptest::collection::vec(0_u32..80, 0..6).prop_map(Have::Also),
        ]
    }

    #[test]
    fn who_was_dropped_and_comes_back_is_left_alone_until_its_time() {
        let (mut neighbours, peer, until) = (Neighbours::default(), PeerId::new("a"), Time::from_micros(5));
        neighbours.add(&peer, None, None);
        neighbours.busy(&peer, Time::ZERO, until);
        neighbours.remove(&peer);
        neighbours.add(&peer, None, None);
        assert!(!neighbours.is_free(&peer, Asking::anybody(Time::ZERO)));
        assert!(neighbours.is_free(&peer, Asking::anybody(until)));
        neighbours.remove(&peer);
        // Its answer to what it was asked before comes after it has left.
        let later = Time::from_micros(9);
        neighbours.busy(&peer, Time::ZERO, later);
        neighbours.add(&peer, None, None);
        assert!(!neighbours.is_free(&peer, Asking::anybody(until)));
        assert!(neighbours.is_free(&peer, Asking::anybody(later)));
        for other in 0..2 * MAX_NEIGHBOURS {
            let other = PeerId::new(&format!("other-{other}"));
            neighbours.add(&other, None, None);
            neighbours.busy(&other, Time::ZERO, until);
            neighbours.remove(&other);
        }
        assert_eq!(neighbours.left.len(), MAX_NEIGHBOURS);
    }

    proptest! {
        /// Whatever was said and forgotten, the counts are those that one gets by counting.
        #[test]
        fn holders_are_counted(
            steps in proptest::collection::vec((0_u8..8, 0_u8..6, 0_u32..80, have()), 0..60),
        ) {
            let mut neighbours = Neighbours::default();
            for (step, name, piece, have) in steps {
                let peer = PeerId::new(&format!("peer-{name}"));
                match step {
                    0..=2 => {
                        neighbours.add(&peer, None, None);
                    }
                    3 => neighbours.remove(&peer),
                    4 => neighbours.forget_piece(&peer, piece),
                    5 => {
                        neighbours.failed(&peer, Time::ZERO, Duration::ZERO);
                    }
                    6 if neighbours.pieces == 0 => neighbours.learn(70 * crate::piece::MIN_PIECE_BYTES, 70),
                    _ => {
                        neighbours.heard(&peer, &have);
                    }
                }
                for piece in 0..80 {
                    let counted = neighbours.iter().filter(|(_, neighbour)| neighbour.pieces.contains(piece)).count();
                    prop_assert_eq!(neighbours.holders(piece), counted);
                    prop_assert_eq!(neighbours.available().contains(piece), counted > 0);
                }
            }
        }
    }
}

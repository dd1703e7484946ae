//! The peers that this node exchanges the pieces of one blob with.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::message::Have;
use crate::names::PeerId;
use crate::piece::PieceSet;
use crate::time::Time;

/// Most neighbours that a participant keeps: those that the tracker named, and those that named us.
pub(crate) const MAX_NEIGHBOURS: usize = 30;
/// A neighbour that failed this many times in a row is dropped.
pub(crate) const MAX_STRIKES: u32 = 3;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Neighbour {
    pub(crate) zone: Option<Arc<str>>,
    /// What it has, as far as it has said. `None`: the blob's size is not known here yet.
    pub(crate) pieces: PieceSet,
    /// It has everything, whatever the size.
    pub(crate) complete: bool,
    /// Pieces that we are fetching from it now.
    pub(crate) fetching: u32,
    /// It said when to come back.
    pub(crate) busy_until: Time,
    strikes: u32,
    /// We have told it what we have.
    pub(crate) greeted: bool,
}

/// The neighbours of one blob.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Neighbours {
    peers: BTreeMap<PeerId, Neighbour>,
    pieces: u32,
}

impl Neighbours {
    /// The blob has this many pieces: from now on, have-maps mean something.
    pub(crate) fn learn(&mut self, pieces: u32) {
        self.pieces = pieces;
        for neighbour in self.peers.values_mut() {
            neighbour.pieces = if neighbour.complete { PieceSet::all(pieces) } else { PieceSet::none(pieces) };
        }
    }

    /// Adds a neighbour, unless there are enough. Returns whether it is a neighbour now.
    pub(crate) fn add(&mut self, peer: &PeerId, zone: Option<Arc<str>>) -> bool {
        if self.peers.contains_key(peer) {
            return true;
        }
        if self.peers.len() >= MAX_NEIGHBOURS {
            return false;
        }
        let neighbour = Neighbour {
            zone,
            pieces: PieceSet::none(self.pieces),
            complete: false,
            fetching: 0,
            busy_until: Time::ZERO,
            strikes: 0,
            greeted: false,
        };
        self.peers.insert(peer.clone(), neighbour);
        true
    }

    pub(crate) fn remove(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
    }

    /// Takes in what a neighbour says it has. Returns whether that was news.
    pub(crate) fn heard(&mut self, peer: &PeerId, have: &Have) -> bool {
        let Some(neighbour) = self.peers.get_mut(peer) else { return false };
        let before = neighbour.pieces.count();
        match have {
            Have::All => {
                neighbour.complete = true;
                neighbour.pieces = PieceSet::all(self.pieces);
            }
            Have::Exactly(bytes) => {
                neighbour.pieces = PieceSet::from_bytes(self.pieces, bytes);
                neighbour.complete = self.pieces > 0 && neighbour.pieces.is_full();
            }
            Have::Also(pieces) => {
                for piece in pieces {
                    neighbour.pieces.insert(*piece);
                }
                neighbour.complete = self.pieces > 0 && neighbour.pieces.is_full();
            }
        }
        neighbour.pieces.count() != before
    }

    pub(crate) fn get_mut(&mut self, peer: &PeerId) -> Option<&mut Neighbour> {
        self.peers.get_mut(peer)
    }

    pub(crate) fn contains(&self, peer: &PeerId) -> bool {
        self.peers.contains_key(peer)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&PeerId, &Neighbour)> {
        self.peers.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }

    /// The pieces that some neighbour has.
    pub(crate) fn available(&self) -> PieceSet {
        let mut available = PieceSet::none(self.pieces);
        for neighbour in self.peers.values() {
            available.union(&neighbour.pieces);
        }
        available
    }

    /// How many neighbours have `piece`.
    pub(crate) fn holders(&self, piece: u32) -> usize {
        self.peers.values().filter(|neighbour| neighbour.pieces.contains(piece)).count()
    }

    /// A fetch from `peer` has started.
    pub(crate) fn fetching(&mut self, peer: &PeerId) {
        if let Some(neighbour) = self.peers.get_mut(peer) {
            neighbour.fetching += 1;
        }
    }

    /// A fetch from `peer` ended well.
    pub(crate) fn delivered(&mut self, peer: &PeerId) {
        if let Some(neighbour) = self.peers.get_mut(peer) {
            neighbour.fetching = neighbour.fetching.saturating_sub(1);
            neighbour.strikes = 0;
        }
    }

    /// `peer` asked us to come back later.
    pub(crate) fn busy(&mut self, peer: &PeerId, until: Time) {
        if let Some(neighbour) = self.peers.get_mut(peer) {
            neighbour.fetching = neighbour.fetching.saturating_sub(1);
            neighbour.busy_until = if mutant!("busy-peer-polled") { Time::ZERO } else { until };
        }
    }

    /// A fetch from `peer` was given up for no fault of its own.
    pub(crate) fn cancelled(&mut self, peer: &PeerId) {
        if let Some(neighbour) = self.peers.get_mut(peer) {
            neighbour.fetching = neighbour.fetching.saturating_sub(1);
        }
    }

    /// A fetch from `peer` failed; it is left alone for `pause` and dropped when that happens again and again. Returns
    /// whether it was dropped.
    pub(crate) fn failed(&mut self, peer: &PeerId, now: Time, pause: Duration) -> bool {
        let Some(neighbour) = self.peers.get_mut(peer) else { return false };
        neighbour.fetching = neighbour.fetching.saturating_sub(1);
        neighbour.strikes += 1;
        neighbour.busy_until = now + pause * neighbour.strikes;
        let dropped = neighbour.strikes >= MAX_STRIKES;
        if dropped {
            self.peers.remove(peer);
        }
        dropped
    }

    /// A neighbour is not asked for this piece again.
    pub(crate) fn forget_piece(&mut self, peer: &PeerId, piece: u32) {
        if let Some(neighbour) = self.peers.get_mut(peer) {
            neighbour.complete = false;
            neighbour.pieces.remove(piece);
        }
    }

    /// When the first neighbour that has told us to come back later can be asked again.
    pub(crate) fn next_free(&self, now: Time) -> Option<Time> {
        self.peers.values().map(|neighbour| neighbour.busy_until).filter(|until| *until > now).min()
    }
}

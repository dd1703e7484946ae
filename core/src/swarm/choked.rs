//! Who waits for an upload slot of this node.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::marks;
use crate::names::PeerId;
use crate::swarm::neighbours::MAX_NEIGHBOURS;

/// Most who wait at a time: twice the neighbours of a blob, for those of several.
pub(crate) const MAX_CHOKED: usize = 2 * MAX_NEIGHBOURS;

/// Those who wait, each for a blob: first come, first served.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Choked {
    waiting: VecDeque<(PeerId, Digest)>,
    /// What tells most of them apart, in the same order: whoever is served or refused is looked for.
    marks: VecDeque<u32>,
}

impl Choked {
    fn find(&self, peer: &PeerId, digest: &Digest) -> Option<usize> {
        marks::find(&self.marks, mark(peer, digest), |place| {
            let (waits, of) = &self.waiting[place];
            of == digest && waits == peer
        })
    }

    /// `peer` waits for a slot to fetch something of `digest`. Returns how many are before it; `None` if too many are, so
    /// that it has to come again by itself.
    pub(crate) fn add(&mut self, peer: &PeerId, digest: Digest) -> Option<usize> {
        if let Some(place) = self.find(peer, &digest) {
            return Some(place);
        }
        if self.waiting.len() >= MAX_CHOKED && !mutant!("line-without-end") {
            return None;
        }
        self.marks.push_back(mark(peer, &digest));
        self.waiting.push_back((peer.clone(), digest));
        Some(self.waiting.len() - 1)
    }

    /// Takes the one who has waited longest.
    pub(crate) fn next(&mut self) -> Option<(PeerId, Digest)> {
        self.marks.pop_front();
        self.waiting.pop_front()
    }

    /// `peer` has a slot now; it may wait for another one, behind everybody else.
    pub(crate) fn served(&mut self, peer: &PeerId, digest: &Digest) {
        if let Some(place) = self.find(peer, digest) {
            self.marks.remove(place);
            self.waiting.remove(place);
        }
    }

    /// `peer` is gone.
    pub(crate) fn gone(&mut self, peer: &PeerId) {
        if mutant!("gone-peer-stays-in-line") {
            return;
        }
        self.waiting.retain(|(waits, _)| waits != peer);
        self.marks = self.waiting.iter().map(|(waits, of)| mark(waits, of)).collect();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

fn mark(peer: &PeerId, digest: &Digest) -> u32 {
    peer.mark() ^ digest.head() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(byte: u8) -> Digest {
        Digest::from_bytes([byte; 32])
    }

    #[test]
    fn first_come_first_served_and_nobody_twice() {
        let (one, other) = (PeerId::new("one"), PeerId::new("other"));
        let mut choked = Choked::default();
        assert_eq!(choked.add(&one, digest(1)), Some(0));
        assert_eq!(choked.add(&other, digest(1)), Some(1));
        assert_eq!(choked.add(&one, digest(1)), Some(0), "it waits already");
        assert_eq!(choked.add(&one, digest(2)), Some(2), "for another blob");
        choked.served(&one, &digest(1));
        assert_eq!(choked.next(), Some((other.clone(), digest(1))));
        choked.add(&other, digest(3));
        choked.gone(&one);
        assert_eq!(choked.next(), Some((other, digest(3))));
        assert_eq!(choked.next(), None);
    }

    #[test]
    fn there_is_an_end_to_waiting_lines() {
        let mut choked = Choked::default();
        for number in 0..MAX_CHOKED {
            assert_eq!(choked.add(&PeerId::new(&format!("peer-{number}")), digest(1)), Some(number));
        }
        assert_eq!(choked.add(&PeerId::new("late"), digest(1)), None);
        assert_eq!(choked.len(), MAX_CHOKED);
    }
}

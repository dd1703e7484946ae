//! What others say of midstates, who is believed, and what is said to others.

use super::Download;
use super::doubts::MAX_DOUBTS;
use crate::names::PeerId;
use crate::spine::{MAX_SPINE, Midstate};

impl Download {
    /// Somebody says what the midstate before `piece` is. The first claim stands until it is refuted.
    pub(crate) fn claim(&mut self, piece: u32, state: Midstate, claimant: &PeerId) {
        if self.unbelieved.contains(claimant) {
            return;
        }
        // A number that the blob does not have is never new.
        if self.known.insert(piece) && piece > self.chain.tip() {
            // Whoever claimed something else was found out.
            self.chain.disclaim(piece);
            self.chain.claim(piece, state);
            self.claimants.insert(piece, (claimant.clone(), state));
        }
    }

    /// A peer was found out: what it says of midstates stands only until somebody else says something. If it stood for ever
    /// and was wrong, nobody's piece would fit, and none but the origin's would be taken; if it fell at once and was right,
    /// there would be nothing to check the others' pieces by.
    ///
    /// Whoever claims what is not so needs not be a liar: it may have hashed what a liar sent.
    pub(crate) fn disown(&mut self, peer: &PeerId) {
        if self.unbelieved.len() < MAX_DOUBTS && !self.unbelieved.contains(peer) {
            self.unbelieved.push(peer.clone());
        }
        if self.believed.as_ref() == Some(peer) {
            self.believed = None;
        }
        let tip = self.chain.tip();
        let of_peer = self.claimants.iter().filter(|(piece, (by, _))| **piece > tip && by == peer);
        for (piece, _) in of_peer {
            self.known.remove(*piece);
        }
    }

    /// Midstates that others can check our pieces by: those of the prefix, and those around pieces that were hashed
    /// between two of them; at most `limit`.
    pub(crate) fn spine(&self, limit: usize) -> Vec<(u32, Midstate)> {
        let mut spine = self.chain.computed(1, limit);
        let beyond: Vec<_> = self.have.iter().filter(|piece| *piece >= self.chain.tip()).collect();
        spine.extend(self.spine_around(&beyond));
        spine.truncate(limit);
        spine
    }

    /// What is told along with news of these pieces: the midstates around them.
    pub(crate) fn news_spine(&self, pieces: &[u32]) -> Vec<(u32, Midstate)> {
        let mut spine = self.spine_around(pieces);
        spine.truncate(MAX_SPINE);
        spine
    }

    /// Midstates around these pieces, as far as they were hashed here and not alone: what others need to check them.
    pub(crate) fn spine_around(&self, pieces: &[u32]) -> Vec<(u32, Midstate)> {
        let unsummed = pieces.iter().filter(|piece| self.sum(**piece).is_none());
        // What a piece was hashed between is known even if whoever claimed it was found out.
        let around = unsummed.flat_map(|piece| match self.chain.link(*piece) {
            Some((from, to)) => [(*piece, Some(from)), (*piece + 1, Some(to))],
            None => [*piece, *piece + 1].map(|piece| (piece, self.chain.before(piece))),
        });
        around.filter_map(|(piece, state)| Some((piece, state?))).collect()
    }

    /// After the chain has grown: whoever claimed other midstates than those it runs through is believed no more. One wrong
    /// claim costs one piece from the origin; all of a spine would cost the whole blob.
    pub(crate) fn compare_claims(&mut self) {
        let end = self.chain.tip() + 1;
        let wrong: Vec<_> = self
            .claimants
            .range(self.compared.min(end)..end)
            .filter(|(piece, (_, claimed))| self.chain.before(**piece).is_some_and(|computed| computed != *claimed))
            .map(|(_, (claimant, _))| claimant.clone())
            .collect();
        self.compared = end;
        for claimant in wrong {
            self.disown(&claimant);
        }
    }
}

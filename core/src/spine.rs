//! Midstates: SHA-256's internal state at piece boundaries, which let a piece be verified alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Most midstates in one message: 36 bytes each, far below the message limit.
pub(crate) const MAX_SPINE: usize = 4096;

/// SHA-256's internal state (eight words) after a whole number of blocks; before piece 0 it is [`Midstate::INITIAL`],
/// after the last piece (with the padding) it is the digest, as big-endian words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Midstate(pub [u32; 8]);

impl Midstate {
    /// The initial value of SHA-256 (FIPS 180-4, section 5.3.3).
    pub const INITIAL: Self =
        Self([0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19]);

    /// The state's 32 bytes, big-endian words: for the state after the last piece, the digest.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, word) in bytes.chunks_exact_mut(4).zip(self.0) {
            chunk.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    /// The state with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let mut words = [0; 8];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_be_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        }
        Self(words)
    }
}

/// The verified prefix of one blob, as this node has hashed it itself.
///
/// The chain starts at [`Midstate::INITIAL`] and grows by one piece at a time. A piece that came before its turn may have
/// been hashed between two midstates that somebody claimed: if the chain arrives at exactly that midstate, the piece
/// counts without being read again. So everything up to the tip was hashed here, whoever claimed what.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Chain {
    states: Vec<Midstate>,
    claims: BTreeMap<u32, Midstate>,
    links: BTreeMap<u32, (Midstate, Midstate)>,
}

/// What the chain wants to be hashed next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The piece.
    pub piece: u32,
    /// The midstate before it.
    pub from: Midstate,
}

impl Default for Chain {
    fn default() -> Self {
        Self { states: vec![Midstate::INITIAL], claims: BTreeMap::new(), links: BTreeMap::new() }
    }
}

impl Chain {
    /// Number of pieces in the verified prefix.
    #[must_use]
    pub fn tip(&self) -> u32 {
        self.states.len() as u32 - 1
    }

    /// The midstate after the verified prefix: the digest, once the prefix is the blob.
    #[must_use]
    pub fn state(&self) -> Midstate {
        self.states[self.states.len() - 1]
    }

    /// The midstate before `piece`: computed here, else claimed by somebody.
    #[must_use]
    pub fn before(&self, piece: u32) -> Option<Midstate> {
        self.states.get(piece as usize).or_else(|| self.claims.get(&piece)).copied()
    }

    /// The computed midstates before the pieces from `first` on, at most `limit`.
    #[must_use]
    pub fn computed(&self, first: u32, limit: usize) -> Vec<(u32, Midstate)> {
        let pieces = first..;
        pieces.zip(self.states.iter().skip(first as usize).copied()).take(limit).collect()
    }

    /// Notes what somebody says the midstate before `piece` is. What was computed here stands; the first claim stands.
    pub fn claim(&mut self, piece: u32, state: Midstate) {
        if piece > self.tip() {
            self.claims.entry(piece).or_insert(state);
        }
    }

    /// What somebody said of the midstate before `piece` does not stand any more.
    pub fn disclaim(&mut self, piece: u32) {
        self.claims.remove(&piece);
    }

    /// The midstates between which `piece` was hashed before its turn.
    #[must_use]
    pub fn link(&self, piece: u32) -> Option<(Midstate, Midstate)> {
        self.links.get(&piece).copied()
    }

    /// Notes that `piece` was hashed here from `from` and gave `to`. Returns whether that extended the prefix.
    pub fn hashed(&mut self, piece: u32, from: Midstate, to: Midstate) -> bool {
        if piece > self.tip() {
            self.links.insert(piece, (from, to));
            return false;
        }
        if piece < self.tip() || from != self.state() {
            return false;
        }
        self.extend(to);
        // Pieces that were hashed early and fit on count now; one that does not fit has to be hashed again.
        while let Some((from, to)) = self.links.remove(&self.tip()) {
            if from != self.state() && !mutant!("claimed-midstate-trusted") {
                break;
            }
            self.extend(to);
        }
        true
    }

    fn extend(&mut self, to: Midstate) {
        self.states.push(to);
        self.claims.remove(&self.tip());
    }

    /// Forgets what was hashed early for a piece whose bytes are thrown away.
    pub fn forget(&mut self, piece: u32) {
        self.links.remove(&piece);
    }

    /// What to hash next out of the pieces that are stored.
    #[must_use]
    pub fn next(&self, is_stored: impl Fn(u32) -> bool) -> Option<Wanted> {
        let piece = self.tip();
        is_stored(piece).then(|| Wanted { piece, from: self.state() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A stand-in for hashing: any function of (state, piece) will do for the chain's rules.
    fn step(state: Midstate, piece: u32, content: u32) -> Midstate {
        let mut words = state.0;
        for word in &mut words {
            *word = word.wrapping_mul(0x9e37_79b1).wrapping_add(piece ^ content.rotate_left(7)) ^ (*word >> 15);
        }
        Midstate(words)
    }

    fn truth(pieces: u32) -> Vec<Midstate> {
        let mut states = vec![Midstate::INITIAL];
        for piece in 0..pieces {
            states.push(step(states[piece as usize], piece, 0));
        }
        states
    }

    #[test]
    fn the_initial_midstate_is_sha256s() {
        // One block of padding alone turns the initial value into the digest of nothing: see the store's tests. Here: the
        // bytes are those of FIPS 180-4.
        assert_eq!(Midstate::INITIAL.to_bytes()[..4], [0x6a, 0x09, 0xe6, 0x67]);
        assert_eq!(Midstate::from_bytes(Midstate::INITIAL.to_bytes()), Midstate::INITIAL);
    }

    proptest! {
        #[test]
        fn whatever_is_claimed_the_chain_ends_in_what_was_hashed(
            pieces in 1_u32..20,
            order in proptest::collection::vec(any::<u32>(), 0..60),
            lies in proptest::collection::vec((0_u32..20, any::<u32>()), 0..10),
        ) {
            let truth = truth(pieces);
            let mut chain = Chain::default();
            for (piece, noise) in lies {
                chain.claim(piece, Midstate([noise; 8]));
            }
            // Pieces arrive in any order and are hashed from whatever midstate is known, true or not.
            for piece in order {
                let piece = piece % pieces;
                if let Some(from) = chain.before(piece) {
                    chain.hashed(piece, from, step(from, piece, 0));
                }
            }
            for _ in 0..=pieces {
                if let Some(wanted) = chain.next(|piece| piece < pieces) {
                    chain.hashed(wanted.piece, wanted.from, step(wanted.from, wanted.piece, 0));
                }
            }
            prop_assert_eq!(chain.tip(), pieces);
            prop_assert_eq!(chain.computed(0, usize::MAX).into_iter().map(|(_, state)| state).collect::<Vec<_>>(), truth);
        }
    }
}

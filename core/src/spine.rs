//! Midstates: SHA-256's internal state at piece boundaries, which let a piece be verified alone.

use serde::{Deserialize, Serialize};

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

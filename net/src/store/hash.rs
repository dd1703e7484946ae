//! SHA-256 piece by piece: from one midstate to the next, or each piece alone.

use longshore_core::input::Hashed;
use longshore_core::output::Check;
use longshore_core::piece::Geometry;
use longshore_core::spine::Midstate;
use sha2::block_api::compress256;
use sha2::{Digest as _, Sha256};

/// SHA-256's block in bytes (FIPS 180-4, section 1).
const BLOCK_BYTES: usize = 64;

/// SHA-256 that starts and stops at midstates.
///
/// Keeps at most one incomplete block of what it was given.
#[derive(Clone, Debug)]
pub struct BlockHasher {
    state: [u32; 8],
    rest: [u8; BLOCK_BYTES],
    rest_len: usize,
}

impl BlockHasher {
    /// Goes on from a midstate.
    #[must_use]
    pub const fn from(midstate: Midstate) -> Self {
        Self { state: midstate.0, rest: [0; BLOCK_BYTES], rest_len: 0 }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        if self.rest_len > 0 {
            let taken = bytes.len().min(BLOCK_BYTES - self.rest_len);
            self.rest[self.rest_len..self.rest_len + taken].copy_from_slice(&bytes[..taken]);
            self.rest_len += taken;
            bytes = &bytes[taken..];
            if self.rest_len < BLOCK_BYTES {
                return;
            }
            compress256(&mut self.state, &[self.rest]);
            self.rest_len = 0;
        }
        let (blocks, rest) = bytes.as_chunks::<BLOCK_BYTES>();
        compress256(&mut self.state, blocks);
        self.rest[..rest.len()].copy_from_slice(rest);
        self.rest_len = rest.len();
    }

    /// The state now; `None` in the middle of a block.
    #[must_use]
    pub fn midstate(&self) -> Option<Midstate> {
        (self.rest_len == 0).then_some(Midstate(self.state))
    }

    /// Pads a message of `total_bytes` bytes that ends here (FIPS 180-4, section 5.1.1): gives its digest as a state.
    #[must_use]
    pub fn finish(mut self, total_bytes: u64) -> Midstate {
        let mut padding = [0; 2 * BLOCK_BYTES];
        padding[..self.rest_len].copy_from_slice(&self.rest[..self.rest_len]);
        padding[self.rest_len] = 0x80;
        // The length takes the last eight bytes; it needs a block of its own if they are taken.
        let end = if self.rest_len < BLOCK_BYTES - 8 { BLOCK_BYTES } else { 2 * BLOCK_BYTES };
        // FIPS 180-4 counts bits modulo 2^64.
        padding[end - 8..end].copy_from_slice(&total_bytes.wrapping_mul(8).to_be_bytes());
        compress256(&mut self.state, padding[..end].as_chunks::<BLOCK_BYTES>().0);
        Midstate(self.state)
    }
}

/// Hashes consecutive pieces of one blob as a [`Check`] asks.
#[derive(Clone, Debug)]
pub struct PieceHasher {
    geometry: Geometry,
    running: Running,
}

#[derive(Clone, Debug)]
enum Running {
    Chained(BlockHasher),
    Alone(Box<Sha256>),
}

impl PieceHasher {
    /// A hasher that stands at the start of a piece; a chained check names the midstate there.
    #[must_use]
    pub fn new(geometry: Geometry, check: Check) -> Self {
        let running = match check {
            Check::From(midstate) => Running::Chained(BlockHasher::from(midstate)),
            Check::Alone => Running::Alone(Box::default()),
        };
        Self { geometry, running }
    }

    /// Takes the next bytes, all of the current piece.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.running {
            Running::Chained(chain) => chain.update(bytes),
            Running::Alone(hasher) => hasher.update(bytes),
        }
    }

    /// Ends the current piece, which is number `piece`, and stands at the start of the next one.
    pub fn end_piece(&mut self, piece: u32) -> Hashed {
        match &mut self.running {
            Running::Chained(chain) => {
                let state = match chain.midstate() {
                    Some(midstate) if !self.geometry.is_last(piece) => midstate,
                    // Only the last piece may end in the middle of a block.
                    _ => chain.clone().finish(self.geometry.size()),
                };
                Hashed::Chained(state)
            }
            Running::Alone(hasher) => Hashed::Alone(hasher.finalize_reset().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|position| (position * 131 % 251) as u8).collect()
    }

    #[test]
    fn every_length_around_the_block_and_the_padding_limit_gives_sha256() {
        for len in 0..300 {
            let bytes = pattern(len);
            let mut chain = BlockHasher::from(Midstate::INITIAL);
            chain.update(&bytes);
            let plain: [u8; 32] = Sha256::digest(&bytes).into();
            assert_eq!(chain.finish(len as u64).to_bytes(), plain, "{len} bytes");
        }
    }

    #[test]
    fn the_empty_blob_has_one_piece_and_its_hash_is_that_of_nothing() {
        let plain: [u8; 32] = Sha256::digest([]).into();
        let geometry = Geometry::of_blob(0);
        let chained = PieceHasher::new(geometry, Check::From(Midstate::INITIAL)).end_piece(0);
        assert_eq!(chained, Hashed::Chained(Midstate::from_bytes(plain)));
        assert_eq!(PieceHasher::new(geometry, Check::Alone).end_piece(0), Hashed::Alone(plain));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_chain_broken_at_any_block_and_fed_in_any_portions_gives_sha256(
            bytes in proptest::collection::vec(any::<u8>(), 0..5000),
            break_at in 0_usize..80,
            portions in proptest::collection::vec(1_usize..200, 1..20),
        ) {
            let broken = (break_at * BLOCK_BYTES).min(bytes.len() / BLOCK_BYTES * BLOCK_BYTES);
            let mut first = BlockHasher::from(Midstate::INITIAL);
            let mut rest = &bytes[..broken];
            for portion in portions.iter().cycle() {
                let (now, later) = rest.split_at(rest.len().min(*portion));
                first.update(now);
                rest = later;
                if rest.is_empty() { break; }
            }
            let midstate = first.midstate();
            prop_assert!(midstate.is_some());
            let mut second = BlockHasher::from(midstate.unwrap());
            for chunk in bytes[broken..].chunks(portions[0]) {
                second.update(chunk);
            }
            let plain: [u8; 32] = Sha256::digest(&bytes).into();
            prop_assert_eq!(second.finish(bytes.len() as u64).to_bytes(), plain);
        }

        #[test]
        fn pieces_of_a_blob_chain_up_to_its_digest_and_alone_are_plain_sums(
            size in prop_oneof![0_usize..3, 262_100_usize..262_200, 524_200_usize..800_000],
        ) {
            let bytes = pattern(size);
            let geometry = Geometry::of_blob(size as u64);
            let mut alone = PieceHasher::new(geometry, Check::Alone);
            let mut state = Midstate::INITIAL;
            for piece in 0..geometry.pieces() {
                let range = geometry.range(piece);
                let part = &bytes[range.start as usize..range.end as usize];
                // Each piece verified apart, from its midstate: what makes out-of-order verification possible.
                let mut apart = PieceHasher::new(geometry, Check::From(state));
                apart.update(part);
                let Hashed::Chained(next) = apart.end_piece(piece) else { panic!("a chained check gives a midstate") };
                state = next;
                alone.update(part);
                let sum: [u8; 32] = Sha256::digest(part).into();
                prop_assert_eq!(alone.end_piece(piece), Hashed::Alone(sum));
            }
            let plain: [u8; 32] = Sha256::digest(&bytes).into();
            prop_assert_eq!(state.to_bytes(), plain);
        }
    }
}

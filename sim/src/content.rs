//! Symbolic content: what stands for the bytes of a piece, and for hashing them.

use longshore_core::digest::Digest;
use longshore_core::piece::Geometry;
use longshore_core::spine::Midstate;

/// What a piece contains: 0 is what the origin has, anything else is wrong.
pub type Content = u64;

/// The right content.
pub const TRUE: Content = 0;

/// What a peer or an origin sends that has not what it was asked for.
pub const WRONG: Content = 0xbad;

/// Stands for hashing a piece of `content` from a midstate: injective for all practical purposes.
#[must_use]
pub fn hash(from: Midstate, piece: u32, content: Content) -> Midstate {
    let mut words = from.0;
    let mut mix = u64::from(piece) << 32 ^ content.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x51ab;
    for word in &mut words {
        mix = (mix ^ u64::from(*word)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mix ^= mix >> 32;
        *word = mix as u32;
    }
    Midstate(words)
}

/// How many pieces a blob of this size has, by the definition and not by the agent's arithmetic.
#[must_use]
pub fn pieces(size: u64) -> u32 {
    size.div_ceil(Geometry::of_blob(size).piece_bytes()).max(1) as u32
}

/// The digest of a blob with the right content, and the midstates before each piece and after the last: `label` makes it
/// another blob.
#[must_use]
pub fn spine(size: u64, label: u64) -> (Digest, Vec<Midstate>) {
    let mut state = Midstate::INITIAL;
    let mut states = vec![state];
    for piece in 0..pieces(size) {
        state = hash(state, piece, label);
        states.push(state);
    }
    (Digest::from_bytes(state.to_bytes()), states)
}

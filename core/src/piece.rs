//! How a blob is cut into pieces, and which of them somebody has.

use core::ops::Range;

use serde::{Deserialize, Serialize};

/// The smallest piece, in bytes: below this the cost of a request outweighs the transfer.
pub const MIN_PIECE_BYTES: u64 = 256 * 1024;
/// The largest piece, in bytes: above this a lost piece costs too much.
pub const MAX_PIECE_BYTES: u64 = 8 * 1024 * 1024;
/// How many pieces a large blob should have: the distance from the optimum is log2(N)/M (reference, section 9.1).
pub const TARGET_PIECES: u64 = 256;

/// The largest blob that is believed, in bytes (1 TiB: 131,072 pieces, a map of 16 KiB): sizes come from peers and
/// registries, and what is kept for a blob grows with its number of pieces.
pub const MAX_BLOB_BYTES: u64 = 1 << 40;

/// What a receiver lets a sender send before it has read any of it, in bytes: what yamux gives a stream at first. Each piece is a stream
/// of its own.
const FIRST_WINDOW_BYTES: u64 = 256 * 1024;

/// How many times a sender of so many bytes waits for the receiver to let it send more, if that lets it send twice as much each time,
/// as yamux does on a long way. Each time takes the way there and back.
#[must_use]
pub fn round_trips(bytes: u64) -> u32 {
    (bytes.div_ceil(FIRST_WINDOW_BYTES) + 1).next_power_of_two().ilog2().saturating_sub(1)
}

/// How a blob of a known size is cut: every piece has `piece_bytes` bytes, the last one what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Geometry {
    size: u64,
    piece_bytes: u64,
}

impl Geometry {
    /// The geometry of a blob of `size` bytes. All nodes derive the same one, so it never travels.
    ///
    /// A blob always has at least one piece; the piece of an empty blob is empty.
    #[must_use]
    pub fn of_blob(size: u64) -> Self {
        let wanted = (size / TARGET_PIECES).max(1);
        let power = wanted.checked_next_power_of_two().unwrap_or(MAX_PIECE_BYTES);
        let rounded = if power > wanted { power / 2 } else { power };
        Self { size, piece_bytes: rounded.clamp(MIN_PIECE_BYTES, MAX_PIECE_BYTES) }
    }

    /// Size of the whole blob in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Size of every piece but the last, in bytes; a multiple of SHA-256's block of 64 bytes.
    #[must_use]
    pub const fn piece_bytes(&self) -> u64 {
        self.piece_bytes
    }

    /// Number of pieces, at least 1.
    #[must_use]
    pub fn pieces(&self) -> u32 {
        let lost = if mutant!("last-short-piece-lost") { self.size % self.piece_bytes } else { 0 };
        u32::try_from((self.size - lost).div_ceil(self.piece_bytes).max(1)).unwrap_or(u32::MAX)
    }

    /// The bytes of piece `index`; empty if there is no such piece.
    #[must_use]
    pub fn range(&self, index: u32) -> Range<u64> {
        let start = u64::from(index).saturating_mul(self.piece_bytes).min(self.size);
        let end = start.saturating_add(self.piece_bytes);
        start..if mutant!("piece-beyond-the-end") { end } else { end.min(self.size) }
    }

    /// Length of piece `index` in bytes.
    #[must_use]
    pub fn len(&self, index: u32) -> u64 {
        let range = self.range(index);
        range.end - range.start
    }

    /// Whether the blob has no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Whether `index` is the piece that ends the blob.
    #[must_use]
    pub fn is_last(&self, index: u32) -> bool {
        index + 1 == self.pieces()
    }
}

/// Sets of so many words lie in themselves and not elsewhere: 512 pieces, which is what blobs up to 4 GiB have. There are
/// dozens in each agent, and looking into one should not be a walk through memory.
const INLINE_WORDS: usize = 8;

/// A set of piece numbers of one blob, one bit each.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u32, Vec<u64>)", into = "(u32, Vec<u64>)")]
#[repr(C)]
pub struct PieceSet {
    len: u32,
    /// The words, if there are no more than this; else 0.
    few: [u64; INLINE_WORDS],
    /// The words, if there are more.
    many: Vec<u64>,
}

impl core::fmt::Debug for PieceSet {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_set().entries(self.iter()).finish()
    }
}

impl From<(u32, Vec<u64>)> for PieceSet {
    fn from((len, words): (u32, Vec<u64>)) -> Self {
        let mut set = Self::none(len);
        for (word, given) in set.words_mut().iter_mut().zip(words) {
            *word = given;
        }
        set.trim();
        set
    }
}

impl From<PieceSet> for (u32, Vec<u64>) {
    fn from(set: PieceSet) -> Self {
        (set.len, set.words().to_vec())
    }
}

impl PieceSet {
    /// No pieces out of `len`.
    #[must_use]
    pub fn none(len: u32) -> Self {
        let words = (len as usize).div_ceil(64);
        let many = if words > INLINE_WORDS { vec![0; words] } else { Vec::new() };
        Self { len, few: [0; INLINE_WORDS], many }
    }

    fn words(&self) -> &[u64] {
        let words = (self.len as usize).div_ceil(64);
        if words > INLINE_WORDS { &self.many } else { &self.few[..words] }
    }

    fn words_mut(&mut self) -> &mut [u64] {
        let words = (self.len as usize).div_ceil(64);
        if words > INLINE_WORDS { &mut self.many } else { &mut self.few[..words] }
    }

    /// All of `len` pieces.
    #[must_use]
    pub fn all(len: u32) -> Self {
        let mut set = Self::none(len);
        set.words_mut().fill(u64::MAX);
        set.trim();
        set
    }

    /// Clears the bits of the last word that stand for no piece.
    fn trim(&mut self) {
        let in_last = self.len % 64;
        if in_last != 0
            && let Some(last) = self.words_mut().last_mut()
        {
            *last &= (1 << in_last) - 1;
        }
    }

    /// The set that [`to_bytes`](Self::to_bytes) encoded. Missing bytes count as absent pieces, surplus bits are ignored.
    #[must_use]
    pub fn from_bytes(len: u32, bytes: &[u8]) -> Self {
        let mut set = Self::none(len);
        let words = set.words_mut();
        for (position, byte) in bytes.iter().enumerate().take((len as usize).div_ceil(8)) {
            words[position / 8] |= u64::from(*byte) << (position % 8 * 8);
        }
        set.trim();
        set
    }

    /// One bit a piece, lowest bit first, as it travels on the wire.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.words().iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.truncate((self.len as usize).div_ceil(8));
        bytes
    }

    /// Number of pieces that the blob has.
    #[must_use]
    pub const fn universe(&self) -> u32 {
        self.len
    }

    /// Number of pieces in the set.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.words().iter().map(|word| word.count_ones()).sum()
    }

    /// The piece with the highest number.
    #[must_use]
    pub fn last(&self) -> Option<u32> {
        let position = self.words().iter().rposition(|word| *word != 0)?;
        Some(position as u32 * 64 + self.words()[position].ilog2())
    }

    /// Whether no piece is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words().iter().all(|word| *word == 0)
    }

    /// Whether every piece is in the set.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.count() == self.len
    }

    /// Whether `index` is in the set.
    #[must_use]
    pub fn contains(&self, index: u32) -> bool {
        index < self.len && self.words()[index as usize / 64] >> (index % 64) & 1 == 1
    }

    /// Adds `index`; returns whether it was missing. A number that the blob does not have is ignored.
    pub fn insert(&mut self, index: u32) -> bool {
        let new = index < self.len && !self.contains(index);
        if new {
            self.words_mut()[index as usize / 64] |= 1 << (index % 64);
        }
        new
    }

    /// Removes `index`; returns whether it was there.
    pub fn remove(&mut self, index: u32) -> bool {
        let there = self.contains(index);
        if there {
            self.words_mut()[index as usize / 64] &= !(1 << (index % 64));
        }
        there
    }

    /// Adds every piece of `other`.
    pub fn union(&mut self, other: &Self) {
        for (word, theirs) in self.words_mut().iter_mut().zip(other.words()) {
            *word |= theirs;
        }
    }

    /// The pieces in the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let words = self.words().iter().enumerate();
        words.flat_map(|(position, word)| bits(*word).map(move |bit| position as u32 * 64 + bit))
    }

    /// The pieces in the set that are not in `other`, ascending, from `start` on.
    pub fn without<'a>(&'a self, other: &'a Self, start: u32) -> impl Iterator<Item = u32> + 'a {
        let first = start as usize / 64;
        let words = self.words().iter().enumerate().skip(first);
        words.flat_map(move |(position, word)| {
            let mut rest = word & !other.words().get(position).copied().unwrap_or(0);
            if position == first {
                rest &= u64::MAX << (start % 64);
            }
            bits(rest).map(move |bit| position as u32 * 64 + bit)
        })
    }

    /// The pieces that are not in the set, ascending, from `start` on.
    pub fn missing_from(&self, start: u32) -> impl Iterator<Item = u32> + '_ {
        (start..self.len).filter(|index| !self.contains(*index))
    }
}

/// The places of the bits that are set, ascending.
fn bits(mut word: u64) -> impl Iterator<Item = u32> {
    core::iter::from_fn(move || {
        let bit = word.trailing_zeros();
        word &= word.wrapping_sub(1);
        (bit < 64).then_some(bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_sender_waits_for_the_receivers_window() {
        let kib = |kib: u64| round_trips(kib << 10);
        assert_eq!(
            [kib(0), kib(1), kib(256), kib(257), kib(512), kib(768), kib(1024), kib(8192)],
            [0, 0, 0, 1, 1, 1, 2, 5]
        );
    }

    #[test]
    fn piece_sizes_aim_at_256_pieces_within_the_bounds() {
        const MIB: u64 = 1024 * 1024;
        for (size, piece_bytes, pieces) in [
            (0, 256 * 1024, 1),
            (1, 256 * 1024, 1),
            (64 * MIB, 256 * 1024, 256),
            (1024 * MIB, 4 * MIB, 256),
            (1500 * MIB, 4 * MIB, 375),
            (40 * 1024 * MIB, 8 * MIB, 5120),
        ] {
            let geometry = Geometry::of_blob(size);
            assert_eq!((geometry.piece_bytes(), geometry.pieces()), (piece_bytes, pieces), "{size} bytes");
        }
    }

    proptest! {
        #[test]
        fn pieces_tile_the_blob(size in 0_u64..1 << 36) {
            let geometry = Geometry::of_blob(size);
            let mut end = 0;
            for index in 0..geometry.pieces() {
                let range = geometry.range(index);
                prop_assert_eq!(range.start, end);
                prop_assert!(range.end > range.start || size == 0);
                end = range.end;
            }
            prop_assert_eq!(end, size);
            prop_assert_eq!(geometry.piece_bytes() % 64, 0);
        }

        #[test]
        fn a_piece_set_survives_the_wire(len in 1_u32..700, members: Vec<u32>, junk: Vec<u8>) {
            let mut set = PieceSet::none(len);
            for member in members {
                set.insert(member % (len + 3));
            }
            prop_assert_eq!(&PieceSet::from_bytes(len, &set.to_bytes()), &set);
            prop_assert_eq!(set.iter().count() as u32, set.count());
            prop_assert_eq!(set.iter().last(), set.last());
            prop_assert_eq!(set.count() + set.missing_from(0).count() as u32, len);
            let noisy = PieceSet::from_bytes(len, &junk);
            prop_assert_eq!(PieceSet::all(len).iter().count() as u32, len);
            let start = junk.len() as u32 % (len + 70);
            let expected: Vec<_> = noisy.iter().filter(|index| *index >= start && !set.contains(*index)).collect();
            prop_assert_eq!(noisy.without(&set, start).collect::<Vec<_>>(), expected);
            prop_assert!(noisy.iter().all(|index| index < len));
        }
    }
}

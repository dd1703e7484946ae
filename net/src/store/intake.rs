//! Takes the bytes of consecutive pieces as they arrive, writes them into the staging file and hashes them on the way.

use longshore_core::digest::Digest;
use longshore_core::input::{Hashed, StoreError};
use longshore_core::output::Check;
use longshore_core::piece::Geometry;

use super::Store;

/// A run of pieces on its way into a staging file. Dropping it leaves finished pieces in place.
#[derive(Debug)]
pub struct Intake {
    _private: (),
}

/// A piece that is completely in the staging file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredPiece {
    /// Its number.
    pub piece: u32,
    /// Its hash, as the check asked.
    pub hashed: Hashed,
}

impl Intake {
    /// Opens the staging file of `digest` for the pieces from `first` on.
    ///
    /// # Errors
    /// `Missing` if the blob is not staged.
    pub fn open(
        _store: &Store,
        _digest: Digest,
        _geometry: Geometry,
        _first: u32,
        _check: Check,
    ) -> Result<Self, StoreError> {
        todo!()
    }

    /// Writes the next bytes. Calls `stored` for each piece that they complete. Bytes past the end of the blob are an error.
    ///
    /// # Errors
    /// `Full` or `Io`.
    pub fn write(&mut self, _bytes: &[u8], _stored: impl FnMut(StoredPiece)) -> Result<(), StoreError> {
        todo!()
    }

    /// The offset in the blob of the next byte.
    #[must_use]
    pub fn position(&self) -> u64 {
        todo!()
    }
}

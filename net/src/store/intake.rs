//! Takes the bytes of consecutive pieces as they arrive, writes them into the staging file and hashes them on the way.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use longshore_core::digest::Digest;
use longshore_core::input::{Hashed, StoreError};
use longshore_core::output::Check;
use longshore_core::piece::Geometry;

use super::Store;
use super::failure::failure;
use super::hash::PieceHasher;
use super::staging::Staged;

/// A run of pieces on its way into a staging file. Dropping it leaves finished pieces in place.
///
/// Bytes may come in portions of any size. Nothing of them is kept in memory but the hash's incomplete block.
/// Everything is done in the calling task: it goes to the page cache.
#[derive(Debug)]
pub struct Intake {
    staged: Arc<Staged>,
    file: File,
    geometry: Geometry,
    hasher: PieceHasher,
    /// The piece that the next byte belongs to; the number of pieces when all is there.
    piece: u32,
    position: u64,
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
    /// Opens the staging file of `digest` for the pieces from `first` on. With a chained `check`, its midstate is the one
    /// before `first`, and the chain goes on through all pieces of the run.
    ///
    /// # Errors
    /// `Missing` if the blob is not staged; `Io` if it is staged with another size or has no such piece.
    pub fn open(
        store: &Store,
        digest: Digest,
        geometry: Geometry,
        first: u32,
        check: Check,
    ) -> Result<Self, StoreError> {
        let staged = store.staged(digest)?;
        let (size, pieces) = (staged.header.size, geometry.pieces());
        if size != geometry.size() {
            let wanted = geometry.size();
            return Err(StoreError::Io(
                format!("cannot take bytes of {digest}: it is staged with {size} bytes, not with {wanted}").into(),
            ));
        }
        if first >= pieces {
            return Err(StoreError::Io(
                format!("cannot take piece {first} of {digest}: it has {pieces} pieces, counted from 0").into(),
            ));
        }
        Ok(Self {
            file: staged.open_data()?,
            staged,
            geometry,
            hasher: PieceHasher::new(geometry, check),
            piece: first,
            position: geometry.range(first).start,
        })
    }

    /// Writes the next bytes. Calls `stored` for each piece that they complete. The piece of an empty blob has no byte that
    /// completes it: see [`finish`](Self::finish).
    ///
    /// # Errors
    /// `Full`; `Io`, also for bytes past the end of the blob; `Missing` if the blob is not staged any more.
    pub fn write(&mut self, mut bytes: &[u8], mut stored: impl FnMut(StoredPiece)) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let left = self.geometry.range(self.piece).end - self.position;
            if left == 0 {
                let (digest, size) = (self.staged.digest, self.geometry.size());
                return Err(StoreError::Io(
                    format!("cannot take {} more bytes of {digest}: all {size} are there", bytes.len()).into(),
                ));
            }
            let (now, later) = bytes.split_at(bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
            self.staged.write(|| {
                self.file
                    .write_all_at(now, self.position)
                    .map_err(|error| failure("write to the staging file", self.staged.data_path(), &error))
            })?;
            self.hasher.update(now);
            self.position += now.len() as u64;
            bytes = later;
            if now.len() as u64 == left {
                self.end_piece(&mut stored);
            }
        }
        Ok(())
    }

    /// Says that no more bytes come. Calls `stored` for the piece of an empty blob, which no byte completes; for any other
    /// blob it does nothing (compare [`position`](Self::position) with what you asked for to see if all came).
    pub fn finish(&mut self, mut stored: impl FnMut(StoredPiece)) {
        if self.geometry.is_empty() && self.piece == 0 {
            self.end_piece(&mut stored);
        }
    }

    /// The offset in the blob of the next byte.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    fn end_piece(&mut self, stored: &mut impl FnMut(StoredPiece)) {
        let piece = self.piece;
        let hashed = self.hasher.end_piece(piece);
        self.piece += 1;
        stored(StoredPiece { piece, hashed });
    }
}

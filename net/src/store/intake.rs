//! Takes the bytes of consecutive pieces as they arrive, writes them into the staging file and hashes them on the way.

use std::fs::File;
use std::io;
use std::mem;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use longshore_core::digest::Digest;
use longshore_core::input::{Hashed, StoreError};
use longshore_core::output::Check;
use longshore_core::piece::Geometry;
use tracing::warn;

use super::Store;
use super::claims::Place;
use super::failure::failure;
use super::hash::PieceHasher;
use super::recover::{READ_BYTES, hash_stored};
use super::staging::Staged;

/// A run of pieces on its way into a staging file. Dropping it leaves finished pieces in place.
///
/// Bytes may come in portions of any size. Nothing of them is kept in memory but the hash's incomplete block.
/// Everything is done in the calling task: it goes to the page cache.
///
/// Several intakes may be after the same piece. What one of them reported stays as it is, whatever the others that were
/// open at that time, or whose [`Ticket`] is older, bring: they report the piece too if their bytes are the same. If not, somebody lied: such a piece
/// is not reported, and with a chained check nothing after it is, since the chain is that of other bytes. An intake that
/// begins later writes the piece anew. A caller whose bytes all came and whose piece was not reported has nothing to
/// blame its sender for: who of the two lied is not known here.
#[derive(Debug)]
pub struct Intake {
    staged: Arc<Staged>,
    file: File,
    geometry: Geometry,
    /// This intake among those of the blob.
    number: u64,
    hasher: PieceHasher,
    /// The hasher as it was at the start of the current piece.
    at_start: PieceHasher,
    /// The piece that the next byte belongs to; the number of pieces when all is there.
    piece: u32,
    position: u64,
    /// Where the bytes of the current piece go; `None` before the first of them.
    target: Option<Target>,
    /// A chain over bytes that are not those in the file: nothing that comes is reported.
    off_the_chain: bool,
}

#[derive(Debug)]
enum Target {
    File,
    Aside(File),
    Nowhere,
}

/// A piece that is completely in the staging file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredPiece {
    /// Its number.
    pub piece: u32,
    /// Its hash, as the check asked.
    pub hashed: Hashed,
}

/// A transfer's place among those of a blob, taken before it asks for anything: what another one finishes while the answer is
/// on its way is not overwritten by it.
#[derive(Debug)]
pub struct Ticket {
    staged: Arc<Staged>,
    number: u64,
}

impl Ticket {
    /// The next place. `None` if the blob is not staged yet: then there is nothing to overwrite.
    #[must_use]
    pub fn take(store: &Store, digest: Digest) -> Option<Self> {
        let staged = store.staged(digest).ok()?;
        let number = staged.claims().ok()?.enter();
        Some(Self { staged, number })
    }
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
        Self::open_in_turn(store, None, digest, geometry, first, check)
    }

    /// The same for a transfer that began when it took its `ticket`. Without one, or with one for a staging file that was
    /// discarded since, it begins now.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_in_turn(
        store: &Store,
        ticket: Option<Ticket>,
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
        let file = staged.open_data()?;
        let number = match ticket.filter(|ticket| Arc::ptr_eq(&ticket.staged, &staged)) {
            Some(ticket) => ticket.number,
            None => staged.claims()?.enter(),
        };
        let hasher = PieceHasher::new(geometry, check);
        Ok(Self {
            staged,
            file,
            geometry,
            number,
            at_start: hasher.clone(),
            hasher,
            piece: first,
            position: geometry.range(first).start,
            target: None,
            off_the_chain: false,
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
            self.put(now)?;
            self.hasher.update(now);
            self.position += now.len() as u64;
            bytes = later;
            if now.len() as u64 == left {
                self.end_piece(&mut stored)?;
            }
        }
        Ok(())
    }

    /// Says that no more bytes come. Calls `stored` for the piece of an empty blob, which no byte completes; for any other
    /// blob it does nothing (compare [`position`](Self::position) with what you asked for to see if all came).
    pub fn finish(&mut self, mut stored: impl FnMut(StoredPiece)) {
        if self.geometry.is_empty() && self.piece == 0 {
            // It fails only for a blob that is not staged any more: then there is no piece to report.
            let _not_staged_any_more = self.end_piece(&mut stored);
        }
    }

    /// The offset in the blob of the next byte.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Writes bytes of the current piece to where they belong.
    fn put(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let target = match self.target.take() {
            Some(target) => target,
            None => self.begin()?,
        };
        let claims = self.staged.claims()?;
        let target = match target {
            Target::File if !claims.writes(self.number, self.piece) => Target::Nowhere,
            target => target,
        };
        let written = match &target {
            Target::File => self.file.write_all_at(bytes, self.position),
            Target::Aside(file) => file.write_all_at(bytes, self.position - self.geometry.range(self.piece).start),
            Target::Nowhere => Ok(()),
        };
        drop(claims);
        self.target = Some(target);
        written.map_err(|error| failure("write to the staging file", self.staged.data_path(), &error))
    }

    fn begin(&self) -> Result<Target, StoreError> {
        let place = self.staged.claims()?.begin(self.number, self.piece);
        Ok(match place {
            Place::File => Target::File,
            Place::Aside => Target::Aside(self.staged.aside(self.number)?),
            Place::Nowhere => Target::Nowhere,
        })
    }

    fn end_piece(&mut self, stored: &mut impl FnMut(StoredPiece)) -> Result<(), StoreError> {
        let (piece, target) = (self.piece, self.target.take());
        let hashed = self.hasher.end_piece(piece);
        let at_start = mem::replace(&mut self.at_start, self.hasher.clone());
        let mut claims = self.staged.claims()?;
        let there = match target {
            Some(Target::File) if claims.writes(self.number, piece) => true,
            Some(Target::Aside(aside)) if claims.may_place(self.number, piece) => {
                self.bring_in(&aside, piece)
                    .map_err(|error| failure("copy a piece into the staging file", self.staged.data_path(), &error))?;
                true
            }
            // The piece of an empty blob.
            None => true,
            Some(_) => false,
        };
        if there {
            claims.finish(piece);
        }
        drop(claims);
        self.piece += 1;
        if !there && !self.is_stored(piece, hashed, at_start)? {
            warn!(digest = %self.staged.digest, piece, "two transfers brought different bytes; the first ones stay");
            self.off_the_chain = matches!(hashed, Hashed::Chained(_));
        } else if !self.off_the_chain {
            stored(StoredPiece { piece, hashed });
        }
        Ok(())
    }

    /// Whether the piece in the file has the same bytes as ours, by its hash.
    fn is_stored(&self, piece: u32, hashed: Hashed, at_start: PieceHasher) -> Result<bool, StoreError> {
        hash_stored(&self.file, self.geometry, piece, at_start)
            .map(|found| found == hashed)
            .map_err(|error| failure("read a piece of the staging file", self.staged.data_path(), &error))
    }

    fn bring_in(&self, aside: &File, piece: u32) -> io::Result<()> {
        let range = self.geometry.range(piece);
        let mut buffer = vec![0; READ_BYTES];
        let mut offset = 0;
        while range.start + offset < range.end {
            let left = usize::try_from(range.end - range.start - offset).unwrap_or(READ_BYTES);
            let part = &mut buffer[..left.min(READ_BYTES)];
            aside.read_exact_at(part, offset)?;
            self.file.write_all_at(part, range.start + offset)?;
            offset += part.len() as u64;
        }
        Ok(())
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        if let Ok(mut claims) = self.staged.claims() {
            claims.leave(self.number, self.piece);
        }
    }
}

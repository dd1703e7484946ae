//! Reads one blob, staged or committed.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use tokio::sync::watch;

/// How far a blob may be read by containerd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// The first so many bytes of a staged blob.
    Prefix(u64),
    /// Everything: the blob is committed.
    Whole,
    /// Nothing any more: the staging file was discarded, or the blob evicted.
    Gone,
}

/// Reads bytes of one blob, staged or committed. Goes on working while the blob is committed or evicted (the open file
/// stays the same).
#[derive(Debug)]
pub struct BlobReader {
    file: File,
    size: u64,
    released: Arc<watch::Sender<Released>>,
}

impl BlobReader {
    pub(super) fn new(file: File, size: u64, released: Arc<watch::Sender<Released>>) -> Self {
        Self { file, size, released }
    }

    /// Size of the blob in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads exactly `buffer.len()` bytes at `offset`, whether released or not (that is the caller's concern).
    ///
    /// # Errors
    /// What the file system says; `UnexpectedEof` past the end.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    /// Follows how far the blob may be given to containerd. Keep the reader for as long as you follow: when the last
    /// reader of a blob is dropped, the channel may close.
    #[must_use]
    pub fn released(&self) -> watch::Receiver<Released> {
        self.released.subscribe()
    }
}

/// For system calls that move bytes without copying them.
impl AsFd for BlobReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

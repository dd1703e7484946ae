//! The blob store in a directory.

pub mod intake;

use std::path::Path;
use std::sync::Arc;

use longshore_core::digest::Digest;
use longshore_core::input::StoreError;
use tokio::sync::watch;

use crate::driver::Inputs;

/// Blobs in a directory: `blobs/sha256/<hex>` when complete, `staging/<hex>` before. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner;

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
    _private: (),
}

impl BlobReader {
    /// Size of the blob in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        todo!()
    }

    /// Reads exactly `buffer.len()` bytes at `offset`, whether released or not (that is the caller's concern).
    ///
    /// # Errors
    /// What the file system says; `UnexpectedEof` past the end.
    pub fn read_at(&self, _buffer: &mut [u8], _offset: u64) -> std::io::Result<()> {
        todo!()
    }

    /// Follows how far the blob may be given to containerd.
    #[must_use]
    pub fn released(&self) -> watch::Receiver<Released> {
        todo!()
    }
}

impl Store {
    /// Opens the store in `directory`, making it if there is none; checks what is staged again and reports
    /// [`Input::Recovered`](longshore_core::input::Input::Recovered).
    ///
    /// # Errors
    /// When the directory cannot be made, read or written, or is in use by another agent.
    pub fn open(_directory: &Path, _inputs: Inputs) -> std::io::Result<Self> {
        todo!()
    }

    /// Opens a blob for reading.
    ///
    /// # Errors
    /// `Missing` if the blob is neither staged nor committed.
    pub fn reader(&self, _digest: Digest) -> Result<BlobReader, StoreError> {
        todo!()
    }
}

//! One blob that is not complete yet.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use longshore_core::digest::Digest;
use longshore_core::input::StoreError;
use longshore_core::message::PieceSum;
use tokio::sync::watch;

use super::failure::failure;
use super::layout::Layout;
use super::log::{self, Header};
use super::reader::Released;

/// A staged blob: its sparse file, its record log, and who may do what to them.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) digest: Digest,
    pub(super) header: Header,
    data_path: PathBuf,
    log_path: PathBuf,
    /// How far containerd may read.
    pub(super) released: Arc<watch::Sender<Released>>,
    /// Whether the file still may be written. Writers hold it shared while they write, so that whoever closes it knows
    /// that nothing changes any more.
    open: RwLock<bool>,
    /// Whether the log still is ours. Held while it is written.
    logging: Mutex<bool>,
}

impl Staged {
    /// Takes over files that are there.
    pub(super) fn adopt(layout: &Layout, digest: Digest, header: Header) -> Self {
        Self {
            digest,
            header,
            data_path: layout.staged(digest),
            log_path: layout.log(digest),
            released: Arc::new(watch::Sender::new(Released::Prefix(0))),
            open: RwLock::new(true),
            logging: Mutex::new(true),
        }
    }

    /// Makes the files. The log comes first: a data file without a log is a leftover.
    pub(super) fn create(layout: &Layout, digest: Digest, header: Header) -> Result<Self, StoreError> {
        let staged = Self::adopt(layout, digest, header);
        log::create(&staged.log_path, &staged.header)
            .map_err(|error| failure("create the record log", &staged.log_path, &error))?;
        File::create(&staged.data_path)
            .and_then(|file| file.set_len(staged.header.size))
            .map_err(|error| failure("create the staging file", &staged.data_path, &error))?;
        Ok(staged)
    }

    pub(super) fn data_path(&self) -> &Path {
        &self.data_path
    }

    pub(super) fn log_path(&self) -> &Path {
        &self.log_path
    }

    /// The data file, to write to.
    pub(super) fn open_data(&self) -> Result<File, StoreError> {
        OpenOptions::new().read(true).write(true).open(&self.data_path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => StoreError::Missing,
            _ => failure("open the staging file", &self.data_path, &error),
        })
    }

    /// Runs `write` unless the file is closed to writers.
    pub(super) fn write<T>(&self, write: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        if *open { write() } else { Err(StoreError::Missing) }
    }

    /// Closes the file to writers, or opens it again. When this returns, no write is under way.
    pub(super) fn set_open(&self, open: bool) {
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = open;
    }

    /// Adds a record to the log.
    pub(super) fn record(&self, sum: &PieceSum) -> Result<(), StoreError> {
        let logging = self.logging.lock().unwrap_or_else(PoisonError::into_inner);
        if !*logging {
            return Err(StoreError::Missing);
        }
        log::append(&self.log_path, sum).map_err(|error| failure("append to the record log", &self.log_path, &error))
    }

    /// Replaces the log by one with these records only.
    pub(super) fn rewrite_log(&self, pieces: &[PieceSum]) -> Result<(), StoreError> {
        let logging = self.logging.lock().unwrap_or_else(PoisonError::into_inner);
        if !*logging {
            return Err(StoreError::Missing);
        }
        log::rewrite(&self.log_path, &self.header, pieces)
            .map_err(|error| failure("rewrite the record log", &self.log_path, &error))
    }

    /// Ends the log. When this returns, nobody writes to it.
    pub(super) fn end_log(&self) {
        *self.logging.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }

    /// Lets containerd read the first `bytes` bytes.
    pub(super) fn release(&self, bytes: u64) {
        self.released.send_if_modified(|released| match released {
            Released::Prefix(before) if *before < bytes => {
                *before = bytes;
                true
            }
            _ => false,
        });
    }
}

//! One blob that is not complete yet.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longshore_core::digest::Digest;
use longshore_core::input::{RecordedPiece, StoreError};
use tokio::sync::watch;

use super::claims::Claims;
use super::failure::failure;
use super::layout::Layout;
use super::log::{self, Header, Log};
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
    /// Who may write what. Held during every write, so that whoever closes it knows that nothing changes any more. (File
    /// systems let one writer at a time into a file anyway.)
    claims: Mutex<Claims>,
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
            claims: Mutex::new(Claims::new()),
            logging: Mutex::new(true),
        }
    }

    /// Makes the files. The log comes first: a data file without a log is a leftover.
    pub(super) fn create(layout: &Layout, digest: Digest, header: Header) -> Result<Self, StoreError> {
        let staged = Self::adopt(layout, digest, header);
        let made = log::create(&staged.log_path, &staged.header)
            .map_err(|error| failure("create the record log", &staged.log_path, &error))
            .and_then(|()| {
                File::create(&staged.data_path)
                    .and_then(|file| file.set_len(staged.header.size))
                    .map_err(|error| failure("create the staging file", &staged.data_path, &error))
            });
        if let Err(error) = made {
            // What cannot be removed is removed when the store opens.
            let _leftovers = (fs::remove_file(&staged.data_path), fs::remove_file(&staged.log_path));
            return Err(error);
        }
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

    /// The claims, to write under them.
    ///
    /// # Errors
    /// `Missing` if the file is closed to writers.
    pub(super) fn claims(&self) -> Result<MutexGuard<'_, Claims>, StoreError> {
        let claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        if claims.open { Ok(claims) } else { Err(StoreError::Missing) }
    }

    /// Closes the file to writers, or opens it again. When this returns, no write is under way.
    pub(super) fn set_open(&self, open: bool) {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner).open = open;
    }

    /// A nameless file beside the data file; it ends with its handle.
    pub(super) fn aside(&self, intake: u64) -> Result<File, StoreError> {
        let path = self.data_path.with_extension(format!("{intake}.aside"));
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .and_then(|file| fs::remove_file(&path).map(|()| file))
            .map_err(|error| failure("create a file beside", &self.data_path, &error))
    }

    /// Adds a record to the log.
    pub(super) fn record(&self, record: &RecordedPiece) -> Result<(), StoreError> {
        let logging = self.logging.lock().unwrap_or_else(PoisonError::into_inner);
        if !*logging {
            return Err(StoreError::Missing);
        }
        log::append(&self.log_path, record).map_err(|error| failure("append to the record log", &self.log_path, &error))
    }

    /// Writes the log again without `bad` and without lines that cannot be read.
    pub(super) fn tidy_log(&self, bad: &[RecordedPiece]) -> Result<(), StoreError> {
        let logging = self.logging.lock().unwrap_or_else(PoisonError::into_inner);
        if !*logging {
            return Err(StoreError::Missing);
        }
        // Read again: more may have been recorded since.
        let good = |log: Log| log.pieces.into_values().filter(|record| !bad.contains(record)).collect::<Vec<_>>();
        log::read(&self.log_path)
            .and_then(|log| log::rewrite(&self.log_path, &self.header, &log.map(good).unwrap_or_default()))
            .map_err(|error| failure("rewrite the record log", &self.log_path, &error))
    }

    /// Ends the log. When this returns, nobody writes to it.
    pub(super) fn end_log(&self) {
        *self.logging.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }

    /// Lets containerd read the first `bytes` bytes; none any more, if they were wrong.
    pub(super) fn release(&self, bytes: u64) {
        self.released.send_if_modified(|released| match released {
            Released::Prefix(before) if *before < bytes || bytes == 0 && *before > 0 => {
                *before = bytes;
                true
            }
            _ => false,
        });
    }
}

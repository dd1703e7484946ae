//! The blob store in a directory.
//!
//! Complete blobs are files under their digest, incomplete ones are sparse files beside a log of the pieces that are good.
//! The store decides nothing: the core says what to keep, what to delete and when a blob is complete.
//!
//! Bytes are read and written in the calling task, since they go to and come from the page cache. Whatever waits for the
//! disk (commit, hashing what is stored, deleting, recovery) runs on blocking threads and ends in an
//! [`Input`].

mod claims;
mod commit;
mod directory;
mod failure;
pub mod hash;
pub mod intake;
mod layout;
mod log;
pub mod manifest;
mod orders;
mod reader;
mod recover;
mod spine;
mod staging;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use longshore_core::digest::Digest;
use longshore_core::input::{BlobFacts, Input, StoreError};
use tokio::runtime::Handle;
use tokio::sync::watch;

use self::failure::failure;
use self::layout::Layout;
use self::log::Header;
pub use self::reader::{BlobReader, Released};
use self::recover::Inventory;
use self::staging::Staged;
use crate::driver::Inputs;

/// Blobs in a directory: `blobs/sha256/<hex>` when complete, `staging/<hex>` before. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

/// What a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Number of complete blobs.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Number of incomplete blobs.
    pub staged: u64,
    /// The bytes that they will have when they are complete.
    pub staged_bytes: u64,
}

#[derive(Debug)]
struct Inner {
    layout: Layout,
    /// The operating system's lock on the directory goes with this file.
    _lock: File,
    inputs: Inputs,
    /// What happened before [`Input::Recovered`] was sent; `None` afterwards.
    held_back: Mutex<Option<Vec<Input>>>,
    runtime: Handle,
    blobs: Mutex<BTreeMap<Digest, Blob>>,
}

/// What is known about one blob.
#[derive(Debug)]
enum Blob {
    Staged(Arc<Staged>),
    /// A blocking thread is making it durable.
    Committing {
        staged: Arc<Staged>,
        /// It is to be deleted as soon as that is done.
        doomed: bool,
    },
    Committed {
        size: u64,
        /// Where its readers, if any, learn that it was evicted.
        readers: Weak<watch::Sender<Released>>,
    },
}

impl Store {
    /// Opens the store in `directory`, making it if there is none. Removes what a crash left behind. Then, in the
    /// background, hashes what is staged again and reports [`Input::Recovered`], before any other input.
    ///
    /// # Errors
    /// When the directory cannot be made, read or written, or is in use by another agent; or outside of a tokio runtime.
    pub fn open(directory: &Path, inputs: Inputs) -> io::Result<Self> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let layout = Layout::new(directory);
        directory::make(&layout)?;
        let lock = directory::lock(&layout)?;
        let Inventory { blobs, partials } = recover::scan(&layout)?;

        let mut known = BTreeMap::new();
        for partial in &partials {
            known.insert(partial.staged.digest, Blob::Staged(Arc::clone(&partial.staged)));
        }
        for blob in &blobs {
            known.insert(blob.digest, Blob::Committed { size: blob.size, readers: Weak::new() });
        }
        let store = Self {
            inner: Arc::new(Inner {
                layout,
                _lock: lock,
                inputs,
                held_back: Mutex::new(Some(Vec::new())),
                runtime,
                blobs: Mutex::new(known),
            }),
        };
        store.blocking(move |store| {
            let partials = recover::recheck(partials);
            let mut held_back = store.inner.held_back.lock().unwrap_or_else(PoisonError::into_inner);
            store.inner.inputs.send(Input::Recovered { blobs, partials });
            for input in held_back.take().unwrap_or_default() {
                store.inner.inputs.send(input);
            }
        });
        Ok(store)
    }

    /// Opens a blob for reading.
    ///
    /// # Errors
    /// `Missing` if the blob is neither staged nor committed.
    pub fn reader(&self, digest: Digest) -> Result<BlobReader, StoreError> {
        let (size, released) = match self.blobs().get_mut(&digest).ok_or(StoreError::Missing)? {
            Blob::Staged(staged) | Blob::Committing { staged, .. } => {
                (staged.header.size, Arc::clone(&staged.released))
            }
            Blob::Committed { size, readers } => {
                let released = readers.upgrade().unwrap_or_else(|| {
                    let released = Arc::new(watch::Sender::new(Released::Whole));
                    *readers = Arc::downgrade(&released);
                    released
                });
                (*size, released)
            }
        };
        Ok(BlobReader::new(self.open_file(digest)?.0, size, released))
    }

    /// Makes a staging file and its record log, unless the blob is staged already: for a driver that learns the size when it
    /// has read the origin's headers ([`Span::Unknown`](longshore_core::output::Span::Unknown)). When it returns, an
    /// [`Intake`](intake::Intake) can be opened.
    ///
    /// # Errors
    /// `Full`; `Io`, also if the blob is staged with another size or is committed.
    pub fn stage_now(&self, digest: Digest, size: u64, facts: BlobFacts) -> Result<(), StoreError> {
        // The lock is held while the files are made: a discard of the same blob comes before or after.
        let mut blobs = self.blobs();
        let refused = |found: &str| StoreError::Io(format!("cannot stage {digest} with {size} bytes: {found}").into());
        match blobs.get(&digest) {
            Some(Blob::Staged(staged)) if staged.header.size == size => Ok(()),
            Some(Blob::Staged(staged) | Blob::Committing { staged, .. }) => {
                Err(refused(&format!("it is staged with {} bytes, or is being committed", staged.header.size)))
            }
            Some(Blob::Committed { .. }) => Err(refused("it is committed")),
            None => {
                let staged = Staged::create(&self.inner.layout, digest, Header { size, facts })?;
                blobs.insert(digest, Blob::Staged(Arc::new(staged)));
                Ok(())
            }
        }
    }

    /// What the store holds now.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for blob in self.blobs().values() {
            match blob {
                Blob::Staged(staged) | Blob::Committing { staged, .. } => {
                    usage.staged += 1;
                    usage.staged_bytes += staged.header.size;
                }
                Blob::Committed { size, .. } => {
                    usage.blobs += 1;
                    usage.blob_bytes += size;
                }
            }
        }
        usage
    }

    fn staged(&self, digest: Digest) -> Result<Arc<Staged>, StoreError> {
        match self.blobs().get(&digest) {
            Some(Blob::Staged(staged)) => Ok(Arc::clone(staged)),
            _ => Err(StoreError::Missing),
        }
    }

    fn blobs(&self) -> MutexGuard<'_, BTreeMap<Digest, Blob>> {
        self.inner.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, input: Input) {
        let mut held_back = self.inner.held_back.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *held_back {
            Some(inputs) => inputs.push(input),
            None => self.inner.inputs.send(input),
        }
    }

    fn blocking(&self, task: impl FnOnce(Self) + Send + 'static) {
        let store = self.clone();
        self.inner.runtime.spawn_blocking(move || task(store));
    }

    /// The file of a blob, wherever it is: a commit moves it from the first place to the second, never back while it is
    /// known as committed.
    fn open_file(&self, digest: Digest) -> Result<(File, PathBuf), StoreError> {
        for path in [self.inner.layout.staged(digest), self.inner.layout.blob(digest)] {
            match File::open(&path) {
                Ok(file) => return Ok((file, path)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failure("open", &path, &error)),
            }
        }
        Err(StoreError::Missing)
    }
}

//! The blob store in a directory.
//!
//! Complete blobs are files under their digest, incomplete ones are sparse files beside a log of the pieces that are good.
//! The store decides nothing: the core says what to keep, what to delete and when a blob is complete.
//!
//! Bytes are read and written in the calling task, since they go to and come from the page cache. Whatever waits for the
//! disk (commit, hashing what is stored, deleting, recovery) runs on blocking threads and ends in an
//! [`Input`].

mod commit;
mod failure;
pub mod hash;
pub mod intake;
mod layout;
mod log;
pub mod manifest;
mod reader;
mod recover;
mod staging;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use longshore_core::digest::Digest;
use longshore_core::input::{BlobFacts, Hashed, Input, StoreError};
use longshore_core::message::PieceSum;
use longshore_core::names::OpId;
use longshore_core::output::Check;
use longshore_core::piece::Geometry;
use longshore_core::spine::Midstate;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::{debug, warn};

use self::failure::{explained, failure, words};
use self::layout::Layout;
use self::log::Header;
pub use self::reader::{BlobReader, Released};
use self::recover::Inventory;
use self::staging::Staged;
use crate::driver::{BlobStore, Inputs};

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
        for path in [layout.blobs(), layout.staging(), layout.trash()] {
            fs::create_dir_all(&path).map_err(|error| explained("make the directory", &path, &error))?;
        }
        let lock = lock(&layout)?;
        let Inventory { blobs, partials } = recover::scan(&layout)?;

        let mut known = BTreeMap::new();
        for (staged, _) in &partials {
            known.insert(staged.digest, Blob::Staged(Arc::clone(staged)));
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
            let partials = partials.into_iter().map(|(staged, pieces)| recover::recheck(&staged, pieces)).collect();
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
        Ok(BlobReader::new(self.open_file(digest)?, size, released))
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
    fn open_file(&self, digest: Digest) -> Result<File, StoreError> {
        for path in [self.inner.layout.staged(digest), self.inner.layout.blob(digest)] {
            match File::open(&path) {
                Ok(file) => return Ok(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failure("open", &path, &error)),
            }
        }
        Err(StoreError::Missing)
    }

    /// Takes files out of the way at once and deletes them later: deleting a large file takes a while.
    fn throw_away<const N: usize>(&self, paths: [PathBuf; N], then: impl FnOnce(&Self) + Send + 'static) {
        let trash = paths.map(|path| {
            let trash = self.inner.layout.new_trash();
            match fs::rename(&path, &trash) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    warn!(path = %path.display(), %error, "cannot move a file to the trash");
                }
                _ => {}
            }
            trash
        });
        self.blocking(move |store| {
            for path in trash {
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        warn!(path = %path.display(), %error, "cannot delete a file; it goes when the store opens again");
                    }
                    _ => {}
                }
            }
            then(&store);
        });
    }

    fn drop_staged(&self, staged: &Staged, then: impl FnOnce(&Self) + Send + 'static) {
        staged.end_log();
        staged.set_open(false);
        staged.released.send_replace(Released::Gone);
        self.throw_away([self.inner.layout.staged(staged.digest), self.inner.layout.log(staged.digest)], then);
    }

    fn drop_committed(
        &self,
        digest: Digest,
        readers: &Weak<watch::Sender<Released>>,
        then: impl FnOnce(&Self) + Send + 'static,
    ) {
        if let Some(released) = readers.upgrade() {
            released.send_replace(Released::Gone);
        }
        // The blob goes first: a sidecar without a blob is nothing.
        self.throw_away([self.inner.layout.blob(digest), self.inner.layout.sidecar(digest)], then);
    }

    fn commit_now(&self, staged: &Arc<Staged>, facts: BlobFacts) {
        let digest = staged.digest;
        staged.set_open(false);
        let result = commit::commit(&self.inner.layout, staged, facts);
        let mut blobs = self.blobs();
        let doomed = matches!(blobs.get(&digest), Some(Blob::Committing { doomed: true, .. }));
        match &result {
            Ok(()) => {
                let readers = Arc::downgrade(&staged.released);
                if doomed {
                    blobs.remove(&digest);
                    self.drop_committed(digest, &readers, move |store| store.report(Input::Evicted { digest }));
                } else {
                    blobs.insert(digest, Blob::Committed { size: staged.header.size, readers });
                    staged.released.send_replace(Released::Whole);
                }
            }
            Err(error) => {
                warn!(%digest, error = words(error), "cannot commit a blob");
                if doomed {
                    blobs.remove(&digest);
                    self.drop_staged(staged, |_| {});
                } else {
                    staged.set_open(true);
                    blobs.insert(digest, Blob::Staged(Arc::clone(staged)));
                }
            }
        }
        drop(blobs);
        self.report(Input::Committed { digest, result });
    }

    fn hash_now(&self, digest: Digest, size: u64, piece: u32, from: Midstate) -> Result<Midstate, StoreError> {
        let file = self.open_file(digest)?;
        let hashed = recover::hash_stored(&file, Geometry::of_blob(size), piece, Check::From(from))
            .map_err(|error| failure(&format!("read piece {piece} of"), &self.inner.layout.staged(digest), &error))?;
        match hashed {
            Hashed::Chained(midstate) => Ok(midstate),
            Hashed::Alone(_) => Err(StoreError::Io("a chained check gave no midstate".into())),
        }
    }

    fn read_manifest_now(&self, digest: Digest) -> Result<manifest::Manifest, StoreError> {
        let reader = self.reader(digest)?;
        if reader.size() > manifest::MAX_MANIFEST_BYTES {
            let (size, limit) = (reader.size(), manifest::MAX_MANIFEST_BYTES);
            return Err(StoreError::Io(
                format!("{size} bytes are too many for a manifest, {limit} is the limit").into(),
            ));
        }
        let mut bytes = vec![0; usize::try_from(reader.size()).unwrap_or(0)];
        reader.read_at(&mut bytes, 0).map_err(|error| failure("read", &self.inner.layout.blob(digest), &error))?;
        Ok(manifest::parse(&bytes))
    }
}

impl BlobStore for Store {
    fn release(&mut self, digest: Digest, bytes: u64) {
        if let Ok(staged) = self.staged(digest) {
            staged.release(bytes);
        }
    }

    fn stage(&mut self, digest: Digest, size: u64, facts: BlobFacts) {
        if let Err(error) = self.stage_now(digest, size, facts) {
            self.report(Input::StoreFailed { digest, error });
        }
    }

    fn record(&mut self, digest: Digest, sum: PieceSum) {
        if let Err(error) = self.staged(digest).and_then(|staged| staged.record(&sum)) {
            self.report(Input::StoreFailed { digest, error });
        }
    }

    fn hash_piece(&mut self, op: OpId, digest: Digest, size: u64, piece: u32, from: Midstate) {
        self.blocking(move |store| {
            let result = store.hash_now(digest, size, piece, from);
            store.report(Input::PieceHashed { op, result });
        });
    }

    fn commit(&mut self, digest: Digest, facts: BlobFacts) {
        let mut blobs = self.blobs();
        let staged = match blobs.get(&digest) {
            Some(Blob::Staged(staged)) => Arc::clone(staged),
            // The commit that is under way reports.
            Some(Blob::Committing { .. }) => return,
            Some(Blob::Committed { .. }) => return self.report(Input::Committed { digest, result: Ok(()) }),
            None => return self.report(Input::Committed { digest, result: Err(StoreError::Missing) }),
        };
        blobs.insert(digest, Blob::Committing { staged: Arc::clone(&staged), doomed: false });
        drop(blobs);
        self.blocking(move |store| store.commit_now(&staged, facts));
    }

    fn discard(&mut self, digest: Digest) {
        let mut blobs = self.blobs();
        match blobs.get_mut(&digest) {
            Some(Blob::Staged(_)) => {
                if let Some(Blob::Staged(staged)) = blobs.remove(&digest) {
                    self.drop_staged(&staged, |_| {});
                }
            }
            Some(Blob::Committing { doomed, .. }) => *doomed = true,
            Some(Blob::Committed { .. }) | None => debug!(%digest, "nothing staged to discard"),
        }
    }

    fn evict(&mut self, digest: Digest) {
        let mut blobs = self.blobs();
        match blobs.get_mut(&digest) {
            Some(Blob::Committed { .. }) => {
                if let Some(Blob::Committed { readers, .. }) = blobs.remove(&digest) {
                    self.drop_committed(digest, &readers, move |store| store.report(Input::Evicted { digest }));
                }
            }
            // Reported when the commit is done.
            Some(Blob::Committing { doomed, .. }) => *doomed = true,
            Some(Blob::Staged(_)) | None => self.report(Input::Evicted { digest }),
        }
    }

    fn touch(&mut self, digest: Digest) {
        let path = self.inner.layout.blob(digest);
        // Reading rights are enough to set the times of a file that one owns.
        match File::open(&path).and_then(|file| file.set_modified(SystemTime::now())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(path = %path.display(), %error, "cannot note that a blob was used");
            }
            _ => {}
        }
    }

    fn read_manifest(&mut self, digest: Digest) {
        self.blocking(move |store| {
            let manifest::Manifest { media_type, children } = store.read_manifest_now(digest).unwrap_or_else(|error| {
                warn!(%digest, error = words(&error), "cannot read a manifest");
                manifest::Manifest::default()
            });
            store.report(Input::Manifest { digest, media_type, children });
        });
    }
}

/// Takes the directory for this agent alone, until the file is closed (by the kernel, if the agent is killed).
fn lock(layout: &Layout) -> io::Result<File> {
    let path = layout.lock();
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| explained("open the lock file", &path, &error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The number only helps to find the other agent; without it the message is still right.
            let _unreadable = file.read_to_string(&mut holder);
            let directory = layout.root().display();
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                format!(
                    "the store {directory} is in use by another agent (process {}); stop it or choose another directory",
                    holder.trim()
                ),
            ));
        }
        Err(TryLockError::Error(error)) => return Err(explained("lock", &path, &error)),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(|error| explained("write", &path, &error))?;
    Ok(file)
}

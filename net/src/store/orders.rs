//! What the core orders, carried out.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use longshore_core::digest::Digest;
use longshore_core::input::{BlobFacts, Hashed, Input, RecordedPiece, StoreError};
use longshore_core::names::OpId;
use longshore_core::output::Check;
use longshore_core::piece::Geometry;
use longshore_core::spine::Midstate;
use tokio::sync::watch;
use tracing::{debug, warn};

use super::failure::{failure, words};
use super::hash::PieceHasher;
use super::manifest::{MAX_MANIFEST_BYTES, Manifest, parse};
use super::reader::Released;
use super::recover::hash_stored;
use super::staging::Staged;
use super::{Blob, Store, commit, spine};
use crate::driver::BlobStore;

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

    fn record(&mut self, digest: Digest, piece: RecordedPiece) {
        if let Err(error) = self.staged(digest).and_then(|staged| staged.record(&piece)) {
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

    fn keep_spine(&mut self, digest: Digest, states: Vec<Midstate>) {
        self.blocking(move |store| {
            // Nobody misses it but peers that could check our pieces a little earlier.
            if let Err(error) = spine::write(&store.inner.layout, digest, &states) {
                warn!(%digest, %error, "cannot keep the spine of a blob");
            }
        });
    }

    fn read_spine(&mut self, digest: Digest) {
        self.blocking(move |store| {
            let states = match (store.reader(digest), store.open_file(digest)) {
                (Ok(reader), Ok((file, _))) => spine::read_or_make(&store.inner.layout, digest, reader.size(), &file),
                _ => Vec::new(),
            };
            store.report(Input::Spine { digest, states });
        });
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

    fn verify(&mut self, digest: Digest) {
        self.blocking(move |store| {
            let result = store.verify_now(digest);
            store.report(Input::Verified { digest, result });
        });
    }

    fn read_manifest(&mut self, digest: Digest) {
        self.blocking(move |store| {
            let Manifest { media_type, children } = store.read_manifest_now(digest).unwrap_or_else(|error| {
                warn!(%digest, error = words(&error), "cannot read a manifest");
                Manifest::default()
            });
            store.report(Input::Manifest { digest, media_type, children });
        });
    }
}

impl Store {
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
        let layout = &self.inner.layout;
        self.throw_away([layout.blob(digest), layout.sidecar(digest), layout.spine(digest)], then);
    }

    fn commit_now(&self, staged: &Arc<Staged>, facts: BlobFacts) {
        let digest = staged.digest;
        staged.set_open(false);
        let result = commit::commit(&self.inner.layout, staged, facts);
        if let Err(error) = &result {
            warn!(%digest, error = words(error), "cannot commit a blob");
        }
        let mut blobs = self.blobs();
        let doomed = matches!(blobs.remove(&digest), Some(Blob::Committing { doomed: true, .. }));
        let succeeded = result.is_ok();
        match (succeeded, doomed) {
            (true, false) => {
                blobs.insert(
                    digest,
                    Blob::Committed { size: staged.header.size, readers: Arc::downgrade(&staged.released) },
                );
                staged.released.send_replace(Released::Whole);
            }
            (false, false) => {
                staged.set_open(true);
                blobs.insert(digest, Blob::Staged(Arc::clone(staged)));
            }
            (_, true) => {}
        }
        // Under the lock, so that whatever the next order for this blob leads to is reported later.
        self.report(Input::Committed { digest, result });
        match (succeeded, doomed) {
            (true, true) => self.drop_committed(digest, &Arc::downgrade(&staged.released), move |store| {
                store.report(Input::Evicted { digest })
            }),
            (false, true) => self.drop_staged(staged, move |store| store.report(Input::Evicted { digest })),
            (_, false) => {}
        }
    }

    fn hash_now(&self, digest: Digest, size: u64, piece: u32, from: Midstate) -> Result<Midstate, StoreError> {
        let (file, path) = self.open_file(digest)?;
        let geometry = Geometry::of_blob(size);
        let hashed = hash_stored(&file, geometry, piece, PieceHasher::new(geometry, Check::From(from)))
            .map_err(|error| failure(&format!("read piece {piece} of"), &path, &error))?;
        match hashed {
            Hashed::Chained(midstate) => Ok(midstate),
            Hashed::Alone(_) => Err(StoreError::Io("a chained check gave no midstate".into())),
        }
    }

    fn verify_now(&self, digest: Digest) -> Result<bool, StoreError> {
        let size = self.reader(digest)?.size();
        let (file, path) = self.open_file(digest)?;
        Ok(spine::has_digest(&file, digest, size).unwrap_or_else(|error| {
            // containerd could not read it either.
            warn!(%digest, path = %path.display(), %error, "cannot read a stored blob");
            false
        }))
    }

    fn read_manifest_now(&self, digest: Digest) -> Result<Manifest, StoreError> {
        let reader = self.reader(digest)?;
        if reader.size() > MAX_MANIFEST_BYTES {
            let (size, limit) = (reader.size(), MAX_MANIFEST_BYTES);
            return Err(StoreError::Io(
                format!("{size} bytes are too many for a manifest, {limit} is the limit").into(),
            ));
        }
        let mut bytes = vec![0; usize::try_from(reader.size()).unwrap_or(0)];
        reader.read_at(&mut bytes, 0).map_err(|error| failure("read", &self.inner.layout.blob(digest), &error))?;
        Ok(parse(&bytes))
    }
}

//! Where things are in the store's directory.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use longshore_core::digest::Digest;

/// The paths below one store directory.
///
/// | path | what |
/// |---|---|
/// | `blobs/sha256/<hex>` | a complete blob |
/// | `blobs/sha256/<hex>.json` | its sidecar: size and facts |
/// | `blobs/sha256/<hex>.spine` | its midstates, 32 bytes each; may be missing |
/// | `staging/<hex>` | the sparse file of an incomplete blob |
/// | `staging/<hex>.pieces` | its record log: size and facts, then one line for each piece |
/// | `trash/<number>` | a file on its way out |
/// | `lock` | held by the agent that uses the directory |
#[derive(Debug)]
pub(super) struct Layout {
    root: PathBuf,
    next_trash: AtomicU64,
}

impl Layout {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), next_trash: AtomicU64::new(0) }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join("blobs").join("sha256")
    }

    pub(super) fn blob(&self, digest: Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub(super) fn sidecar(&self, digest: Digest) -> PathBuf {
        self.blobs().join(format!("{}.json", digest.hex()))
    }

    pub(super) fn spine(&self, digest: Digest) -> PathBuf {
        self.blobs().join(format!("{}.spine", digest.hex()))
    }

    pub(super) fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }

    pub(super) fn staged(&self, digest: Digest) -> PathBuf {
        self.staging().join(digest.hex())
    }

    pub(super) fn log(&self, digest: Digest) -> PathBuf {
        self.staging().join(format!("{}.pieces", digest.hex()))
    }

    pub(super) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    /// A name in the trash that nothing has; the trash is emptied when the store opens.
    pub(super) fn new_trash(&self) -> PathBuf {
        self.trash().join(self.next_trash.fetch_add(1, Ordering::Relaxed).to_string())
    }
}

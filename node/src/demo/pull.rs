//! Pulls an image as containerd does: manifest first, then three blobs at a time in the manifest's order, each through
//! the mirror with the registry as the host to fall back to (reference: containerd's mirror contract).

mod transfer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use longshore_core::digest::Digest;
use tokio::sync::watch;

use super::manifest::{Descriptor, Document};
use super::media_types;
use crate::http::client::Client;

/// Blobs that containerd fetches at a time (`max_concurrent_downloads`).
const BLOBS_AT_A_TIME: usize = 3;

/// Where one node pulls from.
#[derive(Clone, Debug)]
pub struct Puller {
    /// The client of this node.
    pub client: Client,
    /// The mirror's URL.
    pub mirror: String,
    /// The registry's URL.
    pub registry: String,
    /// The registry's host, as the image reference names it: the mirror's `ns`.
    pub namespace: String,
    /// The repository.
    pub repository: String,
    /// How far the pull is.
    pub progress: Arc<Progress>,
}

/// How far a pull is, for those who watch it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes of the whole image; 0 until the manifest is there.
    total: AtomicU64,
    /// Bytes that arrived.
    delivered: watch::Sender<u64>,
    fallbacks: AtomicU64,
    fallback_bytes: AtomicU64,
}

impl Progress {
    /// Bytes of the whole image; 0 until the manifest is there.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Bytes that arrived.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        *self.delivered.borrow()
    }

    /// Requests that the registry answered because the mirror did not.
    #[must_use]
    pub fn fallbacks(&self) -> u64 {
        self.fallbacks.load(Ordering::Relaxed)
    }

    /// Bytes that came directly from the registry.
    #[must_use]
    pub fn fallback_bytes(&self) -> u64 {
        self.fallback_bytes.load(Ordering::Relaxed)
    }

    /// Resolves when this share of the image, in thousandths, has arrived.
    pub async fn reached(&self, thousandths: u64) {
        let mut delivered = self.delivered.subscribe();
        let far_enough = |bytes: &u64| {
            let total = self.total();
            total > 0 && *bytes >= total / 1000 * thousandths
        };
        // The sender is in `self`: it cannot be gone.
        let _ = delivered.wait_for(far_enough).await;
    }

    fn expect(&self, bytes: u64) {
        self.total.store(bytes, Ordering::Relaxed);
    }

    fn add(&self, bytes: u64) {
        self.delivered.send_modify(|delivered| *delivered += bytes);
    }
}

/// A pull failed as it would have in containerd.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// No host gave the blob.
    #[error("nobody gives {what}: {attempts}")]
    Nowhere {
        /// What was asked for.
        what: String,
        /// What each host said.
        attempts: String,
    },
    /// Bodies ended short too often in a row.
    #[error("the body of {what} ended short {times} times in a row at byte {offset}, the last time from {host}")]
    Short {
        /// What was asked for.
        what: String,
        /// How often.
        times: u32,
        /// How far the blob is.
        offset: u64,
        /// Who sent it.
        host: String,
    },
    /// A connection broke in a way after which containerd does not try again.
    #[error("the body of {what} from {host} broke at byte {offset}: {detail}; containerd gives up here")]
    Broken {
        /// What was asked for.
        what: String,
        /// Who sent it.
        host: String,
        /// How far the blob is.
        offset: u64,
        /// What was found.
        detail: String,
    },
    /// The bytes are not those of the digest, or not as many.
    #[error("{what} is wrong: {detail}")]
    Wrong {
        /// What was asked for.
        what: String,
        /// What was found.
        detail: String,
    },
    /// A document that should be a manifest.
    #[error("{what} is no manifest: {detail}")]
    NoManifest {
        /// What was asked for.
        what: String,
        /// What was found.
        detail: String,
    },
}

impl Puller {
    /// Pulls the image with this manifest or index, and checks every byte of it. Returns its size: all that was pulled.
    ///
    /// # Errors
    /// What would have failed the pull in containerd.
    pub async fn image(&self, root: Digest) -> Result<u64, PullError> {
        let mut documents = 0;
        let mut document = self.document(root, None, &mut documents).await?;
        if let Some(descriptor) = document.manifest_for_this_machine().cloned() {
            document = self.document(descriptor.digest, Some(descriptor.size), &mut documents).await?;
        }
        let mut children: Vec<Descriptor> = Vec::new();
        for child in document.children() {
            // A layer that an image has twice is fetched once.
            if !children.iter().any(|known| known.digest == child.digest) {
                children.push(child.clone());
            }
        }
        let total = documents + children.iter().map(|child| child.size).sum::<u64>();
        self.progress.expect(total);
        stream::iter(&children)
            .map(|child| self.fetch("blobs", child.digest, Some(child.size), None))
            .boxed()
            .buffer_unordered(BLOBS_AT_A_TIME)
            .try_collect::<Vec<_>>()
            .await?;
        Ok(total)
    }

    async fn document(&self, digest: Digest, size: Option<u64>, bytes: &mut u64) -> Result<Document, PullError> {
        let mut text = Vec::new();
        *bytes += self.fetch("manifests", digest, size, Some(&mut text)).await?;
        let no_manifest = |detail: String| PullError::NoManifest { what: digest.to_string(), detail };
        let document = Document::parse(&text).map_err(|error| no_manifest(error.to_string()))?;
        match document.media_type.as_deref() {
            Some(other) if !media_types::is_manifest(other) && !media_types::is_index(other) => {
                Err(no_manifest(format!("it says that it is {other:?}")))
            }
            _ => Ok(document),
        }
    }
}

#[cfg(test)]
mod tests;

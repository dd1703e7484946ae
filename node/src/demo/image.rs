//! An image that the embedded registry can serve: a root digest and the blobs that hang on it.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use longshore_core::digest::Digest;

use super::synthetic::Layer;

/// An image with everything that it consists of.
#[derive(Clone, Debug)]
pub struct Image {
    /// Repository that it is served under.
    pub repository: String,
    /// Its tag.
    pub tag: String,
    /// Its manifest or index.
    pub root: Digest,
    /// Every blob, manifests included.
    pub blobs: BTreeMap<Digest, Blob>,
}

/// One blob.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Size in bytes.
    pub size: u64,
    /// Its media type.
    pub media_type: Arc<str>,
    /// Served under `/manifests/` (too).
    pub manifest: bool,
    /// Its bytes.
    pub contents: Contents,
}

/// Where a blob's bytes come from.
#[derive(Clone, Debug)]
pub enum Contents {
    /// They are in memory.
    Memory(Bytes),
    /// They are made when they are read.
    Synthetic(Layer),
    /// They are a file.
    File(PathBuf),
}

impl Blob {
    /// A document, with its digest.
    #[must_use]
    pub fn document(json: &serde_json::Value, media_type: &str, manifest: bool) -> (Digest, Self) {
        let bytes = Bytes::from(json.to_string());
        let blob = Self {
            size: bytes.len() as u64,
            media_type: media_type.into(),
            manifest,
            contents: Contents::Memory(bytes.clone()),
        };
        (digest_of(&bytes), blob)
    }

    /// Reads `len` bytes at `offset`, which have to be inside the blob.
    ///
    /// # Errors
    /// When a file cannot be read, or is shorter than it was.
    pub fn read(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        match &self.contents {
            Contents::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                Ok(bytes.slice(start..start.saturating_add(len).min(bytes.len())))
            }
            Contents::Synthetic(layer) => Ok(layer.read(offset, len).into()),
            Contents::File(path) => {
                let mut buffer = vec![0; len];
                std::fs::File::open(path)?.read_exact_at(&mut buffer, offset)?;
                Ok(buffer.into())
            }
        }
    }
}

/// The digest of some bytes.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> Digest {
    use sha2::Digest as _;
    Digest::from_bytes(sha2::Sha256::digest(bytes).into())
}

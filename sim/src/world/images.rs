//! What the origin has: images, and the blobs that they are made of.

use longshore_core::digest::Digest;
use longshore_core::input::Child;
use longshore_core::names::Kind;
use longshore_core::piece::Geometry;
use longshore_core::spine::Midstate;

use super::World;
use crate::content::{self, Content};

/// A blob that the origin has.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What it is.
    pub kind: Kind,
    /// What it refers to, if it is a manifest.
    pub children: Vec<Child>,
    pub(super) label: Content,
    pub(super) spine: Vec<Midstate>,
}

/// An image that the origin has.
#[derive(Clone, Debug)]
pub struct Image {
    /// The manifest.
    pub manifest: Digest,
    /// Configuration and layers, in manifest order.
    pub children: Vec<Child>,
    /// containerd has deleted all it had when it pulls this.
    pub fresh: bool,
}

impl Image {
    /// Bytes of the whole image, without the manifest.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.children.iter().map(|child| child.size).sum()
    }

    /// Pieces of the whole image, without the manifest.
    #[must_use]
    pub fn pieces(&self) -> u32 {
        self.children.iter().map(|child| Geometry::of_blob(child.size).pieces()).sum()
    }
}

impl World {
    /// Puts an image with layers of these sizes (bytes) into the origin.
    pub fn publish(&mut self, layers: &[u64]) -> Image {
        self.publish_on(&[], layers)
    }

    /// The same, on top of layers of another image.
    pub fn publish_on(&mut self, base: &[Child], layers: &[u64]) -> Image {
        let mut children = Vec::new();
        for (position, size) in core::iter::once(&2000).chain(layers).enumerate() {
            let kind = if position == 0 { Kind::Config } else { Kind::Blob };
            let digest = self.publish_blob(*size, kind, Vec::new());
            children.push(Child { digest, size: *size, kind });
            if position == 0 {
                children.extend(base.iter().filter(|child| child.kind == Kind::Blob).cloned());
            }
        }
        let manifest = self.publish_blob(1500, Kind::Manifest, children.clone());
        Image { manifest, children, fresh: false }
    }

    fn publish_blob(&mut self, size: u64, kind: Kind, children: Vec<Child>) -> Digest {
        let label = self.blobs.len() as u64 + 1;
        let (digest, spine) = content::spine(size, label);
        self.record(|record| record.blob(digest, size));
        self.blobs.insert(digest, Blob { digest, size, kind, children, label, spine });
        digest
    }
}

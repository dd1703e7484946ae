//! What a stored manifest refers to, told by its contents.

use std::sync::Arc;

use longshore_core::digest::Digest;
use longshore_core::input::Child;
use longshore_core::names::Kind;
use serde::Deserialize;

/// The largest manifest that is read, in bytes. Registries refuse manifests over 4 MiB (OCI distribution specification,
/// "Pushing Manifests"); this leaves room for those that do not.
pub const MAX_MANIFEST_BYTES: u64 = 16 * 1024 * 1024;

/// A manifest as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Its own media type, if it says.
    pub media_type: Option<Arc<str>>,
    /// Configuration, then layers in order. Empty for an index.
    pub children: Vec<Child>,
}

/// The fields that tell manifests from indexes, in OCI's and in Docker's second schema, where they are named alike.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: Option<String>,
    digest: String,
    size: u64,
}

impl Descriptor {
    /// Layers that registries do not have: OCI's non-distributable ones and Docker's foreign ones.
    fn is_elsewhere(&self) -> bool {
        self.media_type.as_deref().is_some_and(|media_type| {
            media_type.starts_with("application/vnd.oci.image.layer.nondistributable.")
                || media_type.starts_with("application/vnd.docker.image.rootfs.foreign.")
        })
    }

    fn child(&self, kind: Kind) -> Option<Child> {
        // Digests of other algorithms cannot be verified piece by piece: containerd gets them elsewhere.
        let digest: Digest = self.digest.parse().ok()?;
        (!self.is_elsewhere()).then_some(Child { digest, size: self.size, kind })
    }
}

/// Reads a manifest. Anything that is none has no children.
#[must_use]
pub fn parse(bytes: &[u8]) -> Manifest {
    let Ok(document) = serde_json::from_slice::<Document>(bytes) else { return Manifest::default() };
    let media_type = document.media_type.map(Into::into);
    let (None, Some(config), Some(layers)) = (document.manifests, document.config, document.layers) else {
        return Manifest { media_type, children: Vec::new() };
    };
    let config = config.child(Kind::Config);
    let layers = layers.iter().filter_map(|layer| layer.child(Kind::Blob));
    Manifest { media_type, children: config.into_iter().chain(layers).collect() }
}

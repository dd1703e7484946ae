//! Reads what a manifest or an index refers to.

use longshore_core::digest::Digest;
use serde::Deserialize;

use super::media_types;

/// Largest manifest that is read, in bytes: containerd's limit, 4 * 1048 * 1048, rounded up.
pub const MOST_MANIFEST_BYTES: u64 = 5 << 20;

/// A manifest or an index, as far as a pull needs it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// What it says that it is.
    pub media_type: Option<String>,
    /// The manifests of an index.
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
    /// The configuration of an image.
    pub config: Option<Descriptor>,
    /// The layers of an image.
    #[serde(default)]
    pub layers: Vec<Descriptor>,
}

/// A reference to a blob.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Its media type.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The platform that it is for.
    pub platform: Option<Platform>,
    /// Annotations; a layout's index has the tag among them.
    #[serde(default)]
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// A platform.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Platform {
    /// Architecture, such as amd64.
    #[serde(default)]
    pub architecture: String,
    /// Operating system.
    #[serde(default)]
    pub os: String,
}

impl Document {
    /// Parses a document.
    ///
    /// # Errors
    /// When it is no JSON of this form.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The manifest for this machine; the first one for Linux if there is none; else the first one.
    #[must_use]
    pub fn manifest_for_this_machine(&self) -> Option<&Descriptor> {
        let is = |descriptor: &&Descriptor, architecture: Option<&str>| {
            descriptor.platform.as_ref().is_some_and(|platform| {
                platform.os == "linux" && architecture.is_none_or(|wanted| platform.architecture == wanted)
            })
        };
        let exact = self.manifests.iter().find(|descriptor| is(descriptor, Some(media_types::architecture())));
        exact.or_else(|| self.manifests.iter().find(|descriptor| is(descriptor, None))).or(self.manifests.first())
    }

    /// Configuration and layers, in the order of the manifest.
    pub fn children(&self) -> impl Iterator<Item = &Descriptor> {
        self.config.iter().chain(&self.layers)
    }
}

//! What a stored manifest refers to, told by its contents.

use std::sync::Arc;

use longshore_core::digest::Digest;
use longshore_core::input::Child;
use longshore_core::names::Kind;
use serde::Deserialize;

/// The largest manifest that is read, in bytes. Registries refuse manifests over 4 MiB (OCI distribution specification,
/// "Pushing Manifests"); this leaves room for those that do not.
pub const MAX_MANIFEST_BYTES: u64 = 16 * 1024 * 1024;

/// Most children that are reported: overlayfs stacks at most 500 layers (Linux, `OVL_MAX_STACK`), so that no image that can
/// be run has more. What is left out is only fetched later, when containerd asks for it.
const MAX_CHILDREN: usize = 512;

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

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Reads a manifest. Anything that is none has no children.
#[must_use]
pub fn parse(bytes: &[u8]) -> Manifest {
    let Ok(document) = serde_json::from_slice::<Document>(bytes) else { return Manifest::default() };
    // OCI lets the media type be left out; then the fields say which of the two kinds it is.
    let implied = match (&document.manifests, &document.config, &document.layers) {
        (Some(_), None, None) => Some(OCI_INDEX),
        (None, Some(_), Some(_)) => Some(OCI_MANIFEST),
        _ => None,
    };
    let media_type = document.media_type.map(Into::into).or(implied.map(Into::into));
    let (None, Some(config), Some(layers)) = (document.manifests, document.config, document.layers) else {
        return Manifest { media_type, children: Vec::new() };
    };
    let config = config.child(Kind::Config);
    let layers = layers.iter().filter_map(|layer| layer.child(Kind::Blob));
    Manifest { media_type, children: config.into_iter().chain(layers).take(MAX_CHILDREN).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn digest(number: u8) -> Digest {
        Digest::from_bytes([number; 32])
    }

    fn child(number: u8, size: u64, kind: Kind) -> Child {
        Child { digest: digest(number), size, kind }
    }

    fn descriptor(media_type: &str, number: u8, size: u64) -> String {
        format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":{size}}}"#, digest(number))
    }

    #[test]
    fn an_oci_manifest_gives_its_configuration_and_then_its_layers_in_order() {
        let text = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{},{}],"annotations":{{"a":"b"}}}}"#,
            descriptor("application/vnd.oci.image.config.v1+json", 9, 900),
            descriptor("application/vnd.oci.image.layer.v1.tar+gzip", 2, 20),
            descriptor("application/vnd.oci.image.layer.v1.tar+zstd", 1, 10),
        );
        let expected = vec![child(9, 900, Kind::Config), child(2, 20, Kind::Blob), child(1, 10, Kind::Blob)];
        assert_eq!(parse(text.as_bytes()), Manifest { media_type: Some(OCI_MANIFEST.into()), children: expected });
    }

    #[test]
    fn a_docker_manifest_is_read_and_foreign_layers_are_not_asked_for() {
        let media_type = "application/vnd.docker.distribution.manifest.v2+json";
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{},"layers":[{},{},{}]}}"#,
            descriptor("application/vnd.docker.container.image.v1+json", 9, 900),
            descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", 1, 10),
            descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", 2, 20),
            descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", 3, 30),
        );
        let expected = vec![child(9, 900, Kind::Config), child(3, 30, Kind::Blob)];
        assert_eq!(parse(text.as_bytes()), Manifest { media_type: Some(media_type.into()), children: expected });
    }

    #[test]
    fn an_index_has_no_children_with_or_without_a_media_type() {
        let entry = descriptor("application/vnd.oci.image.manifest.v1+json", 1, 10);
        for media_type in [
            None,
            Some("application/vnd.oci.image.index.v1+json"),
            Some("application/vnd.docker.distribution.manifest.list.v2+json"),
        ] {
            let field = media_type.map_or(String::new(), |media_type| format!(r#""mediaType":"{media_type}","#));
            let text = format!(r#"{{{field}"schemaVersion":2,"manifests":[{entry}]}}"#);
            let expected = Manifest { media_type: Some(media_type.unwrap_or(OCI_INDEX).into()), children: vec![] };
            assert_eq!(parse(text.as_bytes()), expected);
        }
    }

    #[test]
    fn a_document_that_is_both_is_an_index() {
        // CVE-2021-41190: such documents are read differently by different programs; nothing is fetched on their word.
        let layer = descriptor("application/vnd.oci.image.layer.v1.tar", 1, 10);
        let text = format!(r#"{{"manifests":[],"config":{layer},"layers":[{layer}]}}"#);
        assert_eq!(parse(text.as_bytes()), Manifest::default());
    }

    #[test]
    fn digests_of_other_algorithms_are_skipped() {
        let text = format!(
            r#"{{"config":{},"layers":[{{"digest":"sha512:{}","size":1}},{{"digest":"nonsense","size":2}}]}}"#,
            descriptor("application/vnd.oci.image.config.v1+json", 9, 900),
            "ab".repeat(64),
        );
        assert_eq!(parse(text.as_bytes()).children, vec![child(9, 900, Kind::Config)]);
    }

    #[test]
    fn what_is_no_manifest_has_no_children() {
        let deep = "[".repeat(100_000);
        for text in
            ["", "{}", "null", "[]", "not JSON", r#"{"config":{"Env":[]},"layers":[]}"#, r#"{"layers":[]}"#, &deep]
        {
            assert_eq!(parse(text.as_bytes()).children, vec![], "{}", &text[..text.len().min(40)]);
        }
    }

    #[test]
    fn no_more_children_are_reported_than_an_image_can_have() {
        let layer = descriptor("application/vnd.oci.image.layer.v1.tar", 1, 10);
        let text = format!(r#"{{"config":{layer},"layers":[{}]}}"#, vec![layer.clone(); 10_000].join(","));
        assert_eq!(parse(text.as_bytes()).children.len(), MAX_CHILDREN);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}

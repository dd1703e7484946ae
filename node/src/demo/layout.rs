//! An image from an OCI layout directory, as `skopeo copy ... oci:DIR:TAG` and `umoci` write it.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use longshore_core::digest::Digest;

use super::image::{Blob, Contents, Image};
use super::manifest::{Descriptor, Document, MOST_MANIFEST_BYTES};
use super::media_types;

/// The annotation that holds a tag in a layout's index.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// How deep indexes may be nested: an index of indexes of manifests.
const DEEPEST: usize = 3;

/// A layout could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file of it.
    #[error(
        "cannot read {path}: {source}; expected an OCI layout (skopeo copy docker://IMAGE oci:{directory}:TAG makes one)"
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// The layout's directory.
        directory: PathBuf,
        /// What was found.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} is no {expected}: {detail}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
        /// What was found.
        detail: String,
    },
    /// The tag is not there, or none was named and there are several.
    #[error("{directory} has {found}; name one of its tags, as in --image {directory}:TAG")]
    Tag {
        /// The layout's directory.
        directory: PathBuf,
        /// The tags that there are.
        found: String,
    },
}

/// Reads the image with this tag; without a tag, the only image that there is.
///
/// # Errors
/// When the directory is no layout, lacks a blob of the image, or does not have one image of this tag.
pub fn image(directory: &Path, tag: Option<&str>) -> Result<Image, LayoutError> {
    let layout = Layout { directory };
    let index = layout.document(&directory.join("index.json"), "index of an OCI layout")?;
    let root = layout.choose(&index, tag)?;
    let mut blobs = BTreeMap::new();
    layout.collect(root, DEEPEST, &mut blobs)?;
    let name = directory.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let clean: String = name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
    let clean = clean.trim_matches('-');
    Ok(Image {
        repository: format!("layout/{}", if clean.is_empty() { "image" } else { clean }),
        tag: root.annotations.get(REF_NAME).map_or("latest", String::as_str).to_owned(),
        root: root.digest,
        blobs,
    })
}

struct Layout<'a> {
    directory: &'a Path,
}

impl Layout<'_> {
    fn blob_path(&self, digest: Digest) -> PathBuf {
        self.directory.join("blobs/sha256").join(digest.hex())
    }

    fn document(&self, path: &Path, expected: &'static str) -> Result<Document, LayoutError> {
        let failed = |source| LayoutError::Io { path: path.to_owned(), directory: self.directory.to_owned(), source };
        let mut bytes = Vec::new();
        std::fs::File::open(path).map_err(failed)?.take(MOST_MANIFEST_BYTES).read_to_end(&mut bytes).map_err(failed)?;
        Document::parse(&bytes).map_err(|error| LayoutError::Malformed {
            path: path.to_owned(),
            expected,
            detail: error.to_string(),
        })
    }

    fn choose<'d>(&self, index: &'d Document, tag: Option<&str>) -> Result<&'d Descriptor, LayoutError> {
        let tag_of = |descriptor: &Descriptor| descriptor.annotations.get(REF_NAME).cloned();
        let mut matching =
            index.manifests.iter().filter(|descriptor| tag.is_none() || tag_of(descriptor).as_deref() == tag);
        match (matching.next(), matching.next()) {
            (Some(only), None) => Ok(only),
            _ => {
                let tags: Vec<_> = index.manifests.iter().filter_map(tag_of).collect();
                let found = match (index.manifests.len(), tags.is_empty()) {
                    (0, _) => "no image".to_owned(),
                    (count, true) => format!("{count} images without tags"),
                    (count, false) => format!("{count} images with the tags {}", tags.join(", ")),
                };
                Err(LayoutError::Tag { directory: self.directory.to_owned(), found })
            }
        }
    }

    /// Adds a blob and everything that hangs on it.
    fn collect(
        &self,
        descriptor: &Descriptor,
        depth: usize,
        blobs: &mut BTreeMap<Digest, Blob>,
    ) -> Result<(), LayoutError> {
        let path = self.blob_path(descriptor.digest);
        let media_type = descriptor.media_type.as_str();
        let manifest = media_types::is_index(media_type) || media_types::is_manifest(media_type);
        let found = std::fs::metadata(&path).map(|metadata| metadata.len());
        let size = found.map_err(|source| LayoutError::Io {
            path: path.clone(),
            directory: self.directory.to_owned(),
            source,
        })?;
        if size != descriptor.size {
            let detail = format!("it has {size} bytes, and the manifest says {}", descriptor.size);
            return Err(LayoutError::Malformed { path, expected: "complete blob", detail });
        }
        let contents = Contents::File(path.clone());
        blobs.insert(descriptor.digest, Blob { size, media_type: media_type.into(), manifest, contents });
        if !manifest || depth == 0 {
            return Ok(());
        }
        let document = self.document(&path, "manifest")?;
        for child in document.children() {
            self.collect(child, depth - 1, blobs)?;
        }
        for child in &document.manifests {
            // A layout may hold one platform of an index only; a puller takes what is there.
            if self.blob_path(child.digest).exists() {
                self.collect(child, depth - 1, blobs)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::synthetic;

    fn write_layout(directory: &Path, tags: &[&str]) -> Digest {
        let image = synthetic::image(3, 32 << 10, 2);
        let blobs = directory.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        for (digest, blob) in &image.blobs {
            std::fs::write(blobs.join(digest.hex()), blob.read(0, blob.size as usize).unwrap()).unwrap();
        }
        let manifests: Vec<_> = tags
            .iter()
            .map(|tag| {
                serde_json::json!({
                    "mediaType": media_types::MANIFEST, "digest": image.root, "size": image.blobs[&image.root].size,
                    "annotations": { REF_NAME: tag },
                })
            })
            .collect();
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": manifests });
        std::fs::write(directory.join("index.json"), index.to_string()).unwrap();
        image.root
    }

    #[test]
    fn a_layout_with_one_image_needs_no_tag() {
        let directory = tempfile::tempdir().unwrap();
        let root = write_layout(directory.path(), &["v1"]);
        let image = image(directory.path(), None).unwrap();
        assert_eq!((image.root, image.tag.as_str(), image.blobs.len()), (root, "v1", 4));
        assert!(image.blobs[&root].manifest);
    }

    #[test]
    fn a_layout_with_several_images_lists_their_tags() {
        let directory = tempfile::tempdir().unwrap();
        write_layout(directory.path(), &["v1", "v2"]);
        let error = image(directory.path(), None).unwrap_err().to_string();
        assert!(error.contains("v1, v2"), "{error}");
        assert_eq!(image(directory.path(), Some("v2")).unwrap().tag, "v2");
        assert!(image(directory.path(), Some("v3")).unwrap_err().to_string().contains("v1, v2"));
    }

    #[test]
    fn what_is_no_layout_or_is_damaged_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(image(directory.path(), None).unwrap_err().to_string().contains("index.json"));
        let root = write_layout(directory.path(), &["v1"]);
        let path = directory.path().join("blobs/sha256").join(root.hex());
        std::fs::write(&path, "{").unwrap();
        assert!(image(directory.path(), None).unwrap_err().to_string().contains("it has 1 bytes"));
        std::fs::remove_file(&path).unwrap();
        assert!(image(directory.path(), None).unwrap_err().to_string().contains("cannot read"));
    }
}

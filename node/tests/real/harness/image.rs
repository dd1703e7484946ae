//! Images that really run: busybox and layers of random bytes, made with umoci, pushed with skopeo.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore as _, SeedableRng as _};
use serde_json::Value;

use super::lab::{BUSYBOX, Lab};
use super::process::run;

/// One blob of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    /// `sha256:...`
    pub(crate) digest: String,
    /// Bytes.
    pub(crate) size: u64,
}

impl Blob {
    fn from_descriptor(descriptor: &Value) -> Self {
        Self {
            digest: descriptor["digest"].as_str().expect("a descriptor has a digest").to_owned(),
            size: descriptor["size"].as_u64().expect("a descriptor has a size"),
        }
    }

    /// The hexadecimal part of the digest.
    pub(crate) fn hex(&self) -> &str {
        self.digest.strip_prefix("sha256:").expect("images here are hashed with SHA-256")
    }
}

/// An image in an OCI layout on disk.
pub(crate) struct Image {
    layout: PathBuf,
    /// The manifest; its digest names the image.
    pub(crate) manifest: Blob,
    /// The configuration.
    pub(crate) config: Blob,
    /// The layers in manifest order: busybox first, then the ones asked for.
    pub(crate) layers: Vec<Blob>,
}

const TAG: &str = "v1";

impl Image {
    /// An image of busybox and one layer for each size. Layer `n` holds `/data-n`: that many seeded, incompressible bytes.
    pub(crate) fn build(lab: &Lab, seed: u64, layer_bytes: &[u64]) -> Self {
        let directory = lab.directory(&format!("image-{seed}"));
        let layout = directory.join("layout");
        let layout_text = layout.to_str().expect("temporary paths are text");
        let name = format!("{layout_text}:{TAG}");
        run("umoci", &["init", "--layout", layout_text], &directory);
        run("umoci", &["new", "--image", &name], &directory);

        let root = directory.join("root/bin");
        std::fs::create_dir_all(&root).expect("the lab can be written to");
        std::fs::copy(BUSYBOX, root.join("busybox")).expect("busybox can be copied");
        std::os::unix::fs::symlink("busybox", root.join("sh")).expect("the lab can be written to");
        run("umoci", &["insert", "--image", &name, "root", "/"], &directory);

        let mut random = ChaCha8Rng::seed_from_u64(seed);
        for (number, bytes) in layer_bytes.iter().enumerate() {
            let file = format!("data-{number}");
            write_random(&directory.join(&file), *bytes, &mut random);
            run("umoci", &["insert", "--image", &name, &file, &format!("/{file}")], &directory);
        }
        run("umoci", &["config", "--image", &name, "--config.cmd", "/bin/sh"], &directory);
        Self::open(layout)
    }

    fn open(layout: PathBuf) -> Self {
        let index = read_json(&layout.join("index.json"));
        let manifest = Blob::from_descriptor(&index["manifests"][0]);
        let content = read_json(&layout.join("blobs/sha256").join(manifest.hex()));
        let layers = content["layers"].as_array().expect("a manifest has layers");
        Self {
            config: Blob::from_descriptor(&content["config"]),
            layers: layers.iter().map(Blob::from_descriptor).collect(),
            manifest,
            layout,
        }
    }

    /// Pushes it as `127.0.0.1:port/repository:v1`; `user` is `name:password`.
    pub(crate) fn push(&self, port: u16, repository: &str, user: Option<&str>) {
        let source = format!("oci:{}:{TAG}", self.layout.display());
        let target = format!("docker://127.0.0.1:{port}/{repository}:{TAG}");
        let mut arguments = vec!["copy", "--quiet", "--dest-tls-verify=false"];
        if let Some(user) = user {
            arguments.extend(["--dest-creds", user]);
        }
        arguments.extend([source.as_str(), target.as_str()]);
        run("skopeo", &arguments, self.layout.parent().expect("the layout is in a directory of the lab"));
    }

    /// The reference by tag at a registry.
    pub(crate) fn by_tag(port: u16, repository: &str) -> String {
        format!("127.0.0.1:{port}/{repository}:{TAG}")
    }

    /// The reference by digest at a registry.
    pub(crate) fn by_digest(&self, port: u16, repository: &str) -> String {
        format!("127.0.0.1:{port}/{repository}@{}", self.manifest.digest)
    }

    /// The largest layer.
    pub(crate) fn largest_layer(&self) -> &Blob {
        self.layers.iter().max_by_key(|blob| blob.size).expect("every image here has a layer")
    }

    /// Manifest, configuration and layers.
    pub(crate) fn blobs(&self) -> Vec<Blob> {
        [&self.manifest, &self.config].into_iter().chain(&self.layers).cloned().collect()
    }

    /// Bytes of all blobs.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.blobs().iter().map(|blob| blob.size).sum()
    }

    /// The bytes of one blob.
    pub(crate) fn read(&self, blob: &Blob) -> Vec<u8> {
        let path = self.layout.join("blobs/sha256").join(blob.hex());
        std::fs::read(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
    }
}

fn read_json(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{} is not JSON: {error}", path.display()))
}

fn write_random(path: &Path, bytes: u64, random: &mut ChaCha8Rng) {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).expect("the lab can be written to"));
    let mut left = bytes;
    let mut buffer = vec![0; 64 * 1024];
    while left > 0 {
        let chunk = left.min(buffer.len() as u64) as usize;
        random.fill_bytes(&mut buffer[..chunk]);
        file.write_all(&buffer[..chunk]).expect("the lab can be written to");
        left -= chunk as u64;
    }
    file.flush().expect("the lab can be written to");
}

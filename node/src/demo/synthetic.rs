//! A synthetic image: valid for a container runtime, incompressible, the same for the same seed, and never in memory.

use std::collections::BTreeMap;

use longshore_core::digest::Digest;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use serde_json::json;
use sha2::Digest as _;

use super::image::{Blob, Contents, Image};
use super::media_types;

/// Bytes of a tar block.
const BLOCK: u64 = 512;
/// Bytes that are made at a time.
const CHUNK: usize = 64 << 10;
/// Two empty blocks end a tar archive.
const TRAILER: u64 = 2 * BLOCK;

/// A layer: a tar archive with one file of random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    seed: u64,
    number: u32,
    size: u64,
}

impl Layer {
    /// The layer of about `bytes` bytes: a whole number of tar blocks, at least four.
    #[must_use]
    pub fn new(seed: u64, number: u32, bytes: u64) -> Self {
        Self { seed, number, size: (bytes / BLOCK).max(4) * BLOCK }
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    fn file_size(&self) -> u64 {
        self.size - BLOCK - TRAILER
    }

    /// Makes `len` bytes at `offset`; less at the end.
    #[must_use]
    pub fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let end = offset.saturating_add(len as u64).min(self.size);
        let mut bytes = Vec::with_capacity(end.saturating_sub(offset) as usize);
        let mut position = offset;
        while position < end {
            let number = position / CHUNK as u64;
            let start = number * CHUNK as u64;
            let stop = end.min(start + CHUNK as u64);
            bytes.extend_from_slice(&self.chunk(number)[(position - start) as usize..(stop - start) as usize]);
            position = stop;
        }
        bytes
    }

    /// The bytes of one chunk of the archive: random ones, with the header at the start and zeros at the end.
    fn chunk(&self, number: u64) -> Vec<u8> {
        let mut chunk = keystream(self.seed, self.number, number);
        if number == 0 {
            chunk[..BLOCK as usize].copy_from_slice(&self.header());
        }
        let file_end = (self.size - TRAILER).saturating_sub(number * CHUNK as u64);
        if let Some(trailer) = usize::try_from(file_end).ok().and_then(|from| chunk.get_mut(from..)) {
            trailer.fill(0);
        }
        chunk
    }

    /// The ustar header of the file.
    fn header(&self) -> [u8; BLOCK as usize] {
        let mut header = [0; BLOCK as usize];
        let mut put = |offset: usize, text: &str| header[offset..offset + text.len()].copy_from_slice(text.as_bytes());
        put(0, &format!("longshore-layer-{:03}", self.number));
        put(100, "0000644\0");
        put(108, "0000000\0");
        put(116, "0000000\0");
        put(124, &format!("{:011o}\0", self.file_size()));
        put(136, "00000000000\0");
        // The sum counts its own field as blanks.
        put(148, "        ");
        put(156, "0");
        put(257, "ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        header
    }

    /// Its digest: makes and hashes all of it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hasher = sha2::Sha256::new();
        let mut offset = 0;
        while offset < self.size {
            let bytes = self.read(offset, CHUNK);
            hasher.update(&bytes);
            offset += bytes.len() as u64;
        }
        Digest::from_bytes(hasher.finalize().into())
    }
}

/// A chunk of ChaCha20's key stream: zeros, encrypted. `ring` does it in assembler, which is fast in debug builds too;
/// the generators of `rand_chacha` are generic code and twenty times slower there.
fn keystream(seed: u64, layer: u32, chunk: u64) -> Vec<u8> {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut nonce = [0; 12];
    nonce[..4].copy_from_slice(&layer.to_le_bytes());
    nonce[4..].copy_from_slice(&chunk.to_le_bytes());
    let key = UnboundKey::new(&CHACHA20_POLY1305, &key).expect("the key has 32 bytes");
    let mut bytes = vec![0; CHUNK];
    let sealed =
        LessSafeKey::new(key).seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut bytes);
    let _unused_tag = sealed.expect("a chunk is far below the cipher's limit of 256 GiB");
    bytes
}

/// The image of this seed with about `bytes` bytes in `layers` layers.
///
/// Takes time, a second for a gigabyte: every byte is hashed. Not for a thread of the runtime.
#[must_use]
pub fn image(seed: u64, bytes: u64, layers: usize) -> Image {
    let share = bytes / layers.max(1) as u64;
    let layers: Vec<_> =
        (0..u32::try_from(layers).unwrap_or(u32::MAX)).map(|number| Layer::new(seed, number, share)).collect();
    let digests: Vec<Digest> = std::thread::scope(|scope| {
        let threads: Vec<_> = layers.iter().map(|layer| scope.spawn(|| layer.digest())).collect();
        threads.into_iter().map(|thread| thread.join().expect("hashing does not panic")).collect()
    });
    let mut blobs = BTreeMap::new();
    let mut descriptors = Vec::new();
    for (layer, digest) in layers.iter().zip(&digests) {
        descriptors.push(json!({ "mediaType": media_types::LAYER, "digest": digest, "size": layer.size() }));
        let contents = Contents::Synthetic(*layer);
        blobs.insert(
            *digest,
            Blob { size: layer.size(), media_type: media_types::LAYER.into(), manifest: false, contents },
        );
    }
    let config = json!({
        "architecture": media_types::architecture(),
        "os": "linux",
        "config": {},
        // The layers are not compressed: their digests are those of their contents.
        "rootfs": { "type": "layers", "diff_ids": digests },
    });
    let (config_digest, config) = Blob::document(&config, media_types::CONFIG, false);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_types::MANIFEST,
        "config": { "mediaType": media_types::CONFIG, "digest": config_digest, "size": config.size },
        "layers": descriptors,
    });
    let (root, manifest) = Blob::document(&manifest, media_types::MANIFEST, true);
    blobs.insert(config_digest, config);
    blobs.insert(root, manifest);
    Image { repository: "longshore/demo".to_owned(), tag: format!("seed-{seed}"), root, blobs }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_of_a_layer_is_the_same_bytes_as_in_the_whole() {
        // The trailer begins 512 bytes before a chunk's end: it spans two chunks.
        let layer = Layer::new(7, 3, 131_072 + 512);
        let whole = layer.read(0, usize::MAX >> 1);
        assert_eq!(whole.len() as u64, layer.size());
        for (offset, len) in [
            (0, 1),
            (0, 512),
            (500, 50),
            (513, 1),
            (513, 2),
            (514, 7),
            (600, 4000),
            (65_530, 10),
            (0, 131_072),
            (130_500, 1084),
            (131_583, 9),
        ] {
            let expected = &whole[offset..(offset + len).min(whole.len())];
            assert_eq!(layer.read(offset as u64, len), expected, "{offset}+{len}");
        }
        assert!(layer.read(layer.size(), 10).is_empty());
    }

    #[test]
    fn the_seed_and_the_number_decide_the_bytes() {
        let bytes = |seed, number| Layer::new(seed, number, 8192).read(512, 4096);
        assert_eq!(bytes(1, 1), bytes(1, 1));
        assert_ne!(bytes(1, 1), bytes(2, 1));
        assert_ne!(bytes(1, 1), bytes(1, 2));
    }

    #[test]
    fn a_layer_is_a_tar_archive_that_tar_lists() {
        let layer = Layer::new(1, 2, 20_000);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("layer.tar");
        std::fs::write(&path, layer.read(0, 1 << 20)).unwrap();
        let output = std::process::Command::new("tar").arg("-tvf").arg(&path).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let listing = String::from_utf8(output.stdout).unwrap();
        assert!(
            listing.contains("longshore-layer-002") && listing.contains(&layer.file_size().to_string()),
            "{listing}"
        );
    }

    #[test]
    fn the_image_has_every_blob_that_its_manifest_names() {
        let image = image(5, 64 << 10, 3);
        let manifest = &image.blobs[&image.root];
        let json: serde_json::Value =
            serde_json::from_slice(&manifest.read(0, manifest.size as usize).unwrap()).unwrap();
        let layers = json["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 3);
        for descriptor in layers.iter().chain([&json["config"]]) {
            let digest: Digest = descriptor["digest"].as_str().unwrap().parse().unwrap();
            let blob = &image.blobs[&digest];
            assert_eq!(descriptor["size"].as_u64(), Some(blob.size));
            let bytes = blob.read(0, blob.size as usize).unwrap();
            assert_eq!(crate::demo::image::digest_of(&bytes), digest);
        }
        let total: u64 = image.blobs.values().map(|blob| blob.size).sum();
        assert!((60 << 10..68 << 10).contains(&total), "{total}");
    }
}

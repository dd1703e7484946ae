//! The complete blobs on this node: what they are, who reads them, which may go.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::input::{BlobFacts, StoredBlob};
use crate::time::Time;

/// A complete blob.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Present {
    pub(crate) size: u64,
    pub(crate) facts: BlobFacts,
    /// Mirror bodies and piece transfers that read it now.
    readers: u32,
    /// It is on its way out: not announced, not served, deleted when the last reader is done.
    condemned: bool,
    used: u64,
    /// Bytes of it that containerd was sent since it was last known to be what it should.
    sent: u64,
    /// It is being hashed again.
    verifying: bool,
    /// When that last showed that it is what it should be.
    right: Option<Time>,
}

/// The blobs that are present, in order of use.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Cache {
    blobs: BTreeMap<Digest, Present>,
    by_use: BTreeSet<(u64, Digest)>,
    uses: u64,
    bytes: u64,
}

impl Cache {
    pub(crate) fn insert(&mut self, blob: StoredBlob) {
        self.remove(&blob.digest);
        self.uses += 1;
        self.bytes += blob.size;
        self.by_use.insert((self.uses, blob.digest));
        let StoredBlob { size, facts, .. } = blob;
        let used = self.uses;
        let present =
            Present { size, facts, readers: 0, condemned: false, used, sent: 0, verifying: false, right: None };
        self.blobs.insert(blob.digest, present);
    }

    pub(crate) fn remove(&mut self, digest: &Digest) {
        if let Some(blob) = self.blobs.remove(digest) {
            self.by_use.remove(&(blob.used, *digest));
            self.bytes -= blob.size;
        }
    }

    /// The blob, unless it is on its way out.
    pub(crate) fn get(&self, digest: &Digest) -> Option<&Present> {
        self.blobs.get(digest).filter(|blob| !blob.condemned)
    }

    /// Whether the store has it, on its way out or not.
    pub(crate) fn is_stored(&self, digest: &Digest) -> bool {
        self.blobs.contains_key(digest)
    }

    /// Marks a blob as used now.
    pub(crate) fn touch(&mut self, digest: &Digest) {
        if let Some(blob) = self.blobs.get_mut(digest) {
            self.by_use.remove(&(blob.used, *digest));
            self.uses += 1;
            blob.used = self.uses;
            self.by_use.insert((self.uses, *digest));
        }
    }

    /// What a manifest says of itself counts for more than what a registry's header said.
    pub(crate) fn set_media_type(&mut self, digest: &Digest, media_type: std::sync::Arc<str>) {
        if let Some(blob) = self.blobs.get_mut(digest) {
            blob.facts.media_type = Some(media_type);
        }
    }

    /// containerd was sent so many bytes of it.
    pub(crate) fn sent(&mut self, digest: &Digest, bytes: u64) {
        if let Some(blob) = self.blobs.get_mut(digest) {
            blob.sent = blob.sent.saturating_add(bytes);
        }
    }

    /// Whether containerd was sent all of it since it was last known to be what it should.
    pub(crate) fn was_read(&self, digest: &Digest) -> bool {
        self.get(digest).is_some_and(|blob| blob.size > 0 && blob.sent >= blob.size)
    }

    /// Returns whether it is not being hashed already.
    pub(crate) fn begin_verifying(&mut self, digest: &Digest) -> bool {
        self.blobs.get_mut(digest).is_some_and(|blob| !core::mem::replace(&mut blob.verifying, true))
    }

    /// It was hashed. Returns whether that was asked for.
    pub(crate) fn end_verifying(&mut self, digest: &Digest) -> bool {
        let Some(blob) = self.blobs.get_mut(digest) else { return false };
        core::mem::take(&mut blob.verifying) && !blob.condemned
    }

    /// It is what it should be.
    pub(crate) fn is_right(&mut self, now: Time, digest: &Digest) {
        if let Some(blob) = self.blobs.get_mut(digest) {
            blob.sent = 0;
            blob.right = Some(now);
        }
    }

    /// Whether it was hashed again since then, and was right.
    pub(crate) fn was_right(&self, since: Time, digest: &Digest) -> bool {
        self.get(digest).and_then(|blob| blob.right).is_some_and(|at| at >= since)
    }

    pub(crate) fn hold(&mut self, digest: &Digest) {
        if let Some(blob) = self.blobs.get_mut(digest) {
            blob.readers += 1;
        }
    }

    /// Ends a read; returns whether the blob was waiting for that to be deleted.
    pub(crate) fn release(&mut self, digest: &Digest) -> bool {
        let Some(blob) = self.blobs.get_mut(digest) else { return false };
        blob.readers = blob.readers.saturating_sub(1);
        blob.condemned && blob.readers == 0
    }

    /// Condemns the least recently used blobs that nobody reads until the others fit under `cap` bytes.
    pub(crate) fn condemn_over(&mut self, cap: u64) -> Vec<Digest> {
        let mut staying: u64 = self.blobs.values().filter(|blob| !blob.condemned).map(|blob| blob.size).sum();
        let mut condemned = Vec::new();
        for (_, digest) in &self.by_use {
            if staying <= cap {
                break;
            }
            let Some(blob) = self.blobs.get_mut(digest) else { continue };
            if !blob.condemned && (blob.readers == 0 || mutant!("evicted-while-read")) {
                blob.condemned = true;
                staying -= blob.size;
                condemned.push(*digest);
            }
        }
        condemned
    }

    /// The blobs that can be served, by digest.
    pub(crate) fn servable(&self) -> impl Iterator<Item = (&Digest, &Present)> {
        self.blobs.iter().filter(|(_, blob)| !blob.condemned)
    }

    /// Reads that are under way, of all blobs.
    pub(crate) fn readers(&self) -> usize {
        self.blobs.values().map(|blob| blob.readers as usize).sum()
    }

    pub(crate) fn len(&self) -> usize {
        self.blobs.len()
    }

    /// Bytes of all stored blobs.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{Kind, Source};

    fn blob(seed: u8, size: u64) -> StoredBlob {
        let source = Source { registry: "r".into(), repository: "n".into(), kind: Kind::Blob };
        StoredBlob {
            digest: Digest::from_bytes([seed; 32]),
            size,
            facts: BlobFacts { media_type: None, source, private: false },
        }
    }

    fn digest(seed: u8) -> Digest {
        Digest::from_bytes([seed; 32])
    }

    #[test]
    fn the_least_recently_used_blobs_that_nobody_reads_go_first() {
        let mut cache = Cache::default();
        for seed in 1..=4 {
            cache.insert(blob(seed, 10));
        }
        cache.touch(&digest(1));
        cache.hold(&digest(2));
        assert_eq!(cache.condemn_over(20), [digest(3), digest(4)]);
        assert!(cache.get(&digest(3)).is_none() && cache.is_stored(&digest(3)));
        assert_eq!(cache.condemn_over(20), []);
        cache.remove(&digest(3));
        cache.remove(&digest(4));
        assert_eq!((cache.len(), cache.bytes()), (2, 20));
    }

    #[test]
    fn a_blob_that_is_read_stays_even_over_the_cap() {
        let mut cache = Cache::default();
        cache.insert(blob(1, 10));
        cache.hold(&digest(1));
        assert_eq!(cache.condemn_over(0), []);
        assert!(!cache.release(&digest(1)));
        assert_eq!(cache.condemn_over(0), [digest(1)]);
    }
}

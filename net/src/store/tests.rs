//! The store as its users see it: what it reports, what it keeps, and what a crash leaves.

mod crash;
mod intake;
mod lifecycle;
mod recovery;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::digest::Digest;
use longshore_core::input::{BlobFacts, Hashed, Input, PartialBlob, Proof, RecordedPiece, StoredBlob};
use longshore_core::names::{Kind, PeerId, Source};
use longshore_core::output::Check;
use longshore_core::piece::Geometry;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedReceiver;

use super::Store;
use super::intake::{Intake, StoredPiece, Ticket};
use crate::driver::{BlobStore, Inputs};

/// A store in a directory of its own, and what it says.
struct Bench {
    store: Store,
    inputs: UnboundedReceiver<Input>,
}

impl Bench {
    fn open(directory: &Path) -> Self {
        let (sender, inputs) = Inputs::channel();
        Self { store: Store::open(directory, sender).unwrap(), inputs }
    }

    /// Opens a store and takes its [`Input::Recovered`].
    async fn recovered(directory: &Path) -> (Self, Vec<StoredBlob>, Vec<PartialBlob>) {
        let mut bench = Self::open(directory);
        let Input::Recovered { blobs, partials } = bench.next().await else {
            panic!("something came before Recovered")
        };
        (bench, blobs, partials)
    }

    /// Opens a store in an empty directory.
    async fn fresh(directory: &Path) -> Self {
        let (bench, blobs, partials) = Self::recovered(directory).await;
        assert_eq!((blobs, partials), (vec![], vec![]));
        bench
    }

    /// Drops the store and waits until its last task has let go of the directory.
    async fn close(self) {
        let inner = Arc::downgrade(&self.store.inner);
        drop(self);
        let gone = async {
            while inner.strong_count() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), gone).await.expect("a task of the store does not end");
    }

    async fn next(&mut self) -> Input {
        tokio::time::timeout(Duration::from_secs(20), self.inputs.recv()).await.expect("the store is silent").unwrap()
    }

    /// Stages a blob, fills it through an intake and records every piece.
    fn fill(&mut self, bytes: &[u8]) -> Digest {
        let digest = digest_of(bytes);
        self.store.stage(digest, bytes.len() as u64, facts());
        for StoredPiece { piece, hashed } in take_in(&self.store, bytes, Check::Alone) {
            self.store.record(digest, record(piece, hashed, "origin-fetcher"));
        }
        digest
    }

    async fn put(&mut self, bytes: &[u8]) -> Digest {
        let digest = self.fill(bytes);
        self.store.commit(digest, facts());
        assert_eq!(self.next().await, Input::Committed { digest, result: Ok(()) });
        digest
    }
}

fn facts() -> BlobFacts {
    BlobFacts {
        media_type: Some("application/octet-stream".into()),
        source: Source { registry: "registry.test".into(), repository: "library/app".into(), kind: Kind::Blob },
        private: true,
    }
}

/// A record of a piece that was hashed alone.
fn record(piece: u32, hashed: Hashed, author: &str) -> RecordedPiece {
    let Hashed::Alone(sum) = hashed else { panic!("asked for sums alone") };
    RecordedPiece { piece, proof: Proof::Alone(sum), author: PeerId::new(author) }
}

fn alone(bytes: &[u8]) -> Hashed {
    Hashed::Alone(Sha256::digest(bytes).into())
}

fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(bytes).into())
}

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|position| ((position * 131 + position / 997) as u8).wrapping_add(seed)).collect()
}

/// Gives a staged blob all its bytes.
fn take_in(store: &Store, bytes: &[u8], check: Check) -> Vec<StoredPiece> {
    let geometry = Geometry::of_blob(bytes.len() as u64);
    let mut intake = Intake::open(store, digest_of(bytes), geometry, 0, check).unwrap();
    let mut stored = Vec::new();
    for portion in bytes.chunks(10_007) {
        intake.write(portion, |piece| stored.push(piece)).unwrap();
    }
    intake.finish(|piece| stored.push(piece));
    assert_eq!(intake.position(), bytes.len() as u64);
    stored
}

fn read_all(store: &Store, digest: Digest) -> Vec<u8> {
    let reader = store.reader(digest).unwrap();
    let mut bytes = vec![0; reader.size() as usize];
    reader.read_at(&mut bytes, 0).unwrap();
    bytes
}

fn pieces_of(partial: &PartialBlob) -> Vec<u32> {
    partial.pieces.iter().map(|sum| sum.piece).collect()
}

/// Names of the files in a directory of the store, sorted.
fn files(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

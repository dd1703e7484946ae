//! The store as its users see it: what it reports, what it keeps, and what a crash leaves.

use std::path::Path;
use std::time::Duration;

use longshore_core::digest::Digest;
use longshore_core::input::{BlobFacts, Hashed, Input, StoreError};
use longshore_core::message::PieceSum;
use longshore_core::names::{Kind, PeerId, Source};
use longshore_core::output::Check;
use longshore_core::piece::Geometry;
use longshore_core::spine::Midstate;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedReceiver;

use super::intake::{Intake, StoredPiece};
use super::{Released, Store};
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

    async fn next(&mut self) -> Input {
        tokio::time::timeout(Duration::from_secs(20), self.inputs.recv()).await.expect("the store is silent").unwrap()
    }

    /// Stages a blob, fills it through an intake and records every piece.
    fn fill(&mut self, bytes: &[u8]) -> Digest {
        let digest = digest_of(bytes);
        self.store.stage(digest, bytes.len() as u64, facts());
        for StoredPiece { piece, hashed } in take_in(&self.store, bytes, Check::Alone) {
            let Hashed::Alone(sum) = hashed else { panic!("asked for sums alone") };
            self.store.record(digest, PieceSum { piece, sum, author: PeerId::new("origin-fetcher") });
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

#[tokio::test]
async fn a_blob_goes_through_staging_to_its_name_and_comes_back_after_a_restart() {
    let directory = TempDir::new().unwrap();
    let bytes = pattern(700_000, 1);
    let mut bench = Bench::open(directory.path());
    assert_eq!(bench.next().await, Input::Recovered { blobs: vec![], partials: vec![] });
    let digest = digest_of(&bytes);
    bench.store.stage(digest, bytes.len() as u64, facts());
    let stored = take_in(&bench.store, &bytes, Check::From(Midstate::INITIAL));
    assert_eq!(stored.len(), 3);
    assert_eq!(stored[2].hashed, Hashed::Chained(Midstate::from_bytes(*digest.as_bytes())));
    bench.store.commit(digest, facts());
    assert_eq!(bench.next().await, Input::Committed { digest, result: Ok(()) });
    let reader = bench.store.reader(digest).unwrap();
    let mut read = vec![0; bytes.len()];
    reader.read_at(&mut read, 0).unwrap();
    assert_eq!(read, bytes);
    assert_eq!(*reader.released().borrow(), Released::Whole);
    assert_eq!(bench.store.reader(digest_of(b"other")).unwrap_err(), StoreError::Missing);
}

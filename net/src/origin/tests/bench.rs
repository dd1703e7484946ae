//! An origin client with all that it needs, and blobs to fetch.

use std::time::Duration;

use longshore_core::digest::Digest;
use longshore_core::input::{Hashed, Input, OriginFailure, OriginStat, TransferEvent, TransferFailure};
use longshore_core::names::{CredentialId, Kind, OpId, Source};
use longshore_core::output::{Check, Span};
use longshore_core::piece::Geometry;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::driver::{BlobStore as _, Inputs, Origin as _};
use crate::origin::{OriginClient, OriginConfig, Timeouts};
use crate::store::Store;
use crate::vault::Vault;

/// Long enough for a busy machine, short enough for a test.
pub(super) const SHORT: Duration = Duration::from_millis(400);
/// Longest that a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Bench {
    pub(super) client: OriginClient,
    pub(super) store: Store,
    pub(super) vault: Vault,
    pub(super) inputs: UnboundedReceiver<Input>,
    directory: TempDir,
    next_op: u64,
}

/// All events of one fetch.
pub(super) struct Fetched {
    pub(super) events: Vec<TransferEvent>,
}

pub(super) fn short_timeouts() -> Timeouts {
    Timeouts { headers: SHORT, silence: SHORT, ..Timeouts::default() }
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(OriginConfig { timeouts: short_timeouts(), ..OriginConfig::default() })
    }

    pub(super) fn with(config: OriginConfig) -> Self {
        let directory = TempDir::new().unwrap();
        let (sender, inputs) = Inputs::channel();
        let store = Store::open(directory.path(), sender.clone()).unwrap();
        let vault = Vault::new();
        let client = OriginClient::new(config, sender, store.clone(), vault.clone()).unwrap();
        Self { client, store, vault, inputs, directory, next_op: 1 }
    }

    pub(super) fn op(&mut self) -> OpId {
        self.next_op += 1;
        OpId(self.next_op)
    }

    pub(super) async fn next_input(&mut self) -> Input {
        tokio::time::timeout(PATIENCE, self.inputs.recv()).await.expect("an input in time").expect("a sender")
    }

    pub(super) async fn fetch(&mut self, source: &Source, digest: Digest, span: Span) -> Fetched {
        self.fetch_as(source, digest, span, None).await
    }

    pub(super) async fn fetch_as(
        &mut self,
        source: &Source,
        digest: Digest,
        span: Span,
        credential: Option<CredentialId>,
    ) -> Fetched {
        let op = self.op();
        self.client.fetch(op, source.clone(), digest, span, credential, Check::Alone);
        let mut events = Vec::new();
        loop {
            match self.next_input().await {
                Input::Transfer { op: of, event } if of == op => {
                    let is_last = matches!(event, TransferEvent::Done | TransferEvent::Failed(_));
                    events.push(event);
                    if is_last {
                        return Fetched { events };
                    }
                }
                Input::Recovered { .. } => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    pub(super) async fn stat(&mut self, source: &Source, digest: Digest) -> Result<OriginStat, OriginFailure> {
        self.stat_as(source, digest, None).await
    }

    pub(super) async fn stat_as(
        &mut self,
        source: &Source,
        digest: Digest,
        credential: Option<CredentialId>,
    ) -> Result<OriginStat, OriginFailure> {
        let op = self.op();
        self.client.stat(op, source.clone(), digest, credential);
        loop {
            match self.next_input().await {
                Input::OriginStat { op: of, result } if of == op => return result,
                Input::Recovered { .. } => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    /// Makes the staging file, as the core does before it asks for bytes of a blob of known size.
    pub(super) fn stage(&mut self, source: &Source, digest: Digest, size: u64) {
        let facts = longshore_core::input::BlobFacts { media_type: None, source: source.clone(), private: false };
        self.store.stage(digest, size, facts);
    }

    /// What the store will remember across a restart.
    pub(super) fn staged_as_private(&self, digest: Digest) -> bool {
        let log = self.directory.path().join("staging").join(format!("{}.pieces", digest.hex()));
        let text = std::fs::read_to_string(log).unwrap();
        assert_ne!(text.contains("\"private\":true"), text.contains("\"private\":false"), "{text}");
        text.contains("\"private\":true")
    }

    /// Bytes of a staged blob.
    pub(super) fn staged(&self, digest: Digest, first: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.store.reader(digest).unwrap().read_at(&mut bytes, first).unwrap();
        bytes
    }
}

impl Fetched {
    pub(super) fn is_done(&self) -> bool {
        self.events.last() == Some(&TransferEvent::Done)
    }

    pub(super) fn failure(&self) -> &TransferFailure {
        match self.events.last() {
            Some(TransferEvent::Failed(failure)) => failure,
            other => panic!("expected a failure, found {other:?}"),
        }
    }

    pub(super) fn origin_failure(&self) -> &OriginFailure {
        match self.failure() {
            TransferFailure::Origin(failure) => failure,
            other => panic!("expected a failure of the origin, found {other:?}"),
        }
    }

    /// Numbers of the stored pieces.
    pub(super) fn pieces(&self) -> Vec<u32> {
        let piece = |event: &TransferEvent| match event {
            TransferEvent::Piece { piece, .. } => Some(*piece),
            _ => None,
        };
        self.events.iter().filter_map(piece).collect()
    }

    /// All bytes that were reported.
    pub(super) fn bytes(&self) -> u64 {
        let bytes = |event: &TransferEvent| match event {
            TransferEvent::Progress { bytes } | TransferEvent::Piece { bytes, .. } => *bytes,
            _ => 0,
        };
        self.events.iter().map(bytes).sum()
    }

    /// Checks that every reported piece has the hash of its bytes in `blob`.
    pub(super) fn assert_hashes_of(&self, blob: &[u8]) {
        let geometry = Geometry::of_blob(blob.len() as u64);
        for event in &self.events {
            let TransferEvent::Piece { piece, hashed, claim, .. } = event else { continue };
            let range = geometry.range(*piece);
            let hash: [u8; 32] = Sha256::digest(&blob[range.start as usize..range.end as usize]).into();
            assert_eq!((*hashed, claim), (Hashed::Alone(hash), &None), "piece {piece}");
        }
    }
}

/// Bytes that look random and depend on `seed` only.
pub(super) fn blob(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

pub(super) fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(bytes).into())
}

pub(super) fn source(registry: &str, kind: Kind) -> Source {
    Source { registry: registry.into(), repository: "library/thing".into(), kind }
}

/// A span for a blob of which nothing is known.
pub(super) const UNKNOWN: Span = Span::Unknown { max_bytes: 64 * 1024 * 1024 };

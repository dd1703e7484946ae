use longshore_core::input::{BlobFacts, Hashed, LONG_WAY, StoreError, TransferEvent, TransferFailure};
use longshore_core::names::{Kind, Source};
use longshore_core::piece::Geometry;
use longshore_core::spine::Midstate;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::store::intake::Intake;

pub(super) fn facts() -> BlobFacts {
    BlobFacts {
        media_type: None,
        source: Source { registry: "registry.test".into(), repository: "app".into(), kind: Kind::Blob },
        private: false,
    }
}

/// Bytes that no two pieces share.
fn blob(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

fn sum(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

impl Node {
    /// Puts a whole blob in the store's staging file.
    fn give(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::from_bytes(sum(bytes));
        let geometry = Geometry::of_blob(bytes.len() as u64);
        self.store.stage_now(digest, bytes.len() as u64, facts()).unwrap();
        let mut intake = Intake::open(&self.store, digest, geometry, 0, Check::Alone).unwrap();
        intake.write(bytes, |_| ()).unwrap();
        intake.finish(|_| ());
        digest
    }

    async fn piece_requested(&mut self) -> (StreamId, PieceRequest) {
        self.expect("a request for a piece", |input| match input {
            Input::PieceRequested { stream, request } => Some((*stream, request.clone())),
            _ => None,
        })
        .await
    }

    /// Serves the next request for a piece.
    async fn serve(&mut self, claim: Option<PieceSum>) -> StreamId {
        self.admit().await;
        let (stream, request) = self.piece_requested().await;
        let range = Geometry::of_blob(request.size).range(request.piece);
        self.driver.serve_piece(stream, request.digest, range.start, range.end - range.start, claim);
        stream
    }

    /// What is reported about a transfer, to its end, but for how late the peer answers: on a busy machine it may be anything.
    async fn transfer(&mut self, number: u64) -> Vec<TransferEvent> {
        let mut events = self.everything_of(number).await;
        events.retain(|event| !matches!(event, TransferEvent::Answered { .. }));
        events
    }

    /// Everything that is reported about a transfer, to its end.
    async fn everything_of(&mut self, number: u64) -> Vec<TransferEvent> {
        let mut events = Vec::new();
        loop {
            let event = self
                .expect("an event of a transfer", |input| match input {
                    Input::Transfer { op, event } if op.0 == number => Some(event.clone()),
                    _ => None,
                })
                .await;
            events.push(event);
            if matches!(events.last(), Some(TransferEvent::Done | TransferEvent::Failed(_))) {
                return events;
            }
        }
    }
}

#[tokio::test]
async fn pieces_arrive_hashed_in_the_store_with_what_the_sender_says_of_them() {
    const LENGTH: usize = 600 * 1024;
    let (mut a, mut b) = pair().await;
    let bytes = blob(LENGTH);
    let digest = b.give(&bytes);
    let geometry = Geometry::of_blob(LENGTH as u64);
    assert_eq!(geometry.pieces(), 3);
    a.store.stage_now(digest, LENGTH as u64, facts()).unwrap();
    let mut midstate = Midstate::INITIAL;
    // The first pieces chained, the last one alone.
    for piece in 0..3 {
        let range = geometry.range(piece);
        let content = &bytes[range.start as usize..range.end as usize];
        let claim = (piece == 1).then(|| PieceSum { piece, sum: sum(content), author: b.id() });
        let check = if piece == 2 { Check::Alone } else { Check::From(midstate) };
        a.driver.fetch_piece(OpId(piece.into()), b.id(), digest, LENGTH as u64, piece, check);
        let stream = b.serve(claim.clone()).await;
        let events = a.transfer(piece.into()).await;
        assert_eq!(b.closed(stream).await, (None, content.len() as u64));
        let mut received = 0;
        for event in &events {
            match event {
                TransferEvent::Progress { bytes } => received += bytes,
                TransferEvent::Piece { piece: number, bytes, hashed, claim: said } => {
                    received += bytes;
                    assert_eq!((*number, said), (piece, &claim));
                    match hashed {
                        Hashed::Chained(next) => midstate = *next,
                        Hashed::Alone(found) => assert_eq!(*found, sum(content)),
                    }
                }
                TransferEvent::Done => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(received, content.len() as u64);
        assert_eq!(events.last(), Some(&TransferEvent::Done));
    }
    let mut stored = vec![0; LENGTH];
    a.store.reader(digest).unwrap().read_at(&mut stored, 0).unwrap();
    assert!(stored == bytes, "what is stored is what was sent");
}

#[tokio::test]
async fn a_large_piece_reports_its_progress_and_every_byte_once() {
    const LENGTH: usize = 40 * 1024 * 1024;
    let (mut a, mut b) = pair().await;
    let bytes = blob(256 * 1024).repeat(LENGTH / (256 * 1024));
    let digest = b.give(&bytes);
    a.store.stage_now(digest, LENGTH as u64, facts()).unwrap();
    let pieces = Geometry::of_blob(LENGTH as u64).pieces();
    for piece in 0..pieces {
        a.driver.fetch_piece(OpId(piece.into()), b.id(), digest, LENGTH as u64, piece, Check::Alone);
    }
    for _ in 0..pieces {
        b.serve(None).await;
    }
    for piece in 0..pieces {
        let events = a.transfer(piece.into()).await;
        assert_eq!(events.last(), Some(&TransferEvent::Done), "piece {piece}");
    }
    let mut stored = vec![0; LENGTH];
    a.store.reader(digest).unwrap().read_at(&mut stored, 0).unwrap();
    assert_eq!(sum(&stored), *digest.as_bytes());
}

#[tokio::test]
async fn an_empty_blob_has_one_empty_piece() {
    let (mut a, mut b) = pair().await;
    let digest = b.give(&[]);
    a.store.stage_now(digest, 0, facts()).unwrap();
    a.driver.fetch_piece(OpId(1), b.id(), digest, 0, 0, Check::From(Midstate::INITIAL));
    let stream = b.serve(None).await;
    let hashed = Hashed::Chained(Midstate::from_bytes(sum(&[])));
    let piece = TransferEvent::Piece { piece: 0, bytes: 0, hashed, claim: None };
    assert_eq!(a.transfer(1).await, [piece, TransferEvent::Done]);
    assert_eq!(b.closed(stream).await, (None, 0));
}

#[tokio::test]
async fn a_peer_that_answers_late_is_far_away() {
    let (mut a, mut b) = pair().await;
    let bytes = blob(1000);
    let digest = b.give(&bytes);
    a.store.stage_now(digest, 1000, facts()).unwrap();
    a.driver.fetch_piece(OpId(1), b.id(), digest, 1000, 0, Check::Alone);
    b.admit().await;
    let (stream, _) = b.piece_requested().await;
    tokio::time::sleep(3 * LONG_WAY).await;
    b.driver.serve_piece(stream, digest, 0, 1000, None);
    let events = a.everything_of(1).await;
    let Some(TransferEvent::Answered { after }) = events.first() else { panic!("{events:?}") };
    assert!(*after > LONG_WAY, "{after:?}");
    assert!(matches!(events[1..], [TransferEvent::Piece { .. }, TransferEvent::Done]), "{events:?}");
}

#[tokio::test]
async fn a_refusal_says_why_and_for_how_long() {
    let (mut a, mut b) = pair().await;
    a.store.stage_now(digest(1), 10, facts()).unwrap();
    for (number, refusal) in [(1, PieceRefusal::Busy(Duration::from_millis(1500))), (2, PieceRefusal::Missing)] {
        a.driver.fetch_piece(OpId(number), b.id(), digest(1), 10, 0, Check::Alone);
        b.admit().await;
        let (stream, request) = b.piece_requested().await;
        assert_eq!(request, PieceRequest { digest: digest(1), size: 10, piece: 0 });
        b.driver.refuse_piece(stream, refusal);
        assert_eq!(a.transfer(number).await, [TransferEvent::Failed(TransferFailure::Refused(refusal))]);
        assert_eq!(b.closed(stream).await, (None, 0));
    }
}

#[tokio::test]
async fn a_piece_that_is_gone_when_it_should_be_served_is_missing() {
    let (mut a, mut b) = pair().await;
    a.store.stage_now(digest(1), 10, facts()).unwrap();
    a.driver.fetch_piece(OpId(1), b.id(), digest(1), 10, 0, Check::Alone);
    b.serve(None).await;
    let missing = TransferFailure::Refused(PieceRefusal::Missing);
    assert_eq!(a.transfer(1).await, [TransferEvent::Failed(missing)]);
}

#[tokio::test]
async fn a_piece_of_a_blob_that_is_not_staged_is_not_stored() {
    let (mut a, mut b) = pair().await;
    let digest = b.give(&blob(100));
    a.driver.fetch_piece(OpId(1), b.id(), digest, 100, 0, Check::Alone);
    b.serve(None).await;
    let missing = TransferFailure::Store(StoreError::Missing);
    assert_eq!(a.transfer(1).await, [TransferEvent::Failed(missing)]);
}

#[tokio::test]
async fn a_peer_that_goes_away_in_the_middle_is_unreachable() {
    let (mut a, mut b) = pair().await;
    a.store.stage_now(digest(1), 10, facts()).unwrap();
    a.driver.fetch_piece(OpId(1), b.id(), digest(1), 10, 0, Check::Alone);
    b.admit().await;
    b.piece_requested().await;
    b.driver.stop().await;
    assert_eq!(a.transfer(1).await, [TransferEvent::Failed(TransferFailure::Unreachable)]);
}

#[tokio::test]
async fn a_cancelled_transfer_ends_the_senders_stream() {
    const LENGTH: usize = 8 * 1024 * 1024;
    let (mut a, mut b) = pair().await;
    let bytes = blob(256 * 1024).repeat(LENGTH / (256 * 1024));
    let digest = b.give(&bytes);
    a.store.stage_now(digest, LENGTH as u64, facts()).unwrap();
    a.driver.fetch_piece(OpId(1), b.id(), digest, LENGTH as u64, 0, Check::Alone);
    b.admit().await;
    let (stream, request) = b.piece_requested().await;
    a.driver.cancel(OpId(1));
    // The reset is on its way before the next stream is: they share a connection.
    a.driver.call(CallId(1), b.id(), Request::PullIntent { digest, leads: false }, Duration::from_secs(2));
    b.stream_opened().await;
    b.driver.serve_piece(stream, request.digest, 0, 256 * 1024, None);
    b.closed(stream).await;
    assert_eq!(a.count(|input| matches!(input, Input::Transfer { .. })), 0);
}

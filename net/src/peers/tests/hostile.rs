use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use longshore_core::input::{CallError, StreamError, TransferEvent, TransferFailure};
use longshore_core::piece::Geometry;

use super::*;
use crate::wire::frame::frame;
use crate::wire::swarm::{PieceHeader, encode_piece_header};
use crate::wire::{COORD_PROTOCOL, SWARM_PROTOCOL};

/// A stranger writes `bytes` on a stream; what becomes of the stream, as the node reports it.
async fn sent(protocol: &'static str, bytes: &[u8], close: bool) -> Option<StreamError> {
    let mut node = Node::start().await;
    let mut stranger = Stranger::start().await.connect(&node.local).await;
    let mut stream = stranger.open(protocol).await;
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
    if close {
        stream.close().await.unwrap();
    }
    let id = node.admit().await;
    let (error, sent_bytes) = node.closed(id).await;
    assert_eq!(sent_bytes, 0);
    let mut answer = Vec::new();
    // However it ends, nothing is answered.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, b"");
    assert_eq!(node.count(|input| matches!(input, Input::StreamRequest { .. } | Input::StreamClosed { .. })), 0);
    error
}

#[tokio::test]
async fn malformed_first_messages_close_the_stream_without_an_answer() {
    let (coord, swarm) = (COORD_PROTOCOL, SWARM_PROTOCOL);
    let cases: &[(&str, &'static str, &[u8])] = &[
        ("an empty envelope", coord, &[0]),
        ("an empty envelope", swarm, &[0]),
        ("bytes that are no protobuf", coord, &[3, 0xff, 0xff, 0xff]),
        ("a response", coord, &[2, 0x12, 0]),
        ("an empty batch", coord, &[2, 0x1a, 0]),
        ("a digest that is none", coord, &[4, 0x0a, 2, 0x0a, 0]),
        ("an offer of a chair", coord, &[2, 0x2a, 0]),
        ("an answer", swarm, &[2, 0x12, 0]),
        ("a length that is not minimal", coord, &[0x82, 0x80, 0x00, 0x12, 0]),
        ("a length without an end", coord, &[0xff; 11]),
    ];
    for (name, protocol, bytes) in cases {
        assert_eq!(sent(protocol, bytes, false).await, Some(StreamError::Malformed), "{name}");
    }
}

#[tokio::test]
async fn a_length_over_the_limit_is_oversized_at_once() {
    let mut prefix = unsigned_varint::encode::usize_buffer();
    let prefix = unsigned_varint::encode::usize(MAX_MESSAGE_BYTES + 1, &mut prefix).to_vec();
    assert_eq!(sent(COORD_PROTOCOL, &prefix, false).await, Some(StreamError::Oversized));
}

#[tokio::test]
async fn a_stream_that_ends_before_its_message_does_is_broken() {
    assert_eq!(sent(COORD_PROTOCOL, &[], true).await, Some(StreamError::Broken));
    assert_eq!(sent(COORD_PROTOCOL, &[9, 1, 2], true).await, Some(StreamError::Broken));
}

#[tokio::test]
async fn a_slow_message_waits_until_the_core_resets_its_stream() {
    let mut node = Node::start().await;
    let mut stranger = Stranger::start().await.connect(&node.local).await;
    let mut slow = stranger.open(COORD_PROTOCOL).await;
    slow.write_all(&[9, 1, 2]).await.unwrap();
    slow.flush().await.unwrap();
    let id = node.admit().await;
    // Another stream is served meanwhile.
    let mut quick = stranger.open(COORD_PROTOCOL).await;
    quick.write_all(&[0]).await.unwrap();
    quick.flush().await.unwrap();
    let quick_id = node.admit().await;
    node.closed(quick_id).await;
    assert_eq!(node.count(|input| matches!(input, Input::StreamClosed { .. })), 0);
    node.driver.reset(id);
    assert_eq!(node.closed(id).await, (None, 0));
    assert_eq!(timeout(PATIENCE, slow.read(&mut [0; 8])).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn a_notice_stream_ends_at_the_first_message_that_is_no_notice() {
    let mut node = Node::start().await;
    let mut stranger = Stranger::start().await.connect(&node.local).await;
    let mut stream = stranger.open(SWARM_PROTOCOL).await;
    let leave = frame(&crate::wire::swarm::encode_notice(&Notice::Leave { digest: digest(1) })).unwrap();
    stream.write_all(&[leave.as_slice(), &[2, 0x12, 0], &leave].concat()).await.unwrap();
    stream.flush().await.unwrap();
    let id = node.admit().await;
    assert_eq!(node.closed(id).await, (Some(StreamError::Malformed), 0));
    assert_eq!(node.count(|input| matches!(input, Input::Notice { .. })), 1);
}

/// What a node makes of an answer to a call.
async fn answered(bytes: &'static [u8]) -> Result<Response, CallError> {
    let mut node = Node::start().await;
    let stranger = Stranger::start().await;
    node.learn(&stranger.local());
    let peer = stranger.local().peer_id;
    let mut streams = stranger.accept(COORD_PROTOCOL);
    stranger.run();
    tokio::spawn(async move {
        while let Some((_, mut stream)) = streams.next().await {
            stream.write_all(bytes).await.unwrap();
            stream.close().await.unwrap();
        }
    });
    node.driver.call(CallId(1), peer, Request::PullIntent { digest: digest(1), leads: false }, Duration::from_secs(2));
    node.expect("the end of the call", |input| match input {
        Input::Reply { response, .. } => Some(Ok(response.clone())),
        Input::CallFailed { error, .. } => Some(Err(error.clone())),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn answers_that_make_no_sense_are_malformed_and_missing_ones_are_resets() {
    // rank 0, nothing known
    assert!(answered(&[2, 0x12, 0]).await.is_ok());
    assert_eq!(answered(&[2, 0x22, 0]).await, Err(CallError::Malformed));
    assert_eq!(answered(&[0]).await, Err(CallError::Malformed));
    assert_eq!(answered(&[0xff, 0xff, 0xff, 0x7f]).await, Err(CallError::Malformed));
    assert_eq!(answered(&[5, 0x12]).await, Err(CallError::Reset));
    assert_eq!(answered(&[]).await, Err(CallError::Reset));
}

#[tokio::test]
async fn a_peer_that_does_not_speak_the_protocol_resets_the_call() {
    let mut node = Node::start().await;
    let stranger = Stranger::start().await;
    node.learn(&stranger.local());
    let peer = stranger.local().peer_id;
    stranger.run();
    node.driver.call(CallId(1), peer, Request::PullIntent { digest: digest(1), leads: false }, Duration::from_secs(2));
    let error = node
        .expect("the end of the call", |input| match input {
            Input::CallFailed { error, .. } => Some(error.clone()),
            _ => None,
        })
        .await;
    assert_eq!(error, CallError::Reset);
}

/// What becomes of a fetch of a piece of `length` bytes from a peer that answers with `bytes`.
async fn fetched(length: u64, bytes: Vec<u8>) -> TransferEvent {
    let mut node = Node::start().await;
    node.store.stage_now(digest(1), length, super::pieces::facts()).unwrap();
    let stranger = Stranger::start().await;
    node.learn(&stranger.local());
    let peer = stranger.local().peer_id;
    let mut streams = stranger.accept(SWARM_PROTOCOL);
    stranger.run();
    tokio::spawn(async move {
        while let Some((_, mut stream)) = streams.next().await {
            stream.write_all(&bytes).await.unwrap();
            stream.close().await.unwrap();
        }
    });
    node.driver.fetch_piece(OpId(1), peer, digest(1), length, 0, Check::Alone);
    node.expect("the end of the transfer", |input| match input {
        Input::Transfer { event: event @ (TransferEvent::Done | TransferEvent::Failed(_)), .. } => Some(event.clone()),
        _ => None,
    })
    .await
}

fn piece(announced: u64, sent: usize, claim: Option<PieceSum>) -> Vec<u8> {
    let header = frame(&encode_piece_header(&PieceHeader::Follows { length: announced, claim })).unwrap();
    [header, vec![7; sent]].concat()
}

#[tokio::test]
async fn pieces_of_a_wrong_length_are_malformed_and_short_ones_are_broken() {
    const LENGTH: u64 = 100_000;
    assert_eq!(Geometry::of_blob(LENGTH).pieces(), 1);
    let malformed = TransferEvent::Failed(TransferFailure::Malformed);
    assert_eq!(fetched(LENGTH, piece(LENGTH, LENGTH as usize, None)).await, TransferEvent::Done);
    assert_eq!(fetched(LENGTH, piece(LENGTH - 1, LENGTH as usize - 1, None)).await, malformed);
    assert_eq!(fetched(LENGTH, piece(LENGTH, LENGTH as usize + 1, None)).await, malformed);
    let foreign = PieceSum { piece: 1, sum: [0; 32], author: Identity::generate().peer_id() };
    assert_eq!(fetched(LENGTH, piece(LENGTH, LENGTH as usize, Some(foreign))).await, malformed);
    assert_eq!(fetched(LENGTH, vec![2, 0x12, 0]).await, malformed);
    let unreachable = TransferEvent::Failed(TransferFailure::Unreachable);
    assert_eq!(fetched(LENGTH, piece(LENGTH, LENGTH as usize - 1, None)).await, unreachable);
    assert_eq!(fetched(LENGTH, vec![]).await, unreachable);
}

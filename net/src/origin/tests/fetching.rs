//! Good answers: what is asked for, stored and reported.

use std::time::Duration;

use longshore_core::input::{Hashed, Input, OriginStat, StoreError, TransferEvent, TransferFailure};
use longshore_core::names::Kind;
use longshore_core::output::{Check, Span};
use longshore_core::piece::{Geometry, MIN_PIECE_BYTES};
use longshore_core::spine::Midstate;

use super::bench::{Bench, SHORT, UNKNOWN, blob, digest_of, source};
use crate::driver::{BlobStore as _, Origin as _};
use crate::origin::mock_registry::{MockRegistry, Reply};

const PIECE: usize = MIN_PIECE_BYTES as usize;
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

#[tokio::test]
async fn a_manifest_of_unknown_size_is_staged_by_its_content_length() {
    let manifest = blob(3000, 1);
    let body = manifest.clone();
    let registry = MockRegistry::start(move |_| {
        Reply::ok(&body).header("Content-Type", "application/vnd.oci.image.manifest.v1+json; charset=utf-8")
    })
    .await;
    let mut bench = Bench::new();
    let (source, digest) = (source(&registry.host(), Kind::Manifest), digest_of(&manifest));
    let fetched = bench.fetch(&source, digest, UNKNOWN).await;

    let headers = TransferEvent::Headers { size: 3000, media_type: Some(MANIFEST_TYPE.into()) };
    assert_eq!(fetched.events[0], headers);
    assert!(fetched.is_done(), "{:?}", fetched.events);
    assert_eq!((fetched.pieces(), fetched.bytes()), (vec![0], 3000));
    fetched.assert_hashes_of(&manifest);
    assert_eq!(bench.staged(digest, 0, 3000), manifest);

    let seen = &registry.seen()[0];
    assert_eq!((seen.method.as_str(), seen.path()), ("GET", &*format!("/v2/library/thing/manifests/{digest}")));
    let accept = seen.header("accept").unwrap();
    for wanted in ["oci.image.manifest.v1", "oci.image.index.v1", "manifest.v2+json", "manifest.list.v2"] {
        assert!(accept.contains(wanted), "{accept}");
    }
    assert!(accept.ends_with("*/*"), "{accept}");
    assert_eq!(seen.header("accept-encoding"), Some("identity"));
    assert_eq!((seen.header("range"), seen.header("authorization")), (None, None));
    assert!(seen.header("user-agent").unwrap().starts_with("longshore/"));
}

#[tokio::test]
async fn a_manifest_in_chunks_is_buffered_until_its_size_is_known() {
    let manifest = blob(5000, 2);
    let body = manifest.clone();
    let registry = MockRegistry::start(move |_| Reply::status(200).chunked(&body, 700)).await;
    let mut bench = Bench::new();
    let digest = digest_of(&manifest);
    let fetched = bench.fetch(&source(&registry.host(), Kind::Manifest), digest, UNKNOWN).await;
    assert_eq!(fetched.events[0], TransferEvent::Headers { size: 5000, media_type: None });
    assert!(fetched.is_done(), "{:?}", fetched.events);
    assert_eq!(bench.staged(digest, 0, 5000), manifest);
}

#[tokio::test]
async fn a_whole_blob_arrives_piece_by_piece_with_a_chain_of_midstates() {
    let bytes = blob(5 * PIECE / 2, 3);
    let body = bytes.clone();
    let registry = MockRegistry::start(move |_| Reply::ok(&body)).await;
    let mut bench = Bench::new();
    let (source, digest) = (source(&registry.host(), Kind::Blob), digest_of(&bytes));
    let size = bytes.len() as u64;
    bench.stage(&source, digest, size);
    let op = bench.op();
    bench.client.fetch(op, source, digest, Span::All { size }, None, Check::From(Midstate::INITIAL));
    let mut pieces = Vec::new();
    let last = loop {
        match bench.next_input().await {
            Input::Transfer { event: TransferEvent::Piece { piece, hashed, .. }, .. } => pieces.push((piece, hashed)),
            Input::Transfer { event: TransferEvent::Done, .. } => break pieces.pop().unwrap(),
            Input::Transfer { event: TransferEvent::Failed(failure), .. } => panic!("{failure:?}"),
            _ => {}
        }
    };
    assert_eq!(last, (2, Hashed::Chained(Midstate::from_bytes(*digest.as_bytes()))), "the chain ends at the digest");
    assert_eq!(bench.staged(digest, 0, bytes.len()), bytes);
    assert_eq!(registry.seen()[0].path(), format!("/v2/library/thing/blobs/{digest}"));
    assert_eq!(registry.seen()[0].header("accept"), Some("*/*"));
}

#[tokio::test]
async fn pieces_are_asked_for_with_their_exact_range() {
    let bytes = blob(4 * PIECE + 100, 4);
    let body = bytes.clone();
    let registry = MockRegistry::start(move |seen| Reply::blob(seen, &body)).await;
    let mut bench = Bench::new();
    let (source, digest, size) = (source(&registry.host(), Kind::Blob), digest_of(&bytes), bytes.len() as u64);
    bench.stage(&source, digest, size);
    for (first, count, range) in [
        (1, 2, format!("bytes={PIECE}-{}", 3 * PIECE - 1)),
        (4, 1, format!("bytes={}-{}", 4 * PIECE, 4 * PIECE + 99)),
        (0, 5, format!("bytes=0-{}", size - 1)),
    ] {
        let fetched = bench.fetch(&source, digest, Span::Pieces { size, first, count }).await;
        assert!(fetched.is_done(), "{:?}", fetched.events);
        assert_eq!(fetched.pieces(), (first..first + count).collect::<Vec<u32>>());
        fetched.assert_hashes_of(&bytes);
        let geometry = Geometry::of_blob(size);
        let wanted = geometry.range(first).start..geometry.range(first + count - 1).end;
        assert_eq!(fetched.bytes(), wanted.end - wanted.start);
        let stored = bench.staged(digest, wanted.start, (wanted.end - wanted.start) as usize);
        assert_eq!(stored, bytes[wanted.start as usize..wanted.end as usize]);
        assert!(!fetched.events.iter().any(|event| matches!(event, TransferEvent::Headers { .. })));
        assert_eq!(registry.seen().last().unwrap().header("range"), Some(range.as_str()));
    }
}

#[tokio::test]
async fn an_empty_blob_has_one_empty_piece_and_no_range() {
    let registry = MockRegistry::start(|_| Reply::ok(b"")).await;
    for span in [UNKNOWN, Span::All { size: 0 }, Span::Pieces { size: 0, first: 0, count: 1 }] {
        let mut bench = Bench::new();
        let (source, digest) = (source(&registry.host(), Kind::Blob), digest_of(b""));
        if span != UNKNOWN {
            bench.stage(&source, digest, 0);
        }
        let fetched = bench.fetch(&source, digest, span).await;
        assert!(fetched.is_done(), "{span:?}: {:?}", fetched.events);
        assert_eq!((fetched.pieces(), fetched.bytes()), (vec![0], 0));
        assert_eq!(registry.seen().last().unwrap().header("range"), None);
    }
}

#[tokio::test]
async fn a_slow_body_is_reported_as_progress_before_its_piece_is_complete() {
    let bytes = blob(1000, 5);
    let body = bytes.clone();
    let registry = MockRegistry::start(move |_| {
        let reply = Reply::status(200).header("Content-Length", "1000");
        // Each pause is shorter than the limit for silence; together they are longer.
        let pause = SHORT * 2 / 3;
        reply.then(&body[..300]).then_pause(pause).then(&body[300..600]).then_pause(pause).then(&body[600..])
    })
    .await;
    let mut bench = Bench::new();
    let fetched = bench.fetch(&source(&registry.host(), Kind::Blob), digest_of(&bytes), UNKNOWN).await;
    assert!(fetched.is_done(), "{:?}", fetched.events);
    assert!(fetched.events.iter().any(|event| matches!(event, TransferEvent::Progress { .. })), "{:?}", fetched.events);
    assert_eq!(fetched.bytes(), 1000, "progress and pieces add up");
}

#[tokio::test]
async fn a_fetch_into_a_blob_that_is_not_staged_fails_with_missing() {
    let registry = MockRegistry::start(|_| Reply::ok(b"abc")).await;
    let mut bench = Bench::new();
    let source = source(&registry.host(), Kind::Blob);
    let fetched = bench.fetch(&source, digest_of(b"abc"), Span::All { size: 3 }).await;
    assert_eq!(fetched.failure(), &TransferFailure::Store(StoreError::Missing));
}

#[tokio::test]
async fn pieces_that_the_blob_does_not_have_are_not_asked_for() {
    let registry = MockRegistry::start(|_| Reply::ok(b"abc")).await;
    let mut bench = Bench::new();
    let source = source(&registry.host(), Kind::Blob);
    for (first, count) in [(0, 0), (0, 2), (1, 1), (u32::MAX, u32::MAX)] {
        let fetched = bench.fetch(&source, digest_of(b"abc"), Span::Pieces { size: 3, first, count }).await;
        assert!(fetched.origin_failure().detail.contains("pieces"), "{:?}", fetched.events);
    }
    assert!(registry.seen().is_empty());
}

#[tokio::test]
async fn connections_are_used_again() {
    let registry = MockRegistry::start(|_| Reply::ok(b"abc")).await;
    let mut bench = Bench::new();
    let source = source(&registry.host(), Kind::Blob);
    for _ in 0..3 {
        assert!(bench.fetch(&source, digest_of(b"abc"), UNKNOWN).await.is_done());
        bench.store.discard(digest_of(b"abc"));
    }
    assert_eq!(registry.seen().len(), 3);
    assert_eq!(registry.connections(), 1);
}

#[tokio::test]
async fn a_cancelled_fetch_drops_its_connection_and_reports_nothing_more() {
    let registry = MockRegistry::start(|_| {
        Reply::status(200).header("Content-Length", "100").then(b"abc").then_pause(Duration::from_secs(3600))
    })
    .await;
    let mut bench = Bench::with(crate::origin::OriginConfig::default());
    let op = bench.op();
    bench.client.fetch(op, source(&registry.host(), Kind::Blob), digest_of(b"abc"), UNKNOWN, None, Check::Alone);
    while !matches!(bench.next_input().await, Input::Transfer { event: TransferEvent::Headers { .. }, .. }) {}
    assert_eq!(bench.client.reports.running(), 1);
    bench.client.cancel(op);
    assert_eq!(bench.client.reports.running(), 0);
    // On a busy machine it may have made progress before.
    while bench.inputs.try_recv().is_ok() {}
    registry.all_connections_closed().await;
    assert!(bench.inputs.try_recv().is_err());
    // Another one's number, and one that ended, are no reason to complain.
    bench.client.cancel(op);
}

#[tokio::test]
async fn finished_operations_leave_nothing_behind() {
    let registry = MockRegistry::start(|_| Reply::ok(b"abc")).await;
    let mut bench = Bench::new();
    let source = source(&registry.host(), Kind::Blob);
    bench.fetch(&source, digest_of(b"abc"), UNKNOWN).await;
    bench.stat(&source, digest_of(b"abc")).await.unwrap();
    assert_eq!(bench.client.reports.running(), 0);
}

#[tokio::test]
async fn a_stat_says_size_and_type_without_a_body() {
    let digest = digest_of(b"abc");
    let registry = MockRegistry::start(move |_| {
        let reply = Reply::ok(b"abc").header("Content-Type", &format!("{MANIFEST_TYPE};x=y"));
        reply.header("Docker-Content-Digest", &digest.to_string())
    })
    .await;
    let mut bench = Bench::new();
    let stat = bench.stat(&source(&registry.host(), Kind::Manifest), digest).await;
    assert_eq!(stat, Ok(OriginStat { size: 3, media_type: Some(MANIFEST_TYPE.into()) }));
    assert_eq!(registry.seen()[0].method, "HEAD");
}

#[tokio::test]
async fn a_stat_falls_back_to_get_where_head_is_not_allowed() {
    let registry = MockRegistry::start(|seen| match seen.method.as_str() {
        "HEAD" => Reply::status(405),
        // The body never ends: it is not waited for.
        _ => Reply::status(200).header("Content-Length", "100").then(b"abc").then_pause(Duration::from_secs(3600)),
    })
    .await;
    let mut bench = Bench::new();
    let stat = bench.stat(&source(&registry.host(), Kind::Blob), digest_of(b"abc")).await;
    assert_eq!(stat, Ok(OriginStat { size: 100, media_type: None }));
}

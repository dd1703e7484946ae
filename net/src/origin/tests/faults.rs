//! Bad answers: each ends in one failure of the right class, in words.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use longshore_core::input::{TransferEvent, TransferFailure};
use longshore_core::message::FailureClass;
use longshore_core::names::Kind;
use longshore_core::output::Span;
use longshore_core::piece::MIN_PIECE_BYTES;

use super::bench::{Bench, Fetched, SHORT, UNKNOWN, blob, digest_of, short_timeouts, source};
use crate::origin::mock_registry::{MockRegistry, Reply, Seen};
use crate::origin::{OriginConfig, Timeouts};

const PIECE: usize = MIN_PIECE_BYTES as usize;
const BLOB: &[u8] = b"contents";
const FOREVER: Duration = Duration::from_secs(3600);

/// Fetches a small blob of unknown size from a registry with one reply.
async fn fetch_small(kind: Kind, reply: Reply) -> Fetched {
    let registry = MockRegistry::start(move |_| reply.clone()).await;
    let fetched = Bench::new().fetch(&source(&registry.host(), kind), digest_of(BLOB), UNKNOWN).await;
    assert_eq!(registry.seen().len(), 1, "nothing is tried again");
    fetched
}

/// Fetches the second of three pieces.
async fn fetch_piece(script: impl Fn(&Seen, &[u8]) -> Reply + Send + Sync + 'static) -> Fetched {
    let bytes = blob(3 * PIECE, 1);
    let (digest, size) = (digest_of(&bytes), bytes.len() as u64);
    let registry = MockRegistry::start(move |seen| script(seen, &bytes)).await;
    let mut bench = Bench::new();
    let source = source(&registry.host(), Kind::Blob);
    bench.stage(&source, digest, size);
    bench.fetch(&source, digest, Span::Pieces { size, first: 1, count: 1 }).await
}

fn assert_transient(fetched: &Fetched, words: &[&str]) {
    let failure = fetched.origin_failure();
    assert_eq!(failure.class, FailureClass::Transient, "{failure:?}");
    for word in words {
        assert!(failure.detail.contains(word), "{word} is not in: {}", failure.detail);
    }
}

#[tokio::test]
async fn every_status_has_its_class() {
    for (status, class) in [
        (400, FailureClass::Transient),
        (403, FailureClass::Auth),
        (404, FailureClass::NotFound),
        (408, FailureClass::Transient),
        (416, FailureClass::Transient),
        (429, FailureClass::RateLimited),
        (500, FailureClass::Transient),
        (502, FailureClass::Transient),
        (503, FailureClass::Transient),
    ] {
        let body = br#"{"errors":[{"code":"SOME_CODE","message":"some words"}]}"#;
        let reply = Reply::status(status).body(body);
        let fetched = fetch_small(Kind::Blob, reply.clone()).await;
        let failure = fetched.origin_failure();
        assert_eq!((failure.class, failure.status), (class, Some(status)), "{failure:?}");
        assert!(failure.detail.contains("GET http://127.0.0.1"), "{failure:?}");
        assert!(failure.detail.contains(&status.to_string()), "{failure:?}");
        assert!(failure.detail.contains("SOME_CODE some words"), "{failure:?}");
        assert_eq!(fetched.events.len(), 1);

        let registry = MockRegistry::start(move |_| reply.clone()).await;
        let stat = Bench::new().stat(&source(&registry.host(), Kind::Manifest), digest_of(BLOB)).await;
        let failure = stat.unwrap_err();
        assert_eq!((failure.class, failure.status), (class, Some(status)), "{failure:?}");
    }
}

#[tokio::test]
async fn retry_after_is_reported() {
    for (reply, seconds) in [
        (Reply::status(429).header("Retry-After", "17"), Some(17)),
        (Reply::status(503).header("Retry-After", "5"), Some(5)),
        (Reply::status(429), None),
    ] {
        let fetched = fetch_small(Kind::Blob, reply).await;
        assert_eq!(fetched.origin_failure().retry_after, seconds.map(Duration::from_secs));
    }
    let date = httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(100));
    let fetched = fetch_small(Kind::Blob, Reply::status(429).header("Retry-After", &date)).await;
    let wait = fetched.origin_failure().retry_after.unwrap();
    assert!((90..=100).contains(&wait.as_secs()), "{wait:?}");
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_a_transient_failure_without_status() {
    let registry = MockRegistry::start(|_| Reply::ok(BLOB)).await;
    let source = source(&registry.host(), Kind::Blob);
    drop(registry);
    // The port is closed when the listener is dropped, which is soon after the mock is.
    let refused = |fetched: &Fetched| matches!(fetched.events[..], [TransferEvent::Failed(_)]);
    let mut bench = Bench::new();
    let mut fetched = bench.fetch(&source, digest_of(BLOB), UNKNOWN).await;
    while !refused(&fetched) {
        fetched = bench.fetch(&source, digest_of(BLOB), UNKNOWN).await;
    }
    assert_transient(&fetched, &["GET http://127.0.0.1", "onnect"]);
    assert_eq!(fetched.origin_failure().status, None);
}

#[tokio::test]
async fn names_from_elsewhere_that_are_no_names_are_refused_without_a_request() {
    let mut bench = Bench::new();
    let mut bad = source("registry.example/x", Kind::Blob);
    assert_transient(&bench.fetch(&bad, digest_of(BLOB), UNKNOWN).await, &["registry.example/x", "HOST:PORT"]);
    bad.registry = "registry.example".into();
    bad.repository = "../../x".into();
    assert_transient(&bench.fetch(&bad, digest_of(BLOB), UNKNOWN).await, &["../../x", "repository"]);
}

#[tokio::test]
async fn a_kept_connection_that_is_closed_when_it_is_used_again_is_no_failure() {
    let count = AtomicUsize::new(0);
    let registry = MockRegistry::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        1 => Reply::hang_up(),
        _ => Reply::ok(BLOB),
    })
    .await;
    let mut bench = Bench::new();
    let source = source(&registry.host(), Kind::Blob);
    for _ in 0..2 {
        bench.stat(&source, digest_of(BLOB)).await.unwrap();
    }
    assert_eq!((registry.seen().len(), registry.connections()), (3, 2));
}

#[tokio::test]
async fn a_registry_that_always_hangs_up_is_a_transient_failure() {
    let registry = MockRegistry::start(|_| Reply::hang_up()).await;
    let mut bench = Bench::new();
    let fetched = bench.fetch(&source(&registry.host(), Kind::Blob), digest_of(BLOB), UNKNOWN).await;
    assert_transient(&fetched, &["GET http://127.0.0.1", "connection closed"]);
    assert_eq!(registry.seen().len(), 2, "one more connection, and no more");
}

#[tokio::test]
async fn silence_before_the_headers_ends_after_the_limit_for_headers() {
    // A listener that nobody accepts from: connections are made, and nothing is ever said.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let start = Instant::now();
    let fetched = Bench::new().fetch(&source(&host, Kind::Blob), digest_of(BLOB), UNKNOWN).await;
    assert_transient(&fetched, &["no response headers within 400ms"]);
    assert!(start.elapsed() >= SHORT);
}

#[tokio::test]
async fn a_registry_that_does_not_finish_the_tls_handshake_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = OriginConfig {
        timeouts: Timeouts { dial: SHORT / 2, tls: SHORT / 2, ..short_timeouts() },
        ..OriginConfig::default()
    };
    let base_url = Some(format!("https://{}", listener.local_addr().unwrap()).parse().unwrap());
    config.registries.insert("r.example".into(), crate::origin::Upstream { base_url, ..Default::default() });
    let fetched = Bench::with(config).fetch(&source("r.example", Kind::Blob), digest_of(BLOB), UNKNOWN).await;
    assert_transient(&fetched, &["GET https://127.0.0.1", "no TLS session within 400ms"]);
}

#[tokio::test]
async fn a_body_that_stalls_ends_after_the_limit_for_silence_and_what_came_is_reported() {
    let reply = Reply::status(200).header("Content-Length", "8").then(b"cont").then_pause(FOREVER);
    let fetched = fetch_small(Kind::Blob, reply).await;
    assert_transient(&fetched, &["4 of 8 bytes came", "nothing more came within 400ms"]);
    assert_eq!((fetched.pieces(), fetched.bytes()), (vec![], 4));
}

#[tokio::test]
async fn a_short_body_is_a_failure_and_complete_pieces_of_it_stay() {
    let bytes = blob(3 * PIECE, 2);
    let (body, digest, size) = (bytes.clone(), digest_of(&bytes), bytes.len() as u64);
    let cut = 2 * PIECE + 10;
    let registry = MockRegistry::start(move |_| {
        Reply::status(200).header("Content-Length", &body.len().to_string()).then(&body[..cut]).then_close()
    })
    .await;
    let mut bench = Bench::new();
    let source = source(&registry.host(), Kind::Blob);
    bench.stage(&source, digest, size);
    let fetched = bench.fetch(&source, digest, Span::All { size }).await;
    assert_transient(&fetched, &[&format!("{cut} of {size} bytes came")]);
    assert_eq!((fetched.pieces(), fetched.bytes()), (vec![0, 1], cut as u64));
    fetched.assert_hashes_of(&bytes);
    assert_eq!(bench.staged(digest, 0, 2 * PIECE), bytes[..2 * PIECE]);
}

#[tokio::test]
async fn a_body_in_chunks_that_ends_early_or_late_is_a_failure() {
    for (length, words) in [(7, "7 of 8 bytes came and then the end"), (9, "at least 1 bytes too many")] {
        let body = blob(length, 3);
        let registry = MockRegistry::start(move |_| Reply::status(200).chunked(&body, 2)).await;
        let mut bench = Bench::new();
        let source = source(&registry.host(), Kind::Blob);
        bench.stage(&source, digest_of(BLOB), 8);
        let fetched = bench.fetch(&source, digest_of(BLOB), Span::All { size: 8 }).await;
        assert_transient(&fetched, &[words]);
    }
}

#[tokio::test]
async fn a_chunk_that_breaks_off_is_a_failure_even_after_the_last_byte() {
    let reply = Reply::status(200).without("Content-Length").header("Transfer-Encoding", "chunked");
    let registry = MockRegistry::start(move |_| reply.clone().then(b"8\r\ncontents\r\n").then_close()).await;
    let mut bench = Bench::new();
    let source = source(&registry.host(), Kind::Blob);
    bench.stage(&source, digest_of(BLOB), 8);
    let fetched = bench.fetch(&source, digest_of(BLOB), Span::All { size: 8 }).await;
    assert_transient(&fetched, &["8 of 8 bytes came and then"]);
}

#[tokio::test]
async fn a_length_other_than_the_blob_s_is_refused_before_a_byte_is_stored() {
    for length in [7, 9] {
        let body = blob(length, 4);
        let registry = MockRegistry::start(move |_| Reply::ok(&body)).await;
        let mut bench = Bench::new();
        let source = source(&registry.host(), Kind::Blob);
        bench.stage(&source, digest_of(BLOB), 8);
        let fetched = bench.fetch(&source, digest_of(BLOB), Span::All { size: 8 }).await;
        assert_transient(&fetched, &[&format!("{length} bytes instead of 8")]);
        assert_eq!(fetched.events.len(), 1);
    }
}

#[tokio::test]
async fn an_encoded_body_is_refused() {
    for span in [UNKNOWN, Span::Pieces { size: 8, first: 0, count: 1 }] {
        let registry =
            MockRegistry::start(move |seen| Reply::blob(seen, BLOB).header("Content-Encoding", "gzip")).await;
        let mut bench = Bench::new();
        let source = source(&registry.host(), Kind::Blob);
        let fetched = bench.fetch(&source, digest_of(BLOB), span).await;
        assert_transient(&fetched, &["gzip", "identity"]);
        assert_eq!(bench.stat(&source, digest_of(BLOB)).await.unwrap_err().class, FailureClass::Transient);
    }
    assert!(fetch_small(Kind::Blob, Reply::ok(BLOB).header("Content-Encoding", "identity")).await.is_done());
}

#[tokio::test]
async fn too_large_is_refused_with_and_without_a_declared_length() {
    let body = blob(1001, 5);
    for reply in [Reply::ok(&body), Reply::status(200).chunked(&body, 100)] {
        let registry = MockRegistry::start(move |_| reply.clone()).await;
        let source = source(&registry.host(), Kind::Manifest);
        let span = Span::Unknown { max_bytes: 1000 };
        let fetched = Bench::new().fetch(&source, digest_of(&body), span).await;
        assert_transient(&fetched, &["1000"]);
        assert_eq!(fetched.events.len(), 1);
    }
}

#[tokio::test]
async fn a_blob_of_unknown_size_without_a_length_is_refused_instead_of_buffered() {
    let fetched = fetch_small(Kind::Blob, Reply::status(200).chunked(BLOB, 3)).await;
    assert_transient(&fetched, &["no Content-Length"]);
}

#[tokio::test]
async fn a_part_that_nobody_asked_for_is_refused() {
    let fetched = fetch_small(Kind::Blob, Reply::part(BLOB, 0, 8)).await;
    assert_transient(&fetched, &["206", "whole"]);
}

#[tokio::test]
async fn a_registry_without_ranges_is_reported_as_such() {
    let fetched = fetch_piece(|_, bytes| Reply::ok(bytes)).await;
    assert_eq!(fetched.failure(), &TransferFailure::NoRanges);
    // Not even when the piece is the first one: whoever wants the rest must know.
    let registry = MockRegistry::start(|_| Reply::ok(BLOB)).await;
    let mut bench = Bench::new();
    let source = source(&registry.host(), Kind::Blob);
    bench.stage(&source, digest_of(BLOB), 8);
    let fetched = bench.fetch(&source, digest_of(BLOB), Span::Pieces { size: 8, first: 0, count: 1 }).await;
    assert_eq!(fetched.failure(), &TransferFailure::NoRanges);
}

#[tokio::test]
async fn another_range_than_the_one_asked_for_is_not_used() {
    for range in [
        Some(format!("bytes 0-{}/{}", PIECE - 1, 3 * PIECE)),
        Some(format!("bytes {}-{}/{}", PIECE, 2 * PIECE - 2, 3 * PIECE)),
        Some(format!("items {}-{}/{}", PIECE, 2 * PIECE - 1, 3 * PIECE)),
        Some(format!("bytes */{}", 3 * PIECE)),
        Some("nonsense".to_owned()),
        None,
    ] {
        let fetched = fetch_piece(move |seen, bytes| match &range {
            Some(range) => Reply::blob(seen, bytes).header("Content-Range", range),
            None => Reply::blob(seen, bytes).without("Content-Range"),
        })
        .await;
        assert_eq!(fetched.failure(), &TransferFailure::NoRanges);
        assert_eq!(fetched.events.len(), 1);
    }
    let unknown_total = format!("bytes {}-{}/*", PIECE, 2 * PIECE - 1);
    let fetched =
        fetch_piece(move |seen, bytes| Reply::blob(seen, bytes).header("Content-Range", &unknown_total)).await;
    assert!(fetched.is_done(), "{:?}", fetched.events);
}

#[tokio::test]
async fn a_part_of_a_blob_of_another_size_is_refused_in_words() {
    let range = format!("bytes {}-{}/{}", PIECE, 2 * PIECE - 1, 3 * PIECE + 1);
    let fetched = fetch_piece(move |seen, bytes| Reply::blob(seen, bytes).header("Content-Range", &range)).await;
    assert_transient(&fetched, &[&format!("{} bytes there, not {}", 3 * PIECE + 1, 3 * PIECE)]);
}

#[tokio::test]
async fn a_stat_with_another_digest_or_without_a_size_is_refused() {
    let other = digest_of(b"other").to_string();
    for (reply, words) in [
        (Reply::ok(BLOB).header("Docker-Content-Digest", &other), other.as_str()),
        (Reply::ok(BLOB).without("Content-Length"), "no Content-Length"),
    ] {
        let registry = MockRegistry::start(move |_| reply.clone()).await;
        let failure = Bench::new().stat(&source(&registry.host(), Kind::Blob), digest_of(BLOB)).await.unwrap_err();
        assert_eq!((failure.class, failure.status), (FailureClass::Transient, Some(200)));
        assert!(failure.detail.contains(words), "{failure:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_a_transient_failure() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n").await.unwrap();
    });
    let fetched = Bench::new().fetch(&source(&host, Kind::Blob), digest_of(BLOB), UNKNOWN).await;
    assert_transient(&fetched, &["GET http://127.0.0.1"]);
    server.await.unwrap();
}

#[tokio::test]
async fn endless_response_headers_are_given_up() {
    let long = "x".repeat(4 * 1024 * 1024);
    let fetched = fetch_small(Kind::Blob, Reply::ok(BLOB).header("X-Long", &long)).await;
    assert_transient(&fetched, &["GET http://127.0.0.1"]);
}

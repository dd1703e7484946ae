//! The bytes: ranges, bodies that grow, bodies that end early.

use super::*;

#[tokio::test]
async fn a_large_blob_arrives_byte_for_byte() {
    let mut rig = Rig::start().await;
    let bytes = pattern(3 * 1024 * 1024 + 17);
    let digest = rig.commit(&bytes).await;
    let answer = rig.served(&get_blob(digest), digest, bytes.len() as u64, None).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/octet-stream")));
    assert!(answer.body == bytes);
}

#[tokio::test]
async fn an_empty_blob_is_served() {
    let mut rig = Rig::start().await;
    let digest = rig.commit(b"").await;
    let answer = rig.served(&get_blob(digest), digest, 0, None).await;
    assert_eq!((answer.status, answer.header("content-length"), answer.body.len()), (200, Some("0"), 0));
}

#[tokio::test]
async fn ranges_are_answered_as_the_conformance_suite_wants_them() {
    let mut rig = Rig::start().await;
    let bytes = pattern(4000);
    let digest = rig.commit(&bytes).await;
    for (range, status, part, content_range) in [
        ("bytes=500-1499", 206, 500..1500, Some("bytes 500-1499/4000")),
        ("bytes=500-", 206, 500..4000, Some("bytes 500-3999/4000")),
        ("bytes=-500", 206, 3500..4000, Some("bytes 3500-3999/4000")),
        ("bytes=2000-5000", 206, 2000..4000, Some("bytes 2000-3999/4000")),
        ("bytes=0-", 206, 0..4000, Some("bytes 0-3999/4000")),
        ("bytes=0-1,5-6", 200, 0..4000, None),
        ("pages=1-2", 200, 0..4000, None),
    ] {
        let answer = rig.served(&with_header(&get_blob(digest), &format!("Range: {range}")), digest, 4000, None).await;
        assert_eq!((answer.status, answer.header("content-range")), (status, content_range), "{range}");
        assert_eq!(answer.header("content-length"), Some(&*part.len().to_string()), "{range}");
        assert!(answer.body == bytes[part], "{range}");
    }
    for range in ["bytes=500-0", "bytes=5000-10000"] {
        let answer = rig.served(&with_header(&get_blob(digest), &format!("Range: {range}")), digest, 4000, None).await;
        assert_eq!((answer.status, answer.header("content-range")), (416, Some("bytes */4000")), "{range}");
    }
}

#[tokio::test]
async fn a_range_on_the_condition_of_another_blob_is_answered_whole() {
    let mut rig = Rig::start().await;
    let bytes = pattern(100);
    let digest = rig.commit(&bytes).await;
    let ranged = with_header(&get_blob(digest), "Range: bytes=10-19");
    let same = rig.served(&with_header(&ranged, &format!("If-Range: \"{digest}\"")), digest, 100, None).await;
    assert_eq!((same.status, same.body.len()), (206, 10));
    let other = rig.served(&with_header(&ranged, "If-Range: \"other\""), digest, 100, None).await;
    assert_eq!((other.status, other.body.len()), (200, 100));
    let two = rig.served(&with_header(&ranged, "Range: bytes=0-1"), digest, 100, None).await;
    assert_eq!((two.status, two.body.len()), (200, 100));
}

#[tokio::test]
async fn a_body_grows_with_the_released_prefix_and_ends_with_the_commit() {
    let mut rig = Rig::start().await;
    let bytes = pattern(900_000);
    let digest = rig.stage(&bytes);
    let mut client = rig.connect().await;
    client.send(&get_blob(digest)).await;
    let request = rig.asked().await;
    rig.driver.serve(request, digest, bytes.len() as u64, None);
    // The headers come before anything is released.
    assert_eq!(client.head().await.header("content-length"), Some("900000"));
    rig.store.release(digest, 1);
    assert_eq!(client.exactly(1).await, bytes[..1]);
    rig.store.release(digest, 400_000);
    assert!(client.exactly(399_999).await == bytes[1..400_000]);
    // Nothing that is not released has been sent: the end comes only after the next release.
    let early = tokio::time::timeout(Duration::from_millis(50), client.0.read_u8()).await;
    assert!(early.is_err(), "a byte that was not released: {early:?}");
    rig.store.commit(digest, facts());
    assert!(client.all().await == bytes[400_000..]);
    // Which of the two is told first is a matter of threads.
    let told = [rig.input().await, rig.input().await];
    assert!(told.contains(&Input::Committed { digest, result: Ok(()) }), "{told:?}");
    assert!(told.contains(&Input::MirrorClosed { request, sent_bytes: 900_000 }), "{told:?}");
}

#[tokio::test]
async fn a_range_starts_at_its_offset_as_soon_as_that_is_released() {
    let mut rig = Rig::start().await;
    let bytes = pattern(600_000);
    let digest = rig.stage(&bytes);
    rig.store.release(digest, 500_001);
    let mut client = rig.connect().await;
    client.send(&with_header(&get_blob(digest), "Range: bytes=500000-")).await;
    let request = rig.asked().await;
    rig.driver.serve(request, digest, bytes.len() as u64, None);
    assert_eq!(client.head().await.header("content-range"), Some("bytes 500000-599999/600000"));
    assert_eq!(client.exactly(1).await, bytes[500_000..500_001]);
    rig.store.release(digest, 600_000);
    assert!(client.all().await == bytes[500_001..]);
    assert_eq!(rig.closed(request).await, 100_000);
}

#[tokio::test]
async fn an_aborted_body_ends_early_in_fin_after_a_declared_length() {
    let mut rig = Rig::start().await;
    let bytes = pattern(800_000);
    let digest = rig.stage(&bytes);
    rig.store.release(digest, 300_000);
    let mut client = rig.connect().await;
    // Keep-alive: it has to be closed nevertheless. The next request is on its way already, and must not cause RST.
    let keep = get_blob(digest).replace("Connection: close\r\n", "");
    client.send(&format!("{keep}{keep}")).await;
    let request = rig.asked().await;
    rig.driver.serve(request, digest, bytes.len() as u64, None);
    let head = client.head().await;
    assert_eq!((head.header("content-length"), head.header("transfer-encoding")), (Some("800000"), None));
    assert!(client.exactly(300_000).await == bytes[..300_000]);
    rig.driver.abort(request);
    assert_eq!(client.all().await, b"", "nothing is padded");
    assert_eq!(rig.closed(request).await, 300_000);
    assert!(rig.inputs.try_recv().is_err(), "the request behind it is not read");
}

#[tokio::test]
async fn an_abort_is_obeyed_while_the_client_is_not_reading() {
    let mut rig = Rig::start().await;
    let bytes = pattern(48 * 1024 * 1024);
    let digest = rig.commit(&bytes).await;
    let mut client = rig.connect().await;
    client.send(&get_blob(digest)).await;
    let request = rig.asked().await;
    rig.driver.serve(request, digest, bytes.len() as u64, None);
    client.head().await;
    rig.driver.abort(request);
    assert!(rig.closed(request).await < bytes.len() as u64);
    let got = client.all().await;
    assert!(got.len() < bytes.len() && got == bytes[..got.len()]);
}

#[tokio::test]
async fn a_body_whose_blob_is_discarded_ends_early_in_fin() {
    let mut rig = Rig::start().await;
    let bytes = pattern(800_000);
    let digest = rig.stage(&bytes);
    rig.store.release(digest, 300_000);
    let mut client = rig.connect().await;
    client.send(&get_blob(digest)).await;
    let request = rig.asked().await;
    rig.driver.serve(request, digest, bytes.len() as u64, None);
    client.head().await;
    assert!(client.exactly(300_000).await == bytes[..300_000]);
    rig.store.discard(digest);
    assert_eq!(client.all().await, b"");
    assert_eq!(rig.closed(request).await, 300_000);
}

#[tokio::test]
async fn a_body_of_a_complete_blob_survives_its_eviction() {
    let mut rig = Rig::start().await;
    // Much more than the buffers of both sockets hold.
    let bytes = pattern(48 * 1024 * 1024);
    let digest = rig.commit(&bytes).await;
    let mut client = rig.connect().await;
    client.send(&get_blob(digest)).await;
    let request = rig.asked().await;
    rig.driver.serve(request, digest, bytes.len() as u64, None);
    client.head().await;
    let start = client.exactly(1000).await;
    rig.store.evict(digest);
    assert_eq!(rig.input().await, Input::Evicted { digest });
    assert!([start, client.all().await].concat() == bytes);
    assert_eq!(rig.closed(request).await, bytes.len() as u64);
}

#[tokio::test]
async fn an_abort_before_any_decision_sends_containerd_on() {
    let mut rig = Rig::start().await;
    let mut client = rig.connect().await;
    client.send(&get_blob(some_digest())).await;
    let request = rig.asked().await;
    rig.driver.abort(request);
    assert_eq!(client.answer_and_end().await.status, 404);
    assert_eq!(rig.closed(request).await, 0);
}

#[tokio::test]
async fn a_blob_that_is_gone_when_it_is_to_be_served_is_not_found() {
    let mut rig = Rig::start().await;
    let answer = {
        let mut client = rig.connect().await;
        client.send(&get_blob(some_digest())).await;
        let request = rig.asked().await;
        rig.driver.serve(request, some_digest(), 10, None);
        let answer = client.answer_and_end().await;
        assert_eq!(rig.closed(request).await, 0);
        answer
    };
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn decisions_for_requests_that_are_over_or_unknown_do_nothing() {
    let mut rig = Rig::start().await;
    let bytes = pattern(10);
    let digest = rig.commit(&bytes).await;
    rig.driver.serve(RequestId(4711), digest, 10, None);
    rig.driver.abort(RequestId(4711));
    let mut client = rig.connect().await;
    client.send(&get_blob(digest)).await;
    let request = rig.asked().await;
    rig.driver.serve(request, digest, 10, None);
    rig.driver.refuse(request, Refusal::NotHere);
    assert_eq!(client.answer_and_end().await.body, bytes);
    assert_eq!(rig.closed(request).await, 10);
    rig.driver.serve(request, digest, 10, None);
    rig.driver.abort(request);
    assert!(rig.inputs.try_recv().is_err());
}

//! Connections: reuse, abuse, limits, and the end.

use std::collections::BTreeSet;

use super::*;

fn keep_alive(request: &str) -> String {
    request.replace("Connection: close\r\n", "")
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other() {
    let mut rig = Rig::start().await;
    let bytes = pattern(300_000);
    let digest = rig.commit(&bytes).await;
    let mut client = rig.connect().await;
    for _ in 0..3 {
        client.send(&keep_alive(&get_blob(digest))).await;
        let request = rig.asked().await;
        rig.driver.serve(request, digest, bytes.len() as u64, None);
        assert!(client.answer().await.body == bytes);
        rig.closed(request).await;
        client.send(&keep_alive(&get_blob(digest))).await;
        let request = rig.asked().await;
        rig.driver.refuse(request, Refusal::NotHere);
        assert_eq!(client.answer().await.status, 404);
        rig.closed(request).await;
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let mut rig = Rig::start().await;
    let bytes = pattern(1000);
    let digest = rig.commit(&bytes).await;
    let mut client = rig.connect().await;
    client.send(&format!("{0}{0}{1}", keep_alive(&get_blob(digest)), get("/v2/"))).await;
    for _ in 0..2 {
        let request = rig.asked().await;
        rig.driver.serve(request, digest, 1000, None);
        assert!(client.answer().await.body == bytes);
        rig.closed(request).await;
    }
    assert_eq!(client.answer_and_end().await.body, b"{}");
}

#[tokio::test]
async fn no_byte_of_many_pipelined_requests_is_lost_between_bodies() {
    let mut rig = Rig::start().await;
    let bytes = pattern(1000);
    let digest = rig.commit(&bytes).await;
    let mut client = rig.connect().await;
    // More than fits into one buffer of hyper's, cut at any place.
    let requests: String = (0..300_usize)
        .map(|index| keep_alive(&with_header(&get_blob(digest), &format!("X-Filler: {}", "x".repeat(index)))))
        .collect();
    client.send(&requests).await;
    for index in 0..300 {
        let request = rig.asked().await;
        if index % 3 == 0 {
            rig.driver.refuse(request, Refusal::NotHere);
            assert_eq!(client.answer().await.status, 404, "{index}");
        } else {
            rig.driver.serve(request, digest, 1000, None);
            assert!(client.answer().await.body == bytes, "{index}");
        }
        rig.closed(request).await;
    }
}

#[tokio::test]
async fn a_connection_that_the_client_wants_closed_is_closed_after_the_body() {
    let mut rig = Rig::start().await;
    let bytes = pattern(1000);
    let digest = rig.commit(&bytes).await;
    let old = keep_alive(&get_blob(digest)).replace("HTTP/1.1", "HTTP/1.0");
    for request in [get_blob(digest), get_blob(digest).replace("close", "TE, Close"), old] {
        let answer = rig.served(&request, digest, 1000, None).await;
        assert!(answer.body == bytes, "{request}");
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_while_a_body_waits_for_bytes_is_reported() {
    let mut rig = Rig::start().await;
    let bytes = pattern(1000);
    let digest = rig.stage(&bytes);
    rig.store.release(digest, 100);
    let mut client = rig.connect().await;
    client.send(&keep_alive(&get_blob(digest))).await;
    let request = rig.asked().await;
    rig.driver.serve(request, digest, 1000, None);
    client.head().await;
    client.exactly(100).await;
    drop(client);
    assert_eq!(rig.closed(request).await, 100);
}

#[tokio::test]
async fn a_client_that_hangs_up_while_waiting_is_reported_once() {
    let mut rig = Rig::start().await;
    let mut client = rig.connect().await;
    client.send(&get_blob(some_digest())).await;
    let request = rig.asked().await;
    drop(client);
    assert_eq!(rig.closed(request).await, 0);
    rig.driver.serve(request, some_digest(), 10, None);
    rig.driver.handle().drain();
    soon("the end", rig.driver.handle().finished()).await;
    assert!(rig.inputs.try_recv().is_err());
}

#[tokio::test]
async fn a_client_that_hangs_up_in_the_body_is_reported_once_with_what_it_got() {
    let mut rig = Rig::start().await;
    let bytes = pattern(32 * 1024 * 1024);
    let digest = rig.commit(&bytes).await;
    let mut client = rig.connect().await;
    client.send(&with_header(&get_blob(digest), "Range: bytes=0-")).await;
    let request = rig.asked().await;
    rig.driver.serve(request, digest, bytes.len() as u64, None);
    client.head().await;
    client.exactly(100_000).await;
    drop(client);
    let sent = rig.closed(request).await;
    assert!((100_000..bytes.len() as u64).contains(&sent), "{sent}");
    rig.driver.handle().drain();
    soon("the end", rig.driver.handle().finished()).await;
    assert!(rig.inputs.try_recv().is_err());
}

#[tokio::test]
async fn two_hundred_requests_at_a_time_are_all_answered() {
    let mut rig = Rig::start().await;
    let bytes = Arc::new(pattern(300_000));
    let digest = rig.stage(&bytes);
    let mut clients = Vec::new();
    for _ in 0..200 {
        let (mut client, bytes) = (rig.connect().await, Arc::clone(&bytes));
        clients.push(tokio::spawn(async move {
            client.send(&get_blob(digest)).await;
            client.answer_and_end().await.body == *bytes
        }));
    }
    let mut open = BTreeSet::new();
    while open.len() < 200 {
        assert!(open.insert(rig.asked().await));
    }
    for request in &open {
        rig.driver.serve(*request, digest, bytes.len() as u64, None);
    }
    rig.store.release(digest, bytes.len() as u64);
    for client in clients {
        assert!(soon("an answer", client).await.unwrap());
    }
    for _ in 0..200 {
        let input = rig.input().await;
        let Input::MirrorClosed { request, sent_bytes: 300_000 } = input else { panic!("{input:?}") };
        assert!(open.remove(&request), "closed twice");
    }
}

#[tokio::test]
async fn a_request_with_64_kib_of_headers_is_answered() {
    let mut rig = Rig::start().await;
    let one = with_header(&get_blob(some_digest()), &format!("X-Large: {}", "x".repeat(64 * 1024)));
    assert_eq!(rig.refused(&one, Refusal::NotHere).await.status, 404);
    let many: String = (0..64).map(|index| format!("X-{index}: {}\r\n", "y".repeat(1014))).collect();
    let many = with_header(&get_blob(some_digest()), many.trim_end());
    assert_eq!(rig.refused(&many, Refusal::NotHere).await.status, 404);
}

#[tokio::test]
async fn a_request_with_far_too_many_headers_is_answered_with_431() {
    let mut rig = Rig::start().await;
    let large = with_header(&get("/v2/"), &format!("X-Large: {}", "x".repeat(300 * 1024)));
    assert_eq!(rig.exchange(&large).await.status, 431);
    let many: String = (0..2000).map(|index| format!("X-{index}: y\r\n")).collect();
    assert_eq!(rig.exchange(&with_header(&get("/v2/"), many.trim_end())).await.status, 431);
    assert!(rig.inputs.try_recv().is_err());
}

#[tokio::test]
async fn a_client_that_sends_its_head_too_slowly_is_closed_without_a_408() {
    let rig = Rig::with(MirrorConfig { header_timeout: Duration::from_millis(100), ..loopback() }).await;
    for start in ["", "GET /v2/ HTTP/1.1\r\nX-Slow: "] {
        let mut client = rig.connect().await;
        client.send(start).await;
        assert_eq!(client.all().await, b"", "{start:?}");
    }
}

#[tokio::test]
async fn a_request_with_a_body_is_refused_without_reset() {
    let rig = Rig::start().await;
    let mut client = rig.connect().await;
    let body = "x".repeat(1_000_000);
    let head = format!("PUT /v2/a/manifests/latest HTTP/1.1\r\nHost: mirror\r\nContent-Length: {}\r\n\r\n", body.len());
    let (mut read, mut write) = client.0.split();
    let sending = async {
        write.write_all(format!("{head}{body}").as_bytes()).await.expect("the body is drained");
        write.shutdown().await.unwrap();
    };
    let mut bytes = Vec::new();
    let reading = async { read.read_to_end(&mut bytes).await.expect("FIN, not RST") };
    soon("both", async { tokio::join!(sending, reading) }).await;
    assert_eq!(Answer::of(&bytes).status, 405);
}

#[tokio::test]
async fn what_is_no_http_1_is_refused() {
    let mut rig = Rig::start().await;
    assert_eq!(rig.exchange("\u{16}\u{3}\u{1} hello TLS\r\n\r\n").await.status, 400);
    let mut client = rig.connect().await;
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    client.all().await;
    assert!(rig.inputs.try_recv().is_err());
}

#[tokio::test]
async fn a_connection_over_the_limit_is_answered_with_503_and_a_free_place_is_used_again() {
    let rig = Rig::with(MirrorConfig { max_connections: 1, ..loopback() }).await;
    let mut first = rig.connect().await;
    first.send(&keep_alive(&get("/v2/"))).await;
    first.answer().await;
    let over = rig.connect().await.answer_and_end().await;
    assert_eq!(over.status, 503);
    assert_eq!(over.header("content-length"), Some(&*over.body.len().to_string()));
    let _: serde_json::Value = serde_json::from_slice(&over.body).unwrap();
    drop(first);
    let free = async {
        while rig.exchange(&get("/v2/")).await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    soon("a free place", free).await;
}

#[tokio::test]
async fn draining_stops_accepting_and_lets_bodies_finish() {
    let mut rig = Rig::start().await;
    let bytes = pattern(500_000);
    let digest = rig.stage(&bytes);
    let mut idle = rig.connect().await;
    idle.send(&keep_alive(&get("/v2/"))).await;
    idle.answer().await;
    let mut client = rig.connect().await;
    client.send(&keep_alive(&get_blob(digest))).await;
    let request = rig.asked().await;
    rig.driver.serve(request, digest, bytes.len() as u64, None);
    client.head().await;
    let handle = rig.driver.handle();
    handle.drain();
    assert_eq!(idle.all().await, b"");
    let refused = async { while TcpStream::connect(rig.address).await.is_ok() {} };
    soon("a closed port", refused).await;
    rig.store.release(digest, bytes.len() as u64);
    assert!(client.all().await == bytes);
    rig.closed(request).await;
    soon("the end", handle.finished()).await;
}

#[tokio::test]
async fn cutting_ends_bodies_now_in_fin() {
    let mut rig = Rig::start().await;
    let bytes = pattern(500_000);
    let digest = rig.stage(&bytes);
    rig.store.release(digest, 10);
    let mut client = rig.connect().await;
    client.send(&get_blob(digest)).await;
    let request = rig.asked().await;
    rig.driver.serve(request, digest, bytes.len() as u64, None);
    client.head().await;
    assert_eq!(client.exactly(10).await, bytes[..10]);
    rig.driver.handle().cut();
    assert_eq!(client.all().await, b"");
    assert_eq!(rig.closed(request).await, 10);
    soon("the end", rig.driver.handle().finished()).await;
}

#[tokio::test]
async fn when_the_shell_ends_waiting_requests_get_a_503() {
    let mut rig = Rig::start().await;
    let mut client = rig.connect().await;
    client.send(&get_blob(some_digest())).await;
    rig.asked().await;
    let handle = rig.driver.handle();
    drop(rig.driver);
    assert_eq!(client.answer_and_end().await.status, 503);
    soon("the end", handle.finished()).await;
}

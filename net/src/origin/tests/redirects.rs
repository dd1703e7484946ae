//! Redirects are followed, and credentials do not travel with them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use longshore_core::message::FailureClass;
use longshore_core::names::Kind;
use longshore_core::output::Span;

use super::bench::{Bench, UNKNOWN, blob, digest_of, source};
use crate::origin::mock_registry::{MockRegistry, Reply};

const BLOB: &[u8] = b"contents";

#[tokio::test]
async fn a_redirect_to_another_host_leaves_the_credential_behind_and_keeps_the_range() {
    let bytes = blob(600_000, 1);
    let (body, digest, size) = (bytes.clone(), digest_of(&bytes), bytes.len() as u64);
    let storage = MockRegistry::start(move |seen| Reply::blob(seen, &body)).await;
    let location = format!("http://evil:password@{}/data?X-Signature=secret", storage.host());
    let registry = MockRegistry::start(move |_| Reply::status(307).header("Location", &location)).await;
    let mut bench = Bench::new();
    let id = bench.vault.insert(b"Bearer token").unwrap();
    let source = source(&registry.host(), Kind::Blob);
    bench.stage(&source, digest, size);
    let fetched = bench.fetch_as(&source, digest, Span::Pieces { size, first: 1, count: 1 }, Some(id)).await;
    assert!(fetched.is_done(), "{:?}", fetched.events);
    fetched.assert_hashes_of(&bytes);
    assert_eq!(registry.seen()[0].header("authorization"), Some("Bearer token"));
    let there = &storage.seen()[0];
    assert_eq!(there.header("authorization"), None);
    assert_eq!(there.header("range"), Some("bytes=262144-524287"));
    assert_eq!(there.header("host"), Some(storage.host().as_str()));
    assert_eq!(there.target, "/data?X-Signature=secret");
}

#[tokio::test]
async fn a_relative_redirect_on_the_same_host_keeps_the_credential() {
    let registry = MockRegistry::start(|seen| match seen.path() {
        "/elsewhere/blob" => Reply::ok(BLOB),
        "/step" => Reply::status(308).header("Location", "elsewhere/blob?x=1"),
        _ => Reply::status(302).header("Location", "/step"),
    })
    .await;
    let mut bench = Bench::new();
    let id = bench.vault.insert(b"Bearer token").unwrap();
    let fetched = bench.fetch_as(&source(&registry.host(), Kind::Blob), digest_of(BLOB), UNKNOWN, Some(id)).await;
    assert!(fetched.is_done(), "{:?}", fetched.events);
    let seen = registry.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|seen| seen.header("authorization") == Some("Bearer token")));
}

#[tokio::test]
async fn a_credential_that_was_left_behind_does_not_come_back() {
    // All three are different parties; the third one stands for any place that the second one chooses.
    let third = MockRegistry::start(|_| Reply::ok(BLOB)).await;
    let back = format!("http://{}/x", third.host());
    let other = MockRegistry::start(move |_| Reply::status(307).header("Location", &back)).await;
    let away = format!("http://{}/", other.host());
    let home = MockRegistry::start(move |_| Reply::status(307).header("Location", &away)).await;
    let mut bench = Bench::new();
    let id = bench.vault.insert(b"Bearer token").unwrap();
    let fetched = bench.fetch_as(&source(&home.host(), Kind::Blob), digest_of(BLOB), UNKNOWN, Some(id)).await;
    assert!(fetched.is_done(), "{:?}", fetched.events);
    assert_eq!(third.seen()[0].header("authorization"), None);
}

#[tokio::test]
async fn a_loop_of_redirects_ends_after_ten() {
    let registry = MockRegistry::start(|seen| Reply::status(302).header("Location", &seen.target)).await;
    let mut bench = Bench::new();
    let fetched = bench.fetch(&source(&registry.host(), Kind::Blob), digest_of(BLOB), UNKNOWN).await;
    let failure = fetched.origin_failure();
    assert_eq!(failure.class, FailureClass::Transient);
    assert!(failure.detail.contains("more than 10 redirects"), "{failure:?}");
    assert_eq!(registry.seen().len(), 11, "the request and ten redirects");
}

#[tokio::test]
async fn a_redirect_to_nowhere_is_a_failure_in_words() {
    for reply in [
        Reply::status(302),
        Reply::status(302).header("Location", "http://[bad"),
        Reply::status(302).header("Location", "ftp://a.example/"),
    ] {
        let registry = MockRegistry::start(move |_| reply.clone()).await;
        let failure = Bench::new().stat(&source(&registry.host(), Kind::Blob), digest_of(BLOB)).await.unwrap_err();
        assert_eq!((failure.class, failure.status), (FailureClass::Transient, Some(302)));
        assert!(failure.detail.contains("redirect"), "{failure:?}");
    }
}

#[tokio::test]
async fn a_storage_service_that_refuses_says_nothing_about_the_requester() {
    for status in [401, 403] {
        let storage = MockRegistry::start(move |_| {
            Reply::status(status).header("WWW-Authenticate", "Basic realm=\"give me your password\"")
        })
        .await;
        let location = format!("http://{}/data?X-Signature=secret", storage.host());
        let registry = MockRegistry::start(move |_| Reply::status(307).header("Location", &location)).await;
        let mut bench = Bench::new();
        let secret = format!("Basic {}", STANDARD.encode("user:password"));
        let id = bench.vault.insert(secret.as_bytes()).unwrap();
        let failure =
            bench.stat_as(&source(&registry.host(), Kind::Blob), digest_of(BLOB), Some(id)).await.unwrap_err();
        assert_eq!((failure.class, failure.status), (FailureClass::Transient, Some(status)), "{failure:?}");
        assert_eq!(failure.challenge, []);
        assert!(failure.detail.contains("redirected to"), "{failure:?}");
        assert!(!failure.detail.contains("secret") && !failure.detail.contains("challenge"), "{failure:?}");
        assert_eq!(storage.seen().len(), 1, "no password for it");
        assert_eq!(storage.seen()[0].header("authorization"), None);
    }
}

#[tokio::test]
async fn a_blob_that_the_storage_service_does_not_have_is_not_found() {
    let storage = MockRegistry::start(|_| Reply::status(404)).await;
    let location = format!("http://{}/data", storage.host());
    let registry = MockRegistry::start(move |_| Reply::status(307).header("Location", &location)).await;
    let failure = Bench::new().stat(&source(&registry.host(), Kind::Blob), digest_of(BLOB)).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::NotFound);
}

#[tokio::test]
async fn a_token_service_that_redirects_elsewhere_does_not_pass_the_password_on() {
    let elsewhere = MockRegistry::start(|_| Reply::ok(br#"{"token":"t"}"#)).await;
    let location = format!("http://{}/token", elsewhere.host());
    let registry = MockRegistry::start(move |seen| {
        let host = seen.header("host").unwrap();
        match (seen.path(), seen.header("authorization")) {
            ("/token", _) => Reply::status(302).header("Location", &location),
            (_, Some("Bearer t")) => Reply::ok(BLOB),
            _ => Reply::challenge(&[&format!("Bearer realm=\"http://{host}/token\"")]),
        }
    })
    .await;
    let mut bench = Bench::new();
    let secret = format!("Basic {}", STANDARD.encode("user:password"));
    let id = bench.vault.insert(secret.as_bytes()).unwrap();
    bench.stat_as(&source(&registry.host(), Kind::Blob), digest_of(BLOB), Some(id)).await.unwrap();
    assert_eq!(registry.seen()[1].header("authorization"), Some(secret.as_str()));
    assert_eq!(elsewhere.seen()[0].header("authorization"), None);
}

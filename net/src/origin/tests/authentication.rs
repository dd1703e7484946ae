//! Who is asked for what with which credential.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use longshore_core::input::{Input, OriginFailure};
use longshore_core::message::FailureClass;
use longshore_core::names::{Kind, Source};

use super::bench::{Bench, digest_of, short_timeouts, source};
use crate::driver::Origin as _;
use crate::origin::mock_registry::{MockRegistry, Reply, Seen};
use crate::origin::{NodeCredential, OriginConfig, Upstream};

const BLOB: &[u8] = b"contents";

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// A registry that wants `Bearer TOKEN-FOR-<scope>-<user>` and issues such tokens itself; user `anonymous` needs no
/// password, every other one `right`.
async fn token_registry(needs_user: bool) -> MockRegistry {
    token_registry_with(needs_user, |reply| reply).await
}

async fn token_registry_with(
    needs_user: bool,
    change: impl Fn(Reply) -> Reply + Send + Sync + 'static,
) -> MockRegistry {
    MockRegistry::start(move |seen| {
        let host = seen.header("host").unwrap();
        if seen.path() == "/token" {
            let user = match seen.header("authorization") {
                None => "anonymous",
                Some(value) if value == basic("user", "right") => "user",
                Some(value) if value == basic("node", "right") => "node",
                Some(_) => return Reply::challenge(&["Basic realm=\"token service\""]),
            };
            let scope = seen.query("scope").join(" ");
            assert_eq!(seen.query("service"), ["the registry"]);
            return change(Reply::ok(format!(r#"{{"token":"{}","expires_in":300}}"#, token(&scope, user)).as_bytes()));
        }
        let scope = format!("repository:{}:pull", seen.path().split('/').skip(2).take(2).collect::<Vec<_>>().join("/"));
        let users: &[&str] = if needs_user { &["user", "node"] } else { &["anonymous", "user", "node"] };
        let good = |user: &&str| seen.header("authorization") == Some(&format!("Bearer {}", token(&scope, user)));
        if users.iter().any(good) {
            return Reply::ok(BLOB);
        }
        Reply::challenge(&[&format!(r#"Bearer realm="http://{host}/token",service="the registry",scope="{scope}""#)])
    })
    .await
}

fn token(scope: &str, user: &str) -> String {
    STANDARD.encode(format!("{scope} {user}"))
}

fn paths(registry: &MockRegistry) -> Vec<String> {
    let short = |seen: Seen| if seen.path() == "/token" { "token".into() } else { seen.method };
    registry.seen().into_iter().map(short).collect()
}

fn blob_source(registry: &MockRegistry) -> Source {
    source(&registry.host(), Kind::Blob)
}

fn with_node_credential(registry: &MockRegistry, password: &str) -> Bench {
    let mut config = OriginConfig { timeouts: short_timeouts(), ..OriginConfig::default() };
    let credential = Some(NodeCredential::new("node", password).unwrap());
    config.registries.insert(registry.host(), Upstream { credential, ..Upstream::default() });
    Bench::with(config)
}

fn assert_auth(failure: &OriginFailure, challenge: &str, words: &str) {
    assert_eq!(failure.class, FailureClass::Auth, "{failure:?}");
    assert_eq!(failure.challenge.len(), 1, "{failure:?}");
    assert!(failure.challenge[0].contains(challenge), "{failure:?}");
    assert!(failure.detail.contains(words), "{failure:?}");
}

#[tokio::test]
async fn an_anonymous_token_is_got_once_and_used_for_the_whole_repository() {
    let registry = token_registry(false).await;
    let mut bench = Bench::new();
    let source = blob_source(&registry);
    for _ in 0..3 {
        bench.stat(&source, digest_of(BLOB)).await.unwrap();
    }
    assert_eq!(paths(&registry), ["HEAD", "token", "HEAD", "HEAD", "HEAD"]);
    assert!(registry.seen()[1].header("authorization").is_none());
}

#[tokio::test]
async fn every_repository_has_a_token_of_its_own() {
    let registry = token_registry(false).await;
    let mut bench = Bench::new();
    let first = blob_source(&registry);
    let second = Source { repository: "library/other".into(), ..first.clone() };
    for source in [&first, &second, &first, &second] {
        bench.stat(source, digest_of(BLOB)).await.unwrap();
    }
    assert_eq!(paths(&registry), ["HEAD", "token", "HEAD", "HEAD", "token", "HEAD", "HEAD", "HEAD"]);
    assert_eq!(registry.seen()[1].query("scope"), ["repository:library/thing:pull"]);
    assert_eq!(registry.seen()[4].query("scope"), ["repository:library/other:pull"]);
}

#[tokio::test]
async fn requests_at_the_same_time_share_one_token() {
    let registry = token_registry(false).await;
    let mut bench = Bench::new();
    let source = blob_source(&registry);
    for _ in 0..6 {
        let op = bench.op();
        bench.client.stat(op, source.clone(), digest_of(BLOB), None);
    }
    let mut answers = 0;
    while answers < 6 {
        if let Input::OriginStat { result, .. } = bench.next_input().await {
            result.unwrap();
            answers += 1;
        }
    }
    assert_eq!(paths(&registry).iter().filter(|path| *path == "token").count(), 1);
}

#[tokio::test]
async fn a_requester_s_password_goes_to_the_token_service_only() {
    let registry = token_registry(true).await;
    let mut bench = Bench::new();
    let id = bench.vault.insert(basic("user", "right").as_bytes()).unwrap();
    bench.stat_as(&blob_source(&registry), digest_of(BLOB), Some(id)).await.unwrap();
    let authorizations: Vec<Option<String>> =
        registry.seen().iter().map(|seen| seen.header("authorization").map(str::to_owned)).collect();
    let bearer = format!("Bearer {}", token("repository:library/thing:pull", "user"));
    assert_eq!(authorizations, [None, Some(basic("user", "right")), Some(bearer)]);
}

#[tokio::test]
async fn a_wrong_password_at_the_token_service_ends_in_the_registry_s_challenge() {
    let registry = token_registry(true).await;
    let mut bench = Bench::new();
    let id = bench.vault.insert(basic("user", "wrong").as_bytes()).unwrap();
    let failure = bench.stat_as(&blob_source(&registry), digest_of(BLOB), Some(id)).await.unwrap_err();
    // Not the challenge of the token service: containerd has to ask where the registry sends it.
    assert_auth(&failure, "Bearer realm=", "/token: 401");
    assert!(!failure.detail.contains("scope"), "{failure:?}");
}

#[tokio::test]
async fn an_anonymous_token_that_is_not_enough_ends_in_the_challenge() {
    let registry = token_registry(true).await;
    let mut bench = Bench::new();
    let failure = bench.stat(&blob_source(&registry), digest_of(BLOB)).await.unwrap_err();
    assert_auth(&failure, "Bearer realm=", "401");
    assert_eq!(paths(&registry), ["HEAD", "token", "HEAD"]);
    // The useless token was not kept.
    bench.stat(&blob_source(&registry), digest_of(BLOB)).await.unwrap_err();
    assert_eq!(paths(&registry).len(), 6);
}

#[tokio::test]
async fn tokens_of_different_requesters_and_of_the_node_are_not_shared() {
    let registry = token_registry(false).await;
    let mut bench = with_node_credential(&registry, "right");
    let source = blob_source(&registry);
    let user = bench.vault.insert(basic("user", "right").as_bytes()).unwrap();
    let wrong = bench.vault.insert(basic("user", "wrong").as_bytes()).unwrap();
    bench.stat_as(&source, digest_of(BLOB), Some(user)).await.unwrap();
    bench.stat_as(&source, digest_of(BLOB), Some(wrong)).await.unwrap_err();
    bench.stat_as(&source, digest_of(BLOB), None).await.unwrap();
    let tokens: Vec<Option<String>> = registry
        .seen()
        .iter()
        .filter(|seen| seen.path() == "/token")
        .map(|seen| seen.header("authorization").map(str::to_owned))
        .collect();
    assert_eq!(
        tokens,
        [Some(basic("user", "right")), Some(basic("user", "wrong")), Some(basic("node", "right"))],
        "each with its own, and no one falls back to another"
    );
}

#[tokio::test]
async fn a_rejected_cached_token_is_replaced_once() {
    let epoch = Arc::new(AtomicUsize::new(1));
    let now = epoch.clone();
    let registry = MockRegistry::start(move |seen| {
        let current = now.load(Ordering::SeqCst);
        let host = seen.header("host").unwrap();
        if seen.path() == "/token" {
            return Reply::ok(format!(r#"{{"access_token":"t{current}"}}"#).as_bytes());
        }
        if seen.header("authorization") == Some(&format!("Bearer t{current}")) {
            return Reply::ok(BLOB);
        }
        Reply::challenge(&[&format!(r#"Bearer realm="http://{host}/token""#)])
    })
    .await;
    let mut bench = Bench::new();
    let source = blob_source(&registry);
    bench.stat(&source, digest_of(BLOB)).await.unwrap();
    epoch.store(2, Ordering::SeqCst);
    bench.stat(&source, digest_of(BLOB)).await.unwrap();
    assert_eq!(paths(&registry), ["HEAD", "token", "HEAD", "HEAD", "token", "HEAD"]);
    // Without a scope in the challenge, the repository's own is asked for.
    assert_eq!(registry.seen()[1].query("scope"), ["repository:library/thing:pull"]);
    assert!(registry.seen()[1].query("service").is_empty());
}

#[tokio::test]
async fn a_requester_s_token_is_sent_as_it_is_and_never_replaced() {
    let registry = token_registry(true).await;
    let mut bench = with_node_credential(&registry, "right");
    let source = blob_source(&registry);
    let good = format!("Bearer {}", token("repository:library/thing:pull", "user"));
    let good = bench.vault.insert(good.as_bytes()).unwrap();
    bench.stat_as(&source, digest_of(BLOB), Some(good)).await.unwrap();
    assert_eq!(paths(&registry), ["HEAD"]);

    let bad = bench.vault.insert(b"Bearer expired").unwrap();
    let failure = bench.stat_as(&source, digest_of(BLOB), Some(bad)).await.unwrap_err();
    assert_auth(&failure, "Bearer realm=", "rejected");
    assert_eq!(paths(&registry), ["HEAD", "HEAD"], "no token service, no identity of the node");
}

async fn basic_registry() -> MockRegistry {
    MockRegistry::start(|seen| match seen.header("authorization") {
        Some(value) if value == basic("user", "right") || value == basic("node", "right") => Reply::ok(BLOB),
        _ => Reply::challenge(&[r#"Basic realm="private""#]),
    })
    .await
}

#[tokio::test]
async fn a_password_is_sent_to_a_registry_only_after_its_basic_challenge_and_then_at_once() {
    let registry = basic_registry().await;
    let mut bench = Bench::new();
    let source = blob_source(&registry);
    let id = bench.vault.insert(basic("user", "right").as_bytes()).unwrap();
    for _ in 0..2 {
        bench.stat_as(&source, digest_of(BLOB), Some(id)).await.unwrap();
    }
    let sent: Vec<bool> = registry.seen().iter().map(|seen| seen.header("authorization").is_some()).collect();
    assert_eq!(sent, [false, true, true]);
}

#[tokio::test]
async fn a_wrong_password_is_sent_once_and_then_refused() {
    let registry = basic_registry().await;
    // The node's own identity would do, and must not be used for a requester who is refused.
    let mut bench = with_node_credential(&registry, "right");
    let id = bench.vault.insert(basic("user", "wrong").as_bytes()).unwrap();
    for requests in [2, 3] {
        let failure = bench.stat_as(&blob_source(&registry), digest_of(BLOB), Some(id)).await.unwrap_err();
        assert_auth(&failure, r#"Basic realm="private""#, "401");
        assert_eq!((failure.status, registry.seen().len()), (Some(401), requests));
    }
    bench.stat(&blob_source(&registry), digest_of(BLOB)).await.unwrap();
}

#[tokio::test]
async fn without_a_credential_a_basic_challenge_is_relayed() {
    let registry = basic_registry().await;
    let failure = Bench::new().stat(&blob_source(&registry), digest_of(BLOB)).await.unwrap_err();
    assert_auth(&failure, r#"Basic realm="private""#, "there is none");
    assert_eq!(registry.seen().len(), 1);
}

#[tokio::test]
async fn a_wrong_password_of_the_node_does_not_fall_back_to_anonymous() {
    let registry = token_registry(false).await;
    let mut bench = with_node_credential(&registry, "wrong");
    let failure = bench.stat(&blob_source(&registry), digest_of(BLOB)).await.unwrap_err();
    assert_auth(&failure, "Bearer realm=", "/token: 401");
    assert_eq!(paths(&registry), ["HEAD", "token"]);
}

#[tokio::test]
async fn a_forgotten_credential_s_tokens_are_gone() {
    let registry = token_registry(true).await;
    let mut bench = Bench::new();
    let source = blob_source(&registry);
    let id = bench.vault.insert(basic("user", "right").as_bytes()).unwrap();
    bench.stat_as(&source, digest_of(BLOB), Some(id)).await.unwrap();
    bench.client.forget_credential(id);
    bench.stat_as(&source, digest_of(BLOB), Some(id)).await.unwrap();
    assert_eq!(paths(&registry), ["HEAD", "token", "HEAD", "HEAD", "token", "HEAD"]);
}

#[tokio::test]
async fn a_credential_that_is_not_kept_is_no_reason_to_ask_without() {
    let registry = token_registry(false).await;
    let unknown = longshore_core::names::CredentialId(999);
    let failure = Bench::new().stat_as(&blob_source(&registry), digest_of(BLOB), Some(unknown)).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Transient);
    assert!(registry.seen().is_empty());
}

#[tokio::test]
async fn failures_of_the_token_service_have_their_own_classes() {
    for (reply, class, words) in [
        (Reply::status(403), FailureClass::Auth, "403"),
        (Reply::status(404), FailureClass::Transient, "404"),
        (Reply::status(429).header("Retry-After", "7"), FailureClass::RateLimited, "429"),
        (Reply::status(503), FailureClass::Transient, "503"),
        (Reply::ok(b"not json"), FailureClass::Transient, "JSON"),
        (Reply::ok(br#"{"token":""}"#), FailureClass::Transient, "no token"),
        (Reply::ok(&vec![b' '; 64 * 1024 + 1]), FailureClass::Transient, "longer than 65536"),
    ] {
        let registry = token_registry_with(false, move |_| reply.clone()).await;
        let failure = Bench::new().stat(&blob_source(&registry), digest_of(BLOB)).await.unwrap_err();
        assert_eq!(failure.class, class, "{failure:?}");
        assert!(failure.detail.contains("/token") && failure.detail.contains(words), "{failure:?}");
        assert_eq!(failure.challenge.is_empty(), class != FailureClass::Auth, "{failure:?}");
        let seconds = failure.retry_after.map(|wait| wait.as_secs());
        assert_eq!(seconds, (class == FailureClass::RateLimited).then_some(7));
    }
}

#[tokio::test]
async fn a_challenge_that_cannot_be_answered_is_relayed_and_nothing_is_sent() {
    for (challenge, words) in [
        ("Negotiate", "neither Basic nor Bearer"),
        (r#"Bearer realm="/token""#, "cannot be read"),
        (r#"Bearer realm="ftp://a.example/token""#, "not reached by HTTPS"),
    ] {
        let registry = MockRegistry::start(move |_| Reply::challenge(&[challenge])).await;
        let failure = Bench::new().stat(&blob_source(&registry), digest_of(BLOB)).await.unwrap_err();
        assert_auth(&failure, challenge, words);
        assert_eq!(registry.seen().len(), 1);
    }
}

#[tokio::test]
async fn all_challenges_are_relayed_as_they_came() {
    let registry = MockRegistry::start(|_| Reply::challenge(&["Basic realm=\"a\"", "Negotiate"])).await;
    let failure = Bench::new().stat(&blob_source(&registry), digest_of(BLOB)).await.unwrap_err();
    assert_eq!(failure.challenge, ["Basic realm=\"a\"".into(), "Negotiate".into()]);
}

#[tokio::test]
async fn what_was_fetched_with_a_credential_is_staged_as_private() {
    let open = MockRegistry::start(|_| Reply::ok(BLOB)).await;
    let tokens = token_registry(false).await;
    let closed = basic_registry().await;
    let password = basic("user", "right");
    for (registry, credential, is_private) in [
        (&open, None, false),
        (&open, Some(password.as_str()), false),
        (&open, Some("Bearer something"), true),
        (&tokens, None, false),
        (&tokens, Some(password.as_str()), true),
        (&closed, Some(password.as_str()), true),
    ] {
        let mut bench = Bench::new();
        let id = credential.map(|secret| bench.vault.insert(secret.as_bytes()).unwrap());
        let fetched = bench.fetch_as(&blob_source(registry), digest_of(BLOB), super::bench::UNKNOWN, id).await;
        assert!(fetched.is_done(), "{:?}", fetched.events);
        assert_eq!(bench.staged_as_private(digest_of(BLOB)), is_private, "{credential:?}");
    }
}

#[tokio::test]
async fn no_secret_shows_in_failures_or_in_debug() {
    let registry = token_registry(true).await;
    let mut bench = with_node_credential(&registry, "node-password");
    let id = bench.vault.insert(b"Bearer top-secret-token").unwrap();
    let requester = bench.stat_as(&blob_source(&registry), digest_of(BLOB), Some(id)).await.unwrap_err();
    let node = bench.stat(&blob_source(&registry), digest_of(BLOB)).await.unwrap_err();
    let shown = format!("{requester:?} {node:?} {:?}", bench.client);
    for secret in ["top-secret", "node-password", &STANDARD.encode("node:node-password")] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

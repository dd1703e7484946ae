use super::*;
use http::StatusCode;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::prelude::*;

const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn digest() -> Digest {
    format!("sha256:{HEX}").parse().unwrap()
}

fn content(registry: Option<&str>, repository: &str, kind: Kind) -> Route {
    Route::Content { registry: registry.map(Into::into), repository: repository.into(), kind, digest: digest() }
}

fn refusal(path: &str, query: Option<&str>) -> (u16, &'static str) {
    let problem = parse(path, query).unwrap_err();
    (problem.status.as_u16(), problem.code)
}

#[test]
fn content_by_digest_is_understood() {
    let path = format!("/v2/library/alpine/manifests/sha256:{HEX}");
    assert_eq!(parse(&path, Some("ns=docker.io")), Ok(content(Some("docker.io"), "library/alpine", Kind::Manifest)));
    let path = format!("/v2/app/blobs/sha256:{HEX}");
    assert_eq!(parse(&path, None), Ok(content(None, "app", Kind::Blob)));
}

#[test]
fn percent_encoding_and_the_port_of_a_registry_are_understood() {
    let path = format!("/v2/library%2Falpine/blobs/sha256%3A{HEX}");
    let expected = content(Some("registry.local:5000"), "library/alpine", Kind::Blob);
    assert_eq!(parse(&path, Some("x=1&ns=Registry.local%3A5000&ns=other")), Ok(expected));
    let path = format!("/v2/a/blobs/sha256:{HEX}");
    assert_eq!(parse(&path, Some("ns=[::1]:5000")), Ok(content(Some("[::1]:5000"), "a", Kind::Blob)));
}

#[test]
fn a_name_may_contain_the_words_of_the_families() {
    let path = format!("/v2/blobs/manifests/blobs/sha256:{HEX}");
    assert_eq!(parse(&path, None), Ok(content(None, "blobs/manifests", Kind::Blob)));
}

#[test]
fn names_follow_the_grammar_of_the_specification() {
    for good in ["a", "a/b", "a.b_c__d-e--f/0", "library/alpine", "a---b"] {
        assert!(is_repository(good), "{good}");
    }
    let long = "a".repeat(256);
    for bad in ["", "A", "a//b", "/a", "a/", ".a", "a.", "a..b", "a___b", "a_.b", "a b", "ä", "a/../b", "a%", &long] {
        assert!(!is_repository(bad), "{bad}");
        assert_eq!(refusal(&format!("/v2/{}/blobs/sha256:{HEX}", bad.replace('%', "%25")), None).0, 404, "{bad}");
    }
    assert_eq!(refusal(&format!("/v2/UPPER/blobs/sha256:{HEX}"), None), (404, "NAME_INVALID"));
}

#[test]
fn what_is_the_registrys_business_is_not_found() {
    assert_eq!(refusal("/v2/app/manifests/latest", None), (404, "MANIFEST_UNKNOWN"));
    assert_eq!(refusal("/v2/app/manifests/.bad.tag", None), (404, "MANIFEST_UNKNOWN"));
    assert_eq!(refusal(&format!("/v2/app/referrers/sha256:{HEX}"), None), (404, "UNSUPPORTED"));
    assert_eq!(refusal("/v2/app/tags/list", None), (404, "UNSUPPORTED"));
    assert_eq!(refusal("/v2/_catalog", None), (404, "UNSUPPORTED"));
    let sha512 = format!("sha512:{HEX}{HEX}");
    assert_eq!(refusal(&format!("/v2/app/blobs/{sha512}"), None), (404, "BLOB_UNKNOWN"));
    assert_eq!(refusal(&format!("/v2/app/manifests/{sha512}"), None), (404, "MANIFEST_UNKNOWN"));
    for nothing in ["", "/", "/v1/", "/v2//", "/v3/a/blobs/x", "v2/", "/v2/%ff/blobs/x", "/v2/blobs/x"] {
        assert_eq!(refusal(nothing, None).0, 404, "{nothing}");
    }
}

#[test]
fn what_cannot_be_a_digest_is_a_bad_request() {
    for bad in ["sha256:", "sha256:abc", "md5:0123", ":", "sha256:ABCDEF", &format!("sha256:{HEX}0")] {
        assert_eq!(refusal(&format!("/v2/app/manifests/{bad}"), None), (400, "DIGEST_INVALID"), "{bad}");
    }
    assert_eq!(refusal("/v2/app/blobs/latest", None), (400, "DIGEST_INVALID"));
    assert_eq!(refusal("/v2/app/blobs/", None), (400, "DIGEST_INVALID"));
}

#[test]
fn an_ns_that_is_no_registry_is_not_found() {
    let path = format!("/v2/app/blobs/sha256:{HEX}");
    let long = "a.".repeat(200);
    for bad in [
        "",
        "a/b",
        "a@b",
        "user:pw@host",
        "host:",
        "host:0",
        "host:99999",
        "a b",
        "-a",
        "a-",
        "a..b",
        "[::1",
        "[::g]",
        "host:80:80",
        "%ff",
        "host%0d%0a",
        "[::1]80",
        &long,
    ] {
        assert_eq!(refusal(&path, Some(&format!("ns={bad}"))), (404, "NAME_UNKNOWN"), "{bad}");
    }
    for good in ["docker.io", "localhost", "127.0.0.1:5000", "my_registry:5000", "[fe80::1]", "a-b.c:1"] {
        assert!(parse(&path, Some(&format!("ns={good}"))).is_ok(), "{good}");
    }
}

#[test]
fn messages_quote_requests_harmlessly() {
    let problem = parse(&format!("/v2/{}/blobs/x", "\"<\u{1}\n>".repeat(100)), None).unwrap_err();
    let json: serde_json::Value = serde_json::from_str(&problem.json()).unwrap();
    let message = json["errors"][0]["message"].as_str().unwrap();
    assert!(message.starts_with("longshore mirror: "), "{message}");
    assert!(message.len() < 600 && !message.contains('\n'), "{message}");
}

proptest! {
    #[test]
    fn no_target_makes_the_parser_panic_and_refusals_are_never_retried_by_containerd(
        path in "(/v2/)?[a-z/%:.A-F0-9ä-]{0,80}", any_path: String, query in proptest::option::of("(ns=)?.{0,40}"),
    ) {
        for path in [&path, &any_path] {
            if let Err(problem) = parse(path, query.as_deref()) {
                prop_assert!(matches!(problem.status, StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST));
            }
        }
    }

    #[test]
    fn a_url_that_names_content_gives_that_content_back_however_it_is_encoded(
        repository in "[a-z0-9]{1,8}([._]|__|-{1,3})[a-z0-9]{1,8}(/[a-z0-9]{1,8}){0,3}",
        registry in proptest::option::of("[a-z0-9]{1,8}(\\.[a-z0-9]{1,8}){0,2}(:[1-9][0-9]{0,3})?"),
        bytes: [u8; 32], manifest: bool, encode: bool,
    ) {
        let digest = Digest::from_bytes(bytes);
        let kind = if manifest { Kind::Manifest } else { Kind::Blob };
        let family = if manifest { "manifests" } else { "blobs" };
        let encoded = |text: &str| if encode { utf8_percent_encode(text, NON_ALPHANUMERIC).to_string() } else { text.to_owned() };
        let path = format!("/v2/{}/{family}/{}", encoded(&repository), encoded(&digest.to_string()));
        let query = registry.as_ref().map(|registry| format!("ns={}", encoded(registry)));
        let expected = Route::Content {
            registry: registry.map(Into::into), repository: repository.into(), kind, digest,
        };
        prop_assert_eq!(parse(&path, query.as_deref()), Ok(expected));
    }
}

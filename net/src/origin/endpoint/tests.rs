use super::*;

fn url_of(config: &OriginConfig, registry: &str, repository: &str, kind: Kind) -> Result<String, String> {
    let source = Source { registry: registry.into(), repository: repository.into(), kind };
    let url = Endpoint::of_registry(config, registry)?.url(&source, Digest::from_bytes([0xab; 32]))?;
    Ok(url.as_str().replace(&"ab".repeat(32), "ab.."))
}

#[test]
fn registries_are_reached_by_https_and_those_on_this_machine_by_http() {
    let config = OriginConfig::default();
    for (registry, expected) in [
        ("ghcr.io", "https://ghcr.io/v2/a/b/blobs/sha256:ab.."),
        ("registry.example:5000", "https://registry.example:5000/v2/a/b/blobs/sha256:ab.."),
        ("docker.io", "https://registry-1.docker.io/v2/a/b/blobs/sha256:ab.."),
        ("localhost:5000", "http://localhost:5000/v2/a/b/blobs/sha256:ab.."),
        ("127.0.0.1:5000", "http://127.0.0.1:5000/v2/a/b/blobs/sha256:ab.."),
        ("[::1]:5000", "http://[::1]:5000/v2/a/b/blobs/sha256:ab.."),
        ("localhost.example", "https://localhost.example/v2/a/b/blobs/sha256:ab.."),
    ] {
        assert_eq!(url_of(&config, registry, "a/b", Kind::Blob).as_deref(), Ok(expected));
    }
}

#[test]
fn settings_decide_scheme_host_and_prefix() {
    let mut config = OriginConfig::default();
    let base = |url: &str| Upstream { base_url: Some(Url::parse(url).unwrap()), ..Upstream::default() };
    config.registries.insert("docker.io".into(), base("https://cache.example/hub/"));
    config.registries.insert("lab:5000".into(), Upstream { plain_http: true, ..Upstream::default() });
    assert_eq!(
        url_of(&config, "docker.io", "library/alpine", Kind::Manifest).as_deref(),
        Ok("https://cache.example/hub/v2/library/alpine/manifests/sha256:ab..")
    );
    assert_eq!(url_of(&config, "lab:5000", "a", Kind::Config).as_deref(), Ok("http://lab:5000/v2/a/blobs/sha256:ab.."));
}

#[test]
fn names_that_would_lead_elsewhere_are_refused() {
    let config = OriginConfig::default();
    for registry in ["", "user@evil.example", "a/b", "a?b", "a#b", "a b", "host:port", "[::1"] {
        assert!(url_of(&config, registry, "a", Kind::Blob).is_err(), "{registry}");
    }
    for repository in ["", "a//b", "../a", "a/./b", "a?x=1", "a#b", "a%2e", "/a", "a/", "a b", "ä"] {
        assert!(url_of(&config, "ghcr.io", repository, Kind::Blob).is_err(), "{repository}");
    }
    assert!(url_of(&config, "ghcr.io", &"a".repeat(256), Kind::Blob).is_err());
}

#[test]
fn urls_in_logs_have_no_secrets() {
    let url = Url::parse("https://user:pass@cdn.example:8443/data/x?X-Amz-Signature=secret#part").unwrap();
    assert_eq!(redacted(&url), "https://cdn.example:8443/data/x");
}

#[test]
fn the_same_party_is_the_same_scheme_host_and_port() {
    let url = |text: &str| Url::parse(text).unwrap();
    assert!(same_party(&url("https://a.example/x"), &url("https://a.example:443/y?z")));
    for other in ["http://a.example/x", "https://b.a.example/x", "https://a.example:444/x"] {
        assert!(!same_party(&url("https://a.example/x"), &url(other)), "{other}");
    }
}

#[test]
fn base_urls_that_cannot_work_are_refused_with_the_reason() {
    for (url, reason) in [
        ("ftp://a.example", "scheme"),
        ("https://user:secret@a.example", "user name"),
        ("https://a.example?x", "query"),
    ] {
        let mut config = OriginConfig::default();
        let upstream = Upstream { base_url: Some(Url::parse(url).unwrap()), ..Upstream::default() };
        config.registries.insert("a.example".into(), upstream);
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("a.example") && !error.contains("secret"), "{error}");
    }
}

//! Which request gets which status and headers.

use longshore_core::input::Method;

use super::*;

#[tokio::test]
async fn the_ping_says_registry_two() {
    let rig = Rig::start().await;
    let answer = rig.exchange(&get("/v2/")).await;
    insta::assert_snapshot!(answer.text(), @r#"
    HTTP/1.1 200 OK
    content-type: application/json
    content-length: 2
    docker-distribution-api-version: registry/2.0
    connection: close

    {}
    "#);
    assert_eq!(rig.exchange(&get("/v2")).await.text(), answer.text());
    let health = rig.exchange(&get("/healthz")).await;
    assert_eq!((health.status, &health.body[..]), (200, &b"ok\n"[..]));
}

#[tokio::test]
async fn a_committed_manifest_is_answered_with_everything_that_containerd_reads() {
    let mut rig = Rig::start().await;
    let bytes = b"{\"schemaVersion\":2}";
    let digest = rig.commit(bytes).await;
    let request = get(&format!("/v2/library/app/manifests/{digest}?ns=docker.io"));
    let answer = rig.served(&request, digest, 19, Some("application/vnd.oci.image.manifest.v1+json")).await;
    insta::assert_snapshot!(answer.text(), @r#"
    HTTP/1.1 200 OK
    docker-distribution-api-version: registry/2.0
    content-type: application/vnd.oci.image.manifest.v1+json
    content-length: 19
    accept-ranges: bytes
    docker-content-digest: sha256:bafebd36189ad3688b7b3915ea55d461e0bfcfbdde11e54b0a123999fb6be50f
    etag: "sha256:bafebd36189ad3688b7b3915ea55d461e0bfcfbdde11e54b0a123999fb6be50f"
    connection: close

    {"schemaVersion":2}
    "#);
}

#[tokio::test]
async fn a_head_request_has_the_headers_of_get_and_no_body() {
    let mut rig = Rig::start().await;
    // The size is known, the bytes need not be here yet.
    let request = get_blob(some_digest()).replacen("GET", "HEAD", 1);
    let mut client = rig.connect().await;
    client.send(&with_header(&request, "Range: bytes=5-6")).await;
    let Input::Mirror { request, method, .. } = rig.input().await else { panic!("a request") };
    assert_eq!(method, Method::Head);
    rig.driver.serve(request, some_digest(), 12_345, None);
    let answer = client.answer_and_end().await;
    insta::assert_snapshot!(answer.text(), @r#"
    HTTP/1.1 200 OK
    docker-distribution-api-version: registry/2.0
    content-type: application/octet-stream
    content-length: 12345
    accept-ranges: bytes
    docker-content-digest: sha256:5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a
    etag: "sha256:5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a"
    connection: close
    "#);
    assert_eq!(rig.closed(request).await, 0);
}

#[tokio::test]
async fn the_core_hears_exactly_what_was_asked_for() {
    let mut rig = Rig::start().await;
    let digest = some_digest();
    for (path, registry, repository, kind) in [
        (format!("/v2/a/b/manifests/{digest}?ns=Quay.io%3A443"), "quay.io:443", "a/b", Kind::Manifest),
        (format!("/v2/a/blobs/{digest}"), "registry.test:5000", "a", Kind::Blob),
    ] {
        let mut client = rig.connect().await;
        client.send(&get(&path)).await;
        let input = rig.input().await;
        let Input::Mirror { request, method, source, digest: asked, credential } = input else { panic!("{input:?}") };
        let expected = Source { registry: registry.into(), repository: repository.into(), kind };
        assert_eq!((method, source, asked, credential), (Method::Get, expected, digest, None));
        rig.driver.refuse(request, Refusal::NotHere);
        rig.closed(request).await;
    }
}

#[tokio::test]
async fn basic_and_bearer_credentials_are_kept_and_others_are_not() {
    let mut rig = Rig::start().await;
    let long = format!("Bearer {}", "x".repeat(70 * 1024));
    for (header, kept) in [
        ("Basic dXNlcjpwYXNz", true),
        ("bearer abc.def", true),
        ("Digest username=x", false),
        ("Bearer", false),
        (&long, false),
    ] {
        let mut client = rig.connect().await;
        client.send(&with_header(&get_blob(some_digest()), &format!("Authorization: {header}"))).await;
        let Input::Mirror { request, credential, .. } = rig.input().await else { panic!("a request") };
        assert_eq!(credential.is_some(), kept, "{header:.20}");
        rig.driver.refuse(request, Refusal::NotHere);
        assert_eq!(client.answer_and_end().await.status, 404);
        rig.closed(request).await;
    }
}

#[tokio::test]
async fn not_here_is_a_404_that_names_the_agent() {
    let mut rig = Rig::start().await;
    let answer = rig.refused(&get_blob(some_digest()), Refusal::NotHere).await;
    insta::assert_snapshot!(answer.text(), @r#"
    HTTP/1.1 404 Not Found
    content-type: application/json
    content-length: 114
    docker-distribution-api-version: registry/2.0
    connection: close

    {"errors":[{"code":"BLOB_UNKNOWN","message":"longshore mirror: blob 5a5a5a5a5a5a is not here: ask the registry"}]}
    "#);
    let answer = rig.refused(&get(&format!("/v2/a/manifests/{}", some_digest())), Refusal::NotHere).await;
    assert!(answer.text().contains("MANIFEST_UNKNOWN"), "{answer:?}");
}

#[tokio::test]
async fn challenges_of_the_registry_are_relayed_verbatim_and_cannot_smuggle_headers() {
    let mut rig = Rig::start().await;
    let bearer = "Bearer realm=\"https://auth.test/token\",service=\"registry.test\",scope=\"repository:app:pull\"";
    let refusal = challenges(&[bearer, "Basic realm=\"x\"", "Basic realm=\"evil\r\nx-evil: 1\""]);
    let answer = rig.refused(&get_blob(some_digest()), refusal).await;
    insta::assert_snapshot!(answer.text(), @r#"
    HTTP/1.1 401 Unauthorized
    content-type: application/json
    content-length: 123
    docker-distribution-api-version: registry/2.0
    www-authenticate: Bearer realm="https://auth.test/token",service="registry.test",scope="repository:app:pull"
    www-authenticate: Basic realm="x"
    connection: close

    {"errors":[{"code":"UNAUTHORIZED","message":"longshore mirror: the registry wants credentials; its challenge is relayed"}]}
    "#);
}

#[tokio::test]
async fn unavailable_is_a_503_with_the_reason() {
    let mut rig = Rig::start().await;
    let answer = rig.refused(&get_blob(some_digest()), Refusal::Unavailable { reason: "starting".into() }).await;
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("longshore mirror: starting"), "{answer:?}");
}

#[tokio::test]
async fn methods_other_than_get_and_head_are_not_allowed() {
    let rig = Rig::start().await;
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"] {
        let answer = rig.exchange(&get_blob(some_digest()).replacen("GET", method, 1)).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method}");
        assert!(answer.text().contains("UNSUPPORTED"));
    }
}

#[tokio::test]
async fn bad_requests_do_not_reach_the_core() {
    let mut rig = Rig::start().await;
    let digest = some_digest();
    for (path, status) in [
        ("/".to_owned(), 404),
        ("/v2/app/manifests/latest".to_owned(), 404),
        ("/v2/app/tags/list".to_owned(), 404),
        (format!("/v2/UPPER/blobs/{digest}"), 404),
        (format!("/v2/app/referrers/{digest}"), 404),
        (format!("/v2/app/blobs/sha512:{}", "ab".repeat(64)), 404),
        (format!("/v2/app/blobs/{digest}?ns=a/b"), 404),
        ("/v2/app/blobs/sha256:short".to_owned(), 400),
    ] {
        let answer = rig.exchange(&get(&path)).await;
        assert_eq!(answer.status, status, "{path}");
        let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert!(json["errors"][0]["code"].is_string(), "{path}: {json}");
    }
    assert!(rig.inputs.try_recv().is_err());
}

#[tokio::test]
async fn only_configured_registries_are_mirrored() {
    let registries = Some(vec!["docker.io".into(), "Quay.io:443".into()]);
    let mut rig = Rig::with(MirrorConfig { registries, default_registry: None, ..loopback() }).await;
    let path = |ns: &str| get(&format!("/v2/app/blobs/{}{ns}", some_digest()));
    for refused in ["?ns=ghcr.io", "?ns=quay.io", ""] {
        let answer = rig.exchange(&path(refused)).await;
        assert_eq!(answer.status, 404, "{refused}");
        assert!(answer.text().contains("NAME_UNKNOWN"), "{answer:?}");
    }
    assert_eq!(rig.refused(&path("?ns=quay.io:443"), Refusal::NotHere).await.status, 404);
}

#[tokio::test]
async fn a_request_without_ns_means_the_only_registry_there_is() {
    let registries = Some(vec!["ghcr.io".into()]);
    let mut rig = Rig::with(MirrorConfig { registries, default_registry: None, ..loopback() }).await;
    let mut client = rig.connect().await;
    client.send(&get_blob(some_digest())).await;
    let Input::Mirror { source, .. } = rig.input().await else { panic!("a request") };
    assert_eq!(&*source.registry, "ghcr.io");
}

#[tokio::test]
async fn a_port_that_is_taken_is_explained() {
    let rig = Rig::start().await;
    let (sender, _inputs) = Inputs::channel();
    let config = MirrorConfig { bind: rig.address, ..loopback() };
    let error = MirrorServer::start(config, rig.store.clone(), Vault::new(), sender.clone()).unwrap_err().to_string();
    assert!(error.contains(&rig.address.to_string()) && error.contains("taken"), "{error}");
    let config = MirrorConfig { default_registry: Some("https://docker.io/".into()), ..loopback() };
    let error = MirrorServer::start(config, rig.store.clone(), Vault::new(), sender).unwrap_err().to_string();
    assert!(error.contains("'https://docker.io/' is not a registry"), "{error}");
}

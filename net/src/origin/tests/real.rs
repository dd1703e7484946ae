//! Against Debian's `docker-registry`.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use http::{Request, StatusCode};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use longshore_core::digest::Digest;
use longshore_core::input::OriginStat;
use longshore_core::message::FailureClass;
use longshore_core::names::{Kind, Source};
use longshore_core::output::Span;
use longshore_core::piece::Geometry;
use tempfile::TempDir;

use super::bench::{Bench, UNKNOWN, blob, digest_of, source};
use crate::origin::{NodeCredential, OriginConfig, Upstream};

/// `user` with the password `right-password`.
const HTPASSWD: &str = "user:$2b$05$abcdefghijklmnopqrstuuBO.kmgTJhdt40M5ZyHgFmcpBdUb9aS.\n";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// A registry process of our own; ends with the test.
struct DockerRegistry {
    process: Child,
    host: String,
    password: Option<&'static str>,
    _directory: TempDir,
}

impl DockerRegistry {
    fn start(with_password: bool) -> Self {
        // Another process may take the port before the registry does: then it is tried with another one.
        (0..5).find_map(|_| Self::try_start(with_password)).expect("docker-registry starts")
    }

    fn try_start(with_password: bool) -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
            path("data")
        );
        if with_password {
            std::fs::write(path("htpasswd"), HTPASSWD).unwrap();
            config += &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", path("htpasswd"));
        }
        std::fs::write(path("config.yml"), config).unwrap();
        let mut process = Command::new("docker-registry")
            .args(["serve", &path("config.yml")])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry is installed (apt-get install docker-registry)");
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let is_listening = lines.by_ref().map_while(Result::ok).any(|line| line.contains("listening on"));
        if !is_listening {
            let _ = process.wait();
            return None;
        }
        // Somebody has to read the rest, or the registry stops when the pipe is full.
        std::thread::spawn(move || lines.for_each(drop));
        let password = with_password.then_some("right-password");
        Some(Self { process, host: format!("127.0.0.1:{port}"), password, _directory: directory })
    }

    async fn send(
        &self,
        method: &str,
        url: &str,
        media_type: &str,
        body: &[u8],
    ) -> http::Response<hyper::body::Incoming> {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let mut request = Request::builder().method(method).uri(url).header(CONTENT_TYPE, media_type);
        if let Some(password) = self.password {
            request = request.header(AUTHORIZATION, basic(password));
        }
        client.request(request.body(Full::new(Bytes::copy_from_slice(body))).unwrap()).await.unwrap()
    }

    async fn push_blob(&self, bytes: &[u8]) -> Digest {
        let digest = digest_of(bytes);
        let uploads = format!("http://{}/v2/library/thing/blobs/uploads/", self.host);
        let response = self.send("POST", &uploads, "application/octet-stream", b"").await;
        let location = response.headers()[LOCATION].to_str().unwrap();
        let response =
            self.send("PUT", &format!("{location}&digest={digest}"), "application/octet-stream", bytes).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        digest
    }

    async fn push_manifest(&self) -> (Digest, Vec<u8>) {
        let config = self.push_blob(b"{}").await;
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST_TYPE}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":2}},"layers":[]}}"#
        );
        let url = format!("http://{}/v2/library/thing/manifests/latest", self.host);
        let response = self.send("PUT", &url, MANIFEST_TYPE, manifest.as_bytes()).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        (digest_of(manifest.as_bytes()), manifest.into_bytes())
    }

    fn source(&self, kind: Kind) -> Source {
        source(&self.host, kind)
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn basic(password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("user:{password}")))
}

#[tokio::test]
async fn a_real_registry_gives_manifests_whole_blobs_and_pieces() {
    let registry = DockerRegistry::start(false);
    let bytes = blob(3_000_000, 1);
    let digest = registry.push_blob(&bytes).await;
    let (manifest_digest, manifest) = registry.push_manifest().await;

    let mut bench = Bench::new();
    let fetched = bench.fetch(&registry.source(Kind::Manifest), manifest_digest, UNKNOWN).await;
    assert!(fetched.is_done(), "{:?}", fetched.events);
    assert_eq!(bench.staged(manifest_digest, 0, manifest.len()), manifest);
    assert!(!bench.staged_as_private(manifest_digest));

    let source = registry.source(Kind::Blob);
    let fetched = bench.fetch(&source, digest, UNKNOWN).await;
    assert!(fetched.is_done(), "{:?}", fetched.events);
    fetched.assert_hashes_of(&bytes);
    assert_eq!(bench.staged(digest, 0, bytes.len()), bytes);

    let mut bench = Bench::new();
    let size = bytes.len() as u64;
    let pieces = Geometry::of_blob(size).pieces();
    bench.stage(&source, digest, size);
    for (first, count) in [(3, 2), (pieces - 1, 1), (0, 3), (5, pieces - 6)] {
        let fetched = bench.fetch(&source, digest, Span::Pieces { size, first, count }).await;
        assert!(fetched.is_done(), "{:?}", fetched.events);
        fetched.assert_hashes_of(&bytes);
    }
    assert_eq!(bench.staged(digest, 0, bytes.len()), bytes);
}

#[tokio::test]
async fn a_real_registry_says_sizes_and_what_it_does_not_have() {
    let registry = DockerRegistry::start(false);
    let digest = registry.push_blob(&blob(1234, 2)).await;
    let (manifest_digest, manifest) = registry.push_manifest().await;
    let mut bench = Bench::new();
    let stat = bench.stat(&registry.source(Kind::Blob), digest).await.unwrap();
    assert_eq!(stat, OriginStat { size: 1234, media_type: Some("application/octet-stream".into()) });
    let stat = bench.stat(&registry.source(Kind::Manifest), manifest_digest).await.unwrap();
    assert_eq!(stat, OriginStat { size: manifest.len() as u64, media_type: Some(MANIFEST_TYPE.into()) });

    for kind in [Kind::Blob, Kind::Manifest] {
        let missing = digest_of(b"missing");
        let fetched = bench.fetch(&registry.source(kind), missing, UNKNOWN).await;
        let failure = fetched.origin_failure();
        assert_eq!((failure.class, failure.status), (FailureClass::NotFound, Some(404)), "{failure:?}");
        assert!(failure.detail.contains("UNKNOWN"), "{failure:?}");
        assert_eq!(bench.stat(&registry.source(kind), missing).await.unwrap_err().class, FailureClass::NotFound);
    }
}

#[tokio::test]
async fn a_real_registry_with_passwords_serves_those_who_know_them() {
    let registry = DockerRegistry::start(true);
    let bytes = blob(300_000, 3);
    let digest = registry.push_blob(&bytes).await;
    let source = registry.source(Kind::Blob);

    let mut bench = Bench::new();
    let right = bench.vault.insert(basic("right-password").as_bytes()).unwrap();
    let wrong = bench.vault.insert(basic("wrong-password").as_bytes()).unwrap();
    for credential in [None, Some(wrong)] {
        let fetched = bench.fetch_as(&source, digest, UNKNOWN, credential).await;
        let failure = fetched.origin_failure();
        assert_eq!((failure.class, failure.status), (FailureClass::Auth, Some(401)), "{failure:?}");
        assert_eq!(failure.challenge, [r#"Basic realm="test""#.into()]);
    }
    let fetched = bench.fetch_as(&source, digest, UNKNOWN, Some(right)).await;
    assert!(fetched.is_done(), "{:?}", fetched.events);
    assert!(bench.staged_as_private(digest));
    assert_eq!(bench.staged(digest, 0, bytes.len()), bytes);

    let mut config = OriginConfig::default();
    let credential = Some(NodeCredential::new("user", "right-password").unwrap());
    config.registries.insert(registry.host.clone(), Upstream { credential, ..Upstream::default() });
    let mut bench = Bench::with(config);
    assert_eq!(bench.stat(&source, digest).await.unwrap().size, 300_000);
    let fetched = bench.fetch(&source, digest, UNKNOWN).await;
    assert!(fetched.is_done() && bench.staged_as_private(digest), "{:?}", fetched.events);
}

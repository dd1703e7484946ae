//! Registries behind HTTPS: a private certificate authority, and what HTTPS must not be given up for.

use std::path::PathBuf;
use std::sync::Arc;

use longshore_core::message::FailureClass;
use longshore_core::names::Kind;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

use super::bench::{Bench, UNKNOWN, blob, digest_of, short_timeouts, source};
use crate::driver::Inputs;
use crate::origin::mock_registry::{MockRegistry, Reply};
use crate::origin::{OriginClient, OriginConfig, OriginConfigError, Upstream};
use crate::store::Store;
use crate::vault::Vault;

/// A certificate authority of our own and a server with a certificate from it.
struct PrivateTls {
    acceptor: TlsAcceptor,
    ca_file: PathBuf,
    directory: TempDir,
}

impl PrivateTls {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(params, ca_key);
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["127.0.0.1".into(), "localhost".into()])
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .unwrap();
        let directory = TempDir::new().unwrap();
        let ca_file = directory.path().join("ca.pem");
        std::fs::write(&ca_file, ca.pem()).unwrap();
        Self { acceptor: TlsAcceptor::from(Arc::new(config)), ca_file, directory }
    }

    /// A bench that reaches `registry` as `r.example`.
    fn bench(&self, registry: &MockRegistry, trusted: bool) -> Bench {
        let mut config = OriginConfig { timeouts: short_timeouts(), ..OriginConfig::default() };
        if trusted {
            config.ca_files.push(self.ca_file.clone());
        }
        let base_url = Some(format!("https://{}", registry.host()).parse().unwrap());
        config.registries.insert("r.example".into(), Upstream { base_url, ..Upstream::default() });
        Bench::with(config)
    }
}

#[tokio::test]
async fn a_registry_with_a_certificate_of_a_configured_authority_is_trusted() {
    let tls = PrivateTls::new();
    let bytes = blob(700_000, 1);
    let body = bytes.clone();
    let registry = MockRegistry::start_tls(tls.acceptor.clone(), move |_| Reply::ok(&body)).await;
    let mut bench = tls.bench(&registry, true);
    let fetched = bench.fetch(&source("r.example", Kind::Blob), digest_of(&bytes), UNKNOWN).await;
    assert!(fetched.is_done(), "{:?}", fetched.events);
    fetched.assert_hashes_of(&bytes);
    assert_eq!((fetched.pieces(), fetched.bytes()), (vec![0, 1, 2], bytes.len() as u64));
}

#[tokio::test]
async fn a_registry_with_a_certificate_of_anybody_else_is_not() {
    let tls = PrivateTls::new();
    let registry = MockRegistry::start_tls(tls.acceptor.clone(), |_| Reply::ok(b"x")).await;
    let mut bench = tls.bench(&registry, false);
    let fetched = bench.fetch(&source("r.example", Kind::Blob), digest_of(b"x"), UNKNOWN).await;
    let failure = fetched.origin_failure();
    assert_eq!(failure.class, FailureClass::Transient);
    assert!(failure.detail.contains("certificate") && failure.detail.contains("https://127.0.0.1"), "{failure:?}");
    assert!(registry.seen().is_empty());
}

#[tokio::test]
async fn a_redirect_from_https_to_http_is_not_followed() {
    let tls = PrivateTls::new();
    let plain = MockRegistry::start(|_| Reply::ok(b"x")).await;
    let location = format!("http://{}/x", plain.host());
    let registry =
        MockRegistry::start_tls(tls.acceptor.clone(), move |_| Reply::status(307).header("Location", &location)).await;
    let failure = tls.bench(&registry, true).stat(&source("r.example", Kind::Blob), digest_of(b"x")).await.unwrap_err();
    assert_eq!((failure.class, failure.status), (FailureClass::Transient, Some(307)));
    assert!(failure.detail.contains("away from HTTPS"), "{failure:?}");
    assert!(plain.seen().is_empty());
}

#[tokio::test]
async fn a_token_service_without_https_gets_nothing_from_a_registry_with_https() {
    let tls = PrivateTls::new();
    let plain = MockRegistry::start(|_| Reply::ok(br#"{"token":"t"}"#)).await;
    let challenge = format!("Bearer realm=\"http://{}/token\"", plain.host());
    let registry = MockRegistry::start_tls(tls.acceptor.clone(), move |_| Reply::challenge(&[&challenge])).await;
    let mut bench = tls.bench(&registry, true);
    let id = bench.vault.insert(b"Basic dXNlcjpwYXNzd29yZA==").unwrap();
    let failure = bench.stat_as(&source("r.example", Kind::Blob), digest_of(b"x"), Some(id)).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Auth);
    assert!(failure.detail.contains("not reached by HTTPS"), "{failure:?}");
    assert!(plain.seen().is_empty());
}

#[tokio::test]
async fn a_token_service_with_https_gets_the_password() {
    let tls = PrivateTls::new();
    let registry = MockRegistry::start_tls(tls.acceptor.clone(), |seen| {
        let host = seen.header("host").unwrap();
        match (seen.path(), seen.header("authorization")) {
            ("/token", Some("Basic dXNlcjpwYXNzd29yZA==")) => Reply::ok(br#"{"token":"t"}"#),
            (_, Some("Bearer t")) => Reply::ok(b"x"),
            _ => Reply::challenge(&[&format!("Bearer realm=\"https://{host}/token\"")]),
        }
    })
    .await;
    let mut bench = tls.bench(&registry, true);
    let id = bench.vault.insert(b"Basic dXNlcjpwYXNzd29yZA==").unwrap();
    let stat = bench.stat_as(&source("r.example", Kind::Blob), digest_of(b"x"), Some(id)).await.unwrap();
    assert_eq!(stat.size, 1);
}

#[tokio::test]
async fn a_ca_file_that_cannot_be_used_is_named() {
    let tls = PrivateTls::new();
    let (inputs, _receiver) = Inputs::channel();
    let store = Store::open(&tls.directory.path().join("store"), inputs.clone()).unwrap();
    let empty = tls.directory.path().join("empty.pem");
    std::fs::write(&empty, "nothing here\n").unwrap();
    for path in [tls.directory.path().join("missing.pem"), empty] {
        let config = OriginConfig { ca_files: vec![path.clone()], ..OriginConfig::default() };
        let error = OriginClient::new(config, inputs.clone(), store.clone(), Vault::new()).unwrap_err();
        assert!(matches!(error, OriginConfigError::CaFile { .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}

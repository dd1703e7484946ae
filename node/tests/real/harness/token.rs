//! A token service that docker-registry believes: JSON web tokens signed with a key whose certificate it knows.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair, SigningKey as _};
use serde_json::json;

/// The registry's name for itself, in challenges and tokens.
pub(crate) const SERVICE: &str = "test registry";
/// Who signs.
pub(crate) const ISSUER: &str = "test issuer";
/// How long a token is good for, in seconds.
const LIFETIME_SECONDS: u64 = 300;

/// A key, and the certificate that makes a registry believe what it signs.
#[derive(Debug)]
pub(crate) struct Issuer {
    key: KeyPair,
    certificate_der: Vec<u8>,
    certificate_pem: String,
}

impl Issuer {
    /// An issuer with a new key.
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("an ECDSA P-256 key can be made");
        let parameters = CertificateParams::new(vec!["issuer.test".to_owned()]).expect("the name is a DNS name");
        let certificate = parameters.self_signed(&key).expect("a certificate can be signed");
        Self { certificate_der: certificate.der().to_vec(), certificate_pem: certificate.pem(), key }
    }

    /// Writes the certificate for the registry's `rootcertbundle`.
    pub(crate) fn write_certificate(&self, path: &Path) {
        std::fs::write(path, &self.certificate_pem).expect("the lab can be written to");
    }

    /// A token for a scope as registries write it: `repository:NAME:ACTION,ACTION`.
    pub(crate) fn sign(&self, scope: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs();
        let mut parts = scope.splitn(3, ':');
        let (kind, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let actions: Vec<&str> = parts.next().unwrap_or_default().split(',').collect();
        let access =
            if name.is_empty() { json!([]) } else { json!([{"type": kind, "name": name, "actions": actions}]) };
        let header = json!({"typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(&self.certificate_der)]});
        let claims = json!({
            "iss": ISSUER, "sub": "puller", "aud": SERVICE, "jti": format!("{now}"),
            "iat": now, "nbf": now - 10, "exp": now + LIFETIME_SECONDS, "access": access,
        });
        let encode = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self.key.sign(signed.as_bytes()).expect("the key can sign");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(fixed_size(&signature)))
    }
}

/// From ASN.1 (SEQUENCE of two INTEGERs, as certificates have it) to the 64 bytes that a web token has (RFC 7518, 3.4).
fn fixed_size(der: &[u8]) -> [u8; 64] {
    let mut fixed = [0; 64];
    let mut rest = &der[2..];
    for half in fixed.chunks_exact_mut(32) {
        let len = usize::from(rest[1]);
        let number = &rest[2..2 + len];
        let number = &number[number.len().saturating_sub(32)..];
        half[32 - number.len()..].copy_from_slice(number);
        rest = &rest[2 + len..];
    }
    fixed
}

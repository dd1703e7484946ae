//! What an operator can set about registries.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use super::endpoint;
use crate::vault::{Secret, VaultError};

/// Longest dial of one registry, name resolution included.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest TLS handshake with a registry.
pub const TLS_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for response headers, from the moment there is a connection.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest silence between two parts of a body.
pub const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);

/// Settings of the origin client.
#[derive(Clone, Debug, Default)]
pub struct OriginConfig {
    /// By registry as image references name it (`docker.io`, `registry.example:5000`). A registry that is not here is
    /// reached by HTTPS under its own name, and by HTTP if it is on this machine.
    pub registries: BTreeMap<String, Upstream>,
    /// PEM files with certificate authorities that are trusted beside the system's.
    pub ca_files: Vec<PathBuf>,
    /// How long each phase of a request may take.
    pub timeouts: Timeouts,
}

/// How one registry is reached.
#[derive(Clone, Debug, Default)]
pub struct Upstream {
    /// `http://` or `https://` URL; `/v2/...` is appended to its path. `None`: by the registry's name.
    pub base_url: Option<Url>,
    /// Without `base_url`: use HTTP.
    pub plain_http: bool,
    /// The node's own identity at this registry; used only for requests without a requester's credential.
    pub credential: Option<NodeCredential>,
}

/// User name and password of the node at one registry. Never shows the password.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeCredential {
    secret: Secret,
}

impl NodeCredential {
    /// The credential with this user name and password.
    ///
    /// # Errors
    /// When the two together are longer than an `Authorization` header may be.
    pub fn new(user: &str, password: &str) -> Result<Self, VaultError> {
        let encoded = STANDARD.encode(format!("{user}:{password}"));
        Ok(Self { secret: Secret::new(format!("Basic {encoded}").as_bytes())? })
    }

    pub(super) fn secret(&self) -> &Secret {
        &self.secret
    }
}

impl fmt::Debug for NodeCredential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("NodeCredential(hidden)")
    }
}

/// How long each phase of a request may take. There is no limit for the whole: blobs can be large and links slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP connection, name resolution included.
    pub dial: Duration,
    /// TLS handshake.
    pub tls: Duration,
    /// From the connection to the response headers.
    pub headers: Duration,
    /// Between two parts of a body.
    pub silence: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { dial: DIAL_TIMEOUT, tls: TLS_TIMEOUT, headers: HEADER_TIMEOUT, silence: SILENCE_TIMEOUT }
    }
}

/// Why an origin client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum OriginConfigError {
    /// A base URL cannot be used.
    #[error("registry {registry}: base URL {url} cannot be used: {reason}")]
    BaseUrl {
        /// Of which registry.
        registry: String,
        /// The URL, without user name, password and query.
        url: String,
        /// In words.
        reason: &'static str,
    },
    /// A file of certificate authorities cannot be used.
    #[error("CA file {}: {reason}; expected PEM with at least one CERTIFICATE block", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// In words.
        reason: String,
    },
    /// The TLS library declines its own defaults.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

impl OriginConfig {
    /// Checks what can be checked before the first request.
    pub(super) fn validate(&self) -> Result<(), OriginConfigError> {
        for (registry, upstream) in &self.registries {
            let Some(url) = &upstream.base_url else { continue };
            let reason = if !matches!(url.scheme(), "http" | "https") {
                "its scheme is neither http nor https"
            } else if url.host_str().is_none_or(str::is_empty) {
                "it names no host"
            } else if !url.username().is_empty() || url.password().is_some() {
                "it contains a user name or password, which belong into the credential"
            } else if url.query().is_some() || url.fragment().is_some() {
                "it has a query or a fragment"
            } else {
                continue;
            };
            let url = endpoint::redacted(url);
            return Err(OriginConfigError::BaseUrl { registry: registry.clone(), url, reason });
        }
        Ok(())
    }
}

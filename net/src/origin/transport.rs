//! Connections to registries: dialled, encrypted, kept for a while, and limited in time phase by phase.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{HttpConnector, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;
use tower_service::Service;

use super::config::{OriginConfig, OriginConfigError, Timeouts};

/// Most bytes of a response that are read ahead, its headers included; bounds the memory of a connection.
const READ_BUFFER_BYTES: usize = 256 * 1024;
/// Most idle connections kept for a host: one for each origin request that may run at a time.
const MAX_IDLE_PER_HOST: usize = 8;
/// How long an idle connection is kept: long enough for the next layer of an image.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

type Dialler = Timed<HttpConnector>;
type Connector = Timed<HttpsConnector<Dialler>>;
type BoxError = Box<dyn Error + Send + Sync>;

/// An HTTP client for registries and what belongs to them. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Transport {
    client: Client<Connector, Empty<Bytes>>,
    timeouts: Timeouts,
}

impl Transport {
    pub(super) fn new(config: &OriginConfig) -> Result<Self, OriginConfigError> {
        let timeouts = config.timeouts;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Without it, a host with several addresses of which the first is dead takes all of the time for dialling.
        tcp.set_connect_timeout(Some(timeouts.dial));
        let dialler = Timed { inner: tcp, limit: timeouts.dial, phase: "no connection" };
        let tls = HttpsConnectorBuilder::new()
            .with_tls_config(tls_config(config)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(dialler);
        let connector = Timed { inner: tls, limit: timeouts.dial + timeouts.tls, phase: "no TLS session" };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
            .http1_max_buf_size(READ_BUFFER_BYTES)
            .build(connector);
        Ok(Self { client, timeouts })
    }

    /// Sends a request (which must not change anything at the server) and waits for the response headers.
    ///
    /// A server may close a kept connection in the very moment in which it is used again. That says nothing about the
    /// server, so a connection that ends without a word is replaced, once.
    ///
    /// # Errors
    /// In words, without the URL.
    pub(super) async fn send(&self, request: Request<Empty<Bytes>>) -> Result<Response<Incoming>, String> {
        match self.attempt(request.clone()).await {
            Err(Unsent::Closed(_)) => self.attempt(request).await.map_err(Unsent::into_words),
            result => result.map_err(Unsent::into_words),
        }
    }

    async fn attempt(&self, mut request: Request<Empty<Bytes>>) -> Result<Response<Incoming>, Unsent> {
        let mut connection = capture_connection(&mut request);
        let headers_due = async {
            // Ends never if there is no connection, but then the connector gives up in time.
            connection.wait_for_connection_metadata().await;
            tokio::time::sleep(self.timeouts.headers).await;
        };
        tokio::select! {
            response = self.client.request(request) => response.map_err(|error| {
                let words = in_words(&error);
                if !error.is_connect() && is_closed(&error) { Unsent::Closed(words) } else { Unsent::Failed(words) }
            }),
            () = headers_due => Err(Unsent::Failed(format!("no response headers within {:?}", self.timeouts.headers))),
        }
    }

    /// The next bytes of a body; `None` at its end.
    ///
    /// # Errors
    /// In words.
    pub(super) async fn next(&self, body: &mut Incoming) -> Result<Option<Bytes>, String> {
        loop {
            match timeout(self.timeouts.silence, body.frame()).await {
                Err(_) => return Err(format!("nothing more came within {:?}", self.timeouts.silence)),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(in_words(&error)),
                Ok(Some(Ok(frame))) => {
                    // Trailers say nothing that we need.
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// The longest wait for response headers.
    pub(super) fn header_timeout(&self) -> Duration {
        self.timeouts.headers
    }
}

/// Why there is no response.
enum Unsent {
    /// The connection was closed before the first byte of a response.
    Closed(String),
    Failed(String),
}

impl Unsent {
    fn into_words(self) -> String {
        match self {
            Self::Closed(words) | Self::Failed(words) => words,
        }
    }
}

/// Whether a connection was closed or reset before there was a response.
fn is_closed(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message) {
            return true;
        }
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
        }
        cause = error.source();
    }
    false
}

/// An error and what caused it, without repetition: libraries nest them.
pub(super) fn in_words(error: &(dyn Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !words.ends_with(&text) {
            words = format!("{words}: {text}");
        }
        cause = error.source();
    }
    words
}

fn tls_config(config: &OriginConfig) -> Result<ClientConfig, OriginConfigError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!(%error, "a certificate authority of the system cannot be read");
    }
    roots.add_parsable_certificates(native.certs);
    if roots.is_empty() {
        // Minimal systems and images have no ca-certificates.
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for path in &config.ca_files {
        let unusable = |reason: String| OriginConfigError::CaFile { path: path.clone(), reason };
        let pem = std::fs::read(path).map_err(|error| unusable(format!("cannot be read: {error}")))?;
        let mut found = false;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| unusable(format!("is not PEM: {error}")))?;
            roots.add(certificate).map_err(|error| unusable(format!("has an unusable certificate: {error}")))?;
            found = true;
        }
        if !found {
            return Err(unusable("has no certificate".to_owned()));
        }
    }
    // Named, because another crate in the program may bring a second provider, and then there is no default.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// A connector with a limit in time.
#[derive(Clone, Debug)]
struct Timed<C> {
    inner: C,
    limit: Duration,
    phase: &'static str,
}

#[derive(Debug)]
struct TooLate {
    phase: &'static str,
    limit: Duration,
}

impl fmt::Display for TooLate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} within {:?}", self.phase, self.limit)
    }
}

impl Error for TooLate {}

impl<C> Service<Uri> for Timed<C>
where
    C: Service<Uri>,
    C::Future: Send + 'static,
    C::Error: Into<BoxError>,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, limit, phase) = (self.inner.call(uri), self.limit, self.phase);
        Box::pin(async move {
            match timeout(limit, connecting).await {
                Ok(result) => result.map_err(Into::into),
                Err(_) => Err(TooLate { phase, limit }.into()),
            }
        })
    }
}

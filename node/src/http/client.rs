//! A small HTTP client: requests without a body, answers as a stream or as a bounded text.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

/// Longest a connection may take to be made (containerd's default for registries).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest an idle connection is kept; shorter than any server here keeps it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// A client with its connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    pool: Pool<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

/// A request had no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No answer came.
    #[error("cannot reach {url}: {detail}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// What was found.
        detail: String,
    },
    /// No answer came in time.
    #[error("no answer from {url} within {} s", .timeout.as_secs_f64())]
    TimedOut {
        /// What was asked.
        url: String,
        /// How long was waited.
        timeout: Duration,
    },
    /// The answer's body broke, or was longer than it may be.
    #[error("the answer of {url} cannot be read: {detail}")]
    Body {
        /// What was asked.
        url: String,
        /// What was found.
        detail: String,
    },
}

impl Client {
    /// A client that trusts the system's certificate authorities where there are any, and Mozilla's otherwise.
    ///
    /// # Errors
    /// When no TLS set-up is possible.
    pub fn new() -> io::Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let builder = hyper_rustls::HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())
            .map_err(io::Error::other)?;
        let connector = builder.https_or_http().enable_http1().wrap_connector(tcp);
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector);
        Ok(Self { pool })
    }

    /// Sends a request and waits for the headers of its answer.
    ///
    /// # Errors
    /// When there is none within `timeout`.
    pub async fn send(
        &self,
        request: Request<Empty<Bytes>>,
        timeout: Duration,
    ) -> Result<Response<Incoming>, ClientError> {
        let url = request.uri().to_string();
        match tokio::time::timeout(timeout, self.pool.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(ClientError::Unreachable { url, detail: chain(&error) }),
            Err(_) => Err(ClientError::TimedOut { url, timeout }),
        }
    }

    /// Gets a whole answer of at most `most_bytes`.
    ///
    /// # Errors
    /// When there is none within `timeout`, or it is longer.
    pub async fn get(
        &self,
        url: &str,
        most_bytes: usize,
        timeout: Duration,
    ) -> Result<(http::StatusCode, Bytes), ClientError> {
        let request = Request::get(url).body(Empty::new());
        let request =
            request.map_err(|error| ClientError::Unreachable { url: url.to_owned(), detail: error.to_string() })?;
        let whole = async {
            let response = self.send(request, timeout).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), most_bytes).collect().await;
            let body = body.map_err(|error| ClientError::Body { url: url.to_owned(), detail: error.to_string() })?;
            Ok((status, body.to_bytes()))
        };
        let late = |_| ClientError::TimedOut { url: url.to_owned(), timeout };
        tokio::time::timeout(timeout, whole).await.map_err(late)?
    }
}

/// An error with everything that caused it.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

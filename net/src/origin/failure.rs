//! Turns what came, or did not come, into the one failure that is reported.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{HeaderMap, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Method, Response, StatusCode};
use hyper::body::Incoming;
use longshore_core::input::OriginFailure;
use longshore_core::message::FailureClass;
use serde::Deserialize;
use tokio::time::timeout;
use url::Url;

use super::endpoint::{redacted, same_party};
use super::transport::Transport;

#[cfg(test)]
mod tests;

/// Most bytes of an error response that are read for its message.
const MAX_MESSAGE_BODY_BYTES: usize = 16 * 1024;
/// Longest message that is quoted, in characters.
const MAX_MESSAGE_CHARACTERS: usize = 200;
/// Longest wait for the body of an error response: the failure itself is known already.
const MESSAGE_WAIT: Duration = Duration::from_secs(1);

/// What was tried; shows no secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tried {
    pub(super) method: Method,
    /// The registry's URL.
    pub(super) asked: Url,
    /// Where redirects led.
    pub(super) at: Url,
}

impl Tried {
    pub(super) fn new(method: Method, url: &Url) -> Self {
        Self { method, asked: url.clone(), at: url.clone() }
    }

    /// Whether the party that was asked is also the one that answers.
    pub(super) fn is_at_home(&self) -> bool {
        same_party(&self.asked, &self.at)
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.method, redacted(&self.asked))?;
        if self.at != self.asked {
            write!(formatter, " (redirected to {})", redacted(&self.at))?;
        }
        Ok(())
    }
}

/// A failure that says nothing about the blob: it may work next time.
pub(super) fn transient(tried: &Tried, found: impl fmt::Display) -> OriginFailure {
    without_response(format!("{tried}: {found}"))
}

/// A failure before anything was tried.
pub(super) fn without_response(detail: String) -> OriginFailure {
    OriginFailure {
        class: FailureClass::Transient,
        status: None,
        retry_after: None,
        challenge: Vec::new(),
        detail: detail.into(),
    }
}

/// A failure of an answer with a good status.
pub(super) fn unusable(tried: &Tried, status: StatusCode, found: impl fmt::Display) -> OriginFailure {
    OriginFailure { status: Some(status.as_u16()), ..transient(tried, found) }
}

/// The failure that a response with a bad status is.
///
/// A storage service to which the registry redirected knows nothing of the requester: when it refuses, that is no word
/// about credentials, and its challenge is not relayed.
pub(super) async fn of_response(transport: &Transport, tried: &Tried, response: Response<Incoming>) -> OriginFailure {
    let (parts, body) = response.into_parts();
    let class = match parts.status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if tried.is_at_home() => FailureClass::Auth,
        StatusCode::NOT_FOUND => FailureClass::NotFound,
        StatusCode::TOO_MANY_REQUESTS => FailureClass::RateLimited,
        _ => FailureClass::Transient,
    };
    let message = match timeout(MESSAGE_WAIT, read_limited(transport, body, MAX_MESSAGE_BODY_BYTES)).await {
        Ok(Ok(body)) if tried.method != Method::HEAD => message(&body),
        _ => None,
    };
    let message = message.map(|text| format!(": {text}")).unwrap_or_default();
    OriginFailure {
        class,
        status: Some(parts.status.as_u16()),
        retry_after: retry_after(&parts.headers, SystemTime::now()),
        challenge: if class == FailureClass::Auth { challenges(&parts.headers) } else { Vec::new() },
        detail: format!("{tried}: {}{message}", parts.status).into(),
    }
}

/// The `WWW-Authenticate` headers as they came.
pub(super) fn challenges(headers: &HeaderMap) -> Vec<Arc<str>> {
    headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).map(Into::into).collect()
}

/// How long the origin wants to be left alone: seconds or a date (RFC 9110, section 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

/// Reads a body of at most `max_bytes` bytes.
///
/// # Errors
/// In words.
pub(super) async fn read_limited(
    transport: &Transport,
    mut body: Incoming,
    max_bytes: usize,
) -> Result<Vec<u8>, String> {
    let mut whole = Vec::new();
    while let Some(part) = transport.next(&mut body).await? {
        append(&mut whole, &part, max_bytes)?;
    }
    Ok(whole)
}

fn append(whole: &mut Vec<u8>, part: &Bytes, max_bytes: usize) -> Result<(), String> {
    if whole.len() + part.len() > max_bytes {
        return Err(format!("the body is longer than {max_bytes} bytes"));
    }
    whole.extend_from_slice(part);
    Ok(())
}

/// The first error of an error body of the distribution specification, made fit for a log.
fn message(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Problem>,
    }
    #[derive(Deserialize)]
    struct Problem {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let Problem { code, message } = serde_json::from_slice::<Errors>(body).ok()?.errors.into_iter().next()?;
    let text = if message.is_empty() { code } else { format!("{code} {message}") };
    let clean: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_MESSAGE_CHARACTERS).collect();
    let clean = clean.trim();
    (!clean.is_empty()).then(|| clean.to_owned())
}

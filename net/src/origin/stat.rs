//! Asks for size and media type of a blob without its bytes.

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use http::{Method, StatusCode};
use longshore_core::digest::Digest;
use longshore_core::input::{OriginFailure, OriginStat};
use std::sync::Arc;

use super::exchange::{Answer, Exchange, Question};
use super::failure;

/// The header in which a registry says what it is about to send.
const DIGEST_HEADER: &str = "docker-content-digest";

/// Asks with HEAD, and with GET where HEAD is not offered.
pub(super) async fn run(exchange: &Exchange, question: Question) -> Result<OriginStat, OriginFailure> {
    let mut answer = exchange.ask(&question).await?;
    if answer.response.status() == StatusCode::METHOD_NOT_ALLOWED {
        // The body is dropped, and the connection with it.
        answer = exchange.ask(&Question { method: Method::GET, ..question.clone() }).await?;
    }
    let answer = exchange.successful(answer).await?;
    let headers = answer.response.headers();
    let unusable = |found: String| failure::unusable(&answer.tried, answer.response.status(), found);
    check_encoding(headers).map_err(unusable)?;
    check_digest(headers, question.digest).map_err(unusable)?;
    let size = content_length(&answer).ok_or_else(|| unusable("the answer has no Content-Length".to_owned()))?;
    Ok(OriginStat { size, media_type: media_type(headers) })
}

/// The declared length of the body. Of a HEAD too, so it is the header that counts.
pub(super) fn content_length(answer: &Answer) -> Option<u64> {
    answer.response.headers().get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// The Content-Type without its parameters.
pub(super) fn media_type(headers: &HeaderMap) -> Option<Arc<str>> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?.split(';').next()?.trim();
    (!text.is_empty()).then(|| text.into())
}

/// Bytes that were encoded for the way are not the bytes of the blob.
pub(super) fn check_encoding(headers: &HeaderMap) -> Result<(), String> {
    for value in headers.get_all(CONTENT_ENCODING) {
        let text = value.to_str().unwrap_or("?").trim();
        if !text.is_empty() && !text.eq_ignore_ascii_case("identity") {
            return Err(format!("the answer is encoded as '{text}' although 'identity' was asked for"));
        }
    }
    Ok(())
}

/// What the registry says about the digest has to be true, as far as it speaks of the same algorithm.
fn check_digest(headers: &HeaderMap, digest: Digest) -> Result<(), String> {
    let stated = headers.get(DIGEST_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match stated.parse::<Digest>() {
        Ok(other) if other != digest => Err(format!("the answer is for {other}, not for {digest}")),
        _ => Ok(()),
    }
}

//! One request, one answer: the statuses and headers that containerd is served with.

use std::sync::Arc;

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use longshore_core::digest::Digest;
use longshore_core::input::{Input, Method as Asked};
use longshore_core::names::{Kind, Source};
use longshore_core::output::Refusal;
use longshore_core::range::{Wanted, wanted};
use tokio_util::sync::CancellationToken;

use super::body::MirrorBody;
use super::handover::Handover;
use super::problem::{Problem, quote};
use super::requests::{Ticket, Verdict};
use super::route::{self, Route};
use super::site::Site;
use super::transfer::Transfer;

/// Every answer under `/v2` has it; docker and skopeo look for it.
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const API_VERSION_2: HeaderValue = HeaderValue::from_static("registry/2.0");
/// containerd takes the digest of what it resolves from here.
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// The connection that a request came on.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Cancelling it ends the connection: that is how a body is aborted.
    pub(crate) cut: CancellationToken,
    /// Where the body of a blob is left.
    pub(crate) handover: Arc<Handover>,
}

/// Answers a request. Dropping the future (the client hung up) ends the request for the core, too.
pub(crate) async fn answer<B>(site: Arc<Site>, line: Line, request: Request<B>) -> Response<MirrorBody> {
    let method = match *request.method() {
        Method::GET => Asked::Get,
        Method::HEAD => Asked::Head,
        _ => return refuse(&Problem::method(), Asked::Get),
    };
    let target = request.uri();
    match route::parse(target.path(), target.query()) {
        Err(problem) => refuse(&problem, method),
        Ok(Route::Health) => text(StatusCode::OK, HeaderValue::from_static("text/plain"), "ok\n".into(), method),
        Ok(Route::Ping) => {
            let mut response = text(StatusCode::OK, JSON, "{}".into(), method);
            response.headers_mut().insert(API_VERSION, API_VERSION_2);
            response
        }
        Ok(Route::Content { registry, repository, kind, digest }) => {
            let source = match site.config.registry(registry) {
                Ok(registry) => Source { registry, repository, kind },
                Err(problem) => return refuse(&problem, method),
            };
            content(&site, &line, method, source, digest, &request).await
        }
    }
}

async fn content<B>(
    site: &Site,
    line: &Line,
    method: Asked,
    source: Source,
    digest: Digest,
    request: &Request<B>,
) -> Response<MirrorBody> {
    let kind = source.kind;
    let credential = request.headers().get(header::AUTHORIZATION).and_then(|value| {
        // The error says nothing about the value.
        let kept = site.vault.insert(value.as_bytes());
        kept.inspect_err(|error| tracing::warn!(%error, "a request goes on without its credential")).ok()
    });
    let opened = site.requests.open(|request| Input::Mirror { request, method, source, digest, credential });
    let Some(mut ticket) = opened else { return refuse(&stopping(), method) };
    match ticket.decided().await {
        Some(Verdict::Serve { digest, size, media_type }) => {
            ticket.bind(&line.cut);
            serve(site, line, ticket, method, &Blob { digest, size, media_type, kind }, request)
        }
        Some(Verdict::Refuse(refusal)) => refusal_response(&refusal, kind, digest, method),
        None if ticket.is_aborted() => refusal_response(&Refusal::NotHere, kind, digest, method),
        None => refuse(&stopping(), method),
    }
}

struct Blob {
    digest: Digest,
    size: u64,
    media_type: Option<Arc<str>>,
    kind: Kind,
}

fn serve<B>(
    site: &Site,
    line: &Line,
    ticket: Ticket,
    method: Asked,
    blob: &Blob,
    request: &Request<B>,
) -> Response<MirrorBody> {
    let etag = format!("\"{}\"", blob.digest);
    // RFC 9110, 14.2: `Range` means something for GET only.
    let wanted = match method {
        Asked::Head => Wanted::Whole,
        Asked::Get => wanted(range(request.headers(), &etag), blob.size),
    };
    let (status, range) = match wanted {
        Wanted::Whole => (StatusCode::OK, 0..blob.size),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Wanted::Unsatisfiable => {
            let mut response = refuse(&Problem::range(blob.size), method);
            insert(response.headers_mut(), header::CONTENT_RANGE, &format!("bytes */{}", blob.size));
            return response;
        }
    };
    let len = range.end - range.start;
    let content_range = format!("bytes {}-{}/{}", range.start, range.end.saturating_sub(1), blob.size);
    let body = match method {
        Asked::Head => MirrorBody::empty(),
        Asked::Get if len == 0 => MirrorBody::empty(),
        Asked::Get => match site.store.reader(blob.digest) {
            Ok(reader) if reader.size() == blob.size => {
                let handover = Arc::clone(&line.handover);
                handover.offer(Transfer { reader, range, ticket, keep_alive: keeps_alive(request) });
                MirrorBody::Blob { len, handover }
            }
            Ok(reader) => {
                let (found, expected) = (reader.size(), blob.size);
                tracing::error!(digest = %blob.digest, found, expected, "the stored blob has another size than announced");
                return refusal_response(&Refusal::NotHere, blob.kind, blob.digest, method);
            }
            // Evicted between the decision and now: somebody else has it.
            Err(error) => {
                tracing::warn!(digest = %blob.digest, ?error, "the blob to serve cannot be opened; answering 404");
                return refusal_response(&Refusal::NotHere, blob.kind, blob.digest, method);
            }
        },
    };
    let media_type = blob.media_type.as_deref().and_then(|text| HeaderValue::from_str(text).ok()).unwrap_or(OCTETS);
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(API_VERSION, API_VERSION_2);
    headers.insert(header::CONTENT_TYPE, media_type);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    if status == StatusCode::PARTIAL_CONTENT {
        insert(headers, header::CONTENT_RANGE, &content_range);
    }
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    insert(headers, CONTENT_DIGEST, &blob.digest.to_string());
    insert(headers, header::ETAG, &etag);
    response
}

/// Whether the connection lives on after the answer, by the rules that hyper follows, too (RFC 9112, 9.3).
fn keeps_alive<B>(request: &Request<B>) -> bool {
    let mut connection = request.headers().get_all(header::CONNECTION).iter();
    let closes = |value: &HeaderValue| match value.to_str() {
        Ok(value) => value.split(',').any(|option| option.trim().eq_ignore_ascii_case("close")),
        Err(_) => true,
    };
    request.version() == Version::HTTP_11 && !connection.any(closes)
}

/// The `Range` header, if there is exactly one and `If-Range` does not rule it out.
fn range<'a>(headers: &'a HeaderMap, etag: &str) -> Option<&'a str> {
    let mut all = headers.get_all(header::RANGE).iter();
    let (Some(range), None) = (all.next(), all.next()) else { return None };
    if headers.get(header::IF_RANGE).is_some_and(|condition| condition != etag) {
        return None;
    }
    range.to_str().ok()
}

fn refusal_response(refusal: &Refusal, kind: Kind, digest: Digest, method: Asked) -> Response<MirrorBody> {
    match refusal {
        Refusal::NotHere => {
            let (code, what) = match kind {
                Kind::Manifest => ("MANIFEST_UNKNOWN", "manifest"),
                Kind::Config | Kind::Blob => ("BLOB_UNKNOWN", "blob"),
            };
            let message = format!("{what} {} is not here: ask the registry", digest.short());
            refuse(&Problem::not_found(code, message), method)
        }
        Refusal::Unauthorized { challenge } => {
            let mut response = refuse(&Problem::unauthorized(), method);
            for challenge in challenge {
                match HeaderValue::from_str(challenge) {
                    Ok(value) => {
                        response.headers_mut().append(header::WWW_AUTHENTICATE, value);
                    }
                    Err(_) => tracing::warn!(
                        challenge = %quote(challenge),
                        "a challenge of the registry has bytes that no header may have; it is left out"
                    ),
                }
            }
            response
        }
        Refusal::Unavailable { reason } => refuse(&Problem::unavailable(reason.to_string()), method),
    }
}

fn stopping() -> Problem {
    Problem::unavailable("the agent is stopping")
}

fn refuse(problem: &Problem, method: Asked) -> Response<MirrorBody> {
    let mut response = text(problem.status, JSON, problem.json(), method);
    response.headers_mut().insert(API_VERSION, API_VERSION_2);
    if problem.status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

fn text(status: StatusCode, media_type: HeaderValue, text: String, method: Asked) -> Response<MirrorBody> {
    let len = text.len();
    let body = match method {
        Asked::Get => MirrorBody::text(text),
        Asked::Head => MirrorBody::empty(),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    response
}

/// Inserts a value that this file made of digits, hex and punctuation.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

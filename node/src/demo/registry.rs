//! A small OCI registry in this process: serves one image, and counts what it sends.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use longshore_core::digest::Digest;
use longshore_core::range::{Wanted, wanted};

use super::image::{Blob, Image};
use crate::http::server::Server;
use crate::http::{Body, full};

/// Most connections at a time: a demo's largest cluster with each agent's origin requests.
const MOST_CONNECTIONS: usize = 2048;
/// Most lines of the access log that are kept; the oldest go first.
const MOST_LOG_LINES: usize = 10_000;
/// Bytes that are made and sent at a time.
const STEP: u64 = 64 << 10;

/// A running registry. Dropping it closes it.
#[derive(Debug)]
pub struct Registry {
    server: Server,
    state: Arc<State>,
}

/// One request that was answered, as far as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Method.
    pub method: Method,
    /// Path.
    pub path: String,
    /// The `Range` header.
    pub range: Option<String>,
    /// Status of the answer.
    pub status: u16,
    /// Bytes of the body that were sent.
    pub body_bytes: u64,
}

/// Status, code and message of the specification's error document.
type NotFound = (StatusCode, &'static str, &'static str);

#[derive(Debug)]
struct State {
    image: Image,
    sent: BTreeMap<Digest, AtomicU64>,
    log: Mutex<VecDeque<Access>>,
}

impl Registry {
    /// Serves `image` on a free port of the loopback interface.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(image: Image) -> io::Result<Self> {
        let sent = image.blobs.keys().map(|digest| (*digest, AtomicU64::new(0))).collect();
        let state = Arc::new(State { image, sent, log: Mutex::default() });
        let shared = Arc::clone(&state);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = Server::start(address, MOST_CONNECTIONS, move |request| {
            let response = State::answer(&shared, request.method(), request.uri().path(), request.headers());
            async move { response }
        });
        Ok(Self { server: server.await?, state })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The image that it serves.
    #[must_use]
    pub fn image(&self) -> &Image {
        &self.state.image
    }

    /// Body bytes that were sent of this blob, in all answers together.
    #[must_use]
    pub fn sent_bytes_of(&self, digest: Digest) -> u64 {
        self.state.sent.get(&digest).map_or(0, |sent| sent.load(Ordering::Relaxed))
    }

    /// Body bytes that were sent of all blobs.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.state.sent.values().map(|sent| sent.load(Ordering::Relaxed)).sum()
    }

    /// The requests that were answered, oldest first; an answer appears when its body has ended.
    #[must_use]
    pub fn log(&self) -> Vec<Access> {
        self.state.log.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl State {
    fn answer(state: &Arc<Self>, method: &Method, path: &str, headers: &HeaderMap) -> Response<Body> {
        let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok()).map(str::to_owned);
        let access = Access { method: method.clone(), path: path.to_owned(), range, status: 0, body_bytes: 0 };
        let found = match method {
            &Method::GET | &Method::HEAD => state.find(path),
            _ => Err((StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "this registry only serves pulls")),
        };
        match found {
            Ok(Some((digest, blob))) => Self::serve(state, access, digest, blob),
            Ok(None) => state.finish(access, StatusCode::OK, full("{}")),
            Err((status, code, message)) => {
                let error = serde_json::json!({ "errors": [{ "code": code, "message": message }] });
                state.finish(access, status, full(error.to_string()))
            }
        }
    }

    /// The blob that a path names; `None` for the API's root.
    fn find(&self, path: &str) -> Result<Option<(Digest, Blob)>, NotFound> {
        const NO_ROUTE: NotFound = (StatusCode::NOT_FOUND, "UNSUPPORTED", "there is no such route");
        let rest = path.strip_prefix("/v2").ok_or(NO_ROUTE)?;
        if matches!(rest, "" | "/") {
            return Ok(None);
        }
        let mut parts = rest.rsplitn(3, '/');
        let (reference, kind, name) = (parts.next(), parts.next(), parts.next());
        let (Some(reference), Some(kind @ ("manifests" | "blobs")), Some(name)) = (reference, kind, name) else {
            return Err(NO_ROUTE);
        };
        if name.strip_prefix('/') != Some(self.image.repository.as_str()) {
            return Err((StatusCode::NOT_FOUND, "NAME_UNKNOWN", "this registry has no such repository"));
        }
        let manifest = kind == "manifests";
        let unknown = if manifest {
            (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "this repository has no such manifest")
        } else {
            (StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "this repository has no such blob")
        };
        let digest = match reference.parse() {
            Ok(digest) => digest,
            Err(_) if manifest && reference == self.image.tag => self.image.root,
            Err(_) if manifest && !reference.contains(':') => return Err(unknown),
            Err(_) => return Err((StatusCode::BAD_REQUEST, "DIGEST_INVALID", "this is no sha256 digest")),
        };
        let blob = self.image.blobs.get(&digest).filter(|blob| blob.manifest || !manifest).ok_or(unknown)?;
        Ok(Some((digest, blob.clone())))
    }

    fn serve(state: &Arc<Self>, access: Access, digest: Digest, blob: Blob) -> Response<Body> {
        let range = access.range.as_deref().filter(|_| access.method == Method::GET);
        let (status, offset, len) = match wanted(range, blob.size) {
            Wanted::Whole => (StatusCode::OK, 0, blob.size),
            Wanted::Part(part) => (StatusCode::PARTIAL_CONTENT, part.start, part.end - part.start),
            Wanted::Unsatisfiable => {
                let mut response = state.finish(access, StatusCode::RANGE_NOT_SATISFIABLE, full(""));
                set(response.headers_mut(), header::CONTENT_RANGE, format!("bytes */{}", blob.size));
                return response;
            }
        };
        let media_type =
            if blob.manifest { blob.media_type.to_string() } else { "application/octet-stream".to_owned() };
        let mut response = if access.method == Method::HEAD {
            state.finish(access, status, full(""))
        } else {
            let access = Access { status: status.as_u16(), ..access };
            let sending =
                Sending { state: Arc::clone(state), access, digest, blob: blob.clone(), offset, end: offset + len };
            let body = StreamBody::new(stream::unfold(sending, Sending::step)).boxed_unsync();
            let mut response = Response::new(body);
            *response.status_mut() = status;
            response
        };
        let headers = response.headers_mut();
        set(headers, header::CONTENT_TYPE, media_type);
        set(headers, header::CONTENT_LENGTH, len.to_string());
        set(headers, header::ACCEPT_RANGES, "bytes".to_owned());
        set(headers, header::HeaderName::from_static("docker-content-digest"), digest.to_string());
        if status == StatusCode::PARTIAL_CONTENT {
            set(headers, header::CONTENT_RANGE, format!("bytes {offset}-{}/{}", offset + len - 1, blob.size));
        }
        response
    }

    /// An answer without a body worth counting.
    fn finish(&self, access: Access, status: StatusCode, body: Body) -> Response<Body> {
        self.record(Access { status: status.as_u16(), ..access });
        let mut response = Response::new(body);
        *response.status_mut() = status;
        set(response.headers_mut(), header::CONTENT_TYPE, "application/json".to_owned());
        response
    }

    fn record(&self, access: Access) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() == MOST_LOG_LINES {
            log.pop_front();
        }
        log.push_back(access);
    }
}

fn set(headers: &mut HeaderMap, name: header::HeaderName, value: String) {
    // Digests, sizes and media types are visible ASCII; a media type out of a layout that is not is left out.
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// A body that is being sent. Dropping it, at its end or before, writes the line of the log.
struct Sending {
    state: Arc<State>,
    access: Access,
    digest: Digest,
    blob: Blob,
    offset: u64,
    end: u64,
}

impl Sending {
    async fn step(mut self) -> Option<(io::Result<Frame<Bytes>>, Self)> {
        let len = (self.end - self.offset).min(STEP);
        if len == 0 {
            return None;
        }
        let read = self.blob.read(self.offset, len as usize);
        if let Ok(bytes) = &read {
            let bytes = bytes.len() as u64;
            self.offset += bytes;
            self.access.body_bytes += bytes;
            if let Some(sent) = self.state.sent.get(&self.digest) {
                sent.fetch_add(bytes, Ordering::Relaxed);
            }
        }
        Some((read.map(Frame::data), self))
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.state.record(self.access.clone());
    }
}

#[cfg(test)]
mod tests;

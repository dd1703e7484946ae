//! Fetches one blob: hosts in order, and again from the top where a body ended short.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use longshore_core::digest::Digest;
use sha2::Digest as _;

use super::{PullError, Puller};
use crate::demo::manifest::MOST_MANIFEST_BYTES;
use crate::demo::media_types;
use crate::http::client::chain;

/// containerd waits this long for headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// containerd cancels a pull after this long without a byte.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(300);
/// containerd opens a body again this often in a row without a new byte.
const TRIES_WITHOUT_PROGRESS: u32 = 3;
/// containerd repeats a request this often on a host that answers 408 or 429.
const TRIES_WHEN_BUSY: u32 = 5;

/// A body that starts at the wanted offset, after `skip` bytes.
struct Open {
    body: Incoming,
    host: String,
    mirror: bool,
    skip: u64,
    /// Size of the whole blob, if the answer says.
    size: Option<u64>,
}

/// How a body ended.
enum End {
    /// With everything.
    Whole,
    /// Early and cleanly, or silently.
    Short,
}

impl Puller {
    /// Fetches a blob and checks its digest and size; keeps its bytes in `keep`, if they are wanted. Returns its size.
    pub(super) async fn fetch(
        &self,
        kind: &'static str,
        digest: Digest,
        size: Option<u64>,
        keep: Option<&mut Vec<u8>>,
    ) -> Result<u64, PullError> {
        let what = format!("{kind}/{digest}");
        let mut fetch = Fetch { puller: self, what, size, offset: 0, hasher: sha2::Sha256::new(), keep };
        let mut fruitless = 0;
        loop {
            let before = fetch.offset;
            let open = fetch.open(kind, digest).await?;
            let host = open.host.clone();
            match fetch.read(open).await? {
                End::Whole => break,
                End::Short if fetch.offset > before => fruitless = 0,
                End::Short => fruitless += 1,
            }
            if fruitless == TRIES_WITHOUT_PROGRESS {
                return Err(PullError::Short { what: fetch.what, times: fruitless, offset: fetch.offset, host });
            }
        }
        let Fetch { what, offset, hasher, .. } = fetch;
        let found = Digest::from_bytes(hasher.finalize().into());
        if found == digest {
            Ok(offset)
        } else {
            Err(PullError::Wrong { what, detail: format!("its {offset} bytes have the digest {found}") })
        }
    }
}

struct Fetch<'a> {
    puller: &'a Puller,
    what: String,
    size: Option<u64>,
    offset: u64,
    hasher: sha2::Sha256,
    keep: Option<&'a mut Vec<u8>>,
}

impl Fetch<'_> {
    /// Asks the mirror, then the registry.
    async fn open(&mut self, kind: &str, digest: Digest) -> Result<Open, PullError> {
        let puller = self.puller;
        let path = format!("/v2/{}/{kind}/{digest}", puller.repository);
        let through_mirror = format!("{}{path}?ns={}", puller.mirror, puller.namespace);
        let direct = format!("{}{path}", puller.registry);
        let mut attempts = Vec::new();
        for (mirror, url) in [(true, through_mirror), (false, direct)] {
            match self.ask(&url, kind).await {
                Ok(response) => {
                    if !mirror {
                        puller.progress.fallbacks.fetch_add(1, Ordering::Relaxed);
                    }
                    match self.usable(response, if mirror { "the mirror" } else { "the registry" }, mirror) {
                        Ok(open) => return Ok(open),
                        Err(reason) => attempts.push(reason),
                    }
                }
                Err(reason) => attempts.push(reason),
            }
        }
        Err(PullError::Nowhere { what: self.what.clone(), attempts: attempts.join("; ") })
    }

    async fn ask(&self, url: &str, kind: &str) -> Result<Response<Incoming>, String> {
        let mut status = StatusCode::TOO_MANY_REQUESTS;
        for _ in 0..TRIES_WHEN_BUSY {
            let accept = if kind == "manifests" { media_types::ACCEPT } else { "*/*" };
            let mut request = Request::get(url).header(header::ACCEPT, accept);
            if self.offset > 0 {
                request = request.header(header::RANGE, format!("bytes={}-", self.offset));
            }
            let request = request.body(Empty::new()).map_err(|error| format!("{url}: {error}"))?;
            let response = self.puller.client.send(request, HEADER_TIMEOUT).await.map_err(|error| error.to_string())?;
            status = response.status();
            match status {
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => return Ok(response),
                StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {}
                _ => break,
            }
        }
        Err(format!("{url} answers {status}"))
    }

    fn usable(&self, response: Response<Incoming>, host: &str, mirror: bool) -> Result<Open, String> {
        let header = |name| response.headers().get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
        let (skip, size) = if response.status() == StatusCode::PARTIAL_CONTENT {
            let range = header(header::CONTENT_RANGE).unwrap_or("no Content-Range");
            let (start, size) = content_range(range).ok_or_else(|| format!("{host} answers 206 with {range:?}"))?;
            if start != self.offset {
                return Err(format!("{host} answers a range from byte {} with {range:?}", self.offset));
            }
            (0, Some(size))
        } else {
            (self.offset, header(header::CONTENT_LENGTH).and_then(|length| length.parse().ok()))
        };
        match (self.size, size) {
            (Some(expected), Some(size)) if expected != size => {
                Err(format!("{host} says that there are {size} bytes instead of {expected}"))
            }
            _ => Ok(Open { body: response.into_body(), host: host.to_owned(), mirror, skip, size }),
        }
    }

    /// Reads a body to its end.
    async fn read(&mut self, mut open: Open) -> Result<End, PullError> {
        // Without a declared size, a clean end is the end; the digest tells.
        let declared = self.size.or(open.size);
        let size = declared.unwrap_or(MOST_MANIFEST_BYTES);
        if self.size.is_none() && size > MOST_MANIFEST_BYTES {
            let detail = format!("{} says that it has {size} bytes, more than a manifest may have", open.host);
            return Err(PullError::Wrong { what: self.what.clone(), detail });
        }
        self.size = declared;
        loop {
            let frame = match tokio::time::timeout(PROGRESS_TIMEOUT, open.body.frame()).await {
                Err(_) => {
                    let detail = format!("no byte for {} s", PROGRESS_TIMEOUT.as_secs());
                    return Err(self.broken(&open, detail));
                }
                Ok(None) if declared.is_none() || self.offset == size => return Ok(End::Whole),
                Ok(None) => return Ok(End::Short),
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) if ended_early(&error) => return Ok(End::Short),
                Ok(Some(Err(error))) => return Err(self.broken(&open, chain(&error))),
            };
            let Ok(mut bytes) = frame.into_data() else { continue };
            let skipped = open.skip.min(bytes.len() as u64);
            open.skip -= skipped;
            bytes = bytes.split_off(skipped as usize);
            self.take(&bytes, open.mirror, size)?;
        }
    }

    fn take(&mut self, bytes: &Bytes, mirror: bool, size: u64) -> Result<(), PullError> {
        let count = bytes.len() as u64;
        if self.offset + count > size {
            let detail = format!("there are more than its {size} bytes");
            return Err(PullError::Wrong { what: self.what.clone(), detail });
        }
        self.offset += count;
        self.hasher.update(bytes);
        if let Some(kept) = &mut self.keep {
            kept.extend_from_slice(bytes);
        }
        self.puller.progress.add(count);
        if !mirror {
            self.puller.progress.fallback_bytes.fetch_add(count, Ordering::Relaxed);
        }
        Ok(())
    }

    fn broken(&self, open: &Open, detail: String) -> PullError {
        PullError::Broken { what: self.what.clone(), host: open.host.clone(), offset: self.offset, detail }
    }
}

/// Start and size out of `bytes START-END/SIZE`.
fn content_range(header: &str) -> Option<(u64, u64)> {
    let (range, size) = header.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.parse().ok()?, size.parse().ok()?))
}

/// Whether the connection was closed cleanly before the declared length: Go's "unexpected EOF", which containerd answers
/// with a ranged request. A reset is not: containerd fails the pull.
fn ended_early(error: &hyper::Error) -> bool {
    if error.is_incomplete_message() {
        return true;
    }
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return error.kind() == std::io::ErrorKind::UnexpectedEof;
        }
        cause = error.source();
    }
    false
}

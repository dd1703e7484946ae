//! A body on its way in.

use bytes::Bytes;
use futures::FutureExt as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::Parts;
use crate::origin::failure;
use crate::origin::transport::{Transport, in_words};

/// How many bytes are collected, if they are there already, before they are written: TLS hands out 16 KiB at a time.
const BATCH_BYTES: usize = 256 * 1024;

/// A body that arrives, or that was read whole.
#[derive(Debug)]
pub(super) enum Body {
    Arriving(Incoming),
    Read(Bytes),
    Failed(String),
    Ended,
}

impl Body {
    /// Reads the whole body into memory and says how long it is.
    ///
    /// # Errors
    /// In words; also when it is longer than `max_bytes`.
    pub(super) async fn buffer(&mut self, transport: &Transport, max_bytes: usize) -> Result<u64, String> {
        if let Self::Arriving(body) = std::mem::replace(self, Self::Ended) {
            let whole = failure::read_limited(transport, body, max_bytes).await?;
            let length = whole.len() as u64;
            *self = Self::Read(whole.into());
            return Ok(length);
        }
        Ok(0)
    }

    /// The next bytes, and what came with them; `None` at the end.
    ///
    /// # Errors
    /// In words.
    pub(super) async fn next(&mut self, transport: &Transport) -> Result<Option<Parts>, String> {
        let Self::Arriving(body) = self else {
            return match std::mem::replace(self, Self::Ended) {
                Self::Read(whole) => Ok(Some(vec![whole])),
                Self::Failed(words) => Err(words),
                Self::Arriving(_) | Self::Ended => Ok(None),
            };
        };
        let Some(first) = transport.next(body).await? else { return Ok(None) };
        let mut length = first.len();
        let mut parts = vec![first];
        let mut has_yielded = false;
        while length < BATCH_BYTES {
            match body.frame().now_or_never() {
                None if has_yielded => break,
                // The connection is read by a task of its own, which hands over one part at a time.
                None => {
                    tokio::task::yield_now().await;
                    has_yielded = true;
                }
                Some(Some(Ok(frame))) => {
                    has_yielded = false;
                    if let Ok(part) = frame.into_data() {
                        length += part.len();
                        parts.push(part);
                    }
                }
                // The bytes before the error are good; it is reported when they are stored.
                Some(Some(Err(error))) => {
                    *self = Self::Failed(in_words(&error));
                    break;
                }
                Some(None) => {
                    *self = Self::Ended;
                    break;
                }
            }
        }
        Ok(Some(parts))
    }
}

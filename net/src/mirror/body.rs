//! Response bodies as hyper sees them: short texts, and blobs that hyper announces but does not send.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::handover::Handover;

/// The body of an answer. Its length is always known beforehand.
pub(crate) enum MirrorBody {
    /// A short text, sent at once.
    Text(Option<Bytes>),
    /// Bytes of a blob, sent by a [`Transfer`](super::transfer::Transfer) when hyper has written the head.
    Blob {
        /// How many.
        len: u64,
        /// Where to say that the head is written.
        handover: Arc<Handover>,
    },
}

impl MirrorBody {
    /// A short text.
    pub(crate) fn text(text: impl Into<Bytes>) -> Self {
        Self::Text(Some(text.into()))
    }

    /// Nothing; for HEAD and for empty blobs.
    pub(crate) const fn empty() -> Self {
        Self::Text(None)
    }
}

impl Body for MirrorBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut *self {
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            // Never woken: the connection is taken from hyper as soon as the head is flushed.
            Self::Blob { handover, .. } => {
                handover.head_is_written();
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.size_hint().exact() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Text(text) => text.as_ref().map_or(0, |text| text.len() as u64),
            Self::Blob { len, .. } => *len,
        })
    }
}

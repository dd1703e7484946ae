//! Response bodies: short texts, and blobs that are sent as far as they are released.

use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::watch;

use super::buffers::{BUFFER_BYTES, Buffers};
use super::requests::Ticket;
use crate::store::{BlobReader, Released};

/// The body of an answer. Its length is always known beforehand.
pub(crate) enum MirrorBody {
    /// A short text, sent at once.
    Text(Option<Bytes>),
    /// Bytes of a blob.
    Blob {
        /// The chunks.
        chunks: BoxStream<'static, Result<Bytes, CutShort>>,
        /// How many bytes are still to come.
        remaining: u64,
    },
}

/// A body that ends before its declared length: hyper closes the connection then, and containerd asks for the rest.
#[derive(Debug)]
pub(crate) enum CutShort {
    /// The process is ending.
    Stopping,
    /// The blob went away.
    Gone,
    /// The blob cannot be read.
    Unreadable(std::io::Error),
}

impl fmt::Display for CutShort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopping => formatter.write_str("body cut short: the process is ending"),
            Self::Gone => formatter.write_str("body cut short: the blob is not in the store any more"),
            Self::Unreadable(error) => write!(formatter, "body cut short: reading the blob failed: {error}"),
        }
    }
}

impl std::error::Error for CutShort {}

impl MirrorBody {
    /// A short text.
    pub(crate) fn text(text: impl Into<Bytes>) -> Self {
        Self::Text(Some(text.into()))
    }

    /// Nothing; for HEAD.
    pub(crate) const fn empty() -> Self {
        Self::Text(None)
    }

    /// The bytes in `range` of a blob, each as soon as it is released.
    pub(crate) fn blob(reader: BlobReader, range: Range<u64>, buffers: Buffers, ticket: Ticket) -> Self {
        let remaining = range.end.saturating_sub(range.start);
        let released = reader.released();
        let flow = Flow {
            reader: Arc::new(reader),
            released,
            whole: false,
            position: range.start,
            end: range.end,
            buffers,
            ticket,
        };
        let chunks = futures::stream::unfold(Some(flow), |flow| async {
            let mut flow = flow?;
            match flow.next().await {
                Ok(Some(chunk)) => Some((Ok(chunk), Some(flow))),
                Ok(None) => None,
                Err(cut) => Some((Err(cut), None)),
            }
        });
        Self::Blob { chunks: chunks.boxed(), remaining }
    }
}

/// A blob on its way to containerd. The ticket in it reports the end, however it comes.
struct Flow {
    reader: Arc<BlobReader>,
    released: watch::Receiver<Released>,
    /// The blob was complete once: from then on the open file is all that is needed, even if the blob is evicted.
    whole: bool,
    position: u64,
    end: u64,
    buffers: Buffers,
    ticket: Ticket,
}

impl Flow {
    async fn next(&mut self) -> Result<Option<Bytes>, CutShort> {
        if self.position >= self.end {
            return Ok(None);
        }
        let limit = self.limit().await?;
        let available = usize::try_from(limit - self.position).unwrap_or(usize::MAX);
        let mut buffer = self.buffers.take(available.min(BUFFER_BYTES));
        let (reader, offset) = (Arc::clone(&self.reader), self.position);
        let read = move || reader.read_at(buffer.as_mut(), offset).map(|()| buffer.freeze());
        // The disk may be slow: never on a thread that serves others.
        let chunk = match tokio::task::spawn_blocking(read).await {
            Ok(read) => read.map_err(CutShort::Unreadable)?,
            // Only a runtime that is shutting down cancels it.
            Err(_) => return Err(CutShort::Stopping),
        };
        self.position += chunk.len() as u64;
        self.ticket.sent(chunk.len() as u64);
        Ok(Some(chunk))
    }

    /// Waits until there is something to send; says up to where.
    async fn limit(&mut self) -> Result<u64, CutShort> {
        let (position, end) = (self.position, self.end);
        if self.whole {
            return Ok(end);
        }
        let more = |released: &Released| match released {
            Released::Prefix(bytes) => *bytes > position,
            Released::Whole | Released::Gone => true,
        };
        let released = self.released.wait_for(more).await.map(|released| *released);
        match released {
            Ok(Released::Prefix(bytes)) => Ok(bytes.min(end)),
            Ok(Released::Whole) => {
                self.whole = true;
                Ok(end)
            }
            // An error: the store is closed, so no more will ever be released.
            Ok(Released::Gone) | Err(_) => Err(CutShort::Gone),
        }
    }
}

impl Body for MirrorBody {
    type Data = Bytes;
    type Error = CutShort;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        match &mut *self {
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Blob { chunks, remaining } => {
                let chunk = std::task::ready!(chunks.as_mut().poll_next(context));
                if let Some(Ok(chunk)) = &chunk {
                    *remaining = remaining.saturating_sub(chunk.len() as u64);
                }
                Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.size_hint().exact() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Text(text) => text.as_ref().map_or(0, |text| text.len() as u64),
            Self::Blob { remaining, .. } => *remaining,
        })
    }
}

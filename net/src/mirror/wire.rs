//! The stream under hyper: gives back what hyper had read too much, tells of flushes, and loses patience with clients
//! that have stopped reading.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::handover::Handover;

/// Longest a client may take nothing of what we have for it. containerd gives a silent pull up after the same time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// The stream under hyper.
#[derive(Debug)]
pub(crate) struct Wire<Io> {
    io: Io,
    /// Bytes of the next request, to be read before anything else.
    leftover: Bytes,
    handover: Arc<Handover>,
    /// Runs while a write waits.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<Io> Wire<Io> {
    pub(crate) const fn new(io: Io, leftover: Bytes, handover: Arc<Handover>) -> Self {
        Self { io, leftover, handover, alarm: None }
    }

    /// The stream, and what was given to `new` and not read.
    pub(crate) fn into_parts(self) -> (Io, Bytes) {
        (self.io, self.leftover)
    }

    fn watch<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.alarm = None;
            return written;
        }
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep(PATIENCE)));
        alarm.as_mut().poll(context).map(|()| Err(impatient()))
    }
}

/// The client took nothing for too long.
pub(crate) fn impatient() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("the client took nothing for {} s", PATIENCE.as_secs()))
}

impl<Io: AsyncRead + Unpin> AsyncRead for Wire<Io> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.leftover.is_empty() {
            return Pin::new(&mut self.io).poll_read(context, into);
        }
        let len = self.leftover.len().min(into.remaining());
        into.put_slice(&self.leftover[..len]);
        self.leftover.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Wire<Io> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(context);
        if let Poll::Ready(Ok(())) = &flushed {
            self.handover.buffer_is_flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_given_up_after_five_minutes() {
        let (ours, _theirs) = tokio::io::duplex(16);
        let started = tokio::time::Instant::now();
        let error = Wire::new(ours, Bytes::new(), Arc::default()).write_all(&[0; 32]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed().as_secs(), PATIENCE.as_secs());
    }

    #[tokio::test]
    async fn what_was_read_too_much_comes_before_what_is_new() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        theirs.write_all(b"new").await.unwrap();
        drop(theirs);
        let mut wire = Wire::new(ours, Bytes::from_static(b"left over, "), Arc::default());
        let (mut first, mut rest) = ([0; 4], String::new());
        wire.read_exact(&mut first).await.unwrap();
        wire.read_to_string(&mut rest).await.unwrap();
        assert_eq!((&first, &*rest), (b"left", " over, new"));
    }

    #[tokio::test]
    async fn only_a_flush_after_the_head_was_written_makes_a_handover_ready() {
        let (ours, _theirs) = tokio::io::duplex(16);
        let handover = Arc::<Handover>::default();
        let mut wire = Wire::new(ours, Bytes::new(), Arc::clone(&handover));
        wire.flush().await.unwrap();
        handover.head_is_written();
        assert!(!handover.is_ready());
        wire.flush().await.unwrap();
        assert!(handover.is_ready());
    }
}

//! One connection from the first byte to a polite end.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::answer::{Line, answer};
use super::handover::Handover;
use super::site::Site;
use super::wire::Wire;

/// Largest request head in bytes. One of 64 KiB has to be answered; hyper answers a larger one with 431.
const HEAD_BYTES: usize = 128 * 1024;

/// Longest a client may leave its side open after we have closed ours.
const FAREWELL: Duration = Duration::from_secs(2);

/// How connections are told to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ending {
    /// Finish the request that runs, take no other.
    pub(crate) drain: CancellationToken,
    /// End now, cleanly, wherever the body is.
    pub(crate) cut: CancellationToken,
}

/// Serves one connection until it ends.
pub(crate) async fn serve(mut stream: TcpStream, site: Arc<Site>, ending: Ending) {
    // Cancelled for this connection alone when a body on it is aborted.
    let cut = ending.cut.child_token();
    let mut leftover = Bytes::new();
    loop {
        let handover = Arc::<Handover>::default();
        let wire = Wire::new(stream, leftover, Arc::clone(&handover));
        let ready;
        (ready, stream, leftover) = heads(wire, &site, &handover, &ending.drain, &cut).await;
        // Dropped here if it is not ready: the core hears of the end before the farewell.
        let Some(transfer) = handover.take().filter(|_| ready) else { break };
        match transfer.send(&stream, &cut).await {
            Ok(true) if !ending.drain.is_cancelled() => {}
            Ok(_) => break,
            Err(reason) => {
                tracing::debug!(%reason, "a body of the mirror ended early");
                break;
            }
        }
    }
    farewell(stream).await;
}

/// Lets hyper read requests and answer them, until the connection ends (`false`), or until it has written the head of an
/// answer whose body is to be sent without it (`true`). Gives the stream back, and what hyper has read too much.
async fn heads(
    wire: Wire<TcpStream>,
    site: &Arc<Site>,
    handover: &Arc<Handover>,
    drain: &CancellationToken,
    cut: &CancellationToken,
) -> (bool, TcpStream, Bytes) {
    let service = service_fn(|request| {
        let line = Line { cut: cut.clone(), handover: Arc::clone(handover) };
        let site = Arc::clone(site);
        async move { Ok::<_, Infallible>(answer(site, line, request).await) }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(site.config.header_timeout)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(wire), service);
    let mut draining = false;
    let ready = loop {
        let driven = poll_fn(|context| match Pin::new(&mut connection).poll(context) {
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "a connection of the mirror ended early");
                Poll::Ready(false)
            }
            Poll::Ready(Ok(())) => Poll::Ready(false),
            Poll::Pending if handover.is_ready() => Poll::Ready(true),
            Poll::Pending => Poll::Pending,
        });
        tokio::select! {
            biased;
            () = cut.cancelled() => break false,
            ready = driven => break ready,
            () = drain.cancelled(), if !draining => draining = true,
        }
        Pin::new(&mut connection).graceful_shutdown();
    };
    let parts = connection.into_parts();
    let (stream, unread) = parts.io.into_inner().into_parts();
    // What hyper has read comes before what it has not come to.
    let leftover = if unread.is_empty() { parts.read_buf } else { [parts.read_buf, unread].concat().into() };
    (ready, stream, leftover)
}

/// Sends FIN, and reads what the client is still sending until it has seen it: closing a socket with unread bytes
/// would send RST, which destroys what is under way and which containerd does not recover from.
async fn farewell(mut stream: TcpStream) {
    let polite = async {
        stream.shutdown().await?;
        let mut ignored = [0; 4096];
        while stream.read(&mut ignored).await? > 0 {}
        Ok::<(), std::io::Error>(())
    };
    // Whether the client is polite, too, changes nothing.
    let _ = tokio::time::timeout(FAREWELL, polite).await;
}

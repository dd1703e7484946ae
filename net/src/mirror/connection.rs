//! One connection from the first byte to a polite end.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::answer::answer;
use super::patience::Patient;
use super::site::Site;

/// Largest request head and largest amount of body that waits in a connection, in bytes. A 64 KiB head has to be
/// answered; hyper answers a larger one with 431.
const CONNECTION_BUFFER_BYTES: usize = 128 * 1024;

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
pub(crate) async fn serve<Io>(io: Io, site: Arc<Site>, ending: Ending)
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let header_timeout = site.config.header_timeout;
    // Cancelled for this connection alone when a body on it is aborted.
    let cut = ending.cut.child_token();
    let cut_by_request = cut.clone();
    let service = service_fn(move |request| {
        let (site, cut) = (Arc::clone(&site), cut_by_request.clone());
        async move { Ok::<_, Infallible>(answer(site, cut, request).await) }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(CONNECTION_BUFFER_BYTES)
        .serve_connection(TokioIo::new(Patient::new(io)), service);
    let mut draining = false;
    let result = loop {
        let ended = tokio::select! {
            biased;
            () = cut.cancelled() => Some(Ok(())),
            result = &mut connection => Some(result),
            () = ending.drain.cancelled(), if !draining => None,
        };
        match ended {
            Some(result) => break result,
            None => {
                draining = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection of the mirror ended early");
    }
    // Drops the request, if there is one: the core hears of it before we linger.
    let io = connection.into_parts().io.into_inner().into_inner();
    farewell(io).await;
}

/// Sends FIN, and reads what the client is still sending until it has seen it: closing a socket with unread bytes
/// would send RST, which destroys what is under way and which containerd does not recover from.
async fn farewell<Io: AsyncRead + AsyncWrite + Unpin>(mut io: Io) {
    let polite = async {
        io.shutdown().await?;
        let mut ignored = [0; 4096];
        while io.read(&mut ignored).await? > 0 {}
        Ok::<(), std::io::Error>(())
    };
    // Whether the client is polite, too, changes nothing.
    let _ = tokio::time::timeout(FAREWELL, polite).await;
}

//! The mirror: what containerd talks to instead of the registry. HTTP/1.1 only, because the reset of an HTTP/2 stream
//! fails a pull where a clean end of a connection lets containerd go on elsewhere.
//!
//! It knows nothing and decides nothing: every valid request for a digest becomes an [`Input::Mirror`], and the core's
//! answer becomes bytes.
//!
//! [`Input::Mirror`]: longshore_core::input::Input::Mirror

mod answer;
mod body;
mod connection;
mod handover;
mod problem;
mod requests;
mod route;
mod site;
mod transfer;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::digest::Digest;
use longshore_core::names::RequestId;
use longshore_core::output::Refusal;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use self::connection::Ending;
use self::requests::{Requests, Verdict};
use self::site::Site;
use crate::driver::{Inputs, Mirror};
use crate::store::Store;
use crate::vault::Vault;

/// Connections that wait in the kernel to be accepted: a rollout of many pods opens many at once.
const BACKLOG: u32 = 1024;

/// Pause after a failed accept (no file descriptors left, mostly), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answer to a connection over the limit: 503 sends containerd to the next host at once.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-type: application/json\r\n\
    content-length: 87\r\n\r\n{\"errors\":[{\"code\":\"UNAVAILABLE\",\"message\":\"longshore mirror: too many connections\"}]}\n";

/// What an operator can set about the mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorConfig {
    /// Where to listen. Loopback by default: whoever reaches the mirror reads every image in the store.
    pub bind: SocketAddr,
    /// The registry (host, and port if any) of requests without `ns`. If absent and `registries` has exactly one, that.
    pub default_registry: Option<Arc<str>>,
    /// The registries that are mirrored; requests for others get a 404. `None`: all.
    pub registries: Option<Vec<Arc<str>>>,
    /// Most connections at a time. One more is answered with 503.
    pub max_connections: usize,
    /// Longest a client may take to send the head of its next request.
    pub header_timeout: Duration,
}

impl Default for MirrorConfig {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 5000)),
            default_registry: None,
            registries: None,
            max_connections: 4096,
            header_timeout: Duration::from_secs(5),
        }
    }
}

/// The mirror does not start.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The address is taken.
    #[error(
        "the mirror cannot listen on {0}: the port is taken by another process; stop that (`ss -ltnp` names it), \
         or give the mirror another port in the configuration and in containerd's hosts.toml"
    )]
    Taken(SocketAddr),
    /// The address cannot be used.
    #[error("the mirror cannot listen on {0}: {1}; configure an address of this machine, such as 127.0.0.1:5000")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// A configured registry is no registry.
    #[error(
        "'{0}' is not a registry for the mirror; write host or host:port, such as docker.io or registry.local:5000"
    )]
    Registry(Arc<str>),
}

/// Starts mirrors.
#[derive(Debug)]
pub struct MirrorServer;

impl MirrorServer {
    /// Listens and serves in tasks of its own, until the driver is dropped or its handle drains it. Says where it
    /// listens. Has to be called in a tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be listened on, or the configuration names something that is no registry.
    pub fn start(
        config: MirrorConfig,
        store: Store,
        vault: Vault,
        inputs: Inputs,
    ) -> Result<(MirrorDriver, SocketAddr), MirrorError> {
        for registry in config.registries.iter().flatten().chain(&config.default_registry) {
            if !route::is_registry(registry) {
                return Err(MirrorError::Registry(Arc::clone(registry)));
            }
        }
        let bind = config.bind;
        let (listener, address) = listen(bind).map_err(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => MirrorError::Taken(bind),
            _ => MirrorError::Listen(bind, error),
        })?;
        let requests = Requests::new(inputs);
        let slots = Arc::new(Semaphore::new(config.max_connections.min(Semaphore::MAX_PERMITS)));
        let site = Site { config, store, vault, requests: Arc::clone(&requests) };
        let handle = MirrorHandle { ending: Ending::default(), connections: TaskTracker::new() };
        let accepting = accept(listener, Arc::new(site), slots, handle.clone());
        handle.connections.spawn(accepting);
        handle.connections.close();
        tracing::info!(%address, "the mirror listens");
        Ok((MirrorDriver { requests, handle }, address))
    }
}

fn listen(bind: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
    let socket = if bind.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restarted agent must not wait for the connections of the last one to time out.
    socket.set_reuseaddr(true)?;
    socket.bind(bind)?;
    let listener = socket.listen(BACKLOG)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

async fn accept(listener: TcpListener, site: Arc<Site>, slots: Arc<Semaphore>, handle: MirrorHandle) {
    loop {
        let accepted = tokio::select! {
            () = handle.ending.drain.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the mirror cannot accept a connection; if this repeats, raise the limit of open files");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            turn_away(&stream);
            continue;
        };
        // Headers go out before the first byte of a body is there.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY on a connection of the mirror");
        }
        let (site, ending) = (Arc::clone(&site), handle.ending.clone());
        handle.connections.spawn(async move {
            connection::serve(stream, site, ending).await;
            drop(slot);
        });
    }
}

fn turn_away(stream: &TcpStream) {
    tracing::warn!("the mirror has too many connections; one more is answered with 503");
    // A fresh socket has room for this. If not, the client sees a closed connection, and goes on just the same.
    let _ = stream.try_write(FULL);
}

/// Answers containerd for the core. Dropping it ends the mirror: waiting requests get a 503, bodies may finish.
#[derive(Debug)]
pub struct MirrorDriver {
    requests: Arc<Requests>,
    handle: MirrorHandle,
}

impl MirrorDriver {
    /// Controls the end of the mirror, from anywhere.
    #[must_use]
    pub fn handle(&self) -> MirrorHandle {
        self.handle.clone()
    }
}

impl Mirror for MirrorDriver {
    fn serve(&mut self, request: RequestId, digest: Digest, size: u64, media_type: Option<Arc<str>>) {
        self.requests.decide(request, Verdict::Serve { digest, size, media_type });
    }

    fn refuse(&mut self, request: RequestId, refusal: Refusal) {
        self.requests.decide(request, Verdict::Refuse(refusal));
    }

    fn abort(&mut self, request: RequestId) {
        self.requests.abort(request);
    }
}

impl Drop for MirrorDriver {
    fn drop(&mut self) {
        self.handle.drain();
        self.requests.close();
    }
}

/// Controls the end of a mirror. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MirrorHandle {
    ending: Ending,
    connections: TaskTracker,
}

impl MirrorHandle {
    /// Stops accepting, and closes each connection when the request that runs on it is done.
    pub fn drain(&self) {
        self.ending.drain.cancel();
    }

    /// Ends all bodies now, cleanly: containerd gets the rest elsewhere.
    pub fn cut(&self) {
        self.ending.drain.cancel();
        self.ending.cut.cancel();
    }

    /// Waits until the port is closed and no connection is left.
    pub async fn finished(&self) {
        self.connections.wait().await;
    }
}

#[cfg(test)]
mod tests;

//! An agent without peers or store: relays every request to its registry. Stands in until the shell is connected.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use libp2p::identity::Keypair;
use longshore_core::metrics::Counters;

use super::{Look, Running, StartError};
use crate::config::Settings;
use crate::http::client::Client;
use crate::http::server::Server;
use crate::http::{Body, text};

pub(super) struct Direct {
    server: Server,
    peer: String,
    bytes: Arc<AtomicU64>,
}

impl Direct {
    pub(super) async fn start(settings: &Settings, keypair: &Keypair) -> Result<Self, StartError> {
        let client = Client::new().map_err(|error| StartError::Other(error.to_string()))?;
        let bytes = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&bytes);
        let server = Server::start(settings.mirror_listen, 256, move |request| {
            let (client, counter) = (client.clone(), Arc::clone(&counter));
            async move {
                let relayed = relay(&client, request, counter).await;
                relayed.unwrap_or_else(|| text(StatusCode::NOT_FOUND, "not here\n"))
            }
        });
        let server =
            server.await.map_err(|error| StartError::listen("mirror_listen", settings.mirror_listen, error))?;
        Ok(Self { server, peer: crate::identity::peer_id(keypair).to_string(), bytes })
    }
}

async fn relay(client: &Client, request: Request<Incoming>, counter: Arc<AtomicU64>) -> Option<Response<Body>> {
    let registry = request.uri().query()?.strip_prefix("ns=")?;
    let mut relayed =
        Request::builder().method(request.method()).uri(format!("http://{registry}{}", request.uri().path()));
    for name in [http::header::RANGE, http::header::ACCEPT] {
        if let Some(value) = request.headers().get(&name) {
            relayed = relayed.header(name, value);
        }
    }
    let response = client.send(relayed.body(Empty::new()).ok()?, Duration::from_secs(20)).await.ok()?;
    Some(response.map(|body| {
        let counted = body.map_frame(move |frame| {
            counter.fetch_add(frame.data_ref().map_or(0, |data| data.len() as u64), Ordering::Relaxed);
            frame
        });
        counted.map_err(std::io::Error::other).boxed_unsync()
    }))
}

impl Running for Direct {
    fn peer_id(&self) -> String {
        self.peer.clone()
    }
    fn mirror_address(&self) -> SocketAddr {
        self.server.address()
    }
    fn peer_addresses(&self) -> Vec<String> {
        Vec::new()
    }
    fn look(&self) -> BoxFuture<'_, Look> {
        let bytes = self.bytes.load(Ordering::Relaxed);
        let counters = Counters { origin_bytes: bytes, mirror_bytes: bytes, ..Counters::default() };
        let status = idle_status("direct", &self.peer);
        Box::pin(async move { Look { counters, status, peers: Vec::new() } })
    }
    fn drain(&self, _timeout: Duration) -> BoxFuture<'_, bool> {
        Box::pin(async { true })
    }
}

/// The status of an agent that has nothing to do.
fn idle_status(name: &str, peer: &str) -> longshore_core::agent::status::Status {
    longshore_core::agent::status::Status {
        name: name.to_owned(),
        peer: longshore_core::names::PeerId::new(peer),
        ready: true,
        reason: None,
        members: 1,
        blobs: 0,
        blob_bytes: 0,
        partial_blobs: 0,
        announced: 0,
        failures: 0,
        mirror_requests: 0,
        streams: 0,
        calls: 0,
        deadlines: 0,
        flights: Vec::new(),
    }
}

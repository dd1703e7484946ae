//! The HTTP server behind [`super`].

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use http::{Method, Response, StatusCode, header};
use tokio::sync::watch;

use super::metrics::{self, Sample};
use super::view::{Peer, Phase, Status};
use crate::agent::{Look, Running, StartError};
use crate::config::Settings;
use crate::http::server::Server;
use crate::http::{Body, text};

/// Most connections at a time: a Prometheus, the kubelet's probes and a few curious people.
const MOST_CONNECTIONS: usize = 64;

/// Shows an agent on `status_listen`.
pub struct StatusServer {
    server: Option<Server>,
    state: Arc<State>,
}

struct State {
    settings: Settings,
    started: Instant,
    phase: watch::Sender<Phase>,
    agent: OnceLock<Arc<dyn Running>>,
}

impl StatusServer {
    /// Starts to serve, in phase [`Phase::Starting`].
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(settings: &Settings) -> Result<Self, StartError> {
        let state = Arc::new(State {
            settings: settings.clone(),
            started: Instant::now(),
            phase: watch::Sender::new(Phase::Starting),
            agent: OnceLock::new(),
        });
        let Some(address) = settings.status_listen else { return Ok(Self { server: None, state }) };
        let shared = Arc::clone(&state);
        let server = Server::start(address, MOST_CONNECTIONS, move |request| {
            let state = Arc::clone(&shared);
            async move { state.answer(request.method(), request.uri().path()).await }
        });
        let server = server.await.map_err(|error| StartError::listen("status_listen", address, error))?;
        Ok(Self { server: Some(server), state })
    }

    /// Where it listens, if it does.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(Server::address)
    }

    /// The agent to show from now on.
    pub fn attach(&self, agent: Arc<dyn Running>) {
        // Only the first one counts: a process has one agent.
        let _ = self.state.agent.set(agent);
    }

    /// The agent's phase from now on.
    pub fn enter(&self, phase: Phase) {
        self.state.phase.send_replace(phase);
    }
}

impl State {
    async fn answer(&self, method: &Method, path: &str) -> Response<Body> {
        if method != Method::GET && method != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        }
        match path {
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" => match self.not_ready(self.look().await.as_ref()) {
                None => text(StatusCode::OK, "ok\n"),
                Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
            },
            "/metrics" => typed(metrics::CONTENT_TYPE, metrics::encode(self.sample().await)),
            "/status" => match serde_json::to_string_pretty(&self.status().await) {
                Ok(json) => typed("application/json", json + "\n"),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            },
            _ => text(StatusCode::NOT_FOUND, "there are /metrics, /livez, /readyz and /status\n"),
        }
    }

    async fn look(&self) -> Option<Look> {
        match self.agent.get() {
            Some(agent) => agent.look().await,
            None => None,
        }
    }

    /// Why the agent takes no work, by its phase or by its own word.
    fn not_ready(&self, look: Option<&Look>) -> Option<String> {
        if let Some(reason) = self.phase.borrow().reason() {
            return Some(reason.to_owned());
        }
        let status = &look?.status;
        let reason = status.reason.clone().unwrap_or_else(|| "the agent does not say why".to_owned());
        (!status.ready).then_some(reason)
    }

    async fn sample(&self) -> Sample {
        let look = self.look().await;
        let mut sample = Sample {
            ready: self.not_ready(look.as_ref()).is_none(),
            memory_resident_bytes: crate::proc::own_resident_bytes(),
            uptime_seconds: self.started.elapsed().as_secs(),
            ..Sample::default()
        };
        if let Some(Look { counters, status, connected, journal }) = look {
            sample.counters = counters;
            sample.blobs = status.blobs as u64;
            sample.stored_bytes = status.blob_bytes;
            sample.members = status.members as u64;
            sample.flights = status.flights.len() as u64;
            sample.mirror_requests = status.mirror_requests as u64;
            sample.origin_fetches = u64::from(status.origin_fetches);
            sample.origin_fetches_limit = u64::from(status.origin_fetches_limit);
            sample.limiting_registries = status.limiting.len() as u64;
            sample.peers_connected = connected.len() as u64;
            if let Some(journal) = journal {
                sample.journal_inputs = journal.inputs();
                sample.journal_bytes = journal.bytes();
                sample.journal_stopped = journal.stopped();
            }
        }
        sample
    }

    async fn status(&self) -> Status {
        let look = self.look().await;
        let mut page = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            phase: *self.phase.borrow(),
            reason: self.not_ready(look.as_ref()),
            uptime_seconds: self.started.elapsed().as_secs(),
            node: crate::agent::node_name(&self.settings),
            zone: self.settings.zone.clone(),
            memory_resident_bytes: crate::proc::own_resident_bytes(),
            store_cap_bytes: self.settings.store_cap.map(|cap| cap.0),
            ..Status::default()
        };
        if let Some(agent) = self.agent.get() {
            page.peer = agent.peer_id();
            page.mirror_address = Some(agent.mirror_address().to_string());
            page.peer_addresses = agent.peer_addresses();
        }
        if let Some(Look { counters, status, connected, journal: _ }) = look {
            page.blobs = status.blobs as u64;
            page.stored_bytes = status.blob_bytes;
            page.partial_blobs = status.partial_blobs as u64;
            page.members = status.members as u64;
            page.mirror_requests = status.mirror_requests as u64;
            page.origin_fetches = u64::from(status.origin_fetches);
            page.origin_fetches_limit = u64::from(status.origin_fetches_limit);
            page.limiting = status.limiting.into_iter().map(Into::into).collect();
            page.flights = status.flights.into_iter().map(Into::into).collect();
            page.peers = status.peers.into_iter().map(|peer| Peer::new(peer, &connected)).collect();
            page.counters = counters.list().into_iter().map(|(name, _, value)| (name.to_owned(), value)).collect();
        }
        page
    }
}

fn typed(content_type: &'static str, body: String) -> Response<Body> {
    let mut response = text(StatusCode::OK, body);
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests;

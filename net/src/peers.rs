//! The peers driver: a libp2p node that speaks `/gantry/coord/1.0.0` and `/longshore/swarm/1.0.0`.
//!
//! It translates: outputs of the core become streams, messages and queries, and what happens to them becomes inputs. It
//! never retries, and remembers nothing but where peers can be reached.

mod addresses;
mod calls;
mod clock;
mod connections;
mod hub;
mod identity;
mod inbound;
mod index;
mod not_myself;
mod notices;
mod pieces;
mod streams;
mod tasks;
#[cfg(test)]
mod tests;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use libp2p::{Multiaddr, Transport as _};
use longshore_core::digest::Digest;
use longshore_core::input::Input;
use longshore_core::message::{Notice, PieceRefusal, PieceRequest, PieceSum, Request, Response};
use longshore_core::names::{CallId, OpId, PeerId, StreamId};
use longshore_core::output::Check;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

use self::addresses::is_loopback;
pub use self::clock::Clock;
pub use self::connections::Connections;
use self::hub::{Command, Hub, HubTask, parse_peer};
pub use self::identity::{Identity, IdentityError};
use self::inbound::Instruction;
use self::index::Index;
use self::not_myself::NotMyself;
use self::notices::Notices;
use self::pieces::Fetch;
use self::tasks::Tasks;
pub use self::transport::{Encryption, PeerTransport, tcp};
use crate::driver::{Inputs, Peers};
use crate::store::Store;

/// What an operator can set about the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Multiaddrs to listen on; port 0 takes a free one.
    pub listen: Vec<Arc<str>>,
    /// Multiaddrs that other nodes reach this one at. Empty: the addresses that it listens on, without loopback
    /// addresses unless there are no others.
    pub advertise: Vec<Arc<str>>,
    /// The encrypted channel to prefer.
    pub encryption: Encryption,
    /// Most connections, both ways, at a time (Gantry's high-water mark is 900).
    pub max_connections: u32,
    /// A connection that nobody uses is closed after this long.
    pub idle_timeout: Duration,
    /// Longest that dialing and the handshakes may take together.
    pub handshake_timeout: Duration,
    /// A provider record that is not published again is forgotten after this long.
    pub provider_ttl: Duration,
    /// How often provider records are published again.
    pub provider_republish_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec!["/ip4/0.0.0.0/tcp/4001".into()],
            advertise: Vec::new(),
            encryption: Encryption::default(),
            max_connections: 1000,
            idle_timeout: Duration::from_secs(60),
            handshake_timeout: Duration::from_secs(5),
            provider_ttl: Duration::from_secs(15 * 60),
            provider_republish_interval: Duration::from_secs(5 * 60),
        }
    }
}

/// Why the node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address in the configuration is none.
    #[error("'{text}' in '{key}' is not a multiaddr ({problem}); expected for example /ip4/0.0.0.0/tcp/4001")]
    BadAddress {
        /// The key.
        key: &'static str,
        /// Its value.
        text: Arc<str>,
        /// What is wrong with it.
        problem: String,
    },
    /// There is no address to listen on.
    #[error("'listen' is empty; expected at least one multiaddr, for example /ip4/0.0.0.0/tcp/4001")]
    NoListenAddress,
    /// The operating system does not let us listen.
    #[error("cannot listen on '{address}': {source}")]
    Listen {
        /// The address.
        address: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The encrypted channel cannot be set up.
    #[error("cannot set up encryption with this identity: {0}")]
    Encryption(std::io::Error),
}

/// This node, as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPeer {
    /// Its authenticated identity.
    pub peer_id: PeerId,
    /// Where it listens, with the ports that it got.
    pub listening: Vec<Arc<str>>,
    /// Where others should dial it.
    pub reachable: Vec<Arc<str>>,
}

/// Talks to other agents over libp2p. Dropping it stops it; [`stop`](Self::stop) also waits for that.
#[derive(Debug)]
pub struct PeersDriver {
    hub: Hub,
    inputs: Inputs,
    store: Store,
    clock: Clock,
    streams: Tasks<StreamId, mpsc::UnboundedSender<Instruction>>,
    calls: Tasks<CallId>,
    transfers: Tasks<OpId>,
    notices: Notices,
    tracker: TaskTracker,
    stop: DropGuard,
    connections: Connections,
}

impl PeersDriver {
    /// Starts the node and waits until it listens. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// When an address is malformed or cannot be listened on.
    pub async fn start(
        config: &Config,
        identity: &Identity,
        store: Store,
        inputs: Inputs,
    ) -> Result<(Self, LocalPeer), StartError> {
        let transport =
            tcp(identity.keypair(), config.encryption, config.handshake_timeout).map_err(StartError::Encryption)?;
        Self::start_over(config, identity, transport, Clock::default(), store, inputs).await
    }

    /// As [`start`](Self::start), over a transport and with a wall clock of the caller's own.
    ///
    /// # Errors
    /// When an address is malformed or cannot be listened on.
    pub async fn start_over(
        config: &Config,
        identity: &Identity,
        transport: PeerTransport,
        clock: Clock,
        store: Store,
        inputs: Inputs,
    ) -> Result<(Self, LocalPeer), StartError> {
        let listen = parse_addresses("listen", &config.listen)?;
        let advertise = parse_addresses("advertise", &config.advertise)?;
        if listen.is_empty() {
            return Err(StartError::NoListenAddress);
        }
        let mut swarm = hub::swarm(config, NotMyself::new(transport).boxed(), identity.keypair().public());
        hub::listen(&mut swarm, &listen)
            .await
            .map_err(|(address, source)| StartError::Listen { address: address.to_string(), source })?;
        let listening: Vec<Multiaddr> = swarm.listeners().cloned().collect();
        let reachable = reachable(&listening, advertise);
        for address in &reachable {
            swarm.add_external_address(address.clone());
        }
        let loopback_only = reachable.iter().all(is_loopback);
        if loopback_only {
            swarm.behaviour_mut().believe_loopback();
        }
        let local =
            LocalPeer { peer_id: identity.peer_id(), listening: texts(&listening), reachable: texts(&reachable) };
        info!(peer = %local.peer_id, listening = ?local.listening, "the peer-to-peer node has started");

        let tracker = TaskTracker::new();
        let stop = CancellationToken::new();
        let (hub, commands) = Hub::channel();
        let connections = Connections::default();
        let streams = Tasks::new(tracker.clone());
        tracker.spawn(
            HubTask {
                swarm,
                commands,
                hub: hub.clone(),
                stop: stop.clone(),
                inputs: inputs.clone(),
                store: store.clone(),
                clock,
                streams: streams.clone(),
                index: Index::default(),
                next_stream: 0,
                connections: connections.clone(),
                loopback_only,
            }
            .run(),
        );
        let driver = Self {
            calls: Tasks::new(tracker.clone()),
            transfers: Tasks::new(tracker.clone()),
            notices: Notices::new(hub.clone(), tracker.clone()),
            hub,
            inputs,
            store,
            clock,
            streams,
            tracker,
            stop: stop.drop_guard(),
            connections,
        };
        Ok((driver, local))
    }

    /// Who is connected; goes on saying so after the driver was handed over.
    #[must_use]
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// Closes all connections and waits for all tasks to end.
    pub async fn stop(self) {
        let Self { stop, tracker, streams, calls, transfers, notices, .. } = self;
        drop(stop);
        streams.abort_all();
        calls.abort_all();
        transfers.abort_all();
        notices.stop();
        tracker.close();
        tracker.wait().await;
    }

    fn instruct(&self, stream: StreamId, instruction: Instruction) {
        self.streams.tell(stream, |instructions| {
            // The stream's task may be at its end.
            let _ = instructions.send(instruction);
        });
    }
}

impl Peers for PeersDriver {
    fn admit(&mut self, stream: StreamId, max_bytes: usize) {
        self.instruct(stream, Instruction::Admit { max_bytes });
    }

    fn reset(&mut self, stream: StreamId) {
        self.streams.abort(stream);
    }

    fn reply(&mut self, stream: StreamId, response: Response) {
        self.instruct(stream, Instruction::Reply(response));
    }

    fn serve_piece(&mut self, stream: StreamId, digest: Digest, offset: u64, len: u64, claim: Option<PieceSum>) {
        self.instruct(stream, Instruction::ServePiece { digest, offset, len, claim });
    }

    fn refuse_piece(&mut self, stream: StreamId, refusal: PieceRefusal) {
        self.instruct(stream, Instruction::RefusePiece(refusal));
    }

    /// The timeout is the core's to keep: it cancels the call.
    fn call(&mut self, call: CallId, peer: PeerId, request: Request, _timeout: Duration) {
        let (hub, clock, inputs) = (self.hub.clone(), self.clock, self.inputs.clone());
        self.calls.spawn(call, (), async move {
            inputs.send(match calls::call(&hub, clock, &peer, &request).await {
                Ok(response) => Input::Reply { call, response },
                Err(error) => Input::CallFailed { call, error },
            });
        });
    }

    fn cancel_call(&mut self, call: CallId) {
        self.calls.abort(call);
    }

    fn notify(&mut self, peer: PeerId, notice: Arc<Notice>) {
        self.notices.send(peer, notice);
    }

    fn learn(&mut self, peer: PeerId, addresses: Vec<Arc<str>>) {
        let Some(id) = parse_peer(&peer) else {
            debug!(%peer, "not a peer ID; its addresses are not remembered");
            return;
        };
        let parse = |text: &Arc<str>| {
            text.parse::<Multiaddr>().inspect_err(|error| debug!(%peer, %text, %error, "not a multiaddr")).ok()
        };
        let addresses: Vec<_> = addresses.iter().take(addresses::MAX_ADDRESSES_PER_PEER).filter_map(parse).collect();
        if !addresses.is_empty() {
            self.hub.send(Command::Learn { peer: id, addresses });
        }
    }

    fn fetch_piece(&mut self, op: OpId, peer: PeerId, digest: Digest, size: u64, piece: u32, check: Check) {
        let fetch = Fetch {
            op,
            peer,
            request: PieceRequest { digest, size, piece },
            check,
            inputs: self.inputs.clone(),
            store: self.store.clone(),
            hub: self.hub.clone(),
        };
        self.transfers.spawn(op, (), fetch.run());
    }

    fn cancel(&mut self, op: OpId) {
        self.transfers.abort(op);
        self.hub.send(Command::Cancel { op });
    }

    fn find_providers(&mut self, op: OpId, digest: Digest) {
        self.hub.send(Command::Find { op, digest });
    }

    fn announce(&mut self, digests: Vec<Digest>) {
        self.hub.send(Command::Announce { digests });
    }

    fn withdraw(&mut self, digests: Vec<Digest>) {
        self.hub.send(Command::Withdraw { digests });
    }
}

fn parse_addresses(key: &'static str, texts: &[Arc<str>]) -> Result<Vec<Multiaddr>, StartError> {
    let parse = |text: &Arc<str>| {
        text.parse().map_err(|error: libp2p::multiaddr::Error| StartError::BadAddress {
            key,
            text: Arc::clone(text),
            problem: error.to_string(),
        })
    };
    texts.iter().map(parse).collect()
}

fn reachable(listening: &[Multiaddr], advertise: Vec<Multiaddr>) -> Vec<Multiaddr> {
    if !advertise.is_empty() {
        return advertise;
    }
    let public: Vec<_> = listening.iter().filter(|address| !is_loopback(address)).cloned().collect();
    if public.is_empty() { listening.to_vec() } else { public }
}

fn texts(addresses: &[Multiaddr]) -> Vec<Arc<str>> {
    addresses.iter().map(|address| address.to_string().into()).collect()
}

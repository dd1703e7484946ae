//! The libp2p node: one task owns it, everybody else sends it commands.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::core::transport::TransportError;
use libp2p::core::upgrade::Version;
use libp2p::identity::PublicKey;
use libp2p::kad::QueryId;
use libp2p::swarm::{NetworkBehaviour, Stream, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, identify, ping};
use longshore_core::digest::Digest;
use longshore_core::input::Input;
use longshore_core::message::{Neighbour, Protocol};
use longshore_core::names::{self, OpId, StreamId};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Config;
use super::addresses::{MAX_ADDRESSES_PER_PEER, is_loopback, without_peer};
use super::clock::Clock;
use super::connections::Connections;
use super::inbound::{Ended, InboundStream, Instruction};
use super::index::{FIND_TIMEOUT, Found, INDEX_PROTOCOL, Index, Kademlia, kademlia};
use super::streams::{self, Inbound, Open, OpenError};
use super::tasks::Tasks;
use super::transport::PeerTransport;
use crate::driver::Inputs;
use crate::store::Store;

/// How often an idle connection is tested, and how long the answer may take: a peer that lost its power is noticed after
/// the sum at the latest.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections to one peer: one each way when both dial at once, and one more for a peer that was just restarted.
const MAX_CONNECTIONS_PER_PEER: u32 = 3;
/// Handshakes at a time, each way: they cost CPU, and a rollout starts many at once.
const MAX_HANDSHAKES: u32 = 256;
/// Inbound streams of one connection that are being negotiated at a time. More wait.
const MAX_NEGOTIATING_STREAMS: usize = 256;

/// What the hub can be asked for.
#[derive(Debug)]
pub(super) enum Command {
    Open { peer: PeerId, wish: Open },
    Learn { peer: PeerId, addresses: Vec<Multiaddr> },
    Find { op: OpId, digest: Digest },
    FindExpired { query: QueryId },
    Cancel { op: OpId },
    Announce { digests: Vec<Digest> },
    Withdraw { digests: Vec<Digest> },
}

/// A way to the hub. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Hub {
    // Without a bound of its own: every command comes from an output of the core, whose bounds hold.
    commands: mpsc::UnboundedSender<Command>,
}

impl Hub {
    pub(super) fn channel() -> (Self, mpsc::UnboundedReceiver<Command>) {
        let (commands, receiver) = mpsc::unbounded_channel();
        (Self { commands }, receiver)
    }

    /// Sends a command. After the hub has ended, this does nothing.
    pub(super) fn send(&self, command: Command) {
        // The hub is gone only when the driver is stopping.
        let _ = self.commands.send(command);
    }

    /// Opens a stream, dialing the peer if there is no connection.
    pub(super) async fn open(&self, peer: &names::PeerId, protocol: Protocol) -> Result<Stream, OpenError> {
        let peer = parse_peer(peer).ok_or_else(|| OpenError::Unreachable(format!("'{peer}' is not a peer ID")))?;
        let (reply, answer) = oneshot::channel();
        self.send(Command::Open { peer, wish: Open { protocol, reply } });
        // Nobody answers if the connection closes meanwhile.
        answer.await.unwrap_or_else(|_| Err(OpenError::Broken("the connection was closed".to_owned())))
    }
}

pub(super) fn parse_peer(peer: &names::PeerId) -> Option<PeerId> {
    peer.as_str().parse().ok()
}

fn name_of(peer: &PeerId) -> names::PeerId {
    names::PeerId::new(&peer.to_base58())
}

#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    // First, so that a connection over the limit is not shown to the others.
    limits: connection_limits::Behaviour,
    streams: streams::Behaviour,
    index: Kademlia,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

impl Behaviour {
    pub(super) fn believe_loopback(&mut self) {
        self.streams.believe_loopback();
    }
}

/// Makes the node. It listens nowhere yet.
pub(super) fn swarm(config: &Config, transport: PeerTransport, public: PublicKey) -> Swarm<Behaviour> {
    let local = public.to_peer_id();
    let limits = ConnectionLimits::default()
        .with_max_pending_incoming(Some(MAX_HANDSHAKES))
        .with_max_pending_outgoing(Some(MAX_HANDSHAKES))
        .with_max_established_per_peer(Some(MAX_CONNECTIONS_PER_PEER))
        // A quarter is for our own dials: nobody can shut this node in by connecting to it.
        .with_max_established_incoming(Some(config.max_connections - config.max_connections / 4))
        .with_max_established(Some(config.max_connections));
    let identify = identify::Config::new("/longshore/1.0.0".to_owned(), public)
        .with_agent_version(concat!("longshore/", env!("CARGO_PKG_VERSION")).to_owned())
        // What others can use is told as an external address.
        .with_hide_listen_addrs(true);
    let behaviour = Behaviour {
        limits: connection_limits::Behaviour::new(limits),
        streams: streams::Behaviour::new(),
        index: kademlia(local, config.provider_ttl, config.provider_republish_interval),
        identify: identify::Behaviour::new(identify),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT)),
    };
    let settings = libp2p::swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(config.idle_timeout)
        .with_max_negotiating_inbound_streams(MAX_NEGOTIATING_STREAMS)
        // The first message goes out with the protocol's name: a request takes one round trip, not two.
        .with_substream_upgrade_protocol_override(Version::V1Lazy);
    Swarm::new(transport, behaviour, local, settings)
}

/// The node's task.
pub(super) struct HubTask {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) hub: Hub,
    pub(super) stop: CancellationToken,
    pub(super) inputs: Inputs,
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) streams: Tasks<StreamId, mpsc::UnboundedSender<Instruction>>,
    pub(super) index: Index,
    pub(super) next_stream: u64,
    pub(super) connections: Connections,
    /// All that others can reach us at is loopback: this is a cluster on one machine, and its loopback addresses are good.
    pub(super) loopback_only: bool,
}

impl HubTask {
    pub(super) async fn run(mut self) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                command = self.commands.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => break,
                },
                event = self.swarm.select_next_some() => self.on_event(event),
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        let behaviour = self.swarm.behaviour_mut();
        match command {
            Command::Open { peer, wish } => behaviour.streams.open(peer, wish),
            Command::Learn { peer, addresses } => {
                behaviour.streams.book().learn(peer, addresses.iter().cloned());
                for address in addresses.into_iter().filter_map(|address| without_peer(peer, address)) {
                    behaviour.index.add_address(&peer, address);
                }
            }
            Command::Find { op, digest } => {
                let query = self.index.find(&mut behaviour.index, op, digest);
                let hub = self.hub.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(FIND_TIMEOUT).await;
                    hub.send(Command::FindExpired { query });
                });
            }
            Command::FindExpired { query } => {
                let found = self.index.expire(&mut behaviour.index, query);
                self.report_found(found);
            }
            Command::Cancel { op } => self.index.cancel(&mut behaviour.index, op),
            Command::Announce { digests } => self.index.announce(&mut behaviour.index, digests),
            Command::Withdraw { digests } => self.index.withdraw(&mut behaviour.index, &digests),
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Streams(streams::Event::Inbound(inbound))) => {
                self.on_inbound(inbound)
            }
            SwarmEvent::Behaviour(BehaviourEvent::Streams(streams::Event::Unreachable { peer, wrong_address })) => {
                if let Some(address) = wrong_address.and_then(|address| without_peer(peer, address)) {
                    self.swarm.behaviour_mut().index.remove_address(&peer, &address);
                }
                self.inputs.send(Input::Disconnected { peer: name_of(&peer) });
            }
            SwarmEvent::Behaviour(BehaviourEvent::Index(event)) => {
                let found = self.index.on_event(&mut self.swarm.behaviour_mut().index, event);
                self.report_found(found);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. })) => {
                self.on_identified(peer_id, &info);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event { peer, connection, result: Err(error) }))
                if !matches!(error, ping::Failure::Unsupported) =>
            {
                debug!(%peer, %error, "a connection is dead");
                self.swarm.close_connection(connection);
            }
            SwarmEvent::ConnectionEstablished { peer_id, .. } => self.connections.opened(name_of(&peer_id)),
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, cause, .. } => {
                self.connections.closed(&name_of(&peer_id));
                debug!(peer = %peer_id, ?cause, "disconnected");
                self.inputs.send(Input::Disconnected { peer: name_of(&peer_id) });
            }
            _ => {}
        }
    }

    fn on_inbound(&mut self, Inbound { peer, protocol, stream }: Inbound) {
        let id = StreamId(self.next_stream);
        self.next_stream += 1;
        let peer = name_of(&peer);
        let opened = Input::StreamOpened { stream: id, peer: peer.clone(), protocol };
        let (sender, instructions) = mpsc::unbounded_channel();
        let inbound = InboundStream {
            id,
            peer,
            protocol,
            stream,
            instructions,
            inputs: self.inputs.clone(),
            store: self.store.clone(),
            clock: self.clock,
            ended: Ended::default(),
        };
        self.streams.spawn(id, sender, inbound.run());
        // Not before: the core may admit the stream while this still runs. The task reports nothing until then.
        self.inputs.send(opened);
    }

    fn on_identified(&mut self, peer: PeerId, info: &identify::Info) {
        let loopback_only = self.loopback_only;
        let addresses: Vec<_> = info
            .listen_addrs
            .iter()
            .filter(|address| loopback_only || !is_loopback(address))
            .filter_map(|address| without_peer(peer, address.clone()))
            .take(MAX_ADDRESSES_PER_PEER)
            .collect();
        let behaviour = self.swarm.behaviour_mut();
        if info.protocols.contains(&INDEX_PROTOCOL) {
            for address in &addresses {
                behaviour.index.add_address(&peer, address.clone());
            }
        }
        behaviour.streams.book().learn(peer, addresses);
    }

    fn report_found(&mut self, found: Option<Found>) {
        let Some(Found { op, providers }) = found else { return };
        let local = *self.swarm.local_peer_id();
        let book = self.swarm.behaviour_mut().streams.book();
        let neighbour = |peer: &PeerId| Neighbour {
            peer: name_of(peer),
            addresses: book.of(peer).iter().map(|address| Arc::from(address.to_string())).collect(),
            zone: None,
        };
        let peers = providers.iter().filter(|peer| **peer != local).map(neighbour).collect();
        self.inputs.send(Input::Providers { op, peers });
    }
}

/// Listens on `addresses` and waits until each gives at least one address that peers can dial.
pub(super) async fn listen(
    swarm: &mut Swarm<Behaviour>,
    addresses: &[Multiaddr],
) -> Result<(), (Multiaddr, io::Error)> {
    let mut waiting = Vec::new();
    for address in addresses {
        match swarm.listen_on(address.clone()) {
            Ok(listener) => waiting.push((listener, address)),
            Err(TransportError::Other(error)) => return Err((address.clone(), unwrapped(error))),
            Err(error @ TransportError::MultiaddrNotSupported(_)) => {
                return Err((address.clone(), io::Error::new(io::ErrorKind::Unsupported, error.to_string())));
            }
        }
    }
    // Others may come right behind the first; those that are there already are taken, too.
    while let Some(event) =
        if waiting.is_empty() { swarm.select_next_some().now_or_never() } else { Some(swarm.select_next_some().await) }
    {
        match event {
            SwarmEvent::NewListenAddr { listener_id, .. } => waiting.retain(|(listener, _)| *listener != listener_id),
            SwarmEvent::ListenerError { listener_id, error } => {
                if let Some((_, address)) = waiting.iter().find(|(listener, _)| *listener == listener_id) {
                    return Err(((*address).clone(), unwrapped(error)));
                }
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                if let Some((_, address)) = waiting.iter().find(|(listener, _)| *listener == listener_id) {
                    let error = reason.err().unwrap_or_else(|| io::Error::other("the listener was closed"));
                    return Err(((*address).clone(), unwrapped(error)));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// What the system said: libp2p wraps it, each layer of the transport once, and hides its kind.
fn unwrapped(error: io::Error) -> io::Error {
    let mut kind = error.kind();
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(current) = next {
        next = match current.downcast_ref::<io::Error>() {
            Some(system) => {
                kind = system.kind();
                // Not `source`, which skips the error that is wrapped.
                system.get_ref().map(|inner| inner as _)
            }
            None => current.source(),
        };
    }
    io::Error::new(kind, error.to_string())
}

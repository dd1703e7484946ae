//! Opens and accepts streams of our two protocols.
//!
//! libp2p's own `libp2p-stream` (0.5.0-alpha) is not used: it keeps one inbound stream per protocol and drops the next
//! when two arrive at once, negotiates one outbound stream at a time, loses a dial that is asked for during another one,
//! and forgets no closed connection. Here every inbound stream is an event, and every wish for an outbound stream is
//! answered.

mod handler;

use std::collections::{HashMap, VecDeque};
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished, DialFailure, NewExternalAddrOfPeer};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, DialError, FromSwarm, NetworkBehaviour, NotifyHandler, Stream, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use longshore_core::message::Protocol;
use tokio::sync::oneshot;
use tracing::debug;

use self::handler::{Accepted, Handler};
use super::addresses::{AddressBook, is_loopback};

/// Why no stream could be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum OpenError {
    /// There is no connection, and none could be made.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// The connection broke while the stream was being opened, or the peer does not speak the protocol.
    #[error("the stream could not be opened: {0}")]
    Broken(String),
}

/// A wish for an outbound stream. Dropping the receiving end withdraws it.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) protocol: Protocol,
    pub(super) reply: oneshot::Sender<Result<Stream, OpenError>>,
}

/// What the node should know of.
#[derive(Debug)]
pub(super) enum Event {
    Inbound(Inbound),
    /// A dial failed, and there is no other connection. The swarm itself reports only dials that got as far as a socket.
    Unreachable {
        peer: PeerId,
        /// Somebody else lives at this address.
        wrong_address: Option<Multiaddr>,
    },
}

/// A stream that a peer opened. The peer is the one that the connection's handshake has authenticated.
#[derive(Debug)]
pub(super) struct Inbound {
    pub(super) peer: PeerId,
    pub(super) protocol: Protocol,
    pub(super) stream: Stream,
}

/// The part of the libp2p node that deals in our streams, and knows where peers can be reached.
pub(super) struct Behaviour {
    book: AddressBook,
    /// Established connections, oldest first.
    connections: HashMap<PeerId, Vec<ConnectionId>>,
    /// Wishes that wait for a connection.
    waiting: HashMap<PeerId, Vec<Open>>,
    events: VecDeque<ToSwarm<Event, Open>>,
    believe_loopback: bool,
}

impl Behaviour {
    pub(super) fn new() -> Self {
        Self {
            book: AddressBook::default(),
            connections: HashMap::new(),
            waiting: HashMap::new(),
            events: VecDeque::new(),
            believe_loopback: false,
        }
    }

    /// Opens a stream, dialing if there is no connection.
    pub(super) fn open(&mut self, peer: PeerId, wish: Open) {
        // The newest connection: if the peer was restarted, older ones may be dead without our knowing.
        if let Some(connection) = self.connections.get(&peer).and_then(|connections| connections.last()) {
            self.pass_on(peer, *connection, wish);
            return;
        }
        self.waiting.entry(peer).or_default().push(wish);
        // A failed condition is no failure: the dial that is under way ends in an event of its own.
        let dial = DialOpts::peer_id(peer).condition(PeerCondition::DisconnectedAndNotDialing).build();
        self.events.push_back(ToSwarm::Dial { opts: dial });
    }

    /// From now on, loopback addresses that others tell about a peer are taken, too. They lead everybody to himself,
    /// unless all of the cluster is on one machine.
    pub(super) fn believe_loopback(&mut self) {
        self.believe_loopback = true;
    }

    pub(super) fn book(&mut self) -> &mut AddressBook {
        &mut self.book
    }

    fn pass_on(&mut self, peer: PeerId, connection: ConnectionId, wish: Open) {
        let event = ToSwarm::NotifyHandler { peer_id: peer, handler: NotifyHandler::One(connection), event: wish };
        self.events.push_back(event);
    }

    fn dial_failed(&mut self, peer: PeerId, error: &DialError) {
        if matches!(error, DialError::DialPeerConditionFalse(_)) {
            return;
        }
        debug!(%peer, %error, "cannot be reached");
        let wrong_address = match error {
            DialError::WrongPeerId { address, .. } | DialError::LocalPeerId { address } => Some(address.clone()),
            _ => None,
        };
        if let Some(address) = &wrong_address {
            // The next dial is not to end there again.
            self.book.forget(&peer, address);
        }
        if !self.connections.contains_key(&peer) {
            self.events.push_back(ToSwarm::GenerateEvent(Event::Unreachable { peer, wrong_address }));
        }
        for wish in self.waiting.remove(&peer).unwrap_or_default() {
            // The wish may have been withdrawn meanwhile.
            let _ = wish.reply.send(Err(OpenError::Unreachable(error.to_string())));
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        Ok(peer.map(|peer| self.book.of(&peer)).unwrap_or_default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, connection_id, .. }) => {
                self.connections.entry(peer_id).or_default().push(connection_id);
                for wish in self.waiting.remove(&peer_id).unwrap_or_default() {
                    self.pass_on(peer_id, connection_id, wish);
                }
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                if let Some(connections) = self.connections.get_mut(&peer_id) {
                    connections.retain(|other| *other != connection_id);
                    if connections.is_empty() {
                        self.connections.remove(&peer_id);
                    }
                }
            }
            FromSwarm::DialFailure(DialFailure { peer_id: Some(peer), error, .. }) => self.dial_failed(peer, error),
            // What the provider index learns on the way, so that a provider it names can be reached.
            FromSwarm::NewExternalAddrOfPeer(NewExternalAddrOfPeer { peer_id, addr })
                if self.believe_loopback || !is_loopback(addr) =>
            {
                self.book.learn(peer_id, [addr.clone()]);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        _: ConnectionId,
        Accepted { protocol, stream }: THandlerOutEvent<Self>,
    ) {
        self.events.push_back(ToSwarm::GenerateEvent(Event::Inbound(Inbound { peer, protocol, stream })));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        // Whoever fills the queue is running inside the swarm's own poll, or polls it next.
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

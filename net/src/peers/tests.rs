//! Real nodes in one process, on loopback.

mod calls;
mod hostile;
mod index;
mod pieces;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, StreamProtocol, Swarm, SwarmBuilder, noise, tcp, yamux};
use longshore_core::digest::Digest;
use longshore_core::input::Input;
use longshore_core::message::{MAX_MESSAGE_BYTES, Protocol};
use longshore_core::names::{PeerId, StreamId};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;

/// Long enough for a busy machine; no test waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(20);

/// A driver with a store of its own, and the inputs that it reports.
struct Node {
    driver: PeersDriver,
    local: LocalPeer,
    store: Store,
    inputs: mpsc::UnboundedReceiver<Input>,
    /// What came while something else was waited for.
    passed_over: Vec<Input>,
    _directory: TempDir,
}

impl Node {
    async fn start() -> Self {
        Self::with(&config(), &Identity::generate()).await
    }

    async fn with(config: &Config, identity: &Identity) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (sender, inputs) = Inputs::channel();
        let store = Store::open(directory.path(), sender.clone()).unwrap();
        let (driver, local) = PeersDriver::start(config, identity, store.clone(), sender).await.unwrap();
        Self { driver, local, store, inputs, passed_over: Vec::new(), _directory: directory }
    }

    fn id(&self) -> PeerId {
        self.local.peer_id.clone()
    }

    fn learn(&mut self, other: &LocalPeer) {
        self.driver.learn(other.peer_id.clone(), other.reachable.clone());
    }

    /// The first input, also of those passed over, that `wanted` makes something of.
    async fn expect<T>(&mut self, what: &str, wanted: impl Fn(&Input) -> Option<T>) -> T {
        if let Some(position) = self.passed_over.iter().position(|input| wanted(input).is_some()) {
            return wanted(&self.passed_over.remove(position)).unwrap();
        }
        let waiting = async {
            loop {
                let input = self.inputs.recv().await.expect("the driver is there");
                match wanted(&input) {
                    Some(found) => return found,
                    None => self.passed_over.push(input),
                }
            }
        };
        match timeout(PATIENCE, waiting).await {
            Ok(found) => found,
            Err(_) => panic!("{what} did not come; these did: {:?}", self.passed_over),
        }
    }

    async fn stream_opened(&mut self) -> (StreamId, PeerId, Protocol) {
        self.expect("a stream", |input| match input {
            Input::StreamOpened { stream, peer, protocol } => Some((*stream, peer.clone(), *protocol)),
            _ => None,
        })
        .await
    }

    async fn admit(&mut self) -> StreamId {
        let (stream, _, _) = self.stream_opened().await;
        self.driver.admit(stream, MAX_MESSAGE_BYTES);
        stream
    }

    async fn closed(&mut self, wanted: StreamId) -> (Option<longshore_core::input::StreamError>, u64) {
        self.expect("the end of a stream", |input| match input {
            Input::StreamClosed { stream, error, sent_bytes } if *stream == wanted => Some((*error, *sent_bytes)),
            _ => None,
        })
        .await
    }

    /// Inputs of a kind that have come so far, without waiting.
    fn count(&mut self, of: impl Fn(&Input) -> bool) -> usize {
        while let Ok(input) = self.inputs.try_recv() {
            self.passed_over.push(input);
        }
        self.passed_over.iter().filter(|input| of(input)).count()
    }
}

fn config() -> Config {
    Config { listen: vec!["/ip4/127.0.0.1/tcp/0".into()], ..Config::default() }
}

/// Two nodes; the first knows where the second is.
async fn pair() -> (Node, Node) {
    let (mut a, b) = (Node::start().await, Node::start().await);
    a.learn(&b.local);
    (a, b)
}

fn digest(number: u8) -> Digest {
    Digest::from_bytes([number; 32])
}

/// A libp2p node that is no Longshore: it writes and reads what it is told. It speaks noise only, as Gantry does.
struct Stranger {
    swarm: Swarm<libp2p_stream::Behaviour>,
}

impl Stranger {
    async fn start() -> Self {
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|_| libp2p_stream::Behaviour::new())
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(PATIENCE))
            .build();
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
        loop {
            if let SwarmEvent::NewListenAddr { .. } = swarm.select_next_some().await {
                return Self { swarm };
            }
        }
    }

    fn local(&self) -> LocalPeer {
        let addresses: Vec<Arc<str>> = self.swarm.listeners().map(|address| address.to_string().into()).collect();
        let peer_id = PeerId::new(&self.swarm.local_peer_id().to_base58());
        LocalPeer { peer_id, listening: addresses.clone(), reachable: addresses }
    }

    fn accept(&self, protocol: &'static str) -> libp2p_stream::IncomingStreams {
        self.swarm.behaviour().new_control().accept(StreamProtocol::new(protocol)).unwrap()
    }

    /// Runs in the background from now on.
    fn run(mut self) -> libp2p_stream::Control {
        let control = self.swarm.behaviour().new_control();
        tokio::spawn(async move {
            loop {
                self.swarm.select_next_some().await;
            }
        });
        control
    }

    /// Connects to a node, and runs.
    async fn connect(mut self, to: &LocalPeer) -> Dialer {
        let peer: libp2p::PeerId = to.peer_id.as_str().parse().unwrap();
        let address: Multiaddr = to.reachable[0].parse().unwrap();
        self.swarm.dial(address.with(libp2p::multiaddr::Protocol::P2p(peer))).unwrap();
        loop {
            if let SwarmEvent::ConnectionEstablished { .. } = self.swarm.select_next_some().await {
                return Dialer { peer, control: self.run() };
            }
        }
    }
}

/// Opens streams to one node.
struct Dialer {
    peer: libp2p::PeerId,
    control: libp2p_stream::Control,
}

impl Dialer {
    async fn open(&mut self, protocol: &'static str) -> libp2p::Stream {
        timeout(PATIENCE, self.control.open_stream(self.peer, StreamProtocol::new(protocol))).await.unwrap().unwrap()
    }
}

//! A peer without any of our code: plain libp2p, and bytes written by hand.

use std::time::Duration;

use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId, StreamProtocol, SwarmBuilder, noise, tcp, yamux};
use libp2p_stream::Control;
use tokio::runtime::Runtime;

use super::agent::Agent;

/// Longest wait for an agent to answer or to close a stream: more than its handshake timeout (5 s).
const SILENCE: Duration = Duration::from_secs(15);
/// More than the largest message that an agent may send.
const MOST_BYTES: u64 = 2 * 1024 * 1024;

/// What came back on a stream until it ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// These bytes, then the end.
    Bytes(Vec<u8>),
    /// Nothing: closed or reset without a reply, or not opened at all.
    Nothing,
}

/// A peer with a key of its own, or one that it has stolen.
pub(crate) struct RawPeer {
    runtime: Runtime,
    keypair: Keypair,
}

impl RawPeer {
    /// A peer with a new key.
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        Self { runtime, keypair: Keypair::generate_ed25519() }
    }

    /// Its identity.
    pub(crate) fn peer_id(&self) -> PeerId {
        self.keypair.public().to_peer_id()
    }

    /// Opens a stream for `protocol`, writes `bytes`, closes its half if told to, and reads until the end.
    pub(crate) fn ask(&self, agent: &Agent, protocol: &'static str, bytes: &[u8], close: bool) -> Answer {
        self.runtime.block_on(async {
            let exchange = self.exchange(agent, protocol, bytes, close);
            tokio::time::timeout(SILENCE, exchange)
                .await
                .unwrap_or_else(|_| panic!("the agent neither answered nor closed the stream within {SILENCE:?}"))
        })
    }

    async fn exchange(&self, agent: &Agent, protocol: &'static str, bytes: &[u8], close: bool) -> Answer {
        let (peer, mut control, driver) = self.connect(agent).await;
        let result = async {
            let mut stream = control.open_stream(peer, StreamProtocol::new(protocol)).await.ok()?;
            // The agent may close before it has read everything.
            let _ = stream.write_all(bytes).await;
            let _ = stream.flush().await;
            if close {
                let _ = stream.close().await;
            }
            let mut answer = Vec::new();
            // An error is a reset: what came before it counts.
            let _ = stream.take(MOST_BYTES).read_to_end(&mut answer).await;
            (!answer.is_empty()).then_some(answer)
        };
        let answer = result.await;
        driver.abort();
        answer.map_or(Answer::Nothing, Answer::Bytes)
    }

    async fn connect(&self, agent: &Agent) -> (PeerId, Control, tokio::task::JoinHandle<()>) {
        let mut swarm = SwarmBuilder::with_existing_identity(self.keypair.clone())
            .with_tokio()
            .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
            .expect("the noise keys can be made")
            .with_behaviour(|_| libp2p_stream::Behaviour::new())
            .expect("the behaviour cannot fail")
            .build();
        let address: Multiaddr = agent.identity.member().parse().expect("the harness writes valid addresses");
        let peer: PeerId = agent.identity.peer_id.parse().expect("'longshore identity' prints a peer ID");
        swarm.dial(address).expect("the address can be dialled");
        let control = swarm.behaviour().new_control();
        let (connected, when_connected) = tokio::sync::oneshot::channel();
        let driver = tokio::spawn(async move {
            let mut connected = Some(connected);
            while let Some(event) = swarm.next().await {
                let established = matches!(event, libp2p::swarm::SwarmEvent::ConnectionEstablished { .. });
                if established && let Some(connected) = connected.take() {
                    // The asker has given up only if the test is over.
                    let _ = connected.send(());
                }
            }
        });
        tokio::time::timeout(SILENCE, when_connected)
            .await
            .expect("the agent accepts connections")
            .expect("the driver runs until it is aborted");
        (peer, control, driver)
    }
}

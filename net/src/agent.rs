//! A whole agent on real drivers: store, mirror, origin client, libp2p and membership around one core.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::Agent;
use longshore_core::config::Config;
use longshore_core::names::PeerId;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::driver::Inputs;
use crate::journal::{JournalConfig, Recorder};
use crate::membership::{Following, Membership, MembershipError};
use crate::mirror::{MirrorConfig, MirrorError, MirrorHandle, MirrorServer};
use crate::origin::{OriginClient, OriginConfig, OriginConfigError};
use crate::peers::{self, Connections, Identity, LocalPeer, PeersDriver};
use crate::shell::{self, Drivers, Look, ShellHandle};
use crate::store::Store;
use crate::vault::Vault;

/// Everything that an agent needs to know before it starts.
#[derive(Debug)]
pub struct AgentConfig {
    /// What it decides by. `peer` and `addresses` are overwritten with what the peer-to-peer node says.
    pub core: Config,
    /// Decides what is left to chance.
    pub seed: u64,
    /// Directory of the blob store.
    pub store: PathBuf,
    /// The mirror.
    pub mirror: MirrorConfig,
    /// The registries.
    pub origin: OriginConfig,
    /// The peer-to-peer node.
    pub peers: peers::Config,
    /// Its identity.
    pub identity: Identity,
    /// Where membership comes from.
    pub membership: Membership,
    /// Where to record what happens, if at all.
    pub journal: Option<JournalConfig>,
}

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The blob store.
    #[error("the blob store cannot be opened: {0}")]
    Store(#[source] std::io::Error),
    /// The mirror.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// The origin client.
    #[error(transparent)]
    Origin(#[from] OriginConfigError),
    /// The peer-to-peer node.
    #[error(transparent)]
    Peers(#[from] peers::StartError),
    /// The members.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// The journal.
    #[error(
        "the journal cannot be started in {0}: {1}; set journal_dir to a directory that this user can write, or not at all"
    )]
    Journal(PathBuf, #[source] std::io::Error),
}

/// An agent at work. Dropping it stops it at once.
#[derive(Debug)]
pub struct RunningAgent {
    shell: ShellHandle,
    task: JoinHandle<()>,
    mirror: MirrorHandle,
    mirror_address: SocketAddr,
    local: LocalPeer,
    connections: Connections,
    store: Store,
    _membership: Following,
}

impl RunningAgent {
    /// Starts all parts, each of them on the address and directory that it was given.
    ///
    /// # Errors
    /// When one of them cannot start; nothing is left running then.
    pub async fn start(config: AgentConfig) -> Result<Self, AgentError> {
        let AgentConfig { mut core, seed, store, mirror, origin, peers, identity, membership, journal } = config;
        let origin_of_time = Instant::now();
        let (inputs, receiver) = Inputs::channel();
        let vault = Vault::new();
        // Off the runtime's threads: a large store takes a moment.
        let opening = inputs.clone();
        let store = tokio::task::spawn_blocking(move || Store::open(&store, opening))
            .await
            .map_err(|error| AgentError::Store(std::io::Error::other(error)))?
            .map_err(AgentError::Store)?;
        let origin = OriginClient::new(origin, inputs.clone(), store.clone(), vault.clone())?;
        let (peers, local) = PeersDriver::start(&peers, &identity, store.clone(), inputs.clone()).await?;
        let connections = peers.connections();
        core.peer = local.peer_id.clone();
        core.addresses = local.reachable.clone();
        let membership = membership.follow(inputs.clone())?;
        let (mirror, mirror_address) = MirrorServer::start(mirror, store.clone(), vault, inputs.clone())?;
        let mirror_handle = mirror.handle();
        let recorder = journal
            .map(|journal| {
                Recorder::start(&journal, core.clone(), seed)
                    .map_err(|error| AgentError::Journal(journal.directory.clone(), error))
            })
            .transpose()?;
        let agent = Agent::new(core, seed, longshore_core::time::Time::ZERO);
        let drivers = Drivers { mirror, peers, origin, store: store.clone() };
        let (shell, task) = shell::spawn(agent, drivers, inputs, receiver, origin_of_time, recorder);
        Ok(Self {
            shell,
            task,
            mirror: mirror_handle,
            mirror_address,
            local,
            connections,
            store,
            _membership: membership,
        })
    }

    /// Its identity.
    #[must_use]
    pub fn peer_id(&self) -> &PeerId {
        &self.local.peer_id
    }

    /// Where containerd reaches it.
    #[must_use]
    pub fn mirror_address(&self) -> SocketAddr {
        self.mirror_address
    }

    /// Where peers reach it, as multiaddrs.
    #[must_use]
    pub fn peer_addresses(&self) -> &[Arc<str>] {
        &self.local.reachable
    }

    /// The agent now; `None` if it has broken down.
    pub async fn look(&self) -> Option<Look> {
        self.shell.look().await
    }

    /// The peers that are connected now.
    #[must_use]
    pub fn connected_peers(&self) -> std::collections::BTreeSet<PeerId> {
        self.connections.now()
    }

    /// The blob store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Takes no new work, finishes what runs within `timeout`, then cuts what is left. Whether everything was finished.
    pub async fn drain(&self, timeout: Duration) -> bool {
        let start = Instant::now();
        let drained = self.shell.drain(timeout).await;
        self.mirror.drain();
        let left = timeout.saturating_sub(start.elapsed());
        let finished = tokio::time::timeout(left, self.mirror.finished()).await.is_ok();
        if !finished {
            self.mirror.cut();
        }
        drained && finished
    }

    /// Resolves when the agent has stopped without having been told to.
    pub async fn broken(&self) {
        self.shell.ended().await;
    }
}

impl Drop for RunningAgent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

//! The agent on its real drivers: the settings as `longshore-net` wants them, and what it shows as the program wants it.

use std::net::SocketAddr;
use std::time::Duration;

use futures::future::BoxFuture;
use longshore_core::members::Member;
use longshore_core::names::PeerId;
use longshore_net::agent::{AgentConfig, AgentError, RunningAgent};
use longshore_net::journal::JournalConfig;
use longshore_net::membership::Membership;
use longshore_net::mirror::{MirrorConfig, MirrorError};
use longshore_net::origin::{NodeCredential, OriginConfig, Upstream};
use longshore_net::peers::{self, Identity};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::{Look, Running, StartError, prepare};
use crate::config::Settings;
use crate::config::kinds::Encryption;
use crate::config::registries::Registry;

/// An agent with store, mirror, origin client and peers.
pub(super) struct Connected {
    agent: RunningAgent,
}

impl Connected {
    pub(super) async fn start(settings: &Settings, identity: Identity) -> Result<Self, StartError> {
        let config = AgentConfig {
            core: prepare::core_config(settings, identity.peer_id()),
            seed: seed()?,
            store: settings.data_dir.join("store"),
            mirror: mirror(settings),
            origin: origin(settings)?,
            peers: peer_config(settings),
            identity,
            membership: membership(settings),
            journal: journal(settings),
        };
        match RunningAgent::start(config).await {
            Ok(agent) => Ok(Self { agent }),
            Err(AgentError::Mirror(MirrorError::Listen(address, error))) => {
                Err(StartError::listen("mirror_listen", address, error))
            }
            Err(AgentError::Mirror(MirrorError::Taken(address))) => {
                Err(StartError::listen("mirror_listen", address, std::io::ErrorKind::AddrInUse.into()))
            }
            Err(AgentError::Peers(peers::StartError::Listen { address, source })) => {
                Err(StartError::listen("peer_listen", address, source))
            }
            Err(error) => Err(StartError::Other(error.to_string())),
        }
    }
}

fn seed() -> Result<u64, StartError> {
    let mut bytes = [0; 8];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| StartError::Other("the operating system gives no random bytes".to_owned()))?;
    Ok(u64::from_le_bytes(bytes))
}

fn mirror(settings: &Settings) -> MirrorConfig {
    let registries: Vec<_> = settings.registry_allowlist.iter().map(|host| host.0.as_str().into()).collect();
    MirrorConfig {
        bind: settings.mirror_listen,
        default_registry: settings.default_registry.as_ref().map(|host| host.0.as_str().into()),
        registries: (!registries.is_empty()).then_some(registries),
        max_connections: settings.max_mirror_connections.0 as usize,
        ..MirrorConfig::default()
    }
}

fn origin(settings: &Settings) -> Result<OriginConfig, StartError> {
    let mut config = OriginConfig { ca_files: settings.registry_ca_files.clone(), ..OriginConfig::default() };
    for (host, registry) in &settings.registries.0 {
        config.registries.insert(host.0.clone(), upstream(&host.0, registry)?);
    }
    Ok(config)
}

fn upstream(host: &str, registry: &Registry) -> Result<Upstream, StartError> {
    let wrong = |problem: String| StartError::Other(format!("registries.{host:?}: {problem}"));
    let base_url = match &registry.url {
        Some(text) => Some(text.parse().map_err(|error| wrong(format!("url '{text}' is no URL: {error}")))?),
        None => None,
    };
    let credential = match (&registry.username, &registry.password_file) {
        (Some(user), Some(file)) => {
            let password = std::fs::read_to_string(file).map_err(|error| {
                wrong(format!(
                    "cannot read password_file {}: {error}; it has to hold the password and nothing else",
                    file.display()
                ))
            })?;
            let credential = NodeCredential::new(user, password.trim_end_matches(['\r', '\n']));
            Some(credential.map_err(|error| wrong(format!("username and password cannot be used: {error}")))?)
        }
        _ => None,
    };
    Ok(Upstream { base_url, plain_http: registry.plain_http, credential })
}

fn peer_config(settings: &Settings) -> peers::Config {
    let texts = |addresses: &[libp2p::Multiaddr]| addresses.iter().map(|address| address.to_string().into()).collect();
    peers::Config {
        listen: texts(&settings.peer_listen),
        advertise: texts(&settings.peer_advertise),
        encryption: match settings.peer_encryption {
            Encryption::Noise => peers::Encryption::Noise,
            Encryption::Tls => peers::Encryption::Tls,
        },
        max_connections: settings.max_peer_connections.0,
        ..peers::Config::default()
    }
}

fn membership(settings: &Settings) -> Membership {
    if let Some(path) = &settings.members_file {
        return Membership::File(path.clone());
    }
    let members = settings.members.iter().filter_map(|member| {
        let peer = PeerId::new(&member.peer_id()?.to_base58());
        Some(Member {
            name: peer.as_str().into(),
            peer: Some(peer),
            addresses: vec![member.0.to_string().into()],
            zone: None,
            ready: true,
        })
    });
    Membership::Static(members.collect())
}

fn journal(settings: &Settings) -> Option<JournalConfig> {
    let directory = settings.journal_dir.clone()?;
    let program = concat!("longshore ", env!("CARGO_PKG_VERSION")).to_owned();
    Some(JournalConfig { directory, cap_bytes: settings.journal_cap.0, program })
}

impl Running for Connected {
    fn peer_id(&self) -> String {
        self.agent.peer_id().to_string()
    }

    fn mirror_address(&self) -> SocketAddr {
        self.agent.mirror_address()
    }

    fn peer_addresses(&self) -> Vec<String> {
        self.agent.peer_addresses().iter().map(ToString::to_string).collect()
    }

    fn look(&self) -> BoxFuture<'_, Option<Look>> {
        Box::pin(async {
            let look = self.agent.look().await?;
            Some(Look {
                counters: look.counters,
                status: look.status,
                connected: self.agent.connected_peers(),
                journal: look.journal,
            })
        })
    }

    fn drain(&self, timeout: Duration) -> BoxFuture<'_, bool> {
        Box::pin(self.agent.drain(timeout))
    }

    fn broken(&self) -> BoxFuture<'_, String> {
        Box::pin(async {
            self.agent.broken().await;
            "the agent's task has ended".to_owned()
        })
    }
}

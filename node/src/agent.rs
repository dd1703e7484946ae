//! `longshore agent`: starts an agent, shows what it does, and stops it gracefully.
//!
//! [`Running`] is the seam between the program and the agent: this module knows nothing else about it.

mod connect;
mod logs;
mod prepare;
pub mod run;

pub use prepare::{core_config, node_name};

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::BoxFuture;
use longshore_core::metrics::Counters;
use longshore_core::names::PeerId;

use crate::config::Settings;

/// An agent at work.
pub trait Running: Send + Sync + 'static {
    /// Its identity.
    fn peer_id(&self) -> String;
    /// Where containerd reaches it.
    fn mirror_address(&self) -> SocketAddr;
    /// Where peers reach it, as multiaddrs.
    fn peer_addresses(&self) -> Vec<String>;
    /// What it has counted, holds and does at this moment; `None` if it has broken down.
    fn look(&self) -> BoxFuture<'_, Option<Look>>;
    /// Takes no new work, finishes what runs within `timeout`, and stops. Whether it finished.
    fn drain(&self, timeout: Duration) -> BoxFuture<'_, bool>;
    /// Resolves, with the reason, if the agent stops without having been told to.
    fn broken(&self) -> BoxFuture<'_, String> {
        Box::pin(futures::future::pending())
    }
}

/// What an agent has counted, holds and does at one moment.
#[derive(Clone, Debug)]
pub struct Look {
    /// Counters since the start.
    pub counters: Counters,
    /// What the agent says of itself.
    pub status: longshore_core::agent::status::Status,
    /// Identities of the peers that are connected.
    pub connected: BTreeSet<PeerId>,
    /// How its recording is doing, if there is one.
    pub journal: Option<longshore_net::journal::JournalState>,
}

/// An agent could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A directory or file that it needs.
    #[error("cannot {action} {path}: {source}; {advice}")]
    Directory {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: String,
        /// What was found.
        source: std::io::Error,
        /// What to do.
        advice: String,
    },
    /// An address that it listens on.
    #[error("cannot listen on {address} ({key}): {source}; {advice}")]
    Listen {
        /// The key that the address comes from.
        key: &'static str,
        /// The address.
        address: String,
        /// What was found.
        source: std::io::Error,
        /// What to do.
        advice: String,
    },
    /// The identity.
    #[error(transparent)]
    Identity(#[from] longshore_net::peers::IdentityError),
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

impl StartError {
    /// An address of the configuration that cannot be bound.
    #[must_use]
    pub fn listen(key: &'static str, address: impl std::fmt::Display, source: std::io::Error) -> Self {
        let advice = match source.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!("another program has this port ('ss -ltnp' shows which); stop it, or set {key}")
            }
            std::io::ErrorKind::AddrNotAvailable => {
                format!("no interface has this address; set {key} to one that exists")
            }
            std::io::ErrorKind::PermissionDenied => {
                format!("run as a user that may bind it, or set {key} to a port above 1023")
            }
            _ => format!("check {key}"),
        };
        Self::Listen { key, address: address.to_string(), source, advice }
    }
}

/// Starts an agent with these settings.
///
/// # Errors
/// When something that it needs is not to be had; nothing is left running then.
pub async fn start(settings: &Settings) -> Result<Box<dyn Running>, StartError> {
    let identity = prepare::identity(settings)?;
    Ok(Box::new(connect::Connected::start(settings, identity).await?))
}

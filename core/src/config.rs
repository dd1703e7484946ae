//! What an operator can set about the agent's decisions. Defaults are the reference's, with the place named.

use core::time::Duration;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::names::PeerId;

/// The agent's settings. Every duration is wall time on the driver's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// This node's name for rendezvous hashing.
    pub name: Arc<str>,
    /// This node's identity.
    pub peer: PeerId,
    /// This node's zone.
    pub zone: Option<Arc<str>>,
    /// Where peers reach this node, as multiaddrs.
    pub addresses: Vec<Arc<str>>,
    /// Whom the cascade ranks.
    pub scope: Scope,
    /// How many of the best-ranked nodes are probed (Gantry: 3).
    pub probe_width: u32,
    /// Longest a call may take, dial included (Gantry: 2 s).
    pub call_timeout: Duration,
    /// Longest an inbound stream may take until its request is there (Gantry: 5 s).
    pub handshake_timeout: Duration,
    /// Most inbound request streams at a time (Gantry: 512); one more is reset.
    pub max_streams: u32,
    /// What to do with requests of peers that the membership view does not know.
    pub authorization: Authorization,
    /// Most flights that transfer at a time (Gantry: 16, each of which is a
    /// whole layer); the others wait. As many that containerd waits for run besides.
    pub max_running_flights: u32,
    /// Most flights started for peers or ahead of time (Gantry: 64); one more is declined.
    pub max_admitted_flights: u32,
    /// A flight without a new byte for this long has failed (Gantry: 5 min).
    pub no_progress_timeout: Duration,
    /// A mirror request gets headers or a 404 after this long (containerd gives up after 30 s).
    pub header_timeout: Duration,
    /// A mirror body without a new byte for this long is cut short, so that containerd goes on elsewhere
    /// (containerd cancels the pull after 5 min). Four times as long, 4 min at most, while other bytes come from the same
    /// registry, or that does not answer when it is asked why none do; `agent/bodies.rs`.
    pub body_timeout: Duration,
    /// Fetch the children of a manifest before containerd asks for them, in its order; `agent/queueing.rs` decides how many at a time.
    pub prefetch: bool,
    /// Most pieces that are sent to peers at a time. Each takes as many times longer as there are, and a new piece is passed
    /// on only when it is whole, so few are best: three keep the uplink busy while one receiver is slow and another asks
    /// (1,000 simulated nodes, equal links: slowest node 1.11, 1.09, 1.12 and 1.16 times the optimum with 2, 3, 4 and 6). Where
    /// peers are far away, up to sixteen times as many: a slot that somebody is told of stands empty until the request has come
    /// (`swarm/way.rs`).
    pub max_uploads: u32,
    /// Most pieces that are fetched at a time, for one blob: one more than are sent, so that nobody's uplink waits for
    /// somebody to ask. More of them wait for each other: they arrive later, and are passed on later. Where peers are far away, as
    /// many more as are on the way, up to sixteen times as many.
    pub max_downloads: u32,
    /// Most origin requests of this node at a time; `agent/origin_slots.rs` decides how many there are.
    pub max_origin_fetches: u32,
    /// Most origin assignments that are out at a time for one blob, in the cluster.
    pub max_assignments: u32,
    /// Most bytes of committed blobs to keep; the least recently used go first. `None`: no limit.
    pub store_cap_bytes: Option<u64>,
    /// Registries that peers may make this node ask: the mirror's allowlist. `None`: any, so that a peer can make this node
    /// send requests to hosts of its choice.
    pub registries: Option<Vec<Arc<str>>>,
    /// Whether containerd's credential is checked at the origin before a private blob is served to it.
    pub auth_check: AuthCheck,
    /// How often what is announced is compared with what is there (Gantry: 1 min), with a jitter of a quarter.
    pub reconcile_interval: Duration,
}

/// Whom the cascade ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// All members.
    Cluster,
    /// Members of this node's zone; all members if there is none there.
    Zone,
}

/// What to do with requests of peers that the membership view does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Authorization {
    /// Count them and serve them.
    Observe,
    /// Reject them before their request is read.
    Enforce,
}

/// Whether private blobs are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthCheck {
    /// One trust domain: what a node has, its containerd may have.
    Off,
    /// Ask the registry with the requester's credential; the answer holds for some minutes.
    Origin,
}

impl Config {
    /// The defaults for a node of this name and identity.
    #[must_use]
    pub fn new(name: &str, peer: PeerId) -> Self {
        Self {
            name: name.into(),
            peer,
            zone: None,
            addresses: Vec::new(),
            scope: Scope::Cluster,
            probe_width: 3,
            call_timeout: Duration::from_secs(2),
            handshake_timeout: Duration::from_secs(5),
            max_streams: 512,
            authorization: Authorization::Observe,
            max_running_flights: 64,
            max_admitted_flights: 64,
            no_progress_timeout: Duration::from_secs(300),
            header_timeout: Duration::from_secs(20),
            body_timeout: Duration::from_secs(30),
            prefetch: true,
            max_uploads: 3,
            max_downloads: 4,
            max_origin_fetches: 6,
            max_assignments: 16,
            store_cap_bytes: None,
            registries: None,
            auth_check: AuthCheck::Off,
            reconcile_interval: Duration::from_secs(60),
        }
    }
}

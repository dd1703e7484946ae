//! The contents of `/status`: plain data that `longshore status` reads back.
//!
//! Every field has a default, so that a newer `longshore status` reads an older agent and the other way round.

use std::collections::{BTreeMap, BTreeSet};

use longshore_core::agent::status::{FlightStatus, PeerStatus};
use longshore_core::names::PeerId;
use serde::{Deserialize, Serialize};

/// Where an agent is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It is opening its store and its ports.
    #[default]
    Starting,
    /// It serves.
    Ready,
    /// It finishes what runs and takes nothing new.
    Draining,
}

impl Phase {
    /// Why the agent is not ready; `None` if it is.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Starting => Some("starting: the store and the ports are being opened"),
            Self::Ready => None,
            Self::Draining => Some("draining: what runs is being finished, nothing new is taken"),
        }
    }
}

/// All of `/status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Where the agent is in its life.
    pub phase: Phase,
    /// Why the agent is not ready, if it is not.
    pub reason: Option<String>,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// The node's name.
    pub node: String,
    /// The node's zone.
    pub zone: Option<String>,
    /// Its peer ID.
    pub peer: String,
    /// Where containerd reaches it.
    pub mirror_address: Option<String>,
    /// Where peers reach it.
    pub peer_addresses: Vec<String>,
    /// Bytes of memory in use.
    pub memory_resident_bytes: u64,
    /// Committed blobs.
    pub blobs: u64,
    /// Bytes of committed blobs.
    pub stored_bytes: u64,
    /// Most bytes of committed blobs.
    pub store_cap_bytes: Option<u64>,
    /// Incomplete blobs that nothing is fetching.
    pub partial_blobs: u64,
    /// Agents in this node's view of the cluster, itself included.
    pub members: u64,
    /// Requests of containerd that are open.
    pub mirror_requests: u64,
    /// Fetches from registries that are under way.
    pub origin_fetches: u64,
    /// So many there may be at a time for now: 4 at first, more while registries are fast, half as many where they are slow. Small
    /// blobs are fetched besides.
    pub origin_fetches_limit: u64,
    /// Registries that have answered a fetch with 429.
    pub limiting: Vec<LimitingRegistry>,
    /// What is being fetched.
    pub flights: Vec<Flight>,
    /// Peers that are known or connected.
    pub peers: Vec<Peer>,
    /// Counters by their names.
    pub counters: BTreeMap<String, u64>,
}

/// A registry that limits requests: it is asked for one thing at a time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitingRegistry {
    /// Its name.
    pub registry: String,
    /// Milliseconds between two fetches.
    pub gap_millis: u64,
}

impl From<longshore_core::agent::status::LimitingRegistry> for LimitingRegistry {
    fn from(limiting: longshore_core::agent::status::LimitingRegistry) -> Self {
        Self { registry: limiting.registry, gap_millis: limiting.gap_millis }
    }
}

/// One blob that is being fetched.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Flight {
    /// Its digest.
    pub digest: String,
    /// Registry and repository that it belongs to.
    pub source: String,
    /// What happens now: `queued`, `resolving`, `moving`, `behind` (nobody here waits for it, and other blobs come), `awaiting-registry`
    /// (the node fetches as much from registries as it may, or its registry limits requests) or `committing`.
    pub stage: String,
    /// This node's part in it: `leading`, `following`, `undecided`, or `alone`: what it had was not the blob, and it fetches
    /// all of it from the registry itself.
    pub role: String,
    /// The peer that leads, if this node follows one.
    pub tracker: Option<String>,
    /// Size in bytes, once it is known.
    pub size_bytes: Option<u64>,
    /// Pieces that are here and verified.
    pub pieces: u32,
    /// Pieces in all; 0 until the size is known.
    pub pieces_total: u32,
    /// Bytes that containerd may have.
    pub released_bytes: u64,
    /// Bytes that came from the registry.
    pub origin_bytes: u64,
    /// Bytes that came from peers.
    pub peer_bytes: u64,
    /// Mirror requests that wait for it.
    pub waiters: usize,
    /// Peers that it exchanges pieces with.
    pub neighbours: usize,
    /// Seconds since it started.
    pub age_seconds: u64,
    /// Seconds since the last byte, or since it last stood behind.
    pub idle_seconds: u64,
}

impl Peer {
    /// A member, and whether it is among those that are `connected`.
    #[must_use]
    pub fn new(peer: PeerStatus, connected: &BTreeSet<PeerId>) -> Self {
        Self {
            connected: connected.contains(&peer.peer),
            peer: peer.peer.to_string(),
            name: peer.name,
            zone: peer.zone,
            unreachable: peer.unreachable,
            convicted: peer.convicted,
        }
    }
}

impl From<FlightStatus> for Flight {
    fn from(flight: FlightStatus) -> Self {
        Self {
            digest: flight.digest.to_string(),
            source: flight.source,
            stage: flight.stage,
            role: flight.role,
            tracker: flight.tracker.map(|tracker| tracker.to_string()),
            size_bytes: flight.size,
            pieces: flight.pieces,
            pieces_total: flight.pieces_total,
            released_bytes: flight.released_bytes,
            origin_bytes: flight.origin_bytes,
            peer_bytes: flight.peer_bytes,
            waiters: flight.waiters,
            neighbours: flight.neighbours,
            age_seconds: flight.age_seconds,
            idle_seconds: flight.idle_seconds,
        }
    }
}

/// One other agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Peer {
    /// Its peer ID.
    pub peer: String,
    /// Its name, if the membership knows it.
    pub name: String,
    /// Its zone.
    pub zone: Option<String>,
    /// Whether there is a connection to it.
    pub connected: bool,
    /// Whether it did not answer lately.
    pub unreachable: bool,
    /// Whether it was caught sending wrong bytes.
    pub convicted: bool,
}

//! The contents of `/status`: plain data that `longshore status` reads back.
//!
//! Every field has a default, so that a newer `longshore status` reads an older agent and the other way round.

use std::collections::BTreeMap;

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
    /// What is being fetched.
    pub flights: Vec<Flight>,
    /// Peers that are known or connected.
    pub peers: Vec<Peer>,
    /// Counters by their names.
    pub counters: BTreeMap<String, u64>,
}

/// One blob that is being fetched.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Flight {
    /// Its digest.
    pub digest: String,
    /// Registry and repository that it belongs to.
    pub source: String,
    /// What the flight is doing, in a word or two: `waiting`, `resolving`, `tracking`, `enrolled`, `origin`.
    pub state: String,
    /// Size in bytes, once it is known.
    pub size_bytes: Option<u64>,
    /// Bytes that are here and verified.
    pub have_bytes: u64,
    /// Mirror requests that wait for it.
    pub waiters: u64,
    /// Peers that take part, as far as this node knows.
    pub neighbours: u64,
    /// Milliseconds since it started.
    pub age_milliseconds: u64,
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
    /// Whether it is a member.
    pub member: bool,
    /// Whether it was caught sending wrong bytes.
    pub convicted: bool,
}

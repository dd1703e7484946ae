//! What to show to people: one picture of the agent at one moment.

use serde::{Deserialize, Serialize};

use super::Agent;
use crate::digest::Digest;
use crate::flight::{Role, Stage};
use crate::names::PeerId;

/// The agent at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// This node's name.
    pub name: String,
    /// This node's identity.
    pub peer: PeerId,
    /// It serves: the store was read, and it is not stopping.
    pub ready: bool,
    /// Why not, if it does not.
    pub reason: Option<String>,
    /// Members in its view, itself included.
    pub members: usize,
    /// Complete blobs.
    pub blobs: usize,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Incomplete blobs that nothing is fetching.
    pub partial_blobs: usize,
    /// Digests announced to the provider index.
    pub announced: usize,
    /// Digests with a failure in memory.
    pub failures: usize,
    /// Mirror requests that are open.
    pub mirror_requests: usize,
    /// Inbound streams that are open.
    pub streams: usize,
    /// Calls to peers without an answer.
    pub calls: usize,
    /// Armed deadlines.
    pub deadlines: usize,
    /// Fetches from registries that are under way.
    pub origin_fetches: u32,
    /// So many there may be at a time for now: 4 at first, more while registries are fast, half as many where they are slow. Small
    /// blobs are fetched besides.
    pub origin_fetches_limit: u32,
    /// Registries that have answered a fetch with 429.
    pub limiting: Vec<LimitingRegistry>,
    /// Blobs on their way.
    pub flights: Vec<FlightStatus>,
    /// The other members in its view.
    pub peers: Vec<PeerStatus>,
}

/// A registry that limits requests: it is asked for one thing at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitingRegistry {
    /// Its name.
    pub registry: String,
    /// Milliseconds between two fetches.
    pub gap_millis: u64,
}

/// Another member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its identity.
    pub peer: PeerId,
    /// Its name.
    pub name: String,
    /// Its zone.
    pub zone: Option<String>,
    /// It did not answer lately.
    pub unreachable: bool,
    /// It was caught sending wrong bytes, and is not asked for those blobs again.
    pub convicted: bool,
}

/// A blob on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlightStatus {
    /// Which.
    pub digest: Digest,
    /// Where from.
    pub source: String,
    /// `queued`, `resolving`, `moving`, `behind` (nobody here waits for it, and other blobs come), `awaiting-registry` (the node fetches
    /// as much from registries as it may, or its registry limits requests) or `committing`.
    pub stage: String,
    /// `leading`, `following`, `undecided`; after a mismatch `alone` (it trusts nobody's pieces and fetches all of it again), or
    /// `waiting` (for its tracker to have done that).
    pub role: String,
    /// The tracker, if it follows one.
    pub tracker: Option<PeerId>,
    /// Its size in bytes, if known.
    pub size: Option<u64>,
    /// Pieces that are here.
    pub pieces: u32,
    /// Pieces in all.
    pub pieces_total: u32,
    /// Bytes that containerd may have.
    pub released_bytes: u64,
    /// Bytes that came from the origin.
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

impl Agent {
    /// The agent now.
    #[must_use]
    pub fn status(&self) -> Status {
        let reason = match (self.recovered, self.draining) {
            (_, true) => Some("the agent is stopping"),
            (false, _) => Some("the blob store is being read"),
            _ => None,
        };
        Status {
            name: self.config.name.to_string(),
            peer: self.config.peer.clone(),
            ready: reason.is_none(),
            reason: reason.map(str::to_owned),
            members: self.members.len(),
            blobs: self.cache.len(),
            blob_bytes: self.cache.bytes(),
            partial_blobs: self.partials.len(),
            announced: self.presence.len(),
            failures: self.failures.len(),
            mirror_requests: self.requests.len(),
            streams: self.streams.len(),
            calls: self.calls.len(),
            deadlines: self.cx.timers.len(),
            origin_fetches: self.origin_fetches_now(),
            origin_fetches_limit: self.origin_fetches_limit(),
            limiting: self
                .pacing
                .registries(self.cx.now)
                .map(|(registry, gap)| LimitingRegistry {
                    registry: registry.to_string(),
                    gap_millis: gap.as_millis() as u64,
                })
                .collect(),
            flights: self.flights.values().map(|flight| self.flight_status(flight)).collect(),
            peers: self.members.others().map(|(peer, member)| self.peer_status(peer, member)).collect(),
        }
    }

    fn peer_status(&self, peer: &PeerId, member: &crate::members::Member) -> PeerStatus {
        PeerStatus {
            peer: peer.clone(),
            name: member.name.to_string(),
            zone: member.zone.as_deref().map(str::to_owned),
            unreachable: self.failures.is_unreachable(self.cx.now, peer),
            convicted: self.failures.is_convicted(self.cx.now, peer),
        }
    }

    fn flight_status(&self, flight: &crate::flight::Flight) -> FlightStatus {
        let stage = match flight.stage {
            Stage::Queued => "queued",
            Stage::Resolving(_) => "resolving",
            Stage::Moving if self.stands_behind_now(flight) => "behind",
            Stage::Moving if self.awaits_registry(flight) => "awaiting-registry",
            Stage::Moving => "moving",
            Stage::Committing => "committing",
        };
        let (role, tracker) = match &flight.role {
            Role::Undecided => ("undecided", None),
            Role::Leading if flight.is_alone() => ("alone", None),
            Role::Leading => ("leading", None),
            Role::Following(tracker) if flight.is_recovering() => ("waiting", Some(tracker.clone())),
            Role::Following(tracker) => ("following", Some(tracker.clone())),
        };
        let download = flight.download.as_ref();
        FlightStatus {
            digest: flight.digest,
            source: format!("{}/{}", flight.source.registry, flight.source.repository),
            stage: stage.to_owned(),
            role: role.to_owned(),
            tracker,
            size: flight.size,
            pieces: download.map_or(0, |download| download.have().count()),
            pieces_total: download.map_or(0, |download| download.geometry().pieces()),
            released_bytes: flight.released,
            origin_bytes: flight.origin_bytes,
            peer_bytes: flight.peer_bytes,
            waiters: flight.waiters.len(),
            neighbours: flight.neighbours.len(),
            age_seconds: (self.cx.now - flight.started).as_secs(),
            idle_seconds: (self.cx.now - flight.idle_since()).as_secs(),
        }
    }
}

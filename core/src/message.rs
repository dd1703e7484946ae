//! What agents say to each other, apart from the bytes of pieces.
//!
//! [`Request::PullIntent`] and [`Request::PleasePull`] travel on `/gantry/coord/1.0.0`, everything else on
//! `/longshore/swarm/1.0.0`. The wire form (protobuf, field numbers) is the driver's; the meaning is here. Durations
//! travel, instants do not: where Gantry's format carries a timestamp, the driver converts.

use core::time::Duration;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::names::{PeerId, Source};
use crate::spine::Midstate;

/// Largest message in bytes on either protocol (Gantry's limit).
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// Most digests in one `please_pull` (Gantry's limit).
pub const MAX_DIGESTS_PER_BATCH: usize = 256;
/// Most runs that an [`Enrol`] tells of: more than one participant has begun of one blob.
pub const MAX_FETCHING: usize = 16;

/// The two protocols that a stream can be opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// `/gantry/coord/1.0.0`
    Coord,
    /// `/longshore/swarm/1.0.0`
    Swarm,
}

/// A question that expects one [`Response`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Do you have this digest, are you pulling it, did you fail lately?
    PullIntent {
        /// The digest asked about.
        digest: Digest,
        /// The requester leads the swarm of it, and looks whether somebody better does. Absent from Gantry's messages, which read as
        /// `false`.
        leads: bool,
    },
    /// Start pulling these from the origin.
    PleasePull(PleasePull),
    /// Let me take part in the swarm of a digest, or: I still do, and this is what I have now.
    Enrol(Enrol),
}

impl Request {
    /// The protocol that carries this request.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        match self {
            Self::PullIntent { .. } | Self::PleasePull(_) => Protocol::Coord,
            Self::Enrol(_) => Protocol::Swarm,
        }
    }
}

/// The answer to a [`Request`] of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// Answer to [`Request::PullIntent`].
    PullIntent(PullIntent),
    /// Answer to [`Request::PleasePull`], one entry for each digest understood.
    PleasePull(Vec<PullResult>),
    /// Answer to [`Request::Enrol`].
    Enrol(EnrolReply),
}

/// A batch of digests of one registry, repository and kind to pull.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PleasePull {
    /// At most [`MAX_DIGESTS_PER_BATCH`].
    pub digests: Vec<Digest>,
    /// Where they come from.
    pub source: Source,
    /// The requester already holds pieces and its tracker is gone: collect before assigning. Absent from Gantry's
    /// messages, which read as `false`.
    pub resuming: bool,
    /// The requester has asked the origin, and it has the blob: that it had not, or gave it to nobody, is over. Absent from
    /// Gantry's messages, which read as `false`.
    pub origin_has_it: bool,
}

/// What a node says about one digest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullIntent {
    /// The whole blob is here and can be served.
    pub has_cached: bool,
    /// How long it has been pulling, if it is.
    pub in_flight_for: Option<Duration>,
    /// How long that pull has been without a new byte. Gantry's nodes do not say; then the age decides what is stale.
    pub idle_for: Option<Duration>,
    /// The responder's own rank for the digest in its own view; `None` if it does not see itself there.
    pub rank: Option<u32>,
    /// Its last pull failed and it will not try again yet.
    pub recently_failed: Option<RecentFailure>,
    /// Whom it follows, if it takes part in a swarm without leading it. Gantry's nodes do not say.
    pub follows: Option<Neighbour>,
}

/// A failure that has not cooled down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecentFailure {
    /// What kind of failure.
    pub class: FailureClass,
    /// For how much longer nobody should try.
    pub cooldown: Duration,
}

/// Why a pull failed, in the classes of the coordination protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FailureClass {
    /// 401 or 403.
    Auth,
    /// 404.
    NotFound,
    /// 429.
    RateLimited,
    /// Anything else: it may work next time.
    Transient,
}

impl FailureClass {
    /// Whether one node's word is enough for all: the origin has answered, and it would answer others the same.
    #[must_use]
    pub const fn is_trusted(self) -> bool {
        matches!(self, Self::Auth | Self::NotFound | Self::RateLimited)
    }

    /// The name in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::NotFound => "not_found",
            Self::RateLimited => "rate_limited",
            Self::Transient => "transient",
        }
    }
}

/// What became of one digest of a `please_pull`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullResult {
    /// The digest.
    pub digest: Digest,
    /// The outcome.
    pub outcome: PullOutcome,
}

/// Outcome of a `please_pull` for one digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullOutcome {
    /// Declined: too busy, or nothing here can pull.
    Declined,
    /// Already cached, or being pulled for this long.
    AlreadyPulling(Duration),
    /// Started now.
    Started,
    /// Failed lately.
    RecentlyFailed(RecentFailure),
    /// Only Gantry's chairs say this.
    StaleChair,
}

/// Asks to take part in a swarm. Repeated as a sign of life while the blob is incomplete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrol {
    /// The blob.
    pub digest: Digest,
    /// Its size in bytes, if the sender knows.
    pub size: Option<u64>,
    /// The sender's pieces: the bytes of a [`PieceSet`](crate::piece::PieceSet); empty if it has none.
    pub pieces: Vec<u8>,
    /// The sender can fetch this blob from the origin, as far as it knows.
    pub can_fetch_origin: bool,
    /// Where the blob comes from, so that a tracker that was not asked to pull can assign.
    pub source: Source,
    /// The sender's zone.
    pub zone: Option<Arc<str>>,
    /// Addresses where others can reach the sender.
    pub addresses: Vec<Arc<str>>,
    /// The sender knows that the origin gives this blob only to those who have a credential.
    pub private: bool,
    /// The sender's requester has brought a credential. Whoever has none can get a private blob for nobody.
    pub has_credential: bool,
    /// Runs of pieces of which the sender gets bytes from the origin now, or has begun to fetch within the last
    /// [`ENROL_INTERVAL`](crate::agent::ENROL_INTERVAL), whoever gave them to it: the first piece and how many. At most
    /// [`MAX_FETCHING`].
    pub fetching: Vec<(u32, u32)>,
}

/// The tracker's answer to [`Enrol`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnrolReply {
    /// You take part.
    Enrolled {
        /// The blob's size in bytes, once known.
        size: Option<u64>,
        /// Peers to exchange pieces with; the tracker itself is among them if it has or wants pieces.
        neighbours: Vec<Neighbour>,
        /// Midstates that the tracker has computed or checked, by piece number, the state *before* that piece.
        spine: Vec<(u32, Midstate)>,
        /// The origin gives this blob only to those who have a credential.
        private: bool,
        /// For how long the tracker has seen and heard nothing of anybody who gets bytes of it. `None`: it has it whole, or does not
        /// say.
        quiet: Option<Duration>,
    },
    /// Somebody with a better rank leads this swarm; enrol there. The sender is a source of pieces all the same.
    Elsewhere {
        /// The tracker to go to.
        tracker: Neighbour,
    },
    /// There is no swarm for this digest here.
    NotTracking,
    /// This swarm failed, and trying again will not help yet.
    Failed(RecentFailure),
}

/// How to reach a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Who.
    pub peer: PeerId,
    /// Where, as multiaddrs.
    pub addresses: Vec<Arc<str>>,
    /// Its zone.
    pub zone: Option<Arc<str>>,
}

/// Something said to a peer that needs no answer. Ordered between two peers, lost when the connection is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// I have these pieces (more than before). To a stranger: let us be neighbours for this digest.
    Have {
        /// The blob.
        digest: Digest,
        /// Its size in bytes, if known.
        size: Option<u64>,
        /// What the sender has.
        pieces: Have,
        /// SHA-256 of single pieces, as their origin fetchers computed them, with the fetcher's name.
        sums: Vec<PieceSum>,
        /// Midstates before the given pieces, that the sender has computed or checked.
        spine: Vec<(u32, Midstate)>,
        /// The origin gives this blob only to those who have a credential.
        private: bool,
    },
    /// Tracker to participant: fetch these pieces from the origin.
    Assign {
        /// The blob.
        digest: Digest,
        /// Its size, once known; `None` asks for the whole blob (or for finding out its size first).
        size: Option<u64>,
        /// First piece.
        first: u32,
        /// Number of pieces; 0 with an unknown size.
        count: u32,
        /// Where to fetch them.
        source: Source,
        /// After this long the tracker gives them to somebody else.
        deadline: Duration,
    },
    /// Participant to tracker: the assigned pieces could not be fetched.
    Unassigned {
        /// The blob.
        digest: Digest,
        /// First piece.
        first: u32,
        /// Number of pieces; 0 if the whole blob was meant.
        count: u32,
        /// Why.
        class: FailureClass,
        /// For how long the sender will not try this blob at the origin again.
        cooldown: Duration,
        /// The origin sends whole blobs only: one participant has to fetch everything.
        no_ranges: bool,
    },
    /// Participant to tracker: nobody I know has this piece.
    Starving {
        /// The blob.
        digest: Digest,
        /// The piece.
        piece: u32,
    },
    /// You were refused because all upload slots were taken: one is free now. Whoever asks first has it.
    Unchoke {
        /// The blob that you asked for.
        digest: Digest,
        /// What of it the sender has got since it last said what it has, as [`Have::Also`] says it.
        pieces: Vec<u32>,
        /// Midstates around these pieces.
        spine: Vec<(u32, Midstate)>,
    },
    /// I take no part in this swarm any more, and have nothing of it to give.
    Leave {
        /// The blob.
        digest: Digest,
    },
}

/// What a node has of a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Have {
    /// Exactly these: the bytes of a [`PieceSet`](crate::piece::PieceSet).
    Exactly(Vec<u8>),
    /// These besides what was said before.
    Also(Vec<u32>),
    /// The whole blob.
    All,
}

/// The SHA-256 of one piece alone, and who vouches for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceSum {
    /// Piece number.
    pub piece: u32,
    /// SHA-256 of the bytes of that piece alone.
    pub sum: [u8; 32],
    /// The peer that fetched it from the origin.
    pub author: PeerId,
}

/// Asks a peer for the bytes of one piece. Answered by a header and the bytes, or by a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceRequest {
    /// The blob.
    pub digest: Digest,
    /// Its size in bytes as the asker knows it: both sides derive the same geometry or refuse.
    pub size: u64,
    /// The piece.
    pub piece: u32,
}

/// Why a peer does not send a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PieceRefusal {
    /// All upload slots are taken; come back after this long.
    Busy(Duration),
    /// It does not have the piece (any more), or knows the blob with another size.
    Missing,
}

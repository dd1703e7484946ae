//! Everything that an agent asks of its drivers. Plain data; a driver carries it out and reports, it decides nothing.

use core::time::Duration;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::input::{BlobFacts, RecordedPiece};
use crate::message::{FailureClass, Notice, PieceRefusal, PieceSum, Request, Response};
use crate::names::{CallId, CredentialId, OpId, PeerId, RequestId, Source, StreamId};
use crate::spine::Midstate;

/// Something to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Output {
    /// Answer a mirror request with a blob: 200, 206 or 416 by its `Range` header and `size`. For a GET the body is sent
    /// as far as [`Output::Release`] allows; a committed blob is released whole.
    MirrorServe {
        /// The request.
        request: RequestId,
        /// The blob.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// Its Content-Type, if known; else `application/octet-stream`.
        media_type: Option<Arc<str>>,
    },
    /// Answer a mirror request with a refusal.
    MirrorRefuse {
        /// The request.
        request: RequestId,
        /// Why: it decides the status.
        refusal: Refusal,
    },
    /// Stop sending the body of this request: close the connection cleanly, short of its Content-Length.
    MirrorAbort {
        /// The request.
        request: RequestId,
    },
    /// The first `bytes` bytes of a staged blob may be given to containerd.
    Release {
        /// The blob.
        digest: Digest,
        /// Length of the verified prefix in bytes. It grows while the blob stays staged: less than before changes nothing. Only 0
        /// takes back what was released, because it turned out to be wrong; everybody who was reading it was cut short before.
        bytes: u64,
    },

    /// Read the stream's first message: at most `max_bytes`. The core resets the stream when it takes too long.
    StreamAdmit {
        /// The stream.
        stream: StreamId,
        /// Largest message in bytes.
        max_bytes: usize,
    },
    /// Reset the stream without a reply.
    StreamReset {
        /// The stream.
        stream: StreamId,
    },
    /// Send the reply and close the stream.
    StreamReply {
        /// The stream.
        stream: StreamId,
        /// The reply.
        response: Response,
    },
    /// Send the piece's bytes, from the staging file or the blob, and close the stream.
    PieceServe {
        /// The stream.
        stream: StreamId,
        /// The blob.
        digest: Digest,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        len: u64,
        /// What we know of the piece, for the header.
        claim: Option<PieceSum>,
    },
    /// Refuse the piece and close the stream.
    PieceRefuse {
        /// The stream.
        stream: StreamId,
        /// Why.
        refusal: PieceRefusal,
    },
    /// Call a peer.
    Call {
        /// The call's number.
        call: CallId,
        /// Whom.
        peer: PeerId,
        /// What.
        request: Request,
        /// The core cancels the call after this long; a dial needs no longer limit of its own.
        timeout: Duration,
    },
    /// Forget a call: nothing about it will be read.
    CallCancel {
        /// The call.
        call: CallId,
    },
    /// Tell a peer.
    Notify {
        /// Whom.
        peer: PeerId,
        /// What: one that many are told is kept once.
        notice: Arc<Notice>,
    },
    /// Remember where a peer can be reached.
    Learn {
        /// Who.
        peer: PeerId,
        /// Where, as multiaddrs.
        addresses: Vec<Arc<str>>,
    },

    /// Fetch one piece from a peer into the staging file.
    FetchPiece {
        /// The transfer's number.
        op: OpId,
        /// Whom to ask.
        peer: PeerId,
        /// The blob.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// The piece's number.
        piece: u32,
        /// How to hash it on the way.
        check: Check,
    },
    /// Fetch from the origin into the staging file.
    FetchOrigin {
        /// The transfer's number.
        op: OpId,
        /// Where.
        source: Source,
        /// The blob.
        digest: Digest,
        /// What part.
        span: Span,
        /// With whose credential.
        credential: Option<CredentialId>,
        /// How to hash on the way: a chained check goes on through all pieces, any other applies to each.
        check: Check,
    },
    /// Stop a transfer; what it already reported stays. Nothing more about it will be read.
    CancelTransfer {
        /// The transfer.
        op: OpId,
    },
    /// Ask the origin for size and type of a blob (HEAD).
    StatOrigin {
        /// The request's number.
        op: OpId,
        /// Where.
        source: Source,
        /// The blob.
        digest: Digest,
        /// With whose credential.
        credential: Option<CredentialId>,
    },
    /// This credential is not needed any more.
    ForgetCredential {
        /// The credential.
        credential: CredentialId,
    },

    /// Ask the provider index.
    FindProviders {
        /// The query's number.
        op: OpId,
        /// For which blob.
        digest: Digest,
    },
    /// Tell the provider index that we can serve these.
    Announce {
        /// The blobs.
        digests: Vec<Digest>,
    },
    /// Tell the provider index that we can serve these no more.
    Withdraw {
        /// The blobs.
        digests: Vec<Digest>,
    },

    /// Make a sparse staging file, unless there is one.
    Stage {
        /// The blob.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// What to remember about it across a restart.
        facts: BlobFacts,
    },
    /// Remember across a restart that this piece is in the staging file and hashes to this.
    Record {
        /// The blob.
        digest: Digest,
        /// The piece, its hash, and who vouches for it.
        piece: RecordedPiece,
    },
    /// Read a piece from the staging file and hash it from a midstate.
    HashPiece {
        /// The task's number.
        op: OpId,
        /// The blob.
        digest: Digest,
        /// Its size in bytes (which decides the geometry and the padding).
        size: u64,
        /// The piece's number.
        piece: u32,
        /// The midstate before it.
        from: Midstate,
    },
    /// The staging file is the whole blob, verified: make it durable and give it its name.
    Commit {
        /// The blob.
        digest: Digest,
        /// What to remember about it.
        facts: BlobFacts,
    },
    /// Remember the spine of a committed blob beside it.
    KeepSpine {
        /// The blob.
        digest: Digest,
        /// The midstates before each piece, and after the last one.
        states: Vec<Midstate>,
    },
    /// Read the spine of a committed blob back.
    ReadSpine {
        /// The blob.
        digest: Digest,
    },
    /// Delete the staging file and all that is remembered about it.
    Discard {
        /// The blob.
        digest: Digest,
    },
    /// Delete a committed blob.
    Evict {
        /// The blob.
        digest: Digest,
    },
    /// A committed blob was used: it is the most recently used one now.
    Touch {
        /// The blob.
        digest: Digest,
    },
    /// Read a committed manifest and say what it refers to.
    ReadManifest {
        /// The blob.
        digest: Digest,
    },

    /// Draining is done: nothing runs any more.
    Drained,
    /// Why the agent did something, for logs and explanations. Nothing has to be done.
    Explain(Explanation),
    /// Hash a committed blob again: [`Input::Verified`](crate::input::Input::Verified) says whether it has its digest.
    Verify {
        /// The blob.
        digest: Digest,
    },
}

/// How a piece is hashed while it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Check {
    /// From this midstate: gives the midstate after the piece (after the last piece: the digest).
    From(Midstate),
    /// Alone: SHA-256 of the piece's bytes.
    Alone,
}

/// What part of a blob to fetch from the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Span {
    /// The whole body, of unknown size, at most `max_bytes`: the driver makes the staging file when it has read the
    /// headers and reports every piece by the geometry of the size that they say.
    Unknown {
        /// Refuse more than this.
        max_bytes: u64,
    },
    /// The whole body of a blob of this size, without a `Range` header.
    All {
        /// Size in bytes.
        size: u64,
    },
    /// Consecutive pieces of a blob of this size, with a `Range` header.
    Pieces {
        /// Size of the blob in bytes.
        size: u64,
        /// First piece.
        first: u32,
        /// Number of pieces, at least 1.
        count: u32,
    },
}

/// Why the mirror does not serve, in the terms of the contract (reference, section 10.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// 404: containerd asks the next host at once.
    NotHere,
    /// 401 with the origin's challenge: containerd answers it, or asks the next host.
    Unauthorized {
        /// `WWW-Authenticate` headers, as the origin sent them.
        challenge: Vec<Arc<str>>,
    },
    /// 503: this agent is not ready, or is stopping.
    Unavailable {
        /// In words.
        reason: Arc<str>,
    },
}

impl Refusal {
    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::NotHere => 404,
            Self::Unauthorized { .. } => 401,
            Self::Unavailable { .. } => 503,
        }
    }
}

/// Something worth a line in the log, with what led to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Explanation {
    /// A cascade ended.
    Resolved {
        /// The blob.
        digest: Digest,
        /// Rule, by its name.
        rule: Arc<str>,
        /// What follows.
        outcome: Arc<str>,
    },
    /// We lead the swarm of a blob now.
    Leading {
        /// The blob.
        digest: Digest,
    },
    /// We follow somebody else's lead.
    Following {
        /// The blob.
        digest: Digest,
        /// The tracker.
        tracker: PeerId,
    },
    /// A tracker did not answer; the cascade runs again.
    TrackerLost {
        /// The blob.
        digest: Digest,
        /// The tracker.
        tracker: PeerId,
    },
    /// A peer is not asked for this blob again.
    Convicted {
        /// The blob.
        digest: Digest,
        /// The peer.
        peer: PeerId,
        /// What it did.
        crime: Arc<str>,
    },
    /// A blob is complete, verified and committed.
    Completed {
        /// The blob.
        digest: Digest,
        /// Bytes that came from the origin to this node.
        origin_bytes: u64,
        /// Bytes that came from peers.
        peer_bytes: u64,
    },
    /// A flight ended without the blob.
    Failed {
        /// The blob.
        digest: Digest,
        /// The class.
        class: FailureClass,
        /// In words.
        detail: Arc<str>,
    },
    /// What is here of a blob is not part of it: its bytes do not have its digest, or somebody who has the whole says so. Whoever
    /// reads it is cut short, and what is wrong has to be fetched again. If all of it came from the origin just now, the flight
    /// fails instead, which says why.
    Mismatched {
        /// The blob.
        digest: Digest,
    },
    /// A registry answers that it is asked too often: from now on it is asked for one thing at a time.
    RegistryLimits {
        /// The registry.
        registry: Arc<str>,
        /// So long after each other.
        gap: Duration,
    },
    /// The responder's rank differs from ours: the membership views diverge.
    RankMismatch {
        /// The blob.
        digest: Digest,
        /// The responder.
        peer: PeerId,
        /// Our rank for it.
        ours: u32,
        /// Its own.
        theirs: Option<u32>,
    },
    /// A peer that the membership view does not know made a request.
    UnauthorizedPeer {
        /// The peer.
        peer: PeerId,
        /// `unrecognized` or `unevaluable`.
        reason: Arc<str>,
        /// Whether it was rejected.
        rejected: bool,
    },
    /// A committed blob cannot be read any more, or does not have its digest: it is deleted, and fetched again for whoever asks.
    Rotten {
        /// The blob.
        digest: Digest,
    },
    /// A blob was fetched again because it had rotted, and is not what it was again: the disk spoils what it is given. No fetch is begun
    /// for a while, and containerd is sent to the next host.
    DiskSpoils {
        /// The blob.
        digest: Digest,
    },
}

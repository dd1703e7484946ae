//! Everything that can happen to an agent. Plain data with stable names: the journal is made of these.

use core::time::Duration;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::members::Roster;
use crate::message::Neighbour;
use crate::message::{FailureClass, Notice, PieceRefusal, PieceRequest, PieceSum, Protocol, Request, Response};
use crate::names::{CallId, CredentialId, Kind, OpId, PeerId, RequestId, Source, StreamId};
use crate::spine::Midstate;

/// Something happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Input {
    /// A deadline passed.
    Tick,
    /// The membership view is now this, whole. Includes this node, if the source of membership knows it.
    Members(Arc<Roster>),
    /// containerd wants something from the mirror.
    Mirror {
        /// The driver's number for this request.
        request: RequestId,
        /// GET or HEAD.
        method: Method,
        /// Where the digest can be had from the origin.
        source: Source,
        /// The digest.
        digest: Digest,
        /// The requester's credential for the origin, kept by the driver.
        credential: Option<CredentialId>,
    },
    /// The mirror request ended: body sent, client gone, or aborted. Comes exactly once for each request, when nothing of the
    /// blob is read for it any more: what was released to it may be written again then.
    MirrorClosed {
        /// The request.
        request: RequestId,
        /// Body bytes given to containerd.
        sent_bytes: u64,
    },
    /// A peer opened a stream; nothing has been read from it.
    StreamOpened {
        /// The driver's number for this stream.
        stream: StreamId,
        /// The authenticated peer.
        peer: PeerId,
        /// The negotiated protocol.
        protocol: Protocol,
    },
    /// The first message of an admitted stream is a request.
    StreamRequest {
        /// The stream.
        stream: StreamId,
        /// What is asked.
        request: Request,
    },
    /// The first message of an admitted stream asks for a piece.
    PieceRequested {
        /// The stream.
        stream: StreamId,
        /// Which piece.
        request: PieceRequest,
    },
    /// The stream is a channel of notices: it lives on, each one comes as [`Input::Notice`].
    StreamNotices {
        /// The stream.
        stream: StreamId,
    },
    /// The stream ended: reply sent, piece sent, peer gone, malformed. Comes exactly once for each stream.
    StreamClosed {
        /// The stream.
        stream: StreamId,
        /// What went wrong, if something did: this counts as a stream error.
        error: Option<StreamError>,
        /// Piece bytes sent on it.
        sent_bytes: u64,
    },
    /// A peer said something that needs no answer.
    Notice {
        /// The authenticated peer.
        peer: PeerId,
        /// What it said.
        notice: Arc<Notice>,
    },
    /// A call was answered.
    Reply {
        /// The call.
        call: CallId,
        /// The answer.
        response: Response,
    },
    /// A call failed. Not sent for a call that the core cancelled.
    CallFailed {
        /// The call.
        call: CallId,
        /// How.
        error: CallError,
    },
    /// A peer that was connected is not any more, or cannot be reached at all.
    Disconnected {
        /// The peer.
        peer: PeerId,
    },
    /// A transfer made progress or ended.
    Transfer {
        /// The transfer.
        op: OpId,
        /// What happened.
        event: TransferEvent,
    },
    /// The origin answered a [`StatOrigin`](crate::output::Output::StatOrigin).
    OriginStat {
        /// The request.
        op: OpId,
        /// Size and type, or why not.
        result: Result<OriginStat, OriginFailure>,
    },
    /// The provider index answered.
    Providers {
        /// The query.
        op: OpId,
        /// Peers that are said to have the blob, in no order, possibly stale.
        peers: Vec<Neighbour>,
    },
    /// What the blob store found on disk when it opened. Sent once, before anything else about the store.
    Recovered {
        /// Complete blobs, least recently used first.
        blobs: Vec<StoredBlob>,
        /// Incomplete blobs, with the pieces that were checked again and found good.
        partials: Vec<PartialBlob>,
    },
    /// The store finished an [`Output::HashPiece`](crate::output::Output::HashPiece).
    PieceHashed {
        /// The task.
        op: OpId,
        /// The midstate after the piece, or why it could not be read.
        result: Result<Midstate, StoreError>,
    },
    /// The store finished an [`Output::Commit`](crate::output::Output::Commit).
    Committed {
        /// The blob.
        digest: Digest,
        /// Whether it is durable and servable now.
        result: Result<(), StoreError>,
    },
    /// The store deleted what [`Output::Evict`](crate::output::Output::Evict) named.
    Evicted {
        /// The blob.
        digest: Digest,
    },
    /// A staging file could not be made or written.
    StoreFailed {
        /// The blob.
        digest: Digest,
        /// How.
        error: StoreError,
    },
    /// The spine of a committed blob was read; empty if there is none.
    Spine {
        /// The blob.
        digest: Digest,
        /// The midstates before each piece, and after the last one.
        states: Vec<Midstate>,
    },
    /// A stored manifest was read.
    Manifest {
        /// Its digest.
        digest: Digest,
        /// Its own media type, by its contents, if it says.
        media_type: Option<Arc<str>>,
        /// What it refers to, in manifest order: configuration, then layers. Empty for an index or for anything that
        /// is no manifest.
        children: Vec<Child>,
    },
    /// Stop taking new work, finish what runs, say [`Output::Drained`](crate::output::Output::Drained).
    Drain,
    /// The store finished an [`Output::Verify`](crate::output::Output::Verify).
    Verified {
        /// The blob.
        digest: Digest,
        /// Whether its bytes can be read and have its digest, or why that could not be found out.
        result: Result<bool, StoreError>,
    },
}

/// Method of a mirror request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    /// Header and body.
    Get,
    /// Header only.
    Head,
}

/// Why an inbound stream ended without its normal reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamError {
    /// The message cannot be decoded, is empty, or is not a request.
    Malformed,
    /// The message is larger than allowed.
    Oversized,
    /// The connection or the stream broke.
    Broken,
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallError {
    /// No connection could be made.
    Unreachable,
    /// The peer reset the stream: too busy, not authorised, or it did not like the request.
    Reset,
    /// The answer cannot be decoded or does not fit the request.
    Malformed,
}

/// A driver that receives bytes says so once in this long at most, and at least while they come: far below the patience for a
/// transfer that stands still, and no work for a fast one.
pub const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// Peers are far away if what they answer comes after this long: see [`TransferEvent::Answered`].
pub const LONG_WAY: Duration = Duration::from_millis(2);

/// What happens to a transfer ([`FetchPiece`](crate::output::Output::FetchPiece),
/// [`FetchOrigin`](crate::output::Output::FetchOrigin)). After `Done` or `Failed` nothing more comes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TransferEvent {
    /// Bytes arrived since the last event; see [`PROGRESS_INTERVAL`].
    Progress {
        /// How many.
        bytes: u64,
    },
    /// The origin's response headers for a fetch of the whole body: sent before its first byte is stored.
    Headers {
        /// Size of the whole blob in bytes.
        size: u64,
        /// Content-Type, without parameters.
        media_type: Option<Arc<str>>,
    },
    /// A piece is in the staging file and was hashed as the output's `check` asked.
    Piece {
        /// Piece number.
        piece: u32,
        /// Bytes received for it since the last `Progress`.
        bytes: u64,
        /// The hash.
        hashed: Hashed,
        /// What the sending peer says of it (never from the origin).
        claim: Option<PieceSum>,
    },
    /// Everything asked for is stored.
    Done,
    /// It ended early. Pieces reported before are stored.
    Failed(TransferFailure),
    /// A peer sends the piece, and what it said first came this long after it was asked on a connection that was there. Comes before
    /// the piece, and only if it took longer than [`LONG_WAY`].
    Answered {
        /// How long.
        after: Duration,
    },
}

/// The result of hashing one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hashed {
    /// The midstate after the piece, starting from the midstate that the check named.
    Chained(Midstate),
    /// SHA-256 of the piece alone.
    Alone([u8; 32]),
}

/// Why a transfer ended early.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TransferFailure {
    /// The peer refused.
    Refused(PieceRefusal),
    /// The peer cannot be reached, or the connection broke.
    Unreachable,
    /// The peer sent something that is no answer.
    Malformed,
    /// The origin answered a range with the whole body, or with another range.
    NoRanges,
    /// The origin failed.
    Origin(OriginFailure),
    /// The disk failed.
    Store(StoreError),
}

/// What the origin says of a blob without sending it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginStat {
    /// Size in bytes.
    pub size: u64,
    /// Content-Type, without parameters.
    pub media_type: Option<Arc<str>>,
}

/// The origin did not deliver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginFailure {
    /// The class that travels to peers.
    pub class: FailureClass,
    /// HTTP status, if there was a response.
    pub status: Option<u16>,
    /// The origin's `Retry-After`.
    pub retry_after: Option<Duration>,
    /// `WWW-Authenticate` headers of a 401, as they came: to be relayed to containerd.
    pub challenge: Vec<Arc<str>>,
    /// What was tried and what was found, for the log. Contains no secret.
    pub detail: Arc<str>,
}

/// The disk did not do it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreError {
    /// No space left.
    Full,
    /// There is no such staging file or blob.
    Missing,
    /// Anything else, in words.
    Io(Arc<str>),
}

/// A complete blob found on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBlob {
    /// Its digest.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
    /// What was recorded at commit.
    pub facts: BlobFacts,
}

/// What is remembered about a blob beside its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobFacts {
    /// Media type, if known (manifests).
    pub media_type: Option<Arc<str>>,
    /// Where it came from.
    pub source: Source,
    /// It was fetched with a credential: somebody's private image.
    pub private: bool,
}

/// An incomplete blob found on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartialBlob {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Where it comes from.
    pub source: Source,
    /// It was being fetched with a credential.
    pub private: bool,
    /// Pieces whose bytes were hashed again and match what was recorded, ascending.
    pub pieces: Vec<RecordedPiece>,
}

/// A stored piece as it is remembered across a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedPiece {
    /// Its number.
    pub piece: u32,
    /// The hash that its bytes gave.
    pub proof: Proof,
    /// The peer that vouches for it.
    pub author: PeerId,
}

/// What hashing a piece gave, with all that is needed to hash it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proof {
    /// SHA-256 of the piece alone.
    Alone([u8; 32]),
    /// From the first midstate to the second.
    Between(Midstate, Midstate),
}

/// Something that a manifest refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Configuration or layer.
    pub kind: Kind,
}

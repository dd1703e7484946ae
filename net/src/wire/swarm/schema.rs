//! The messages of `/longshore/swarm/1.0.0` as protobuf.
//!
//! Digests, sums and midstates are 32 raw bytes; durations are milliseconds; failure classes and kinds have Gantry's
//! numbers. What each field means is told at the type of the same name in [`longshore_core::message`].
#![allow(missing_docs, reason = "the fields are those of longshore_core::message, where they are explained")]

use prost::{Message as ProstMessage, Oneof};

/// Every message of the protocol, one a frame.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct Envelope {
    #[prost(oneof = "Message", tags = "1, 2, 3, 4, 5")]
    pub message: Option<Message>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum Message {
    #[prost(message, tag = "1")]
    Enrol(Enrol),
    #[prost(message, tag = "2")]
    EnrolReply(EnrolReply),
    #[prost(message, tag = "3")]
    Notice(Notice),
    #[prost(message, tag = "4")]
    PieceRequest(PieceRequest),
    #[prost(message, tag = "5")]
    PieceHeader(PieceHeader),
}

impl Message {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Enrol(_) => "enrol",
            Self::EnrolReply(_) => "enrol_reply",
            Self::Notice(_) => "notice",
            Self::PieceRequest(_) => "piece_request",
            Self::PieceHeader(_) => "piece_header",
        }
    }
}

#[derive(Clone, PartialEq, ProstMessage)]
pub struct Source {
    #[prost(string, tag = "1")]
    pub registry: String,
    #[prost(string, tag = "2")]
    pub repository: String,
    #[prost(int32, tag = "3")]
    pub kind: i32,
}

#[derive(Clone, PartialEq, ProstMessage)]
pub struct Neighbour {
    #[prost(string, tag = "1")]
    pub peer: String,
    #[prost(string, repeated, tag = "2")]
    pub addresses: Vec<String>,
    #[prost(string, optional, tag = "3")]
    pub zone: Option<String>,
}

/// The midstate before a piece.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct SpinePoint {
    #[prost(uint32, tag = "1")]
    pub piece: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub midstate: Vec<u8>,
}

#[derive(Clone, PartialEq, ProstMessage)]
pub struct PieceSum {
    #[prost(uint32, tag = "1")]
    pub piece: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub sum: Vec<u8>,
    #[prost(string, tag = "3")]
    pub author: String,
}

#[derive(Clone, Copy, PartialEq, ProstMessage)]
pub struct RecentFailure {
    #[prost(int32, tag = "1")]
    pub class: i32,
    #[prost(uint64, tag = "2")]
    pub cooldown_millis: u64,
}

#[derive(Clone, PartialEq, ProstMessage)]
pub struct Enrol {
    #[prost(bytes = "vec", tag = "1")]
    pub digest: Vec<u8>,
    #[prost(uint64, optional, tag = "2")]
    pub size: Option<u64>,
    #[prost(bytes = "vec", tag = "3")]
    pub pieces: Vec<u8>,
    #[prost(bool, tag = "4")]
    pub can_fetch_origin: bool,
    #[prost(message, optional, tag = "5")]
    pub source: Option<Source>,
    #[prost(string, optional, tag = "6")]
    pub zone: Option<String>,
    #[prost(string, repeated, tag = "7")]
    pub addresses: Vec<String>,
    #[prost(bool, tag = "8")]
    pub private: bool,
    #[prost(bool, tag = "9")]
    pub has_credential: bool,
    #[prost(message, repeated, tag = "10")]
    pub fetching: Vec<Run>,
}

#[derive(Clone, Copy, PartialEq, ProstMessage)]
pub struct Run {
    #[prost(uint32, tag = "1")]
    pub first: u32,
    #[prost(uint32, tag = "2")]
    pub count: u32,
}

#[derive(Clone, PartialEq, ProstMessage)]
pub struct EnrolReply {
    #[prost(oneof = "EnrolOutcome", tags = "1, 2, 3, 4")]
    pub outcome: Option<EnrolOutcome>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum EnrolOutcome {
    #[prost(message, tag = "1")]
    Enrolled(Enrolled),
    #[prost(message, tag = "2")]
    Elsewhere(Neighbour),
    #[prost(message, tag = "3")]
    NotTracking(Empty),
    #[prost(message, tag = "4")]
    Failed(RecentFailure),
}

#[derive(Clone, PartialEq, ProstMessage)]
pub struct Enrolled {
    #[prost(uint64, optional, tag = "1")]
    pub size: Option<u64>,
    #[prost(message, repeated, tag = "2")]
    pub neighbours: Vec<Neighbour>,
    #[prost(message, repeated, tag = "3")]
    pub spine: Vec<SpinePoint>,
    #[prost(bool, tag = "4")]
    pub private: bool,
    #[prost(uint64, optional, tag = "5")]
    pub quiet_millis: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, ProstMessage)]
pub struct Empty {}

#[derive(Clone, PartialEq, ProstMessage)]
pub struct Notice {
    #[prost(bytes = "vec", tag = "1")]
    pub digest: Vec<u8>,
    #[prost(oneof = "NoticeKind", tags = "2, 3, 4, 5, 6, 7")]
    pub kind: Option<NoticeKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum NoticeKind {
    #[prost(message, tag = "2")]
    Have(Have),
    #[prost(message, tag = "3")]
    Assign(Assign),
    #[prost(message, tag = "4")]
    Unassigned(Unassigned),
    #[prost(message, tag = "5")]
    Starving(Starving),
    #[prost(message, tag = "6")]
    Leave(Empty),
    #[prost(message, tag = "7")]
    Unchoke(Unchoke),
}

#[derive(Clone, PartialEq, ProstMessage)]
pub struct Unchoke {
    #[prost(uint32, repeated, tag = "1")]
    pub pieces: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    pub spine: Vec<SpinePoint>,
}

#[derive(Clone, PartialEq, ProstMessage)]
pub struct Have {
    #[prost(uint64, optional, tag = "1")]
    pub size: Option<u64>,
    #[prost(oneof = "HavePieces", tags = "2, 3, 4")]
    pub pieces: Option<HavePieces>,
    #[prost(message, repeated, tag = "5")]
    pub sums: Vec<PieceSum>,
    #[prost(message, repeated, tag = "6")]
    pub spine: Vec<SpinePoint>,
    #[prost(bool, tag = "7")]
    pub private: bool,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum HavePieces {
    #[prost(bytes = "vec", tag = "2")]
    Exactly(Vec<u8>),
    #[prost(message, tag = "3")]
    Also(PieceNumbers),
    #[prost(message, tag = "4")]
    All(Empty),
}

#[derive(Clone, PartialEq, ProstMessage)]
pub struct PieceNumbers {
    #[prost(uint32, repeated, tag = "1")]
    pub pieces: Vec<u32>,
}

#[derive(Clone, PartialEq, ProstMessage)]
pub struct Assign {
    #[prost(uint64, optional, tag = "1")]
    pub size: Option<u64>,
    #[prost(uint32, tag = "2")]
    pub first: u32,
    #[prost(uint32, tag = "3")]
    pub count: u32,
    #[prost(message, optional, tag = "4")]
    pub source: Option<Source>,
    #[prost(uint64, tag = "5")]
    pub deadline_millis: u64,
}

#[derive(Clone, Copy, PartialEq, ProstMessage)]
pub struct Unassigned {
    #[prost(uint32, tag = "1")]
    pub first: u32,
    #[prost(uint32, tag = "2")]
    pub count: u32,
    #[prost(message, optional, tag = "3")]
    pub failure: Option<RecentFailure>,
    #[prost(bool, tag = "4")]
    pub no_ranges: bool,
}

#[derive(Clone, Copy, PartialEq, ProstMessage)]
pub struct Starving {
    #[prost(uint32, tag = "1")]
    pub piece: u32,
}

#[derive(Clone, PartialEq, ProstMessage)]
pub struct PieceRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub digest: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub size: u64,
    #[prost(uint32, tag = "3")]
    pub piece: u32,
}

#[derive(Clone, PartialEq, ProstMessage)]
pub struct PieceHeader {
    #[prost(oneof = "PieceAnswer", tags = "1, 2, 3")]
    pub answer: Option<PieceAnswer>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum PieceAnswer {
    #[prost(message, tag = "1")]
    Follows(PieceFollows),
    #[prost(message, tag = "2")]
    Busy(Busy),
    #[prost(message, tag = "3")]
    Missing(Empty),
}

#[derive(Clone, PartialEq, ProstMessage)]
pub struct PieceFollows {
    #[prost(uint64, tag = "1")]
    pub length: u64,
    #[prost(message, optional, tag = "2")]
    pub claim: Option<PieceSum>,
}

#[derive(Clone, Copy, PartialEq, ProstMessage)]
pub struct Busy {
    #[prost(uint64, tag = "1")]
    pub retry_after_millis: u64,
}

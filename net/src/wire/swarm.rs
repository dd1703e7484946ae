//! `/longshore/swarm/1.0.0`: enrolment, notices and pieces. The schema is in [`schema`].

mod from_wire;
pub mod schema;
mod to_wire;

use longshore_core::message::{Enrol, EnrolReply, Notice, PieceRefusal, PieceRequest, PieceSum};
use prost::Message as _;

use self::schema::{Envelope, Message};
use super::{Opening, WireError};

/// What comes before a piece's bytes, or instead of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PieceHeader {
    /// So many bytes follow.
    Follows {
        /// Length of the piece in bytes.
        length: u64,
        /// What the sender says of the piece.
        claim: Option<PieceSum>,
    },
    /// Nothing follows.
    Refused(PieceRefusal),
}

pub(super) fn decode_opening(bytes: &[u8]) -> Result<Opening, WireError> {
    match open(bytes, "a request or a notice")? {
        Message::Enrol(enrol) => Ok(Opening::Request(longshore_core::message::Request::Enrol(enrol.try_into()?))),
        Message::PieceRequest(request) => Ok(Opening::Piece(request.try_into()?)),
        Message::Notice(notice) => Ok(Opening::Notice(known(notice)?)),
        other => Err(WireError::Unexpected { expected: "a request or a notice", found: other.name() }),
    }
}

pub(super) fn encode_enrol(enrol: &Enrol) -> Vec<u8> {
    close(Message::Enrol(enrol.into()))
}

pub(super) fn encode_enrol_reply(reply: &EnrolReply) -> Vec<u8> {
    close(Message::EnrolReply(reply.into()))
}

pub(super) fn decode_enrol_reply(bytes: &[u8]) -> Result<EnrolReply, WireError> {
    match open(bytes, "enrol_reply")? {
        Message::EnrolReply(reply) => reply.try_into(),
        other => Err(WireError::Unexpected { expected: "enrol_reply", found: other.name() }),
    }
}

/// Writes a notice.
#[must_use]
pub fn encode_notice(notice: &Notice) -> Vec<u8> {
    close(Message::Notice(notice.into()))
}

/// Reads a notice; `None` if it is of a kind that this version does not know, which is to be passed over.
///
/// # Errors
/// When it is none.
pub fn decode_notice(bytes: &[u8]) -> Result<Option<Notice>, WireError> {
    match open(bytes, "notice")? {
        Message::Notice(notice) => known(notice),
        other => Err(WireError::Unexpected { expected: "notice", found: other.name() }),
    }
}

/// A notice needs no answer: what a newer version has to say besides does not end the channel.
fn known(notice: schema::Notice) -> Result<Option<Notice>, WireError> {
    if notice.kind.is_none() { Ok(None) } else { notice.try_into().map(Some) }
}

/// Writes a request for a piece.
#[must_use]
pub fn encode_piece_request(request: &PieceRequest) -> Vec<u8> {
    close(Message::PieceRequest(request.into()))
}

/// Writes what comes before a piece's bytes, or instead of them.
#[must_use]
pub fn encode_piece_header(header: &PieceHeader) -> Vec<u8> {
    close(Message::PieceHeader(header.into()))
}

/// Reads what comes before a piece's bytes, or instead of them.
///
/// # Errors
/// When it is no piece header.
pub fn decode_piece_header(bytes: &[u8]) -> Result<PieceHeader, WireError> {
    match open(bytes, "piece_header")? {
        Message::PieceHeader(header) => header.try_into(),
        other => Err(WireError::Unexpected { expected: "piece_header", found: other.name() }),
    }
}

fn open(bytes: &[u8], expected: &'static str) -> Result<Message, WireError> {
    Envelope::decode(bytes)?.message.ok_or(WireError::Unexpected { expected, found: "an empty envelope" })
}

fn close(message: Message) -> Vec<u8> {
    Envelope { message: Some(message) }.encode_to_vec()
}

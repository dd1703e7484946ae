//! The wire form of what agents say to each other: protobuf in frames with a length before them.
//!
//! [`coord`] is Gantry's protocol, field for field; [`swarm`] is ours. The meaning of the messages is in
//! [`longshore_core::message`]; here they are only translated.

pub mod coord;
pub mod frame;
pub mod swarm;
#[cfg(test)]
mod tests;

use std::time::SystemTime;

use longshore_core::message::{Notice, PieceRequest, Protocol, Request, Response};

/// Name of Gantry's coordination protocol (reference, section 2.1).
pub const COORD_PROTOCOL: &str = "/gantry/coord/1.0.0";
/// Name of our own protocol: enrolment, notices and pieces.
pub const SWARM_PROTOCOL: &str = "/longshore/swarm/1.0.0";

/// The name that a protocol is negotiated by.
#[must_use]
pub const fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Coord => COORD_PROTOCOL,
        Protocol::Swarm => SWARM_PROTOCOL,
    }
}

/// Why bytes are not the message that was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not protobuf of this schema.
    #[error("the message is not valid protobuf: {0}")]
    Undecodable(#[from] prost::DecodeError),
    /// Well-formed, and not what can come here.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What could have come.
        expected: &'static str,
        /// What came.
        found: &'static str,
    },
    /// A field that the message makes no sense without is absent or has a value that it cannot have.
    #[error("field '{field}' of '{message}' is {problem}")]
    BadField {
        /// The message.
        message: &'static str,
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// The first message on an inbound stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// A request, to be answered by a response.
    Request(Request),
    /// A request for a piece.
    Piece(PieceRequest),
    /// The first of a sequence of notices; see [`swarm::decode_notice`].
    Notice(Option<Notice>),
}

/// Reads the first message on an inbound stream of `protocol`.
///
/// # Errors
/// When it is not a message that can open such a stream.
pub fn decode_opening(protocol: Protocol, bytes: &[u8]) -> Result<Opening, WireError> {
    match protocol {
        Protocol::Coord => coord::decode_request(bytes).map(Opening::Request),
        Protocol::Swarm => swarm::decode_opening(bytes),
    }
}

/// Writes a request in the form of its protocol.
#[must_use]
pub fn encode_request(request: &Request) -> Vec<u8> {
    match request {
        Request::PullIntent { digest, leads } => coord::encode_pull_intent(*digest, *leads),
        Request::PleasePull(batch) => coord::encode_please_pull(batch),
        Request::Enrol(enrol) => swarm::encode_enrol(enrol),
    }
}

/// Writes a response in the form of its protocol. `now` is the wall clock: Gantry's messages carry instants.
#[must_use]
pub fn encode_response(response: &Response, now: SystemTime) -> Vec<u8> {
    match response {
        Response::PullIntent(intent) => coord::encode_intent(intent, now),
        Response::PleasePull(results) => coord::encode_results(results, now),
        Response::Enrol(reply) => swarm::encode_enrol_reply(reply),
    }
}

/// Reads the answer to `request`. `now` is the wall clock at receipt.
///
/// # Errors
/// When it is not a response, or answers another kind of request.
pub fn decode_response(request: &Request, bytes: &[u8], now: SystemTime) -> Result<Response, WireError> {
    match request {
        Request::PullIntent { .. } => coord::decode_intent(bytes, now).map(Response::PullIntent),
        Request::PleasePull(_) => coord::decode_results(bytes, now).map(Response::PleasePull),
        Request::Enrol(_) => swarm::decode_enrol_reply(bytes).map(Response::Enrol),
    }
}

//! From the schema's messages to the core's: every field is checked.

use std::sync::Arc;
use std::time::Duration;

use longshore_core::digest::Digest;
use longshore_core::message as core;
use longshore_core::names::{PeerId, Source};
use longshore_core::spine::Midstate;

use super::super::WireError;
use super::super::coord::{class_from_wire, kind_from_wire};
use super::PieceHeader;
use super::schema as wire;

const fn bad(message: &'static str, field: &'static str, problem: &'static str) -> WireError {
    WireError::BadField { message, field, problem }
}

fn array(bytes: &[u8], message: &'static str, field: &'static str) -> Result<[u8; 32], WireError> {
    bytes.try_into().map_err(|_| bad(message, field, "not 32 bytes long"))
}

fn digest(bytes: &[u8], message: &'static str) -> Result<Digest, WireError> {
    array(bytes, message, "digest").map(Digest::from_bytes)
}

/// Parsed and printed again, so that one peer has one name in the core.
fn peer(text: &str, message: &'static str, field: &'static str) -> Result<PeerId, WireError> {
    let peer: libp2p::PeerId = text.parse().map_err(|_| bad(message, field, "not a peer ID"))?;
    Ok(PeerId::new(&peer.to_base58()))
}

fn source(source: Option<wire::Source>, message: &'static str) -> Result<Source, WireError> {
    let source = source.ok_or(bad(message, "source", "absent"))?;
    Ok(Source {
        registry: source.registry.into(),
        repository: source.repository.into(),
        kind: kind_from_wire(source.kind),
    })
}

fn texts(texts: Vec<String>) -> Vec<Arc<str>> {
    texts.into_iter().map(Into::into).collect()
}

fn spine(points: &[wire::SpinePoint], message: &'static str) -> Result<Vec<(u32, Midstate)>, WireError> {
    let point =
        |point: &wire::SpinePoint| Ok((point.piece, Midstate::from_bytes(array(&point.midstate, message, "spine")?)));
    points.iter().map(point).collect()
}

fn all<Wire, Core: TryFrom<Wire, Error = WireError>>(messages: Vec<Wire>) -> Result<Vec<Core>, WireError> {
    messages.into_iter().map(TryInto::try_into).collect()
}

impl TryFrom<wire::Neighbour> for core::Neighbour {
    type Error = WireError;

    fn try_from(neighbour: wire::Neighbour) -> Result<Self, WireError> {
        Ok(Self {
            peer: peer(&neighbour.peer, "neighbour", "peer")?,
            addresses: texts(neighbour.addresses),
            zone: neighbour.zone.map(Into::into),
        })
    }
}

impl TryFrom<wire::PieceSum> for core::PieceSum {
    type Error = WireError;

    fn try_from(sum: wire::PieceSum) -> Result<Self, WireError> {
        Ok(Self {
            piece: sum.piece,
            sum: array(&sum.sum, "piece_sum", "sum")?,
            author: peer(&sum.author, "piece_sum", "author")?,
        })
    }
}

impl From<wire::RecentFailure> for core::RecentFailure {
    fn from(failure: wire::RecentFailure) -> Self {
        Self { class: class_from_wire(failure.class), cooldown: Duration::from_millis(failure.cooldown_millis) }
    }
}

impl TryFrom<wire::Enrol> for core::Enrol {
    type Error = WireError;

    fn try_from(enrol: wire::Enrol) -> Result<Self, WireError> {
        Ok(Self {
            digest: digest(&enrol.digest, "enrol")?,
            size: enrol.size,
            pieces: enrol.pieces,
            can_fetch_origin: enrol.can_fetch_origin,
            source: source(enrol.source, "enrol")?,
            zone: enrol.zone.map(Into::into),
            addresses: texts(enrol.addresses),
            private: enrol.private,
            has_credential: enrol.has_credential,
            fetching: enrol.fetching.iter().take(core::MAX_FETCHING).map(|run| (run.first, run.count)).collect(),
        })
    }
}

impl TryFrom<wire::EnrolReply> for core::EnrolReply {
    type Error = WireError;

    fn try_from(reply: wire::EnrolReply) -> Result<Self, WireError> {
        match reply.outcome.ok_or(bad("enrol_reply", "outcome", "absent"))? {
            wire::EnrolOutcome::Enrolled(enrolled) => Ok(Self::Enrolled {
                size: enrolled.size,
                neighbours: all(enrolled.neighbours)?,
                spine: spine(&enrolled.spine, "enrolled")?,
                private: enrolled.private,
                quiet: enrolled.quiet_millis.map(Duration::from_millis),
            }),
            wire::EnrolOutcome::Elsewhere(tracker) => Ok(Self::Elsewhere { tracker: tracker.try_into()? }),
            wire::EnrolOutcome::NotTracking(_) => Ok(Self::NotTracking),
            wire::EnrolOutcome::Failed(failure) => Ok(Self::Failed(failure.into())),
        }
    }
}

impl TryFrom<wire::Notice> for core::Notice {
    type Error = WireError;

    fn try_from(notice: wire::Notice) -> Result<Self, WireError> {
        let digest = digest(&notice.digest, "notice")?;
        match notice.kind.ok_or(bad("notice", "kind", "absent"))? {
            wire::NoticeKind::Have(have) => Ok(Self::Have {
                digest,
                size: have.size,
                pieces: have.pieces.ok_or(bad("have", "pieces", "absent"))?.into(),
                sums: all(have.sums)?,
                spine: spine(&have.spine, "have")?,
                private: have.private,
            }),
            wire::NoticeKind::Assign(assign) => Ok(Self::Assign {
                digest,
                size: assign.size,
                first: assign.first,
                count: assign.count,
                source: source(assign.source, "assign")?,
                deadline: Duration::from_millis(assign.deadline_millis),
            }),
            wire::NoticeKind::Unassigned(unassigned) => {
                let failure = unassigned.failure.ok_or(bad("unassigned", "failure", "absent"))?;
                let core::RecentFailure { class, cooldown } = failure.into();
                let wire::Unassigned { first, count, no_ranges, .. } = unassigned;
                Ok(Self::Unassigned { digest, first, count, class, cooldown, no_ranges })
            }
            wire::NoticeKind::Starving(starving) => Ok(Self::Starving { digest, piece: starving.piece }),
            wire::NoticeKind::Leave(_) => Ok(Self::Leave { digest }),
            wire::NoticeKind::Unchoke(unchoke) => {
                Ok(Self::Unchoke { digest, pieces: unchoke.pieces, spine: spine(&unchoke.spine, "unchoke")? })
            }
        }
    }
}

impl From<wire::HavePieces> for core::Have {
    fn from(have: wire::HavePieces) -> Self {
        match have {
            wire::HavePieces::Exactly(bytes) => Self::Exactly(bytes),
            wire::HavePieces::Also(numbers) => Self::Also(numbers.pieces),
            wire::HavePieces::All(_) => Self::All,
        }
    }
}

impl TryFrom<wire::PieceRequest> for core::PieceRequest {
    type Error = WireError;

    fn try_from(request: wire::PieceRequest) -> Result<Self, WireError> {
        Ok(Self { digest: digest(&request.digest, "piece_request")?, size: request.size, piece: request.piece })
    }
}

impl TryFrom<wire::PieceHeader> for PieceHeader {
    type Error = WireError;

    fn try_from(header: wire::PieceHeader) -> Result<Self, WireError> {
        match header.answer.ok_or(bad("piece_header", "answer", "absent"))? {
            wire::PieceAnswer::Follows(follows) => {
                let claim = follows.claim.map(TryInto::try_into).transpose()?;
                Ok(Self::Follows { length: follows.length, claim })
            }
            wire::PieceAnswer::Busy(busy) => {
                Ok(Self::Refused(core::PieceRefusal::Busy(Duration::from_millis(busy.retry_after_millis))))
            }
            wire::PieceAnswer::Missing(_) => Ok(Self::Refused(core::PieceRefusal::Missing)),
        }
    }
}

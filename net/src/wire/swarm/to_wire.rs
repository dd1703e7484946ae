//! From the core's messages to the schema's: never fails.

use std::time::Duration;

use longshore_core::message as core;
use longshore_core::names::Source;
use longshore_core::spine::Midstate;

use super::super::coord::{class_to_wire, kind_to_wire};
use super::PieceHeader;
use super::schema as wire;

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn texts(texts: &[std::sync::Arc<str>]) -> Vec<String> {
    texts.iter().map(|text| text.to_string()).collect()
}

fn spine(points: &[(u32, Midstate)]) -> Vec<wire::SpinePoint> {
    let point = |(piece, midstate): &(u32, Midstate)| wire::SpinePoint {
        piece: *piece,
        midstate: midstate.to_bytes().to_vec(),
    };
    points.iter().map(point).collect()
}

impl From<&Source> for wire::Source {
    fn from(source: &Source) -> Self {
        Self {
            registry: source.registry.to_string(),
            repository: source.repository.to_string(),
            kind: kind_to_wire(source.kind),
        }
    }
}

impl From<&core::Neighbour> for wire::Neighbour {
    fn from(neighbour: &core::Neighbour) -> Self {
        Self {
            peer: neighbour.peer.to_string(),
            addresses: texts(&neighbour.addresses),
            zone: neighbour.zone.as_deref().map(str::to_owned),
        }
    }
}

impl From<&core::PieceSum> for wire::PieceSum {
    fn from(sum: &core::PieceSum) -> Self {
        Self { piece: sum.piece, sum: sum.sum.to_vec(), author: sum.author.to_string() }
    }
}

impl From<&core::RecentFailure> for wire::RecentFailure {
    fn from(failure: &core::RecentFailure) -> Self {
        Self { class: class_to_wire(failure.class), cooldown_millis: millis(failure.cooldown) }
    }
}

impl From<&core::Enrol> for wire::Enrol {
    fn from(enrol: &core::Enrol) -> Self {
        Self {
            digest: enrol.digest.as_bytes().to_vec(),
            size: enrol.size,
            pieces: enrol.pieces.clone(),
            can_fetch_origin: enrol.can_fetch_origin,
            source: Some((&enrol.source).into()),
            zone: enrol.zone.as_deref().map(str::to_owned),
            addresses: texts(&enrol.addresses),
            private: enrol.private,
            has_credential: enrol.has_credential,
            fetching: enrol.fetching.iter().map(|(first, count)| wire::Run { first: *first, count: *count }).collect(),
        }
    }
}

impl From<&core::EnrolReply> for wire::EnrolReply {
    fn from(reply: &core::EnrolReply) -> Self {
        let outcome = match reply {
            core::EnrolReply::Enrolled { size, neighbours, spine: points, private, quiet } => {
                wire::EnrolOutcome::Enrolled(wire::Enrolled {
                    size: *size,
                    neighbours: neighbours.iter().map(Into::into).collect(),
                    spine: spine(points),
                    private: *private,
                    quiet_millis: quiet.map(millis),
                })
            }
            core::EnrolReply::Elsewhere { tracker } => wire::EnrolOutcome::Elsewhere(tracker.into()),
            core::EnrolReply::NotTracking => wire::EnrolOutcome::NotTracking(wire::Empty {}),
            core::EnrolReply::Failed(failure) => wire::EnrolOutcome::Failed(failure.into()),
        };
        Self { outcome: Some(outcome) }
    }
}

impl From<&core::Notice> for wire::Notice {
    fn from(notice: &core::Notice) -> Self {
        let (digest, kind) = match notice {
            core::Notice::Have { digest, size, pieces, sums, spine: points, private } => (
                digest,
                wire::NoticeKind::Have(wire::Have {
                    size: *size,
                    pieces: Some(pieces.into()),
                    sums: sums.iter().map(Into::into).collect(),
                    spine: spine(points),
                    private: *private,
                }),
            ),
            core::Notice::Assign { digest, size, first, count, source, deadline } => (
                digest,
                wire::NoticeKind::Assign(wire::Assign {
                    size: *size,
                    first: *first,
                    count: *count,
                    source: Some(source.into()),
                    deadline_millis: millis(*deadline),
                }),
            ),
            core::Notice::Unassigned { digest, first, count, class, cooldown, no_ranges } => (
                digest,
                wire::NoticeKind::Unassigned(wire::Unassigned {
                    first: *first,
                    count: *count,
                    failure: Some((&core::RecentFailure { class: *class, cooldown: *cooldown }).into()),
                    no_ranges: *no_ranges,
                }),
            ),
            core::Notice::Starving { digest, piece } => {
                (digest, wire::NoticeKind::Starving(wire::Starving { piece: *piece }))
            }
            core::Notice::Leave { digest } => (digest, wire::NoticeKind::Leave(wire::Empty {})),
            core::Notice::Unchoke { digest, pieces, spine: points } => {
                (digest, wire::NoticeKind::Unchoke(wire::Unchoke { pieces: pieces.clone(), spine: spine(points) }))
            }
        };
        Self { digest: digest.as_bytes().to_vec(), kind: Some(kind) }
    }
}

impl From<&core::Have> for wire::HavePieces {
    fn from(have: &core::Have) -> Self {
        match have {
            core::Have::Exactly(bytes) => Self::Exactly(bytes.clone()),
            core::Have::Also(pieces) => Self::Also(wire::PieceNumbers { pieces: pieces.clone() }),
            core::Have::All => Self::All(wire::Empty {}),
        }
    }
}

impl From<&core::PieceRequest> for wire::PieceRequest {
    fn from(request: &core::PieceRequest) -> Self {
        Self { digest: request.digest.as_bytes().to_vec(), size: request.size, piece: request.piece }
    }
}

impl From<&PieceHeader> for wire::PieceHeader {
    fn from(header: &PieceHeader) -> Self {
        let answer = match header {
            PieceHeader::Follows { length, claim } => wire::PieceAnswer::Follows(wire::PieceFollows {
                length: *length,
                claim: claim.as_ref().map(Into::into),
            }),
            PieceHeader::Refused(core::PieceRefusal::Busy(after)) => {
                wire::PieceAnswer::Busy(wire::Busy { retry_after_millis: millis(*after) })
            }
            PieceHeader::Refused(core::PieceRefusal::Missing) => wire::PieceAnswer::Missing(wire::Empty {}),
        };
        Self { answer: Some(answer) }
    }
}

//! `/gantry/coord/1.0.0`: package `gantry.coord.v1` (reference, section 2.2), and one field of our own.
//!
//! Two things of the original are left out of the schema on purpose, so that protobuf skips them as unknown:
//! `PleasePullRequest.authorization` (5), because nobody's credential travels between Longshore's nodes or is taken from
//! a peer, and everything about chairs (`chair_assignment` (6), the envelope's messages 5 and 6), because there are none.

mod instant;

use std::time::{Duration, SystemTime};

use longshore_core::digest::Digest;
use longshore_core::message::{
    FailureClass, MAX_DIGESTS_PER_BATCH, PleasePull, PullIntent, PullOutcome, PullResult, RecentFailure, Request,
};
use longshore_core::names::{Kind, Source};
use prost::Message;

use self::instant::Timestamp;
use super::WireError;

/// Every message of the protocol, one a frame.
#[derive(Clone, PartialEq, Message)]
pub struct Envelope {
    /// The message.
    #[prost(oneof = "EnvelopeMessage", tags = "1, 2, 3, 4")]
    pub msg: Option<EnvelopeMessage>,
}

/// What an [`Envelope`] holds.
#[derive(Clone, PartialEq, prost::Oneof)]
#[allow(missing_docs, reason = "the names are the schema's")]
pub enum EnvelopeMessage {
    #[prost(message, tag = "1")]
    PullIntentRequest(PullIntentRequest),
    #[prost(message, tag = "2")]
    PullIntentResponse(PullIntentResponse),
    #[prost(message, tag = "3")]
    PleasePullRequest(PleasePullRequest),
    #[prost(message, tag = "4")]
    PleasePullResponse(PleasePullResponse),
}

impl EnvelopeMessage {
    const fn name(&self) -> &'static str {
        match self {
            Self::PullIntentRequest(_) => "pull_intent_request",
            Self::PullIntentResponse(_) => "pull_intent_response",
            Self::PleasePullRequest(_) => "please_pull_request",
            Self::PleasePullResponse(_) => "please_pull_response",
        }
    }
}

#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "the names are the schema's")]
pub struct PullIntentRequest {
    #[prost(string, tag = "1")]
    pub digest: String,
    /// Ours: the requester leads.
    #[prost(bool, tag = "1000")]
    pub leads: bool,
}

#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "the names are the schema's")]
pub struct PullIntentResponse {
    #[prost(bool, tag = "1")]
    pub has_cached: bool,
    #[prost(bool, tag = "2")]
    pub in_flight: bool,
    #[prost(message, optional, tag = "3")]
    pub started_at: Option<Timestamp>,
    #[prost(int32, tag = "4")]
    pub hrw_rank: i32,
    #[prost(bool, tag = "5")]
    pub recently_failed: bool,
    #[prost(message, optional, tag = "6")]
    pub cooldown_until: Option<Timestamp>,
    #[prost(int32, tag = "7")]
    pub failure_class: i32,
    /// Ours, as `resuming` below: milliseconds since the pull's last byte.
    #[prost(uint64, optional, tag = "1000")]
    pub idle_millis: Option<u64>,
    /// Ours: whom the responder follows.
    #[prost(message, optional, tag = "1001")]
    pub follows: Option<super::swarm::schema::Neighbour>,
}

#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "the names are the schema's")]
pub struct PleasePullRequest {
    #[prost(string, repeated, tag = "1")]
    pub digests: Vec<String>,
    #[prost(string, tag = "2")]
    pub upstream_registry: String,
    #[prost(string, tag = "3")]
    pub repository: String,
    #[prost(int32, tag = "4")]
    pub kind: i32,
    /// Ours: far from the numbers that Gantry may use one day, and skipped by it.
    #[prost(bool, tag = "1000")]
    pub resuming: bool,
    /// Ours: the origin was asked and has it.
    #[prost(bool, tag = "1001")]
    pub origin_has_it: bool,
}

#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "the names are the schema's")]
pub struct PleasePullResponse {
    #[prost(message, repeated, tag = "1")]
    pub results: Vec<PleasePullResult>,
}

#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "the names are the schema's")]
pub struct PleasePullResult {
    #[prost(string, tag = "1")]
    pub digest: String,
    #[prost(int32, tag = "2")]
    pub outcome: i32,
    #[prost(message, optional, tag = "3")]
    pub started_at: Option<Timestamp>,
    #[prost(message, optional, tag = "4")]
    pub cooldown_until: Option<Timestamp>,
    #[prost(int32, tag = "5")]
    pub failure_class: i32,
}

// Kind
const KIND_BLOB: i32 = 1;
const KIND_MANIFEST: i32 = 2;
const KIND_CONFIG: i32 = 3;
// Outcome; 0 is "unspecified", which is also how "declined" is said.
const OUTCOME_DECLINED: i32 = 0;
const OUTCOME_ALREADY_PULLING: i32 = 1;
const OUTCOME_STARTED: i32 = 2;
const OUTCOME_RECENTLY_FAILED: i32 = 3;
const OUTCOME_STALE_CHAIR: i32 = 4;
/// A responder that does not see itself in the ranking.
const RANK_UNKNOWN: i32 = -1;

/// Reads a request.
///
/// Digests that cannot be understood are left out of a batch, as Gantry does.
///
/// # Errors
/// When it is no request, the only digest is bad, or a batch is empty or has more than [`MAX_DIGESTS_PER_BATCH`] digests.
pub fn decode_request(bytes: &[u8]) -> Result<Request, WireError> {
    match open(bytes, "a request")? {
        EnvelopeMessage::PullIntentRequest(request) => {
            let digest = request.digest.parse().map_err(|_| WireError::BadField {
                message: "pull_intent_request",
                field: "digest",
                problem: "not a sha256 digest",
            })?;
            Ok(Request::PullIntent { digest, leads: request.leads })
        }
        EnvelopeMessage::PleasePullRequest(request) => {
            let bad = |problem| WireError::BadField { message: "please_pull_request", field: "digests", problem };
            if request.digests.is_empty() {
                return Err(bad("empty"));
            }
            if request.digests.len() > MAX_DIGESTS_PER_BATCH {
                return Err(bad("longer than 256 digests"));
            }
            Ok(Request::PleasePull(PleasePull {
                digests: request.digests.iter().filter_map(|text| text.parse().ok()).collect(),
                source: Source {
                    registry: request.upstream_registry.into(),
                    repository: request.repository.into(),
                    kind: kind_from_wire(request.kind),
                },
                resuming: request.resuming,
                origin_has_it: request.origin_has_it,
            }))
        }
        other => Err(WireError::Unexpected { expected: "a request", found: other.name() }),
    }
}

pub(super) fn encode_pull_intent(digest: Digest, leads: bool) -> Vec<u8> {
    close(EnvelopeMessage::PullIntentRequest(PullIntentRequest { digest: digest.to_string(), leads }))
}

pub(super) fn encode_please_pull(batch: &PleasePull) -> Vec<u8> {
    close(EnvelopeMessage::PleasePullRequest(PleasePullRequest {
        digests: batch.digests.iter().map(Digest::to_string).collect(),
        upstream_registry: batch.source.registry.to_string(),
        repository: batch.source.repository.to_string(),
        kind: kind_to_wire(batch.source.kind),
        resuming: batch.resuming,
        origin_has_it: batch.origin_has_it,
    }))
}

pub(super) fn encode_intent(intent: &PullIntent, now: SystemTime) -> Vec<u8> {
    close(EnvelopeMessage::PullIntentResponse(PullIntentResponse {
        has_cached: intent.has_cached,
        in_flight: intent.in_flight_for.is_some(),
        started_at: intent.in_flight_for.map(|elapsed| Timestamp::before(now, elapsed)),
        hrw_rank: intent.rank.and_then(|rank| i32::try_from(rank).ok()).unwrap_or(RANK_UNKNOWN),
        recently_failed: intent.recently_failed.is_some(),
        cooldown_until: intent.recently_failed.map(|failure| Timestamp::after(now, failure.cooldown)),
        failure_class: intent.recently_failed.map_or(0, |failure| class_to_wire(failure.class)),
        idle_millis: intent.idle_for.map(|idle| u64::try_from(idle.as_millis()).unwrap_or(u64::MAX)),
        follows: intent.follows.as_ref().map(Into::into),
    }))
}

pub(super) fn decode_intent(bytes: &[u8], now: SystemTime) -> Result<PullIntent, WireError> {
    match open(bytes, "pull_intent_response")? {
        EnvelopeMessage::PullIntentResponse(response) => Ok(PullIntent {
            has_cached: response.has_cached,
            in_flight_for: response.in_flight.then(|| elapsed(response.started_at, now)),
            idle_for: response.idle_millis.map(Duration::from_millis),
            rank: u32::try_from(response.hrw_rank).ok(),
            recently_failed: response
                .recently_failed
                .then(|| recent_failure(response.failure_class, response.cooldown_until, now)),
            follows: response.follows.map(TryInto::try_into).transpose()?,
        }),
        other => Err(WireError::Unexpected { expected: "pull_intent_response", found: other.name() }),
    }
}

pub(super) fn encode_results(results: &[PullResult], now: SystemTime) -> Vec<u8> {
    let results = results.iter().map(|result| result_to_wire(result, now)).collect();
    close(EnvelopeMessage::PleasePullResponse(PleasePullResponse { results }))
}

pub(super) fn decode_results(bytes: &[u8], now: SystemTime) -> Result<Vec<PullResult>, WireError> {
    match open(bytes, "please_pull_response")? {
        EnvelopeMessage::PleasePullResponse(response) => {
            if response.results.len() > MAX_DIGESTS_PER_BATCH {
                return Err(WireError::BadField {
                    message: "please_pull_response",
                    field: "results",
                    problem: "longer than 256 results",
                });
            }
            Ok(response.results.iter().filter_map(|result| result_from_wire(result, now)).collect())
        }
        other => Err(WireError::Unexpected { expected: "please_pull_response", found: other.name() }),
    }
}

fn open(bytes: &[u8], expected: &'static str) -> Result<EnvelopeMessage, WireError> {
    Envelope::decode(bytes)?
        .msg
        .ok_or(WireError::Unexpected { expected, found: "an empty envelope or one about chairs" })
}

fn close(message: EnvelopeMessage) -> Vec<u8> {
    Envelope { msg: Some(message) }.encode_to_vec()
}

fn result_to_wire(result: &PullResult, now: SystemTime) -> PleasePullResult {
    let mut wire = PleasePullResult { digest: result.digest.to_string(), ..PleasePullResult::default() };
    match result.outcome {
        PullOutcome::Declined => wire.outcome = OUTCOME_DECLINED,
        PullOutcome::AlreadyPulling(elapsed) => {
            wire.outcome = OUTCOME_ALREADY_PULLING;
            wire.started_at = Some(Timestamp::before(now, elapsed));
        }
        PullOutcome::Started => {
            wire.outcome = OUTCOME_STARTED;
            wire.started_at = Some(Timestamp::before(now, Duration::ZERO));
        }
        PullOutcome::RecentlyFailed(failure) => {
            wire.outcome = OUTCOME_RECENTLY_FAILED;
            wire.cooldown_until = Some(Timestamp::after(now, failure.cooldown));
            wire.failure_class = class_to_wire(failure.class);
        }
        PullOutcome::StaleChair => wire.outcome = OUTCOME_STALE_CHAIR,
    }
    wire
}

/// `None` for a digest that cannot be understood: it is no answer to anything that was asked.
fn result_from_wire(wire: &PleasePullResult, now: SystemTime) -> Option<PullResult> {
    let outcome = match wire.outcome {
        OUTCOME_ALREADY_PULLING => PullOutcome::AlreadyPulling(elapsed(wire.started_at, now)),
        OUTCOME_STARTED => PullOutcome::Started,
        OUTCOME_RECENTLY_FAILED => {
            PullOutcome::RecentlyFailed(recent_failure(wire.failure_class, wire.cooldown_until, now))
        }
        OUTCOME_STALE_CHAIR => PullOutcome::StaleChair,
        // 0, and outcomes of later versions: nothing was started that we know of.
        _ => PullOutcome::Declined,
    };
    Some(PullResult { digest: wire.digest.parse().ok()?, outcome })
}

fn elapsed(since: Option<Timestamp>, now: SystemTime) -> Duration {
    since.map_or(Duration::ZERO, |since| since.elapsed(now))
}

fn recent_failure(class: i32, until: Option<Timestamp>, now: SystemTime) -> RecentFailure {
    let cooldown = until.map_or(Duration::ZERO, |until| until.remaining(now));
    RecentFailure { class: class_from_wire(class), cooldown }
}

pub(super) const fn class_to_wire(class: FailureClass) -> i32 {
    match class {
        FailureClass::Auth => 1,
        FailureClass::NotFound => 2,
        FailureClass::RateLimited => 3,
        FailureClass::Transient => 4,
    }
}

/// What is unspecified or unknown reads as transient: the class that nobody takes another node's word for.
pub(super) const fn class_from_wire(class: i32) -> FailureClass {
    match class {
        1 => FailureClass::Auth,
        2 => FailureClass::NotFound,
        3 => FailureClass::RateLimited,
        _ => FailureClass::Transient,
    }
}

pub(super) const fn kind_to_wire(kind: Kind) -> i32 {
    match kind {
        Kind::Blob => KIND_BLOB,
        Kind::Manifest => KIND_MANIFEST,
        Kind::Config => KIND_CONFIG,
    }
}

/// Unspecified is a blob, by the reference; what a later version may add is under `/blobs/` too, as far as we know.
pub(super) const fn kind_from_wire(kind: i32) -> Kind {
    match kind {
        KIND_MANIFEST => Kind::Manifest,
        KIND_CONFIG => Kind::Config,
        _ => Kind::Blob,
    }
}

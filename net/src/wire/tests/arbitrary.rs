//! Any message.

use std::sync::Arc;

use longshore_core::digest::Digest;
use longshore_core::message::{EnrolReply, Have, Neighbour, Notice, PieceRefusal, PieceRequest, PieceSum};
use longshore_core::names::PeerId;
use longshore_core::spine::Midstate;
use proptest::collection::vec;
use proptest::option;

use super::*;
use crate::wire::swarm::PieceHeader;

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest::from_bytes)
}

fn text() -> impl Strategy<Value = Arc<str>> {
    any::<String>().prop_map(Into::into)
}

/// Peer IDs are hashes or keys in base58; any hash will do.
fn peer() -> impl Strategy<Value = PeerId> {
    any::<[u8; 32]>().prop_map(|hash| {
        let bytes = [[0x12, 0x20].as_slice(), &hash].concat();
        PeerId::new(&libp2p::PeerId::from_bytes(&bytes).unwrap().to_base58())
    })
}

fn millis() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_millis)
}

/// Gantry's instants are of this era: ten years either way.
fn years() -> impl Strategy<Value = Duration> {
    (0_u64..315_360_000, 0_u32..1_000_000_000).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos))
}

fn class() -> impl Strategy<Value = FailureClass> {
    prop_oneof![
        Just(FailureClass::Auth),
        Just(FailureClass::NotFound),
        Just(FailureClass::RateLimited),
        Just(FailureClass::Transient)
    ]
}

fn failure(cooldown: impl Strategy<Value = Duration>) -> impl Strategy<Value = RecentFailure> {
    (class(), cooldown).prop_map(|(class, cooldown)| RecentFailure { class, cooldown })
}

fn source() -> impl Strategy<Value = Source> {
    let kind = prop_oneof![Just(Kind::Manifest), Just(Kind::Config), Just(Kind::Blob)];
    (text(), text(), kind).prop_map(|(registry, repository, kind)| Source { registry, repository, kind })
}

pub(super) fn coord_request() -> impl Strategy<Value = Request> {
    let batch = (vec(digest(), 1..5), source(), any::<[bool; 2]>());
    let batch = batch.prop_map(|(digests, source, [resuming, origin_has_it])| PleasePull {
        digests,
        source,
        resuming,
        origin_has_it,
    });
    let intent = (digest(), any::<bool>()).prop_map(|(digest, leads)| Request::PullIntent { digest, leads });
    prop_oneof![intent, batch.prop_map(Request::PleasePull)]
}

pub(super) fn pull_intent() -> impl Strategy<Value = PullIntent> {
    let rank = option::of(0..=i32::MAX as u32);
    (
        any::<bool>(),
        option::of(years()),
        option::of(millis()),
        rank,
        option::of(failure(years())),
        option::of(neighbour()),
    )
        .prop_map(|(has_cached, in_flight_for, idle_for, rank, recently_failed, follows)| PullIntent {
            has_cached,
            in_flight_for,
            idle_for,
            rank,
            recently_failed,
            follows,
        })
}

pub(super) fn pull_results() -> impl Strategy<Value = Vec<PullResult>> {
    let outcome = prop_oneof![
        Just(PullOutcome::Declined),
        years().prop_map(PullOutcome::AlreadyPulling),
        Just(PullOutcome::Started),
        failure(years()).prop_map(PullOutcome::RecentlyFailed),
        Just(PullOutcome::StaleChair),
    ];
    vec((digest(), outcome).prop_map(|(digest, outcome)| PullResult { digest, outcome }), 0..5)
}

pub(super) fn enrol() -> impl Strategy<Value = Enrol> {
    let blob = (digest(), option::of(any::<u64>()), any::<Vec<u8>>(), any::<bool>());
    (blob, source(), option::of(text()), vec(text(), 0..4)).prop_map(
        |((digest, size, pieces, can_fetch_origin), source, zone, addresses)| Enrol {
            digest,
            size,
            pieces,
            can_fetch_origin,
            source,
            private: !can_fetch_origin,
            has_credential: size.is_some(),
            fetching: size.iter().map(|size| (*size as u32, 3)).collect(),
            zone,
            addresses,
        },
    )
}

fn neighbour() -> impl Strategy<Value = Neighbour> {
    (peer(), vec(text(), 0..4), option::of(text())).prop_map(|(peer, addresses, zone)| Neighbour {
        peer,
        addresses,
        zone,
    })
}

fn spine() -> impl Strategy<Value = Vec<(u32, Midstate)>> {
    vec((any::<u32>(), any::<[u32; 8]>().prop_map(Midstate)), 0..4)
}

pub(super) fn enrol_reply() -> impl Strategy<Value = EnrolReply> {
    prop_oneof![
        (option::of(any::<u64>()), vec(neighbour(), 0..3), spine()).prop_map(|(size, neighbours, spine)| {
            let quiet = size.map(|size| Duration::from_millis(size / 2));
            EnrolReply::Enrolled { private: size.is_none(), size, neighbours, spine, quiet }
        }),
        neighbour().prop_map(|tracker| EnrolReply::Elsewhere { tracker }),
        Just(EnrolReply::NotTracking),
        failure(millis()).prop_map(EnrolReply::Failed),
    ]
}

fn piece_sum() -> impl Strategy<Value = PieceSum> {
    (any::<u32>(), any::<[u8; 32]>(), peer()).prop_map(|(piece, sum, author)| PieceSum { piece, sum, author })
}

pub(super) fn notice() -> impl Strategy<Value = Notice> {
    let have =
        prop_oneof![any::<Vec<u8>>().prop_map(Have::Exactly), any::<Vec<u32>>().prop_map(Have::Also), Just(Have::All)];
    let size = || option::of(any::<u64>());
    let numbers = || (any::<u32>(), any::<u32>());
    prop_oneof![
        (digest(), size(), have, vec(piece_sum(), 0..3), spine()).prop_map(|(digest, size, pieces, sums, spine)| {
            Notice::Have { private: size.is_none(), digest, size, pieces, sums, spine }
        }),
        (digest(), size(), numbers(), source(), millis()).prop_map(
            |(digest, size, (first, count), source, deadline)| Notice::Assign {
                digest,
                size,
                first,
                count,
                source,
                deadline
            }
        ),
        (digest(), numbers(), failure(millis())).prop_map(|(digest, (first, count), failure)| Notice::Unassigned {
            no_ranges: first % 2 == 0,
            digest,
            first,
            count,
            class: failure.class,
            cooldown: failure.cooldown
        }),
        (digest(), any::<u32>()).prop_map(|(digest, piece)| Notice::Starving { digest, piece }),
        (digest(), vec(any::<u32>(), 0..5), spine()).prop_map(|(digest, pieces, spine)| Notice::Unchoke {
            digest,
            pieces,
            spine
        }),
        digest().prop_map(|digest| Notice::Leave { digest }),
    ]
}

pub(super) fn piece_request() -> impl Strategy<Value = PieceRequest> {
    (digest(), any::<u64>(), any::<u32>()).prop_map(|(digest, size, piece)| PieceRequest { digest, size, piece })
}

pub(super) fn piece_header() -> impl Strategy<Value = PieceHeader> {
    prop_oneof![
        (any::<u64>(), option::of(piece_sum())).prop_map(|(length, claim)| PieceHeader::Follows { length, claim }),
        millis().prop_map(|after| PieceHeader::Refused(PieceRefusal::Busy(after))),
        Just(PieceHeader::Refused(PieceRefusal::Missing)),
    ]
}

//! Any input that a driver could report, with few names, so that inputs meet.

use std::sync::Arc;
use std::time::Duration;

use longshore_core::digest::Digest;
use longshore_core::input::{
    BlobFacts, CallError, Child, Hashed, Input, Method, OriginFailure, OriginStat, PartialBlob, Proof, RecordedPiece,
    StoreError, StoredBlob, StreamError, TransferEvent, TransferFailure,
};
use longshore_core::members::{Member, Roster};
use longshore_core::message::{
    Enrol, EnrolReply, FailureClass, Have, Neighbour, Notice, PieceRefusal, PieceRequest, PieceSum, PleasePull,
    Protocol, PullIntent, PullOutcome, PullResult, RecentFailure, Request, Response,
};
use longshore_core::names::{CallId, CredentialId, Kind, OpId, PeerId, RequestId, Source, StreamId};
use longshore_core::spine::Midstate;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Four pieces of the smallest size, more or less.
const SIZES: [u64; 4] = [0, 1000, 1 << 20, (1 << 20) + 5];

pub(crate) fn digest() -> BoxedStrategy<Digest> {
    (0_u8..4).prop_map(|number| Digest::from_bytes([number; 32])).boxed()
}

/// Nobody, the tested agent itself, and three others.
pub(crate) fn peer() -> BoxedStrategy<PeerId> {
    (0_u8..5).prop_map(|number| PeerId::new(&format!("12D3KooWPeer{number}"))).boxed()
}

fn text(place: &'static str) -> BoxedStrategy<Arc<str>> {
    (0_u8..3).prop_map(move |number| format!("canary {place} {number}").into()).boxed()
}

fn texts(place: &'static str) -> BoxedStrategy<Vec<Arc<str>>> {
    vec(text(place), 0..3).boxed()
}

fn zone() -> BoxedStrategy<Option<Arc<str>>> {
    option::of(text("zone")).boxed()
}

fn size() -> BoxedStrategy<u64> {
    (0_usize..SIZES.len()).prop_map(|index| SIZES[index]).boxed()
}

fn short() -> BoxedStrategy<Duration> {
    (0_u64..20_000).prop_map(Duration::from_millis).boxed()
}

fn kind() -> BoxedStrategy<Kind> {
    prop_oneof![Just(Kind::Manifest), Just(Kind::Config), Just(Kind::Blob)].boxed()
}

fn class() -> BoxedStrategy<FailureClass> {
    prop_oneof![
        Just(FailureClass::Auth),
        Just(FailureClass::NotFound),
        Just(FailureClass::RateLimited),
        Just(FailureClass::Transient)
    ]
    .boxed()
}

fn source() -> BoxedStrategy<Source> {
    (text("registry"), text("repository"), kind())
        .prop_map(|(registry, repository, kind)| Source { registry, repository, kind })
        .boxed()
}

fn media_type() -> BoxedStrategy<Option<Arc<str>>> {
    option::of(prop_oneof![Just("application/vnd.oci.image.manifest.v1+json".into()), text("media type")]).boxed()
}

fn midstate() -> BoxedStrategy<Midstate> {
    prop_oneof![Just(Midstate::INITIAL), (0_u32..3).prop_map(|number| Midstate([number; 8]))].boxed()
}

fn spine() -> BoxedStrategy<Vec<(u32, Midstate)>> {
    vec((0_u32..6, midstate()), 0..3).boxed()
}

fn sum() -> BoxedStrategy<PieceSum> {
    (0_u32..6, 0_u8..3, peer()).prop_map(|(piece, sum, author)| PieceSum { piece, sum: [sum; 32], author }).boxed()
}

fn failure() -> BoxedStrategy<RecentFailure> {
    (class(), short()).prop_map(|(class, cooldown)| RecentFailure { class, cooldown }).boxed()
}

fn neighbour() -> BoxedStrategy<Neighbour> {
    (peer(), texts("address"), zone()).prop_map(|(peer, addresses, zone)| Neighbour { peer, addresses, zone }).boxed()
}

fn request() -> BoxedStrategy<Request> {
    let enrol =
        (digest(), option::of(size()), vec(any::<u8>(), 0..2), any::<[bool; 2]>(), source(), zone(), texts("address"));
    let enrol = enrol.prop_map(|(digest, size, pieces, [can_fetch_origin, private], source, zone, addresses)| {
        let has_credential = !private;
        Request::Enrol(Enrol {
            digest,
            size,
            pieces,
            can_fetch_origin,
            source,
            zone,
            addresses,
            private,
            has_credential,
            fetching: Vec::new(),
        })
    });
    prop_oneof![
        (digest(), any::<bool>()).prop_map(|(digest, leads)| Request::PullIntent { digest, leads }),
        (vec(digest(), 0..3), source(), any::<[bool; 2]>()).prop_map(|(digests, source, [resuming, origin_has_it])| {
            Request::PleasePull(PleasePull { digests, source, resuming, origin_has_it })
        }),
        enrol,
    ]
    .boxed()
}

fn response() -> BoxedStrategy<Response> {
    let intent = (
        any::<bool>(),
        option::of(short()),
        option::of(short()),
        option::of(0_u32..4),
        option::of(failure()),
        option::of(neighbour()),
    )
        .prop_map(|(has_cached, in_flight_for, idle_for, rank, recently_failed, follows)| {
            Response::PullIntent(PullIntent { has_cached, in_flight_for, idle_for, rank, recently_failed, follows })
        });
    let outcome = prop_oneof![
        Just(PullOutcome::Declined),
        short().prop_map(PullOutcome::AlreadyPulling),
        Just(PullOutcome::Started),
        failure().prop_map(PullOutcome::RecentlyFailed),
        Just(PullOutcome::StaleChair),
    ];
    let result = (digest(), outcome).prop_map(|(digest, outcome)| PullResult { digest, outcome });
    let enrol = prop_oneof![
        (option::of(size()), vec(neighbour(), 0..3), spine(), any::<bool>(), option::of(any::<u32>())).prop_map(
            |(size, neighbours, spine, private, quiet)| {
                let quiet = quiet.map(|millis| Duration::from_millis(millis.into()));
                EnrolReply::Enrolled { size, neighbours, spine, private, quiet }
            }
        ),
        neighbour().prop_map(|tracker| EnrolReply::Elsewhere { tracker }),
        Just(EnrolReply::NotTracking),
        failure().prop_map(EnrolReply::Failed),
    ];
    prop_oneof![intent, vec(result, 0..3).prop_map(Response::PleasePull), enrol.prop_map(Response::Enrol)].boxed()
}

fn have() -> BoxedStrategy<Have> {
    prop_oneof![
        vec(any::<u8>(), 0..2).prop_map(Have::Exactly),
        vec(0_u32..6, 0..3).prop_map(Have::Also),
        Just(Have::All)
    ]
    .boxed()
}

fn notice() -> BoxedStrategy<Notice> {
    prop_oneof![
        (digest(), option::of(size()), have(), vec(sum(), 0..3), spine(), any::<bool>()).prop_map(
            |(digest, size, pieces, sums, spine, private)| Notice::Have { digest, size, pieces, sums, spine, private }
        ),
        (digest(), option::of(size()), 0_u32..6, 0_u32..4, source(), short()).prop_map(
            |(digest, size, first, count, source, deadline)| Notice::Assign {
                digest,
                size,
                first,
                count,
                source,
                deadline
            }
        ),
        (digest(), 0_u32..6, 0_u32..4, class(), short(), any::<bool>()).prop_map(
            |(digest, first, count, class, cooldown, no_ranges)| Notice::Unassigned {
                digest,
                first,
                count,
                class,
                cooldown,
                no_ranges
            }
        ),
        (digest(), 0_u32..6).prop_map(|(digest, piece)| Notice::Starving { digest, piece }),
        (digest(), vec(0_u32..6, 0..3), spine()).prop_map(|(digest, pieces, spine)| Notice::Unchoke {
            digest,
            pieces,
            spine
        }),
        digest().prop_map(|digest| Notice::Leave { digest }),
    ]
    .boxed()
}

fn origin_failure() -> BoxedStrategy<OriginFailure> {
    (class(), option::of(400_u16..600), option::of(short()), texts("challenge"), text("detail"))
        .prop_map(|(class, status, retry_after, challenge, detail)| OriginFailure {
            class,
            status,
            retry_after,
            challenge,
            detail,
        })
        .boxed()
}

fn store_error() -> BoxedStrategy<StoreError> {
    prop_oneof![Just(StoreError::Full), Just(StoreError::Missing), text("disk").prop_map(StoreError::Io)].boxed()
}

fn hashed() -> BoxedStrategy<Hashed> {
    prop_oneof![midstate().prop_map(Hashed::Chained), (0_u8..3).prop_map(|sum| Hashed::Alone([sum; 32]))].boxed()
}

fn transfer_failure() -> BoxedStrategy<TransferFailure> {
    prop_oneof![
        short().prop_map(|wait| TransferFailure::Refused(PieceRefusal::Busy(wait))),
        Just(TransferFailure::Refused(PieceRefusal::Missing)),
        Just(TransferFailure::Unreachable),
        Just(TransferFailure::Malformed),
        Just(TransferFailure::NoRanges),
        origin_failure().prop_map(TransferFailure::Origin),
        store_error().prop_map(TransferFailure::Store),
    ]
    .boxed()
}

fn transfer() -> BoxedStrategy<TransferEvent> {
    prop_oneof![
        (0_u64..100_000).prop_map(|bytes| TransferEvent::Progress { bytes }),
        (size(), media_type()).prop_map(|(size, media_type)| TransferEvent::Headers { size, media_type }),
        (0_u32..6, 0_u64..300_000, hashed(), option::of(sum()))
            .prop_map(|(piece, bytes, hashed, claim)| { TransferEvent::Piece { piece, bytes, hashed, claim } }),
        Just(TransferEvent::Done),
        transfer_failure().prop_map(TransferEvent::Failed),
    ]
    .boxed()
}

fn facts() -> BoxedStrategy<BlobFacts> {
    (media_type(), source(), any::<bool>())
        .prop_map(|(media_type, source, private)| BlobFacts { media_type, source, private })
        .boxed()
}

fn recorded() -> BoxedStrategy<RecordedPiece> {
    let proof = prop_oneof![
        (0_u8..3).prop_map(|sum| Proof::Alone([sum; 32])),
        (midstate(), midstate()).prop_map(|(from, to)| Proof::Between(from, to))
    ];
    (0_u32..6, proof, peer()).prop_map(|(piece, proof, author)| RecordedPiece { piece, proof, author }).boxed()
}

fn member() -> BoxedStrategy<Member> {
    (peer(), any::<bool>(), texts("address"), zone(), any::<bool>())
        .prop_map(|(peer, published, addresses, zone, ready)| Member {
            name: format!("node of {peer}").into(),
            peer: published.then_some(peer),
            addresses,
            zone,
            ready,
        })
        .boxed()
}

fn of_containerd_and_peers() -> BoxedStrategy<Input> {
    let requests = || (0_u64..6).prop_map(RequestId);
    let streams = || (0_u64..6).prop_map(StreamId);
    let protocol = prop_oneof![Just(Protocol::Coord), Just(Protocol::Swarm)];
    let method = prop_oneof![4 => Just(Method::Get), 1 => Just(Method::Head)];
    let stream_error =
        prop_oneof![Just(StreamError::Malformed), Just(StreamError::Oversized), Just(StreamError::Broken)];
    let piece = (digest(), size(), 0_u32..6).prop_map(|(digest, size, piece)| PieceRequest { digest, size, piece });
    prop_oneof![
        4 => (requests(), method, source(), digest(), option::of((0_u64..3).prop_map(CredentialId))).prop_map(
            |(request, method, source, digest, credential)| Input::Mirror { request, method, source, digest, credential }
        ),
        1 => (requests(), 0_u64..100).prop_map(|(request, sent_bytes)| Input::MirrorClosed { request, sent_bytes }),
        2 => (streams(), peer(), protocol).prop_map(|(stream, peer, protocol)| Input::StreamOpened {
            stream,
            peer,
            protocol
        }),
        2 => (streams(), request()).prop_map(|(stream, request)| Input::StreamRequest { stream, request }),
        1 => (streams(), piece).prop_map(|(stream, request)| Input::PieceRequested { stream, request }),
        1 => streams().prop_map(|stream| Input::StreamNotices { stream }),
        1 => (streams(), option::of(stream_error), 0_u64..100).prop_map(|(stream, error, sent_bytes)| {
            Input::StreamClosed { stream, error, sent_bytes }
        }),
        4 => (peer(), notice()).prop_map(|(peer, notice)| Input::Notice { peer, notice: notice.into() }),
        1 => peer().prop_map(|peer| Input::Disconnected { peer }),
    ].boxed()
}

fn answers() -> BoxedStrategy<Input> {
    // Calls and operations are numbered together.
    let op = || (1_u64..24).prop_map(OpId);
    let call = || (1_u64..24).prop_map(CallId);
    let call_error = prop_oneof![Just(CallError::Unreachable), Just(CallError::Reset), Just(CallError::Malformed)];
    let stat = (size(), media_type()).prop_map(|(size, media_type)| OriginStat { size, media_type });
    let stat = prop_oneof![stat.prop_map(Ok), origin_failure().prop_map(Err)];
    prop_oneof![
        3 => (call(), response()).prop_map(|(call, response)| Input::Reply { call, response }),
        1 => (call(), call_error).prop_map(|(call, error)| Input::CallFailed { call, error }),
        4 => (op(), transfer()).prop_map(|(op, event)| Input::Transfer { op, event }),
        1 => (op(), stat).prop_map(|(op, result)| Input::OriginStat { op, result }),
        1 => (op(), vec(neighbour(), 0..3)).prop_map(|(op, peers)| Input::Providers { op, peers }),
        1 => (op(), prop_oneof![midstate().prop_map(Ok), store_error().prop_map(Err)])
            .prop_map(|(op, result)| Input::PieceHashed { op, result }),
        1 => (digest(), prop_oneof![4 => Just(Ok(())), 1 => store_error().prop_map(Err)])
            .prop_map(|(digest, result)| Input::Committed { digest, result }),
        1 => digest().prop_map(|digest| Input::Evicted { digest }),
        1 => (digest(), vec(midstate(), 0..4)).prop_map(|(digest, states)| Input::Spine { digest, states }),
        1 => (digest(), store_error()).prop_map(|(digest, error)| Input::StoreFailed { digest, error }),
    ]
    .boxed()
}

fn of_the_node() -> BoxedStrategy<Input> {
    let child = (digest(), size(), kind()).prop_map(|(digest, size, kind)| Child { digest, size, kind });
    let blob = (digest(), size(), facts()).prop_map(|(digest, size, facts)| StoredBlob { digest, size, facts });
    let partial = (digest(), size(), source(), any::<bool>(), vec(recorded(), 0..3))
        .prop_map(|(digest, size, source, private, pieces)| PartialBlob { digest, size, source, private, pieces });
    prop_oneof![
        8 => Just(Input::Tick),
        2 => vec(member(), 0..5).prop_map(|members| Input::Members(Roster::new(members))),
        1 => (digest(), media_type(), vec(child, 0..3)).prop_map(|(digest, media_type, children)| Input::Manifest {
            digest,
            media_type,
            children
        }),
        1 => (vec(blob, 0..3), vec(partial, 0..2)).prop_map(|(blobs, partials)| Input::Recovered { blobs, partials }),
    ]
    .boxed()
}

/// Any input.
pub(crate) fn input() -> BoxedStrategy<Input> {
    prop_oneof![8 => of_containerd_and_peers(), 8 => answers(), 4 => of_the_node()].boxed()
}

/// Inputs with the microseconds since the one before; an agent's life begins with its store's.
pub(crate) fn life(most: usize) -> BoxedStrategy<Vec<(u64, Input)>> {
    let delta = prop_oneof![Just(0), 0_u64..10_000, 0_u64..3_000_000, 0_u64..90_000_000];
    vec((delta, input()), 0..most)
        .prop_map(|mut life| {
            life.insert(0, (5, Input::Recovered { blobs: Vec::new(), partials: Vec::new() }));
            life
        })
        .boxed()
}

//! Bytes that must never change: other programs read them.

use longshore_core::digest::{Digest, hex};
use longshore_core::message::{EnrolReply, Have, Neighbour, Notice, PieceRefusal, PieceRequest, PieceSum};
use longshore_core::names::PeerId;
use longshore_core::spine::Midstate;

use super::*;
use crate::wire::swarm::PieceHeader;

const ONE: Digest = Digest::from_bytes([0x11; 32]);
const TWO: Digest = Digest::from_bytes([0x22; 32]);
/// A peer ID whose key is all zeroes.
const PEER: &str = "12D3KooW9pNAk8aiBuGVQtWRdbkLmo5qVL3e2h5UxbN2Nz9ttwiw";

/// Hex digits with `[1]` and `[2]` for the texts of the two digests, and blanks where the reader wants them.
fn bytes(hex_digits: &str) -> Vec<u8> {
    let digits: String = hex_digits
        .replace("[peer]", &hex(PEER.as_bytes()))
        .replace("[1]", &hex(ONE.to_string().as_bytes()))
        .replace("[2]", &hex(TWO.to_string().as_bytes()))
        .split_whitespace()
        .collect();
    digits.as_bytes().chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

// Written from the field numbers of the reference (section 2.2), without our encoder.

/// envelope 1: { 1: digest }
const PULL_INTENT: &str = "0a49 0a47[1]";
/// envelope 1: { 1: digest, 1000: true }
const LEADER: &str = "0a4c 0a47[1] c03e01";
/// envelope 2: { 1: true, 4: rank 2 }
const CACHED: &str = "1204 0801 2002";
/// envelope 2: { 2: true, 3: { 1: 1699999989, 2: 500000000 }, 4: -1 }
const IN_FLIGHT: &str = "121b 1001 1a0c 08f5e1cfaa06 1080cab5ee01 20ffffffffffffffffff01";
/// envelope 2: { 2: true, 3: { 1: 1699999990 }, 1000: 1500 milliseconds }
const IDLE: &str = "120e 1001 1a06 08f6e1cfaa06 c03e dc0b";
/// envelope 2: { 4: -1, 1001: { 1: peer, 2: "/ip4/10.0.0.1/tcp/4001", 3: "z" } }
const FOLLOWS: &str =
    "125f 20ffffffffffffffffff01 ca3e 51 0a34[peer] 1216 2f6970342f31302e302e302e312f7463702f34303031 1a017a";
/// envelope 2: { 5: true, 6: { 1: 1700000030 }, 7: 3 }
const FAILED: &str = "120c 2801 3206 089ee2cfaa06 3803";
/// envelope 3: { 1: digest, 1: digest, 2: "docker.io", 3: "library/app", 4: 2 }
const PLEASE_PULL: &str = "1aac01 0a47[1] 0a47[2] 1209 646f636b65722e696f 1a0b 6c6962726172792f617070 2002";
/// envelope 3: { 1: digest, 2: "r", 3: "a", 4: 1, 1000: true }
const RESUMING: &str = "1a54 0a47[1] 120172 1a0161 2001 c03e01";
/// envelope 3: { 1: digest, 2: "r", 3: "a", 4: 1, 1001: true }
const KNOWN_BETTER: &str = "1a54 0a47[1] 120172 1a0161 2001 c83e01";
/// envelope 4: { 1: { digest, already_pulling, 3: started }, 1: { digest, recently_failed, 4: until, 5: not_found },
/// 1: { digest, started, 3: now }, 1: { digest }, 1: { digest, stale_chair } }
const RESULTS: &str = "229903 \
    0a53 0a47[1] 1001 1a06 08f6e1cfaa06 \
    0a55 0a47[2] 1003 2206 08bce2cfaa06 2802 \
    0a53 0a47[1] 1002 1a06 0880e2cfaa06 \
    0a49 0a47[2] \
    0a4b 0a47[1] 1004";

fn source(kind: Kind) -> Source {
    Source { registry: "docker.io".into(), repository: "library/app".into(), kind }
}

#[test]
fn requests_have_gantrys_form() {
    let intent = Request::PullIntent { digest: ONE, leads: false };
    let leader = Request::PullIntent { digest: ONE, leads: true };
    let batch =
        PleasePull { digests: vec![ONE, TWO], source: source(Kind::Manifest), resuming: false, origin_has_it: false };
    let resuming = PleasePull {
        digests: vec![ONE],
        source: Source { registry: "r".into(), repository: "a".into(), kind: Kind::Blob },
        resuming: true,
        origin_has_it: false,
    };
    let known_better = PleasePull { resuming: false, origin_has_it: true, ..resuming.clone() };
    let batches = [(batch, PLEASE_PULL), (resuming, RESUMING), (known_better, KNOWN_BETTER)];
    let batches = batches.map(|(batch, golden)| (Request::PleasePull(batch), golden));
    for (request, golden) in [(intent, PULL_INTENT), (leader, LEADER)].into_iter().chain(batches) {
        assert_eq!(hex(&encode_request(&request)), hex(&bytes(golden)));
        assert_eq!(coord::decode_request(&bytes(golden)), Ok(request));
    }
}

#[test]
fn responses_have_gantrys_form() {
    let cached = PullIntent { has_cached: true, rank: Some(2), ..PullIntent::default() };
    let in_flight = PullIntent { in_flight_for: Some(Duration::from_millis(10_500)), ..PullIntent::default() };
    let failure = RecentFailure { class: FailureClass::RateLimited, cooldown: Duration::from_secs(30) };
    let failed = PullIntent { rank: Some(0), recently_failed: Some(failure), ..PullIntent::default() };
    let idle = PullIntent {
        in_flight_for: Some(Duration::from_secs(10)),
        idle_for: Some(Duration::from_millis(1500)),
        rank: Some(0),
        ..PullIntent::default()
    };
    let leader =
        Neighbour { peer: PeerId::new(PEER), addresses: vec!["/ip4/10.0.0.1/tcp/4001".into()], zone: Some("z".into()) };
    let following = PullIntent { follows: Some(leader), ..PullIntent::default() };
    let intents = [(cached, CACHED), (in_flight, IN_FLIGHT), (idle, IDLE), (failed, FAILED), (following, FOLLOWS)];
    for (intent, golden) in intents {
        assert_eq!(hex(&coord::encode_intent(&intent, now())), hex(&bytes(golden)));
        assert_eq!(coord::decode_intent(&bytes(golden), now()), Ok(intent));
    }
    let failure = RecentFailure { class: FailureClass::NotFound, cooldown: Duration::from_secs(60) };
    let results: Vec<_> = [
        (ONE, PullOutcome::AlreadyPulling(Duration::from_secs(10))),
        (TWO, PullOutcome::RecentlyFailed(failure)),
        (ONE, PullOutcome::Started),
        (TWO, PullOutcome::Declined),
        (ONE, PullOutcome::StaleChair),
    ]
    .into_iter()
    .map(|(digest, outcome)| PullResult { digest, outcome })
    .collect();
    assert_eq!(hex(&coord::encode_results(&results, now())), hex(&bytes(RESULTS)));
    assert_eq!(coord::decode_results(&bytes(RESULTS), now()), Ok(results));
}

#[test]
fn a_gantry_batch_with_a_bad_digest_a_credential_and_a_chair_is_read_without_them() {
    // envelope 3: { 1: "bad", 1: digest, 2: "r", 3: "a", 5: "Bearer secret", 6: { 1: 7, 2: 1, 3: 2 } }
    let golden = "1a6b 0a03626164 0a47[2] 120172 1a0161 2a0d 42656172657220736563726574 3206 0807 1001 1802";
    let expected = PleasePull {
        digests: vec![TWO],
        source: Source { registry: "r".into(), repository: "a".into(), kind: Kind::Blob },
        resuming: false,
        origin_has_it: false,
    };
    let read = coord::decode_request(&bytes(golden));
    assert!(!format!("{read:?}").contains("secret"));
    assert_eq!(read, Ok(Request::PleasePull(expected)));
}

#[test]
fn an_instant_that_go_never_set_means_just_now() {
    // envelope 2: { 2: true, 3: { 1: -62135596800 } }
    let golden = "120f 1001 1a0b 088092b8c398feffffff01";
    let intent = coord::decode_intent(&bytes(golden), now()).unwrap();
    assert_eq!(intent.in_flight_for, Some(Duration::ZERO));
    // envelope 2: { 2: true }
    let intent = coord::decode_intent(&bytes("1202 1001"), now()).unwrap();
    assert_eq!(intent.in_flight_for, Some(Duration::ZERO));
}

#[test]
fn every_kind_and_failure_class_has_gantrys_number() {
    for (kind, number) in [(Kind::Blob, 1), (Kind::Manifest, 2), (Kind::Config, 3)] {
        assert_eq!((coord::kind_to_wire(kind), coord::kind_from_wire(number)), (number, kind));
    }
    assert_eq!(coord::kind_from_wire(0), Kind::Blob);
    for (class, number) in [
        (FailureClass::Auth, 1),
        (FailureClass::NotFound, 2),
        (FailureClass::RateLimited, 3),
        (FailureClass::Transient, 4),
    ] {
        assert_eq!((coord::class_to_wire(class), coord::class_from_wire(number)), (number, class));
    }
    assert_eq!(coord::class_from_wire(0), FailureClass::Transient);
}

#[test]
fn swarm_messages_keep_their_form() {
    let peer = PeerId::new(PEER);
    let sum = PieceSum { piece: 5, sum: [0x33; 32], author: peer.clone() };
    let neighbour = Neighbour { peer, addresses: vec!["/ip4/10.0.0.1/tcp/4001".into()], zone: Some("z".into()) };
    let failure = RecentFailure { class: FailureClass::Auth, cooldown: Duration::from_millis(1500) };
    let have = |pieces| Notice::Have {
        digest: ONE,
        size: Some(300),
        pieces,
        sums: vec![sum.clone()],
        spine: vec![(1, Midstate::INITIAL)],
        private: false,
    };
    let enrol = Enrol {
        digest: ONE,
        size: Some(1 << 40),
        pieces: vec![0xff, 0x01],
        can_fetch_origin: true,
        source: source(Kind::Config),
        zone: Some("z".into()),
        addresses: vec!["/ip4/10.0.0.1/tcp/4001".into()],
        private: false,
        has_credential: true,
        fetching: vec![(0, 4), (300, 1)],
    };
    let reply = |reply| encode_response(&Response::Enrol(reply), now());
    let assign = Notice::Assign {
        digest: ONE,
        size: None,
        first: 3,
        count: 4,
        source: source(Kind::Blob),
        deadline: Duration::from_secs(2),
    };
    let unassigned = Notice::Unassigned {
        digest: ONE,
        first: 3,
        count: 4,
        class: failure.class,
        cooldown: failure.cooldown,
        no_ranges: false,
    };
    let messages = [
        ("enrol", encode_request(&Request::Enrol(enrol))),
        (
            "enrolled",
            reply(EnrolReply::Enrolled {
                size: Some(300),
                neighbours: vec![neighbour.clone()],
                spine: vec![(1, Midstate::INITIAL)],
                private: false,
                quiet: Some(Duration::from_millis(1500)),
            }),
        ),
        ("elsewhere", reply(EnrolReply::Elsewhere { tracker: neighbour })),
        ("not tracking", reply(EnrolReply::NotTracking)),
        ("failed", reply(EnrolReply::Failed(failure))),
        ("have exactly", swarm::encode_notice(&have(Have::Exactly(vec![0x0f])))),
        ("have also", swarm::encode_notice(&have(Have::Also(vec![1, 200])))),
        ("have all", swarm::encode_notice(&have(Have::All))),
        ("assign", swarm::encode_notice(&assign)),
        ("unassigned", swarm::encode_notice(&unassigned)),
        ("starving", swarm::encode_notice(&Notice::Starving { digest: ONE, piece: 9 })),
        ("leave", swarm::encode_notice(&Notice::Leave { digest: ONE })),
        (
            "unchoke",
            swarm::encode_notice(&Notice::Unchoke {
                digest: ONE,
                pieces: vec![1, 200],
                spine: vec![(2, Midstate::INITIAL)],
            }),
        ),
        ("piece request", swarm::encode_piece_request(&PieceRequest { digest: ONE, size: 300, piece: 5 })),
        ("follows", swarm::encode_piece_header(&PieceHeader::Follows { length: 300, claim: Some(sum.clone()) })),
        ("busy", swarm::encode_piece_header(&PieceHeader::Refused(PieceRefusal::Busy(Duration::from_millis(1500))))),
        ("missing", swarm::encode_piece_header(&PieceHeader::Refused(PieceRefusal::Missing))),
    ];
    let listing: Vec<String> = messages.iter().map(|(name, bytes)| format!("{name}: {}", hex(bytes))).collect();
    insta::assert_snapshot!(listing.join("\n"));
}

#[test]
fn a_peer_id_in_another_spelling_is_one_name_or_none() {
    for (text, good) in [(PEER, true), ("nonsense", false), ("", false)] {
        let reply =
            EnrolReply::Elsewhere { tracker: Neighbour { peer: PeerId::new(text), addresses: vec![], zone: None } };
        let bytes = encode_response(&Response::Enrol(reply.clone()), now());
        assert_eq!(swarm::decode_enrol_reply(&bytes).ok(), good.then_some(reply), "{text}");
    }
}

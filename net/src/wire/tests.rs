mod arbitrary;
mod golden;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use longshore_core::message::{
    Enrol, FailureClass, MAX_DIGESTS_PER_BATCH, MAX_MESSAGE_BYTES, PleasePull, PullIntent, PullOutcome, PullResult,
    RecentFailure,
};
use longshore_core::names::{Kind, Source};
use proptest::prelude::*;

use super::frame::{FrameError, TooLarge, frame, read_frame};
use super::*;

/// A second of the year 2023 that is easy to reckon with.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn read(bytes: &[u8], max_bytes: usize) -> Result<Vec<u8>, FrameError> {
    futures::executor::block_on(read_frame(&mut &bytes[..], max_bytes))
}

#[test]
fn frames_have_their_length_before_them() {
    assert_eq!(frame(b"abc").unwrap(), b"\x03abc");
    assert_eq!(frame(&[7; 300]).unwrap()[..3], [0xac, 0x02, 7]);
    assert_eq!(read(b"\x03abcd", 3).unwrap(), b"abc");
    assert_eq!(read(b"\x00", 3).unwrap(), b"");
}

#[test]
fn bad_frames_are_told_apart() {
    assert!(matches!(read(b"", 9), Err(FrameError::Ended)));
    assert!(matches!(read(b"\x80", 9), Err(FrameError::Broken(_))));
    assert!(matches!(read(b"\x03ab", 9), Err(FrameError::Broken(_))));
    assert!(matches!(read(b"\x80\x00", 9), Err(FrameError::BadLength)));
    assert!(matches!(read(&[0xff; 12], 9), Err(FrameError::BadLength)));
    assert!(matches!(read(b"\x0a0123456789", 9), Err(FrameError::Oversized { found: 10, allowed: 9 })));
}

#[test]
fn a_message_that_no_peer_would_accept_is_not_framed() {
    assert!(frame(&vec![0; MAX_MESSAGE_BYTES]).is_ok());
    assert_eq!(frame(&vec![0; MAX_MESSAGE_BYTES + 1]), Err(TooLarge(MAX_MESSAGE_BYTES + 1)));
}

fn batch(digests: usize) -> PleasePull {
    let digest = longshore_core::digest::Digest::from_bytes([1; 32]);
    PleasePull {
        digests: vec![digest; digests],
        source: Source { registry: "r".into(), repository: "a".into(), kind: Kind::Blob },
        resuming: false,
        origin_has_it: false,
    }
}

#[test]
fn a_batch_holds_at_most_256_digests_and_at_least_one() {
    let full = Request::PleasePull(batch(MAX_DIGESTS_PER_BATCH));
    assert_eq!(coord::decode_request(&encode_request(&full)), Ok(full));
    for digests in [0, MAX_DIGESTS_PER_BATCH + 1] {
        let bytes = encode_request(&Request::PleasePull(batch(digests)));
        assert!(matches!(coord::decode_request(&bytes), Err(WireError::BadField { field: "digests", .. })));
    }
}

#[test]
fn instants_on_the_wrong_side_of_now_are_durations_of_zero() {
    let failure = RecentFailure { class: FailureClass::Auth, cooldown: Duration::from_secs(5) };
    let intent = PullIntent {
        in_flight_for: Some(Duration::from_secs(5)),
        recently_failed: Some(failure),
        ..PullIntent::default()
    };
    let bytes = coord::encode_intent(&intent, now());
    let later = coord::decode_intent(&bytes, now() + Duration::from_secs(60)).unwrap();
    assert_eq!(later.in_flight_for, Some(Duration::from_secs(65)));
    assert_eq!(later.recently_failed.unwrap().cooldown, Duration::ZERO);
    let earlier = coord::decode_intent(&bytes, now() - Duration::from_secs(60)).unwrap();
    assert_eq!(earlier.in_flight_for, Some(Duration::ZERO));
    assert_eq!(earlier.recently_failed.unwrap().cooldown, Duration::from_secs(65));
}

#[test]
fn an_answer_to_another_kind_of_request_is_no_answer() {
    let pull = Request::PleasePull(batch(1));
    let bytes = encode_response(&Response::PullIntent(PullIntent::default()), now());
    let error = decode_response(&pull, &bytes, now()).unwrap_err();
    assert_eq!(error.to_string(), "expected please_pull_response, found pull_intent_response");
}

proptest! {
    #[test]
    fn coord_requests_survive_the_wire(request in arbitrary::coord_request()) {
        let bytes = encode_request(&request);
        prop_assert_eq!(decode_opening(Protocol::Coord, &bytes), Ok(Opening::Request(request)));
    }

    #[test]
    fn coord_responses_survive_the_wire_when_clocks_agree(
        intent in arbitrary::pull_intent(),
        results in arbitrary::pull_results(),
    ) {
        let bytes = coord::encode_intent(&intent, now());
        prop_assert_eq!(coord::decode_intent(&bytes, now()), Ok(intent));
        let bytes = coord::encode_results(&results, now());
        prop_assert_eq!(coord::decode_results(&bytes, now()), Ok(results));
    }

    #[test]
    fn swarm_messages_survive_the_wire(
        enrol in arbitrary::enrol(),
        reply in arbitrary::enrol_reply(),
        notice in arbitrary::notice(),
        request in arbitrary::piece_request(),
        header in arbitrary::piece_header(),
    ) {
        let bytes = encode_request(&Request::Enrol(enrol.clone()));
        prop_assert_eq!(decode_opening(Protocol::Swarm, &bytes), Ok(Opening::Request(Request::Enrol(enrol.clone()))));
        let bytes = encode_response(&Response::Enrol(reply.clone()), now());
        prop_assert_eq!(decode_response(&Request::Enrol(enrol), &bytes, now()), Ok(Response::Enrol(reply)));
        let bytes = swarm::encode_notice(&notice);
        prop_assert_eq!(swarm::decode_notice(&bytes), Ok(Some(notice.clone())));
        prop_assert_eq!(decode_opening(Protocol::Swarm, &bytes), Ok(Opening::Notice(Some(notice))));
        let bytes = swarm::encode_piece_request(&request);
        prop_assert_eq!(decode_opening(Protocol::Swarm, &bytes), Ok(Opening::Piece(request)));
        let bytes = swarm::encode_piece_header(&header);
        prop_assert_eq!(swarm::decode_piece_header(&bytes), Ok(header));
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes: Vec<u8>) {
        decode_everything(&bytes);
        let _ = read(&bytes, 100);
    }

    #[test]
    fn no_damage_to_a_message_makes_a_decoder_panic(
        enrol in arbitrary::enrol(),
        notice in arbitrary::notice(),
        results in arbitrary::pull_results(),
        position: prop::sample::Index,
        byte: u8,
    ) {
        for mut bytes in [
            encode_request(&Request::Enrol(enrol)),
            swarm::encode_notice(&notice),
            coord::encode_results(&results, now()),
        ] {
            let position = position.index(bytes.len());
            bytes[position] = byte;
            decode_everything(&bytes);
            bytes.truncate(position);
            decode_everything(&bytes);
        }
    }
}

#[test]
fn a_notice_of_a_kind_that_is_not_known_is_passed_over() {
    let notice = swarm::encode_notice(&Notice::Leave { digest: longshore_core::digest::Digest::from_bytes([7; 32]) });
    // "leave" is the empty field 6 at the end: tag 6 << 3 | 2, length 0. Field 15 says nothing to us.
    assert_eq!(notice[notice.len() - 2..], [0x32, 0]);
    let mut newer = notice;
    let tag = newer.len() - 2;
    newer[tag] = 0x7a;
    assert_eq!(swarm::decode_notice(&newer), Ok(None));
    assert_eq!(decode_opening(Protocol::Swarm, &newer), Ok(Opening::Notice(None)));
}

fn decode_everything(bytes: &[u8]) {
    let _ = coord::decode_request(bytes);
    let _ = coord::decode_intent(bytes, now());
    let _ = coord::decode_results(bytes, now());
    let _ = decode_opening(Protocol::Swarm, bytes);
    let _ = swarm::decode_enrol_reply(bytes);
    let _ = swarm::decode_notice(bytes);
    let _ = swarm::decode_piece_header(bytes);
}

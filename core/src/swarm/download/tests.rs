use core::time::Duration;

use super::doubts::{DOUBT_PAUSE, MAX_DOUBTS};
use super::*;
use crate::piece::MIN_PIECE_BYTES;
use crate::swarm::most_of_run;

fn state(number: u32) -> Midstate {
    Midstate([number; 8])
}

fn peer(name: &str) -> PeerId {
    PeerId::new(name)
}

fn fetch(download: &mut Download, op: u64, sender: &str, piece: u32, after: u32) -> Verdict {
    let (op, peer) = (OpId(op), peer(sender));
    let check = download.check(piece);
    download.started(op, Fetch::Piece { peer, piece, check, since: Time::ZERO, way: Duration::ZERO });
    let verdict = download.arrived(op, piece, Hashed::Chained(state(after)), None, &PeerId::new("me"));
    download.ended(op);
    verdict
}

/// A blob of two pieces, whose true midstates are `state(1)` and `state(2)`, its digest.
fn two_pieces() -> Download {
    Download::new(Digest::from_bytes(state(2).to_bytes()), Geometry::of_blob(2 * MIN_PIECE_BYTES))
}

/// Claims about the midstate between the two pieces; the sender's second piece gives `gave` and does not fit; then the whole
/// blob comes from elsewhere.
fn convicted(claim: u32, gave: u32) -> Vec<PeerId> {
    let mut download = two_pieces();
    download.claim(1, state(claim), &peer("claimant"));
    assert_eq!(fetch(&mut download, 1, "sender", 1, gave), Verdict::Doubtful);
    for piece in 0..2 {
        assert_eq!(download.settle_doubts(), [], "before the blob is whole nobody is convicted");
        download.chain.hashed(piece, download.chain.state(), state(piece + 1));
    }
    download.settle_doubts()
}

#[test]
fn who_sent_the_right_piece_is_not_convicted_for_a_wrong_midstate_before_it() {
    assert_eq!(convicted(66, 77), []);
}

#[test]
fn who_sent_a_wrong_piece_from_a_right_midstate_is_convicted_when_the_blob_is_whole() {
    assert_eq!(convicted(1, 77), [peer("sender")]);
}

#[test]
fn who_sent_the_right_piece_is_not_convicted_where_the_chain_runs_through_a_lie() {
    let mut download = two_pieces();
    // Somebody vouched for a first piece that is wrong.
    download.chain.hashed(0, download.chain.state(), state(66));
    assert_eq!(fetch(&mut download, 1, "sender", 1, 77), Verdict::Doubtful);
    download.chain.hashed(1, state(66), state(77));
    assert_eq!(download.prefix(), Prefix::Mismatch);
    assert_eq!(download.settle_doubts(), []);
}

#[test]
fn what_somebody_claimed_who_was_found_out_is_asked_of_others() {
    let mut download = Download::new(Digest::from_bytes([9; 32]), Geometry::of_blob(4 * MIN_PIECE_BYTES));
    download.claim(1, state(66), &peer("liar"));
    assert_eq!(fetch(&mut download, 1, "honest", 0, 1), Verdict::Doubtful);
    download.disown(&peer("liar"));
    download.claim(1, state(1), &peer("honest"));
    assert!(matches!(fetch(&mut download, 3, "honest", 0, 1), Verdict::Accepted(_)));
}

#[test]
fn an_origin_without_ranges_is_asked_for_the_whole_even_if_some_of_it_is_here() {
    let mut download = Download::new(Digest::from_bytes([9; 32]), Geometry::of_blob(4 * MIN_PIECE_BYTES));
    download.claim(1, state(1), &peer("sender"));
    assert!(matches!(fetch(&mut download, 1, "sender", 0, 1), Verdict::Accepted(_)));
    download.enqueue(0, 4, None, &PieceSet::none(8));
    assert_eq!(download.next_run(false), Some((1, 3)));
    download.no_ranges = true;
    download.enqueue(0, 4, None, &PieceSet::none(8));
    assert_eq!(download.next_run(false), Some((0, 4)));
    assert_eq!(download.next_run(false), None);
}

#[test]
fn what_has_waited_for_too_long_is_left_to_who_fetches_it_now() {
    let mut download = Download::new(Digest::from_bytes([9; 32]), Geometry::of_blob(8 * MIN_PIECE_BYTES));
    let (none, at, long) = (PieceSet::none(8), Time::from_micros, Duration::from_micros);
    download.enqueue(0, 2, Some((at(10), long(10))), &none);
    download.enqueue(2, 2, Some((at(20), long(20))), &none);
    download.enqueue(4, 2, None, &none);
    assert_eq!(download.drop_late_runs(at(9), Duration::ZERO, &none), []);
    assert_eq!(download.next_run(false), Some((0, 2)));
    // However long pieces take, what was given just now is begun.
    assert_eq!(download.drop_late_runs(at(9), long(100), &none), []);
    // With half of its time over it could still be in time if pieces are fast.
    assert_eq!(download.drop_late_runs(at(11), long(8), &none), []);
    assert_eq!(download.drop_late_runs(at(11), long(9), &none), [(2, 2)]);
    assert_eq!(download.next_run(false), Some((4, 2)));
    assert!(!download.has_runs());
}

#[test]
fn runs_in_a_row_are_one_request_where_requests_are_few() {
    let size = 100 * 1024 * 1024;
    let pieces = Geometry::of_blob(size).pieces();
    let begun = |runs: &[(u32, u32)], requests_are_few: bool| {
        let mut download = Download::new(Digest::from_bytes([9; 32]), Geometry::of_blob(size));
        runs.iter().for_each(|(first, count)| download.enqueue(*first, *count, None, &PieceSet::none(pieces)));
        core::iter::from_fn(|| download.next_run(requests_are_few)).collect::<Vec<_>>()
    };
    let runs = [(4, 2), (0, 2), (2, 2), (8, 2), (10, 3)];
    assert_eq!(begun(&runs, false), runs);
    // In the order in which they were given; what a run goes on from may have begun.
    assert_eq!(begun(&runs, true), [(4, 2), (0, 4), (8, 5)]);
    // No more than anybody is given.
    let most = most_of_run(Geometry::of_blob(size)) as u32;
    assert_eq!(begun(&[(0, most - 1), (most - 1, 1), (most, 1)], true), [(0, most), (most, 1)]);
}

#[test]
fn what_neighbours_have_got_meanwhile_is_had_from_them() {
    let mut download = Download::new(Digest::from_bytes([9; 32]), Geometry::of_blob(8 * MIN_PIECE_BYTES));
    let mut available = PieceSet::none(8);
    available.insert(6);
    download.enqueue(0, 4, None, &available);
    // Somebody has it and gives it to nobody.
    download.enqueue(6, 1, None, &available);
    available.insert(0);
    available.insert(1);
    assert_eq!(download.drop_late_runs(Time::ZERO, Duration::ZERO, &available), []);
    assert_eq!(download.next_run(false), Some((2, 2)));
    assert_eq!(download.next_run(false), Some((6, 1)));
    assert_eq!(download.next_run(false), None);
}

#[test]
fn what_is_being_fetched_is_not_begun_again() {
    let mut download = Download::new(Digest::from_bytes([9; 32]), Geometry::of_blob(8 * MIN_PIECE_BYTES));
    let (none, at) = (PieceSet::none(8), Time::from_micros);
    download.enqueue(0, 4, None, &none);
    assert_eq!(download.next_run(false), Some((0, 4)));
    download.started(OpId(1), Fetch::Origin { start: 0, first: 0, end: 4, check: Check::Alone });
    download.enqueue(1, 2, None, &none);
    assert!(!download.has_runs());
    download.enqueue(4, 4, Some((at(10), Duration::ZERO)), &none);
    download.enqueue(5, 1, Some((at(20), Duration::ZERO)), &none);
    assert_eq!(download.drop_late_runs(at(15), Duration::ZERO, &none), []);
    assert_eq!(download.next_run(false), Some((4, 4)));
    assert!(!download.has_runs());
}

#[test]
fn a_midstate_of_who_was_found_out_is_not_laid_on_who_claims_the_right_one() {
    let mut download = Download::new(Digest::from_bytes([9; 32]), Geometry::of_blob(4 * MIN_PIECE_BYTES));
    download.claim(1, state(66), &peer("liar"));
    download.claim(2, state(2), &peer("honest"));
    let (op, sender, check) = (OpId(1), peer("sender"), download.check(1));
    download
        .started(op, Fetch::Piece { peer: sender.clone(), piece: 1, check, since: Time::ZERO, way: Duration::ZERO });
    download.disown(&peer("liar"));
    download.claim(1, state(1), &peer("honest"));
    let verdict = download.arrived(op, 1, Hashed::Chained(state(77)), None, &peer("me"));
    assert_eq!(verdict, Verdict::Unvouched);
    assert_eq!(download.settle_doubts(), []);
}

#[test]
fn what_is_about_to_be_written_again_has_to_be_hashed_again() {
    let mut download = Download::new(Digest::from_bytes([9; 32]), Geometry::of_blob(4 * MIN_PIECE_BYTES));
    for piece in 0..2 {
        let check = Check::From(state(piece));
        let from = if piece == 0 { download.chain.state() } else { state(piece) };
        download.started(OpId(1), Fetch::Origin { start: piece, first: piece, end: piece + 1, check });
        assert!(matches!(
            download.arrived(OpId(1), piece, Hashed::Alone([piece as u8; 32]), None, &peer("me")),
            Verdict::Accepted(_)
        ));
        download.ended(OpId(1));
        download.chain.hashed(piece, from, state(piece + 1));
    }
    download.hashing(OpId(2));
    assert_eq!(download.chain.tip(), 2);
    download.no_ranges = true;
    download.enqueue(0, 4, None, &PieceSet::none(8));
    assert_eq!(download.next_run(false), Some((0, 4)));
    assert!(download.have().is_empty());
    assert_eq!(download.prefix(), Prefix::Bytes(0));
    // What was being read when the run began is not counted, and what it brings is.
    download.hashed(OpId(2), Wanted { piece: 0, from: download.chain.state() }, state(66));
    assert_eq!(download.chain.tip(), 0);
    download.started(OpId(3), Fetch::Origin { start: 0, first: 0, end: 4, check: Check::Alone });
    let verdict = download.arrived(OpId(3), 0, Hashed::Alone([7; 32]), None, &peer("me"));
    assert!(matches!(verdict, Verdict::Accepted(_)));
}

#[test]
fn who_claimed_one_midstate_that_is_none_is_not_believed_in_others() {
    let mut download = Download::new(Digest::from_bytes([9; 32]), Geometry::of_blob(4 * MIN_PIECE_BYTES));
    for piece in 1..4 {
        download.claim(piece, state(60 + piece), &peer("liar"));
    }
    download.chain.hashed(0, download.chain.state(), state(1));
    download.compare_claims();
    download.compare_claims();
    download.claim(2, state(66), &peer("liar"));
    assert_eq!(download.check(1), Check::From(state(1)), "it stands until somebody else says something");
    download.claim(2, state(2), &peer("honest"));
    assert!(matches!(fetch(&mut download, 1, "honest", 1, 2), Verdict::Accepted(_)));
}

#[test]
fn a_piece_that_did_not_fit_is_not_asked_of_the_same_one_until_something_else_is_claimed() {
    let mut download = two_pieces();
    download.claim(1, state(66), &peer("liar"));
    assert_eq!(fetch(&mut download, 1, "honest", 0, 1), Verdict::Doubtful);
    assert!(download.has_doubted(&peer("honest"), 0, Time::ZERO), "whatever it says it has");
    assert!(
        !download.has_doubted(&peer("other"), 0, Time::ZERO) && !download.has_doubted(&peer("honest"), 1, Time::ZERO)
    );
    download.disown(&peer("liar"));
    download.claim(1, state(1), &peer("other"));
    assert!(!download.has_doubted(&peer("honest"), 0, Time::ZERO));
}

#[test]
fn who_has_the_whole_is_heard_before_the_first_piece_fits() {
    let mut download = two_pieces();
    download.claim(1, state(66), &peer("deceived"));
    assert_eq!(fetch(&mut download, 1, "honest", 0, 1), Verdict::Doubtful);
    let spine = [(1, state(1)), (2, state(2))];
    assert!(download.compare_whole(&peer("whole"), &spine), "who did not fit may have been right");
    for (piece, midstate) in spine {
        download.claim(piece, midstate, &peer("whole"));
    }
    assert!(!download.has_doubted(&peer("honest"), 0, Time::ZERO));
    assert!(matches!(fetch(&mut download, 2, "honest", 0, 1), Verdict::Accepted(_)));
    assert!(!download.compare_whole(&peer("another"), &spine), "nothing is new");
}

#[test]
fn who_sent_a_piece_that_did_not_fit_is_asked_again_after_a_pause_that_grows() {
    let mut download = two_pieces();
    download.claim(1, state(66), &peer("liar"));
    let after = |factor: u32| Time::ZERO + DOUBT_PAUSE * factor;
    for factor in [1, 4, 16] {
        assert_eq!(fetch(&mut download, 1, "honest", 0, 1), Verdict::Doubtful);
        assert!(download.has_doubted(&peer("honest"), 0, after(factor - 1)));
        assert!(!download.has_doubted(&peer("honest"), 0, after(factor)));
    }
    // Other wrong bytes are another doubt; the one who sent them is not asked sooner for that.
    assert_eq!(fetch(&mut download, 1, "honest", 0, 2), Verdict::Doubtful);
    assert!(
        download.has_doubted(&peer("honest"), 0, after(15)) && !download.has_doubted(&peer("honest"), 0, after(16))
    );
}

#[test]
fn of_too_many_doubts_the_oldest_makes_room() {
    let mut download = two_pieces();
    download.claim(1, state(66), &peer("liar"));
    for number in 0..=MAX_DOUBTS {
        assert_eq!(fetch(&mut download, 1, &format!("peer {number}"), 0, 1), Verdict::Doubtful);
    }
    assert!(!download.has_doubted(&peer("peer 0"), 0, Time::ZERO));
    assert!(download.has_doubted(&peer(&format!("peer {MAX_DOUBTS}")), 0, Time::ZERO));
}

/// Two pieces that fit between midstates of the liar's own; then the blob comes from the origin.
#[test]
fn who_delivered_what_fits_its_own_midstates_is_remembered_when_that_is_not_the_blob() {
    let mut download = two_pieces();
    download.claim(1, state(66), &peer("liar"));
    assert!(matches!(fetch(&mut download, 1, "liar", 0, 66), Verdict::Accepted(_)));
    download.chain.hashed(0, download.chain.state(), state(66));
    let (op, check) = (OpId(2), Check::Alone);
    download.started(op, Fetch::Origin { start: 1, first: 1, end: 2, check });
    download.arrived(op, 1, Hashed::Alone([1; 32]), None, &peer("me"));
    download.ended(op);
    download.chain.hashed(1, state(66), state(77));
    assert_eq!(download.prefix(), Prefix::Mismatch);
    assert!(download.has_of_others());
    download.distrust(Time::ZERO);
    download.rely_on_origin();
    let op = OpId(3);
    download.started(op, Fetch::Origin { start: 0, first: 0, end: 1, check });
    assert!(matches!(download.arrived(op, 0, Hashed::Alone([0; 32]), None, &peer("me")), Verdict::Accepted(_)));
    download.ended(op);
    for piece in 0..2 {
        download.chain.hashed(piece, download.chain.state(), state(piece + 1));
    }
    assert_eq!(download.prefix(), Prefix::Whole);
    // It said nothing of the origin, so it may have been deceived itself.
    assert_eq!(download.culprits(), [(peer("liar"), false)]);
}

#[test]
fn after_a_mismatch_honest_peers_that_did_not_fit_the_lie_are_believed_again() {
    let mut download = two_pieces();
    // A first piece that is wrong, and an honest peer that says something else than it leads to.
    assert!(matches!(
        {
            download.started(
                OpId(1),
                Fetch::Piece {
                    peer: peer("liar"),
                    piece: 0,
                    check: Check::Alone,
                    since: Time::ZERO,
                    way: Duration::ZERO,
                },
            );
            let claim = PieceSum { piece: 0, sum: [66; 32], author: peer("liar") };
            download.arrived(OpId(1), 0, Hashed::Alone([66; 32]), Some(claim), &peer("me"))
        },
        Verdict::Accepted(_)
    ));
    download.claim(1, state(1), &peer("honest"));
    download.chain.hashed(0, download.chain.state(), state(66));
    download.compare_claims();
    download.distrust(Time::ZERO);
    assert!(download.takes_claims(true, &[]) && !download.takes_claims(false, &[(1, state(1))]));
    download.claim(1, state(1), &peer("honest"));
    assert_eq!(download.next_to_hash(), Some(Wanted { piece: 0, from: Midstate::INITIAL }));
    assert_eq!(
        download.wanted(9, &PieceSet::all(2)),
        [1],
        "what is here is checked, and what can be checked is fetched"
    );
    download.hashing(OpId(2));
    download.hashed(OpId(2), Wanted { piece: 0, from: Midstate::INITIAL }, state(66));
    assert_eq!(download.weigh(Time::ZERO), recovery::Weighed::Wrong, "nothing fits: the last piece has to tell");
    assert_eq!(download.weigh(Time::ZERO), recovery::Weighed::Nothing, "it is on its way");
    assert_eq!(fetch(&mut download, 3, "honest", 1, 77), Verdict::Doubtful);
    assert_eq!(download.weigh(Time::ZERO), recovery::Weighed::Refuted, "it does not lead to the digest");
    assert_eq!(download.weigh(Time::ZERO), recovery::Weighed::Nothing, "all is kept until somebody else says more");
}

/// The registry has sent the wrong bytes all the time, and then the right ones to somebody else.
#[test]
fn who_has_a_last_piece_that_leads_to_the_digest_is_believed_though_nothing_fits() {
    let mut download = Download::new(Digest::from_bytes(state(3).to_bytes()), Geometry::of_blob(3 * MIN_PIECE_BYTES));
    for piece in 0..3 {
        download.have.insert(piece);
        download.store(piece, Stored { sum: None, via: Via::Peer(peer("deceived")) });
        download.chain.hashed(piece, download.chain.state(), state(66 + piece));
    }
    assert_eq!(download.prefix(), Prefix::Mismatch);
    download.distrust(Time::ZERO);
    for piece in 1..3 {
        download.claim(piece, state(piece), &peer("honest"));
    }
    for op in 1..=3 {
        let wanted = download.next_to_hash().expect("all of it can be checked");
        download.hashing(OpId(op));
        download.hashed(OpId(op), wanted, state(66));
        let weighed = if op < 3 { recovery::Weighed::Nothing } else { recovery::Weighed::Wrong };
        assert_eq!(download.weigh(Time::ZERO), weighed, "{op}");
    }
    assert_eq!(download.wanted(9, &PieceSet::all(3)), [2], "the rest is kept: it may be a lie that it does not fit");
    assert!(matches!(fetch(&mut download, 4, "honest", 2, 3), Verdict::Accepted(_)));
    assert_eq!(download.weigh(Time::ZERO), recovery::Weighed::Wrong);
    assert_eq!(download.wanted(9, &PieceSet::all(3)), [0, 1]);
}

#[test]
fn each_neighbour_is_told_of_a_piece_once_and_not_of_what_it_has() {
    use crate::message::Have;
    use crate::swarm::neighbours::Neighbours;
    let mut download = Download::new(Digest::from_bytes([9; 32]), Geometry::of_blob(8 * MIN_PIECE_BYTES));
    let mut neighbours = Neighbours::default();
    neighbours.add(&peer("early"), None, None);
    neighbours.learn(8 * MIN_PIECE_BYTES, 8);
    neighbours.get_mut(&peer("early")).expect("it was added").greeted = true;
    let gain = |download: &mut Download, piece: u32| {
        for piece in [piece, piece + 1] {
            download.claim(piece, state(piece), &peer("sender"));
        }
        let verdict = fetch(download, piece.into(), "sender", piece, piece + 1);
        assert!(matches!(verdict, Verdict::Accepted(_)), "{piece}: {verdict:?}");
    };
    gain(&mut download, 3);
    gain(&mut download, 1);
    let told = |neighbours: &mut Neighbours, name: &str, download: &Download| {
        neighbours.get_mut(&peer(name)).map(|neighbour| neighbour.not_told(download)).unwrap_or_default()
    };
    assert_eq!(told(&mut neighbours, "early", &download), [3, 1]);
    assert_eq!(told(&mut neighbours, "early", &download), [0; 0]);
    neighbours.heard(&peer("early"), &Have::Also(vec![5]));
    gain(&mut download, 5);
    gain(&mut download, 4);
    assert_eq!(told(&mut neighbours, "early", &download), [4], "it has the other one");
    // A stranger is greeted with all that is here.
    neighbours.add(&peer("late"), None, None);
    assert_eq!(told(&mut neighbours, "late", &download), [0; 0]);
}

/// A blob of one piece that was on disk, and is not the blob: the midstates around it are known to everybody, so there is nobody
/// to be disbelieved.
#[test]
fn a_single_piece_that_is_not_the_blob_is_wrong() {
    let mut download = Download::new(Digest::from_bytes(state(1).to_bytes()), Geometry::of_blob(1000));
    download.have.insert(0);
    download.store(0, Stored { sum: None, via: Via::Disk });
    download.chain.hashed(0, download.chain.state(), state(66));
    assert_eq!(download.prefix(), Prefix::Mismatch);
    download.distrust(Time::ZERO);
    let wanted = download.next_to_hash().expect("it can be checked");
    download.hashing(OpId(1));
    download.hashed(OpId(1), wanted, state(66));
    assert_eq!(download.weigh(Time::ZERO), recovery::Weighed::Wrong);
    assert_eq!(download.next_to_hash(), None, "it is not hashed again and again");
}

/// The first piece is wrong, and others who have it send a last one that does not fit to it.
#[test]
fn two_who_send_the_same_last_piece_refute_what_is_before_it() {
    let mut download = two_pieces();
    download.claim(1, state(66), &peer("deceived"));
    assert!(matches!(fetch(&mut download, 1, "deceived", 0, 66), Verdict::Accepted(_)));
    assert_eq!(fetch(&mut download, 2, "one", 1, 77), Verdict::Doubtful);
    assert!(matches!(download.prefix(), Prefix::Bytes(_)), "it may be the last piece that is wrong");
    assert_eq!(download.doubtful_end(), Some(1));
    assert_eq!(fetch(&mut download, 3, "one", 1, 77), Verdict::Doubtful);
    assert!(matches!(download.prefix(), Prefix::Bytes(_)), "twice the same sender is one");
    assert_eq!(fetch(&mut download, 4, "other", 1, 77), Verdict::Doubtful);
    assert_eq!(download.prefix(), Prefix::Mismatch);
}

/// A kept piece is being hashed when everything begins to be fetched by hand.
#[test]
fn what_was_thrown_away_while_it_was_hashed_is_no_part_of_the_prefix() {
    let mut download = two_pieces();
    download.have.insert(0);
    download.store(0, Stored { sum: None, via: Via::Disk });
    download.distrust(Time::ZERO);
    download.claim(1, state(1), &peer("whole"));
    let wanted = download.next_to_hash().expect("it can be checked");
    download.hashing(OpId(1));
    download.rely_on_origin();
    download.hashed(OpId(1), wanted, state(1));
    assert_eq!(download.chain().tip(), 0, "the piece is not here");
    assert_eq!(download.next_to_hash(), None);
}

/// A piece that could not be read was told to nobody yet, and has come again.
#[test]
fn what_has_come_twice_is_news_once() {
    let mut download = two_pieces();
    for op in 1..3 {
        download.claim(1, state(1), &peer("claimant"));
        assert!(matches!(fetch(&mut download, op, "sender", 0, 1), Verdict::Accepted(_)));
        if op == 1 {
            download.hashing(OpId(9));
            download.unreadable(OpId(9), 0);
        }
    }
    assert_eq!(download.gained(), 2);
    assert_eq!(download.news_since(0, &PieceSet::none(2)), [0]);
}

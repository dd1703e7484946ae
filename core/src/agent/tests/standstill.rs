//! Flights that do not get on: they say so, and get on by another way.

use super::*;
use crate::input::{Hashed, TransferEvent};
use crate::message::{EnrolReply, Have, Notice, PieceSum};
use crate::output::{Explanation, Output, Refusal, Span};
use crate::piece::MIN_PIECE_BYTES;

impl Bench {
    fn says(&mut self, peer: &str, pieces: u64, spine: Vec<(u32, Midstate)>, have: Have) -> &mut Self {
        let size = Some(pieces * MIN_PIECE_BYTES);
        let notice = Notice::Have { digest: digest(1), size, pieces: have, sums: Vec::new(), spine, private: false };
        self.notice(peer, notice)
    }

    /// Answers every request for a piece and every order to hash one, until there are none. `hashed` says what a piece of
    /// a peer gives.
    fn served(&mut self, hashed: impl Fn(u32) -> Hashed) -> Vec<Output> {
        let mut others = Vec::new();
        loop {
            let outputs = self.take();
            let before = others.len();
            let asked = outputs.len();
            for output in outputs {
                match output {
                    Output::FetchPiece { op, piece, ref peer, .. } => {
                        let author = peer.clone();
                        let hashed = hashed(piece);
                        let claim = match hashed {
                            Hashed::Alone(sum) => Some(PieceSum { piece, sum, author }),
                            Hashed::Chained(_) => None,
                        };
                        self.input(Input::Transfer {
                            op,
                            event: TransferEvent::Piece { piece, bytes: MIN_PIECE_BYTES, hashed, claim },
                        });
                        self.input(Input::Transfer { op, event: TransferEvent::Done });
                    }
                    Output::HashPiece { op, piece, .. } => {
                        self.input(Input::PieceHashed { op, result: Ok(Midstate([piece + 1; 8])) });
                    }
                    other => others.push(other),
                }
            }
            if others.len() - before == asked {
                return others;
            }
        }
    }

    fn runs_from_origin(outputs: &[Output]) -> Vec<(OpId, u32, u32)> {
        let run = |output: &Output| match output {
            Output::FetchOrigin { op, span: Span::Pieces { first, count, .. }, .. } => Some((*op, *first, *count)),
            _ => None,
        };
        outputs.iter().filter_map(run).collect()
    }
}

/// A participant that has got everything from its tracker, and it is another blob; and what it did then.
fn mismatched(pieces: u64) -> (Bench, Vec<Output>) {
    let mut bench = Bench::following("tracker", digest(1), None);
    bench.agent.config.call_timeout = Duration::from_secs(60);
    bench.enrolled("tracker", pieces * MIN_PIECE_BYTES).says("tracker", pieces, Vec::new(), Have::All);
    let outputs = bench.served(|piece| Hashed::Alone([piece as u8; 32]));
    (bench, outputs)
}

fn leaves(output: &Output) -> bool {
    matches!(output, Output::Notify { peer, notice }
        if peer.as_str() == "tracker" && matches!(**notice, Notice::Leave { .. }))
}

fn end() -> Midstate {
    Midstate::from_bytes(*digest(1).as_bytes())
}

#[test]
fn after_a_mismatch_only_what_is_wrong_is_fetched_again() {
    let (mut bench, outputs) = mismatched(4);
    assert!(Bench::runs_from_origin(&outputs).is_empty(), "everybody would fetch everything");
    let is_said = |output: &&Output| matches!(output, Output::Explain(Explanation::Mismatched { .. }));
    assert_eq!(outputs.iter().filter(is_said).count(), 1, "people hear of it");
    assert_eq!(bench.agent.counters().blobs_mismatched, 1);
    let has_nothing = |output: &Output| {
        matches!(output, Output::Notify { peer, notice } if peer.as_str() == "tracker"
            && matches!(&**notice, Notice::Have { pieces: Have::Exactly(bytes), .. } if bytes.iter().all(|byte| *byte == 0)))
    };
    assert!(
        outputs.iter().any(has_nothing) && outputs.iter().any(leaves),
        "others would think that it has what it has not"
    );
    // The tracker has fetched it by hand, and says by which midstates it goes.
    let spine = (1..4).map(|piece| (piece, Midstate([piece; 8]))).chain([(4, end())]).collect();
    bench.says("tracker", 4, spine, Have::All);
    let outputs = bench.served(|piece| {
        assert_eq!(piece, 3, "the others are right");
        Hashed::Chained(end())
    });
    assert!(outputs.iter().any(|output| matches!(output, Output::Commit { .. })), "{outputs:?}");
}

#[test]
fn a_spine_that_nothing_fits_is_not_believed() {
    let (mut bench, _) = mismatched(4);
    let spine = (1..4).map(|piece| (piece, Midstate([60 + piece; 8]))).chain([(4, end())]).collect();
    bench.says("liar", 4, spine, Have::All);
    let outputs = bench.served(|piece| {
        assert_eq!(piece, 3, "all of it was right, and the last piece tells");
        Hashed::Chained(Midstate([77; 8]))
    });
    assert!(!outputs.iter().any(|output| matches!(output, Output::Commit { .. })));
    let spine = (1..4).map(|piece| (piece, Midstate([piece; 8]))).chain([(4, end())]).collect();
    bench.says("honest", 4, spine, Have::All);
    let outputs = bench.served(|piece| {
        assert_eq!(piece, 3, "the others are right");
        Hashed::Chained(end())
    });
    assert!(outputs.iter().any(|output| matches!(output, Output::Commit { .. })), "{outputs:?}");
}

#[test]
fn after_a_mismatch_who_waits_in_vain_fetches_by_hand_what_only_others_have_as_well() {
    let (mut bench, _) = mismatched(9);
    bench.take();
    bench.pass(Duration::from_secs(2));
    let outputs = bench.take();
    let runs = Bench::runs_from_origin(&outputs);
    assert_eq!(runs.iter().map(|(_, first, count)| (*first, *count)).collect::<Vec<_>>(), [(0, 4), (4, 4)]);
    assert!(outputs.iter().any(leaves), "the tracker would think that it has what it has thrown away");
    // Somebody enrols who has the piece that was not given out yet.
    bench.enrolment(9, "other", digest(1), true);
    bench.says("other", 9, Vec::new(), Have::All);
    for (op, first, count) in runs {
        for piece in first..first + count {
            let hashed = Hashed::Alone([piece as u8; 32]);
            let event = TransferEvent::Piece { piece, bytes: MIN_PIECE_BYTES, hashed, claim: None };
            bench.input(Input::Transfer { op, event });
        }
        bench.input(Input::Transfer { op, event: TransferEvent::Done });
    }
    let mut outputs = bench.served(|_| panic!("nobody else's pieces count"));
    bench.pass(Duration::from_secs(4));
    outputs.append(&mut bench.outputs);
    let runs = Bench::runs_from_origin(&outputs);
    assert_eq!(runs.iter().map(|(_, first, count)| (*first, *count)).collect::<Vec<_>>(), [(8, 1)]);
}

#[test]
fn who_is_enrolled_after_it_has_left_says_so_again() {
    let (mut bench, outputs) = mismatched(4);
    // The enrolment is on its way while it gives up waiting, and may overtake the news of that.
    bench.outputs = outputs;
    let (neighbours, spine) = (Vec::new(), Vec::new());
    let call = bench.call_to("tracker");
    bench.pass(Duration::from_secs(2)).take();
    let reply =
        EnrolReply::Enrolled { size: Some(4 * MIN_PIECE_BYTES), neighbours, spine, private: false, quiet: None };
    bench.input(Input::Reply { call, response: Response::Enrol(reply) });
    assert!(bench.outputs.iter().any(leaves));
}

#[test]
fn who_fetches_by_hand_tells_those_who_follow_how_far_it_is_and_gives_them_nothing_to_fetch() {
    let (mut bench, _) = mismatched(4);
    bench.pass(Duration::from_secs(2));
    let reply = bench.enrolment(9, "other", digest(1), true);
    assert!(matches!(reply, Some(EnrolReply::Enrolled { .. })), "{reply:?}");
    bench.pass(Duration::from_secs(4));
    let assigns =
        |output: &Output| matches!(output, Output::Notify { notice, .. } if matches!(**notice, Notice::Assign { .. }));
    assert!(!bench.outputs.iter().any(assigns));
}

#[test]
fn bytes_that_were_for_nothing_are_no_reason_not_to_complain() {
    let mut bench = Bench::following("tracker", digest(1), None);
    bench.enrolled("tracker", 2 * MIN_PIECE_BYTES);
    bench.says("liar", 2, vec![(1, Midstate([66; 8]))], Have::Exactly(Vec::new()));
    for _ in 0..8 {
        // Right bytes, and they do not fit what the liar claims.
        bench.says("honest", 2, Vec::new(), Have::Exactly(Vec::new())).says("honest", 2, Vec::new(), Have::All);
        let others = bench.served(|piece| Hashed::Chained(Midstate([piece + 7; 8])));
        bench.outputs.extend(others.into_iter().filter(|output| matches!(output, Output::Notify { .. })));
        if bench.outputs.iter().any(is_complaint) {
            return;
        }
        bench.take();
        bench.pass(Duration::from_millis(500));
        if bench.outputs.iter().any(is_complaint) {
            return;
        }
    }
    panic!("the tracker never hears that nobody's pieces fit");
}

fn is_complaint(output: &Output) -> bool {
    matches!(output, Output::Notify { notice, .. } if matches!(**notice, Notice::Starving { .. }))
}

#[test]
fn what_a_convict_claimed_of_midstates_is_heard_from_others() {
    let mut bench = Bench::following("tracker", digest(1), None);
    bench.enrolled("tracker", 2 * MIN_PIECE_BYTES);
    bench.says("liar", 2, vec![(1, Midstate([66; 8]))], Have::All);
    bench.served(|_| Hashed::Chained(Midstate([1; 8])));
    bench.agent.convict(digest(1), &PeerId::new("liar"), "was found out");
    bench.says("honest", 2, vec![(1, Midstate([1; 8]))], Have::All);
    let end = Midstate::from_bytes(*digest(1).as_bytes());
    let outputs = bench.served(|piece| Hashed::Chained(if piece == 0 { Midstate([1; 8]) } else { end }));
    assert!(outputs.iter().any(|output| matches!(output, Output::Commit { .. })));
}

#[test]
fn what_was_released_before_a_mismatch_is_served_to_nobody() {
    let mut bench = Bench::following("tracker", digest(1), None);
    bench.enrolled("tracker", 2 * MIN_PIECE_BYTES).says("tracker", 2, Vec::new(), Have::All);
    // For so long the digest is refused in any case.
    bench.agent.config.body_timeout = Duration::from_secs(1);
    // All of it comes, was released on the way, and is another blob.
    let outputs = bench.served(|piece| Hashed::Alone([piece as u8; 32]));
    assert!(outputs.iter().any(|output| matches!(output, Output::Release { .. })));
    for again in 0..3 {
        bench.take();
        bench.get(100 + again, digest(1), None);
        // It waits for what is right, for as long as it may.
        bench.pass(Duration::from_secs(25));
        let outputs = bench.take();
        assert!(!is_served(&outputs) && refusals(&outputs).contains(&&Refusal::NotHere), "{outputs:?}");
    }
}

#[test]
fn a_leader_that_may_not_ask_the_origin_gives_up_when_those_who_could_give_it_lies() {
    let mut bench = Bench::asked_to_pull();
    let op = stat_op(&bench.outputs);
    let reply = bench.enrolment(1, "liar", digest(1), true);
    assert!(matches!(reply, Some(EnrolReply::Enrolled { .. })), "{reply:?}");
    bench.turn_away(op);
    bench.says("liar", 1, Vec::new(), Have::Exactly(Vec::new())).says("liar", 1, Vec::new(), Have::All);
    bench.served(|_| Hashed::Chained(Midstate([66; 8])));
    bench.pass(Duration::from_secs(20));
    assert_eq!(bench.agent.status().flights.len(), 1, "the next one who comes may have it");
    bench.pass(Duration::from_secs(20));
    assert!(bench.agent.status().flights.is_empty(), "it would say for minutes that it is pulling");
    let failed =
        |output: &Output| matches!(output, Output::Explain(Explanation::Failed { class: FailureClass::Auth, .. }));
    assert!(bench.outputs.iter().any(failed), "whoever has a credential is not held up");
}

#[test]
fn a_leader_that_may_not_ask_the_origin_takes_what_comes_late() {
    let mut bench = Bench::asked_to_pull();
    let op = stat_op(&bench.outputs);
    bench.enrolment(1, "slow", digest(1), true);
    bench.turn_away(op);
    bench.says("slow", 1, Vec::new(), Have::Exactly(Vec::new()));
    for stream in 2..10 {
        bench.pass(Duration::from_secs(5)).enrolment(stream, "slow", digest(1), true);
    }
    bench.take();
    bench.says("slow", 1, Vec::new(), Have::All);
    assert!(bench.outputs.iter().any(|output| matches!(output, Output::FetchPiece { .. })));
    assert_eq!(bench.agent.status().flights.len(), 1);
}

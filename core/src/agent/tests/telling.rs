//! Who is told of what is here, and who is told that nothing comes.

use super::*;
use crate::input::{Hashed, TransferEvent};
use crate::message::{EnrolReply, Have, Notice, PieceSum};
use crate::output::Check;
use crate::piece::MIN_PIECE_BYTES;
use crate::spine::Midstate;

const PIECES: u64 = 4;

/// What a peer says it has.
fn have(pieces: Have) -> Notice {
    let size = Some(PIECES * MIN_PIECE_BYTES);
    Notice::Have { digest: digest(1), size, pieces, sums: Vec::new(), spine: Vec::new(), private: false }
}

impl Bench {
    /// It follows a tracker, and has got the first piece from `peer`, which has no other.
    fn with_a_piece_of(peer: &str) -> Self {
        let mut bench = Self::following("tracker", digest(1), None);
        bench.enrolled("tracker", PIECES * MIN_PIECE_BYTES);
        bench.notice(peer, have(Have::Exactly(vec![1])));
        let fetch = bench.take().into_iter().find_map(|output| match output {
            Output::FetchPiece { op, piece: 0, .. } => Some(op),
            _ => None,
        });
        let op = fetch.expect("it is asked for what it has");
        let sum = PieceSum { piece: 0, sum: [7; 32], author: PeerId::new(peer) };
        let event =
            TransferEvent::Piece { piece: 0, bytes: MIN_PIECE_BYTES, hashed: Hashed::Alone(sum.sum), claim: Some(sum) };
        bench.input(Input::Transfer { op, event }).input(Input::Transfer { op, event: TransferEvent::Done });
        bench.pass(Duration::from_secs(1));
        assert_eq!(bench.told(peer), [], "it has that piece itself");
        bench
    }

    /// What a peer was told of since the last look.
    fn told(&mut self, peer: &str) -> Vec<Have> {
        let told = |output| match output {
            Output::Notify { peer: whom, notice } if whom.as_str() == peer => match &*notice {
                Notice::Have { pieces, .. } => Some(pieces.clone()),
                _ => None,
            },
            _ => None,
        };
        self.take().into_iter().filter_map(told).collect()
    }
}

#[test]
fn a_neighbour_that_has_lost_what_it_had_is_told_of_it() {
    let mut bench = Bench::with_a_piece_of("a");
    bench.notice("a", have(Have::Exactly(vec![0])));
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.told("a"), [Have::Also(vec![0])]);
    // It may say so again: that is no news.
    bench.notice("a", have(Have::Exactly(vec![0])));
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.told("a"), []);
}

#[test]
fn a_neighbour_that_was_disconnected_is_greeted_when_it_greets() {
    let mut bench = Bench::with_a_piece_of("a");
    bench.input(Input::Disconnected { peer: PeerId::new("a") });
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.told("a"), [], "nobody is there");
    bench.notice("a", have(Have::Exactly(vec![1])));
    assert_eq!(bench.told("a"), [Have::Exactly(vec![1])]);
    bench.notice("a", have(Have::Exactly(vec![1])));
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.told("a"), [], "a greeting is answered once");
}

#[test]
fn who_is_sent_what_does_not_fit_tells_the_tracker_although_others_could_be_asked_for_ever() {
    let mut bench = Bench::following("tracker", digest(1), None);
    bench.enrolled("tracker", PIECES * MIN_PIECE_BYTES).take();
    let begun = bench.now;
    let Notice::Have { digest, size, pieces, sums, private, .. } = have(Have::Exactly(vec![1])) else { return };
    let spine = vec![(1, Midstate::from_bytes([66; 32]))];
    bench.notice("liar", Notice::Have { digest, size, pieces, sums, spine, private });
    let mut came = 0;
    for number in 0.. {
        // There is always somebody else to ask. The first one sends what does not fit, the others nothing.
        bench.notice(&format!("peer-{number}"), have(Have::All));
        bench.pass(Duration::from_secs(1));
        let waited = (bench.now - begun).as_secs();
        let mut complains = false;
        for output in bench.take() {
            match output {
                Output::FetchPiece { op, piece: 0, check: Check::From(_), .. } if came == 0 => {
                    let hashed = Hashed::Chained(Midstate::from_bytes([77; 32]));
                    let event = TransferEvent::Piece { piece: 0, bytes: MIN_PIECE_BYTES, hashed, claim: None };
                    bench.input(Input::Transfer { op, event });
                    bench.input(Input::Transfer { op, event: TransferEvent::Done });
                    came += 1;
                }
                Output::Notify { notice, .. } if matches!(*notice, Notice::Starving { .. }) => complains = true,
                Output::Call { call, request: Request::Enrol(_), .. } => {
                    let (neighbours, spine) = (Vec::new(), Vec::new());
                    let reply = EnrolReply::Enrolled { size, neighbours, spine, private, quiet: None };
                    bench.input(Input::Reply { call, response: Response::Enrol(reply) });
                }
                _ => {}
            }
        }
        if complains {
            assert!(came == 1 && (15..=18).contains(&waited), "after {waited} s, {came} came");
            return;
        }
        assert!(waited < 30, "nobody is told");
    }
}

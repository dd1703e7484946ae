//! What must not go round in circles, and what must not take longer than somebody waits.

use super::*;
use crate::message::{EnrolReply, Notice, PieceRefusal, PieceRequest};
use crate::names::CallId;

/// Calls to enrol since the outputs were last taken.
fn enrolments(outputs: &[Output]) -> Vec<CallId> {
    let enrolment = |output: &Output| match output {
        Output::Call { call, request: Request::Enrol(_), .. } => Some(*call),
        _ => None,
    };
    outputs.iter().filter_map(enrolment).collect()
}

#[test]
fn a_tracker_that_enrols_and_leaves_at_once_is_not_asked_faster() {
    let mut bench = Bench::following("tracker", digest(1), None);
    let mut asked = 0;
    for _ in 0..1000 {
        for call in enrolments(&bench.take()) {
            asked += 1;
            let (neighbours, spine) = (Vec::new(), Vec::new());
            let reply = EnrolReply::Enrolled { size: None, neighbours, spine, private: false, quiet: None };
            bench.input(Input::Reply { call, response: Response::Enrol(reply) });
            bench.notice("tracker", Notice::Leave { digest: digest(1) });
        }
        bench.pass(Duration::from_millis(1));
    }
    assert!((10..=21).contains(&asked), "{asked} enrolments in a second");
}

impl Bench {
    /// A node that was asked to pull, and leads. It has asked the origin for the size.
    pub(super) fn asked_to_pull() -> Self {
        let mut bench = Self::new(|_| {});
        bench.input(Input::Members(Roster::new(vec![member("other"), member("third")])));
        let stream = StreamId(50);
        bench.input(Input::StreamOpened { stream, peer: PeerId::new("other"), protocol: Protocol::Coord });
        let batch =
            PleasePull { digests: vec![digest(1)], source: source(Kind::Blob), resuming: false, origin_has_it: false };
        bench.input(Input::StreamRequest { stream, request: Request::PleasePull(batch) });
        bench.pass(Duration::from_secs(4));
        bench
    }

    /// The origin wants a credential, and there is none.
    pub(super) fn turn_away(&mut self, op: OpId) -> &mut Self {
        self.input(Input::OriginStat { op, result: Err(auth_failure(&[])) })
    }
}

pub(super) fn auth_failure(challenge: &[&str]) -> OriginFailure {
    OriginFailure {
        class: FailureClass::Auth,
        status: Some(401),
        retry_after: None,
        challenge: challenge.iter().map(|words| (*words).into()).collect(),
        detail: "401".into(),
    }
}

/// A node that the origin has turned away: it cannot lead by itself.
fn turned_away() -> Bench {
    let mut bench = Bench::asked_to_pull();
    let op = stat_op(&bench.outputs);
    bench.turn_away(op).pass(Duration::from_secs(1));
    assert!(bench.agent.status().flights.is_empty(), "nobody who takes part can ask the origin");
    bench.take();
    bench
}

#[test]
fn a_node_that_was_turned_away_leads_those_who_can_ask_without_a_cascade_that_would_end_it() {
    let mut bench = turned_away();
    let reply = bench.enrolment(1, "other", digest(1), true);
    assert!(matches!(reply, Some(EnrolReply::Enrolled { .. })), "{reply:?}");
    assert_eq!(bench.agent.status().flights[0].role, "leading");
    bench.pass(Duration::from_secs(1));
    let notices = bench.outputs.iter().filter_map(|output| match output {
        Output::Notify { notice, .. } => Some(&**notice),
        _ => None,
    });
    let notices: Vec<_> = notices.collect();
    assert!(notices.iter().any(|notice| matches!(notice, Notice::Assign { .. })), "{notices:?}");
    assert!(!notices.iter().any(|notice| matches!(notice, Notice::Leave { .. })), "{notices:?}");
}

#[test]
fn the_origins_word_on_a_requester_is_not_waited_for_longer_than_the_requester_waits() {
    for credential in [None, Some(7)] {
        let mut bench = Bench::new(|config| config.auth_check = AuthCheck::Origin);
        bench.get(1, digest(1), credential);
        bench.pass(bench.agent.config().header_timeout);
        assert_eq!(refusals(&bench.outputs), [&Refusal::NotHere]);
    }
}

#[test]
fn whoever_asks_while_uploads_stand_still_is_told_to_wait_longer() {
    let mut bench = Bench::with_blobs(vec![blob(1, 10, false)], |_| {});
    let mut refused = Vec::new();
    let uploads = u64::from(bench.agent.config().max_uploads);
    for (number, wait) in (0..uploads).map(|number| (number, 0)).chain([(10, 0), (11, 40), (12, 5000)]) {
        bench.pass(Duration::from_millis(wait));
        let stream = StreamId(number);
        bench.input(Input::StreamOpened { stream, peer: PeerId::new("asker"), protocol: Protocol::Swarm });
        bench.input(Input::PieceRequested { stream, request: PieceRequest { digest: digest(1), size: 10, piece: 0 } });
        refused.extend(bench.take().into_iter().filter_map(|output| match output {
            Output::PieceRefuse { refusal: PieceRefusal::Busy(after), .. } => Some(after),
            _ => None,
        }));
    }
    let [first, second, last] = refused[..] else { panic!("{refused:?}") };
    assert!(first < Duration::from_millis(14) && second >= first && last == Duration::from_millis(500), "{refused:?}");
}

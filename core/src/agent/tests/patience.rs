//! Who waits for whom, and for how long.

use super::*;
use crate::input::{TransferEvent, TransferFailure};
use crate::message::{EnrolReply, Have, Notice, PieceRefusal};
use crate::output::Explanation;
use crate::piece::MIN_PIECE_BYTES;
use crate::resolve::stall_window;

fn stat_ops(outputs: &[Output]) -> Vec<OpId> {
    let asked = |output: &Output| match output {
        Output::StatOrigin { op, .. } => Some(*op),
        _ => None,
    };
    outputs.iter().filter_map(asked).collect()
}

impl Bench {
    /// Four private blobs that are here, asked for at once.
    fn four_private(configure: impl FnOnce(&mut Config)) -> Self {
        let blobs = (1..=4).map(|number| blob(number, 10, true)).collect();
        let mut bench = Self::with_blobs(blobs, |config| {
            config.auth_check = AuthCheck::Origin;
            configure(config);
        });
        for number in 1..=4 {
            bench.get(u64::from(number), digest(number), Some(7));
        }
        bench
    }

    fn too_many(&mut self, op: OpId, retry_after: Option<Duration>) -> &mut Self {
        let failure = OriginFailure {
            class: FailureClass::RateLimited,
            status: Some(429),
            retry_after,
            challenge: Vec::new(),
            detail: "429".into(),
        };
        self.input(Input::OriginStat { op, result: Err(failure) })
    }

    fn found(&mut self, op: OpId) -> &mut Self {
        self.input(Input::OriginStat { op, result: Ok(OriginStat { size: 10, media_type: None }) })
    }
}

#[test]
fn a_registry_that_limits_us_is_asked_one_question_at_a_time_and_all_are_served() {
    let mut bench = Bench::four_private(|_| {});
    let asked = stat_ops(&bench.take());
    assert_eq!(asked.len(), 4);
    bench.found(asked[0]);
    for op in &asked[1..] {
        bench.too_many(*op, Some(Duration::from_secs(1)));
    }
    let mut served = bench.take().iter().filter(|output| matches!(output, Output::MirrorServe { .. })).count();
    let mut questions = 0;
    let start = bench.now;
    while served < 4 {
        assert!(bench.now - start < Duration::from_secs(10), "{served} are served");
        bench.pass(Duration::from_millis(990));
        assert!(questions > 0 || stat_ops(&bench.outputs).is_empty(), "it comes back too early");
        bench.pass(Duration::from_millis(500));
        let outputs = bench.take();
        assert_eq!(refusals(&outputs), Vec::<&Refusal>::new());
        let [op] = stat_ops(&outputs)[..] else { panic!("one question at a time: {outputs:?}") };
        questions += 1;
        bench.found(op);
        // The next question comes at once, and is one too many.
        let outputs = bench.take();
        served += usize::from(is_served(&outputs));
        for op in stat_ops(&outputs) {
            bench.too_many(op, None);
        }
    }
    bench.pass(Duration::from_secs(100));
    assert_eq!((stat_ops(&bench.outputs), bench.agent.limited.len()), (Vec::new(), 0));
}

#[test]
fn who_would_have_to_wait_longer_than_containerd_does_is_refused_at_once() {
    let mut bench = Bench::four_private(|_| {});
    let asked = stat_ops(&bench.take());
    bench.too_many(asked[0], Some(Duration::from_secs(60)));
    assert_eq!(refusals(&bench.take()), [&Refusal::NotHere]);
    bench.too_many(asked[1], Some(Duration::from_secs(5)));
    assert!(bench.take().is_empty());
    // What is said later counts for those who wait already.
    bench.too_many(asked[2], Some(Duration::from_secs(60)));
    assert_eq!(refusals(&bench.take()), [&Refusal::NotHere; 2]);
    bench.found(asked[3]);
    assert!(is_served(&bench.take()));
    assert!(bench.agent.limited.is_empty());
}

#[test]
fn whose_turn_it_is_may_leave_and_the_next_one_is_asked_for() {
    let mut bench = Bench::four_private(|_| {});
    for op in stat_ops(&bench.take()) {
        bench.too_many(op, None);
    }
    bench.input(Input::MirrorClosed { request: RequestId(1), sent_bytes: 0 });
    bench.pass(Duration::from_secs(2));
    let [op] = stat_ops(&bench.take())[..] else { panic!("nobody asks") };
    // It leaves while the answer is on its way.
    bench.input(Input::MirrorClosed { request: RequestId(2), sent_bytes: 0 });
    bench.found(op);
    assert_eq!(stat_ops(&bench.outputs).len(), 1);
}

fn complaints(outputs: &[Output]) -> usize {
    let is_complaint = |output: &&Output| matches!(output, Output::Notify { notice, .. } if matches!(**notice, Notice::Starving { .. }));
    outputs.iter().filter(is_complaint).count()
}

#[test]
fn who_waits_for_somebody_busy_does_not_starve_until_that_takes_too_long() {
    let mut bench = Bench::following("tracker", digest(1), None);
    bench.enrolled("tracker", 2 * MIN_PIECE_BYTES);
    let size = Some(2 * MIN_PIECE_BYTES);
    let (sums, spine) = (Vec::new(), Vec::new());
    bench.notice("tracker", Notice::Have { digest: digest(1), size, pieces: Have::All, sums, spine, private: false });
    let begun = bench.now;
    loop {
        let outputs = bench.take();
        let waited = bench.now - begun;
        if complaints(&outputs) > 0 {
            assert!((2..=4).contains(&waited.as_secs()), "{waited:?}");
            return;
        }
        assert!(waited < Duration::from_secs(60), "whoever says for ever that it is busy is believed for ever");
        for output in outputs {
            match output {
                Output::FetchPiece { op, .. } => {
                    let busy = TransferFailure::Refused(PieceRefusal::Busy(Duration::from_millis(300)));
                    bench.input(Input::Transfer { op, event: TransferEvent::Failed(busy) });
                }
                Output::Call { call, request: Request::Enrol(_), .. } => {
                    let (neighbours, spine) = (Vec::new(), Vec::new());
                    let reply = EnrolReply::Enrolled { size, neighbours, spine, private: false, quiet: None };
                    bench.input(Input::Reply { call, response: Response::Enrol(reply) });
                }
                _ => {}
            }
        }
        bench.pass(Duration::from_millis(10));
    }
}

#[test]
fn a_flight_that_others_wait_for_runs_besides_those_that_may() {
    let mut bench = Bench::new(|config| config.max_running_flights = 1);
    bench.get(1, digest(1), None).get(2, digest(2), None).get(3, digest(3), None);
    let stages = |bench: &Bench| -> Vec<_> {
        bench.agent.status().flights.into_iter().map(|flight| flight.stage != "queued").collect()
    };
    assert_eq!(stages(&bench), [true, false, false]);
    for stream in 1..=2 {
        assert_eq!(stages(&bench), [true, false, false], "it may get its turn soon");
        bench.pass(Duration::from_secs(5));
        let reply = bench.enrolment(stream, "other", digest(2), true);
        assert!(matches!(reply, Some(EnrolReply::Enrolled { .. })), "{reply:?}");
    }
    assert_eq!(stages(&bench), [true, true, false]);
    assert_eq!(bench.agent.contradiction(), None);
    // It takes nobody's place, and leaves none.
    let stat = OriginStat { size: 10, media_type: None };
    let op = stat_ops(&bench.outputs)[0];
    bench.input(Input::OriginStat { op, result: Ok(stat) });
    assert_eq!(stages(&bench), [true, true, false]);
}

#[test]
fn a_better_leader_that_is_still_known_as_a_participant_is_given_way_to() {
    let mut bench = Bench::new(|_| {});
    bench.input(Input::Members(Roster::new(vec![member("other"), member("third")])));
    // For one of these, another node ranks first.
    let led_by_other = |number: &u8| bench.agent.members.top(&digest(*number), 1)[0].as_str() == "other";
    let number = (1..100).find(led_by_other).expect("somebody else's blob");
    bench.get(1, digest(number), None);
    // Nobody answers: this node leads.
    bench.pass(Duration::from_secs(10));
    assert_eq!(bench.agent.status().flights[0].role, "leading");
    bench.enrolment(9, "other", digest(number), true);
    for moves in [None, Some(Duration::from_millis(1))] {
        bench.take();
        let call = loop {
            bench.pass(Duration::from_millis(100));
            let looks = bench.outputs.iter().find_map(|output| match output {
                Output::Call { call, peer, request: Request::PullIntent { .. }, .. } if peer.as_str() == "other" => {
                    Some(*call)
                }
                _ => None,
            });
            if let Some(call) = looks {
                break call;
            }
        };
        let intent =
            PullIntent { has_cached: moves.is_none(), in_flight_for: moves, idle_for: moves, ..PullIntent::default() };
        bench.input(Input::Reply { call, response: Response::PullIntent(intent) });
        let role = &bench.agent.status().flights[0].role;
        assert_eq!(*role, if moves.is_some() { "following" } else { "leading" });
    }
}

#[test]
fn a_participant_that_nobody_waits_for_and_that_may_not_ask_ends_when_two_trackers_did_not_help() {
    let mut bench = Bench::following("tracker", digest(1), None);
    bench.enrolled("tracker", 2 * MIN_PIECE_BYTES);
    bench.input(Input::MirrorClosed { request: RequestId(1), sent_bytes: 0 });
    if let Some(flight) = bench.agent.flights.get_mut(&digest(1)) {
        flight.turned_away = true;
    }
    let stall = stall_window(Kind::Blob, Some(2 * MIN_PIECE_BYTES));
    bench.pass(stall + Duration::from_secs(1));
    let call = bench.outputs.iter().rev().find_map(|output| match output {
        Output::Call { call, peer, request: Request::PullIntent { .. }, .. } if peer.as_str() == "tracker" => {
            Some(*call)
        }
        _ => None,
    });
    // It was passed over, and nobody else leads.
    if let Some(call) = call {
        let moves = Some(Duration::from_millis(1));
        let intent = PullIntent { in_flight_for: moves, idle_for: moves, ..PullIntent::default() };
        bench.input(Input::Reply { call, response: Response::PullIntent(intent) });
    }
    bench.pass(2 * stall);
    assert!(bench.agent.status().flights.is_empty());
    let failed = |output: &Output| matches!(output, Output::Explain(Explanation::Failed { .. }));
    assert!(bench.outputs.iter().any(failed));
}

/// What becomes of a request none of whose own bytes come, and after how many seconds, if others of its registry come in those that
/// `comes` says, and the registry answers questions as `answer` says (`None`: not at all).
fn ends(comes: impl Fn(u64) -> bool, answer: Option<&Result<OriginStat, OriginFailure>>) -> (&'static str, u64) {
    let mut bench = Bench::following("tracker", digest(1), None);
    bench.enrolled("tracker", 8 * MIN_PIECE_BYTES);
    let registry = source(Kind::Blob).registry;
    for second in 1..1000 {
        // That nothing comes of this blob is no failure of its flight.
        bench.agent.failures.origin_answered(bench.now, &registry);
        if comes(second) {
            bench.agent.failures.bytes_came(bench.now, &registry);
        }
        bench.pass(Duration::from_secs(1));
        for op in stat_ops(&bench.outputs) {
            if let Some(result) = answer.cloned() {
                bench.input(Input::OriginStat { op, result });
            }
        }
        let outputs = bench.take();
        if !refusals(&outputs).is_empty() {
            return ("refused", second);
        }
        if outputs.contains(&Output::MirrorAbort { request: RequestId(1) }) {
            return ("cut", second);
        }
    }
    panic!("it is left open for ever");
}

#[test]
fn a_reader_is_left_waiting_while_anything_comes_from_its_registry_but_not_for_ever() {
    let has_it = Ok(OriginStat { size: 8 * MIN_PIECE_BYTES, media_type: None });
    let ends = |comes: fn(u64) -> bool| ends(comes, Some(&has_it));
    assert_eq!(ends(|_| false), ("refused", 20));
    // Headers go out after 20 s; a body that nothing comes for is cut after 30 s, and five that the swarm is given when the registry
    // says that it has it.
    let cut = |comes| matches!(ends(comes), ("cut", _)).then(|| ends(comes).1);
    assert!(cut(|second| second == 10).is_some_and(|second| (55..=57).contains(&second)), "two for asking one by one");
    assert!(cut(|second| second == 10 || second == 41).is_some_and(|second| (75..=77).contains(&second)));
    assert_eq!(ends(|second| second % 10 == 0), ("cut", 20 + 120));
    // What came before says nothing.
    assert_eq!(ends(|second| second > 21), ("refused", 20));
}

#[test]
fn a_body_waits_as_long_as_the_registry_is_out_of_order_but_not_for_ever() {
    let failed = |class, status| {
        let detail: std::sync::Arc<str> = "no".into();
        Err(OriginFailure { class, status: Some(status), retry_after: None, challenge: Vec::new(), detail })
    };
    let ends = |answer: Option<Result<_, _>>| ends(|second| second == 10, answer.as_ref());
    assert_eq!(ends(Some(failed(FailureClass::Transient, 503))), ("cut", 20 + 120));
    assert_eq!(ends(None), ("cut", 20 + 120));
    // containerd is told so by the registry itself.
    let (end, second) = ends(Some(failed(FailureClass::NotFound, 404)));
    assert!(end == "cut" && (50..=52).contains(&second), "{end} {second}");
}

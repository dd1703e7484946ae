//! Who leads, when several do, or nobody whom the others ask.

use super::*;
use crate::input::CallError;
use crate::message::{Neighbour, PullResult, RecentFailure};
use crate::names::CallId;

const OTHERS: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

impl Bench {
    /// A node among [`OTHERS`], and a digest for which as many rank before it as `better` says.
    fn ranked_after(better: impl Fn(usize) -> bool) -> (Self, Digest) {
        let mut bench = Self::new(|_| {});
        bench.input(Input::Members(Roster::new(OTHERS.map(member).to_vec())));
        let ranks_so = |digest: &Digest| better(bench.before_own(digest).len());
        let digest = (1..=255).map(digest).find(ranks_so).expect("some digest ranks so");
        (bench, digest)
    }

    /// Those who rank before this node, the best first.
    fn before_own(&self, digest: &Digest) -> Vec<PeerId> {
        let ranked = self.agent.members.ranked(digest);
        ranked.take_while(|peer| peer.as_str() != "me").cloned().collect()
    }

    /// Those after it.
    fn after_own(&self, digest: &Digest) -> Vec<PeerId> {
        self.agent.members.ranked(digest).skip_while(|peer| peer.as_str() != "me").skip(1).cloned().collect()
    }

    /// What others were asked since the last look.
    fn calls(&mut self) -> Vec<(CallId, PeerId, Request)> {
        let called = |output| match output {
            Output::Call { call, peer, request, .. } => Some((call, peer, request)),
            _ => None,
        };
        self.take().into_iter().filter_map(called).collect()
    }

    fn answer(&mut self, call: CallId, intent: PullIntent) -> &mut Self {
        self.input(Input::Reply { call, response: Response::PullIntent(intent) })
    }

    /// It leads, because nobody answered when it asked.
    fn leads_alone(&mut self, digest: Digest) {
        self.get(1, digest, None);
        for _ in 0..50 {
            for (call, _, _) in self.calls() {
                self.input(Input::CallFailed { call, error: CallError::Unreachable });
            }
            self.pass(Duration::from_millis(100));
        }
        assert_eq!(self.role(), "leading");
        // Those who could not be reached can be again.
        self.pass(Duration::from_secs(5)).take();
    }

    fn pull_asked(&mut self, stream: u64, origin_has_it: bool) -> PullOutcome {
        let batch = PleasePull { digests: vec![digest(1)], source: source(Kind::Blob), resuming: false, origin_has_it };
        match self.call(stream, Request::PleasePull(batch)) {
            Some(Response::PleasePull(results)) => results[0].outcome,
            other => panic!("{other:?}"),
        }
    }

    fn role(&self) -> String {
        self.agent.status().flights[0].role.to_string()
    }
}

fn follows(peer: &PeerId) -> PullIntent {
    let leader = Neighbour { peer: peer.clone(), addresses: Vec::new(), zone: None };
    PullIntent { follows: Some(leader), ..PullIntent::default() }
}

fn pulling(idle: Duration) -> PullIntent {
    PullIntent { in_flight_for: Some(Duration::from_secs(90)), idle_for: Some(idle), ..PullIntent::default() }
}

fn failed(class: FailureClass) -> RecentFailure {
    RecentFailure { class, cooldown: Duration::from_secs(60) }
}

#[test]
fn whom_the_best_follow_is_asked_and_given_way_to_if_it_ranks_before_this_node() {
    for is_better in [true, false] {
        let (mut bench, digest) = Bench::ranked_after(|better| better == 6);
        let before = bench.before_own(&digest);
        let leader = if is_better { before[5].clone() } else { bench.after_own(&digest).remove(0) };
        bench.leads_alone(digest);
        let mut is_asked = false;
        for _ in 0..80 {
            for (call, peer, request) in bench.calls() {
                let Request::PullIntent { leads, .. } = request else { continue };
                assert!(leads, "the other one has to know");
                is_asked |= peer == leader;
                let intent = if peer == leader { pulling(Duration::from_secs(1)) } else { follows(&leader) };
                bench.answer(call, intent);
            }
            if bench.role() != "leading" {
                break;
            }
            bench.pass(Duration::from_millis(100));
        }
        assert!(is_asked);
        assert_eq!(bench.role(), if is_better { "following" } else { "leading" });
    }
}

#[test]
fn a_leader_that_is_asked_by_another_one_looks_at_it_in_its_turn() {
    for leads in [true, false] {
        let (mut bench, digest) = Bench::ranked_after(|better| better == 6);
        // It would not be looked at otherwise: it ranks behind.
        let asker = bench.after_own(&digest).remove(0);
        bench.leads_alone(digest);
        bench.input(Input::StreamOpened { stream: StreamId(1), peer: asker.clone(), protocol: Protocol::Coord });
        let request = Request::PullIntent { digest, leads };
        bench.input(Input::StreamRequest { stream: StreamId(1), request });
        let mut looks = 0;
        for _ in 0..80 {
            for (call, peer, _) in bench.calls() {
                looks += usize::from(peer == asker);
                bench.answer(call, if peer == asker { pulling(Duration::ZERO) } else { PullIntent::default() });
            }
            bench.pass(Duration::from_millis(100));
        }
        assert_eq!((looks, bench.role()), (usize::from(leads), "leading".into()));
    }
}

#[test]
fn a_better_leader_is_found_behind_those_who_take_no_part() {
    let (mut bench, digest) = Bench::ranked_after(|better| better >= 5);
    let better = bench.before_own(&digest);
    bench.leads_alone(digest);
    let mut asked = std::collections::BTreeSet::new();
    for _ in 0..100 {
        for (call, peer, _) in bench.calls() {
            bench.answer(call, PullIntent::default());
            asked.insert(peer);
        }
        bench.pass(Duration::from_millis(100));
    }
    assert_eq!(asked, better.into_iter().collect());
    assert_eq!(bench.role(), "leading");
}

#[test]
fn who_follows_somebody_says_whom() {
    let mut bench = Bench::following("tracker", digest(1), None);
    let Some(Response::PullIntent(intent)) = bench.call(1, Request::PullIntent { digest: digest(1), leads: false })
    else {
        panic!("no answer")
    };
    assert_eq!(intent.in_flight_for, None);
    assert_eq!(intent.follows.map(|leader| leader.peer), Some(PeerId::new("tracker")));
}

#[test]
fn who_finds_that_the_origin_has_it_after_all_asks_the_best_to_pull() {
    asks_the_best_to_pull(FailureClass::NotFound, FailureClass::RateLimited);
}

#[test]
fn that_a_node_could_not_get_it_is_no_reason_not_to_ask_the_origin() {
    // Its disk is full, say.
    asks_the_best_to_pull(FailureClass::Transient, FailureClass::Transient);
}

/// The best nodes say that this was `told`, the origin has it, and the best of all declines because of `declined`.
fn asks_the_best_to_pull(told: FailureClass, declined: FailureClass) {
    let (mut bench, digest) = Bench::ranked_after(|better| better >= 2);
    let better = bench.before_own(&digest);
    bench.get(1, digest, None);
    let mut asked_to_pull = Vec::new();
    for _ in 0..10 {
        for output in bench.take() {
            match output {
                Output::StatOrigin { op, .. } => {
                    let stat = OriginStat { size: 10, media_type: None };
                    bench.input(Input::OriginStat { op, result: Ok(stat) });
                }
                Output::Call { call, request: Request::PullIntent { .. }, .. } => {
                    let recently_failed = Some(failed(told));
                    bench.answer(call, PullIntent { recently_failed, ..PullIntent::default() });
                }
                Output::Call { call, peer, request: Request::PleasePull(batch), .. } => {
                    assert!(batch.origin_has_it);
                    // The best one was asked for too much.
                    let outcome = match asked_to_pull.len() {
                        0 => PullOutcome::RecentlyFailed(failed(declined)),
                        _ => PullOutcome::Started,
                    };
                    asked_to_pull.push(peer);
                    let results = vec![PullResult { digest, outcome }];
                    bench.input(Input::Reply { call, response: Response::PleasePull(results) });
                }
                _ => {}
            }
        }
        bench.pass(Duration::from_millis(10));
    }
    assert_eq!(asked_to_pull, better[..2]);
    assert_eq!(bench.role(), "following");
}

#[test]
fn what_was_not_there_is_led_for_those_who_know_better_and_not_asked_for_in_the_cool_down() {
    let mut bench = Bench::not_there();
    let asks = |output: &Output| matches!(output, Output::FetchOrigin { .. } | Output::StatOrigin { .. });
    let told = |bench: &Bench| bench.agent.failures.recent(bench.now, &digest(1));
    for stream in 1..3 {
        // Whoever asked for it does not come: the failure is what it was.
        assert_eq!(bench.pull_asked(stream, true), PullOutcome::Started);
        bench.pass(Duration::from_secs(2));
        assert!(bench.agent.status().flights.is_empty());
        let left = Duration::from_secs(10 - 2 * stream);
        assert_eq!(told(&bench), Some(RecentFailure { class: FailureClass::NotFound, cooldown: left }));
        assert!(matches!(bench.pull_asked(10 + stream, false), PullOutcome::RecentlyFailed(_)));
    }
    assert_eq!(bench.pull_asked(3, true), PullOutcome::Started);
    let reply = bench.enrolment(4, "other", digest(1), true);
    assert!(matches!(reply, Some(crate::message::EnrolReply::Enrolled { .. })), "{reply:?}");
    bench.pass(Duration::from_secs(5));
    assert!(!bench.take().iter().any(asks));
    assert_eq!(bench.role(), "leading");
    // Its cool-down is over, and the other one has gone.
    bench.pass(Duration::from_secs(20));
    assert!(bench.take().iter().any(asks));
    assert_eq!(bench.role(), "leading");
}

#[test]
fn what_was_not_there_is_looked_for_again_when_containerd_comes_back() {
    let mut bench = Bench::not_there();
    // The rest of a body that was cut: it goes on to the next host.
    bench.get(2, digest(1), None);
    assert_eq!(refusals(&bench.take()), [&Refusal::NotHere]);
    // The kubelet's next try, in the same cool-down.
    for (request, is_there) in [(3, false), (4, true)] {
        bench.pass(crate::failures::LOOK_AGAIN);
        bench.get(request, digest(1), None);
        let outputs = bench.take();
        assert!(refusals(&outputs).is_empty());
        assert!(!outputs.iter().any(|output| matches!(output, Output::FetchOrigin { .. })));
        let result = if is_there { Ok(OriginStat { size: 10, media_type: None }) } else { Err(not_found()) };
        bench.input(Input::OriginStat { op: stat_op(&outputs), result });
        if !is_there {
            assert_eq!(refusals(&bench.take()), [&Refusal::NotHere]);
        }
    }
    assert_eq!(bench.role(), "leading");
    assert_eq!(bench.agent.failures.recent(bench.now, &digest(1)), None);
}

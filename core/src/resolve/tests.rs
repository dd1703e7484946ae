use super::*;
use proptest::prelude::*;

fn peer(number: usize) -> PeerId {
    PeerId::new(&format!("p{number}"))
}

/// A cascade among `nodes` ranked nodes, `own` being this one's rank.
fn cascade(own: usize, nodes: usize) -> Cascade {
    cascade_with(own, nodes, |_| {})
}

fn cascade_with(own: usize, nodes: usize, change: impl FnOnce(&mut Situation)) -> Cascade {
    let ranked: Vec<_> = (0..nodes).map(peer).collect();
    let mut situation = Situation {
        own: peer(own),
        own_intent: PullIntent::default(),
        best: ranked.clone(),
        ranked,
        width: 3,
        stall: Duration::from_secs(30),
        has_credential: false,
        origin_has_it: false,
        health: 1.0,
    };
    change(&mut situation);
    Cascade::new(situation)
}

fn failed(class: FailureClass, seconds: u64) -> PullIntent {
    let failure = RecentFailure { class, cooldown: Duration::from_secs(seconds) };
    PullIntent { recently_failed: Some(failure), ..PullIntent::default() }
}

fn cached() -> PullIntent {
    PullIntent { has_cached: true, ..PullIntent::default() }
}

fn in_flight(age_seconds: u64, idle_seconds: Option<u64>) -> PullIntent {
    PullIntent {
        in_flight_for: Some(Duration::from_secs(age_seconds)),
        idle_for: idle_seconds.map(Duration::from_secs),
        ..PullIntent::default()
    }
}

/// Probes, and answers each probe: `None` for a node that does not.
fn probe(cascade: &mut Cascade, answers: &[Option<PullIntent>]) -> Step {
    let Step::Probe(probed) = cascade.step() else { panic!("a cascade starts with probes") };
    assert_eq!(probed.len(), answers.len());
    for (peer, answer) in probed.iter().zip(answers) {
        match answer {
            Some(intent) => cascade.answered(peer, intent.clone()),
            None => cascade.unreachable(peer),
        }
    }
    cascade.step()
}

fn decided(step: Step) -> (Rule, Outcome) {
    match step {
        Step::Decided(rule, outcome) => (rule, outcome),
        other => panic!("not decided: {other:?}"),
    }
}

#[test]
fn rule_1_a_trusted_failure_elsewhere_ends_the_cascade() {
    for class in [FailureClass::Auth, FailureClass::NotFound, FailureClass::RateLimited] {
        let step = probe(&mut cascade(9, 9), &[None, Some(failed(class, 5)), Some(in_flight(1, None))]);
        let failure = RecentFailure { class, cooldown: Duration::from_secs(5) };
        assert_eq!(decided(step), (Rule::FailedElsewhere, Outcome::Fail(failure)));
    }
}

#[test]
fn rule_1_does_not_bind_a_requester_with_a_credential_of_its_own() {
    let mut cascade = cascade_with(9, 9, |situation| situation.has_credential = true);
    let step = probe(&mut cascade, &[Some(failed(FailureClass::Auth, 5)), None, None]);
    assert_eq!(step, Step::AskToPull(peer(0)));
    let failure = RecentFailure { class: FailureClass::Auth, cooldown: Duration::from_secs(5) };
    let step = cascade.asked(&peer(0), Some(PullOutcome::RecentlyFailed(failure)));
    assert_eq!(decided(step), (Rule::AskToPull, Outcome::Follow(vec![peer(0)])));
}

#[test]
fn what_the_origin_has_after_all_is_led_by_the_best_that_can_in_spite_of_failures() {
    let mut cascade = cascade_with(5, 9, |situation| situation.origin_has_it = true);
    let failures =
        [FailureClass::NotFound, FailureClass::RateLimited, FailureClass::Auth].map(|class| failed(class, 30));
    let step = probe(&mut cascade, &failures.map(Some));
    assert_eq!(step, Step::AskToPull(peer(0)));
    // It was asked too often: it is left alone.
    let failure = RecentFailure { class: FailureClass::RateLimited, cooldown: Duration::from_secs(30) };
    assert_eq!(cascade.asked(&peer(0), Some(PullOutcome::RecentlyFailed(failure))), Step::AskToPull(peer(1)));
    let (rule, outcome) = decided(cascade.asked(&peer(1), Some(PullOutcome::Started)));
    assert_eq!((rule, outcome), (Rule::AskToPull, Outcome::Follow(vec![peer(1)])));
}

#[test]
fn rule_2_a_copy_is_used_at_once_without_waiting_for_slower_answers() {
    let mut cascade = cascade(9, 9);
    cascade.step();
    cascade.answered(&peer(2), cached());
    assert_eq!(decided(cascade.step()), (Rule::Cached, Outcome::Follow(vec![peer(2)])));
}

#[test]
fn rule_3_follows_a_pull_that_moves_however_old_it_is() {
    let step = probe(&mut cascade(9, 9), &[None, Some(in_flight(500, Some(1))), None]);
    assert_eq!(decided(step), (Rule::InFlight, Outcome::Follow(vec![peer(1)])));
}

#[test]
fn rule_3_passes_over_a_stale_puller_and_rule_7_does_not_ask_it_again() {
    let mut cascade = cascade(9, 9);
    let step = probe(&mut cascade, &[Some(in_flight(40, None)), Some(PullIntent::default()), None]);
    assert_eq!(step, Step::AskToPull(peer(1)));
    assert_eq!(cascade.takeovers(), 1);
}

#[test]
fn rule_4_waits_with_a_node_whose_failure_passes() {
    let step = probe(
        &mut cascade(9, 9),
        &[Some(failed(FailureClass::Transient, 7)), Some(failed(FailureClass::Transient, 9)), None],
    );
    assert_eq!(decided(step), (Rule::CoolingDown, Outcome::CoolDown(Duration::from_secs(9))));
}

#[test]
fn rule_5_asks_twice_as_many_once_when_nobody_answers() {
    let mut cascade = cascade(9, 9);
    let step = probe(&mut cascade, &[None, None, None]);
    assert_eq!(step, Step::Probe(vec![peer(3), peer(4), peer(5)]));
    assert_eq!(cascade.expansion(), Some(Rule::AllUnreachable));
    for number in 3..6 {
        cascade.unreachable(&peer(number));
    }
    assert_eq!(decided(cascade.step()), (Rule::AllUnreachable, Outcome::Lead));
}

#[test]
fn rule_6_asks_twice_as_many_once_when_few_calls_are_answered() {
    let mut cascade = cascade_with(9, 9, |situation| situation.health = 0.5);
    let step = probe(&mut cascade, &[Some(PullIntent::default()), None, None]);
    assert_eq!(step, Step::Probe(vec![peer(3), peer(4), peer(5)]));
    assert_eq!(cascade.expansion(), Some(Rule::Unhealthy));
}

#[test]
fn rule_7_asks_the_best_ranked_reachable_node_and_the_next_one_when_it_declines() {
    let mut cascade = cascade(9, 9);
    let idle = || Some(PullIntent::default());
    assert_eq!(probe(&mut cascade, &[None, idle(), idle()]), Step::AskToPull(peer(1)));
    assert_eq!(cascade.asked(&peer(1), Some(PullOutcome::Declined)), Step::AskToPull(peer(2)));
    // Nobody is left of the first pass.
    assert_eq!(cascade.asked(&peer(2), None), Step::Probe(vec![peer(3), peer(4), peer(5)]));
}

#[test]
fn this_node_takes_part_without_a_probe_and_leads_when_it_ranks_best() {
    let mut cascade = cascade(0, 9);
    let step = probe(&mut cascade, &[Some(PullIntent::default()), Some(PullIntent::default())]);
    assert_eq!(decided(step), (Rule::AskToPull, Outcome::Lead));
}

#[test]
fn a_node_alone_leads_at_once() {
    assert_eq!(decided(cascade(0, 1).step()), (Rule::AskToPull, Outcome::Lead));
}

#[test]
fn the_grace_is_for_the_best_ranked_node_only() {
    let mut best = cascade(0, 9);
    best.step();
    best.grace_over();
    assert_eq!(decided(best.step()), (Rule::AskToPull, Outcome::Lead));
    let mut other = cascade(1, 9);
    other.step();
    other.grace_over();
    assert_eq!(other.step(), Step::Wait);
}

#[test]
fn the_provider_index_is_used_when_it_is_first() {
    let mut cascade = cascade(9, 9);
    cascade.step();
    cascade.provided(vec![peer(77)]);
    assert_eq!(decided(cascade.step()), (Rule::Provider, Outcome::Follow(vec![peer(77)])));
}

fn intents() -> impl Strategy<Value = Option<PullIntent>> {
    let class = prop_oneof![
        Just(FailureClass::Auth),
        Just(FailureClass::NotFound),
        Just(FailureClass::RateLimited),
        Just(FailureClass::Transient)
    ];
    let failure =
        (class, 0_u64..50).prop_map(|(class, seconds)| RecentFailure { class, cooldown: Duration::from_secs(seconds) });
    let age = proptest::option::of((0_u64..100).prop_map(Duration::from_secs));
    let intent = (any::<bool>(), age.clone(), age, proptest::option::of(0_u32..9), proptest::option::of(failure))
        .prop_map(|(has_cached, in_flight_for, idle_for, rank, recently_failed)| PullIntent {
            has_cached,
            in_flight_for,
            idle_for,
            rank,
            recently_failed,
            follows: None,
        });
    proptest::option::of(intent)
}

proptest! {
    /// Whatever is answered, the cascade ends in a decision after a bounded number of steps, probes nobody twice, never
    /// probes or asks this node, and follows only nodes that said or were said to have something.
    #[test]
    fn every_cascade_ends_in_a_decision(
        own in 0_usize..12,
        nodes in 0_usize..10,
        width in 0_usize..5,
        health in 0.0_f64..1.0,
        has_credential: bool,
        origin_has_it: bool,
        answers in proptest::collection::vec(intents(), 20),
        outcomes in proptest::collection::vec(0_u8..5, 20),
    ) {
        let mut cascade = cascade_with(own, nodes, |situation| {
            situation.width = width;
            situation.health = health;
            situation.has_credential = has_credential;
            situation.origin_has_it = origin_has_it;
        });
        let mut probed = std::collections::BTreeSet::new();
        let mut asked = std::collections::BTreeSet::new();
        let mut step = cascade.step();
        let mut answers = answers.into_iter().cycle();
        let mut outcomes = outcomes.into_iter().cycle();
        let mut rounds = 0;
        let outcome = loop {
            rounds += 1;
            prop_assert!(rounds < 40, "no decision");
            step = match step {
                Step::Wait => cascade.step(),
                Step::Probe(peers) => {
                    for peer in peers {
                        prop_assert!(peer != super::tests::peer(own), "probes itself");
                        prop_assert!(probed.insert(peer.clone()), "probes {} twice", peer);
                        match answers.next().flatten() {
                            Some(intent) => cascade.answered(&peer, intent),
                            None => cascade.unreachable(&peer),
                        }
                    }
                    cascade.step()
                }
                Step::AskToPull(peer) => {
                    prop_assert!(peer != super::tests::peer(own), "asks itself by a call");
                    prop_assert!(asked.insert(peer.clone()), "asks {} twice", peer);
                    let outcome = match outcomes.next() {
                        Some(0) => Some(PullOutcome::Started),
                        Some(1) => Some(PullOutcome::AlreadyPulling(Duration::ZERO)),
                        Some(2) => Some(PullOutcome::Declined),
                        Some(3) => Some(PullOutcome::RecentlyFailed(RecentFailure { class: FailureClass::Transient, cooldown: Duration::ZERO })),
                        _ => None,
                    };
                    cascade.asked(&peer, outcome)
                }
                Step::Decided(_, outcome) => break outcome,
            };
        };
        if let Outcome::Follow(peers) = outcome {
            prop_assert!(!peers.is_empty());
            prop_assert!(!peers.contains(&peer(own)), "follows itself");
        }
    }
}

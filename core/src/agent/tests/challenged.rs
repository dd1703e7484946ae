//! The origin wants a credential, and whoever waits here has not brought one yet.

use super::storms::auth_failure;
use super::*;
use crate::message::{EnrolReply, Notice};

const CHALLENGE: &str = "Bearer realm=\"r\"";

impl Bench {
    /// A node that leads for others and itself, and that the origin has asked for a credential.
    fn challenged() -> Self {
        let mut bench = Self::asked_to_pull();
        assert!(matches!(bench.enrolment(1, "other", digest(1), true), Some(EnrolReply::Enrolled { .. })));
        let op = stat_op(&bench.asked_to_pull_outputs());
        bench.get(1, digest(1), None).take();
        bench.input(Input::OriginStat { op, result: Err(auth_failure(&[CHALLENGE])) });
        bench
    }

    fn asked_to_pull_outputs(&self) -> Vec<Output> {
        self.agent
            .ops
            .iter()
            .filter(|(_, op)| matches!(op, Op::Size(_)))
            .map(|(op, _)| Output::StatOrigin {
                op: *op,
                source: source(Kind::Blob),
                digest: digest(1),
                credential: None,
            })
            .collect()
    }

    fn asks_with(&self) -> Vec<Option<CredentialId>> {
        let credential = |output: &Output| match output {
            Output::StatOrigin { credential, .. } => Some(*credential),
            _ => None,
        };
        self.outputs.iter().filter_map(credential).collect()
    }
}

fn leaves(outputs: &[Output]) -> bool {
    let leave =
        |output: &Output| matches!(output, Output::Notify { notice, .. } if matches!(**notice, Notice::Leave { .. }));
    outputs.iter().any(leave)
}

#[test]
fn a_leader_says_so_at_once_and_goes_on_leading() {
    let mut bench = Bench::challenged();
    let challenge = vec![CHALLENGE.into()];
    assert_eq!(refusals(&bench.outputs), [&Refusal::Unauthorized { challenge }]);
    assert!(!leaves(&bench.outputs), "the swarm is over");
    bench.input(Input::MirrorClosed { request: RequestId(1), sent_bytes: 0 }).take();
    // Everybody else is turned away as well: there is nobody left who could ask.
    let (first, count, class, cooldown) = (0, 0, FailureClass::Auth, Duration::ZERO);
    let notice = Notice::Unassigned { digest: digest(1), first, count, class, cooldown, no_ranges: false }.into();
    bench.input(Input::Notice { peer: PeerId::new("other"), notice }).pass(Duration::from_secs(1));
    assert_eq!(bench.agent.status().flights[0].role, "leading");
    assert!(!leaves(&bench.outputs), "the swarm is over");
    bench.get(2, digest(1), Some(7));
    assert_eq!(bench.asks_with(), [Some(CredentialId(7))]);
    assert_eq!(refusals(&bench.outputs), Vec::<&Refusal>::new());
}

#[test]
fn whoever_does_not_come_back_is_not_waited_for() {
    let mut bench = Bench::challenged();
    let (first, count, class, cooldown) = (0, 0, FailureClass::Auth, Duration::ZERO);
    let notice = Notice::Unassigned { digest: digest(1), first, count, class, cooldown, no_ranges: false }.into();
    bench.input(Input::Notice { peer: PeerId::new("other"), notice }).take();
    bench.pass(Duration::from_secs(5));
    assert!(bench.agent.status().flights.is_empty());
    assert!(leaves(&bench.outputs), "nobody was told");
    // In the origin's words, which are still known.
    bench.take();
    bench.get(2, digest(1), None);
    assert_eq!(refusals(&bench.outputs), [&Refusal::Unauthorized { challenge: vec![CHALLENGE.into()] }]);
}

#[test]
fn what_was_asked_before_the_credential_came_says_nothing() {
    let mut bench = Bench::asked_to_pull();
    let op = stat_op(&bench.take());
    bench.get(1, digest(1), Some(7)).take();
    bench.input(Input::OriginStat { op, result: Err(auth_failure(&[CHALLENGE])) });
    assert_eq!(refusals(&bench.outputs), Vec::<&Refusal>::new());
    assert_eq!(bench.asks_with(), [Some(CredentialId(7))]);
    // That counts.
    let op = stat_op(&bench.take());
    bench.input(Input::OriginStat { op, result: Err(auth_failure(&[CHALLENGE])) });
    assert_eq!(refusals(&bench.outputs), [&Refusal::NotHere]);
}

#[test]
fn nobody_is_sent_to_the_registry_because_the_words_of_its_challenge_are_not_known() {
    let mut bench = Bench::new(|_| {});
    bench.agent.failures.failed(Time::ZERO, digest(1), FailureClass::Auth, None, None);
    bench.get(1, digest(1), None).pass(Duration::from_secs(4));
    assert_eq!(refusals(&bench.outputs), Vec::<&Refusal>::new());
    let op = stat_op(&bench.outputs);
    bench.take();
    bench.input(Input::OriginStat { op, result: Err(auth_failure(&[CHALLENGE])) });
    assert_eq!(refusals(&bench.outputs), [&Refusal::Unauthorized { challenge: vec![CHALLENGE.into()] }]);
}

fn source_of(registry: &str) -> Source {
    Source { registry: registry.into(), repository: "app".into(), kind: Kind::Blob }
}

#[test]
fn the_words_of_one_registry_are_not_for_who_asks_another_one() {
    let mut bench = Bench::challenged();
    let request = |number, registry: &str| Input::Mirror {
        request: RequestId(number),
        method: Method::Get,
        source: source_of(registry),
        digest: digest(1),
        credential: None,
    };
    bench.take();
    bench.input(request(2, "another.example"));
    let (first, count, class, cooldown) = (0, 0, FailureClass::Auth, Duration::ZERO);
    let notice = Notice::Unassigned { digest: digest(1), first, count, class, cooldown, no_ranges: false }.into();
    bench.input(Input::Notice { peer: PeerId::new("other"), notice }).pass(Duration::from_secs(5));
    assert_eq!(refusals(&bench.outputs), [&Refusal::NotHere]);
    bench.take();
    assert!(bench.agent.status().flights.is_empty());
    // Nor afterwards: the other one is asked itself.
    bench.input(request(3, "another.example")).pass(Duration::from_secs(5));
    let asked = bench
        .outputs
        .iter()
        .any(|output| matches!(output, Output::StatOrigin { source, .. } if *source == source_of("another.example")));
    assert!(asked && refusals(&bench.outputs).is_empty());
}

#[test]
fn nobody_is_challenged_while_others_fetch_it() {
    let mut bench = Bench::challenged();
    bench.input(Input::MirrorClosed { request: RequestId(1), sent_bytes: 0 }).take();
    let have = Notice::Have {
        digest: digest(1),
        size: Some(4 * crate::piece::MIN_PIECE_BYTES),
        pieces: crate::message::Have::Also(vec![0]),
        sums: Vec::new(),
        spine: Vec::new(),
        private: false,
    };
    bench.pass(Duration::from_millis(100));
    bench.input(Input::Notice { peer: PeerId::new("other"), notice: have.clone().into() });
    bench.input(Input::Notice { peer: PeerId::new("other"), notice: have.into() }).take();
    bench.get(2, digest(1), None);
    assert_eq!(refusals(&bench.outputs), Vec::<&Refusal>::new());
}

#[test]
fn a_refused_credential_is_not_waited_for_when_nobody_is_left_who_could_ask() {
    let mut bench = Bench::asked_to_pull();
    bench.enrolment(1, "other", digest(1), true);
    bench.get(1, digest(1), Some(7)).take();
    let op = bench.agent.ops.iter().find(|(_, op)| matches!(op, Op::Size(_))).map(|(op, _)| *op).expect("it is asked");
    // What was asked before the credential came, and what was asked with it.
    bench.input(Input::OriginStat { op, result: Err(auth_failure(&[CHALLENGE])) });
    let op = stat_op(&bench.take());
    bench.input(Input::OriginStat { op, result: Err(auth_failure(&[CHALLENGE])) }).take();
    let (first, count, class, cooldown) = (0, 0, FailureClass::Auth, Duration::ZERO);
    let notice = Notice::Unassigned { digest: digest(1), first, count, class, cooldown, no_ranges: false }.into();
    bench.input(Input::Notice { peer: PeerId::new("other"), notice });
    assert_eq!(refusals(&bench.outputs), [&Refusal::NotHere]);
}

#[test]
fn what_another_registry_was_asked_says_nothing_of_the_one_that_the_requester_named() {
    let mut bench = Bench::asked_to_pull();
    let op = stat_op(&bench.take());
    bench.input(Input::Mirror {
        request: RequestId(1),
        method: Method::Get,
        source: source_of("another.example"),
        digest: digest(1),
        credential: None,
    });
    bench.take();
    bench.input(Input::OriginStat { op, result: Err(auth_failure(&[CHALLENGE])) });
    assert_eq!(refusals(&bench.outputs), Vec::<&Refusal>::new());
    let asked: Vec<_> = bench
        .outputs
        .iter()
        .filter_map(|output| match output {
            Output::StatOrigin { source, .. } => Some(source.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(asked, [source_of("another.example")]);
}

#[test]
fn a_tracker_hears_who_has_a_credential() {
    for credential in [None, Some(7)] {
        let bench = Bench::following("tracker", digest(1), credential);
        let said = bench.outputs.iter().find_map(|output| match output {
            Output::Call { request: Request::Enrol(enrol), .. } => Some(enrol.has_credential),
            _ => None,
        });
        assert_eq!(said, Some(credential.is_some()));
    }
}

#[test]
fn a_tracker_cannot_name_a_registry_that_is_not_on_the_list() {
    for (registry, is_asked) in [("registry.example", true), ("another.example", false)] {
        let mut bench = Bench::following("tracker", digest(1), None);
        bench.agent.config.registries = Some(vec!["registry.example".into()]);
        bench.take();
        let notice = Notice::Assign {
            digest: digest(1),
            size: None,
            first: 0,
            count: 0,
            source: source_of(registry),
            deadline: Duration::from_secs(10),
        };
        bench.input(Input::Notice { peer: PeerId::new("tracker"), notice: notice.into() });
        let unassigned = |output: &Output| matches!(output, Output::Notify { notice, .. } if matches!(**notice, Notice::Unassigned { .. }));
        assert_eq!(bench.asks_with().len(), usize::from(is_asked));
        assert_eq!(bench.outputs.iter().any(unassigned), !is_asked);
    }
}

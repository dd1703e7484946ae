mod challenged;
mod choking;
mod dice;
mod fuzz;
mod hostile;
mod leaders;
mod patience;
mod redacting;
mod rereading;
mod standstill;
mod storms;
mod telling;

use super::*;
use crate::config::{AuthCheck, Authorization};
use crate::input::{BlobFacts, Child, Method, OriginFailure, OriginStat, StoredBlob};
use crate::members::{Member, Roster};
use crate::message::{
    FailureClass, MAX_DIGESTS_PER_BATCH, PleasePull, Protocol, PullIntent, PullOutcome, Request, Response,
};
use crate::names::{Kind, PeerId, Source};
use crate::output::Refusal;

/// An agent with a clock, and what it asked for since it was last looked at.
struct Bench {
    agent: Agent,
    now: Time,
    outputs: Vec<Output>,
}

impl Bench {
    fn new(configure: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new("me", PeerId::new("me"));
        configure(&mut config);
        let mut bench = Self { agent: Agent::new(config, 1, Time::ZERO), now: Time::ZERO, outputs: Vec::new() };
        bench.input(Input::Recovered { blobs: Vec::new(), partials: Vec::new() });
        bench
    }

    fn with_blobs(blobs: Vec<StoredBlob>, configure: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new("me", PeerId::new("me"));
        configure(&mut config);
        let mut bench = Self { agent: Agent::new(config, 1, Time::ZERO), now: Time::ZERO, outputs: Vec::new() };
        bench.input(Input::Recovered { blobs, partials: Vec::new() });
        bench
    }

    fn input(&mut self, input: Input) -> &mut Self {
        self.agent.handle(self.now, input);
        self.outputs.extend(core::iter::from_fn(|| self.agent.poll_output()));
        self
    }

    /// Lets time pass, with a tick at every deadline.
    fn pass(&mut self, length: Duration) -> &mut Self {
        let end = self.now + length;
        while let Some((at, _)) = self.agent.poll_deadline().filter(|(at, _)| *at <= end) {
            self.now = self.now.max(at);
            self.input(Input::Tick);
        }
        self.now = end;
        self
    }

    fn take(&mut self) -> Vec<Output> {
        core::mem::take(&mut self.outputs)
    }

    fn get(&mut self, request: u64, digest: Digest, credential: Option<u64>) -> &mut Self {
        self.ask(request, Method::Get, Kind::Blob, digest, credential)
    }

    fn ask(&mut self, request: u64, method: Method, kind: Kind, digest: Digest, credential: Option<u64>) -> &mut Self {
        let credential = credential.map(CredentialId);
        self.input(Input::Mirror { request: RequestId(request), method, source: source(kind), digest, credential })
    }

    fn open(&mut self, stream: u64, peer: &str) -> &mut Self {
        let peer = PeerId::new(peer);
        self.input(Input::StreamOpened { stream: StreamId(stream), peer, protocol: Protocol::Coord })
    }

    fn call(&mut self, stream: u64, request: Request) -> Option<Response> {
        self.open(stream, "other").input(Input::StreamRequest { stream: StreamId(stream), request });
        self.take().into_iter().find_map(|output| match output {
            Output::StreamReply { response, .. } => Some(response),
            _ => None,
        })
    }
}

fn digest(number: u8) -> Digest {
    Digest::from_bytes([number; 32])
}

fn source(kind: Kind) -> Source {
    Source { registry: "registry.example".into(), repository: "app".into(), kind }
}

fn member(name: &str) -> Member {
    Member { name: name.into(), peer: Some(PeerId::new(name)), addresses: Vec::new(), zone: None, ready: true }
}

fn blob(number: u8, size: u64, private: bool) -> StoredBlob {
    let facts = BlobFacts { media_type: None, source: source(Kind::Blob), private };
    StoredBlob { digest: digest(number), size, facts }
}

fn refusals(outputs: &[Output]) -> Vec<&Refusal> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::MirrorRefuse { refusal, .. } => Some(refusal),
            _ => None,
        })
        .collect()
}

fn is_served(outputs: &[Output]) -> bool {
    outputs.iter().any(|output| matches!(output, Output::MirrorServe { .. }))
}

fn not_found() -> OriginFailure {
    OriginFailure {
        class: FailureClass::NotFound,
        status: Some(404),
        retry_after: None,
        challenge: Vec::new(),
        detail: "gone".into(),
    }
}

impl Bench {
    /// The registry has just said that it does not have what containerd asked for.
    fn not_there() -> Self {
        let mut bench = Self::new(|_| {});
        bench.get(1, digest(1), None);
        let op = stat_op(&bench.take());
        bench.input(Input::OriginStat { op, result: Err(not_found()) });
        assert_eq!(refusals(&bench.take()), [&Refusal::NotHere]);
        bench
    }
}

fn stat_op(outputs: &[Output]) -> OpId {
    let op = outputs.iter().find_map(|output| match output {
        Output::StatOrigin { op, .. } => Some(*op),
        _ => None,
    });
    op.expect("the origin is asked")
}

#[test]
fn a_request_gets_an_answer_before_containerd_gives_up_whatever_happens() {
    let mut bench = Bench::new(|_| {});
    bench.get(1, digest(1), None);
    bench.pass(Duration::from_secs(25));
    assert_eq!(refusals(&bench.outputs), [&Refusal::NotHere]);
}

#[test]
fn before_the_store_is_read_and_while_stopping_requests_are_503() {
    let mut agent = Agent::new(Config::new("me", PeerId::new("me")), 1, Time::ZERO);
    let request = |number| Input::Mirror {
        request: RequestId(number),
        method: Method::Get,
        source: source(Kind::Blob),
        digest: digest(1),
        credential: None,
    };
    agent.handle(Time::ZERO, request(1));
    let outputs: Vec<_> = core::iter::from_fn(|| agent.poll_output()).collect();
    assert!(matches!(refusals(&outputs)[..], [Refusal::Unavailable { .. }]));
    let mut bench = Bench::with_blobs(vec![blob(1, 10, false)], |_| {});
    bench.input(Input::Drain).take();
    bench.get(2, digest(1), None);
    assert!(matches!(refusals(&bench.outputs)[..], [Refusal::Unavailable { .. }]));
}

#[test]
fn a_drain_ends_when_the_last_body_is_sent_and_nothing_is_announced_any_more() {
    let mut bench = Bench::with_blobs(vec![blob(1, 10, false)], |_| {});
    bench.pass(Duration::from_secs(1)).get(1, digest(1), None).take();
    bench.input(Input::Drain);
    let outputs = bench.take();
    assert_eq!(outputs, [Output::Withdraw { digests: vec![digest(1)] }]);
    bench.input(Input::MirrorClosed { request: RequestId(1), sent_bytes: 10 });
    assert_eq!(bench.take(), [Output::Drained]);
}

#[test]
fn a_head_of_a_blob_asks_the_origin_and_pulls_nothing() {
    let mut bench = Bench::new(|_| {});
    bench.ask(1, Method::Head, Kind::Blob, digest(1), None);
    let op = stat_op(&bench.take());
    bench.input(Input::OriginStat { op, result: Ok(OriginStat { size: 77, media_type: None }) });
    let outputs = bench.take();
    assert!(matches!(outputs[..], [Output::MirrorServe { size: 77, .. }]), "{outputs:?}");
    assert!(bench.agent.status().flights.is_empty());
}

#[test]
fn requests_for_one_digest_share_one_flight() {
    let mut bench = Bench::new(|_| {});
    for number in 0..200 {
        bench.get(number, digest(1), None);
    }
    assert_eq!(bench.agent.status().flights.len(), 1);
    let sizes = bench.outputs.iter().filter(|output| matches!(output, Output::StatOrigin { .. })).count();
    assert_eq!(sizes, 1);
}

#[test]
fn at_most_sixteen_flights_run_and_what_containerd_waits_for_does_not_stand_behind_them() {
    let mut bench = Bench::new(|config| config.max_running_flights = 16);
    let batch = |first: u8| {
        let digests = (first..first + 20).map(digest).collect();
        Request::PleasePull(PleasePull { digests, source: source(Kind::Blob), resuming: false, origin_has_it: false })
    };
    bench.open(1, "other").input(Input::StreamRequest { stream: StreamId(1), request: batch(0) });
    bench.get(1, digest(200), None);
    let stages: Vec<_> =
        bench.agent.status().flights.into_iter().map(|flight| (flight.stage, flight.waiters)).collect();
    assert_eq!(stages.iter().filter(|(stage, _)| stage != "queued").count(), 17);
    assert!(stages.iter().all(|(stage, waiters)| *waiters == 0 || stage != "queued"));
    assert_eq!(bench.agent.contradiction(), None);
    // One of them ends: there is room for no more than sixteen still.
    let op = stat_op(&bench.take());
    bench.input(Input::OriginStat { op, result: Err(not_found()) });
    let running = bench.agent.status().flights.into_iter().filter(|flight| flight.stage != "queued").count();
    assert_eq!(running, 16);
}

#[test]
fn a_please_pull_says_of_each_digest_what_became_of_it() {
    let mut bench = Bench::with_blobs(vec![blob(1, 10, false)], |config| config.max_admitted_flights = 1);
    let digests = vec![digest(1), digest(2), digest(2), digest(3)];
    let batch = PleasePull { digests, source: source(Kind::Blob), resuming: false, origin_has_it: false };
    let Some(Response::PleasePull(results)) = bench.call(1, Request::PleasePull(batch)) else { panic!("no reply") };
    let outcomes: Vec<_> = results.iter().map(|result| result.outcome).collect();
    let pulling = PullOutcome::AlreadyPulling(Duration::ZERO);
    assert_eq!(outcomes, [pulling, PullOutcome::Started, pulling, PullOutcome::Declined]);
}

#[test]
fn a_batch_that_is_too_large_and_a_request_on_the_wrong_protocol_get_no_reply_and_are_counted() {
    let mut bench = Bench::new(|_| {});
    let digests = vec![digest(1); MAX_DIGESTS_PER_BATCH + 1];
    let batch = PleasePull { digests, source: source(Kind::Blob), resuming: false, origin_has_it: false };
    assert_eq!(bench.call(1, Request::PleasePull(batch)), None);
    bench.input(Input::StreamOpened { stream: StreamId(2), peer: PeerId::new("other"), protocol: Protocol::Swarm });
    bench.input(Input::StreamRequest {
        stream: StreamId(2),
        request: Request::PullIntent { digest: digest(1), leads: false },
    });
    assert_eq!(bench.take().last(), Some(&Output::StreamReset { stream: StreamId(2) }));
    assert_eq!(bench.agent.counters().coord_stream_errors, 2);
}

#[test]
fn the_stream_over_the_limit_is_reset_and_a_silent_one_after_five_seconds() {
    let mut bench = Bench::new(|config| config.max_streams = 2);
    bench.open(1, "a").open(2, "b").take();
    bench.open(3, "c");
    assert_eq!(bench.take(), [Output::StreamReset { stream: StreamId(3) }]);
    bench.pass(Duration::from_secs(5));
    let outputs = bench.take();
    assert_eq!(outputs, [Output::StreamReset { stream: StreamId(1) }, Output::StreamReset { stream: StreamId(2) }]);
    assert_eq!(bench.agent.counters().coord_stream_errors, 3);
}

#[test]
fn strangers_are_counted_when_observing_and_rejected_before_they_are_read_when_enforcing() {
    for authorization in [Authorization::Observe, Authorization::Enforce] {
        let mut bench = Bench::new(|config| config.authorization = authorization);
        bench.input(Input::Members(Roster::new(vec![member("friend")]))).take();
        bench.open(1, "friend").open(2, "stranger");
        let admitted: Vec<_> = bench
            .take()
            .into_iter()
            .filter_map(|output| match output {
                Output::StreamAdmit { stream, .. } => Some(stream.0),
                _ => None,
            })
            .collect();
        let expected: &[u64] = if authorization == Authorization::Enforce { &[1] } else { &[1, 2] };
        assert_eq!(admitted, expected);
        assert_eq!(bench.agent.counters().coord_unauthorized_unrecognized, 1);
        assert_eq!(bench.agent.counters().coord_stream_errors, 0);
    }
}

#[test]
fn without_any_other_member_enforcing_rejects_everybody_and_observing_nobody() {
    let mut observing = Bench::new(|_| {});
    observing.open(1, "somebody");
    assert!(matches!(observing.take()[..], [Output::StreamAdmit { .. }]));
    let mut enforcing = Bench::new(|config| config.authorization = Authorization::Enforce);
    enforcing.open(1, "somebody");
    assert_eq!(enforcing.take().last(), Some(&Output::StreamReset { stream: StreamId(1) }));
    assert_eq!(enforcing.agent.counters().coord_unauthorized_unevaluable, 1);
}

#[test]
fn a_query_about_what_is_cached_and_what_is_unknown_tells_them_apart() {
    let mut bench = Bench::with_blobs(vec![blob(1, 10, false)], |_| {});
    let ask = |number| Request::PullIntent { digest: digest(number), leads: false };
    let cached = PullIntent { has_cached: true, rank: Some(0), ..PullIntent::default() };
    assert_eq!(bench.call(1, ask(1)), Some(Response::PullIntent(cached)));
    let unknown = PullIntent { rank: Some(0), ..PullIntent::default() };
    assert_eq!(bench.call(2, ask(2)), Some(Response::PullIntent(unknown)));
}

#[test]
fn over_the_cap_the_oldest_blob_is_withdrawn_before_it_is_deleted_and_a_read_one_stays() {
    let blobs = vec![blob(1, 10, false), blob(2, 10, false), blob(3, 10, false)];
    let mut bench = Bench::with_blobs(blobs, |config| config.store_cap_bytes = Some(20));
    // At recovery nothing is announced yet: the oldest goes at once.
    assert!(bench.take().contains(&Output::Evict { digest: digest(1) }));
    bench.get(1, digest(1), None);
    assert!(!is_served(&bench.outputs), "what is on its way out is not served");
}

#[test]
fn a_private_blob_is_served_after_the_origin_has_accepted_the_credential_and_the_answer_holds_for_minutes() {
    let mut bench = Bench::with_blobs(vec![blob(1, 10, true)], |config| config.auth_check = AuthCheck::Origin);
    bench.get(1, digest(1), Some(7));
    let outputs = bench.take();
    assert!(!is_served(&outputs));
    let stat = OriginStat { size: 10, media_type: None };
    bench.input(Input::OriginStat { op: stat_op(&outputs), result: Ok(stat) });
    assert!(is_served(&bench.take()));
    // While somebody uses the credential, its secret has one number.
    bench.get(2, digest(1), Some(7));
    assert!(is_served(&bench.take()));
    bench.pass(Duration::from_secs(301)).take();
    bench.get(3, digest(1), Some(7));
    assert!(!is_served(&bench.take()));
}

#[test]
fn a_proof_that_comes_too_late_for_one_request_counts_for_the_next() {
    let mut bench = Bench::with_blobs(vec![blob(1, 10, true)], |config| {
        config.auth_check = AuthCheck::Origin;
        config.header_timeout = Duration::from_secs(5);
    });
    bench.get(1, digest(1), Some(7));
    let op = stat_op(&bench.take());
    bench.pass(Duration::from_secs(6));
    assert_eq!(refusals(&bench.take()), [&Refusal::NotHere]);
    bench.input(Input::OriginStat { op, result: Ok(OriginStat { size: 10, media_type: None }) });
    assert!(bench.take().is_empty());
    bench.get(2, digest(1), Some(7));
    assert!(is_served(&bench.take()));
}

#[test]
fn a_private_blob_is_not_served_to_who_cannot_prove_a_right_to_it() {
    let challenge: Vec<std::sync::Arc<str>> = vec!["Basic realm=\"r\"".into()];
    let denied = |class, status| OriginFailure {
        class,
        status: Some(status),
        retry_after: None,
        challenge: challenge.clone(),
        detail: "no".into(),
    };
    for (credential, class, expected) in [
        (None, FailureClass::Auth, Refusal::Unauthorized { challenge: challenge.clone() }),
        (Some(7), FailureClass::Auth, Refusal::NotHere),
        (Some(7), FailureClass::Transient, Refusal::NotHere),
    ] {
        let mut bench = Bench::with_blobs(vec![blob(1, 10, true)], |config| config.auth_check = AuthCheck::Origin);
        bench.get(1, digest(1), credential);
        let op = stat_op(&bench.take());
        bench.input(Input::OriginStat { op, result: Err(denied(class, 401)) });
        assert_eq!(refusals(&bench.outputs), [&expected]);
        assert!(!is_served(&bench.outputs));
    }
}

#[test]
fn a_credential_is_forgotten_with_its_last_user() {
    let mut bench = Bench::with_blobs(vec![blob(1, 10, false)], |_| {});
    bench.get(1, digest(1), Some(7)).get(2, digest(1), Some(7)).take();
    bench.input(Input::MirrorClosed { request: RequestId(1), sent_bytes: 10 });
    assert_eq!(bench.take(), []);
    bench.input(Input::MirrorClosed { request: RequestId(2), sent_bytes: 10 });
    assert_eq!(bench.take(), [Output::ForgetCredential { credential: CredentialId(7) }]);
}

#[test]
fn a_manifest_is_served_once_it_is_known_what_it_is_and_its_children_are_wanted() {
    let facts = BlobFacts { media_type: None, source: source(Kind::Manifest), private: false };
    let manifest = StoredBlob { digest: digest(1), size: 500, facts };
    let mut bench = Bench::with_blobs(vec![manifest], |_| {});
    bench.ask(1, Method::Get, Kind::Manifest, digest(1), None);
    let outputs = bench.take();
    assert!(!is_served(&outputs) && outputs.contains(&Output::ReadManifest { digest: digest(1) }));
    let children = vec![
        Child { digest: digest(2), size: 9, kind: Kind::Config },
        Child { digest: digest(3), size: 99, kind: Kind::Blob },
    ];
    bench.input(Input::Manifest { digest: digest(1), media_type: Some("application/x".into()), children });
    let served = bench.outputs.iter().find_map(|output| match output {
        Output::MirrorServe { media_type, .. } => media_type.clone(),
        _ => None,
    });
    assert_eq!(served.as_deref(), Some("application/x"));
    let flights: Vec<_> = bench.agent.status().flights.into_iter().map(|flight| (flight.digest, flight.size)).collect();
    assert_eq!(flights, [(digest(2), Some(9)), (digest(3), Some(99))]);
}

#[test]
fn a_failed_digest_is_a_404_at_once_and_not_for_ever() {
    let mut bench = Bench::not_there();
    bench.get(2, digest(1), None);
    let outputs = bench.take();
    assert_eq!(refusals(&outputs), [&Refusal::NotHere]);
    assert!(bench.agent.status().flights.is_empty());
    bench.pass(Duration::from_secs(11)).take();
    bench.get(3, digest(1), None);
    assert_eq!(refusals(&bench.take()), Vec::<&Refusal>::new());
}

#[test]
fn a_peer_cannot_make_this_node_ask_a_registry_that_is_not_on_the_list() {
    let mut bench = Bench::new(|config| config.registries = Some(vec!["other.example".into()]));
    let batch =
        PleasePull { digests: vec![digest(1)], source: source(Kind::Blob), resuming: false, origin_has_it: false };
    let Some(Response::PleasePull(results)) = bench.call(1, Request::PleasePull(batch)) else { panic!("no reply") };
    assert_eq!(results[0].outcome, PullOutcome::Declined);
    assert!(bench.agent.status().flights.is_empty());
}

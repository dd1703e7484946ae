//! Peers that lie, and events that come in an odd order.

use super::*;
use crate::input::{Hashed, StoreError, TransferEvent};
use crate::message::{Enrol, EnrolReply, Have, Notice, PieceRequest, RecentFailure};
use crate::output::Span;
use crate::piece::MIN_PIECE_BYTES;

const SECRET: Option<u64> = Some(7);

fn elsewhere(kind: Kind) -> Source {
    Source { registry: "evil.example".into(), repository: "app".into(), kind }
}

impl Bench {
    /// The first piece of the first run that a participant was given.
    fn first_run_of(&self, participant: &str) -> u32 {
        let assigned = self.outputs.iter().find_map(|output| match output {
            Output::Notify { peer, notice } if peer.as_str() == participant => match **notice {
                Notice::Assign { first, .. } => Some(first),
                _ => None,
            },
            _ => None,
        });
        assigned.expect("the participant gets a run")
    }

    pub(super) fn notice(&mut self, peer: &str, notice: Notice) -> &mut Self {
        self.input(Input::Notice { peer: PeerId::new(peer), notice: notice.into() })
    }

    fn have(&mut self, peer: &str, digest: Digest, size: u64) -> &mut Self {
        let pieces = Have::Exactly(Vec::new());
        let (sums, spine) = (Vec::new(), Vec::new());
        self.notice(peer, Notice::Have { digest, size: Some(size), pieces, sums, spine, private: false })
    }

    pub(super) fn enrolment(
        &mut self,
        stream: u64,
        peer: &str,
        digest: Digest,
        can_fetch_origin: bool,
    ) -> Option<EnrolReply> {
        self.enrolment_with(stream, peer, digest, can_fetch_origin, None)
    }

    fn enrolment_of(&mut self, stream: u64, peer: &str, digest: Digest, size: Option<u64>) -> Option<EnrolReply> {
        self.enrolment_with(stream, peer, digest, true, size)
    }

    fn enrolment_with(
        &mut self,
        stream: u64,
        peer: &str,
        digest: Digest,
        can_fetch_origin: bool,
        size: Option<u64>,
    ) -> Option<EnrolReply> {
        let (peer, stream) = (PeerId::new(peer), StreamId(stream));
        self.input(Input::StreamOpened { stream, peer, protocol: Protocol::Swarm });
        let enrol = Enrol {
            digest,
            size,
            pieces: Vec::new(),
            can_fetch_origin,
            source: source(Kind::Blob),
            zone: None,
            addresses: Vec::new(),
            private: false,
            has_credential: false,
            fetching: Vec::new(),
        };
        self.take();
        self.input(Input::StreamRequest { stream, request: Request::Enrol(enrol) });
        let reply = self.outputs.iter().find_map(|output| match output {
            Output::StreamReply { response: Response::Enrol(reply), .. } => Some(reply.clone()),
            _ => None,
        });
        self.input(Input::StreamClosed { stream, error: None, sent_bytes: 0 });
        reply
    }

    /// Follows `tracker` for a blob: the only other member, which says that it pulls.
    pub(super) fn following(tracker: &str, digest: Digest, credential: Option<u64>) -> Self {
        let mut bench = Self::new(|_| {});
        bench.input(Input::Members(Roster::new(vec![member(tracker)])));
        bench.get(1, digest, credential);
        let call = bench.call_to(tracker);
        let moves = Some(Duration::from_millis(1));
        let intent = PullIntent { in_flight_for: moves, idle_for: moves, rank: Some(0), ..PullIntent::default() };
        bench.input(Input::Reply { call, response: Response::PullIntent(intent) });
        bench
    }

    /// The tracker that it follows enrols it, and says how large the blob is.
    pub(super) fn enrolled(&mut self, tracker: &str, size: u64) -> &mut Self {
        let call = self.call_to(tracker);
        let (neighbours, spine) = (Vec::new(), Vec::new());
        let reply = EnrolReply::Enrolled { size: Some(size), neighbours, spine, private: false, quiet: None };
        self.input(Input::Reply { call, response: Response::Enrol(reply) })
    }

    /// The latest run of pieces that is fetched from the origin.
    fn run_from_origin(&self) -> (OpId, core::ops::Range<u32>) {
        let run = self.outputs.iter().rev().find_map(|output| match output {
            Output::FetchOrigin { op, span: Span::Pieces { first, count, .. }, .. } => {
                Some((*op, *first..first + count))
            }
            _ => None,
        });
        run.expect("a run is fetched from the origin")
    }

    pub(super) fn call_to(&mut self, peer: &str) -> crate::names::CallId {
        let call = self.outputs.iter().rev().find_map(|output| match output {
            Output::Call { call, peer: called, .. } if called.as_str() == peer => Some(*call),
            _ => None,
        });
        call.expect("the peer is called")
    }

    /// Fetches a blob of one piece from the origin, up to the order to commit it.
    fn fetched(&mut self, request: u64, kind: Kind, digest: Digest) -> &mut Self {
        self.ask(request, Method::Get, kind, digest, None);
        let stat = OriginStat { size: 10, media_type: None };
        let op = stat_op(&self.outputs);
        self.input(Input::OriginStat { op, result: Ok(stat) });
        let op = origin_fetch(&self.outputs).expect("the blob is fetched").0;
        let hashed = Hashed::Alone([1; 32]);
        let event = TransferEvent::Piece { piece: 0, bytes: 10, hashed, claim: None };
        self.input(Input::Transfer { op, event }).input(Input::Transfer { op, event: TransferEvent::Done });
        let op = self.outputs.iter().rev().find_map(|output| match output {
            Output::HashPiece { op, .. } => Some(*op),
            _ => None,
        });
        let op = op.expect("the piece is hashed for the chain");
        self.input(Input::PieceHashed { op, result: Ok(Midstate::from_bytes(*digest.as_bytes())) });
        assert!(self.outputs.contains(&Output::Commit { digest, facts: facts(kind) }));
        self
    }
}

fn facts(kind: Kind) -> BlobFacts {
    BlobFacts { media_type: None, source: source(kind), private: false }
}

fn origin_fetch(outputs: &[Output]) -> Option<(OpId, Source, Option<CredentialId>)> {
    outputs.iter().rev().find_map(|output| match output {
        Output::FetchOrigin { op, source, credential, .. } => Some((*op, source.clone(), *credential)),
        _ => None,
    })
}

/// Where credentials were sent.
fn asked_with_a_credential(outputs: &[Output]) -> Vec<Source> {
    let with = |output: &Output| match output {
        Output::FetchOrigin { source, credential: Some(_), .. }
        | Output::StatOrigin { source, credential: Some(_), .. } => Some(source.clone()),
        _ => None,
    };
    outputs.iter().filter_map(with).collect()
}

#[test]
fn a_blob_of_an_absurd_size_is_not_believed_whoever_says_so() {
    for size in [u64::MAX, 1 << 60, crate::piece::MAX_BLOB_BYTES + 1] {
        let mut bench = Bench::new(|_| {});
        bench.get(1, digest(1), None).have("liar", digest(1), size);
        assert_eq!(bench.agent.status().flights[0].size, None);
        let op = stat_op(&bench.outputs);
        bench.input(Input::OriginStat { op, result: Ok(OriginStat { size, media_type: None }) });
        assert_eq!(refusals(&bench.outputs), [&Refusal::NotHere]);
    }
}

#[test]
fn runs_that_the_blob_does_not_have_are_cut_off_and_too_many_are_dropped() {
    let mut bench = Bench::following("tracker", digest(1), None);
    let source = source(Kind::Blob);
    let deadline = Duration::from_secs(10);
    for (first, count) in [(u32::MAX, u32::MAX), (1, u32::MAX), (7, 1)].into_iter().cycle().take(5000) {
        let size = Some(4 * MIN_PIECE_BYTES);
        let source = source.clone();
        bench.notice("tracker", Notice::Assign { digest: digest(1), size, first, count, source, deadline });
    }
    for output in bench.take() {
        if let Output::FetchOrigin { span: Span::Pieces { first, count, .. }, .. } = output {
            assert_eq!((first, count), (1, 3));
        }
    }
}

#[test]
fn a_tracker_cannot_send_a_credential_to_a_registry_of_its_choice() {
    let mut bench = Bench::following("tracker", digest(1), SECRET);
    let (size, source) = (Some(4 * MIN_PIECE_BYTES), elsewhere(Kind::Blob));
    let deadline = Duration::from_secs(10);
    bench.notice("tracker", Notice::Assign { digest: digest(1), size, first: 0, count: 4, source, deadline });
    assert_eq!(asked_with_a_credential(&bench.outputs), [super::source(Kind::Blob)]);
}

#[test]
fn a_pull_that_a_peer_asked_for_does_not_decide_where_a_credential_goes() {
    let mut bench = Bench::new(|_| {});
    let batch =
        PleasePull { digests: vec![digest(1)], source: elsewhere(Kind::Blob), resuming: false, origin_has_it: false };
    bench.call(1, Request::PleasePull(batch));
    bench.get(1, digest(1), SECRET).pass(Duration::from_secs(11));
    let asked = asked_with_a_credential(&bench.outputs);
    assert!(!asked.is_empty() && asked.iter().all(|source| *source == super::source(Kind::Blob)), "{asked:?}");
}

#[test]
fn a_manifest_that_a_peer_had_pulled_does_not_decide_where_a_credential_goes() {
    let media_type = Some("application/vnd.oci.image.manifest.v1+json".into());
    let facts = BlobFacts { media_type: media_type.clone(), source: elsewhere(Kind::Manifest), private: false };
    let mut bench = Bench::with_blobs(vec![StoredBlob { digest: digest(1), size: 10, facts }], |_| {});
    bench.ask(1, Method::Get, Kind::Manifest, digest(1), SECRET);
    let child = Child { digest: digest(2), size: 10, kind: Kind::Blob };
    bench.input(Input::Manifest { digest: digest(1), media_type, children: vec![child] });
    bench.pass(Duration::from_secs(1));
    let asked = asked_with_a_credential(&bench.outputs);
    assert!(!asked.is_empty() && asked.iter().all(|source| *source == super::source(Kind::Blob)), "{asked:?}");
}

#[test]
fn late_news_of_a_failure_do_not_end_a_flight_that_is_made_durable() {
    let mut bench = Bench::new(|_| {});
    bench.fetched(1, Kind::Blob, digest(1));
    bench.agent.fail_flight(digest(1), FailureClass::NotFound, "late news", None);
    bench.input(Input::Committed { digest: digest(1), result: Ok(()) });
    assert!(!bench.outputs.contains(&Output::MirrorAbort { request: RequestId(1) }));
    assert_eq!(bench.agent.status().blobs, 1);
}

#[test]
fn a_participant_whose_tracker_is_gone_while_it_commits_stays_committing() {
    let mut bench = Bench::following("tracker", digest(1), None);
    let (size, source) = (Some(10), source(Kind::Blob));
    let deadline = Duration::from_secs(10);
    bench.notice("tracker", Notice::Assign { digest: digest(1), size, first: 0, count: 1, source, deadline });
    let op = origin_fetch(&bench.outputs).expect("the run is fetched").0;
    let event = TransferEvent::Piece { piece: 0, bytes: 10, hashed: Hashed::Alone([1; 32]), claim: None };
    bench.input(Input::Transfer { op, event });
    let hash = bench.outputs.iter().find_map(|output| match output {
        Output::HashPiece { op, .. } => Some(*op),
        _ => None,
    });
    let result = Ok(Midstate::from_bytes(*digest(1).as_bytes()));
    bench.input(Input::PieceHashed { op: hash.expect("the piece is hashed"), result });
    assert_eq!(bench.agent.status().flights[0].stage, "committing");
    let call = bench.call_to("tracker");
    let failure = crate::message::RecentFailure { class: FailureClass::NotFound, cooldown: Duration::from_secs(9) };
    bench.input(Input::Reply { call, response: Response::Enrol(EnrolReply::Failed(failure)) });
    bench.notice("tracker", Notice::Leave { digest: digest(1) }).pass(Duration::from_secs(5));
    assert_eq!(bench.agent.status().flights[0].stage, "committing");
    bench.input(Input::Committed { digest: digest(1), result: Ok(()) });
    assert_eq!(bench.agent.status().blobs, 1);
}

#[test]
fn a_commit_of_an_earlier_flight_does_not_complete_the_next_one() {
    let mut bench = Bench::new(|_| {});
    bench.fetched(1, Kind::Blob, digest(1));
    bench.input(Input::StoreFailed { digest: digest(1), error: StoreError::Io("late".into()) });
    bench.input(Input::MirrorClosed { request: RequestId(1), sent_bytes: 0 });
    bench.pass(Duration::from_secs(60)).get(2, digest(1), SECRET).take();
    bench.input(Input::Committed { digest: digest(1), result: Ok(()) });
    let status = bench.agent.status();
    assert_eq!((status.blobs, status.flights.len()), (0, 1), "the new flight goes on");
    // The store keeps a blob that nobody counts: it has to go.
    assert!(bench.outputs.contains(&Output::Evict { digest: digest(1) }));
    bench.pass(Duration::from_secs(25));
    assert_eq!(refusals(&bench.outputs), [&Refusal::NotHere]);
}

#[test]
fn a_manifest_that_waits_to_be_read_stays_however_full_the_store_is() {
    let manifest = StoredBlob { digest: digest(1), size: 10, facts: facts(Kind::Manifest) };
    let mut bench = Bench::with_blobs(vec![manifest], |config| config.store_cap_bytes = Some(15));
    bench.ask(1, Method::Get, Kind::Manifest, digest(1), None);
    bench.fetched(2, Kind::Blob, digest(2)).input(Input::Committed { digest: digest(2), result: Ok(()) });
    assert!(!bench.outputs.contains(&Output::Evict { digest: digest(1) }));
    bench.take();
    bench.input(Input::Manifest { digest: digest(1), media_type: None, children: Vec::new() });
    assert!(is_served(&bench.outputs) && refusals(&bench.outputs).is_empty());
    // Read and served, it goes like any other.
    bench.input(Input::MirrorClosed { request: RequestId(1), sent_bytes: 10 });
    assert!(bench.outputs.contains(&Output::Evict { digest: digest(1) }));
}

#[test]
fn a_manifest_that_the_store_never_reads_is_refused_in_time() {
    let manifest = StoredBlob { digest: digest(1), size: 10, facts: facts(Kind::Manifest) };
    let mut bench = Bench::with_blobs(vec![manifest], |_| {});
    bench.ask(1, Method::Get, Kind::Manifest, digest(1), None).pass(Duration::from_secs(25));
    assert_eq!(refusals(&bench.outputs), [&Refusal::NotHere]);
}

#[test]
fn a_blob_is_not_answered_as_empty_before_it_is_verified() {
    let mut bench = Bench::new(|_| {});
    bench.get(1, digest(1), None).have("liar", digest(1), 0);
    assert!(!is_served(&bench.outputs));
}

#[test]
fn a_size_that_a_peer_made_up_is_not_believed() {
    let mut bench = Bench::new(|_| {});
    bench.get(1, digest(1), None);
    let op = stat_op(&bench.outputs);
    bench.have("liar", digest(1), 4 * MIN_PIECE_BYTES);
    assert_eq!(bench.agent.status().flights[0].size, None);
    assert!(matches!(bench.enrolment_of(1, "liar", digest(1), Some(77)), Some(EnrolReply::Enrolled { .. })));
    assert_eq!(bench.agent.status().flights[0].size, None);

    bench.input(Input::OriginStat { op, result: Ok(OriginStat { size: 10, media_type: None }) });
    assert_eq!(bench.agent.status().flights[0].size, Some(10));
}

#[test]
fn a_size_that_a_tracker_made_up_does_not_outlive_its_flight() {
    let mut bench = Bench::following("liar", digest(1), None);
    bench.enrolled("liar", 4 * MIN_PIECE_BYTES);
    bench.input(Input::StoreFailed { digest: digest(1), error: StoreError::Full });
    assert_eq!((bench.agent.status().flights.len(), bench.agent.status().partial_blobs), (0, 0));
    assert!(bench.outputs.contains(&Output::Discard { digest: digest(1) }));
    bench.pass(Duration::from_secs(600)).get(2, digest(1), None);
    assert_eq!(bench.agent.status().flights[0].size, None);
}

#[test]
fn a_size_that_a_manifest_has_named_is_not_asked_for() {
    let mut bench = Bench::with_blobs(vec![blob(9, 20, false)], |_| {});
    let children = vec![Child { digest: digest(1), size: 10, kind: Kind::Blob }];
    bench.input(Input::Manifest { digest: digest(9), media_type: None, children });
    bench.get(1, digest(1), None);
    assert!(origin_fetch(&bench.outputs).is_some(), "it is fetched");
    assert!(!bench.outputs.iter().any(|output| matches!(output, Output::StatOrigin { .. })));
}

#[test]
fn one_participants_word_that_the_origin_limits_it_does_not_stop_the_swarm() {
    let mut bench = Bench::new(|config| config.max_origin_fetches = 1);
    bench.get(1, digest(1), None);
    let op = stat_op(&bench.outputs);
    assert!(matches!(bench.enrolment(1, "liar", digest(1), true), Some(EnrolReply::Enrolled { .. })));
    let size = 64 * MIN_PIECE_BYTES;
    bench.input(Input::OriginStat { op, result: Ok(OriginStat { size, media_type: None }) });
    let first = bench.first_run_of("liar");
    let (class, cooldown) = (FailureClass::RateLimited, Duration::from_secs(3600));
    bench.notice("liar", Notice::Unassigned { digest: digest(1), first, count: 1, class, cooldown, no_ranges: false });
    assert!(refusals(&bench.outputs).is_empty());
    for _ in 0..6 {
        let (op, pieces) = bench.run_from_origin();
        for piece in pieces {
            let event =
                TransferEvent::Piece { piece, bytes: MIN_PIECE_BYTES, hashed: Hashed::Alone([1; 32]), claim: None };
            bench.input(Input::Transfer { op, event });
        }
        bench.take();
        bench.input(Input::Transfer { op, event: TransferEvent::Done });
    }
    bench.run_from_origin();
}

#[test]
fn a_trackers_word_that_the_origin_has_nothing_is_checked_with_the_origin() {
    let mut bench = Bench::following("liar", digest(1), None);
    let call = bench.call_to("liar");
    bench.take();
    let failure = RecentFailure { class: FailureClass::NotFound, cooldown: Duration::from_secs(600) };
    bench.input(Input::Reply { call, response: Response::Enrol(EnrolReply::Failed(failure)) });
    assert!(refusals(&bench.outputs).is_empty());
    let op = stat_op(&bench.outputs);
    bench.input(Input::OriginStat { op, result: Ok(OriginStat { size: 10, media_type: None }) });
    bench.pass(Duration::from_secs(5));
    assert!(refusals(&bench.outputs).is_empty());
    assert_eq!(bench.agent.status().flights[0].role, "leading");
}

#[test]
fn a_missing_blob_is_missing_when_the_origin_says_so_too() {
    let mut bench = Bench::following("tracker", digest(1), None);
    let call = bench.call_to("tracker");
    bench.take();
    let failure = RecentFailure { class: FailureClass::NotFound, cooldown: Duration::from_secs(600) };
    bench.input(Input::Reply { call, response: Response::Enrol(EnrolReply::Failed(failure)) });
    let op = stat_op(&bench.outputs);
    let class = FailureClass::NotFound;
    let (retry_after, challenge, detail) = (None, Vec::new(), "gone".into());
    let failure = OriginFailure { class, status: Some(404), retry_after, challenge, detail };
    bench.input(Input::OriginStat { op, result: Err(failure) });
    assert_eq!(refusals(&bench.outputs), [&Refusal::NotHere]);
}

#[test]
fn a_piece_that_trickles_is_given_up() {
    let mut bench = Bench::following("slow", digest(1), None);
    bench.enrolled("slow", 4 * MIN_PIECE_BYTES);
    let (pieces, sums, spine) = (Have::All, Vec::new(), Vec::new());
    let size = Some(4 * MIN_PIECE_BYTES);
    bench.notice("slow", Notice::Have { digest: digest(1), size, pieces, sums, spine, private: false });
    let op = bench.outputs.iter().find_map(|output| match output {
        Output::FetchPiece { op, .. } => Some(*op),
        _ => None,
    });
    let op = op.expect("a piece is fetched");
    for _ in 0..10 {
        bench.pass(Duration::from_secs(3));
        bench.input(Input::Transfer { op, event: TransferEvent::Progress { bytes: 1 } });
    }
    assert!(bench.outputs.contains(&Output::CancelTransfer { op }));
}

#[test]
fn readers_that_take_nothing_do_not_keep_the_places_of_others() {
    let mut bench = Bench::with_blobs(vec![blob(1, 10, false)], |config| config.max_uploads = 2);
    let request = PieceRequest { digest: digest(1), size: 10, piece: 0 };
    let ask = |bench: &mut Bench, stream: u64| {
        let (peer, stream) = (PeerId::new("reader"), StreamId(stream));
        bench.take();
        bench.input(Input::StreamOpened { stream, peer, protocol: Protocol::Swarm });
        bench.input(Input::PieceRequested { stream, request: request.clone() });
        bench.outputs.iter().any(|output| matches!(output, Output::PieceServe { .. }))
    };
    assert_eq!([ask(&mut bench, 1), ask(&mut bench, 2), ask(&mut bench, 3)], [true, true, false]);
    bench.input(Input::StreamClosed { stream: StreamId(3), error: None, sent_bytes: 0 });
    bench.take();
    bench.pass(Duration::from_secs(20));
    for stream in [1, 2] {
        assert!(bench.outputs.contains(&Output::StreamReset { stream: StreamId(stream) }));
    }
    assert!(ask(&mut bench, 4));
}

#[test]
fn a_manifest_whose_size_a_peer_made_up_is_fetched_with_the_origins_next_time() {
    let mut bench = Bench::new(|_| {});
    bench.ask(1, Method::Get, Kind::Manifest, digest(1), None);
    let op = origin_fetch(&bench.outputs).expect("the manifest is fetched").0;
    bench.have("liar", digest(1), 4 * MIN_PIECE_BYTES);
    bench.input(Input::Transfer { op, event: TransferEvent::Headers { size: 10, media_type: None } });
    bench.pass(Duration::from_secs(60)).take();
    bench.ask(2, Method::Get, Kind::Manifest, digest(1), None);
    let op = origin_fetch(&bench.outputs).expect("the manifest is fetched again").0;
    bench.input(Input::Transfer { op, event: TransferEvent::Headers { size: 10, media_type: None } });
    assert_eq!(bench.agent.status().flights[0].size, Some(10));
}

#[test]
fn one_participants_word_that_the_origin_has_nothing_does_not_end_the_swarm() {
    let mut bench = Bench::new(|config| config.max_origin_fetches = 1);
    bench.get(1, digest(1), None);
    let op = stat_op(&bench.outputs);
    let size = 64 * MIN_PIECE_BYTES;
    assert!(matches!(bench.enrolment(1, "liar", digest(1), true), Some(EnrolReply::Enrolled { .. })));
    bench.input(Input::OriginStat { op, result: Ok(OriginStat { size, media_type: None }) });
    let first = bench.first_run_of("liar");
    let (class, cooldown) = (FailureClass::NotFound, Duration::from_secs(3600));
    let notice = Notice::Unassigned { digest: digest(1), first, count: 1, class, cooldown, no_ranges: false };
    bench.notice("liar", notice);
    assert_eq!(bench.agent.status().flights.len(), 1);
    assert!(refusals(&bench.outputs).is_empty());
}

#[test]
fn the_swarm_of_a_complete_blob_is_forgotten_when_everybody_has_gone() {
    let mut bench = Bench::with_blobs(vec![blob(1, 10, false)], |_| {});
    assert!(bench.enrolment(1, "other", digest(1), true).is_some());
    assert_eq!(bench.agent.trackers.len(), 1);
    bench.pass(Duration::from_secs(1500));
    assert_eq!(bench.agent.trackers.len(), 0);
}

#[test]
fn a_blob_over_the_cap_that_was_read_goes_when_its_reader_has_gone() {
    let mut bench = Bench::new(|config| config.store_cap_bytes = Some(5));
    bench.fetched(1, Kind::Blob, digest(1)).input(Input::Committed { digest: digest(1), result: Ok(()) });
    assert!(!bench.outputs.contains(&Output::Evict { digest: digest(1) }));
    bench.input(Input::MirrorClosed { request: RequestId(1), sent_bytes: 10 });
    assert!(bench.outputs.contains(&Output::Evict { digest: digest(1) }));
}

#[test]
fn a_trackers_wild_number_of_addresses_is_not_passed_on() {
    let mut bench = Bench::with_blobs(vec![blob(1, 10, false)], |_| {});
    let enrol = Enrol {
        digest: digest(1),
        size: None,
        pieces: Vec::new(),
        can_fetch_origin: false,
        source: source(Kind::Blob),
        zone: Some("z".repeat(100_000).into()),
        addresses: (0..40).flat_map(|_| ["a".repeat(10_000).into(), "/ip4/10.0.0.1/tcp/1".into()]).collect(),
        private: false,
        has_credential: false,
        fetching: Vec::new(),
    };
    let stream = StreamId(1);
    bench.input(Input::StreamOpened { stream, peer: PeerId::new("talker"), protocol: Protocol::Swarm });
    bench.input(Input::StreamRequest { stream, request: Request::Enrol(enrol) }).take();
    let Some(EnrolReply::Enrolled { neighbours, .. }) = bench.enrolment(2, "other", digest(1), false) else {
        panic!("enrolled");
    };
    let talker = neighbours.iter().find(|neighbour| neighbour.peer.as_str() == "talker").expect("it takes part");
    assert_eq!((talker.addresses.len(), talker.zone.is_none()), (8, true));
}

//! Peers that lie, and events that come in an odd order.

use super::*;
use crate::input::{Hashed, StoreError, TransferEvent};
use crate::message::{Enrol, EnrolReply, Have, Notice};
use crate::output::Span;
use crate::piece::MIN_PIECE_BYTES;

const SECRET: Option<u64> = Some(7);

fn elsewhere(kind: Kind) -> Source {
    Source { registry: "evil.example".into(), repository: "app".into(), kind }
}

impl Bench {
    fn notice(&mut self, peer: &str, notice: Notice) -> &mut Self {
        self.input(Input::Notice { peer: PeerId::new(peer), notice })
    }

    fn have(&mut self, peer: &str, digest: Digest, size: u64) -> &mut Self {
        let pieces = Have::Exactly(Vec::new());
        let (sums, spine) = (Vec::new(), Vec::new());
        self.notice(peer, Notice::Have { digest, size: Some(size), pieces, sums, spine, private: false })
    }

    fn enrolment(&mut self, stream: u64, peer: &str, digest: Digest, can_fetch_origin: bool) -> Option<EnrolReply> {
        let (peer, stream) = (PeerId::new(peer), StreamId(stream));
        self.input(Input::StreamOpened { stream, peer, protocol: Protocol::Swarm });
        let enrol = Enrol {
            digest,
            size: None,
            pieces: Vec::new(),
            can_fetch_origin,
            source: source(Kind::Blob),
            zone: None,
            addresses: Vec::new(),
            private: false,
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
    fn following(tracker: &str, digest: Digest, credential: Option<u64>) -> Self {
        let mut bench = Self::new(|_| {});
        bench.input(Input::Members(vec![member(tracker)]));
        bench.get(1, digest, credential);
        let call = bench.call_to(tracker);
        let moves = Some(Duration::from_millis(1));
        let intent = PullIntent { in_flight_for: moves, idle_for: moves, rank: Some(0), ..PullIntent::default() };
        bench.input(Input::Reply { call, response: Response::PullIntent(intent) });
        bench
    }

    fn call_to(&mut self, peer: &str) -> crate::names::CallId {
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
    let batch = PleasePull { digests: vec![digest(1)], source: elsewhere(Kind::Blob), resuming: false };
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
    assert_eq!(asked_with_a_credential(&bench.outputs), [super::source(Kind::Blob)]);
}

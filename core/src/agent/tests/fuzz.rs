//! Any inputs in any order, as far as drivers keep their contract: nothing panics, everybody gets an answer, and nothing
//! is left when all is over.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::dice::{Dice, PIECES, SIZES};
use super::*;
use crate::input::{
    CallError, Hashed, PartialBlob, Proof, RecordedPiece, StoreError, StreamError, TransferEvent, TransferFailure,
};
use crate::message::{PieceRefusal, PieceRequest, PieceSum};
use crate::names::CallId;
use crate::output::Span;
use crate::piece::{Geometry, MAX_BLOB_BYTES, MIN_PIECE_BYTES};

/// An answer comes within this: the header timeout, a question to the origin, and the header timeout again.
const LATEST_ANSWER: Duration = Duration::from_secs(60);
const PAUSES_MILLIS: [u64; 8] = [0, 1, 30, 700, 1_100, 5_200, 21_000, 310_000];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    None,
    Served,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Opened,
    Admitted(Protocol),
    Asked,
    AskedPiece,
    Notices,
    Answered,
}

/// A transfer: the blob, its geometry if it is known, the next and the end of its pieces, and the peer if it is one's.
type Work = (Digest, Option<Geometry>, u32, u32, Option<PeerId>);

/// Drivers that do what the dice say, and check what they are asked for.
struct World {
    bench: Bench,
    numbers: u64,
    requests: BTreeMap<RequestId, (Answer, Time)>,
    streams: BTreeMap<StreamId, Stage>,
    calls: BTreeMap<CallId, Request>,
    transfers: BTreeMap<OpId, Work>,
    stats: BTreeMap<OpId, Digest>,
    providers: BTreeSet<OpId>,
    hashes: BTreeMap<OpId, (Digest, bool)>,
    commits: Vec<Digest>,
    evicts: Vec<Digest>,
    spines: Vec<Digest>,
    manifests: Vec<Digest>,
    rehashes: Vec<Digest>,
    credentials: BTreeSet<CredentialId>,
    drained: bool,
}

impl World {
    fn new(dice: &mut Dice) -> Self {
        let mut config = Config::new("me", PeerId::new("me"));
        config.store_cap_bytes = Some(4 * MIN_PIECE_BYTES);
        config.auth_check = dice.pick(&[AuthCheck::Off, AuthCheck::Origin]);
        config.max_admitted_flights = 3;
        config.max_running_flights = 2;
        config.max_streams = 4;
        let agent = Agent::new(config, dice.0, Time::ZERO);
        Self {
            bench: Bench { agent, now: Time::ZERO, outputs: Vec::new() },
            numbers: 0,
            requests: BTreeMap::new(),
            streams: BTreeMap::new(),
            calls: BTreeMap::new(),
            transfers: BTreeMap::new(),
            stats: BTreeMap::new(),
            providers: BTreeSet::new(),
            hashes: BTreeMap::new(),
            commits: Vec::new(),
            evicts: Vec::new(),
            spines: Vec::new(),
            manifests: Vec::new(),
            rehashes: Vec::new(),
            credentials: BTreeSet::new(),
            drained: false,
        }
    }

    fn input(&mut self, input: Input) {
        self.bench.input(input);
        for output in self.bench.take() {
            self.output(output);
        }
        for (request, (answer, since)) in &self.requests {
            let waits = self.bench.now - *since;
            assert!(*answer != Answer::None || waits <= LATEST_ANSWER, "{request:?} without an answer for {waits:?}");
        }
    }

    fn answer(&mut self, request: RequestId, from: Answer, to: Answer) {
        let Some((answer, _)) = self.requests.get_mut(&request) else { panic!("{request:?} is closed") };
        assert_eq!(*answer, from, "{request:?} becomes {to:?}");
        *answer = to;
    }

    fn stream(&mut self, stream: StreamId, from: Stage) {
        assert_eq!(self.streams.insert(stream, Stage::Answered), Some(from), "{stream:?}");
    }

    fn uses(&self, credential: Option<CredentialId>) {
        assert!(credential.is_none_or(|credential| self.credentials.contains(&credential)), "it was forgotten");
    }

    fn output(&mut self, output: Output) {
        match output {
            Output::MirrorServe { request, .. } => self.answer(request, Answer::None, Answer::Served),
            Output::MirrorRefuse { request, .. } => self.answer(request, Answer::None, Answer::Over),
            Output::MirrorAbort { request } => self.answer(request, Answer::Served, Answer::Over),
            Output::StreamAdmit { stream, .. } => assert_eq!(self.streams[&stream], Stage::Opened),
            Output::StreamReset { stream } => assert!(self.streams.remove(&stream).is_some()),
            Output::StreamReply { stream, .. } => self.stream(stream, Stage::Asked),
            Output::PieceRefuse { stream, .. } => self.stream(stream, Stage::AskedPiece),
            Output::PieceServe { stream, len, .. } => {
                assert!(len <= crate::piece::MAX_PIECE_BYTES);
                self.stream(stream, Stage::AskedPiece);
            }
            Output::Call { call, request, .. } => assert!(self.calls.insert(call, request).is_none()),
            Output::CallCancel { call } => {
                self.calls.remove(&call);
            }
            Output::FetchPiece { op, digest, size, piece, peer, .. } => {
                let geometry = Geometry::of_blob(size);
                assert!(piece < geometry.pieces());
                self.transfers.insert(op, (digest, Some(geometry), piece, piece + 1, Some(peer)));
            }
            Output::FetchOrigin { op, digest, span, credential, .. } => {
                self.uses(credential);
                let (size, first, count) = match span {
                    Span::Unknown { .. } => {
                        self.transfers.insert(op, (digest, None, 0, 0, None));
                        return;
                    }
                    Span::All { size } => (size, 0, Geometry::of_blob(size).pieces()),
                    Span::Pieces { size, first, count } => (size, first, count),
                };
                let geometry = Geometry::of_blob(size);
                assert!(count > 0 && first + count <= geometry.pieces());
                self.transfers.insert(op, (digest, Some(geometry), first, first + count, None));
            }
            Output::CancelTransfer { op } => {
                self.transfers.remove(&op);
                self.stats.remove(&op);
            }
            Output::StatOrigin { op, digest, credential, .. } => {
                self.uses(credential);
                self.stats.insert(op, digest);
            }
            Output::ForgetCredential { credential } => assert!(self.credentials.remove(&credential)),
            Output::FindProviders { op, .. } => assert!(self.providers.insert(op)),
            Output::Stage { size, .. } => assert!(size <= MAX_BLOB_BYTES),
            Output::HashPiece { op, digest, size, piece, .. } => {
                self.hashes.insert(op, (digest, Geometry::of_blob(size).is_last(piece)));
            }
            Output::Commit { digest, .. } => self.commits.push(digest),
            Output::Evict { digest } => self.evicts.push(digest),
            Output::ReadSpine { digest } => self.spines.push(digest),
            Output::ReadManifest { digest } => self.manifests.push(digest),
            Output::Verify { digest } => self.rehashes.push(digest),
            Output::Drained => assert!(!core::mem::replace(&mut self.drained, true)),
            _ => {}
        }
    }

    fn pass(&mut self, length: Duration) {
        let end = self.bench.now + length;
        let mut ticks = 0;
        while let Some((at, why)) = self.bench.agent.poll_deadline().filter(|(at, _)| *at <= end) {
            self.bench.now = self.bench.now.max(at);
            self.input(Input::Tick);
            ticks += 1;
            assert!(ticks < 100_000, "{why:?} goes round in circles");
            assert!(self.bench.agent.poll_deadline().is_none_or(|(at, _)| at > self.bench.now), "{why:?} stays due");
        }
        self.bench.now = end;
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn step(&mut self, dice: &mut Dice) {
        match dice.below(24) {
            0..=2 => {
                let request = RequestId(self.number());
                let credential = dice.pick(&[None, None, Some(CredentialId(1)), Some(CredentialId(2))]);
                self.credentials.extend(credential);
                self.requests.insert(request, (Answer::None, self.bench.now));
                let method = dice.pick(&[Method::Get, Method::Get, Method::Head]);
                let (source, digest) = (source(dice.kind()), dice.digest());
                self.input(Input::Mirror { request, method, source, digest, credential });
            }
            3 => self.close_request(dice),
            4..=5 => {
                let stream = StreamId(self.number());
                self.streams.insert(stream, Stage::Opened);
                let (peer, protocol) = (dice.peer(), dice.pick(&[Protocol::Coord, Protocol::Swarm]));
                self.input(Input::StreamOpened { stream, peer, protocol });
                if let Some(stage) = self.streams.get_mut(&stream) {
                    *stage = Stage::Admitted(protocol);
                }
            }
            6..=9 => self.stream_moves(dice),
            10..=12 => self.input(Input::Notice { peer: dice.peer(), notice: dice.notice().into() }),
            13..=18 => self.work(dice),
            19 => self.input(Input::Disconnected { peer: dice.peer() }),
            20 => {
                let members = ["a", "b", "c"].into_iter().take(dice.below(4) as usize).map(member).collect();
                self.input(Input::Members(Roster::new(members)));
            }
            22 if dice.below(30) == 0 => self.input(Input::Drain),
            21 if dice.below(8) == 0 => {
                self.input(Input::StoreFailed { digest: dice.digest(), error: dice.store_error() })
            }
            _ => self.pass(Duration::from_millis(dice.pick(&PAUSES_MILLIS))),
        }
    }

    fn close_request(&mut self, dice: &mut Dice) {
        let Some(request) = self.requests.keys().nth(dice.below(8) as usize).copied() else { return };
        self.requests.remove(&request);
        self.input(Input::MirrorClosed { request, sent_bytes: 1 });
    }

    fn stream_moves(&mut self, dice: &mut Dice) {
        let Some((stream, stage)) = self.streams.iter().nth(dice.below(8) as usize) else { return };
        let (stream, stage) = (*stream, *stage);
        match (stage, dice.below(6)) {
            (Stage::Admitted(Protocol::Swarm), 0) => {
                self.streams.insert(stream, Stage::Notices);
                self.input(Input::StreamNotices { stream });
            }
            (Stage::Admitted(Protocol::Swarm), 1..=2) => {
                self.streams.insert(stream, Stage::AskedPiece);
                let digest = dice.digest();
                let request = PieceRequest { digest, size: dice.size(digest), piece: dice.pick(&PIECES) };
                self.input(Input::PieceRequested { stream, request });
            }
            (Stage::Admitted(_), 0..=4) => {
                self.streams.insert(stream, Stage::Asked);
                self.input(Input::StreamRequest { stream, request: dice.request() });
            }
            _ => {
                self.streams.remove(&stream);
                let error = dice.maybe(StreamError::Broken);
                self.input(Input::StreamClosed { stream, error, sent_bytes: 1 });
            }
        }
    }

    /// Something that was asked for is done, or fails.
    fn work(&mut self, dice: &mut Dice) {
        match dice.below(10) {
            0 => {
                let Some((call, request)) = self.calls.pop_first() else { return };
                match dice.below(5) {
                    0 => self.input(Input::CallFailed { call, error: CallError::Unreachable }),
                    _ => {
                        let response = dice.response(&request);
                        self.input(Input::Reply { call, response });
                    }
                }
            }
            1 => {
                let Some((op, digest)) = self.stats.pop_first() else { return };
                let result = match dice.below(4) {
                    0 => Err(dice.origin_failure()),
                    _ => Ok(OriginStat { size: dice.size(digest), media_type: dice.maybe("text/plain".into()) }),
                };
                self.input(Input::OriginStat { op, result });
            }
            2 => {
                let Some(op) = self.providers.pop_first() else { return };
                self.input(Input::Providers { op, peers: dice.neighbours() });
            }
            3 => {
                let Some((op, (digest, is_last))) = self.hashes.pop_first() else { return };
                let result = match dice.below(6) {
                    0 => Err(StoreError::Missing),
                    1 => Ok(dice.midstate()),
                    _ if is_last => Ok(Midstate::from_bytes(*digest.as_bytes())),
                    _ => Ok(dice.midstate()),
                };
                self.input(Input::PieceHashed { op, result });
            }
            4 => self.store(dice),
            _ => self.transfer(dice),
        }
    }

    fn store(&mut self, dice: &mut Dice) {
        if let Some(digest) = self.commits.pop() {
            let result = if dice.below(5) == 0 { Err(dice.store_error()) } else { Ok(()) };
            self.input(Input::Committed { digest, result });
        } else if let Some(digest) = self.manifests.pop() {
            let number = dice.below(3);
            let child = |dice: &mut Dice| {
                let (digest, kind) = (dice.digest(), Kind::Blob);
                Child { digest, size: dice.size(digest), kind }
            };
            let children = (0..number).map(|_| child(dice)).collect();
            self.input(Input::Manifest { digest, media_type: dice.maybe("text/plain".into()), children });
        } else if let Some(digest) = self.rehashes.pop() {
            let result = if dice.below(4) == 0 { Err(dice.store_error()) } else { Ok(dice.below(3) > 0) };
            self.input(Input::Verified { digest, result });
        } else if let Some(digest) = self.spines.pop() {
            let states = (0..dice.below(4)).map(|_| dice.midstate()).collect();
            self.input(Input::Spine { digest, states });
        } else if let Some(digest) = self.evicts.pop() {
            self.input(Input::Evicted { digest });
        }
    }

    fn transfer(&mut self, dice: &mut Dice) {
        let Some(op) = self.transfers.keys().nth(dice.below(4) as usize).copied() else { return };
        let (digest, geometry, next, end, peer) = self.transfers[&op].clone();
        let event = match dice.below(8) {
            0 => {
                self.transfers.remove(&op);
                TransferEvent::Failed(match dice.below(7) {
                    0 => TransferFailure::Unreachable,
                    1 => TransferFailure::Malformed,
                    2 => TransferFailure::NoRanges,
                    3 => TransferFailure::Store(dice.store_error()),
                    4 if peer.is_some() => TransferFailure::Refused(PieceRefusal::Missing),
                    5 if peer.is_some() => TransferFailure::Refused(PieceRefusal::Busy(dice.duration())),
                    _ => TransferFailure::Origin(dice.origin_failure()),
                })
            }
            1 if peer.is_some() && dice.below(2) == 0 => TransferEvent::Answered { after: dice.duration() },
            1 => TransferEvent::Progress { bytes: dice.below(2) },
            _ if geometry.is_none() => {
                let size = dice.size(digest).min(1 << 24);
                let geometry = Geometry::of_blob(size);
                self.transfers.insert(op, (digest, Some(geometry), 0, geometry.pieces(), None));
                TransferEvent::Headers { size, media_type: dice.maybe("text/plain".into()) }
            }
            _ if next >= end => {
                self.transfers.remove(&op);
                TransferEvent::Done
            }
            roll => {
                self.transfers.insert(op, (digest, geometry, next + 1, end, peer.clone()));
                let sum = [dice.below(2) as u8; 32];
                let claim = peer.map(|author| PieceSum { piece: next, sum: [dice.below(2) as u8; 32], author });
                let hashed = if roll == 2 { Hashed::Chained(dice.midstate()) } else { Hashed::Alone(sum) };
                TransferEvent::Piece { piece: next, bytes: 1, hashed, claim }
            }
        };
        self.input(Input::Transfer { op, event });
    }

    /// Nobody wants anything any more; what was asked for fails or is done.
    fn settle(&mut self) {
        while let Some((request, _)) = self.requests.pop_first() {
            self.input(Input::MirrorClosed { request, sent_bytes: 0 });
        }
        for round in 0..2_000 {
            let mut dice = Dice(round);
            self.stats.clear();
            self.transfers.clear();
            self.hashes.clear();
            for call in core::mem::take(&mut self.calls).into_keys() {
                self.input(Input::CallFailed { call, error: CallError::Unreachable });
            }
            if let Some(digest) = self.commits.pop() {
                self.input(Input::Committed { digest, result: Ok(()) });
            }
            while [&self.spines, &self.manifests, &self.rehashes, &self.evicts].iter().any(|orders| !orders.is_empty())
            {
                self.store(&mut dice);
            }
            if self.bench.agent.flights.is_empty() && self.commits.is_empty() {
                break;
            }
            self.pass(Duration::from_secs(5));
        }
        let asked: Vec<_> =
            self.streams.iter().filter(|(_, stage)| matches!(stage, Stage::Asked | Stage::AskedPiece)).collect();
        assert_eq!(asked, [], "streams without an answer");
        for stream in core::mem::take(&mut self.streams).into_keys() {
            self.input(Input::StreamClosed { stream, error: None, sent_bytes: 0 });
        }
        self.pass(Duration::from_secs(1_500));
        let agent = &self.bench.agent;
        assert_eq!(agent.flights.keys().collect::<Vec<_>>(), Vec::<&Digest>::new(), "flights");
        assert_eq!(agent.ops.len(), 0, "{:?}", agent.ops);
        assert_eq!(agent.calls.len(), 0);
        assert_eq!(agent.trackers.keys().collect::<Vec<_>>(), Vec::<&Digest>::new(), "trackers");
        assert!(agent.credentials.is_empty() && self.credentials.is_empty(), "credentials");
        assert!(agent.spine_waiters.is_empty() && agent.streams.is_empty() && agent.requests.is_empty());
        assert!(agent.authorized.is_empty());
        // The sweep and the reconciliation.
        assert_eq!(agent.cx.timers.len(), 2);
        assert!(agent.cache.bytes() <= 4 * MIN_PIECE_BYTES);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_everybody_is_answered_and_nothing_is_left(
        start: u64,
        steps in proptest::collection::vec(any::<u64>(), 0..300),
    ) {
        let mut world = World::new(&mut Dice(start));
        let pieces = vec![RecordedPiece { piece: 1, proof: Proof::Alone([0; 32]), author: PeerId::new("a") }];
        let partial = PartialBlob { digest: digest(3), size: SIZES[3], source: source(Kind::Blob), private: false, pieces };
        let blobs = vec![blob(0, SIZES[0], start % 2 == 0), blob(2, SIZES[2], false)];
        world.input(Input::Recovered { blobs, partials: vec![partial] });
        for step in steps {
            world.step(&mut Dice(step));
        }
        world.settle();
    }
}

//! Upload slots: who is refused is told when one is free.

use super::*;
use crate::input::{TransferEvent, TransferFailure};
use crate::message::{Have, Notice, PieceRefusal, PieceRequest};
use crate::piece::MIN_PIECE_BYTES;

const PIECES: u64 = 16;

fn notices(outputs: &[Output]) -> Vec<(&str, &Notice)> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Notify { peer, notice } => Some((peer.as_str(), &**notice)),
            _ => None,
        })
        .collect()
}

/// A bench with a blob that peers ask for.
struct Server {
    bench: Bench,
    streams: u64,
}

impl Server {
    fn new() -> Self {
        let bench = Bench::with_blobs(vec![blob(1, PIECES * MIN_PIECE_BYTES, false)], |config| config.max_uploads = 2);
        Self { bench, streams: 0 }
    }

    /// `peer` asks for a piece. Returns the stream, and for how long it is refused.
    fn asked_by(&mut self, peer: &str) -> (StreamId, Option<Duration>) {
        self.streams += 1;
        let stream = StreamId(self.streams);
        let request = PieceRequest { digest: digest(1), size: PIECES * MIN_PIECE_BYTES, piece: 0 };
        self.bench.input(Input::StreamOpened { stream, peer: PeerId::new(peer), protocol: Protocol::Swarm });
        self.bench.input(Input::PieceRequested { stream, request });
        let refused = self.bench.take().into_iter().find_map(|output| match output {
            Output::PieceRefuse { refusal: PieceRefusal::Busy(after), .. } => Some(after),
            _ => None,
        });
        if refused.is_some() {
            self.closed(stream, 0);
        }
        (stream, refused)
    }

    fn closed(&mut self, stream: StreamId, sent_bytes: u64) {
        self.bench.input(Input::StreamClosed { stream, error: None, sent_bytes });
    }

    /// Who is told of a slot.
    fn told(&mut self) -> Vec<String> {
        let outputs = self.bench.take();
        notices(&outputs)
            .into_iter()
            .filter(|(_, notice)| matches!(notice, Notice::Unchoke { digest: of, .. } if *of == digest(1)))
            .map(|(peer, _)| peer.to_owned())
            .collect()
    }
}

#[test]
fn who_was_refused_is_told_in_turn_and_who_was_served_comes_after() {
    let mut server = Server::new();
    let first = server.asked_by("a").0;
    let second = server.asked_by("b").0;
    let (c, d) = (server.asked_by("c").1, server.asked_by("d").1);
    assert!(c.is_some() && d.is_some(), "both slots are taken: {c:?}, {d:?}");
    server.closed(first, MIN_PIECE_BYTES);
    assert_eq!(server.told(), ["a"], "it asked first, and may miss more than one piece");
    server.closed(second, MIN_PIECE_BYTES);
    // The first slot was not taken: it is offered with the second.
    assert_eq!(server.told(), ["b", "c"]);
    assert_eq!(server.asked_by("c").1, None);
    assert_eq!(server.asked_by("d").1, None);
    assert!(server.asked_by("e").1.is_some());
}

#[test]
fn a_slot_that_nobody_takes_is_offered_to_the_next_and_nobody_is_told_for_ever() {
    let mut server = Server::new();
    let streams = ["a", "b"].map(|peer| server.asked_by(peer).0);
    for peer in ["c", "d", "e", "f", "g"] {
        assert!(server.asked_by(peer).1.is_some());
    }
    for stream in streams {
        server.closed(stream, MIN_PIECE_BYTES);
    }
    assert_eq!(server.told(), ["a", "b", "c"]);
    assert_eq!(server.bench.agent.contradiction(), None);
    server.bench.pass(Duration::from_millis(100));
    assert_eq!(server.told(), ["d", "e", "f", "g"]);
    server.bench.pass(Duration::from_secs(1));
    assert_eq!(server.told(), [""; 0]);
    assert_eq!(server.bench.agent.census().choked, 0);
}

#[test]
fn who_is_gone_is_not_told() {
    let mut server = Server::new();
    let stream = server.asked_by("a").0;
    server.asked_by("b");
    server.asked_by("c");
    for peer in ["a", "c"] {
        server.bench.input(Input::Disconnected { peer: PeerId::new(peer) });
    }
    server.closed(stream, MIN_PIECE_BYTES);
    assert_eq!(server.told(), ["b"]);
}

/// Several blobs whose pieces everybody has.
fn several(bench: &mut Bench, blobs: u8) {
    let size = PIECES * MIN_PIECE_BYTES;
    for number in 1..=blobs {
        bench.get(number.into(), digest(number), None);
        let op = stat_op(&bench.take());
        bench.input(Input::OriginStat { op, result: Ok(OriginStat { size, media_type: None }) });
    }
    for number in 1..=blobs {
        for name in 0..12 {
            let (sums, spine) = (Vec::new(), Vec::new());
            let digest = digest(number);
            let notice = Notice::Have { digest, size: Some(size), pieces: Have::All, sums, spine, private: false };
            bench.input(Input::Notice { peer: PeerId::new(&format!("peer-{name}")), notice: notice.into() });
        }
    }
}

#[test]
fn all_flights_together_fetch_little_more_than_one_and_each_that_is_waited_for_gets_something() {
    let mut bench = Bench::new(|config| config.max_downloads = 4);
    several(&mut bench, 12);
    let outputs = bench.take();
    let mut of = BTreeMap::<Digest, usize>::new();
    for output in &outputs {
        if let Output::FetchPiece { digest, .. } = output {
            *of.entry(*digest).or_default() += 1;
        }
    }
    assert_eq!(of.len(), 12, "somebody waits for each: {of:?}");
    assert!(of.values().sum::<usize>() <= 2 * 4 + 12, "{of:?}");
    // What one of them leaves goes to those that are held back, although nobody tells them.
    let held = |bench: &Bench| bench.agent.flights.values().filter(|flight| flight.held_back).count();
    assert!(held(&bench) > 0);
    let failed = TransferFailure::Unreachable;
    for (op, _) in fetches(&outputs) {
        bench.input(Input::Transfer { op, event: TransferEvent::Failed(failed.clone()) });
    }
    assert!(!fetches(&bench.take()).is_empty());
    assert_eq!(bench.agent.contradiction(), None);
}

/// Pieces that are asked for, of whom.
fn fetches(outputs: &[Output]) -> Vec<(OpId, &str)> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::FetchPiece { op, peer, .. } => Some((*op, peer.as_str())),
            _ => None,
        })
        .collect()
}

#[test]
fn with_enough_on_its_way_a_busy_neighbour_is_asked_when_it_has_a_slot_and_not_before() {
    let size = PIECES * MIN_PIECE_BYTES;
    let mut bench = Bench::new(|config| config.max_downloads = 8);
    bench.get(1, digest(1), None);
    let op = stat_op(&bench.take());
    bench.input(Input::OriginStat { op, result: Ok(OriginStat { size, media_type: None }) });
    let busy = |bench: &mut Bench, op| {
        let refused = TransferFailure::Refused(PieceRefusal::Busy(Duration::from_millis(10)));
        bench.input(Input::Transfer { op, event: TransferEvent::Failed(refused) });
    };
    // So many that one piece is asked of each at a time.
    let names: Vec<_> = (0..12).map(|number| format!("peer-{number}")).collect();
    for name in &names {
        let notice = Notice::Have {
            digest: digest(1),
            size: Some(size),
            pieces: Have::All,
            sums: Vec::new(),
            spine: Vec::new(),
            private: false,
        };
        bench.input(Input::Notice { peer: PeerId::new(name), notice: notice.into() });
    }
    let outputs = bench.take();
    let asked = fetches(&outputs);
    assert!(asked.len() >= 4, "{asked:?}");
    // Half of them send, everybody else refuses.
    let half = asked.len().div_ceil(2);
    let kept: Vec<_> = asked[..half].iter().map(|(_, peer)| (*peer).to_owned()).collect();
    let mut waiting: Vec<OpId> = asked[half..].iter().map(|(op, _)| *op).collect();
    while let Some(op) = waiting.pop() {
        busy(&mut bench, op);
        let outputs = bench.take();
        waiting.extend(fetches(&outputs).iter().map(|(op, _)| *op));
    }
    bench.pass(Duration::from_millis(150));
    let outputs = bench.take();
    assert_eq!(fetches(&outputs), [], "they are busy, and will say when they are not");
    let unchoker = names.iter().find(|name| !kept.contains(name)).expect("not all neighbours send");
    let notice = Notice::Unchoke { digest: digest(1), pieces: Vec::new(), spine: Vec::new() };
    bench.input(Input::Notice { peer: PeerId::new(unchoker), notice: notice.into() });
    let outputs = bench.take();
    assert_eq!(fetches(&outputs).iter().map(|(_, peer)| *peer).collect::<Vec<_>>(), [unchoker]);
    // It is not told of any more: whoever refused lately is asked again by itself.
    bench.pass(Duration::from_secs(2));
    let outputs = bench.take();
    assert!(!fetches(&outputs).is_empty());
}

#[test]
fn what_an_unchoke_names_is_known_and_what_it_vouches_for_is_heard() {
    let size = PIECES * MIN_PIECE_BYTES;
    let mut bench = Bench::new(|_| {});
    bench.get(1, digest(1), None);
    let op = stat_op(&bench.take());
    bench.input(Input::OriginStat { op, result: Ok(OriginStat { size, media_type: None }) });
    let (sums, spine) = (Vec::new(), Vec::new());
    let pieces = Have::Exactly(vec![0; 2]);
    let have = Notice::Have { digest: digest(1), size: Some(size), pieces, sums, spine, private: false };
    bench.input(Input::Notice { peer: PeerId::new("a"), notice: have.into() });
    let state = Midstate([7; 8]);
    let unchoke = Notice::Unchoke { digest: digest(1), pieces: vec![7, 99], spine: vec![(7, state)] };
    bench.input(Input::Notice { peer: PeerId::new("a"), notice: unchoke.into() });
    let flight = &bench.agent.flights[&digest(1)];
    assert_eq!(flight.neighbours.available().iter().collect::<Vec<_>>(), [7]);
    assert_eq!(flight.download.as_ref().and_then(|download| download.chain().before(7)), Some(state));
    assert_eq!(bench.agent.contradiction(), None);
}

#[test]
fn who_asks_for_what_is_not_here_is_told_that_we_take_no_part() {
    let mut server = Server::new();
    server.streams += 1;
    let (stream, peer) = (StreamId(server.streams), PeerId::new("a"));
    let request = PieceRequest { digest: digest(2), size: PIECES * MIN_PIECE_BYTES, piece: 0 };
    server.bench.input(Input::StreamOpened { stream, peer, protocol: Protocol::Swarm });
    server.bench.input(Input::PieceRequested { stream, request });
    let outputs = server.bench.take();
    assert!(outputs.contains(&Output::PieceRefuse { stream, refusal: PieceRefusal::Missing }), "{outputs:?}");
    assert_eq!(notices(&outputs), [("a", &Notice::Leave { digest: digest(2) })]);
}

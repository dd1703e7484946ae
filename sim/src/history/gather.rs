//! What one life sent and received, and what led to what within it.

use std::collections::{BTreeMap, BTreeSet};

use longshore_core::input::{CallError, Input, TransferEvent, TransferFailure};
use longshore_core::journal::running::Fnv;
use longshore_core::message::{Have, Notice, Request};
use longshore_core::names::PeerId;
use longshore_core::output::Output;
use longshore_core::timers::Deadline;

use super::Outcome;
use super::lives::Life;
use crate::replay::causes::{Subject, Threads};
use crate::replay::{Step, Stepper};

/// No input: indices of inputs are below this, because a frame of each byte would fill 4 GiB.
pub const NONE: u32 = u32::MAX;

/// Everybody who is named in the journals, numbered.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    numbers: BTreeMap<PeerId, u32>,
    peers: Vec<PeerId>,
    talked: BTreeSet<u32>,
}

impl Peers {
    /// The number of a peer; a new one if it has none.
    pub fn number(&mut self, peer: &PeerId) -> u32 {
        if let Some(number) = self.numbers.get(peer) {
            return *number;
        }
        let number = self.peers.len() as u32;
        self.numbers.insert(peer.clone(), number);
        self.peers.push(peer.clone());
        number
    }

    /// The number of a peer that has one.
    #[must_use]
    pub fn get(&self, peer: &PeerId) -> Option<u32> {
        self.numbers.get(peer).copied()
    }

    /// The peer of a number.
    #[must_use]
    pub fn peer(&self, number: u32) -> &PeerId {
        &self.peers[number as usize]
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.peers.len()
    }

    /// Those that sent something to a recorded node, or got something from one.
    pub fn talked(&self) -> impl Iterator<Item = &PeerId> {
        self.talked.iter().map(|number| self.peer(*number))
    }

    fn talks(&mut self, peer: &PeerId) -> u32 {
        let number = self.number(peer);
        self.talked.insert(number);
        number
    }
}

/// A message on its way out.
#[derive(Clone, Copy, Debug)]
pub struct Send {
    /// The input that it followed from.
    pub event: u32,
    /// To whom.
    pub to: u32,
    /// What it says, as a hash over what arrives as it was sent.
    pub key: u64,
    /// The input with the answer, or with the first part of it.
    pub answered: u32,
    /// What became of it, as far as the sender knows.
    pub fate: Fate,
}

/// What a sender knows of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing: it wants no answer, or the journal ends before it.
    Unknown,
    /// It was answered.
    Answered,
    /// Nothing came until it was too late.
    TimedOut,
    /// The sender did not want it any more.
    Cancelled,
    /// There was nobody to send it to.
    Unreachable,
}

/// A message that came in.
#[derive(Clone, Copy, Debug)]
pub struct Receive {
    /// The input that says what it is.
    pub event: u32,
    /// The input that it was first noticed with.
    pub opened: u32,
    /// From whom.
    pub from: u32,
    /// What it says.
    pub key: u64,
    /// The input that an answer followed from.
    pub answered: u32,
    /// The answer is the bytes of a piece: its way takes as long as they do.
    pub bulky: bool,
}

/// What is known of one life.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The time of each input, in microseconds by the agent's clock.
    pub times: Vec<u64>,
    /// For each input the one within this life that led to it.
    pub causes: Vec<u32>,
    /// What was sent, in order.
    pub sends: Vec<Send>,
    /// What was received, in order.
    pub receives: Vec<Receive>,
    /// Peers whose connections were lost, and when.
    pub disconnected: Vec<(u32, u32)>,
}

#[derive(Clone, Copy)]
struct Stream {
    peer: u32,
    opened: u32,
    receive: Option<usize>,
}

/// What is open while a life is followed.
#[derive(Default)]
struct Open {
    calls: BTreeMap<u64, usize>,
    transfers: BTreeMap<u64, usize>,
    streams: BTreeMap<u64, Stream>,
}

/// Replays a life and notes what it sends and receives.
pub fn gather(life: &Life, peers: &mut Peers, mut observe: impl FnMut(&Step<'_>, &Subject)) -> (Facts, Outcome) {
    let mut facts = Facts::default();
    let mut outcome = Outcome {
        inputs: 0,
        outputs: 0,
        kinds: BTreeMap::new(),
        died: false,
        digest: 0,
        divergence: None,
        broken: None,
    };
    let mut stepper = match Stepper::new(&life.journals) {
        Ok(stepper) => stepper,
        Err(error) => {
            outcome.broken = Some(error);
            return (facts, outcome);
        }
    };
    let (mut threads, mut open, first) = (Threads::default(), Open::default(), life.first_number());
    loop {
        match stepper.advance() {
            Ok(Some(step)) => {
                let (subject, cause) = threads.follow(&step);
                let cause = cause.and_then(|cause| u32::try_from(cause.number.checked_sub(first)?).ok());
                facts.times.push(step.time.as_micros());
                facts.causes.push(cause.unwrap_or(NONE));
                facts.input(&step, &mut open, peers);
                facts.outputs(&step, &mut open, peers);
                observe(&step, &subject);
            }
            Ok(None) => break,
            Err(error) => {
                outcome.broken = Some(error);
                break;
            }
        }
    }
    let replayed = stepper.finish();
    outcome.inputs = replayed.inputs;
    outcome.outputs = replayed.outputs;
    outcome.kinds = replayed.kinds;
    outcome.died = replayed.died;
    outcome.digest = replayed.digest;
    outcome.divergence = replayed.divergence;
    (facts, outcome)
}

impl Facts {
    fn now(&self) -> u32 {
        (self.times.len() - 1) as u32
    }

    fn input(&mut self, step: &Step<'_>, open: &mut Open, peers: &mut Peers) {
        let now = self.now();
        match step.input {
            Input::StreamOpened { stream, peer, .. } => {
                let peer = peers.talks(peer);
                open.streams.insert(stream.0, Stream { peer, opened: now, receive: None });
            }
            Input::StreamRequest { stream, request } => self.receive(open, stream.0, request_key(request), false),
            Input::PieceRequested { stream, request } => {
                self.receive(open, stream.0, piece_key(&request.digest, request.piece), true);
            }
            Input::StreamClosed { stream, .. } => {
                open.streams.remove(&stream.0);
            }
            Input::Notice { peer, notice } => {
                let (from, key) = (peers.talks(peer), notice_key(notice));
                self.receives.push(Receive { event: now, opened: now, from, key, answered: NONE, bulky: false });
            }
            Input::Reply { call, .. } => self.end(open.calls.remove(&call.0), Fate::Answered),
            Input::CallFailed { call, error } => {
                // A reset is an answer; what cannot be decoded is one that was not understood.
                let fate = if *error == CallError::Unreachable { Fate::Unreachable } else { Fate::Answered };
                self.end(open.calls.remove(&call.0), fate);
            }
            Input::Transfer { op, event } => {
                let send = open.transfers.get(&op.0).copied();
                let fate = match event {
                    TransferEvent::Failed(TransferFailure::Unreachable) => Fate::Unreachable,
                    _ => Fate::Answered,
                };
                if send.is_some_and(|send| self.sends[send].answered == NONE) {
                    self.end(send, fate);
                }
                if matches!(event, TransferEvent::Done | TransferEvent::Failed(_)) {
                    open.transfers.remove(&op.0);
                }
            }
            Input::Disconnected { peer } => {
                let peer = peers.number(peer);
                self.disconnected.push((now, peer));
            }
            _ => {}
        }
        match step.due {
            Some(Deadline::Call(call)) => self.end(open.calls.remove(&call.0), Fate::TimedOut),
            Some(Deadline::Transfer(op)) => {
                let send = open.transfers.remove(&op.0);
                if send.is_some_and(|send| self.sends[send].answered == NONE) {
                    self.end(send, Fate::TimedOut);
                }
            }
            _ => {}
        }
    }

    /// What became of a message is known.
    fn end(&mut self, send: Option<usize>, fate: Fate) {
        let now = self.now();
        if let Some(send) = send.and_then(|send| self.sends.get_mut(send)) {
            send.fate = fate;
            if fate == Fate::Answered {
                send.answered = now;
            }
        }
    }

    fn receive(&mut self, open: &mut Open, stream: u64, key: u64, bulky: bool) {
        let event = self.now();
        if let Some(Stream { peer, opened, receive }) = open.streams.get_mut(&stream) {
            *receive = Some(self.receives.len());
            self.receives.push(Receive { event, opened: *opened, from: *peer, key, answered: NONE, bulky });
        }
    }

    fn outputs(&mut self, step: &Step<'_>, open: &mut Open, peers: &mut Peers) {
        let event = self.now();
        for output in step.outputs {
            match output {
                Output::Call { call, peer, request, .. } => {
                    open.calls.insert(call.0, self.sends.len());
                    self.send(event, peers.talks(peer), request_key(request));
                }
                Output::FetchPiece { op, peer, digest, piece, .. } => {
                    open.transfers.insert(op.0, self.sends.len());
                    self.send(event, peers.talks(peer), piece_key(digest, *piece));
                }
                Output::Notify { peer, notice } => self.send(event, peers.talks(peer), notice_key(notice)),
                Output::CallCancel { call } => {
                    if let Some(send) = open.calls.remove(&call.0) {
                        self.sends[send].fate = Fate::Cancelled;
                    }
                }
                Output::CancelTransfer { op } => {
                    if let Some(send) = open.transfers.remove(&op.0)
                        && self.sends[send].fate == Fate::Unknown
                    {
                        self.sends[send].fate = Fate::Cancelled;
                    }
                }
                Output::StreamReply { stream, .. }
                | Output::StreamReset { stream }
                | Output::PieceServe { stream, .. }
                | Output::PieceRefuse { stream, .. } => {
                    if let Some(receive) = open.streams.get(&stream.0).and_then(|stream| stream.receive) {
                        let receive = &mut self.receives[receive];
                        receive.answered = event;
                        receive.bulky = matches!(output, Output::PieceServe { .. });
                    }
                }
                _ => {}
            }
        }
    }

    fn send(&mut self, event: u32, to: u32, key: u64) {
        self.sends.push(Send { event, to, key, answered: NONE, fate: Fate::Unknown });
    }
}

/// A hash over parts of a message. Texts, durations and instants are left out: redaction replaces texts, and the wire rounds
/// time.
struct Key(Fnv);

impl Key {
    fn new(kind: u8) -> Self {
        Self(Fnv::default()).number(u64::from(kind))
    }

    fn number(mut self, number: u64) -> Self {
        self.0.bytes(&number.to_le_bytes());
        self
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        let mut key = self.number(bytes.len() as u64);
        key.0.bytes(bytes);
        key
    }

    fn digest(mut self, digest: &longshore_core::digest::Digest) -> Self {
        self.0.bytes(digest.as_bytes());
        self
    }
}

fn piece_key(digest: &longshore_core::digest::Digest, piece: u32) -> u64 {
    Key::new(0).digest(digest).number(u64::from(piece)).0.value()
}

fn request_key(request: &Request) -> u64 {
    let key = match request {
        Request::PullIntent { digest, .. } => Key::new(1).digest(digest),
        Request::PleasePull(pull) => pull.digests.iter().fold(Key::new(2), Key::digest),
        Request::Enrol(enrol) => {
            Key::new(3).digest(&enrol.digest).number(enrol.size.map_or(u64::MAX, |size| size)).bytes(&enrol.pieces)
        }
    };
    key.0.value()
}

fn notice_key(notice: &Notice) -> u64 {
    let key = match notice {
        Notice::Have { digest, pieces, sums, spine, .. } => {
            let mut key = Key::new(4).digest(digest);
            key = match pieces {
                Have::Exactly(bytes) => key.number(0).bytes(bytes),
                Have::Also(pieces) => pieces.iter().fold(key.number(1), |key, piece| key.number(u64::from(*piece))),
                Have::All => key.number(2),
            };
            key = sums.iter().fold(key, |key, sum| key.number(u64::from(sum.piece)));
            spine.iter().fold(key, |key, (piece, _)| key.number(u64::from(*piece)))
        }
        Notice::Assign { digest, first, count, .. } => {
            Key::new(5).digest(digest).number(u64::from(*first)).number(u64::from(*count))
        }
        Notice::Unassigned { digest, first, count, .. } => {
            Key::new(6).digest(digest).number(u64::from(*first)).number(u64::from(*count))
        }
        Notice::Starving { digest, piece } => Key::new(7).digest(digest).number(u64::from(*piece)),
        Notice::Leave { digest } => Key::new(8).digest(digest),
        Notice::Unchoke { digest, pieces, spine } => {
            let key = pieces.iter().fold(Key::new(9).digest(digest), |key, piece| key.number(u64::from(*piece)));
            spine.iter().fold(key, |key, (piece, _)| key.number(u64::from(*piece)))
        }
    };
    key.0.value()
}

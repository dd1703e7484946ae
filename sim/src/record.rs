//! What happened in a run, and what brought each thing about: kept on demand, for [`crate::why`], [`crate::diff`] and
//! [`crate::view`].
//!
//! A run is a function of scenario and seed. So the first recorded run keeps small events only, and when some of them are to
//! be told in words, the run is done again and the words are kept of these alone. Recording changes nothing: the trace hash
//! is the same with it and without.

mod blame;
mod event;
mod faults;
mod notes;
pub mod timeline;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use longshore_core::digest::Digest;
use longshore_core::input::{Input, TransferEvent, TransferFailure};
use longshore_core::names::PeerId;
use longshore_core::output::{Output, Span};
use longshore_core::time::Time;
use longshore_core::timers::Deadline;

pub use event::{Cause, Event, EventId, Timer, What};
pub use faults::FaultRecord;
pub(crate) use faults::these;

use crate::replay::causes::{self, Thread};
use crate::replay::story;
use crate::world::NodeIndex;
use blame::Blame;
use timeline::Timeline;

/// Events that are kept, the last ones: 800 MB.
const MAX_EVENTS: usize = 16_000_000;

/// What to keep of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// All events with their causes.
    pub events: bool,
    /// What it looked like over time.
    pub timeline: bool,
    /// The words of these events.
    pub words: BTreeSet<EventId>,
    /// All rules are looked at, as the hunt does, and the run ends when the first one is broken.
    pub strictly: bool,
}

/// An event in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// What happened.
    pub happened: String,
    /// What the agent did, one for each output.
    pub did: Vec<String>,
}

/// A pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PullRecord {
    /// Where.
    pub node: NodeIndex,
    /// What: an index of [`Record::digest`].
    pub manifest: u16,
    /// Bytes of the image.
    pub bytes: u64,
    /// Its pieces.
    pub pieces: u32,
    /// When and with which event it began.
    pub begun: (Time, EventId),
    /// When and with which event it was done.
    pub finished: Option<(Time, EventId)>,
}

/// Where something that is being waited for began.
#[derive(Clone, Copy, Debug)]
struct Begun {
    cause: Cause,
    peer: Option<NodeIndex>,
    blob: Option<u16>,
    at: Time,
    from_origin: bool,
}

#[derive(Debug, Default)]
struct NodeRecord {
    threads: BTreeMap<Thread, Begun>,
    /// What was lost on its way, and is being waited for.
    stalled: BTreeMap<Thread, EventId>,
    /// The last event that was no housekeeping.
    last: Option<EventId>,
    /// Since when it is down.
    down: Option<EventId>,
    pull: Option<usize>,
    /// Blobs that containerd gets from the registry.
    direct: BTreeMap<u16, EventId>,
    faults: Vec<usize>,
}

/// A run, as far as it was wanted.
#[derive(Debug)]
pub struct Record {
    wanted: Wanted,
    now: Time,
    next: EventId,
    /// The number of the first event that is kept.
    first: EventId,
    events: VecDeque<Event>,
    blame: Blame,
    nodes: Vec<NodeRecord>,
    digests: Vec<(Digest, u64)>,
    blobs: BTreeMap<Digest, u16>,
    faults: Vec<FaultRecord>,
    /// Faults that befall no node in particular.
    everywhere: Vec<usize>,
    pulls: Vec<PullRecord>,
    violations: Vec<EventId>,
    fallbacks: Vec<EventId>,
    failures: Vec<EventId>,
    from_origin: BTreeSet<(u16, u32)>,
    twice: Option<EventId>,
    timeline: Timeline,
    said: BTreeMap<EventId, Words>,
    /// The input that an agent handles, and the outputs that it led to so far.
    handled: EventId,
    outputs: u16,
}

impl Record {
    pub(crate) fn new(wanted: Wanted, nodes: usize) -> Self {
        Self {
            timeline: Timeline::new(if wanted.timeline { nodes } else { 0 }),
            wanted,
            now: Time::ZERO,
            next: 0,
            first: 0,
            events: VecDeque::new(),
            blame: Blame::default(),
            nodes: (0..nodes).map(|_| NodeRecord::default()).collect(),
            digests: Vec::new(),
            blobs: BTreeMap::new(),
            faults: Vec::new(),
            everywhere: Vec::new(),
            pulls: Vec::new(),
            violations: Vec::new(),
            fallbacks: Vec::new(),
            failures: Vec::new(),
            from_origin: BTreeSet::new(),
            twice: None,
            said: BTreeMap::new(),
            handled: 0,
            outputs: 0,
        }
    }

    /// The number after the last event's.
    #[must_use]
    pub fn len(&self) -> EventId {
        self.next
    }

    /// Whether nothing happened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.next == 0
    }

    /// The first event that is kept.
    #[must_use]
    pub fn first(&self) -> EventId {
        self.first
    }

    /// An event, if it is kept.
    #[must_use]
    pub fn event(&self, id: EventId) -> Option<&Event> {
        self.events.get(id.checked_sub(self.first)? as usize)
    }

    /// All events that are kept, with their numbers.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = (EventId, &Event)> + ExactSizeIterator {
        let first = self.first;
        self.events.iter().enumerate().map(move |(place, event)| (first + place as EventId, event))
    }

    /// The words of an event, if they were wanted.
    #[must_use]
    pub fn words(&self, id: EventId) -> Option<&Words> {
        self.said.get(&id)
    }

    /// The digest of a blob.
    #[must_use]
    pub fn digest(&self, blob: u16) -> Option<&Digest> {
        self.digests.get(usize::from(blob)).map(|(digest, _)| digest)
    }

    /// Blobs whose digest begins with these hex digits.
    pub fn blobs_like<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = u16> + 'a {
        let blobs = self.digests.iter().zip(0..).filter(move |((digest, _), _)| digest.hex().starts_with(prefix));
        blobs.map(|(_, blob)| blob)
    }

    /// Faults, in the order in which they began.
    #[must_use]
    pub fn faults(&self) -> &[FaultRecord] {
        &self.faults
    }

    /// Pulls, in the order in which they began.
    #[must_use]
    pub fn pulls(&self) -> &[PullRecord] {
        &self.pulls
    }

    /// Broken rules, in the order of the report's.
    #[must_use]
    pub fn violations(&self) -> &[EventId] {
        &self.violations
    }

    /// Blobs for which containerd went to the registry.
    #[must_use]
    pub fn fallbacks(&self) -> &[EventId] {
        &self.fallbacks
    }

    /// Pulls that failed.
    #[must_use]
    pub fn failures(&self) -> &[EventId] {
        &self.failures
    }

    /// The first event with which a piece was asked of the registry a second time.
    #[must_use]
    pub fn fetched_twice(&self) -> Option<EventId> {
        self.twice
    }

    /// What it looked like over time.
    #[must_use]
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }
}

/// What the world tells. Every call comes after `settle`.
impl Record {
    /// It is `now`, and so much is scheduled.
    pub(crate) fn settle(&mut self, now: Time, scheduled: u64, ready: usize) {
        self.now = now;
        if self.wanted.events {
            self.blame.settle(scheduled, ready);
        }
    }

    /// An event of the queue happens.
    pub(crate) fn take_queued(&mut self, number: u64) {
        if self.wanted.events {
            self.blame.take_queued(number);
        }
    }

    /// An input that was ready comes; it is still in its queue.
    pub(crate) fn take_ready(&mut self) {
        if self.wanted.events {
            self.blame.take_ready();
        }
    }

    /// What comes next follows from nothing that has happened.
    pub(crate) fn rest(&mut self) {
        self.blame.current = None;
    }

    /// What comes from now on is not shown: only the end of everything is waited for.
    pub(crate) fn story_ends(&mut self) {
        self.timeline.is_over = true;
    }

    pub(crate) fn blob(&mut self, digest: Digest, size: u64) {
        let number = self.digests.len().min(usize::from(u16::MAX) - 1) as u16;
        if usize::from(number) == self.digests.len() {
            self.digests.push((digest, size));
            self.timeline.blob(size);
        }
        self.blobs.insert(digest, number);
    }

    fn blob_of(&self, digest: Option<&Digest>) -> Option<u16> {
        self.blobs.get(digest?).copied()
    }

    fn peer_of(&self, peer: Option<&PeerId>) -> Option<NodeIndex> {
        peer?.as_str().strip_prefix("peer-")?.parse().ok().filter(|node| *node < self.nodes.len())
    }

    fn keep(&mut self, event: Event) -> EventId {
        let id = self.next;
        self.next += 1;
        if self.wanted.events {
            if self.events.len() >= MAX_EVENTS {
                self.events.pop_front();
                self.first += 1;
            }
            self.events.push_back(event);
            if let (Some(node), false) = (event.node(), matches!(event.what, What::Timer(it) if it.is_housekeeping())) {
                self.nodes[node].last = Some(id);
            }
        }
        id
    }

    /// Something that is no input happens; what is done next follows from it.
    fn note(&mut self, event: Event, words: impl FnOnce() -> String) -> EventId {
        let event = if event.cause().is_none() { event.with_cause(self.blame.current) } else { event };
        let id = self.keep(event);
        self.blame.current = Some(Cause { event: id, output: None });
        if self.wanted.words.contains(&id) {
            self.said.insert(id, Words { happened: words(), ..Words::default() });
        }
        id
    }

    /// An agent is about to be given an input. `due` is the first of its deadlines, `check` the hash with this input.
    pub(crate) fn input(&mut self, node: NodeIndex, input: &Input, due: Option<Deadline>, check: u32) {
        let due = due.filter(|_| *input == Input::Tick);
        let id = self.next;
        if self.wanted.events || self.wanted.timeline {
            self.follow(node, input, due.as_ref(), check);
        } else {
            self.keep(Event::new(self.now, Some(node), What::Told));
        }
        self.blame.current = Some(Cause { event: id, output: None });
        (self.handled, self.outputs) = (id, 0);
        if self.wanted.words.contains(&id) {
            let happened = match &due {
                Some(due) => format!("Tick {}", story::due(due)),
                None => named(&story::input(input)),
            };
            self.said.insert(id, Words { happened, did: Vec::new() });
        }
    }

    fn follow(&mut self, node: NodeIndex, input: &Input, due: Option<&Deadline>, check: u32) {
        let subject = causes::of_input(input);
        let (thread, _) = due.map_or_else(|| causes::connection(input), causes::of_deadline);
        let begun = thread.and_then(|thread| self.nodes[node].threads.get(&thread)).copied();
        let blob = self.blob_of(subject.digests.first()).or(begun.and_then(|begun| begun.blob));
        let peer = self.peer_of(subject.peers.first()).or(begun.and_then(|begun| begun.peer));
        let from_origin = begun.is_some_and(|begun| begun.from_origin);
        let what = What::of(input, due, from_origin);
        // The queue knows who scheduled what, but not for which of several transfers a link is served.
        let by_thread = matches!(
            what,
            What::Timer(_) | What::Piece | What::OriginPiece | What::Transfer | What::Stream if thread.is_some()
        );
        let cause = if by_thread { begun.map(|begun| begun.cause).or(self.blame.current) } else { self.blame.current };
        let suspect = thread.and_then(|thread| self.nodes[node].stalled.get(&thread).copied());
        let since = begun.map_or(self.now, |begun| begun.at);
        let because = suspect.filter(|_| matches!(what, What::Timer(_))).or_else(|| match input {
            Input::Transfer { event: TransferEvent::Failed(TransferFailure::Store(_)), .. }
            | Input::StoreFailed { .. }
            | Input::Committed { result: Err(_), .. }
            | Input::PieceHashed { result: Err(_), .. } => self.fault("disk", since, [Some(node), None]),
            Input::Transfer { event: TransferEvent::Failed(_), .. } if from_origin => {
                self.fault("origin", since, [None, None])
            }
            Input::OriginStat { result: Err(_), .. } => self.fault("origin", since, [None, None]),
            Input::Tick if from_origin => self.fault("origin", since, [None, None]),
            Input::Transfer { event: TransferEvent::Piece { .. }, .. } if from_origin => {
                self.fault("origin-slow", since, [None, None])
            }
            Input::Transfer { event: TransferEvent::Piece { .. }, .. } => {
                self.fault("corrupt", since, [peer, None]).or_else(|| self.fault("slow", since, [peer, Some(node)]))
            }
            _ => None,
        });
        let piece = match input {
            Input::Transfer { event: TransferEvent::Piece { piece, .. }, .. } => *piece,
            _ => 0,
        };
        let mut event = Event::new(self.now, Some(node), what).with_cause(cause).with_fault(because);
        event = event.with_peer(peer).with_blob(blob).with_number(piece);
        event.check = check;
        let id = self.keep(event);
        self.moved(node, input, blob);
        let now = Begun { cause: Cause { event: id, output: None }, peer, blob, at: self.now, from_origin: false };
        let state = &mut self.nodes[node];
        if let Some(thread) = thread {
            if causes::ends(input) {
                state.threads.remove(&thread);
                state.stalled.remove(&thread);
            } else if matches!(thread, Thread::Stream(_)) {
                state.threads.insert(thread, now);
            }
        }
        for (thread, _) in causes::begun(input) {
            state.threads.insert(thread, now);
        }
        for digest in &subject.digests {
            state.threads.insert(Thread::About(*digest), now);
        }
        if let (true, Some(blob)) = (subject.digests.is_empty(), blob)
            && let Some((digest, _)) = self.digests.get(usize::from(blob))
        {
            state.threads.insert(Thread::About(*digest), now);
        }
    }

    /// What an input brought to its node.
    fn moved(&mut self, node: NodeIndex, input: &Input, blob: Option<u16>) {
        if !self.wanted.timeline {
            return;
        }
        match input {
            Input::Transfer { event: TransferEvent::Piece { piece, .. }, .. } => {
                if let Some(blob) = blob {
                    self.timeline.has(self.now, node, blob, Some(&[*piece]));
                }
            }
            Input::Recovered { blobs, partials } => {
                for blob in blobs.iter().filter_map(|blob| self.blobs.get(&blob.digest)) {
                    self.timeline.has(self.now, node, *blob, None);
                }
                for partial in partials {
                    let pieces: Vec<_> = partial.pieces.iter().map(|piece| piece.piece).collect();
                    if let Some(blob) = self.blobs.get(&partial.digest) {
                        self.timeline.has(self.now, node, *blob, Some(&pieces));
                    }
                }
            }
            _ => {}
        }
    }

    /// The agent asks for something because of its last input; it is about to be carried out.
    pub(crate) fn output(&mut self, node: NodeIndex, output: &Output) {
        let event = self.handled;
        let cause = Cause { event, output: Some(self.outputs) };
        self.outputs = self.outputs.saturating_add(1);
        self.blame.current = Some(cause);
        if let Some(words) = self.said.get_mut(&event) {
            words.did.push(named(&story::output(output)));
        }
        if !self.wanted.events && !self.wanted.timeline {
            return;
        }
        match output {
            Output::Call { .. } | Output::Notify { .. } | Output::FetchPiece { .. } if self.wanted.timeline => {
                self.timeline.message(self.now);
            }
            Output::Discard { digest } | Output::Evict { digest } if self.wanted.timeline => {
                if let Some(blob) = self.blobs.get(digest) {
                    self.timeline.forgets(self.now, node, *blob);
                }
            }
            _ => {}
        }
        let Some(thread) = causes::started(output) else { return };
        let subject = causes::of_output(output);
        let blob = self.blob_of(subject.digests.first());
        let from_origin = matches!(output, Output::FetchOrigin { .. } | Output::StatOrigin { .. });
        if let (Output::FetchOrigin { span, .. }, Some(blob)) = (output, blob) {
            self.asks_origin(event, blob, *span);
        }
        let peer = self.peer_of(subject.peers.first());
        self.nodes[node].threads.insert(thread, Begun { cause, peer, blob, at: self.now, from_origin });
    }

    fn asks_origin(&mut self, event: EventId, blob: u16, span: Span) {
        let pieces = match span {
            Span::Unknown { .. } | Span::All { .. } => {
                let size = self.digests.get(usize::from(blob)).map_or(0, |(_, size)| *size);
                0..longshore_core::piece::Geometry::of_blob(size).pieces()
            }
            Span::Pieces { first, count, .. } => first..first + count,
        };
        for piece in pieces {
            if !self.from_origin.insert((blob, piece)) {
                self.twice = self.twice.or(Some(event));
            }
        }
    }

    /// A node sends a piece for the transfer `thread` of another: what arrives there follows from this.
    pub(crate) fn serves(&mut self, to: NodeIndex, thread: Thread) {
        if let (Some(cause), Some(begun)) = (self.blame.current, self.nodes[to].threads.get_mut(&thread)) {
            begun.cause = cause;
        }
    }
}

/// Peers of a simulated cluster are called peer-00017, of which stories tell the last characters.
fn named(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('-') {
        let (before, after) = rest.split_at(at);
        let digits = after[1..].chars().take_while(char::is_ascii_digit).count();
        let begins = before.is_empty() || before.ends_with([' ', ':']);
        let number: Option<NodeIndex> = if digits == 5 && begins { after[1..6].parse().ok() } else { None };
        result.push_str(before);
        match number {
            Some(number) => {
                result.push_str(&format!("node {number}"));
                rest = &after[6..];
            }
            None => {
                result.push('-');
                rest = &after[1..];
            }
        }
    }
    result + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_told_as_nodes() {
        assert_eq!(named("Notice -00017 have abc +1"), "Notice node 17 have abc +1");
        assert_eq!(named("tell -00003: assign a-b 3"), "tell node 3: assign a-b 3");
        assert_eq!(named("header-timeout -1"), "header-timeout -1");
    }
}

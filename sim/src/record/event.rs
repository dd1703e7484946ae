//! One thing that happened in a run.

use longshore_core::input::{Input, TransferEvent};
use longshore_core::time::Time;
use longshore_core::timers::Deadline;

use crate::world::NodeIndex;

/// The number of an event, from 0, in the order in which things happened.
pub type EventId = u32;

/// Stands for no event, node or output.
const NONE: u32 = u32::MAX;
/// Stands for no blob or output.
const NONE_SHORT: u16 = u16::MAX;

/// What brought something about: an event and, if it made an agent do several things, which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The event.
    pub event: EventId,
    /// The output of that event's agent, from 0.
    pub output: Option<u16>,
}

/// What happened, in kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// A fault begins.
    FaultBegins,
    /// A fault ends.
    FaultEnds,
    /// All faults end.
    Heals,
    /// A node goes down.
    Dies,
    /// A node starts.
    Starts,
    /// Something waits, because the process that it is for stands still.
    Held,
    /// A message or a piece is lost on its way.
    Lost,
    /// Somebody wants something from a node that is down.
    NobodyThere,
    /// A pull begins.
    PullBegins,
    /// A pull is done.
    PullFinishes,
    /// A pull fails; the kubelet tries again.
    PullFails,
    /// containerd goes to the registry for a blob.
    FallsBack,
    /// It has it from there.
    FetchedDirectly,
    /// A rule is broken.
    Violation,
    /// A deadline passes.
    Timer(Timer),
    /// A piece comes from a peer.
    Piece,
    /// A piece comes from the origin.
    OriginPiece,
    /// A transfer fails.
    TransferFails,
    /// A transfer begins or ends otherwise.
    Transfer,
    /// containerd asks its mirror, or stops asking.
    Request,
    /// A peer opens a stream, or it ends.
    Stream,
    /// A peer asks.
    Asked,
    /// A peer says something.
    Notice,
    /// A call is answered.
    Answer,
    /// A call fails.
    CallFails,
    /// A peer is gone.
    Disconnected,
    /// The origin answers a question, or the provider index does.
    Looked,
    /// The disk is done with something.
    Disk,
    /// What the agent is told when it starts, and whenever members change.
    Told,
}

/// The reasons of deadlines, as in [`Deadline`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Timer {
    Handshake,
    Call,
    Transfer,
    Headers,
    Body,
    NoProgress,
    Probe,
    Enrol,
    Track,
    Fetch,
    Tell,
    Unchoke,
    Announce,
    Reconcile,
    Sweep,
    None,
}

impl Timer {
    pub(super) fn of(due: Option<&Deadline>) -> Self {
        match due {
            None => Self::None,
            Some(Deadline::Handshake(_)) => Self::Handshake,
            Some(Deadline::Call(_)) => Self::Call,
            Some(Deadline::Transfer(_)) => Self::Transfer,
            Some(Deadline::Headers(_)) => Self::Headers,
            Some(Deadline::Body(_)) => Self::Body,
            Some(Deadline::NoProgress(_)) => Self::NoProgress,
            Some(Deadline::Probe(_)) => Self::Probe,
            Some(Deadline::Enrol(_)) => Self::Enrol,
            Some(Deadline::Track(_)) => Self::Track,
            Some(Deadline::Fetch(_)) => Self::Fetch,
            Some(Deadline::Tell(_)) => Self::Tell,
            Some(Deadline::Unchoke) => Self::Unchoke,
            Some(Deadline::Announce) => Self::Announce,
            Some(Deadline::Reconcile) => Self::Reconcile,
            Some(Deadline::Sweep) => Self::Sweep,
        }
    }

    /// Housekeeping that goes on in a quiet agent as well.
    #[must_use]
    pub const fn is_housekeeping(self) -> bool {
        matches!(self, Self::Announce | Self::Reconcile | Self::Sweep | Self::None)
    }

    /// In words: what was waited for in vain, or until when.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Handshake => "a stream that did not say what it wants",
            Self::Call => "a call without an answer",
            Self::Transfer => "a transfer without progress",
            Self::Headers => "headers that are due to containerd",
            Self::Body => "a body without progress",
            Self::NoProgress => "a flight without progress",
            Self::Probe => "the grace of the probes",
            Self::Enrol => "the next word to the tracker",
            Self::Track => "the leader's next look",
            Self::Fetch => "until something may be fetched again",
            Self::Tell => "the next news for neighbours",
            Self::Unchoke => "the next who waits for an upload slot",
            Self::Announce | Self::Reconcile | Self::Sweep | Self::None => "housekeeping",
        }
    }
}

impl What {
    /// The kind of an input; `from_origin` tells whose transfer it is.
    pub(super) fn of(input: &Input, due: Option<&Deadline>, from_origin: bool) -> Self {
        match input {
            Input::Tick => Self::Timer(Timer::of(due)),
            Input::Transfer { event, .. } => match event {
                TransferEvent::Piece { .. } if from_origin => Self::OriginPiece,
                TransferEvent::Piece { .. } => Self::Piece,
                TransferEvent::Failed(_) => Self::TransferFails,
                TransferEvent::Progress { .. }
                | TransferEvent::Headers { .. }
                | TransferEvent::Answered { .. }
                | TransferEvent::Done => Self::Transfer,
            },
            Input::Mirror { .. } | Input::MirrorClosed { .. } => Self::Request,
            Input::StreamOpened { .. } | Input::StreamClosed { .. } | Input::StreamNotices { .. } => Self::Stream,
            Input::StreamRequest { .. } | Input::PieceRequested { .. } => Self::Asked,
            Input::Notice { .. } => Self::Notice,
            Input::Reply { .. } => Self::Answer,
            Input::CallFailed { .. } => Self::CallFails,
            Input::Disconnected { .. } => Self::Disconnected,
            Input::OriginStat { .. } | Input::Providers { .. } => Self::Looked,
            Input::PieceHashed { .. }
            | Input::Committed { .. }
            | Input::Evicted { .. }
            | Input::StoreFailed { .. }
            | Input::Spine { .. }
            | Input::Verified { .. }
            | Input::Manifest { .. } => Self::Disk,
            Input::Members(_) | Input::Recovered { .. } | Input::Drain => Self::Told,
        }
    }
}

/// Something that happened: forty bytes, because a rollout to a thousand nodes has millions of them. What it was in words is
/// found out by running again, see [`Record`](super::Record).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Time,
    /// The hash of all inputs up to this one: two runs are the same as far as it is the same.
    pub check: u32,
    /// A number that goes with the kind: the piece, the fault, the violation.
    pub number: u32,
    /// What.
    pub what: What,
    node: u32,
    peer: u32,
    cause: u32,
    because: u32,
    cause_output: u16,
    blob: u16,
}

impl Event {
    pub(super) fn new(at: Time, node: Option<NodeIndex>, what: What) -> Self {
        Self {
            at,
            check: 0,
            number: 0,
            what,
            node: node.map_or(NONE, |node| node as u32),
            peer: NONE,
            cause: NONE,
            because: NONE,
            cause_output: NONE_SHORT,
            blob: NONE_SHORT,
        }
    }

    pub(super) fn with_cause(mut self, cause: Option<Cause>) -> Self {
        self.cause = cause.map_or(NONE, |cause| cause.event);
        self.cause_output = cause.and_then(|cause| cause.output).unwrap_or(NONE_SHORT);
        self
    }

    pub(super) fn with_fault(mut self, because: Option<EventId>) -> Self {
        self.because = because.unwrap_or(NONE);
        self
    }

    pub(super) fn with_peer(mut self, peer: Option<NodeIndex>) -> Self {
        self.peer = peer.map_or(NONE, |peer| peer as u32);
        self
    }

    pub(super) fn with_blob(mut self, blob: Option<u16>) -> Self {
        self.blob = blob.unwrap_or(NONE_SHORT);
        self
    }

    pub(super) fn with_number(mut self, number: u32) -> Self {
        self.number = number;
        self
    }

    /// On which node; `None` if on none or all.
    #[must_use]
    pub fn node(&self) -> Option<NodeIndex> {
        (self.node != NONE).then_some(self.node as NodeIndex)
    }

    /// The other node, if there is one.
    #[must_use]
    pub fn peer(&self) -> Option<NodeIndex> {
        (self.peer != NONE).then_some(self.peer as NodeIndex)
    }

    /// The blob that it is about, as an index of [`Record::digest`](super::Record::digest).
    #[must_use]
    pub fn blob(&self) -> Option<u16> {
        (self.blob != NONE_SHORT).then_some(self.blob)
    }

    /// What brought it about.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        let output = (self.cause_output != NONE_SHORT).then_some(self.cause_output);
        (self.cause != NONE).then_some(Cause { event: self.cause, output })
    }

    /// The fault that had a hand in it, or what stands between it and that fault.
    #[must_use]
    pub fn because(&self) -> Option<EventId> {
        (self.because != NONE).then_some(self.because)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_small_enough_to_keep_millions() {
        assert!(size_of::<Event>() <= 48, "{}", size_of::<Event>());
    }
}

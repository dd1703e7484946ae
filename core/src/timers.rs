//! When to wake the agent, and why.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::marks;
use crate::names::{CallId, OpId, RequestId, StreamId};
use crate::time::Time;

/// The reason of a deadline. Each one is armed at most once at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Deadline {
    /// An inbound stream has not said what it wants, or does not take what it asked for.
    Handshake(StreamId),
    /// A call has no answer.
    Call(CallId),
    /// A transfer, an origin request or a provider query makes no progress.
    Transfer(OpId),
    /// A mirror request has no headers.
    Headers(RequestId),
    /// A mirror body has had no new byte: it is looked whether anything comes, and cut short otherwise.
    Body(RequestId),
    /// A flight has had no new byte.
    NoProgress(Digest),
    /// The probes have had their grace; the rules are applied to what is there.
    Probe(Digest),
    /// A participant shows its tracker that it lives, or follows up on a lead.
    Enrol(Digest),
    /// A leader looks whether somebody better leads, reassigns what is late, and starts after collecting.
    Track(Digest),
    /// Something may be fetched again: a busy peer, a failed origin.
    Fetch(Digest),
    /// News for neighbours are due.
    Tell(Digest),
    /// An upload slot that somebody was told of is free still; others wait.
    Unchoke,
    /// A queued announcement is due.
    Announce,
    /// What is announced is compared with what is there.
    Reconcile,
    /// Memories that have faded are dropped.
    Sweep,
}

impl Deadline {
    /// Tells most deadlines of one agent apart: the kind in the lowest bits, above it whatever differs.
    fn mark(self) -> u32 {
        let (kind, which) = match self {
            Self::Handshake(StreamId(id)) => (0, id),
            Self::Call(CallId(id)) => (1, id),
            Self::Transfer(OpId(id)) => (2, id),
            Self::Headers(RequestId(id)) => (3, id),
            Self::Body(RequestId(id)) => (4, id),
            Self::NoProgress(digest) => (5, digest.head()),
            Self::Probe(digest) => (6, digest.head()),
            Self::Enrol(digest) => (7, digest.head()),
            Self::Track(digest) => (8, digest.head()),
            Self::Fetch(digest) => (9, digest.head()),
            Self::Tell(digest) => (10, digest.head()),
            Self::Unchoke => (11, 0),
            Self::Announce => (12, 0),
            Self::Reconcile => (13, 0),
            Self::Sweep => (14, 0),
        };
        (which as u32) << 4 | kind
    }
}

/// The armed deadlines, in no order.
///
/// There are few of them (some for each flight, one for each stream and transfer that is under way), they are armed and
/// disarmed at nearly every input, and rarely come to be due. So they lie side by side and are looked through: a hundred
/// marks are in seven lines of the processor's cache, where a tree of a hundred deadlines is in eighty.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Timers {
    /// The earliest one.
    first: Option<(Time, Deadline)>,
    /// [`Deadline::mark`] of each.
    marks: Vec<u32>,
    /// When each is due.
    due: Vec<Time>,
    deadlines: Vec<Deadline>,
}

impl Timers {
    fn find(&self, deadline: Deadline) -> Option<usize> {
        marks::find(&self.marks, deadline.mark(), |place| self.deadlines[place] == deadline)
    }

    /// Arms `deadline` at `at`, instead of when it was armed before.
    pub(crate) fn set(&mut self, deadline: Deadline, at: Time) {
        let place = self.find(deadline);
        self.set_at(place, deadline, at);
    }

    /// Arms `deadline` at `at` unless it is armed for earlier.
    pub(crate) fn set_by(&mut self, deadline: Deadline, at: Time) {
        let place = self.find(deadline);
        if place.is_none_or(|place| self.due[place] > at) {
            self.set_at(place, deadline, at);
        }
    }

    fn set_at(&mut self, place: Option<usize>, deadline: Deadline, at: Time) {
        let before = place.map(|place| self.due[place]);
        if mutant!("old-deadline-kept") && before.is_some_and(|before| before < at) {
            return;
        }
        match place {
            Some(place) => self.due[place] = at,
            None => {
                self.marks.push(deadline.mark());
                self.due.push(at);
                self.deadlines.push(deadline);
            }
        }
        match self.first {
            Some((first, which)) if which == deadline && at > first => self.first = self.earliest(),
            Some(first) if first < (at, deadline) => {}
            _ => self.first = Some((at, deadline)),
        }
    }

    pub(crate) fn clear(&mut self, deadline: Deadline) {
        let Some(place) = self.find(deadline) else { return };
        self.marks.swap_remove(place);
        self.due.swap_remove(place);
        self.deadlines.swap_remove(place);
        if self.first.is_some_and(|(_, first)| first == deadline) {
            self.first = self.earliest();
        }
    }

    fn earliest(&self) -> Option<(Time, Deadline)> {
        let at = *self.due.iter().min()?;
        let due_then = self.due.iter().zip(&self.deadlines).filter(|(other, _)| **other == at);
        due_then.map(|(_, deadline)| (at, *deadline)).min()
    }

    pub(crate) fn next(&self) -> Option<(Time, Deadline)> {
        self.first
    }

    /// Takes the earliest deadline that has passed.
    pub(crate) fn pop(&mut self, now: Time) -> Option<Deadline> {
        let (at, deadline) = self.first.filter(|(at, _)| *at <= now)?;
        self.clear(deadline);
        if mutant!("simultaneous-deadline-lost")
            && let Some((next, lost)) = self.first
            && next == at
        {
            self.clear(lost);
        }
        Some(deadline)
    }

    pub(crate) fn is_armed(&self, deadline: Deadline) -> bool {
        self.find(deadline).is_some()
    }

    /// When `deadline` is due, if it is armed.
    pub(crate) fn due(&self, deadline: Deadline) -> Option<Time> {
        self.find(deadline).map(|place| self.due[place])
    }

    /// Whether the deadline that fires next is the earliest of those that are armed, and each is armed once.
    pub(crate) fn is_consistent(&self) -> bool {
        let each_is_found = |place: usize| self.find(self.deadlines[place]) == Some(place);
        self.first == self.earliest() && (0..self.deadlines.len()).all(each_is_found)
    }

    /// Number of armed deadlines.
    pub(crate) fn len(&self) -> usize {
        self.deadlines.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_deadline_that_is_armed_again_fires_once_at_its_new_time() {
        let mut timers = Timers::default();
        timers.set(Deadline::Announce, Time::from_micros(10));
        timers.set(Deadline::Announce, Time::from_micros(30));
        timers.set_by(Deadline::Announce, Time::from_micros(40));
        timers.set_by(Deadline::Announce, Time::from_micros(20));
        assert_eq!(timers.pop(Time::from_micros(19)), None);
        assert_eq!(timers.pop(Time::from_micros(20)), Some(Deadline::Announce));
        assert_eq!(timers.pop(Time::from_micros(99)), None);
        assert_eq!(timers.len(), 0);
    }

    proptest! {
        /// Against the obvious way: a list that is searched.
        #[test]
        fn deadlines_come_in_order_whatever_was_disarmed(steps in proptest::collection::vec((0_u8..4, 0_u64..6, 0_u64..50), 0..400)) {
            let mut timers = Timers::default();
            let mut list: Vec<(Time, Deadline)> = Vec::new();
            for (step, stream, at) in steps {
                let (deadline, at) = (Deadline::Handshake(StreamId(stream)), Time::from_micros(at));
                match step {
                    0 => {
                        list.retain(|(_, other)| *other != deadline);
                        list.push((at, deadline));
                        timers.set(deadline, at);
                    }
                    1 => {
                        if list.iter().all(|(before, other)| *other != deadline || *before > at) {
                            list.retain(|(_, other)| *other != deadline);
                            list.push((at, deadline));
                        }
                        timers.set_by(deadline, at);
                    }
                    2 => {
                        list.retain(|(_, other)| *other != deadline);
                        timers.clear(deadline);
                    }
                    _ => {
                        let first = list.iter().min().copied().filter(|(first, _)| *first <= at);
                        list.retain(|one| Some(*one) != first);
                        prop_assert_eq!(timers.pop(at), first.map(|(_, deadline)| deadline));
                    }
                }
                prop_assert_eq!(timers.next(), list.iter().min().copied());
                prop_assert_eq!(timers.len(), list.len());
                prop_assert!(timers.is_consistent());
            }
        }
    }
}

//! When to wake the agent, and why.

use core::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
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
    /// A mirror body has had no new byte.
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

/// The armed deadlines.
///
/// Most are disarmed long before they are due: the queue keeps what was disarmed until it comes to the front or there is
/// too much of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Timers {
    due: BTreeMap<Deadline, Time>,
    /// Every armed deadline, and some that are not armed (any more, for that time); the first one is armed.
    queue: BinaryHeap<Reverse<(Time, Deadline)>>,
}

/// The queue is cleared of what was disarmed when there is more of it than of what is armed, and more than this.
const MAX_DISARMED: usize = 64;

impl Timers {
    /// Arms `deadline` at `at`, instead of when it was armed before.
    pub(crate) fn set(&mut self, deadline: Deadline, at: Time) {
        if mutant!("old-deadline-kept") && self.due.get(&deadline).is_some_and(|before| *before < at) {
            return;
        }
        let before = self.due.insert(deadline, at);
        if before == Some(at) {
            return;
        }
        self.queue.push(Reverse((at, deadline)));
        if before.is_some() {
            self.disarmed();
        }
    }

    /// Arms `deadline` at `at` unless it is armed for earlier.
    pub(crate) fn set_by(&mut self, deadline: Deadline, at: Time) {
        if self.due.get(&deadline).is_none_or(|before| *before > at) {
            self.set(deadline, at);
        }
    }

    pub(crate) fn clear(&mut self, deadline: Deadline) {
        if self.due.remove(&deadline).is_some() {
            self.disarmed();
        }
    }

    fn disarmed(&mut self) {
        if self.queue.len() > 2 * self.due.len() + MAX_DISARMED {
            self.queue = self.due.iter().map(|(deadline, at)| Reverse((*at, *deadline))).collect();
        }
        while let Some(Reverse((at, deadline))) = self.queue.peek()
            && self.due.get(deadline) != Some(at)
        {
            self.queue.pop();
        }
    }

    pub(crate) fn next(&self) -> Option<(Time, Deadline)> {
        self.queue.peek().map(|Reverse(first)| *first)
    }

    /// Takes the earliest deadline that has passed.
    pub(crate) fn pop(&mut self, now: Time) -> Option<Deadline> {
        let (at, deadline) = self.next()?;
        if at > now {
            return None;
        }
        self.queue.pop();
        self.due.remove(&deadline);
        self.disarmed();
        if mutant!("simultaneous-deadline-lost") && self.next().is_some_and(|(next, _)| next == at) {
            self.queue.pop();
            self.disarmed();
        }
        Some(deadline)
    }

    pub(crate) fn is_armed(&self, deadline: Deadline) -> bool {
        self.due.contains_key(&deadline)
    }

    /// Whether the deadline that fires next is the earliest of those that are armed.
    pub(crate) fn is_consistent(&self) -> bool {
        self.due.iter().map(|(deadline, at)| (*at, *deadline)).min() == self.next()
    }

    /// Number of armed deadlines.
    pub(crate) fn len(&self) -> usize {
        self.due.len()
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
                prop_assert!(timers.queue.len() <= 2 * list.len() + MAX_DISARMED + 1);
            }
        }
    }
}

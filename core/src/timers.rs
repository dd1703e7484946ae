//! When to wake the agent, and why.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::names::{CallId, OpId, RequestId, StreamId};
use crate::time::Time;

/// The reason of a deadline. Each one is armed at most once at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Deadline {
    /// An inbound stream has not said what it wants.
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
    /// A queued announcement is due.
    Announce,
    /// What is announced is compared with what is there.
    Reconcile,
    /// Memories that have faded are dropped.
    Sweep,
}

/// The armed deadlines.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Timers {
    due: BTreeMap<Deadline, Time>,
    queue: BTreeSet<(Time, Deadline)>,
}

impl Timers {
    /// Arms `deadline` at `at`, instead of when it was armed before.
    pub(crate) fn set(&mut self, deadline: Deadline, at: Time) {
        if let Some(before) = self.due.insert(deadline, at)
            && !mutant!("old-deadline-kept")
        {
            self.queue.remove(&(before, deadline));
        }
        self.queue.insert((at, deadline));
    }

    /// Arms `deadline` at `at` unless it is armed for earlier.
    pub(crate) fn set_by(&mut self, deadline: Deadline, at: Time) {
        if self.due.get(&deadline).is_none_or(|before| *before > at) {
            self.set(deadline, at);
        }
    }

    pub(crate) fn clear(&mut self, deadline: Deadline) {
        if let Some(before) = self.due.remove(&deadline) {
            self.queue.remove(&(before, deadline));
        }
    }

    pub(crate) fn next(&self) -> Option<(Time, Deadline)> {
        self.queue.first().copied()
    }

    /// Takes the earliest deadline that has passed.
    pub(crate) fn pop(&mut self, now: Time) -> Option<Deadline> {
        let (at, deadline) = *self.queue.first()?;
        if at > now {
            return None;
        }
        self.queue.remove(&(at, deadline));
        self.due.remove(&deadline);
        if mutant!("simultaneous-deadline-lost") && self.queue.first().is_some_and(|(next, _)| *next == at) {
            self.queue.pop_first();
        }
        Some(deadline)
    }

    /// Number of armed deadlines.
    pub(crate) fn len(&self) -> usize {
        self.due.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}

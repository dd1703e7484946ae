//! Which cause the things have that are scheduled: whatever was going on when they were.

use std::collections::VecDeque;

use super::event::Cause;

/// Follows two queues, neither of which knows: what was pushed while one cause was at work follows from it. So the places
/// that schedule something need no part in this.
#[derive(Debug, Default)]
pub(super) struct Blame {
    /// What is going on.
    pub(super) current: Option<Cause>,
    /// Numbers of the event queue up to this one follow from this.
    queued: Vec<(u64, Option<Cause>)>,
    /// The same for inputs that happen at once.
    readied: VecDeque<(u64, Option<Cause>)>,
    ready_taken: u64,
}

impl Blame {
    /// So much is scheduled, all of it since the last time by what is going on.
    pub(super) fn settle(&mut self, scheduled: u64, ready: usize) {
        if self.queued.last().is_none_or(|(upto, _)| *upto < scheduled) {
            self.queued.push((scheduled, self.current));
        }
        let readied = self.ready_taken + ready as u64;
        if self.readied.back().map_or(self.ready_taken, |(upto, _)| *upto) < readied {
            self.readied.push_back((readied, self.current));
        }
    }

    /// Event `number` of the queue happens now.
    pub(super) fn take_queued(&mut self, number: u64) {
        let place = self.queued.partition_point(|(upto, _)| *upto < number);
        self.current = self.queued.get(place).and_then(|(_, cause)| *cause);
    }

    /// The next input of those that happen at once comes now. Has to be called before it leaves its queue.
    pub(super) fn take_ready(&mut self) {
        self.ready_taken += 1;
        while self.readied.front().is_some_and(|(upto, _)| *upto < self.ready_taken) {
            self.readied.pop_front();
        }
        self.current = self.readied.front().and_then(|(_, cause)| *cause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(event: u32) -> Option<Cause> {
        Some(Cause { event, output: None })
    }

    #[test]
    fn what_is_scheduled_follows_from_what_was_going_on() {
        let mut blame = Blame::default();
        blame.settle(2, 0);
        blame.current = by(7);
        blame.settle(5, 1);
        blame.current = by(8);
        blame.settle(5, 1);
        blame.settle(6, 3);
        blame.take_queued(2);
        assert_eq!(blame.current, None);
        blame.take_queued(4);
        assert_eq!(blame.current, by(7));
        blame.take_queued(6);
        assert_eq!(blame.current, by(8));
        for expected in [7, 8, 8] {
            blame.take_ready();
            assert_eq!(blame.current, by(expected));
        }
    }
}

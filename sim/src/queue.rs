//! The event queue: what happens when, ties broken by order of scheduling.
//!
//! A calendar: the next quarter of a second lies in buckets of 64 µs that are sorted when their turn comes, what is farther
//! away in a heap. Most events of a busy cluster are near, and what is sorted at a time stays in the processor's cache.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use longshore_core::time::Time;

/// A bucket is `1 << BUCKET_BITS` microseconds wide.
const BUCKET_BITS: u32 = 6;
/// Buckets of the near future.
const BUCKETS: u64 = 4096;

/// Events in order of time; of those at the same time, the one scheduled first comes first.
#[derive(Debug)]
pub struct Queue<E> {
    /// Events of the present bucket as it was when its turn came, the next one last.
    sorted: Vec<Entry<E>>,
    /// Events that were scheduled since then for the present bucket or an earlier one.
    current: BinaryHeap<Reverse<Entry<E>>>,
    /// The number of the present bucket since the beginning of time.
    bucket: u64,
    near: Vec<Vec<Entry<E>>>,
    /// The memory of buckets that are empty, the one used last at the end: it is in the cache still.
    spare: Vec<Vec<Entry<E>>>,
    near_len: usize,
    far: BinaryHeap<Reverse<Entry<E>>>,
    scheduled: u64,
    taken: u64,
}

#[derive(Debug)]
struct Entry<E> {
    at: Time,
    number: u64,
    event: E,
}

impl<E> Entry<E> {
    fn bucket(&self) -> u64 {
        self.at.as_micros() >> BUCKET_BITS
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self {
            sorted: Vec::new(),
            current: BinaryHeap::new(),
            bucket: 0,
            near: (0..BUCKETS).map(|_| Vec::new()).collect(),
            spare: Vec::new(),
            near_len: 0,
            far: BinaryHeap::new(),
            scheduled: 0,
            taken: 0,
        }
    }
}

impl<E> Queue<E> {
    /// Schedules `event`.
    pub fn push(&mut self, at: Time, event: E) {
        self.scheduled += 1;
        self.place(Entry { at, number: self.scheduled, event });
    }

    fn place(&mut self, entry: Entry<E>) {
        let bucket = entry.bucket();
        if bucket <= self.bucket {
            self.current.push(Reverse(entry));
        } else if bucket < self.bucket + BUCKETS {
            let near = &mut self.near[(bucket % BUCKETS) as usize];
            if near.capacity() == 0
                && let Some(spare) = self.spare.pop()
            {
                *near = spare;
            }
            near.push(entry);
            self.near_len += 1;
        } else {
            self.far.push(Reverse(entry));
        }
    }

    /// The next event and its time.
    pub fn pop(&mut self) -> Option<(Time, E)> {
        self.next_time()?;
        let entry = match (self.sorted.last(), self.current.peek()) {
            (Some(first), Some(Reverse(other))) if other < first => self.current.pop().map(|Reverse(entry)| entry),
            (Some(_), _) => self.sorted.pop(),
            (None, _) => self.current.pop().map(|Reverse(entry)| entry),
        };
        entry.map(|entry| {
            self.taken = entry.number;
            (entry.at, entry.event)
        })
    }

    /// How many events were scheduled so far: the number of the last one.
    #[must_use]
    pub const fn scheduled(&self) -> u64 {
        self.scheduled
    }

    /// The number of the event that was taken last.
    #[must_use]
    pub const fn taken(&self) -> u64 {
        self.taken
    }

    /// What was far away and is not any more gets its bucket.
    fn bring_near(&mut self) {
        while let Some(Reverse(first)) = self.far.peek()
            && first.bucket() < self.bucket + BUCKETS
        {
            let Some(Reverse(entry)) = self.far.pop() else { break };
            self.place(entry);
        }
    }

    /// When the next event happens.
    pub fn next_time(&mut self) -> Option<Time> {
        while self.sorted.is_empty() && self.current.is_empty() {
            self.bucket = match (self.near_len, self.far.peek()) {
                (0, None) => return None,
                (0, Some(Reverse(first))) => first.bucket(),
                _ => self.bucket + 1,
            };
            let due = std::mem::take(&mut self.near[(self.bucket % BUCKETS) as usize]);
            if due.is_empty() {
                self.bring_near();
                continue;
            }
            self.near_len -= due.len();
            let spare = std::mem::replace(&mut self.sorted, due);
            self.spare.push(spare);
            self.sorted.sort_unstable_by(|left, right| right.cmp(left));
            self.bring_near();
        }
        let firsts = [self.sorted.last(), self.current.peek().map(|Reverse(entry)| entry)];
        firsts.into_iter().flatten().map(|entry| entry.at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_order_of_time_and_then_of_scheduling() {
        let mut queue = Queue::default();
        let mut expected = Vec::new();
        let mut state = 12345_u64;
        let mut now = Time::ZERO;
        let mut popped = Vec::new();
        for number in 0..20_000_u64 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            // Near, very near, and far beyond the calendar.
            let after =
                [(state >> 33) % 50, (state >> 33) % 100_000, (state >> 33) % 30_000_000][(number % 3) as usize];
            let at = Time::from_micros(now.as_micros() + after);
            queue.push(at, number);
            expected.push((at, number));
            if number % 4 == 3
                && let Some((at, event)) = queue.pop()
            {
                assert!(at >= now);
                now = at;
                popped.push((at, event));
            }
        }
        while let Some(event) = queue.pop() {
            popped.push(event);
        }
        expected.sort_unstable();
        assert_eq!(popped.len(), expected.len());
        assert!(popped.is_sorted(), "an event came before one that was scheduled earlier for the same time");
    }
}

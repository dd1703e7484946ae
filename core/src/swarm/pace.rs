//! How many runs are fetched from the origin at a time, and how long they are.
//!
//! A run that waits in the origin's queue could be somebody's already: with sixteen at a time on a link that carries one, the
//! first pieces arrive sixteen times later than they could, and the swarm starts that much later. With too few the origin is
//! idle between them. So the width follows what runs take, as TCP Vegas does with packets: if runs take no longer than the
//! fastest one did, the origin (or a limit that it has for each connection) carries more; if they take longer, they queue.

use core::time::Duration;

use serde::{Deserialize, Serialize};

/// The first width, and the least: each fetcher's link is also used by pieces from peers, so that one run alone does not
/// keep the origin busy.
pub(crate) const LEAST_WIDTH: u32 = 4;
/// With fewer runs than this in the origin's queue there is room for one more. (Vegas: 1; a fetcher's own downlink queues as
/// well, which looks the same from here.)
const LEAST_QUEUED: u64 = 2;
/// With more than this, one less.
const MOST_QUEUED: u64 = 5;

/// What comes from the origin within the first is brisk, what takes longer than the second is slow: a leader judges runs by it, and
/// a node its own fetches (`agent/origin_slots.rs`). Slow runs make the next ones half as long, brisk ones twice as long again: the first pieces of a long run are passed on only after all that it waits behind, and nobody knows how many
/// others a slow registry sends to at the same time. (Longer than most round trips, shorter than anybody's deadline.)
pub(crate) const BRISK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(4));
/// Runs are halved so many times at most: usual ones have four of the smallest pieces.
const MOST_HALVINGS: u32 = 2;

/// However late runs are, others are not given more time than if they took this long.
const MOST_TYPICAL: Duration = Duration::from_secs(10);

/// The width, and what it is derived from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Pace {
    width: u32,
    /// Runs until the width is looked at again: each width is tried for as long as it lasts.
    until: u32,
    fastest: Duration,
    typical: Duration,
    halvings: u32,
    /// So many of the next runs were handed out with the length of before.
    of_before: u32,
}

impl Default for Pace {
    fn default() -> Self {
        let (width, unknown) = (LEAST_WIDTH, Duration::ZERO);
        Self { width, until: width, fastest: unknown, typical: unknown, halvings: 0, of_before: 0 }
    }
}

impl Pace {
    /// How many runs may be out, of at most `most`.
    pub(crate) fn width(&self, most: u32) -> u32 {
        self.width.min(most)
    }

    /// What a run takes lately. Zero before the first one.
    pub(crate) fn typical(&self) -> Duration {
        self.typical
    }

    /// So many times shorter than usual runs are.
    pub(crate) fn run_divisor(&self) -> u64 {
        if mutant!("long-runs-of-slow-registries") { 1 } else { 1 << self.halvings }
    }

    /// Runs whose fetchers are there have missed their deadline: the registry has more to do than this swarm knows of. As TCP does
    /// when a packet is lost, fewer are out from now on, and they get more time.
    pub(crate) fn late(&mut self, deadline: Duration) {
        self.width = (self.width / 2).max(1);
        self.until = self.width;
        self.set_halvings(self.halvings + 1);
        self.typical = (self.typical * 2).max(deadline / 2).min(MOST_TYPICAL.max(self.typical));
    }

    /// A run is done and took this long; `most` is the limit of the width.
    pub(crate) fn finished(&mut self, took: Duration, most: u32) {
        let took = took.max(Duration::from_micros(1));
        self.typical = if self.typical.is_zero() { took } else { (self.typical * 3 + took) / 4 };
        if self.of_before > 0 {
            self.of_before -= 1;
        } else if took > BRISK.1 {
            self.set_halvings(self.halvings + 1);
        } else if took <= BRISK.0 && self.halvings > 0 {
            self.set_halvings(self.halvings - 1);
            // Longer ones may take longer, and that is no queue.
            self.fastest = Duration::ZERO;
        }
        self.fastest = if self.fastest.is_zero() { took } else { self.fastest.min(took) };
        self.until = self.until.saturating_sub(1);
        if self.until > 0 {
            return;
        }
        // Of `width` runs, so many are more than what the way to the origin holds.
        let (fastest, typical) = (self.fastest.as_micros() as u64, self.typical.as_micros().max(1) as u64);
        let held = (u64::from(self.width) * fastest).div_ceil(typical);
        let queued = u64::from(self.width).saturating_sub(held);
        if queued < LEAST_QUEUED {
            let more = if queued == 0 { self.width } else { 1 };
            self.width = (self.width + more).min(most.max(LEAST_WIDTH));
        } else if queued > MOST_QUEUED {
            self.width = (self.width - 1).max(LEAST_WIDTH.min(self.width));
        }
        self.until = self.width;
    }

    fn set_halvings(&mut self, halvings: u32) {
        if halvings <= MOST_HALVINGS {
            self.halvings = halvings;
            self.of_before = self.width;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The width after `rounds` rounds with an origin whose runs take `runs(width)` ms.
    fn settles(rounds: u32, runs: impl Fn(u32) -> u64) -> u32 {
        let mut pace = Pace::default();
        for _ in 0..rounds {
            let width = pace.width(16);
            for _ in 0..width {
                pace.finished(Duration::from_millis(runs(width)), 16);
            }
        }
        pace.width(16)
    }

    #[test]
    fn a_link_that_is_full_gets_no_more_runs() {
        let width = settles(100, |width| 10 * u64::from(width));
        assert!((4..=9).contains(&width), "{width}");
    }

    #[test]
    fn an_origin_that_limits_each_connection_gets_as_many_as_may_be() {
        assert_eq!(settles(5, |_| 100), 16);
    }

    #[test]
    fn a_long_way_holds_more() {
        // 10 ms each on the link, and 60 ms on the way: seven fill it.
        let width = settles(100, |width| 60 + 10 * u64::from(width.saturating_sub(6).max(1)));
        assert!((8..=16).contains(&width), "{width}");
    }

    #[test]
    fn slow_runs_get_shorter_and_brisk_ones_longer_again() {
        let mut pace = Pace::default();
        // The runs that are out were handed out before it was known.
        let mut divisors = |milliseconds, runs: usize| {
            let mut finish = || {
                pace.finished(Duration::from_millis(milliseconds), LEAST_WIDTH);
                pace.run_divisor()
            };
            (0..runs).map(|_| finish()).collect::<Vec<_>>()
        };
        assert_eq!(divisors(25_000, 7), [2, 2, 2, 2, 2, 4, 4]);
        assert_eq!(divisors(12_000, 5), [4; 5]);
        assert_eq!(divisors(4_000, 5), [4; 5]);
        assert_eq!(divisors(1_000, 8), [2, 2, 2, 2, 2, 1, 1, 1]);
    }

    #[test]
    fn late_runs_make_it_slower_and_more_patient_until_others_are_in_time() {
        let mut pace = Pace::default();
        let seconds = Duration::from_secs;
        pace.late(seconds(10));
        assert_eq!((pace.width(16), pace.typical()), (2, seconds(5)));
        pace.late(seconds(10));
        pace.late(seconds(20));
        assert_eq!((pace.width(16), pace.typical()), (1, MOST_TYPICAL));
        for _ in 0..60 {
            pace.finished(seconds(1), 16);
        }
        assert_eq!(pace.width(16), 16);
        assert!(pace.typical() < seconds(2));
    }
}

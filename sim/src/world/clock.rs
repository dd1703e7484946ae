//! A node's clock: what its agent takes for the time.
//!
//! Agents live on a monotonic clock, as they do in production, so none of these ever goes back: a machine whose wall clock
//! is set back keeps its monotonic time. What a monotonic clock does go through is another offset on each machine, drift, a
//! leap forward (a virtual machine that was moved or resumed, with a clock that counted on), and standing still (suspended
//! with a clock that does not count, as Linux's does; or held back until a corrected one has caught up): seen from the rest
//! of the cluster, that is a jump backward.

use std::time::Duration;

use longshore_core::time::Time;

use super::{NodeIndex, World};

/// Drift is given in parts of this.
const MILLION: i128 = 1_000_000;
/// Most drift either way, in millionths: a clock that runs half as fast, or half as fast again.
pub const MAX_DRIFT: i32 = 500_000;

/// Shows a time for every time of the world. Whole numbers only, so that every machine rounds alike.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// The world's time at which it showed `shown`.
    since: Time,
    shown: Time,
    /// Millionths that it is too fast.
    drift: i32,
    /// It stands still before this time of the world.
    stands_until: Time,
}

impl Clock {
    /// A clock that is `offset` ahead of the world and `drift` millionths too fast.
    pub(crate) fn new(offset: Duration, drift: i32) -> Self {
        let drift = drift.clamp(-MAX_DRIFT, MAX_DRIFT);
        Self { since: Time::ZERO, shown: Time::ZERO + offset, drift, stands_until: Time::ZERO }
    }

    fn pace(&self) -> i128 {
        MILLION + i128::from(self.drift)
    }

    /// What it shows at `now`.
    pub(crate) fn read(&self, now: Time) -> Time {
        self.shown + self.measures(now.since(self.since.max(self.stands_until)))
    }

    /// The first time of the world at which it shows `reading`, or more.
    pub(crate) fn when(&self, reading: Time) -> Time {
        let ahead = reading.since(self.shown).as_micros() as u64;
        let takes = match self.drift {
            0 => ahead,
            _ => ((i128::from(ahead) * MILLION + self.pace() - 1) / self.pace()) as u64,
        };
        if ahead == 0 { self.since } else { self.since.max(self.stands_until) + Duration::from_micros(takes) }
    }

    /// What it takes `length` for, while it runs.
    pub(crate) fn measures(&self, length: Duration) -> Duration {
        match self.drift {
            0 => length,
            _ => Duration::from_micros((i128::from(length.as_micros() as u64) * self.pace() / MILLION) as u64),
        }
    }

    fn settle(&mut self, now: Time) {
        self.shown = self.read(now);
        self.since = now;
    }

    pub(crate) fn set_drift(&mut self, now: Time, drift: i32) {
        self.settle(now);
        self.drift = drift.clamp(-MAX_DRIFT, MAX_DRIFT);
    }

    pub(crate) fn leap(&mut self, now: Time, by: Duration) {
        self.settle(now);
        self.shown = self.shown + by;
    }

    pub(crate) fn stand(&mut self, now: Time, length: Duration) {
        self.settle(now);
        self.stands_until = self.stands_until.max(now + length);
    }
}

impl World {
    /// What the clock of a node shows.
    #[must_use]
    pub fn clock_of(&self, node: NodeIndex) -> Time {
        self.nodes[node].clock.read(self.now)
    }

    /// The clock of a node is `drift` millionths too fast from now on (too slow if that is negative).
    pub fn set_drift(&mut self, node: NodeIndex, drift: i32) {
        let now = self.now;
        self.nodes[node].clock.set_drift(now, drift);
        self.arm(node);
    }

    /// The clock of a node leaps forward: all that was to happen meanwhile is late.
    pub fn leap(&mut self, node: NodeIndex, by: Duration) {
        let now = self.now;
        let state = &mut self.nodes[node];
        state.clock.leap(now, by);
        state.was_paused = true;
        self.arm(node);
    }

    /// The clock of a node stands still for `length`; its process runs.
    pub fn stop_clock(&mut self, node: NodeIndex, length: Duration) {
        let now = self.now;
        let state = &mut self.nodes[node];
        state.clock.stand(now, length);
        state.was_paused = true;
        self.arm(node);
    }

    /// The machine of a node is suspended for `length`: neither its processes run nor its clock.
    pub fn suspend(&mut self, node: NodeIndex, length: Duration) {
        self.stop_clock(node, length);
        self.pause(node, length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_clock_that_drifts_shows_at_its_time_what_it_was_asked_for() {
        for drift in [-500_000, -200, 0, 37, 500_000] {
            let clock = Clock::new(Duration::from_secs(5), drift);
            for micros in [0, 1, 999, 1_000_003, 123_456_789] {
                let reading = clock.read(Time::from_micros(micros)) + Duration::from_micros(7);
                let at = clock.when(reading);
                assert!(clock.read(at) >= reading, "{drift}, {micros}: rings too early");
                let before = Time::from_micros(at.as_micros() - 1);
                assert!(clock.read(before) < reading, "{drift}, {micros}: rings too late");
            }
        }
    }

    #[test]
    fn it_leaps_stands_still_and_never_goes_back() {
        let mut clock = Clock::new(Duration::ZERO, 0);
        clock.leap(seconds(10), Duration::from_secs(60));
        assert_eq!(clock.read(seconds(10)), seconds(70));
        clock.stand(seconds(20), Duration::from_secs(30));
        assert_eq!(clock.read(seconds(45)), seconds(80));
        assert_eq!(clock.when(seconds(81)), seconds(51));
        clock.set_drift(seconds(30), 500_000);
        assert_eq!(clock.read(seconds(40)), seconds(80), "it still stands");
        assert_eq!(clock.read(seconds(52)), seconds(83));
    }
}

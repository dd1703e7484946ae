//! The origin fails: when a swarm asks it again, and how gently.
//!
//! What fails for everybody is not failed for: containerd would go to the same registry next, fail there as well, and leave
//! the pull to the kubelet's back-off, at the end of which all nodes ask the registry at once. So the swarm rests, one
//! participant tries, and only when that works the others follow, twice as many with each round of runs that comes in. Where requests
//! are what is limited, runs grow, because bytes are not.

use core::time::Duration;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::message::FailureClass;
use crate::names::PeerId;
use crate::time::Time;

/// How many participants have to fail, with no success in between, before all of them rest: one may be cut off from the
/// origin alone, or lie.
pub(crate) const BELIEVED: usize = 2;
/// The first rest, and the pause of a participant that failed; twice as long each time that nothing works.
pub(crate) const FIRST_REST: Duration = Duration::from_secs(1);
/// The longest rest: short enough that a request which is held for [`header_timeout`](crate::config::Config::header_timeout) sees
/// another try shortly before everybody's containerd is sent to the origin, and a body the swarm go on in the time that it has when the
/// origin answers again, whatever that said about when to come back.
pub(crate) const LONGEST_REST: Duration = Duration::from_secs(5);
/// The same, of an origin that limits requests and does not say that it is over sooner: each try is one of those that it counts.
pub(crate) const LONGEST_REST_OF_LIMITED: Duration = Duration::from_secs(10);
/// Runs grow by this factor at most: to 16 MiB.
pub(crate) const MAX_RUN_FACTOR: u64 = 16;
/// An origin that has never answered is given up after so many rests: its way to us may be broken where containerd's is
/// not.
pub(crate) const MAX_RESTS: u32 = 3;

/// What a swarm knows of its origin's failures.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outage {
    /// Who failed since the last success.
    reporters: BTreeSet<PeerId>,
    /// Rests since the last success.
    rests: u32,
    until: Time,
    /// Runs at a time; `None`: as many as allowed.
    at_a_time: Option<u32>,
    /// Doublings of the run length.
    doublings: u32,
}

impl Outage {
    /// For how long a participant is left alone that the origin asked to come back after so long.
    pub(crate) fn asked_for(retry_after: Duration) -> Duration {
        let is_heard = !mutant!("retry-after-ignored");
        if is_heard { retry_after.min(crate::failures::LONGEST_COOLDOWN) } else { Duration::ZERO }
    }

    /// A fetch failed for a passing reason. `alone`: nobody else could try. Returns for how long the participant pauses.
    pub(crate) fn failed(
        &mut self,
        now: Time,
        peer: &PeerId,
        alone: bool,
        class: FailureClass,
        retry_after: Duration,
    ) -> Duration {
        let retry_after = Self::asked_for(retry_after);
        // Who says that it is soon need not be rested from for longer.
        let says_soon = !retry_after.is_zero() && retry_after <= LONGEST_REST;
        let limits = class == FailureClass::RateLimited && !says_soon;
        let longest = if limits { LONGEST_REST_OF_LIMITED } else { LONGEST_REST };
        let rest = (FIRST_REST * (1 << self.rests.min(8))).min(longest);
        let pause = rest.max(retry_after);
        self.reporters.insert(peer.clone());
        if now < self.until || !(alone || self.reporters.len() >= BELIEVED) {
            return pause;
        }
        self.rests += 1;
        self.until = now + rest.max(retry_after.min(longest));
        self.at_a_time = Some(1);
        if class == FailureClass::RateLimited && self.run_factor() < MAX_RUN_FACTOR {
            self.doublings += 1;
        }
        pause
    }

    /// The origin limits requests, as this node knows from other blobs: bytes are not what is limited.
    pub(crate) fn limits_requests(&mut self) {
        self.doublings = MAX_RUN_FACTOR.ilog2();
    }

    /// A run came in whole.
    pub(crate) fn succeeded(&mut self) {
        self.reporters.clear();
        self.rests = 0;
        self.at_a_time = self.at_a_time.map(|most| most.saturating_add(1));
    }

    /// The origin answers again: this rest is over. How gently it is asked stays as it was.
    pub(crate) fn is_back(&mut self, now: Time) {
        self.until = self.until.min(now);
    }

    /// Rests since the last success.
    pub(crate) fn rests(&self) -> u32 {
        self.rests
    }

    /// Until when nobody asks the origin.
    pub(crate) fn until(&self) -> Time {
        self.until
    }

    /// How many runs may be fetched at a time, of `limit` in good times.
    pub(crate) fn limit(&self, limit: u32) -> u32 {
        self.at_a_time.map_or(limit, |most| most.min(limit))
    }

    /// How many times as long as usual runs are.
    pub(crate) fn run_factor(&self) -> u64 {
        1 << self.doublings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u8) -> PeerId {
        PeerId::new(&format!("peer-{number}"))
    }

    #[test]
    fn one_failing_participant_of_many_does_not_stop_the_others() {
        let mut outage = Outage::default();
        for _ in 0..10 {
            let pause = outage.failed(Time::ZERO, &peer(1), false, FailureClass::RateLimited, Duration::from_secs(900));
            assert_eq!(pause, crate::failures::LONGEST_COOLDOWN);
        }
        assert_eq!((outage.until(), outage.limit(16), outage.run_factor()), (Time::ZERO, 16, 1));
    }

    /// Seven failures, each as soon as the rest before is over: how long the rests are, in seconds.
    fn rests(outage: &mut Outage, class: FailureClass) -> Vec<u64> {
        let mut now = Time::ZERO;
        let mut rests = Vec::new();
        for number in 1..8 {
            outage.failed(now, &peer(number), false, class, Duration::ZERO);
            rests.push((outage.until().max(now) - now).as_secs());
            now = outage.until().max(now);
        }
        rests
    }

    #[test]
    fn rests_grow_one_tries_and_the_rest_follow() {
        assert_eq!(rests(&mut Outage::default(), FailureClass::RateLimited), [0, 1, 2, 4, 8, 10, 10]);
        let mut outage = Outage::default();
        assert_eq!(rests(&mut outage, FailureClass::Transient), [0, 1, 2, 4, 5, 5, 5]);
        assert_eq!(outage.limit(16), 1);
        outage.succeeded();
        assert_eq!((outage.limit(16), outage.rests()), (2, 0));
        (0..40).for_each(|_| outage.succeeded());
        assert_eq!(outage.limit(16), 16);
    }

    #[test]
    fn only_a_limit_of_requests_makes_runs_longer() {
        let mut outage = Outage::default();
        outage.failed(Time::ZERO, &peer(1), true, FailureClass::Transient, Duration::ZERO);
        assert_eq!(outage.run_factor(), 1);
        let mut factors = Vec::new();
        for _ in 0..6 {
            let now = outage.until();
            outage.failed(now, &peer(1), true, FailureClass::RateLimited, Duration::from_secs(1));
            factors.push(outage.run_factor());
        }
        assert_eq!(factors, [2, 4, 8, 16, 16, 16]);
    }

    #[test]
    fn a_long_retry_after_does_not_stop_the_swarm_for_as_long() {
        let mut outage = Outage::default();
        let day = Duration::from_secs(86_400);
        outage.failed(Time::ZERO, &peer(1), true, FailureClass::RateLimited, day);
        assert_eq!(outage.until(), Time::ZERO + LONGEST_REST_OF_LIMITED);
    }
}

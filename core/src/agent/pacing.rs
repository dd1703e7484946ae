//! A registry that limits requests: how often this node fetches from it.
//!
//! Limits are counted for a node, or for its address, not for a blob. If each flight came back by itself when its pause is over,
//! all of an image's layers would ask in the same moment, all but one would be refused again, and each would pause for twice
//! as long: fifteen layers of a byte from a registry that answers once a second took two minutes. So whoever was refused asks
//! for one thing at a time, with a gap that grows with each refusal and shrinks with each answer, and for as much of it as there
//! is: requests are what is limited, not bytes. What goes on in the next run comes along (`swarm/download/runs.rs`), and runs are
//! long from the beginning (`swarm/outage.rs`).

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Agent;
use crate::context::Context;
use crate::digest::Digest;
use crate::output::Explanation;
use crate::swarm::outage::LONGEST_REST;
use crate::time::Time;
use crate::timers::Deadline;

/// The gap after the first refusal, and the longest, whatever a registry says: if that is more than a few seconds it holds for what it
/// was said of, and another blob may be had from elsewhere under the same name.
const GAP: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// With a gap this short there need not be one.
const NO_GAP: Duration = Duration::from_millis(100);
/// A registry that was not asked for so long has forgotten us, and is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// The registries that limit us.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Pacing {
    registries: BTreeMap<Arc<str>, Paced>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Paced {
    gap: Duration,
    /// When the next fetch may begin.
    next: Time,
    /// When the gap last shrank.
    eased: Time,
    /// When a fetch was last refused. Those that began before that were refused together.
    refused: Time,
}

impl Paced {
    /// The registry was left alone for so long that what it said holds no more.
    fn is_over(&self, now: Time) -> bool {
        self.next + FORGOTTEN <= now
    }
}

impl Pacing {
    /// A fetch that began at `began` was refused because there were too many. A registry that says that it is over soon means this
    /// node; one that says that it takes longer (a day's quota, say) may mean what it was asked for.
    pub(super) fn refused(&mut self, cx: &mut Context, registry: &Arc<str>, began: Time, retry_after: Duration) {
        self.forget(cx.now);
        let gap = match self.registries.get(registry) {
            Some(paced) if began <= paced.refused => return,
            Some(paced) => (paced.gap * 2).clamp(GAP.0, GAP.1),
            None => GAP.0,
        };
        let soon =
            if retry_after <= LONGEST_REST && !mutant!("soon-not-waited-for") { retry_after } else { Duration::ZERO };
        let next = cx.now + cx.jitter(gap).max(soon);
        cx.explain(Explanation::RegistryLimits { registry: registry.clone(), gap });
        self.registries.insert(registry.clone(), Paced { gap, next, eased: cx.now, refused: cx.now });
    }

    /// A fetch begins.
    pub(super) fn began(&mut self, cx: &mut Context, registry: &Arc<str>) {
        self.forget(cx.now);
        if let Some(paced) = self.registries.get_mut(registry) {
            paced.next = cx.now + cx.jitter(paced.gap);
        }
    }

    /// A fetch has brought something.
    pub(super) fn went_well(&mut self, now: Time, registry: &Arc<str>) {
        let Some(paced) = self.registries.get_mut(registry) else { return };
        if now >= paced.eased + paced.gap {
            paced.gap = paced.gap * 3 / 4;
            paced.eased = now;
            if paced.gap < NO_GAP {
                self.registries.remove(registry);
            }
        }
    }

    fn forget(&mut self, now: Time) {
        self.registries.retain(|_, paced| !paced.is_over(now));
    }

    /// Whether a registry limits us.
    pub(super) fn is_paced(&self, now: Time, registry: &Arc<str>) -> bool {
        self.registries.get(registry).is_some_and(|paced| !paced.is_over(now))
    }

    /// Whether any does.
    fn is_needed(&self) -> bool {
        !self.registries.is_empty()
    }

    /// The registries that limit us, and how long after each other they are asked.
    pub(super) fn registries(&self, now: Time) -> impl Iterator<Item = (&Arc<str>, Duration)> {
        self.registries
            .iter()
            .filter(move |(_, paced)| !paced.is_over(now))
            .map(|(registry, paced)| (registry, paced.gap))
    }

    /// When the next fetch from a registry may begin; `None`: now.
    pub(super) fn turn(&self, now: Time, registry: &Arc<str>) -> Option<Time> {
        let paced = self.registries.get(registry)?;
        (paced.next > now && !mutant!("limiting-registry-fetched-from-at-once")).then_some(paced.next)
    }
}

impl Agent {
    /// Everything that could be fetched now, but for the gap, begins when it is over.
    pub(super) fn await_turns(&mut self) {
        if self.pacing.is_needed() {
            let moving = self.flights.values().filter(|flight| flight.stage.is_moving());
            let digests: Vec<_> = moving.map(|flight| flight.digest).collect();
            digests.into_iter().for_each(|digest| self.await_turn(digest));
        }
    }

    /// What a flight has to fetch waits until its registry may be asked again.
    pub(super) fn await_turn(&mut self, digest: Digest) {
        let Some(flight) = self.flights.get(&digest).filter(|flight| flight.has_work_for_origin()) else { return };
        if let Some(at) = self.pacing.turn(self.cx.now, &flight.source.registry) {
            self.cx.timers.set_by(Deadline::Fetch(digest), at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Arc<str> {
        "registry.example".into()
    }

    #[test]
    fn what_was_refused_together_is_one_refusal_and_the_gap_follows_what_the_registry_bears() {
        let mut cx = Context::new(1, Time::ZERO);
        let mut pacing = Pacing::default();
        for _ in 0..10 {
            pacing.refused(&mut cx, &registry(), Time::ZERO, Duration::ZERO);
        }
        let first = pacing.turn(cx.now, &registry()).expect("it is paced");
        assert!(first <= Time::ZERO + GAP.0 * 5 / 4);
        // It answers once a second.
        let (mut refusals, mut answers, mut last) = (0, 0, Time::ZERO);
        for _ in 0..150 {
            cx.now = pacing.turn(cx.now, &registry()).unwrap_or(cx.now + NO_GAP);
            pacing.began(&mut cx, &registry());
            let began = cx.now;
            cx.now = cx.now + Duration::from_millis(20);
            if cx.now - last >= Duration::from_secs(1) {
                last = cx.now;
                answers += 1;
                pacing.went_well(cx.now, &registry());
            } else {
                refusals += 1;
                pacing.refused(&mut cx, &registry(), began, Duration::ZERO);
            }
        }
        assert!(answers > 90, "{answers}");
        assert!(refusals < answers, "{refusals} refusals for {answers} answers");
        assert!(cx.now < Time::ZERO + Duration::from_secs(2 * answers), "{:?}", cx.now);
    }

    #[test]
    fn who_is_to_come_back_soon_does_and_a_long_pause_is_of_what_was_asked_for() {
        let turn = |retry_after: Duration| {
            let (mut cx, mut pacing) = (Context::new(1, Time::ZERO), Pacing::default());
            pacing.refused(&mut cx, &registry(), Time::ZERO, retry_after);
            pacing.turn(cx.now, &registry()).expect("it is paced") - Time::ZERO
        };
        assert_eq!(turn(Duration::from_secs(2)), Duration::from_secs(2));
        assert!(turn(Duration::from_secs(3600)) <= GAP.0 * 5 / 4);
    }

    #[test]
    fn a_registry_that_bears_more_again_is_not_paced_for_ever() {
        let mut cx = Context::new(1, Time::ZERO);
        let mut pacing = Pacing::default();
        pacing.refused(&mut cx, &registry(), Time::ZERO, Duration::ZERO);
        for _ in 0..20 {
            cx.now = pacing.turn(cx.now, &registry()).unwrap_or(cx.now);
            pacing.began(&mut cx, &registry());
            pacing.went_well(cx.now, &registry());
        }
        assert!(!pacing.is_needed());
    }

    #[test]
    fn what_a_registry_said_long_ago_holds_no_more() {
        let mut cx = Context::new(1, Time::ZERO);
        let mut pacing = Pacing::default();
        for second in 1..20 {
            cx.now = Time::ZERO + Duration::from_secs(second);
            let began = cx.now;
            pacing.refused(&mut cx, &registry(), began, Duration::ZERO);
        }
        assert!(pacing.is_paced(cx.now, &registry()));
        assert_eq!(pacing.registries(cx.now).count(), 1);
        cx.now = cx.now + GAP.1 * 2 + FORGOTTEN;
        assert_eq!(pacing.registries(cx.now).count(), 0);
        assert!(!pacing.is_paced(cx.now, &registry()));
        pacing.began(&mut cx, &registry());
        assert_eq!(pacing.turn(cx.now, &registry()), None);
    }
}

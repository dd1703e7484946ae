//! A flight's beginning: wanted, queued, and started when there is room.

use super::Agent;
use crate::digest::Digest;
use crate::flight::{Flight, Stage};
use crate::names::{CredentialId, Source};
use crate::timers::Deadline;

/// Of an image, so many bytes are fetched at a time of what containerd has not asked for yet, or one blob, in the order in which it
/// will: what it waits for next should not share the registry's link with all the rest, and it unpacks one layer after the other.
const AHEAD: u64 = 64 << 20;

impl Agent {
    /// Makes sure that there is a flight for `digest`. A credential is kept for its origin requests: call
    /// [`can_fetch_after_all`](Self::can_fetch_after_all) when whoever brought it is noted, because that may change
    /// everything about the flight.
    pub(super) fn want(&mut self, digest: Digest, source: &Source, credential: Option<CredentialId>) {
        if !self.flights.contains_key(&digest) || mutant!("second-flight") {
            self.generations += 1;
            let mut flight = Flight::new(digest, self.generations, source.clone(), self.cx.now);
            flight.way = self.way;
            flight.private = self.partials.get(&digest).is_some_and(|partial| partial.private)
                || self.sizes.get(&digest).is_some_and(|named| named.private);
            self.flights.insert(digest, Box::new(flight));
            let patience = self.config.no_progress_timeout;
            if !mutant!("flight-without-watchdog") {
                self.cx.wake(Deadline::NoProgress(digest), patience);
            }
        }
        if credential.is_some()
            && let Some(flight) = self.flights.get_mut(&digest)
        {
            flight.turned_away = false;
            // Whoever looks again in the cool-down of a failure says so afterwards.
            flight.cools_down_until = None;
            // The one goes with the other: a credential must not reach the registry that somebody else named.
            let is_elsewhere = flight.comes_from(source);
            flight.wanted_here = true;
            let old = core::mem::replace(&mut flight.credential, credential);
            if is_elsewhere || old != credential {
                self.asks_anew(digest);
            }
            self.use_credential(credential);
            self.release_credential(old);
        }
    }

    /// Starts queued flights while there is room, in order of arrival, which of an image's blobs is that of its manifest. Those that containerd waits for have as much room of
    /// their own: they do not stand behind large blobs that nobody has asked for yet. What others wait for needs no room.
    pub(super) fn promote(&mut self) {
        while let Some(flight) = self.flights.values().find(|flight| flight.others_wait && !flight.is_running())
            && !mutant!("flight-of-others-queued")
        {
            self.begin(flight.digest);
        }
        let most = self.config.max_running_flights as usize + usize::from(mutant!("running-limit-off-by-one"));
        loop {
            let Some(next) = self.next_in_line() else { return };
            let waited_for = !next.waiters.is_empty() && !mutant!("waited-for-flight-queued");
            let running = || self.flights.values().filter(|flight| flight.is_running() && !flight.others_wait);
            let (all, waited) = (running().count(), running().filter(|flight| !flight.waiters.is_empty()).count());
            // Who was waited for a moment ago may still run.
            let is_full = if waited_for { waited >= most || all >= 2 * most } else { all >= most };
            if is_full || self.is_far_ahead(next) {
                return;
            }
            self.begin(next.digest);
        }
    }

    /// Which of the flights that do not run begins next: one that is waited for, if there is any, then what somebody has asked for,
    /// then what is fetched ahead; of these the oldest.
    pub(super) fn next_in_line(&self) -> Option<&Flight> {
        let queued = self.flights.values().map(|flight| &**flight).filter(|flight| !flight.is_running());
        queued.min_by_key(|flight| (flight.waiters.is_empty(), flight.is_asked_by_nobody(), flight.generation))
    }

    /// Whether this is fetched ahead, and enough of that is on its way before it begins. What others have asked for begins, and counts:
    /// else this node would ask others for what comes after it, who would begin that, and so on, until all have begun everything.
    pub(super) fn is_far_ahead(&self, next: &Flight) -> bool {
        let size = |flight: &Flight| flight.size.or_else(|| self.sizes.get(&flight.digest).map(|named| named.size));
        let ahead = self.flights.values().filter(|flight| flight.ahead && flight.is_running());
        let bytes: u64 = ahead.filter_map(|flight| size(flight)).sum();
        next.is_asked_by_nobody()
            && bytes > 0
            && bytes + size(next).unwrap_or(0) > AHEAD
            && !mutant!("everything-at-once")
    }

    fn begin(&mut self, digest: Digest) {
        let known = self.sizes.get(&digest).map(|named| named.size);
        let on_disk = self.partials.get(&digest).map(|partial| partial.size);
        // Before anybody leads: who knows the size need not ask the origin for it.
        if let Some(size) = known.or(on_disk) {
            self.learn_size(digest, size, None);
        }
        // Everything may be on disk already.
        let Some(flight) = self.flights.get_mut(&digest).filter(|flight| matches!(flight.stage, Stage::Queued)) else {
            return;
        };
        // It could not move before.
        flight.last_byte = self.cx.now;
        flight.last_release = self.cx.now;
        flight.last_near = self.cx.now;
        flight.stood_behind = self.cx.now;
        if flight.led_for_others {
            // What the cascade would find is known to those who enrol here, and did not help them.
            flight.stage = Stage::Moving;
            return self.lead(digest);
        }
        self.resolve(digest, true);
    }
}

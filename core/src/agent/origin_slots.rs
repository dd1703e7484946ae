//! What to fetch next from the origin: how much at a time, and for whom first.
//!
//! Nobody knows what others fetch from the same registry. Twenty nodes with six fetches each leave a registry of 1 MB/s 8 kB/s
//! for each: no piece is complete before its deadline, everything is given to somebody else and fetched again, and the
//! requester's patience ends. So each node begins with few and has more as long as they are fast, as TCP does. And what nobody
//! waits for leaves room for what somebody waits for.

use core::time::Duration;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Agent, Op};
use crate::digest::Digest;
use crate::flight::{Flight, Stage};
use crate::names::OpId;
use crate::output::{Check, Output, Span};
use crate::swarm::download::{Download, Fetch};
use crate::time::Time;

/// An origin fetch that makes no progress for this long is given up; below the tracker's shortest deadline, so that the
/// participant says so before the tracker gives the run away.
pub(super) const ORIGIN_PATIENCE: Duration = Duration::from_secs(9);
/// The largest manifest that is fetched, in bytes: four times what containerd accepts.
pub(super) const MAX_MANIFEST_BYTES: u64 = 16 * 1024 * 1024;
/// Fetches at a time before anything has come.
const FIRST: u32 = 4;
/// A piece that comes within the first makes room for one more fetch at a time, one that takes longer than the second halves
/// them: well below the shortest deadline of a run, which is given to somebody else when it passes.
const BRISK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(4));
/// A run is begun if this many times what a piece takes is left of its time: the tracker gives it to somebody else if nothing has
/// come by then.
const MARGIN: u32 = 2;
/// A blob that is no larger than this, in bytes, is fetched beside those that take long: what it takes from them is nothing.
const SMALL: u64 = 64 * 1024;
/// Of the fetches at a time, those for flights that nobody waits for get this share, until the origin turns out to be fast.
const BACKGROUND_SHARE: u32 = 2;

/// How much is fetched from the origin at a time.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct OriginSlots {
    /// More than the first few. May be less: they are counted down to one.
    more: i32,
    /// What a piece takes lately. Zero before the first one.
    typical: Duration,
    /// When each fetch began, or last brought a piece.
    last: BTreeMap<OpId, Time>,
}

impl OriginSlots {
    /// How many fetches there may be at a time, `most` at most.
    fn at_a_time(&self, most: u32) -> u32 {
        FIRST.saturating_add_signed(self.more).clamp(1, most.max(1))
    }

    /// What begins now has brought its first piece by then, if all goes well: the tracker hears of it.
    fn first_piece_by(&self, now: Time) -> Time {
        now + self.typical * MARGIN
    }

    fn began(&mut self, now: Time, op: OpId) {
        self.last.insert(op, now);
    }

    /// A fetch has brought a piece.
    pub(super) fn arrived(&mut self, now: Time, op: OpId, most: u32) {
        let Some(last) = self.last.get_mut(&op) else { return };
        let took = now - core::mem::replace(last, now);
        self.typical = if self.typical.is_zero() { took } else { (self.typical * 3 + took) / 4 };
        let slots = self.at_a_time(most);
        if took <= BRISK.0 {
            self.set(slots + 1, most);
        } else if took > BRISK.1 {
            self.set(slots / 2, most);
        }
    }

    /// A fetch has brought nothing for so long that it was given up.
    pub(super) fn stalled(&mut self, most: u32) {
        self.set(self.at_a_time(most) / 2, most);
    }

    pub(super) fn ended(&mut self, op: OpId) {
        self.last.remove(&op);
    }

    fn set(&mut self, slots: u32, most: u32) {
        self.more = slots.clamp(1, most.max(1)) as i32 - FIRST as i32;
    }
}

impl Flight {
    /// Nobody waits for it, here or elsewhere.
    fn is_background(&self) -> bool {
        self.waiters.is_empty() && !self.others_wait
    }

    fn has_work_for_origin(&self) -> bool {
        match &self.download {
            Some(download) => download.has_runs(),
            None => self.whole_assigned,
        }
    }
}

impl Agent {
    /// Fetches from the origin: those of flights that somebody waits for, and the others.
    fn origin_fetches(&self) -> (u32, u32) {
        let (mut waited, mut background) = (0, 0);
        let mut count = |flight: &Flight, fetches: usize| {
            *if flight.is_background() { &mut background } else { &mut waited } += fetches as u32;
        };
        for flight in self.flights.values() {
            count(flight, flight.download.as_ref().map_or(0, Download::origin_fetches));
        }
        for op in self.ops.values() {
            if let Op::FetchWhole(digest) = op
                && let Some(flight) = self.flights.get(digest)
            {
                count(flight, 1);
            }
        }
        (waited, background)
    }

    /// Whether one more fetch may begin for this flight.
    fn has_slot_for_origin(&self, flight: &Flight) -> bool {
        let most = self.config.max_origin_fetches + u32::from(mutant!("origin-limit-off-by-one"));
        let limit = self.origin_slots.at_a_time(most);
        let (waited, background) = self.origin_fetches();
        let all = waited + background;
        if flight.size.is_some_and(|size| size <= SMALL) {
            all < most
        } else if flight.is_background() {
            // A fast registry is soon done with what is in the way.
            let share = if limit < most { limit / BACKGROUND_SHARE } else { limit - 1 };
            all < limit && background < share.max(1)
        } else {
            // Whoever is waited for gets something at least.
            all < limit || waited == 0 && all < most
        }
    }

    pub(super) fn fill_from_origin(&mut self, digest: Digest) {
        while self.fetch_from_origin(digest) {}
    }

    /// A slot for the origin is free: whoever is waited for comes first, of these who has the fewest, then who has waited for the
    /// longest. If each took its own again, a large blob would keep all of them, and whoever waits for a small one would be sent
    /// away.
    pub(super) fn share_origin(&mut self) {
        loop {
            let moving = self.flights.values().filter(|flight| flight.stage.is_moving());
            let next = moving.filter(|flight| flight.has_work_for_origin()).min_by_key(|flight| {
                let slots = flight.download.as_ref().map_or(0, Download::origin_fetches);
                (flight.is_background(), slots, flight.last_byte)
            });
            let Some(flight) = next.filter(|flight| self.has_slot_for_origin(flight)) else { return };
            let digest = flight.digest;
            self.fetch_from_origin(digest);
        }
    }

    /// Starts one fetch from the origin, if there is something to start and may be.
    fn fetch_from_origin(&mut self, digest: Digest) -> bool {
        let Some(flight) = self.flights.get_mut(&digest) else { return false };
        if let Some(download) = &mut flight.download {
            let by = self.origin_slots.first_piece_by(self.cx.now);
            download.drop_late_runs(by, flight.neighbours.available());
        }
        // Most calls end here: what the other flights do is looked at only if there is something to start.
        let Some(flight) = self.flights.get(&digest).filter(|flight| flight.has_work_for_origin()) else {
            return false;
        };
        if !matches!(flight.stage, Stage::Moving) || !self.has_slot_for_origin(flight) {
            return false;
        }
        let Some(flight) = self.flights.get_mut(&digest) else { return false };
        let (source, credential) = (flight.source.clone(), flight.credential);
        let check = Check::Alone;
        let Some(download) = &mut flight.download else {
            flight.whole_assigned = false;
            self.cx.counters.origin_fetches += 1;
            let op = self.start_op(Op::FetchWhole(digest), ORIGIN_PATIENCE);
            self.origin_slots.began(self.cx.now, op);
            let span = Span::Unknown { max_bytes: MAX_MANIFEST_BYTES };
            self.cx.emit(Output::FetchOrigin { op, source, digest, span, credential, check });
            return true;
        };
        let Some((first, count)) = download.next_run() else { return false };
        let geometry = download.geometry();
        let size = geometry.size();
        let span = if count == geometry.pieces() { Span::All { size } } else { Span::Pieces { size, first, count } };
        self.cx.counters.origin_fetches += 1;
        let op = self.start_op(Op::Fetch(digest), ORIGIN_PATIENCE);
        self.origin_slots.began(self.cx.now, op);
        if let Some(download) = self.flights.get_mut(&digest).and_then(|flight| flight.download.as_mut()) {
            download.started(op, Fetch::Origin { start: first, first, end: first + count, check });
        }
        self.cx.emit(Output::FetchOrigin { op, source, digest, span, credential, check });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u32 = 6;

    fn after(slots: &mut OriginSlots, seconds: &[u64]) -> Vec<u32> {
        let mut now = Time::ZERO;
        let op = OpId(1);
        slots.began(now, op);
        let mut piece = |took: &u64| {
            now = now + Duration::from_secs(*took);
            slots.arrived(now, op, MOST);
            slots.at_a_time(MOST)
        };
        seconds.iter().map(&mut piece).collect()
    }

    #[test]
    fn a_fast_origin_is_asked_for_more_and_a_slow_one_for_less() {
        let mut slots = OriginSlots::default();
        assert_eq!(slots.at_a_time(MOST), FIRST);
        assert_eq!(after(&mut slots, &[1, 0, 1, 1, 2, 4, 5, 5, 5, 1]), [5, 6, 6, 6, 6, 6, 3, 1, 1, 2]);
        slots.stalled(MOST);
        assert_eq!(slots.at_a_time(MOST), 1);
    }

    #[test]
    fn the_setting_is_the_most() {
        let mut slots = OriginSlots::default();
        assert_eq!(slots.at_a_time(1), 1);
        assert_eq!(slots.at_a_time(0), 1);
        slots.began(Time::ZERO, OpId(1));
        slots.arrived(Time::ZERO, OpId(1), 1);
        assert_eq!(slots.at_a_time(1), 1);
        slots.ended(OpId(1));
        assert!(slots.last.is_empty());
    }
}

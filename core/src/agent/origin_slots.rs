//! What to fetch next from the origin: how much at a time, and for whom first.
//!
//! Nobody knows what others fetch from the same registry. Twenty nodes with six fetches each leave a registry of 1 MB/s 8 kB/s
//! for each: no piece is complete before its deadline, everything is given to somebody else and fetched again, and the
//! requester's patience ends. So each node begins with few and has more as long as they are fast, as TCP does. And what nobody
//! waits for leaves room for what somebody waits for.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Agent, ENROL_INTERVAL, Op};
use crate::digest::Digest;
use crate::flight::{Flight, Role, Stage};
use crate::names::{Kind, OpId, PeerId};
use crate::output::{Check, Output, Span};
use crate::swarm::download::{Download, Fetch};
use crate::swarm::pace::BRISK;
use crate::time::Time;
use crate::timers::Deadline;

/// An origin fetch that makes no progress for this long is given up; below the tracker's shortest deadline, so that the
/// participant says so before the tracker gives the run away.
pub(super) const ORIGIN_PATIENCE: Duration = Duration::from_secs(9);
/// The largest manifest that is fetched, in bytes: four times what containerd accepts.
const MAX_MANIFEST_BYTES: u64 = 16 * 1024 * 1024;
/// Fetches at a time before anything has come.
const FIRST: u32 = 4;
/// A run is begun if this many times what a piece takes is left of its time: the tracker gives it to somebody else if nothing has
/// come by then.
const MARGIN: u32 = 2;
/// A blob that is no larger than this, in bytes, is fetched beside those that take long: what it takes from them is nothing.
const SMALL: u64 = 64 * 1024;
/// For so long it counts how soon a registry has answered; then it may have moved away, and the way is taken for up to twice as long.
/// (TCP BBR: 10 s; pulls are minutes apart.)
const WAY_COUNTS: Duration = Duration::from_secs(60);
/// A way this long becomes twice as long in the same time.
const SHORT_WAY: Duration = Duration::from_millis(50);
/// After this long without a fetch nothing is known of the way any more.
const WAY_IS_KNOWN: Duration = Duration::from_secs(600);
/// Of the fetches at a time, those for flights that nobody waits for get this share, until the origin turns out to be fast.
const BACKGROUND_SHARE: u32 = 2;

/// How much is fetched from the origin at a time.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct OriginSlots {
    /// More than the first few. May be less: they are counted down to one.
    more: i32,
    /// What a piece takes lately. Zero before the first one.
    typical: Duration,
    /// When they were halved: what began before that says nothing about what is out since.
    halved: Time,
    /// The least that a fetch of a blob from each registry has taken until something of it was reported, and when that was.
    ways: BTreeMap<Arc<str>, (Duration, Time)>,
    /// The fetches that are under way.
    fetches: BTreeMap<OpId, Fetching>,
}

/// A fetch from a registry.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Fetching {
    began: Time,
    /// What of the time until its next piece is the way: zero from its first piece on.
    way: Duration,
    /// What it has brought since, in bytes.
    bytes: u64,
    /// When it began, or last brought a piece.
    last: Time,
}

impl OriginSlots {
    /// How many fetches there may be at a time, `most` at most.
    fn at_a_time(&self, most: u32) -> u32 {
        FIRST.saturating_add_signed(self.more).clamp(1, most.max(1))
    }

    /// What begins now has brought its first piece after this long, if all goes well: the tracker hears of it.
    fn first_piece_takes(&self) -> Duration {
        self.typical * MARGIN
    }

    /// When a fetch began, or last brought a piece.
    pub(super) fn last(&self, op: OpId) -> Option<Time> {
        self.fetches.get(&op).map(|fetch| fetch.last)
    }

    fn began(&mut self, now: Time, op: OpId) {
        self.fetches.insert(op, Fetching { began: now, way: Duration::ZERO, bytes: 0, last: now });
    }

    /// Bytes of a fetch have come, of a blob from `registry`, or of a manifest, which may be kept elsewhere. Returns what the way to
    /// that registry takes, if they are the first.
    pub(super) fn brought(&mut self, now: Time, op: OpId, registry: Option<&Arc<str>>, bytes: u64) -> Option<Duration> {
        let fetch = self.fetches.get_mut(&op)?;
        let is_first = fetch.bytes == 0 && bytes > 0;
        fetch.bytes += bytes;
        let registry = registry.filter(|_| is_first && !mutant!("far-registry-is-slow"))?;
        let took = now - fetch.began;
        self.ways.retain(|_, (_, at)| now - *at <= WAY_IS_KNOWN);
        let (least, at) = self.ways.get(registry).copied().unwrap_or((took, now));
        let known = if took <= least {
            (took, now)
        } else if now - at > WAY_COUNTS {
            // It may have moved away, or everybody stands in its queue.
            (took.min(least.max(SHORT_WAY) * 2), now)
        } else {
            (least, at)
        };
        self.ways.insert(registry.clone(), known);
        fetch.way = known.0;
        Some(known.0)
    }

    /// What the way to a registry takes, as far as is known: what takes longer than that waits for something.
    pub(super) fn way(&self, now: Time, registry: &Arc<str>) -> Duration {
        let known = self.ways.get(registry).filter(|(_, at)| now - *at <= WAY_IS_KNOWN);
        known.map_or(Duration::ZERO, |(way, _)| *way)
    }

    /// What comes from the origin for a flight: what has brought bytes, or began so lately that it may. A registry that swallows
    /// requests is not one that is slow.
    pub(super) fn runs_of(&self, now: Time, flight: &Flight) -> Vec<(u32, u32)> {
        let comes = |op: OpId| self.fetches.get(&op).is_some_and(|it| it.bytes > 0 || now - it.began < ENROL_INTERVAL);
        flight.download.as_ref().map(|download| download.origin_runs(comes)).unwrap_or_default()
    }

    /// How long so many bytes take, as fast as this fetch is. `None`: it has brought nothing.
    fn takes(&self, now: Time, op: OpId, bytes: u64) -> Option<Duration> {
        let fetch = self.fetches.get(&op).filter(|fetch| fetch.bytes > 0)?;
        let micros = (now - fetch.began).as_micros() * u128::from(bytes) / u128::from(fetch.bytes);
        Some(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
    }

    /// A fetch has brought a piece of so many bytes.
    pub(super) fn arrived(&mut self, now: Time, op: OpId, bytes: u64, most: u32) {
        let Some(fetch) = self.fetches.get_mut(&op) else { return };
        let began = core::mem::replace(&mut fetch.last, now);
        let took = now - began;
        let sending = took.saturating_sub(core::mem::take(&mut fetch.way));
        // Large ones may take longer, also for the tracker: a byte a microsecond.
        let more = Duration::from_micros(bytes);
        self.typical = if self.typical.is_zero() { took } else { (self.typical * 3 + took) / 4 };
        let slots = self.at_a_time(most);
        // A brisk one makes room for one more fetch at a time, a slow one halves them: without the way, well below the shortest
        // deadline of a run, which is given to somebody else when it passes.
        if sending <= BRISK.0 + more {
            self.set(slots + 1, most);
        } else if sending > BRISK.1 + more {
            self.halve(now, began, most);
        }
    }

    /// A fetch has brought nothing for so long that it was given up.
    pub(super) fn stalled(&mut self, now: Time, op: OpId, most: u32) {
        if let Some(began) = self.last(op) {
            self.halve(now, began, most);
        }
    }

    fn halve(&mut self, now: Time, began: Time, most: u32) {
        if began >= self.halved && !mutant!("slow-origin-asked-for-as-much") {
            self.halved = now;
            self.set(self.at_a_time(most) / 2, most);
        }
    }

    pub(super) fn ended(&mut self, op: OpId) {
        self.fetches.remove(&op);
    }

    fn set(&mut self, slots: u32, most: u32) {
        self.more = slots.clamp(1, most.max(1)) as i32 - FIRST as i32;
    }
}

impl Flight {
    /// All else stands behind it, and it takes next to nothing from anybody.
    fn is_small(&self) -> bool {
        self.source.kind == Kind::Manifest || self.size.is_some_and(|size| size <= SMALL)
    }

    /// Nobody waits for it, as far as is known here.
    fn is_background(&self) -> bool {
        self.waiters.is_empty() && !self.others_wait
    }

    pub(super) fn has_work_for_origin(&self) -> bool {
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

    /// How long a piece of a blob takes that comes from its registry now, going by the fastest of this node's own fetches from
    /// there; `None`: nothing comes from there.
    pub(super) fn piece_from_origin_takes(&self, digest: &Digest) -> Option<Duration> {
        let flight = self.flights.get(digest)?;
        let bytes = flight.download.as_ref()?.geometry().len(0);
        let fetches = self.ops.iter().filter_map(|(op, of)| match of {
            Op::Fetch(of) => Some((*op, self.flights.get(of)?)),
            _ => None,
        });
        let same = fetches.filter(|(_, of)| of.source.registry == flight.source.registry);
        same.filter_map(|(op, _)| self.origin_slots.takes(self.cx.now, op, bytes)).min()
    }

    /// Fetches from registries that are under way.
    pub(super) fn origin_fetches_now(&self) -> u32 {
        let (waited, background) = self.origin_fetches();
        waited + background
    }

    /// How many there may be at a time for now.
    pub(super) fn origin_fetches_limit(&self) -> u32 {
        self.origin_slots.at_a_time(self.config.max_origin_fetches)
    }

    /// It has nothing on its way, and what it is to fetch from its registry waits for its turn.
    pub(super) fn awaits_registry(&self, flight: &Flight) -> bool {
        let is_fetching = flight.download.as_ref().is_some_and(Download::is_fetching);
        flight.has_work_for_origin() && !is_fetching && !self.has_slot_for_origin(flight)
    }

    /// A participant (`peer`) of a swarm that this node leads gets nothing, and `piece` is to be fetched by this node, for which nothing of
    /// that blob comes: what else its own containerd waits for goes first, from a registry so slow that this may take minutes. Then the
    /// participant fetches it.
    pub(super) fn pass_on_what_waits(&mut self, digest: Digest, peer: &PeerId, piece: u32) {
        let now = self.cx.now;
        let Some(flight) = self.flights.get(&digest).filter(|flight| flight.role == Role::Leading) else { return };
        if self.pacing.is_paced(self.cx.now, &flight.source.registry)
            || !self.awaits_registry(flight)
            || mutant!("leader-hoards")
        {
            return;
        }
        let (source, size) = (flight.source.clone(), flight.size);
        let Some(run) = flight.download.as_ref().and_then(|download| download.run_with(piece)) else { return };
        let Some(tracker) = self.trackers.get_mut(&digest) else { return };
        let Some(passed) = tracker.pass_on(now, &self.config.peer, peer, run) else { return };
        if let Some(download) = self.flights.get_mut(&digest).and_then(|flight| flight.download.as_mut()) {
            download.drop_run_with(piece);
        }
        self.tell_of_run(digest, size, &source, passed);
    }

    /// Whether one more fetch may begin for this flight.
    fn has_slot_for_origin(&self, flight: &Flight) -> bool {
        if self.pacing.turn(self.cx.now, &flight.source.registry).is_some() {
            return false;
        }
        let most = self.config.max_origin_fetches + u32::from(mutant!("origin-limit-off-by-one"));
        let limit = self.origin_slots.at_a_time(most);
        let (waited, background) = self.origin_fetches();
        let all = waited + background;
        if flight.is_small() {
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
        let is_paced = |flight: &Flight| self.pacing.is_paced(self.cx.now, &flight.source.registry);
        if self.flights.get(&digest).is_some_and(|flight| is_paced(flight)) {
            // One at a time: whose turn it is.
            self.share_origin();
        }
        while self.fetch_from_origin(digest) {}
        self.await_turn(digest);
    }

    /// A slot for the origin is free: whoever is waited for comes first, of these who has the fewest, then who has waited for the
    /// longest. If each took its own again, a large blob would keep all of them, and whoever waits for a small one would be sent
    /// away.
    pub(super) fn share_origin(&mut self) {
        loop {
            let moving = self.flights.values().filter(|flight| flight.stage.is_moving());
            let may_ask = |flight: &&Flight| self.pacing.turn(self.cx.now, &flight.source.registry).is_none();
            let next = moving.filter(|flight| flight.has_work_for_origin()).map(|flight| &**flight);
            let next = next.filter(may_ask).min_by_key(|flight| {
                let slots = flight.download.as_ref().map_or(0, Download::origin_fetches);
                (!flight.is_small(), flight.is_background(), slots, flight.last_byte)
            });
            // Small ones have more room than others, and those that are waited for more than those that are not.
            let Some(flight) = next.filter(|flight| self.has_slot_for_origin(flight)) else {
                return self.await_turns();
            };
            let digest = flight.digest;
            self.fetch_from_origin(digest);
        }
    }

    /// Starts one fetch from the origin, if there is something to start and may be.
    fn fetch_from_origin(&mut self, digest: Digest) -> bool {
        let Some(flight) = self.flights.get_mut(&digest) else { return false };
        if let Some(download) = &mut flight.download {
            let takes = self.origin_slots.first_piece_takes();
            let dropped = download.drop_late_runs(self.cx.now, takes, flight.neighbours.available());
            if let Some(tracker) = self.trackers.get_mut(&digest).filter(|_| !dropped.is_empty()) {
                // Nobody has to wait for it until its deadline.
                tracker.release(&self.config.peer, &dropped);
                self.cx.wake_by(Deadline::Track(digest), Duration::from_millis(1));
            }
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
            self.pacing.began(&mut self.cx, &source.registry);
            self.cx.counters.origin_fetches += 1;
            let op = self.start_op(Op::FetchWhole(digest), ORIGIN_PATIENCE);
            self.origin_slots.began(self.cx.now, op);
            let span = Span::Unknown { max_bytes: MAX_MANIFEST_BYTES };
            self.cx.emit(Output::FetchOrigin { op, source, digest, span, credential, check });
            return true;
        };
        let requests_are_few =
            self.pacing.is_paced(self.cx.now, &source.registry) && !mutant!("what-goes-on-asked-for-by-itself");
        let Some((first, count)) = download.next_run(requests_are_few) else { return false };
        let geometry = download.geometry();
        let size = geometry.size();
        let span = if count == geometry.pieces() { Span::All { size } } else { Span::Pieces { size, first, count } };
        self.cx.counters.origin_fetches += 1;
        self.pacing.began(&mut self.cx, &source.registry);
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
            slots.arrived(now, op, 0, MOST);
            slots.at_a_time(MOST)
        };
        seconds.iter().map(&mut piece).collect()
    }

    #[test]
    fn a_fast_origin_is_asked_for_more_and_a_slow_one_for_less() {
        let mut slots = OriginSlots::default();
        assert_eq!(slots.at_a_time(MOST), FIRST);
        assert_eq!(after(&mut slots, &[1, 0, 1, 1, 2, 4, 5, 5, 5, 1]), [5, 6, 6, 6, 6, 6, 3, 1, 1, 2]);
        slots.stalled(Time::from_micros(u64::MAX), OpId(1), MOST);
        assert_eq!(slots.at_a_time(MOST), 1);
    }

    #[test]
    fn what_the_way_takes_is_not_slow_and_what_waits_for_longer_is() {
        let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
        let (far, near) = (Arc::from("far.example"), Arc::from("near.example"));
        let mut slots = OriginSlots::default();
        for op in [1, 2].map(OpId) {
            slots.began(at(0), op);
        }
        slots.brought(at(5), OpId(1), Some(&far), 1);
        slots.arrived(at(6), OpId(1), 0, MOST);
        assert_eq!((slots.way(at(20), &far), slots.at_a_time(MOST)), (Duration::from_secs(5), FIRST + 1));
        // The next piece has no way before it.
        slots.arrived(at(11), OpId(1), 0, MOST);
        // Half of five.
        assert_eq!(slots.at_a_time(MOST), 2);
        // It could have come after five seconds.
        slots.brought(at(20), OpId(2), Some(&far), 1);
        slots.arrived(at(20), OpId(2), 0, MOST);
        assert_eq!((slots.way(at(20), &far), slots.at_a_time(MOST)), (Duration::from_secs(5), 2));
        // Another registry says nothing of this one.
        slots.began(at(30), OpId(4));
        slots.brought(at(30), OpId(4), Some(&near), 1);
        assert_eq!((slots.way(at(30), &near), slots.way(at(20), &far)), (Duration::ZERO, Duration::from_secs(5)));
        slots.began(at(100), OpId(3));
        slots.brought(at(107), OpId(3), Some(&far), 1);
        assert_eq!(slots.way(at(107), &far), Duration::from_secs(7));
        // It is not believed at once that it takes three times as long.
        slots.began(at(200), OpId(5));
        slots.brought(at(221), OpId(5), Some(&far), 1);
        assert_eq!(slots.way(at(221), &far), Duration::from_secs(14));
        assert_eq!(slots.way(at(900), &far), Duration::ZERO);
    }

    #[test]
    fn what_brings_nothing_does_not_come() {
        let mut flight = Flight::new(Digest::from_bytes([7; 32]), 1, source(), Time::ZERO);
        let mut download =
            Download::new(flight.digest, crate::piece::Geometry::of_blob(8 * crate::piece::MIN_PIECE_BYTES));
        let mut slots = OriginSlots::default();
        for op in 0..2 {
            let (start, end) = (op as u32 * 4, op as u32 * 4 + 4);
            download.started(OpId(op), Fetch::Origin { first: start, start, end, check: Check::Alone });
            slots.began(Time::ZERO, OpId(op));
        }
        flight.download = Some(download);
        assert_eq!(slots.runs_of(Time::ZERO, &flight), [(0, 4), (4, 4)]);
        slots.brought(Time::ZERO, OpId(1), None, 1);
        assert_eq!(slots.runs_of(Time::ZERO + ENROL_INTERVAL, &flight), [(4, 4)]);
    }

    fn source() -> crate::names::Source {
        crate::names::Source { registry: "r".into(), repository: "n".into(), kind: Kind::Blob }
    }

    #[test]
    fn what_a_piece_takes_follows_from_what_has_come_of_others() {
        let mut slots = OriginSlots::default();
        let (slow, silent) = (OpId(1), OpId(2));
        slots.began(Time::ZERO, slow);
        slots.began(Time::ZERO, silent);
        slots.brought(Time::ZERO, slow, None, 1000);
        slots.brought(Time::ZERO, slow, None, 500);
        let now = Time::ZERO + Duration::from_secs(3);
        assert_eq!(slots.takes(now, slow, 4500), Some(Duration::from_secs(9)));
        assert_eq!(slots.takes(now, silent, 4500), None);
        // That a piece is complete changes nothing.
        slots.arrived(now, slow, 1500, MOST);
        assert_eq!(slots.takes(now, slow, 4500), Some(Duration::from_secs(9)));
    }

    #[test]
    fn the_setting_is_the_most() {
        let mut slots = OriginSlots::default();
        assert_eq!(slots.at_a_time(1), 1);
        assert_eq!(slots.at_a_time(0), 1);
        slots.began(Time::ZERO, OpId(1));
        slots.arrived(Time::ZERO, OpId(1), 0, 1);
        assert_eq!(slots.at_a_time(1), 1);
        slots.ended(OpId(1));
        assert!(slots.fetches.is_empty());
    }
}

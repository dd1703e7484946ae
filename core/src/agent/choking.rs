//! Upload slots: who waits for one, and who is told that one is free.
//!
//! BitTorrent's choking and unchoking, in the order of asking. Without it everybody who misses a piece asks again and again:
//! of five requests four were refused, each at the price of a stream.

use core::time::Duration;

use super::Agent;
use super::serving::Stream;
use crate::digest::Digest;
use crate::message::{Have, Notice};
use crate::names::PeerId;
use crate::output::Output;
use crate::spine::Midstate;
use crate::timers::Deadline;

/// Before anything was sent: a refused piece may be asked for again after this long, the time of 1 MiB at 1 Gbit/s.
const FIRST_BUSY_RETRY: Duration = Duration::from_millis(10);
/// The shortest and the longest time after which a refused piece may be asked for again.
pub(super) const BUSY_RETRY: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(500));
/// Whoever was told of a slot has this long to take it before the next ones are told, if nothing is being sent.
const UNCHOKE_PATIENCE: Duration = Duration::from_millis(20);

impl Agent {
    /// For pieces of `bytes`.
    pub(super) fn free_slots(&self, bytes: u64) -> usize {
        let taken = self.streams.values().filter(|open| open.is_piece()).count();
        (self.uploads_at_a_time(bytes) as usize + usize::from(mutant!("upload-limit-off-by-one"))).saturating_sub(taken)
    }

    /// How many pieces of `bytes` are sent at a time.
    fn uploads_at_a_time(&self, bytes: u64) -> u32 {
        self.way.uploads(self.config.max_uploads, bytes, self.uploads)
    }

    /// All slots are taken: `peer` waits. Returns after how long it should ask again if it has not been told of a slot: about
    /// when its turn would be, and not the same for all who ask.
    pub(super) fn choke(&mut self, peer: &PeerId, digest: Digest) -> Duration {
        let place = if self.config.max_uploads == 0 { None } else { self.choked.add(peer, digest) };
        let turn = self.until_a_slot_is_free() * (place.unwrap_or(0) as u32 + 1);
        self.cx.jitter(turn).clamp(BUSY_RETRY.0, BUSY_RETRY.1)
    }

    /// `peer` has got a slot. It is told when it may have another one, after all others: it need not be refused first.
    pub(super) fn has_slot(&mut self, peer: &PeerId, digest: Digest) {
        self.choked.served(peer, &digest);
        self.choked.add(peer, digest);
    }

    /// Tells those who have waited longest that slots are free. Nobody has to take one: with the next slot that becomes free,
    /// those that nobody took are offered again.
    pub(super) fn unchoke(&mut self) {
        let free = self.free_slots(self.uploads.bytes());
        let mut told = 0;
        while (told < free || mutant!("everybody-told-of-one-slot"))
            && !mutant!("free-slot-told-to-nobody")
            && let Some((peer, digest)) = self.choked.next()
        {
            if self.may_want(&peer, &digest) {
                told += 1;
                let (pieces, spine) = self.news_for(&peer, &digest);
                self.cx.emit(Output::Notify { peer, notice: Notice::Unchoke { digest, pieces, spine }.into() });
            }
        }
        if !self.choked.is_empty() && !self.streams.values().any(Stream::is_piece) {
            self.cx.wake_by(Deadline::Unchoke, UNCHOKE_PATIENCE);
        }
    }

    /// Whether there may still be something of a blob that `peer` can get here.
    fn may_want(&self, peer: &PeerId, digest: &Digest) -> bool {
        let misses = |flight: &crate::flight::Flight| flight.neighbours.get(peer).is_none_or(|them| !them.complete);
        match self.flights.get(digest) {
            Some(flight) => misses(flight),
            None => self.cache.get(digest).is_some(),
        }
    }

    /// What `peer` has to know of a blob when it is told of a slot: it asks now, or it is the next one's turn.
    fn news_for(&mut self, peer: &PeerId, digest: &Digest) -> (Vec<u32>, Vec<(u32, Midstate)>) {
        // Whoever hears of a private blob has to hear that it is private: `have` says so.
        let Some(flight) = self.flights.get_mut(digest).filter(|flight| !flight.is_private()) else {
            return Default::default();
        };
        let (Some(download), Some(neighbour)) = (&flight.download, flight.neighbours.get_mut(peer)) else {
            return Default::default();
        };
        let mut pieces = neighbour.not_told(download);
        if mutant!("news-lost-on-the-way-to-a-slot") {
            pieces.clear();
        }
        let spine = download.news_spine(&pieces);
        (pieces, spine)
    }

    /// About how long until one of the uploads is done, and half as long again, because others wait for it as well. Where none
    /// has begun for a while, those that are under way do not take what uploads took: it may last as long again, half of
    /// which is a fair guess.
    fn until_a_slot_is_free(&self) -> Duration {
        let each = self.uploads.usual() * 3 / 2 / self.uploads_at_a_time(self.uploads.bytes()).max(1);
        let latest = self.streams.values().filter_map(Stream::sending_since).max();
        let stuck = latest.map_or(Duration::ZERO, |since| (self.cx.now - since) / 2);
        if each.is_zero() { FIRST_BUSY_RETRY } else { each }.max(stuck)
    }

    /// A neighbour that was busy has a slot for us now, and these pieces besides those that it has told us of.
    pub(super) fn unchoked(&mut self, peer: &PeerId, digest: Digest, pieces: &[u32], spine: &[(u32, Midstate)]) {
        let now = self.cx.now;
        if !self.flights.get(&digest).is_some_and(|flight| flight.neighbours.contains(peer)) {
            // Nobody has asked it.
            return;
        }
        let tracker = self.trackers.get_mut(&digest);
        let tracked = tracker.is_some_and(|tracker| tracker.heard(now, peer, &Have::Also(pieces.to_vec())));
        self.hear_spine(digest, peer, spine, false);
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        let news = flight.neighbours.heard_also(peer, pieces);
        if flight.neighbours.unchoked(peer, now)
            || news && flight.neighbours.is_free(peer, flight.asking(&self.config, now))
        {
            self.fill(digest);
        }
        if tracked {
            self.track(digest);
        }
    }
}

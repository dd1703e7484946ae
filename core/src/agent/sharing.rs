//! How the flights of one node share its link.
//!
//! Whoever fetches forty blobs at a time, four pieces each, asks for fifty times what its neighbours can send at a time, and
//! most of its requests are refused. So all flights together fetch little more than one alone would: those that somebody
//! waits for come first, of these the ones that began first, and the others take what they leave. That is why many may run:
//! what a node does not work on, nobody gets from it, and what the origin has sent of it has to be spread later.

use core::time::Duration;

use super::Agent;
use super::fetching::{LATE, late_after};
use crate::digest::Digest;
use crate::flight::Flight;
use crate::names::Kind;
use crate::time::Time;
use crate::timers::Deadline;

/// Pieces that all flights fetch at a time, as a multiple of what one may: where one waits for what is rare, others go on.
/// (Twenty layers of 64 MiB to a hundred nodes: 1.32 times the optimum with 1, 1.09 with 2. Twenty of
/// 1 GiB to thirty nodes: 1.8 times the messages without a limit.)
const TOGETHER: u32 = 2;
/// If those who have the piece say that they are busy, a flight waits for its turn this long; from then on they are not believed.
/// Where several nodes share a slow line between zones, it takes seconds until each has its turn.
const BUSY_PATIENCE: Duration = Duration::from_secs(2);
/// This many times as long while pieces of other blobs come: whoever fetches many blobs at a time stands in line for each of
/// them, and the lines are long. (Twenty layers to ten nodes with 25 Mbit/s, four seeds: 1.016 to 1.020 copies with 1, 1.003 to
/// 1.012 with 4.) A reader is cut off after 30 s in which nothing comes, and after 2 min in any case.
const BUSY_WITH_OTHERS: u32 = 4;

/// A flight stands behind others for this long, at most: then it is one that gets nothing.
const MOST_BEHIND: Duration = Duration::from_secs(1800);

impl Flight {
    /// Stands behind the node's other flights, unless somebody waits for it or it has got nothing for too long. Returns whether it
    /// does.
    fn stand_behind(&mut self, now: Time) -> bool {
        let stands = self.waiters.is_empty() && now - self.last_byte.max(self.started) < MOST_BEHIND;
        if stands {
            self.stood_behind = now;
        }
        stands
    }
}

impl Agent {
    /// How many more pieces may be fetched from peers now, whoever fetches them. What is late does not count, so that peers
    /// who trickle do not hold up everything; but there is a limit to that.
    pub(super) fn downloads_left(&self) -> usize {
        if self.flights.len() == 1 {
            // Its own limit is lower.
            return usize::MAX;
        }
        let (mut all, mut late) = (0, 0);
        for flight in self.flights.values() {
            let Some(download) = flight.download.as_ref().filter(|download| download.piece_fetches() > 0) else {
                continue;
            };
            all += download.piece_fetches();
            late += download.stuck(self.cx.now, late_after(flight.piece_time));
        }
        let most = self.flights.values().map(|flight| flight.with_those_on_the_way(self.config.max_downloads)).max();
        let limit = most.unwrap_or(0).saturating_mul(TOGETHER) as usize;
        limit.saturating_sub(all - late).min((2 * limit).saturating_sub(all))
    }

    /// A flight could fetch more and is not allowed to, until others have got what they fetch.
    pub(super) fn hold_back(&mut self, digest: Digest) {
        if let Some(flight) = self.flights.get_mut(&digest) {
            flight.held_back = true;
            flight.stand_behind(self.cx.now);
        }
        if !mutant!("held-back-for-ever") {
            self.cx.wake_by(Deadline::Fetch(digest), LATE.1);
        }
    }

    /// Pieces of other blobs come.
    fn others_move(&self, digest: Digest) -> bool {
        let comes =
            |flight: &Flight| flight.last_piece > flight.started && self.cx.now - flight.last_piece < BUSY_PATIENCE;
        self.flights.values().any(|flight| flight.digest != digest && comes(flight))
    }

    /// Whether those who have what a flight misses, and say that they are busy, are still believed.
    pub(super) fn believes_in_its_turn(&self, flight: &Flight) -> bool {
        let waited = self.cx.now - flight.last_piece.max(flight.stood_behind);
        waited < BUSY_PATIENCE || waited < BUSY_PATIENCE * BUSY_WITH_OTHERS && self.others_move(flight.digest)
    }

    /// Whether nobody waits for a flight while pieces of others come: the node has better to do, and what the flight misses does
    /// not have to come from the origin once more. (Forty layers of 1 GiB to a thousand nodes took ten copies from a registry
    /// that is never busy: flights complained of busy peers that they had hardly asked.)
    pub(super) fn stands_behind(&mut self, digest: Digest) -> bool {
        let now = self.cx.now;
        let others_move = self.others_move(digest);
        let Some(flight) = self.flights.get_mut(&digest) else { return false };
        if mutant!("complains-while-behind") {
            return false;
        }
        others_move && flight.source.kind != Kind::Manifest && !flight.is_recovering() && flight.stand_behind(now)
    }

    /// Whether a flight has stood behind others a moment ago.
    pub(super) fn stands_behind_now(&self, flight: &Flight) -> bool {
        let lately = flight.stood_behind > flight.started && self.cx.now - flight.stood_behind < BUSY_PATIENCE;
        lately && flight.waiters.is_empty()
    }

    /// A flight has got something, or not: whoever comes first may fetch more now.
    pub(super) fn share(&mut self, digest: Digest) {
        let order = |flight: &Flight| (flight.waiters.is_empty(), flight.generation, flight.digest);
        let wants = |flight: &&Flight| flight.held_back && !mutant!("held-back-for-ever") || flight.digest == digest;
        let mut wanting: Vec<_> = self.flights.values().map(|flight| &**flight).filter(wants).map(order).collect();
        wanting.sort_unstable();
        for (_, _, digest) in wanting {
            self.fill(digest);
            if self.flights.get(&digest).is_some_and(|flight| flight.held_back) {
                break;
            }
        }
    }
}

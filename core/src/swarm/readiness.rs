//! Whether a neighbour may be asked for a piece now.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Time;

/// Whoever has said that it is busy, or that it has a slot for us, keeps us on its list: for so long it will say when it has
/// a slot. It may forget us, where many others wait.
const CHOKED_FOR: Duration = Duration::from_secs(1);
/// A neighbour that failed this many times in a row is dropped.
const MAX_STRIKES: u8 = 3;

/// How neighbours may be asked for pieces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking {
    pub(crate) now: Time,
    /// Enough is on its way: those who will say when they have a slot are not asked before they do.
    pub(crate) waits: bool,
}

impl Asking {
    /// Whoever is not known to be busy now.
    pub(crate) fn anybody(now: Time) -> Self {
        Self { now, waits: false }
    }
}

/// What is to be known before a neighbour is asked; apart from the rest of it, because all of them are looked through
/// whenever a piece is to be fetched.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Readiness {
    /// It said when to come back.
    busy_until: Time,
    /// Until then it is expected to say when it has a slot for us.
    choked_until: Time,
    /// Pieces that we are fetching from it now.
    pub(crate) fetching: u8,
    strikes: u8,
    /// It has a slot for us.
    pub(crate) unchoked: bool,
    /// The least that an answer has ever taken, in microseconds; 0: none has come.
    way: u32,
}

impl Readiness {
    /// That of somebody who has said before when to come back.
    pub(crate) fn busy_since_before(until: Time) -> Self {
        Self { busy_until: until, ..Self::default() }
    }

    /// Whether it may be asked for a piece, if we fetch at most `most` at a time from it.
    pub(crate) fn is_free(&self, asking: Asking, most: u32) -> bool {
        u32::from(self.fetching) < most
            && self.busy_until <= asking.now
            && (!asking.waits || self.unchoked || self.choked_until <= asking.now)
    }

    /// From when on it may be asked.
    pub(crate) fn free_at(&self, asking: Asking) -> Time {
        if asking.waits { self.busy_until.max(self.choked_until) } else { self.busy_until }
    }

    /// When it wants to be asked again, if it has ever said so.
    pub(crate) fn busy_until(&self) -> Option<Time> {
        (self.busy_until > Time::ZERO).then_some(self.busy_until)
    }

    /// It is asked for a piece.
    pub(crate) fn asked(&mut self) {
        self.fetching = self.fetching.saturating_add(1);
        self.unchoked = false;
    }

    /// It has sent a piece.
    pub(crate) fn delivered(&mut self) {
        self.cancelled();
        self.strikes = 0;
    }

    /// It has answered after this long. Returns the least that this has ever taken: what is more than that was spent in a queue.
    pub(crate) fn answered_after(&mut self, took: Duration) -> Duration {
        let took = took.as_micros().clamp(1, u32::MAX.into()) as u32;
        self.way = if self.way == 0 { took } else { self.way.min(took) };
        Duration::from_micros(self.way.into())
    }

    /// It has not sent a piece, and that was not its fault.
    pub(crate) fn cancelled(&mut self) {
        self.fetching = self.fetching.saturating_sub(1);
    }

    /// It has refused: it will say when it has a slot, and may be asked from `until` on if it does not.
    pub(crate) fn refused(&mut self, now: Time, until: Time) {
        self.cancelled();
        self.busy_until = until;
        self.choked_until = now + CHOKED_FOR;
    }

    /// It has a slot for us. Returns whether that counts: after a failure the pause stands, whatever it says.
    pub(crate) fn unchoke(&mut self, now: Time) -> bool {
        if self.strikes > 0 {
            return false;
        }
        if mutant!("unchoke-not-believed") {
            return false;
        }
        self.busy_until = Time::ZERO;
        self.choked_until = now + CHOKED_FOR;
        self.unchoked = true;
        true
    }

    /// It has failed, and is left alone for `pause` times the failures in a row. Returns whether these are too many.
    pub(crate) fn failed(&mut self, now: Time, pause: Duration) -> bool {
        self.cancelled();
        self.strikes = self.strikes.saturating_add(1);
        self.busy_until = self.busy_until.max(now + pause * u32::from(self.strikes));
        self.strikes >= MAX_STRIKES
    }
}

//! How far away peers are, and how many pieces have to be on their way for as many to be sent at a time as if they were near.
//!
//! A piece is asked for when it is known to be there, and a slot is free when a piece has been sent: with nodes 50 ms from each other
//! both stand idle for longer than a piece takes.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::input::LONG_WAY;
use crate::piece::round_trips;

/// At most this many times as many.
const MOST_ON_THE_WAY: u32 = 16;
/// The way is long if it is this part of what a piece takes, at least [`LONG_WAY`]. (Where they are nearer, more pieces at a time are
/// only more at the mercy of those who lie: `corrupt-peer` took 1.19 copies without and 1.37 with them, the mean of seeds 1 to 6.)
const LONG_PART: u32 = 3;

/// So much of what would keep as many being sent as among near peers is fetched, and sent, at a time: those who are asked are not always
/// free, and one piece fills a link as well as three do. (The geometric mean of twelve settings with 2 to 30 nodes, 1 to 50 ms and
/// 0.1 to 10 Gbit/s, three seeds each, all of it from the beginning: 2.94 s with 1 and 1, 2.92 with 1 and 2/3, 2.83 with 3/2 and 2/3, 2.83 with 2 and 2/3.)
const FETCHES: (u32, u32) = (3, 2);
const UPLOADS: (u32, u32) = (2, 3);

/// What the way to a peer and back takes lately: the mean over those who were asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Way(Duration);

impl Way {
    /// Somebody was asked whose answers come after `least`, when there is no queue.
    pub(crate) fn asked(&mut self, least: Duration) {
        if !mutant!("as-few-pieces-from-far-away") {
            self.0 = lately(self.0, least);
        }
    }

    pub(crate) fn is_long(self) -> bool {
        self.0 >= LONG_WAY
    }

    /// So many pieces of `piece_bytes` to fetch at a time instead of `count`, if one takes `piece_time` from being asked for to its
    /// last byte, and so many have `come`: with each there may be one more, as in TCP's slow start. (With sixteen times as many from the
    /// beginning, none of them was done in time on a slow link.)
    pub(crate) fn fetches(self, count: u32, piece_bytes: u64, piece_time: Duration, come: u32) -> u32 {
        if piece_time.is_zero() {
            return count;
        }
        let times = self.times(count, FETCHES, piece_time, self.0 * (1 + round_trips(piece_bytes)));
        times.min(count.saturating_add(come))
    }

    /// So many pieces of `bytes` to send at a time instead of `count`, as far as `uploads` tell what one takes: whoever is told of a
    /// free slot takes it when the way there and back is over.
    pub(crate) fn uploads(self, count: u32, bytes: u64, uploads: Uploads) -> u32 {
        if uploads.time.is_zero() || bytes > uploads.bytes.saturating_mul(2) || mutant!("as-few-slots-far-away") {
            return count;
        }
        self.times(count, UPLOADS, uploads.time + self.0, self.0 * (1 + round_trips(uploads.bytes)))
    }

    /// `part` of `count`, as often as `all` the time of a piece is more than what of it is not spent `on_the_way`.
    fn times(self, count: u32, part: (u32, u32), all: Duration, on_the_way: Duration) -> u32 {
        if !self.is_long() || on_the_way * LONG_PART < all {
            return count;
        }
        let sending = all.saturating_sub(on_the_way);
        let most = count.saturating_mul(MOST_ON_THE_WAY);
        let times = (u128::from(count) * u128::from(part.0) * all.as_micros())
            .checked_div(u128::from(part.1) * sending.as_micros());
        times.map_or(most, |times| times.clamp(count.into(), most.into()) as u32)
    }
}

/// What sending a piece takes lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Uploads {
    /// Of any size.
    usual: Duration,
    /// Of about so many bytes, which is as large as any that was sent: what small ones take says nothing of large ones.
    bytes: u64,
    time: Duration,
}

impl Uploads {
    /// So many bytes were sent.
    pub(crate) fn sent(&mut self, bytes: u64, took: Duration) {
        self.usual = lately(self.usual, took);
        if bytes > self.bytes {
            (self.bytes, self.time) = (bytes, took);
        } else if bytes.saturating_mul(2) > self.bytes {
            self.time = lately(self.time, took);
        }
    }

    /// A piece was not sent to its end.
    pub(crate) fn given_up(&mut self, after: Duration) {
        if !self.time.is_zero() && after > self.time {
            self.time = lately(self.time, after);
        }
    }

    /// The largest that was sent.
    pub(crate) fn bytes(self) -> u64 {
        self.bytes
    }

    /// What one takes, whatever its size. Zero before the first one.
    pub(crate) fn usual(self) -> Duration {
        self.usual
    }
}

/// What something takes lately, that took `before` so far (zero: never yet) and took this long now.
pub(crate) fn lately(before: Duration, took: Duration) -> Duration {
    if before.is_zero() { took } else { (before * 7 + took) / 8 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::piece::MIN_PIECE_BYTES;

    #[test]
    fn what_large_pieces_take_is_not_told_by_small_ones() {
        let (mut uploads, second) = (Uploads::default(), Duration::from_secs(1));
        uploads.given_up(second);
        uploads.sent(1_000, second / 100);
        uploads.sent(1_000_000, second);
        uploads.sent(1_000, second / 100);
        uploads.given_up(second / 2);
        assert_eq!((uploads.bytes, uploads.time), (1_000_000, second));
        uploads.given_up(second * 9);
        assert_eq!(uploads.time, second * 2);
        uploads.sent(600_000, second * 10);
        assert_eq!((uploads.bytes, uploads.time), (1_000_000, second * 3));
        assert!(uploads.usual > second / 100 && uploads.usual < second * 2, "{uploads:?}");
    }

    #[test]
    fn as_many_pieces_are_being_sent_wherever_peers_are() {
        let milliseconds = Duration::from_millis;
        let way = |way| {
            let mut it = Way::default();
            if way > 0 {
                it.asked(milliseconds(way));
            }
            it
        };
        let fetches = |piece_time, is| way(is).fetches(4, MIN_PIECE_BYTES, milliseconds(piece_time), 60);
        // Nothing is known of pieces, or of the way.
        assert_eq!([fetches(0, 0), fetches(0, 50), fetches(30, 0)], [4, 4, 4]);
        // A way that is little, a third and half of the time, most of it, and more than a piece has taken lately.
        assert_eq!([9, 10, 15, 29, 31].map(|way| fetches(30, way)), [4, 9, 12, 64, 64]);
        // Near ones, whatever a piece takes.
        assert_eq!([fetches(1, 1), fetches(2, 2)], [4, 64]);
        // One that waits for windows twice: 50 ms of 300 are none of that.
        assert_eq!(way(50).fetches(4, 4 * MIN_PIECE_BYTES, milliseconds(200), 60), 24);
        // One more with each that has come.
        let come = |come| way(50).fetches(4, MIN_PIECE_BYTES, milliseconds(50), come);
        assert_eq!([come(0), come(3), come(70)], [4, 7, 64]);
        let sent =
            |upload_time| Uploads { bytes: MIN_PIECE_BYTES, time: milliseconds(upload_time), ..Uploads::default() };
        let uploads = |upload_time, is| way(is).uploads(3, MIN_PIECE_BYTES, sent(upload_time));
        // Of larger ones nothing is known.
        assert_eq!(way(60).uploads(3, 2 * MIN_PIECE_BYTES + 1, sent(20)), 3);
        // Nothing was sent yet; a slot that nobody takes for a third, half and most of the time.
        assert_eq!(
            [uploads(0, 50), uploads(20, 9), uploads(20, 10), uploads(20, 20), uploads(20, 60)],
            [3, 3, 3, 4, 8]
        );
        assert_eq!([uploads(1, 1), uploads(1, 100)], [3, 48]);
        let mut mean = way(2);
        mean.asked(milliseconds(23));
        assert_eq!(mean, Way(Duration::from_micros((2_000 * 7 + 23_000) / 8)));
    }
}

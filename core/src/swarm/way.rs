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
/// free, and one piece fills a link as well as three do. (The mean of twelve settings with 2 to 30 nodes, 1 to 50 ms and 0.1 to 10
/// Gbit/s, three seeds each: 2.92 s with 1 and 1, 2.92 with 1 and 2/3, 2.83 with 3/2 and 2/3, 2.83 with 2 and 2/3.)
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
    /// last byte.
    pub(crate) fn fetches(self, count: u32, piece_bytes: u64, piece_time: Duration) -> u32 {
        self.times(count, FETCHES, piece_time, self.0 * (1 + round_trips(piece_bytes)))
    }

    /// So many pieces to send at a time instead of `count`, if one takes `upload_time`: whoever is told of a free slot takes it when
    /// the way there and back is over.
    pub(crate) fn uploads(self, count: u32, piece_bytes: u64, upload_time: Duration) -> u32 {
        if upload_time.is_zero() || mutant!("as-few-slots-far-away") {
            return count;
        }
        self.times(count, UPLOADS, upload_time + self.0, self.0 * (1 + round_trips(piece_bytes)))
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

/// What something takes lately, that took `before` so far (zero: never yet) and took this long now.
pub(crate) fn lately(before: Duration, took: Duration) -> Duration {
    if before.is_zero() { took } else { (before * 7 + took) / 8 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::piece::MIN_PIECE_BYTES;

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
        let fetches = |piece_time, is| way(is).fetches(4, MIN_PIECE_BYTES, milliseconds(piece_time));
        // Nothing is known of pieces, or of the way.
        assert_eq!([fetches(0, 0), fetches(30, 0)], [4, 4]);
        // A way that is little, a third and half of the time, most of it, and more than a piece has taken lately.
        assert_eq!([9, 10, 15, 29, 31].map(|way| fetches(30, way)), [4, 9, 12, 64, 64]);
        // Near ones, whatever a piece takes.
        assert_eq!([fetches(1, 1), fetches(2, 2)], [4, 64]);
        // One that waits for windows twice: 50 ms of 300 are none of that.
        assert_eq!(way(50).fetches(4, 4 * MIN_PIECE_BYTES, milliseconds(200)), 24);
        let uploads = |upload_time, is| way(is).uploads(3, MIN_PIECE_BYTES, milliseconds(upload_time));
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

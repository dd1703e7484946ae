//! Gantry's messages carry instants where ours carry durations: here they become each other.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message;

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Timestamp {
    /// Seconds since 1970.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Nanoseconds after that second.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl Timestamp {
    pub(super) fn before(now: SystemTime, elapsed: Duration) -> Self {
        Self::from_nanos(nanos(now) - duration_nanos(elapsed))
    }

    pub(super) fn after(now: SystemTime, remaining: Duration) -> Self {
        Self::from_nanos(nanos(now) + duration_nanos(remaining))
    }

    /// How long ago this was. Zero if it is in the future (clocks differ), or unknown: an instant that was never set
    /// arrives as 1970 or, from Go, as the year 1.
    pub(super) fn elapsed(self, now: SystemTime) -> Duration {
        if self.seconds <= 0 { Duration::ZERO } else { duration(nanos(now) - self.nanos()) }
    }

    /// How long until this is. Zero if it is in the past.
    pub(super) fn remaining(self, now: SystemTime) -> Duration {
        duration(self.nanos() - nanos(now))
    }

    fn nanos(self) -> i128 {
        i128::from(self.seconds) * NANOS_PER_SECOND + i128::from(self.nanos)
    }

    fn from_nanos(nanos: i128) -> Self {
        let seconds = nanos.div_euclid(NANOS_PER_SECOND);
        Self {
            seconds: i64::try_from(seconds).unwrap_or(if seconds < 0 { i64::MIN } else { i64::MAX }),
            // The remainder is below 10^9.
            nanos: nanos.rem_euclid(NANOS_PER_SECOND) as i32,
        }
    }
}

fn nanos(time: SystemTime) -> i128 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => duration_nanos(after),
        Err(before) => -duration_nanos(before.duration()),
    }
}

fn duration_nanos(duration: Duration) -> i128 {
    // At most 2^64 seconds: below 2^94.
    duration.as_nanos() as i128
}

fn duration(nanos: i128) -> Duration {
    let nanos = nanos.max(0);
    let seconds = u64::try_from(nanos / NANOS_PER_SECOND).unwrap_or(u64::MAX);
    Duration::new(seconds, (nanos % NANOS_PER_SECOND) as u32)
}

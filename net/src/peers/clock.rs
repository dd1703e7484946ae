//! The wall clock, which only Gantry's messages need: their instants become durations and back.

use std::time::SystemTime;

/// Tells the wall-clock time. A parameter, so that a simulator can supply its own.
#[derive(Clone, Copy, Debug)]
pub struct Clock(fn() -> SystemTime);

impl Clock {
    /// A clock that asks this function.
    #[must_use]
    pub const fn new(now: fn() -> SystemTime) -> Self {
        Self(now)
    }

    pub(super) fn now(self) -> SystemTime {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self(SystemTime::now)
    }
}

//! What a run costs: time on the wall, and time of the processor. The only clock in this crate, and no decision reads it.

use std::time::{Duration, Instant};

/// The nanoseconds that a thread has run for come first in it (Linux).
const THREAD_TIME: &str = "/proc/thread-self/schedstat";

/// Measures the thread that started it.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    wall: Instant,
    processor: Option<Duration>,
}

impl Stopwatch {
    /// Starts.
    #[must_use]
    pub fn start() -> Self {
        Self { wall: Instant::now(), processor: processor_time() }
    }

    /// Time on the wall since the start.
    #[must_use]
    pub fn wall(&self) -> Duration {
        self.wall.elapsed()
    }

    /// Time that this thread has run since the start; the time on the wall where the system does not say.
    #[must_use]
    pub fn processor(&self) -> Duration {
        match (self.processor, processor_time()) {
            (Some(before), Some(now)) => now.saturating_sub(before),
            _ => self.wall(),
        }
    }
}

fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string(THREAD_TIME).ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_costs_time() {
        let watch = Stopwatch::start();
        let mut sum = 0_u64;
        while watch.processor().is_zero() {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(watch.wall() > Duration::ZERO);
    }
}

//! Real parts on loopback: started in private directories, on free ports, and stopped when dropped.

pub(crate) mod agent;
pub(crate) mod containerd;
pub(crate) mod faulty;
pub(crate) mod http;
pub(crate) mod image;
pub(crate) mod lab;
pub(crate) mod netns;
pub(crate) mod process;
pub(crate) mod raw_peer;
pub(crate) mod registry;
pub(crate) mod token;
pub(crate) mod upload;
pub(crate) mod world;

use std::time::{Duration, Instant};

/// Longest that anything on this machine may take to start, or a log line to appear. Generous: two cores may be shared.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again until there is an answer; panics with `what` after `patience`.
///
/// For parts that offer no event to wait for: foreign processes' sockets and logs, and an agent's own status pages.
pub(crate) fn wait_for<T>(what: &str, patience: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < patience, "waited {patience:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

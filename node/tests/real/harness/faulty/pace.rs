//! How far blob bodies flow.

use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

#[derive(Default)]
struct State {
    sent: u64,
    hold_at: Option<u64>,
    stopped: bool,
}

/// Shared by all bodies of one server.
#[derive(Default)]
pub(super) struct Pace {
    state: Mutex<State>,
    changed: Condvar,
}

impl Pace {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding the pace")
    }

    pub(super) fn hold_at(&self, bytes: u64) {
        self.state().hold_at = Some(bytes);
    }

    pub(super) fn release(&self) {
        let mut state = self.state();
        state.hold_at = None;
        self.changed.notify_all();
    }

    pub(super) fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        self.changed.notify_all();
    }

    pub(super) fn wait_until_held(&self, patience: Duration) {
        let (state, waited) = self
            .changed
            .wait_timeout_while(self.state(), patience, |state| state.hold_at.is_none_or(|at| state.sent < at))
            .expect("nobody panics while holding the pace");
        assert!(!waited.timed_out(), "only {} bytes left the registry within {patience:?}", state.sent);
    }

    /// How many of `wanted` bytes may be sent now: waits for a release. `None` when all is over.
    pub(super) fn reserve(&self, wanted: u64) -> Option<u64> {
        let mut state = self
            .changed
            .wait_while(self.state(), |state| !state.stopped && state.hold_at.is_some_and(|at| state.sent >= at))
            .expect("nobody panics while holding the pace");
        if state.stopped {
            return None;
        }
        let granted = state.hold_at.map_or(wanted, |at| wanted.min(at - state.sent));
        state.sent += granted;
        self.changed.notify_all();
        Some(granted)
    }

    /// Reserved bytes that could not be sent: the client has left.
    pub(super) fn give_back(&self, bytes: u64) {
        self.state().sent -= bytes;
    }

    /// Waits until all is over: a body that never goes on.
    pub(super) fn stall(&self) {
        let _ended = self
            .changed
            .wait_while(self.state(), |state| !state.stopped)
            .expect("nobody panics while holding the pace");
    }
}

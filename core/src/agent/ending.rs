//! A flight's end without its blob, and what leads to it.

use core::time::Duration;

use super::{Agent, Op};
use crate::digest::Digest;
use crate::flight::{Flight, Role, Stage};
use crate::message::{FailureClass, Notice};
use crate::output::{Explanation, Output};
use crate::resolve::stall_window;
use crate::timers::Deadline;

/// A participant that the origin has turned away and that nobody here waits for ends when this many trackers in a row did
/// not help it: what it has may be the work of a liar, so that nobody's pieces fit, and it cannot find out from the origin.
const HOPELESS: u32 = 2;

/// A tracker that moves and has nothing for this node is waited for so many times as long as one that does not.
const TRACKER_STALLS: u32 = 4;

impl Agent {
    /// Nothing has moved for too long: a participant looks for another tracker, then the flight fails.
    pub(super) fn no_progress(&mut self, digest: Digest) {
        let limit = self.config.no_progress_timeout;
        let Some(flight) = self.flights.get(&digest) else { return };
        let idle = flight.idle(self.cx.now);
        let stall = stall_window(flight.source.kind, flight.size);
        if matches!(flight.stage, Stage::Committing | Stage::Queued) {
            return self.cx.wake(Deadline::NoProgress(digest), limit);
        }
        if let Some(waits) = self.waits_too_long(flight) {
            return match waits {
                Ok(()) => self.fetch_by_hand(digest),
                Err(more) => self.cx.wake(Deadline::NoProgress(digest), more),
            };
        }
        if idle >= limit {
            let detail = format!("no byte in {} s", limit.as_secs());
            return self.fail_flight(digest, FailureClass::Transient, &detail, None);
        }
        let left = limit.saturating_sub(idle);
        // Whatever it says, there is an end to that.
        let is_quiet = if idle < stall * TRACKER_STALLS { flight.tracker_is_quiet(self.cx.now) } else { idle };
        let waits = idle.min(is_quiet);
        let next = match &flight.role {
            Role::Following(_)
                if idle >= stall * HOPELESS && !flight.can_fetch_origin() && flight.waiters.is_empty() =>
            {
                let detail = "nobody gives what is missing, and the origin turned this node away";
                return self.fail_flight(digest, FailureClass::Auth, detail, Some(Duration::ZERO));
            }
            Role::Following(tracker) if waits >= stall => {
                let tracker = tracker.clone();
                self.cx.wake(Deadline::NoProgress(digest), stall.min(left));
                return self.tracker_lost(digest, &tracker);
            }
            Role::Following(_) => stall.saturating_sub(waits).min(left),
            _ => left,
        };
        if !mutant!("watchdog-not-rearmed") {
            self.cx.wake(Deadline::NoProgress(digest), next.max(Duration::from_millis(100)));
        }
    }

    /// Ends a flight without its blob. What is on disk stays for the next one. `shared`: the failure is somebody else's
    /// and does not climb our own ladder.
    pub(super) fn fail_flight(&mut self, digest: Digest, class: FailureClass, detail: &str, shared: Option<Duration>) {
        // Everything is here, verified, and being made durable: what anybody says about the swarm comes too late. To forget
        // the flight now would be to take the file that the store renames for one that can be gone on with.
        if self.flights.get(&digest).is_some_and(|flight| matches!(flight.stage, Stage::Committing)) {
            return;
        }
        let Some(flight) = self.close_flight(digest) else { return };
        let now = self.cx.now;
        // Whatever it has found out about that, or an earlier one.
        let challenge = flight.challenge.clone().or_else(|| self.failures.challenge(&digest).cloned());
        // What a requester's credential could not open says nothing about others.
        let personal = class == FailureClass::Auth && flight.credential.is_some();
        // It was led for others, or only others could give it: the failure that cools down here stays what it is.
        let cooled_down = flight.cools_down_until.is_none_or(|until| until <= now);
        let detail = if cooled_down { detail } else { &format!("in a cool-down, {detail}") };
        if shared.is_none() && !personal && cooled_down {
            self.failures.failed(now, digest, class, None, challenge.clone());
        }
        self.cx.counters.flights_failed += 1;
        self.cx.explain(Explanation::Failed { digest, class, detail: detail.into() });
        self.end_tracking(digest);
        if let Role::Following(tracker) = &flight.role {
            // What it was to fetch is free for others.
            let notice = Notice::Leave { digest };
            self.cx.emit(Output::Notify { peer: tracker.clone(), notice: notice.into() });
        }
        let others = if personal { self.waiters_with_another_credential(&flight) } else { Vec::new() };
        if !mutant!("waiters-never-dismissed") {
            let dismissed = flight.waiters.iter().copied().filter(|id| !others.contains(id));
            self.dismiss_waiters(dismissed, class, challenge.as_ref());
        }
        self.park(&flight);
        self.release_credential(flight.credential);
        // Each time at least one credential fewer is left to try.
        for id in others {
            self.serve_missing(id);
        }
        if !mutant!("queue-never-promoted") {
            self.promote();
        }
    }

    /// Removes a flight with everything that runs for it.
    pub(super) fn close_flight(&mut self, digest: Digest) -> Option<Flight> {
        let flight = self.flights.remove(&digest)?;
        self.calls.cancel(&mut self.cx, |call| call.digest == digest);
        for deadline in [
            Deadline::NoProgress(digest),
            Deadline::Probe(digest),
            Deadline::Enrol(digest),
            Deadline::Fetch(digest),
            Deadline::Tell(digest),
        ] {
            self.cx.timers.clear(deadline);
        }
        let own: Vec<_> = self
            .ops
            .iter()
            .filter(|(_, op)| match op {
                Op::Fetch(of)
                | Op::FetchWhole(of)
                | Op::Size(of)
                | Op::Challenge(of)
                | Op::Confirm(of, _)
                | Op::Late(of)
                | Op::Hash(of, _)
                | Op::Providers(of) => *of == digest,
                Op::Head(_) | Op::Authorize(_) => false,
            })
            .map(|(id, op)| (*id, matches!(op, Op::Fetch(_) | Op::FetchWhole(_))))
            .collect();
        for (op, transfers) in own {
            self.finish_op(op);
            if transfers && !mutant!("transfers-outlive-flight") {
                self.cx.emit(Output::CancelTransfer { op });
            }
        }
        Some(*flight)
    }
}

//! Bodies that grow while containerd reads them: how long one that stands still is left open.
//!
//! A body that is cut sends containerd to the registry for the rest, on each node that reads it. That helps where the registry is well
//! and the swarm is not; it fails the pull where the registry is out of order, and where that has just become well again each node takes
//! the rest from it. So the registry is asked before, by one question, and while it does not answer a body waits, up to [`longest_silence`].

use core::time::Duration;

use super::mirroring::{Request, STAT_PATIENCE, State};
use super::{Agent, Op};
use crate::config::Config;
use crate::digest::Digest;
use crate::failures::LOOK_AGAIN;
use crate::flight::{Asked, Flight, Role};
use crate::input::{Method, OriginFailure, OriginStat};
use crate::message::FailureClass;
use crate::names::{Kind, OpId, RequestId};
use crate::output::Output;
use crate::swarm::download::Download;
use crate::swarm::tracker::Tracker;
use crate::timers::Deadline;

/// A body whose next piece does not come, although others do, is left open for so many times
/// [`body_timeout`](crate::config::Config::body_timeout): a slow registry would have to send everything again, to the very
/// node that waits for it.
const MOVING_BODY: u32 = 4;
/// But not longer than this, unless it is set longer: containerd cancels a pull that has had nothing for 5 min, and looks every
/// 10 s.
const LONGEST_SILENCE: Duration = Duration::from_secs(240);
/// A registry that did not answer is asked again after this, and each time in vain after twice as long: every node whose containerd
/// reads asks it.
const FIRST_DOUBT: Duration = Duration::from_secs(10);
/// But not less often than this: what comes to nobody may be the swarm's fault by then.
const LONGEST_DOUBT: Duration = Duration::from_secs(40);
/// The bodies of a swarm stand still at the same moment on all its nodes, which ask after about this time, each after another one.
const SPREAD: Duration = Duration::from_secs(1);

/// The longest time for which a body that has begun gets no byte before it is cut short. After a mismatch there is none before all has
/// come again, and if everybody had it sent by the registry instead, it would take as many times longer.
pub(super) fn longest_silence(config: &Config, flight: Option<&Flight>) -> Duration {
    let while_others_come = config.body_timeout.saturating_mul(MOVING_BODY);
    let is_recovering = flight.is_some_and(Flight::is_recovering);
    let longest = if is_recovering { LONGEST_SILENCE } else { LONGEST_SILENCE.min(while_others_come) };
    config.body_timeout.max(longest)
}

impl Agent {
    /// The verified prefix of a flight has grown: whoever reads it has something to read.
    pub(super) fn bodies_move(&mut self, digest: Digest) {
        let Some(flight) = self.flights.get(&digest) else { return };
        let due = self.cx.now + longest_silence(&self.config, Some(flight));
        for id in &flight.waiters {
            let reads = |request: &&mut Request| request.state == State::Serving && request.method == Method::Get;
            if let Some(request) = self.requests.get_mut(id).filter(reads)
                && !mutant!("body-deadline-not-rearmed")
            {
                (request.due, request.is_late) = (due, false);
                self.cx.wake(Deadline::Body(*id), self.config.body_timeout);
            }
        }
        if let Some(flight) = self.flights.get_mut(&digest) {
            flight.asked = Asked::Not;
        }
    }

    /// Nothing of a body has come for long.
    pub(super) fn body_late(&mut self, id: RequestId) {
        let Some(request) = self.requests.get(&id) else { return };
        let (now, digest, due) = (self.cx.now, request.digest, request.due);
        let patience = self.config.body_timeout;
        let Some(flight) = self.flights.get(&digest).filter(|_| now < due) else { return self.cut(id, digest) };
        if let Some(quiet) = self.nothing_came_for(flight).filter(|quiet| *quiet < patience)
            && !mutant!("body-cut-although-pieces-come")
        {
            return self.cx.timers.set(Deadline::Body(id), (now + (patience - quiet)).min(due));
        }
        let (asked, comes_back_at) = (flight.asked, flight.comes_back_at);
        if mutant!("body-cut-without-a-question") {
            return self.cut(id, digest);
        }
        if let Some(request) = self.requests.get_mut(&id) {
            request.is_late = true;
        }
        let look = match asked {
            Asked::Said(at) if now - at <= LOOK_AGAIN => return self.cut(id, digest),
            // It has said when to come back, and would say no more to containerd.
            _ if comes_back_at > now => comes_back_at,
            Asked::Not | Asked::Said(_) => {
                if let Some(flight) = self.flights.get_mut(&digest) {
                    flight.asked = Asked::InVain(0);
                }
                now + self.cx.jitter(SPREAD)
            }
            Asked::InVain(_) => {
                self.ask_before_cutting(digest);
                now + STAT_PATIENCE
            }
            Asked::Pending(_) => now + STAT_PATIENCE,
        };
        self.cx.timers.set(Deadline::Body(id), look.min(due));
    }

    fn ask_before_cutting(&mut self, digest: Digest) {
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        let vain = if let Asked::InVain(times) = flight.asked { times } else { 0 };
        flight.asked = Asked::Pending(vain);
        self.ask_about(digest, Op::Late(digest));
    }

    /// What the registry says of a blob whose bodies stand still here.
    pub(super) fn lateness_explained(&mut self, op: OpId, digest: Digest, result: Result<OriginStat, OriginFailure>) {
        let now = self.cx.now;
        let was_asked_before = self.was_asked_before(op, digest);
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        let Asked::Pending(vain) = flight.asked else { return };
        if was_asked_before {
            // A credential has come since.
            return self.ask_before_cutting(digest);
        }
        let wait = match result {
            Ok(_) => {
                flight.asked = Asked::Said(now);
                self.origin_was_asked(digest);
                self.origin_is_back(digest);
                LOOK_AGAIN
            }
            // containerd hears that from the registry itself.
            Err(failure) if matches!(failure.class, FailureClass::NotFound | FailureClass::Auth) => {
                flight.asked = Asked::Said(now);
                Duration::ZERO
            }
            Err(failure) => {
                flight.asked = Asked::InVain(vain + 1);
                let doubt = FIRST_DOUBT.saturating_mul(1 << vain.min(8)).min(LONGEST_DOUBT);
                doubt.max(failure.retry_after.unwrap_or_default())
            }
        };
        // Who reads on, or has just begun to, has its own time.
        let waiters = self.flights.get(&digest).into_iter().flat_map(|flight| flight.waiters.iter());
        let late = waiters.filter_map(|id| Some((*id, self.requests.get(id).filter(|request| request.is_late)?.due)));
        for (id, due) in late.collect::<Vec<_>>() {
            if wait.is_zero() {
                self.cut(id, digest);
            } else {
                self.cx.timers.set(Deadline::Body(id), (now + wait).min(due));
            }
        }
    }

    /// The registry has answered a question: whoever leads need not rest any more.
    fn origin_is_back(&mut self, digest: Digest) {
        let now = self.cx.now;
        let leads = |flight: &Flight| flight.role == Role::Leading && flight.comes_back_at <= now;
        if self.flights.get(&digest).is_some_and(|flight| leads(flight))
            && let Some(tracker) = self.trackers.get_mut(&digest)
        {
            tracker.origin_is_back(now, &self.config.peer);
            self.track(digest);
        }
    }

    /// The ranged retry comes back to us first: it has to go on to the next host. What comes later does not: if the origin is still
    /// out of order then, it does not help to ask it for all of it from every node.
    fn cut(&mut self, id: RequestId, digest: Digest) {
        self.failures.send_on(self.cx.now, digest, LOOK_AGAIN);
        self.leave_flight(id, digest);
        self.abort(id);
    }

    /// For how long nothing came that a request for what this flight brings could wait for. Of a slow registry, what it sends of one
    /// blob is what others wait for, and to ask it for more helps nobody; a manifest is too small to stand behind anything.
    pub(super) fn nothing_came_for(&self, flight: &Flight) -> Option<Duration> {
        let now = self.cx.now;
        let came = match flight.source.kind {
            Kind::Manifest => Some(now - flight.last_byte),
            _ => self.failures.nothing_came_for(now, &flight.source.registry),
        };
        // After a mismatch somebody else fetches what it waits for, also where that is not known here yet.
        let moved = flight.download.as_ref().and_then(Download::waits_since).map(|(_, moved)| now - moved);
        // Before the first piece is complete only those who fetch it know that it comes.
        let led = self.trackers.get(&flight.digest).filter(|_| flight.role == Role::Leading).and_then(Tracker::moved);
        let others = led.or(flight.swarm_moved).map(|moved| now - moved);
        came.into_iter().chain(moved).chain(others).chain([flight.tracker_is_quiet(now)]).min()
    }

    pub(super) fn abort(&mut self, id: RequestId) {
        self.cx.timers.clear(Deadline::Body(id));
        if let Some(request) = self.requests.get_mut(&id)
            && request.state == State::Serving
        {
            request.state = State::Over;
            self.cx.counters.mirror_aborted += 1;
            if !mutant!("abort-not-sent") {
                self.cx.emit(Output::MirrorAbort { request: id });
            }
        }
    }
}

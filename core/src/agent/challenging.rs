//! What it means that the origin wants a credential: for whoever waits here, for the flight, and for who follows it.
//!
//! containerd asks its mirror without a credential until the mirror answers 401, whatever the node has. So the first request of
//! a pull has none, and whoever leads is turned away first: it says so at once, and goes on leading, for its own containerd is
//! back with a credential in a moment. If its flight ended, those who follow would begin again, and what they fetch just then
//! would be given to somebody else.

use core::time::Duration;
use std::sync::Arc;

use super::mirroring::{STAT_PATIENCE, State};
use super::{Agent, Op};
use crate::digest::Digest;
use crate::failures::Challenge;
use crate::flight::{Flight, Role, Stage};
use crate::input::{OriginFailure, OriginStat};
use crate::message::FailureClass;
use crate::names::{OpId, RequestId};
use crate::output::Output;
use crate::swarm::download::{Download, Fetch};
use crate::swarm::tracker::Tracker;

/// A leader whose requester was asked for a credential leads for so long although nobody can ask the origin: the time of a
/// question to a token service, and of some more on a bad day.
const CREDENTIAL_PATIENCE: Duration = Duration::from_secs(2);

/// What became of those who wait without a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Challenged {
    /// They were asked for one; the swarm goes on.
    Asked,
    /// The swarm brings it all the same.
    Coming,
    /// There are none, or it is not known how to ask, or it would not help.
    Nobody,
}

impl Agent {
    /// The origin wants a credential. A leader says so to whoever waits here without one, and goes on.
    pub(super) fn challenge_waiters(&mut self, digest: Digest) -> Challenged {
        if mutant!("challenged-leader-gives-up") {
            return Challenged::Nobody;
        }
        if self.is_coming(&digest) {
            return Challenged::Coming;
        }
        let waiters = self.who_waits(&digest);
        let Some(flight) = self.flights.get_mut(&digest).filter(|flight| flight.wants_credential()) else {
            return Challenged::Nobody;
        };
        if waiters.is_empty() || matches!(flight.stage, Stage::Committing) {
            return Challenged::Nobody;
        }
        flight.awaits_credential_until = self.cx.now + CREDENTIAL_PATIENCE;
        for id in &waiters {
            flight.waiters.remove(id);
        }
        let challenge = flight.challenge.clone();
        self.cancel_origin_fetches(digest);
        if let Some(tracker) = self.trackers.get_mut(&digest) {
            tracker.turned_away(&self.config.peer);
        }
        self.dismiss_waiters(waiters, FailureClass::Auth, challenge.as_ref());
        // It leaves room for another one that is waited for, and for what that fetches.
        self.promote();
        self.share_origin();
        Challenged::Asked
    }

    /// The last participant that could ask the origin has been turned away. If somebody waits there, it has been told so and comes
    /// back with a credential in a moment: the swarm that it left is still here. Returns whether it is; nobody here waits in vain.
    pub(super) fn expects_credential(&mut self, digest: Digest) -> bool {
        let somebody_waits = !self.who_waits(&digest).is_empty();
        let leads = |flight: &&mut Box<Flight>| flight.role == Role::Leading && flight.turned_away;
        let Some(flight) = self.flights.get_mut(&digest).filter(leads) else { return false };
        if somebody_waits || mutant!("challenged-leader-gives-up") {
            return false;
        }
        flight.awaits_credential_until = self.cx.now + CREDENTIAL_PATIENCE;
        true
    }

    /// The requests that have not been given headers for it.
    fn who_waits(&self, digest: &Digest) -> Vec<RequestId> {
        let waits = |id: &RequestId| self.requests.get(id).is_some_and(|request| request.state == State::Waiting);
        let waiters = self.flights.get(digest).map(|flight| flight.waiters.iter().copied().filter(waits).collect());
        waiters.unwrap_or_default()
    }

    /// In which words the requester of what is not here, without a credential, has to be asked for one: nobody can get it
    /// otherwise.
    pub(super) fn must_be_challenged(&self, digest: &Digest) -> Option<Challenge> {
        let flight = self.flights.get(digest).filter(|flight| flight.wants_credential())?;
        if self.is_coming(digest) { None } else { flight.challenge.clone() }
    }

    /// Whether those who follow get it all the same: somebody has a credential, or can do without.
    fn is_coming(&self, digest: &Digest) -> bool {
        let own = &self.config.peer;
        let is_coming = |tracker: &Tracker| tracker.others_have_credential(own) || tracker.is_served_by_others(own);
        self.trackers.get(digest).is_some_and(is_coming)
    }

    /// What is under way at the origin was asked without the credential that has come, or of another origin.
    pub(super) fn asks_anew(&mut self, digest: Digest) {
        let asks = |op: &Op| match op {
            Op::Fetch(of) | Op::FetchWhole(of) | Op::Size(of) | Op::Confirm(of, _) | Op::Late(of) => *of == digest,
            _ => false,
        };
        let asking = self.ops.iter().filter(|(_, op)| asks(op)).map(|(id, _)| *id).collect();
        if let Some(flight) = self.flights.get_mut(&digest) {
            flight.asked_before_credential = asking;
        }
    }

    /// Whether the origin was asked this before the credential had come.
    pub(super) fn was_asked_before(&mut self, op: OpId, digest: Digest) -> bool {
        let Some(flight) = self.flights.get_mut(&digest) else { return false };
        flight.asked_before_credential.remove(&op) && !mutant!("answer-of-before-the-credential-counts")
    }

    /// The origin wants a credential for what it was asked before this one had come: it is asked again. Returns whether it is.
    pub(super) fn asks_again_with_credential(&mut self, op: OpId, digest: Digest, first: u32, count: u32) -> bool {
        if !self.was_asked_before(op, digest) {
            return false;
        }
        let Some(flight) = self.flights.get_mut(&digest) else { return false };
        flight.private = true;
        self.begin_run(digest, first, count, None);
        true
    }

    /// Keeps the words in which the origin has asked for a credential, for those who ask here without one. Whoever has none to say
    /// does not take back what was said before.
    pub(super) fn turned_away_with(&mut self, digest: Digest, words: Vec<Arc<str>>) {
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        let known = flight.challenge.as_ref().filter(|known| known.is_of(&flight.source));
        if !words.is_empty() || known.is_none() {
            flight.challenge = Some(Challenge { source: flight.source.clone(), words });
        }
    }

    /// They would all be answered the same, and the answers may come after the credential.
    fn cancel_origin_fetches(&mut self, digest: Digest) {
        let download = self.flights.get(&digest).and_then(|flight| flight.download.as_ref());
        let is_of_origin = |(op, download): &(_, &Download)| matches!(download.fetch(*op), Some(Fetch::Origin { .. }));
        let ops = download.into_iter().flat_map(|download| download.ops().map(move |op| (op, download)));
        let vain: Vec<_> = ops.filter(is_of_origin).map(|(op, _)| op).collect();
        if let Some(download) = self.flights.get_mut(&digest).and_then(|flight| flight.download.as_mut()) {
            download.drop_runs();
        }
        for op in vain {
            self.finish_op(op);
            if let Some(download) = self.flights.get_mut(&digest).and_then(|flight| flight.download.as_mut()) {
                download.ended(op);
            }
            self.cx.emit(Output::CancelTransfer { op });
        }
    }

    /// The origin was asked for the words in which it turns those without a credential away.
    pub(super) fn challenge_answered(&mut self, digest: Digest, result: Result<OriginStat, OriginFailure>) {
        match result {
            // It turned others away, and perhaps us a while ago: if we believed each other, that would never end.
            Ok(_) => {
                self.origin_was_asked(digest);
                self.may_be_given(digest, Duration::ZERO);
            }
            Err(failure) if self.asks_again_soon(&failure) => {
                self.origin_limits(digest, failure.retry_after.unwrap_or_default());
            }
            // One has come since, and is tried already, unless nobody knew yet whether to lead or to follow.
            Err(_) if self.flights.get(&digest).is_some_and(|flight| flight.credential.is_some()) => {
                if self.flights.get(&digest).is_some_and(|flight| flight.role == Role::Undecided) {
                    self.may_be_given(digest, Duration::ZERO);
                }
            }
            Err(failure) => {
                if failure.class == FailureClass::Auth {
                    if let Some(flight) = self.flights.get_mut(&digest) {
                        flight.turned_away = true;
                    }
                    self.turned_away_with(digest, failure.challenge);
                }
                let others = self.trackers.get(&digest).map(|tracker| tracker.others_can_fetch(&self.config.peer));
                match self.challenge_waiters(digest) {
                    Challenged::Asked => return self.track(digest),
                    Challenged::Coming if others == Some(true) => {
                        let stands = |it: &Flight| it.stage.is_moving() && !it.is_recovering();
                        let flight = self.flights.get(&digest);
                        let is_undecided = flight.is_some_and(|it| it.role == Role::Undecided && stands(it));
                        return if is_undecided && !mutant!("asks-and-leads-nobody") {
                            // They have enrolled here before this node knew whether it leads.
                            self.lead(digest)
                        } else {
                            self.track(digest)
                        };
                    }
                    // What others have, they have not given until now.
                    Challenged::Coming | Challenged::Nobody => {}
                }
                let detail = "the origin wants a credential";
                self.fail_flight(digest, FailureClass::Auth, detail, None);
            }
        }
    }

    /// Somebody else's failure ends this flight; a missing credential is asked for in the origin's own words.
    pub(super) fn turned_away(&mut self, digest: Digest, class: FailureClass, cooldown: Duration) {
        let Some(flight) = self.flights.get(&digest) else { return };
        if matches!(flight.stage, Stage::Committing) {
            return;
        }
        if class == FailureClass::Auth && flight.credential.is_none() && !flight.waiters.is_empty() {
            if self.ops.values().any(|op| matches!(op, Op::Challenge(of) if *of == digest)) {
                return;
            }
            let source = flight.source.clone();
            let op = self.start_op(Op::Challenge(digest), STAT_PATIENCE);
            self.cx.emit(Output::StatOrigin { op, source, digest, credential: None });
            return;
        }
        // The next one who asks may have a credential.
        if class != FailureClass::Auth {
            self.failures.honour(self.cx.now, digest, cooldown);
        }
        self.fail_flight(digest, class, "another node was turned away by the origin", Some(cooldown));
    }

    /// The origin wants a credential, or a better one. Whoever waits here is told so now and can come back with one;
    /// otherwise this node goes on as one that cannot fetch.
    pub(super) fn turned_away_here(&mut self, digest: Digest, detail: &str) {
        let Some(flight) = self.flights.get(&digest) else { return };
        if flight.waiters.is_empty() {
            self.enrol(digest);
        } else {
            self.fail_flight(digest, FailureClass::Auth, detail, None);
        }
    }
}

//! A flight's course: resolved by the cascade, led or followed.

use core::time::Duration;
use std::sync::Arc;

use super::mirroring::STAT_PATIENCE;
use super::participating::SECOND_ENROLMENT;
use super::{Agent, Op};
use crate::calls::{Call, Purpose};
use crate::digest::Digest;
use crate::failures::{FIRST_COOLDOWN, Remedy, Suppression};
use crate::flight::{Role, Stage};
use crate::input::{CallError, OriginFailure, OriginStat};
use crate::message::{FailureClass, Neighbour, PleasePull, PullIntent, PullOutcome, RecentFailure, Request, Response};
use crate::names::{CallId, Kind, OpId, PeerId};
use crate::output::{Explanation, Output};
use crate::resolve::{Cascade, EXPANSION, Outcome, PROBE_GRACE, Rule, Situation, Step, stall_window};
use crate::swarm::tracker::Introduction;
use crate::timers::Deadline;

/// The provider index is given this long; a slower answer is still used, but nobody waits for it.
const INDEX_PATIENCE: Duration = Duration::from_secs(3);
/// A leader that has asked the index waits this long for it before it asks the origin.
pub(super) const INDEX_GRACE: Duration = Duration::from_millis(100);
/// A leader that comes after another one waits this long for participants to say what they hold, so that the origin is
/// not asked twice.
pub(super) const COLLECT: Duration = Duration::from_millis(500);
/// A tracker that did not answer, or whose swarm stood still, is passed over for this long.
pub(super) const STALLED_SUPPRESSION: Duration = Duration::from_secs(10);
impl Agent {
    /// Runs the cascade from the start. The provider index is asked as well, the first time.
    pub(super) fn resolve(&mut self, digest: Digest, ask_index: bool) {
        let now = self.cx.now;
        let width = self.config.probe_width.max(1) as usize;
        let best = self.members.top(&digest, width * EXPANSION);
        // Those who are passed over leave their places to the next ones: if all of the best are gone, others have to find
        // each other.
        let is_candidate = |peer: &&PeerId| self.members.is_own(peer) || self.failures.may_ask(now, digest, peer);
        let ranked = self.members.ranked(&digest).filter(is_candidate).take(width * EXPANSION).cloned().collect();
        let own_intent = self.own_intent(&digest);
        // Somebody has come for what could not be had: nobody leads before the origin was asked again.
        let recently_failed = self.failures.recent(now, &digest).filter(|it| it.class != FailureClass::Auth);
        let health = f64::from(self.recent_calls.count_ones()) / f64::from(u32::BITS);
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        let situation = Situation {
            own: self.config.peer.clone(),
            own_intent: PullIntent { in_flight_for: None, idle_for: None, recently_failed, ..own_intent },
            ranked,
            best,
            width,
            stall: stall_window(flight.source.kind, flight.size),
            has_credential: flight.credential.is_some(),
            origin_has_it: flight.origin_has_it,
            health,
        };
        flight.role = Role::Undecided;
        let mut cascade = Cascade::new(situation);
        if cascade.ranks_self_best() {
            self.cx.wake(Deadline::Probe(digest), PROBE_GRACE);
        }
        let step = cascade.step();
        flight.stage = Stage::Resolving(Box::new(cascade));
        if ask_index && self.members.len() > 1 {
            flight.asking_index = true;
            let op = self.start_op(Op::Providers(digest), INDEX_PATIENCE);
            self.cx.emit(Output::FindProviders { op, digest });
        }
        self.cascade_step(digest, step);
    }

    fn cascade(&mut self, digest: &Digest) -> Option<&mut Cascade> {
        match &mut self.flights.get_mut(digest)?.stage {
            Stage::Resolving(cascade) => Some(cascade),
            _ => None,
        }
    }

    pub(super) fn probe_grace_over(&mut self, digest: Digest) {
        let Some(cascade) = self.cascade(&digest) else { return };
        cascade.grace_over();
        let step = cascade.step();
        self.cascade_step(digest, step);
    }

    fn cascade_step(&mut self, digest: Digest, step: Step) {
        let Some(flight) = self.flights.get(&digest) else { return };
        let generation = flight.generation;
        match step {
            Step::Wait => {}
            Step::Probe(peers) => {
                if self.cascade(&digest).is_some_and(|cascade| cascade.expansion().is_some()) {
                    self.cx.counters.topk_expansions += 1;
                }
                for peer in peers {
                    let call = Call { peer, digest, purpose: Purpose::Probe, generation };
                    let timeout = self.config.call_timeout;
                    self.calls.start(&mut self.cx, call, Request::PullIntent { digest, leads: false }, timeout);
                }
            }
            Step::AskToPull(peer) => {
                let (source, resuming) = (flight.source.clone(), flight.has_pieces());
                let batch = PleasePull { digests: vec![digest], source, resuming, origin_has_it: flight.origin_has_it };
                let call = Call { peer, digest, purpose: Purpose::AskToPull, generation };
                let timeout = self.config.call_timeout;
                self.calls.start(&mut self.cx, call, Request::PleasePull(batch), timeout);
            }
            Step::Decided(rule, outcome) => self.cascade_decided(digest, rule, outcome),
        }
    }

    fn cascade_decided(&mut self, digest: Digest, rule: Rule, outcome: Outcome) {
        self.cx.timers.clear(Deadline::Probe(digest));
        self.calls.cancel(&mut self.cx, |call| {
            call.digest == digest && matches!(call.purpose, Purpose::Probe | Purpose::AskToPull)
        });
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        if let Stage::Resolving(cascade) = &flight.stage {
            self.cx.counters.tracker_takeovers += u64::from(cascade.takeovers());
        }
        flight.stage = Stage::Moving;
        let text: Arc<str> = match &outcome {
            Outcome::Follow(peers) => format!("follow {}", peers[0]).into(),
            Outcome::Lead => "lead".into(),
            Outcome::Fail(failure) => format!("fail: {}", failure.class.name()).into(),
            Outcome::CoolDown(length) => format!("cool down for {} s", length.as_secs()).into(),
        };
        self.cx.explain(Explanation::Resolved { digest, rule: rule.name().into(), outcome: text });
        match outcome {
            Outcome::Follow(peers) => {
                if rule == Rule::Cached {
                    for peer in &peers {
                        self.meet(digest, peer, None);
                        self.heard_has_all(digest, peer);
                    }
                }
                self.follow(digest, peers[0].clone());
            }
            Outcome::Lead => self.lead(digest),
            Outcome::Fail(failure) => self.told_of_failure(digest, failure, None),
            // Its disk may be full, and the origin well.
            Outcome::CoolDown(length) => {
                let failure = RecentFailure { class: FailureClass::Transient, cooldown: length };
                self.told_of_failure(digest, failure, None);
            }
        }
    }

    /// A tracker, or a node that was probed, says that it could not get this from the origin. It costs a question to believe that
    /// from the origin alone; containerd would ask it anyway, and what one node says would end everybody's flights.
    pub(super) fn told_of_failure(&mut self, digest: Digest, failure: RecentFailure, tracker: Option<PeerId>) {
        let Some(flight) = self.flights.get(&digest) else { return };
        let may_ask = !flight.turned_away && self.failures.remedy(self.cx.now, &digest) == Remedy::Anybody;
        if failure.class == FailureClass::Auth || !may_ask {
            return self.turned_away(digest, failure.class, failure.cooldown);
        }
        if self.ops.values().any(|op| matches!(op, Op::Confirm(of, _) if *of == digest)) {
            return;
        }
        self.confirm(digest, tracker);
    }

    fn confirm(&mut self, digest: Digest, tracker: Option<PeerId>) {
        self.ask_about(digest, Op::Confirm(digest, tracker));
    }

    /// Asks the origin a question about what a flight brings, as whoever it is brought for.
    pub(super) fn ask_about(&mut self, digest: Digest, question: Op) {
        let Some(flight) = self.flights.get(&digest) else { return };
        let (source, credential) = (flight.source.clone(), flight.credential);
        let op = self.start_op(question, STAT_PATIENCE);
        self.cx.emit(Output::StatOrigin { op, source, digest, credential });
    }

    /// What the origin says about a failure that another node told us of.
    pub(super) fn failure_checked(
        &mut self,
        op: OpId,
        digest: Digest,
        tracker: Option<PeerId>,
        result: Result<OriginStat, OriginFailure>,
    ) {
        match (result, tracker) {
            (Err(failure), tracker) if failure.class == FailureClass::Auth && self.was_asked_before(op, digest) => {
                self.confirm(digest, tracker);
            }
            (Ok(_), Some(tracker)) => {
                self.origin_was_asked(digest);
                let Some(flight) = self.flights.get(&digest) else { return };
                if flight.follows(&tracker) {
                    self.tracker_lost(digest, &tracker);
                } else if flight.role == Role::Undecided {
                    // It was lost meanwhile, and others say the same.
                    self.may_be_given(digest, Duration::ZERO);
                }
            }
            (Ok(_), None) => {
                self.origin_was_asked(digest);
                self.may_be_given(digest, Duration::ZERO);
            }
            // That says nothing about the blob.
            (Err(failure), None) if self.asks_again_soon(&failure) => {
                self.origin_limits(digest, failure.retry_after.unwrap_or_default());
            }
            (Err(failure), _) => {
                self.turned_away(digest, failure.class, failure.retry_after.unwrap_or(FIRST_COOLDOWN));
            }
        }
    }

    /// The origin is there and is asked too often; somebody who waits here can wait for it.
    pub(super) fn asks_again_soon(&self, failure: &OriginFailure) -> bool {
        failure.class == FailureClass::RateLimited
            && failure.retry_after.is_none_or(|after| after < self.config.header_timeout)
    }

    /// The origin has it, whatever others say, or was said here.
    pub(super) fn origin_was_asked(&mut self, digest: Digest) {
        self.failures.found(self.cx.now, &digest);
        if let Some(flight) = self.flights.get_mut(&digest) {
            flight.origin_has_it = true;
        }
        self.origin_answers(digest);
    }

    /// The origin is there, and wants to be asked `after` a while.
    pub(super) fn origin_limits(&mut self, digest: Digest, after: Duration) {
        let until = self.cx.now + after;
        if let Some(flight) = self.flights.get_mut(&digest) {
            flight.comes_back_at = flight.comes_back_at.max(until);
        }
        if let Some(tracker) = self.trackers.get_mut(&digest) {
            tracker.pause(&self.config.peer, until);
        }
        self.origin_answers(digest);
        self.may_be_given(digest, after);
    }

    /// The origin answers: this node need not leave it alone any more because it did not. What it sent wrong it may send wrong again.
    fn origin_answers(&mut self, digest: Digest) {
        let now = self.cx.now;
        if self.failures.remedy(now, &digest) == Remedy::Anybody
            && let Some(flight) = self.flights.get_mut(&digest)
        {
            flight.cools_down_until = flight.cools_down_until.map(|until| until.min(now));
            self.end_cool_down(digest);
        }
    }

    /// The origin does not say that there is nothing for us, whatever others have heard: this node looks for itself, `after`
    /// a while.
    pub(super) fn may_be_given(&mut self, digest: Digest, after: Duration) {
        let Some(flight) = self.flights.get_mut(&digest).filter(|flight| flight.stage.is_moving()) else { return };
        flight.turned_away = false;
        flight.challenge = None;
        match flight.role.clone() {
            // Many are told of the same failure at the same time, and not each of them should lead.
            Role::Undecided if flight.origin_has_it && !mutant!("whoever-asked-leads") => self.resolve(digest, false),
            Role::Undecided => {
                if !after.is_zero() {
                    self.trackers.entry(digest).or_default().collect_until(self.cx.now + after);
                }
                self.lead(digest);
            }
            Role::Following(tracker) => self.tracker_lost(digest, &tracker),
            Role::Leading => self.can_fetch_after_all(digest),
        }
    }

    /// Takes the lead: tracks the swarm, and hands out what nobody has.
    pub(super) fn lead(&mut self, digest: Digest) {
        if self.flights.get(&digest).is_some_and(|flight| flight.is_recovering()) {
            return self.fetch_by_hand(digest);
        }
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        flight.role = Role::Leading;
        flight.complaints = 0;
        let introduction = Introduction {
            pieces: flight.pieces_bytes(),
            can_fetch: flight.can_fetch_origin(),
            has_credential: flight.credential.is_some(),
            fetching: self.origin_slots.runs_of(self.cx.now, flight),
            addresses: self.config.addresses.clone(),
            zone: self.config.zone.clone(),
        };
        let (survivor, asking) = (flight.has_pieces(), flight.asking_index);
        // Without a credential it depends on those who have one.
        let turned_away = !flight.can_fetch_origin();
        let geometry = flight.download.as_ref().map(|download| download.geometry());
        let whole_is_fetched = flight.source.kind == Kind::Manifest;
        let tracker = self.trackers.entry(digest).or_default();
        if let Some(geometry) = geometry {
            tracker.learn(geometry, whole_is_fetched);
        }
        tracker.enrol(self.cx.now, &self.config.peer.clone(), introduction);
        if survivor || turned_away {
            tracker.collect_until(self.cx.now + COLLECT);
        } else if asking {
            tracker.collect_until(self.cx.now + INDEX_GRACE);
        }
        self.cx.explain(Explanation::Leading { digest });
        let soon = self.cx.jitter(SECOND_ENROLMENT);
        self.cx.wake(Deadline::Enrol(digest), soon);
        self.meet_participants(digest);
        self.track(digest);
    }

    /// Follows a tracker: enrols there, now and every [`ENROL_INTERVAL`](super::ENROL_INTERVAL).
    pub(super) fn follow(&mut self, digest: Digest, tracker: PeerId) {
        let Some(flight) = self.flights.get_mut(&digest).filter(|flight| !flight.is_alone()) else { return };
        if flight.role == Role::Leading {
            self.cx.timers.clear(Deadline::Track(digest));
        }
        flight.role = Role::Following(tracker.clone());
        flight.complaints = 0;
        flight.introduced = false;
        flight.stage = Stage::Moving;
        let stall = stall_window(flight.source.kind, flight.size);
        if flight.is_recovering() && !mutant!("recovery-begun-anew-with-each-tracker") {
            // However many trackers it has waited for: there is an end to that, and it is looked for when it was to be.
            self.cx.wake_by(Deadline::NoProgress(digest), stall);
        } else {
            // Each tracker has its time, but all of them have no more than a flight without progress.
            let left = self.config.no_progress_timeout.saturating_sub(flight.idle(self.cx.now));
            let patience = if mutant!("patience-begun-anew-with-each-tracker") { stall } else { stall.min(left) };
            self.cx.wake(Deadline::NoProgress(digest), patience);
        }
        self.cx.explain(Explanation::Following { digest, tracker });
        self.enrol(digest);
    }

    /// The tracker is of no use: it is passed over for a while, and the cascade runs again.
    pub(super) fn tracker_lost(&mut self, digest: Digest, tracker: &PeerId) {
        let now = self.cx.now;
        if self.flights.get(&digest).is_some_and(|flight| matches!(flight.stage, Stage::Committing)) {
            // It is needed no more. A cascade now would forget the commit, and what is committed then counts nowhere.
            return;
        }
        self.failures.suppress(now, digest, tracker.clone(), Suppression::Stalled, STALLED_SUPPRESSION);
        self.cx.counters.tracker_takeovers += 1;
        self.cx.explain(Explanation::TrackerLost { digest, tracker: tracker.clone() });
        self.cx.timers.clear(Deadline::Enrol(digest));
        self.resolve(digest, false);
    }

    pub(super) fn providers_found(&mut self, op: OpId, peers: Vec<Neighbour>) {
        let Some(Op::Providers(digest)) = self.finish_op(op) else { return };
        self.index_answered(digest, peers);
    }

    fn index_answered(&mut self, digest: Digest, peers: Vec<Neighbour>) {
        let now = self.cx.now;
        let usable: Vec<_> = peers
            .into_iter()
            .filter(|found| !self.members.is_own(&found.peer) && self.failures.may_ask(now, digest, &found.peer))
            .collect();
        for found in &usable {
            self.learn(&found.peer, &found.addresses);
        }
        let names: Vec<_> = usable.iter().map(|found| found.peer.clone()).collect();
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        flight.asking_index = false;
        let waits_for_index =
            flight.role == Role::Leading && !flight.has_pieces() && flight.can_fetch_origin() && names.is_empty();
        if waits_for_index && let Some(tracker) = self.trackers.get_mut(&digest) {
            tracker.collected();
            return self.track(digest);
        }
        match &mut flight.stage {
            Stage::Resolving(cascade) if !names.is_empty() => {
                cascade.provided(names);
                let step = cascade.step();
                self.cascade_step(digest, step);
            }
            // The cascade was faster: they are sources all the same.
            Stage::Moving => {
                for found in usable {
                    self.meet(digest, &found.peer, found.zone);
                }
            }
            _ => {}
        }
    }

    pub(super) fn call_late(&mut self, call: CallId) {
        self.cx.emit(Output::CallCancel { call });
        self.call_answered(call, Err(CallError::Unreachable));
    }

    pub(super) fn call_answered(&mut self, id: CallId, result: Result<Response, CallError>) {
        let Some(call) = self.calls.finish(&mut self.cx, id) else { return };
        let answered = !matches!(result, Err(CallError::Unreachable));
        self.recent_calls = self.recent_calls << 1 | u32::from(answered && !mutant!("health-never-recovers"));
        if answered {
            self.failures.reached(&call.peer);
        } else {
            self.failures.unreachable(self.cx.now, call.peer.clone());
        }
        if self.flights.get(&call.digest).is_none_or(|flight| flight.generation != call.generation) {
            return;
        }
        match call.purpose {
            Purpose::Probe => self.probe_answered(&call, result.ok()),
            Purpose::AskToPull => self.pull_answered(&call, result.ok()),
            Purpose::Enrol => self.enrol_answered(&call, result),
            Purpose::Defer => self.defer_answered(&call, result.ok()),
        }
    }

    fn probe_answered(&mut self, call: &Call, response: Option<Response>) {
        let digest = call.digest;
        let Some(cascade) = self.cascade(&digest) else { return };
        match response {
            Some(Response::PullIntent(intent)) => {
                let (ours, theirs) = (cascade.rank_of(&call.peer), intent.rank);
                cascade.answered(&call.peer, intent);
                let step = cascade.step();
                if let Some(ours) = ours
                    && theirs != Some(ours)
                {
                    self.cx.counters.hrw_rank_mismatch += 1;
                    let peer = call.peer.clone();
                    self.cx.explain(Explanation::RankMismatch { digest, peer, ours, theirs });
                }
                self.cascade_step(digest, step);
            }
            _ => {
                cascade.unreachable(&call.peer);
                let step = cascade.step();
                self.cascade_step(digest, step);
            }
        }
    }

    fn pull_answered(&mut self, call: &Call, response: Option<Response>) {
        let digest = call.digest;
        let outcome: Option<PullOutcome> = match response {
            Some(Response::PleasePull(results)) => {
                results.into_iter().find(|result| result.digest == digest).map(|result| result.outcome)
            }
            _ => None,
        };
        let Some(cascade) = self.cascade(&digest) else { return };
        let step = cascade.asked(&call.peer, outcome);
        self.cascade_step(digest, step);
    }

    /// Something that a driver does for us takes too long.
    pub(super) fn op_late(&mut self, op: OpId) {
        match self.ops.get(&op) {
            Some(Op::Fetch(_) | Op::FetchWhole(_)) => self.transfer_late(op),
            Some(Op::Providers(digest)) => {
                let digest = *digest;
                self.finish_op(op);
                self.index_answered(digest, Vec::new());
            }
            Some(Op::Size(_) | Op::Challenge(_) | Op::Confirm(..) | Op::Late(_) | Op::Head(_) | Op::Authorize(_)) => {
                self.cx.emit(Output::CancelTransfer { op });
                let failure = crate::input::OriginFailure {
                    class: FailureClass::Transient,
                    status: None,
                    retry_after: None,
                    challenge: Vec::new(),
                    detail: "the origin did not answer in time".into(),
                };
                self.origin_stat(op, Err(failure));
            }
            // Hashing is bounded by the disk; the flight's watchdog looks after it.
            Some(Op::Hash(..)) | None => {}
        }
    }
}

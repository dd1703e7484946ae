//! The tracker's side of a swarm: serving enrolments, handing out runs, giving way to a better leader, ending.

use core::time::Duration;

use super::Agent;
use super::hearing::SpineWaiter;
use crate::calls::{Call, Purpose};
use crate::digest::Digest;
use crate::failures::Suppression;
use crate::flight::{Flight, Role, Stage};
use crate::message::{Enrol, EnrolReply, FailureClass, Have, Neighbour, Notice, RecentFailure, Request, Response};
use crate::names::{Kind, PeerId, Source, StreamId};
use crate::output::{Explanation, Output};
use crate::spine::MAX_SPINE;
use crate::swarm::tracker::introductions::DEGREE;
use crate::swarm::tracker::{Assignment, Introduction, Tracker};
use crate::timers::Deadline;

/// A leader that is not the best in its own view looks for a better one this often.
pub(super) const DEFER_INTERVAL: Duration = Duration::from_secs(1);
/// Whatever happens in its swarm meanwhile, it does not ask more often than this.
const DEFER_PAUSE: Duration = Duration::from_millis(100);
/// Participants of a swarm whose flight is queued here wait this long for its turn. At once would be too early: who is ahead
/// of the others would draw on the origin before those who still fetch what came first.
const QUEUE_PATIENCE: Duration = Duration::from_secs(5);
/// A complete swarm is looked after this often.
pub(super) const IDLE_TRACK_INTERVAL: Duration = Duration::from_secs(60);
/// Most addresses that are kept of a participant: as many as the peers driver keeps.
const MAX_ADDRESSES: usize = 8;
/// Most convicted neighbours of one blob that are told what counts no more: more than a node has neighbours at a time.
const MAX_ESTRANGED: usize = 64;
/// The longest address or zone that is kept, in bytes: a DNS name has at most 253.
const MAX_NAME_BYTES: usize = 320;

impl Agent {
    /// Answers an enrolment, once there is all that the answer needs.
    pub(super) fn answer_enrolment(&mut self, stream: StreamId, enrol: Enrol) {
        let Some(peer) = self.asking_peer(stream) else { return };
        let size = self.cache.get(&enrol.digest).map(|blob| blob.size);
        if size.is_some_and(|size| self.spine_is_coming(enrol.digest, size)) {
            return self.await_spine(enrol.digest, SpineWaiter::Enrolment(stream, Box::new(enrol)));
        }
        let response = Response::Enrol(self.enrolled(&peer, enrol));
        self.cx.emit(Output::StreamReply { stream, response });
    }

    pub(super) fn enrolled(&mut self, peer: &PeerId, enrol: Enrol) -> EnrolReply {
        let Enrol {
            digest,
            size,
            pieces,
            can_fetch_origin,
            source,
            zone,
            mut addresses,
            private,
            has_credential,
            fetching,
        } = enrol;
        // These are kept for every participant and passed on to others.
        addresses.retain(|address| address.len() <= MAX_NAME_BYTES);
        addresses.truncate(MAX_ADDRESSES);
        let zone = zone.filter(|zone| zone.len() <= MAX_NAME_BYTES);
        let now = self.cx.now;
        self.learn(peer, &addresses);
        let introduction = Introduction {
            pieces,
            can_fetch: can_fetch_origin,
            has_credential,
            fetching,
            addresses: addresses.clone(),
            zone: zone.clone(),
        };
        if let Some(size) = self.cache.get(&digest).map(|blob| blob.size) {
            let tracker = self.trackers.entry(digest).or_default();
            tracker.learn(crate::piece::Geometry::of_blob(size), false);
            tracker.enrol(now, &self.config.peer, Introduction::of_seed(&self.config));
            tracker.heard(now, &self.config.peer, &Have::All);
            tracker.enrol(now, peer, introduction);
            let mut neighbours = tracker.neighbours(&mut self.cx, peer);
            // Who has the blob whole gives it to whoever asks.
            self.add_own_contact(&mut neighbours);
            self.cx.wake_by(Deadline::Track(digest), IDLE_TRACK_INTERVAL);
            let private = self.cache.get(&digest).is_some_and(|blob| blob.facts.private);
            let spine = self.spine_of(&digest);
            return EnrolReply::Enrolled { size: Some(size), neighbours, spine, private, quiet: None };
        }
        if !self.flights.contains_key(&digest) {
            match self.failures.recent(now, &digest) {
                Some(failure) if failure.class == FailureClass::Auth && can_fetch_origin => {
                    // We were turned away; this one has a credential, and we can lead it.
                    let elsewhere = !self.may_ask_registry(&source.registry);
                    if elsewhere
                        || !self.takes_on_more()
                        || self.flights.len() >= self.config.max_admitted_flights as usize
                    {
                        return EnrolReply::NotTracking;
                    }
                    self.want(digest, &source, None);
                    if let Some(flight) = self.flights.get_mut(&digest) {
                        flight.turned_away = true;
                        flight.led_for_others = true;
                    }
                    self.promote();
                }
                Some(failure) => return EnrolReply::Failed(failure),
                None => return EnrolReply::NotTracking,
            }
        }
        if let Some(flight) = self.flights.get_mut(&digest) {
            flight.private |= private;
            if flight.is_alone() {
                // What others have counts for nothing here, and what they fetched would not either. But it will have the
                // whole, and how far it is tells those who wait for that whether to go on waiting.
                self.meet(digest, peer, zone);
                let mut neighbours = Vec::new();
                self.add_own_contact(&mut neighbours);
                let Some(flight) = self.flights.get(&digest) else { return EnrolReply::NotTracking };
                let spine = flight.download.as_ref().map(|download| download.chain().computed(1, MAX_SPINE));
                let (spine, private) = (spine.unwrap_or_default(), flight.is_private());
                let quiet = Some(now - flight.last_byte);
                return EnrolReply::Enrolled { size: flight.size, neighbours, spine, private, quiet };
            }
        }
        if let Some(size) = size
            && self.may_name_size(&digest, peer)
        {
            self.learn_size(digest, size, None);
        }
        if let Some(flight) = self.flights.get_mut(&digest).filter(|flight| !flight.is_running()) {
            flight.others_wait |= now - *flight.others_since.get_or_insert(now) >= QUEUE_PATIENCE;
            self.promote();
        }
        let Some(flight) = self.flights.get(&digest) else { return EnrolReply::NotTracking };
        if let Role::Following(tracker) = &flight.role {
            let tracker = tracker.clone();
            if tracker != *peer {
                self.meet(digest, peer, zone);
                return EnrolReply::Elsewhere { tracker: self.contact(&tracker) };
            }
            // Two nodes follow each other: the better-ranked one leads.
            if !self.ranks_before(&digest, peer) {
                return EnrolReply::NotTracking;
            }
            self.lead(digest);
        }
        let geometry =
            self.flights.get(&digest).and_then(|flight| flight.download.as_ref()).map(|download| download.geometry());
        let whole_is_fetched = source.kind == Kind::Manifest;
        let tracker = self.trackers.entry(digest).or_default();
        if let Some(geometry) = geometry {
            tracker.learn(geometry, whole_is_fetched);
        }
        tracker.enrol(now, peer, introduction);
        let mut neighbours = tracker.neighbours(&mut self.cx, peer);
        // In a small swarm the tracker is everybody's neighbour; in a large one it is drawn like any other, because it could
        // not bear a thousand.
        if tracker.participants().take(DEGREE + 1).count() <= DEGREE {
            self.add_own_contact(&mut neighbours);
            self.meet(digest, peer, zone);
        }
        self.track(digest);
        let Some(flight) = self.flights.get(&digest) else { return EnrolReply::NotTracking };
        let spine = flight.download.as_ref().map(|download| download.spine(MAX_SPINE)).unwrap_or_default();
        let moved = self.trackers.get(&digest).and_then(Tracker::moved).max(Some(flight.last_byte));
        let (quiet, private) = (moved.map(|moved| now - moved), flight.is_private());
        EnrolReply::Enrolled { size: flight.size, neighbours, spine, private, quiet }
    }

    pub(super) fn ranks_before(&self, digest: &Digest, other: &PeerId) -> bool {
        let ranked = self.members.top(digest, usize::MAX);
        let position = |peer: &PeerId| ranked.iter().position(|ranked| ranked == peer).unwrap_or(usize::MAX);
        position(&self.config.peer) < position(other)
    }

    /// This node as one of the neighbours that it names, if there are not enough others.
    pub(super) fn add_own_contact(&self, neighbours: &mut Vec<Neighbour>) {
        let is_there = neighbours.iter().any(|neighbour| neighbour.peer == self.config.peer);
        if !is_there && neighbours.len() < DEGREE {
            let own = self.members.own();
            let (addresses, zone) = (own.addresses.clone(), own.zone.clone());
            neighbours.insert(0, Neighbour { peer: self.config.peer.clone(), addresses, zone });
        }
    }

    pub(super) fn contact(&self, peer: &PeerId) -> Neighbour {
        let member = self.members.get(peer);
        Neighbour {
            peer: peer.clone(),
            addresses: member.map(|member| member.addresses.clone()).unwrap_or_default(),
            zone: member.and_then(|member| member.zone.clone()),
        }
    }

    /// Those who enrolled before this node knew that it leads become its neighbours.
    pub(super) fn meet_participants(&mut self, digest: Digest) {
        let Some(tracker) = self.trackers.get(&digest) else { return };
        let mut participants: Vec<_> =
            tracker.participants().filter(|peer| **peer != self.config.peer).cloned().collect();
        self.cx.shuffle(&mut participants);
        for peer in participants.into_iter().take(DEGREE) {
            self.meet(digest, &peer, None);
        }
    }

    /// A pull was asked for by somebody whose tracker is gone and who holds pieces: others do as well.
    pub(super) fn expect_survivors(&mut self, digest: Digest) {
        let until = self.cx.now + super::flying::COLLECT;
        self.trackers.entry(digest).or_default().collect_until(until);
    }

    /// Looks after a swarm: who has gone, what is late, what can be handed out, whether somebody better leads.
    pub(super) fn track(&mut self, digest: Digest) {
        let now = self.cx.now;
        self.end_cool_down(digest);
        let leading = self.flights.get(&digest).is_some_and(|flight| flight.role == Role::Leading);
        let present = self.cache.get(&digest).is_some();
        let is_late = self.trackers.get(&digest).is_some_and(|tracker| tracker.is_overdue(now, Duration::ZERO));
        let takes = if is_late { self.piece_from_origin_takes(&digest) } else { None };
        let Some(tracker) = self.trackers.get_mut(&digest) else { return };
        tracker.expire(now, &self.config.peer, takes);
        if !leading {
            let flying = self.flights.contains_key(&digest);
            let alone = !tracker.participants().any(|peer| !self.members.is_own(peer));
            if !flying && (alone || !present) {
                self.trackers.remove(&digest);
                self.cx.timers.clear(Deadline::Track(digest));
                return;
            } else if present {
                self.cx.wake_by(Deadline::Track(digest), IDLE_TRACK_INTERVAL);
                self.hand_out(digest);
            }
            return;
        }
        self.hand_out(digest);
        self.look_for_better(digest);
    }

    /// Gives out what nobody has and nobody is fetching. A node that has the whole blob does so for participants that
    /// cannot get a piece from anybody, whatever the reason.
    pub(super) fn hand_out(&mut self, digest: Digest) {
        let now = self.cx.now;
        let Some(tracker) = self.trackers.get_mut(&digest) else { return };
        if let Some(flight) = self.flights.get(&digest) {
            tracker.set_way(self.origin_slots.way(now, &flight.source.registry));
            tracker.peers_are_far(self.way.is_long());
            if self.pacing.is_paced(now, &flight.source.registry) && !mutant!("short-runs-of-a-limiting-registry") {
                tracker.registry_limits_requests();
            }
        }
        let assignments = tracker.assign(&mut self.cx, &self.config.peer, self.config.max_assignments);
        // Who has what is missing may be a liar, or gone. A participant leaves a swarm that gives it nothing; this is a
        // leader's way out, so that it does not tell others for minutes that it is pulling.
        let stands_still = self.flights.get(&digest).and_then(|flight| flight.stands_still(now));
        let starved = stands_still.is_some_and(|patience| tracker.depends_on_others(now, &self.config.peer, patience));
        let stuck = assignments.is_empty() && (tracker.is_stuck(now) || starved);
        let stuck = stuck && self.flights.get(&digest).is_some_and(|flight| !flight.awaits_credential(now));
        if stuck {
            let waited_for = self.flights.get(&digest).is_some_and(|flight| !flight.waiters.is_empty());
            // Nobody has it, and this node leaves the origin alone: unless that answers, containerd has to ask it.
            let cools_down =
                self.flights.get(&digest).filter(|flight| !flight.turned_away).and_then(|it| it.cools_down_until);
            if let Some(until) = cools_down.filter(|until| waited_for && *until > now) {
                let failure = RecentFailure { class: FailureClass::Transient, cooldown: until - now };
                // Whoever waits may be gone before it answers.
                self.cx.wake_by(Deadline::Track(digest), DEFER_INTERVAL);
                return self.told_of_failure(digest, failure, None);
            }
            if waited_for {
                return self.turned_away(digest, FailureClass::Auth, Duration::ZERO);
            }
            let detail = "nobody who takes part has a credential that the origin accepts";
            return self.fail_flight(digest, FailureClass::Auth, detail, None);
        }
        // What comes too late is nobody else's where nobody else can fetch it.
        let is_shared = tracker.others_can_fetch(&self.config.peer);
        let until = |deadline| is_shared.then_some((now + deadline, deadline));
        let next = tracker.next_due(now).map_or(DEFER_INTERVAL, |at| (at - now).min(DEFER_INTERVAL));
        let (source, size) = match (self.flights.get(&digest), self.cache.get(&digest)) {
            (Some(flight), _) => {
                self.cx.wake(Deadline::Track(digest), next.max(Duration::from_millis(1)));
                (flight.source.clone(), flight.size)
            }
            (None, Some(blob)) => (blob.facts.source.clone(), Some(blob.size)),
            (None, None) => return,
        };
        for run in assignments {
            if self.members.is_own(&run.peer) {
                self.take_on(digest, run.first, run.count, &source, until(run.deadline));
            } else {
                self.tell_of_run(digest, size, &source, run);
            }
        }
    }

    /// Tells another participant what it is to fetch.
    pub(super) fn tell_of_run(&mut self, digest: Digest, size: Option<u64>, source: &Source, run: Assignment) {
        let Assignment { peer, first, count, deadline, .. } = run;
        let notice = Notice::Assign { digest, size, first, count, source: source.clone(), deadline };
        self.cx.emit(Output::Notify { peer, notice: notice.into() });
    }

    /// A leader that is not the best in its own view asks those before it whether they are pulling: two swarms become one.
    pub(super) fn look_for_better(&mut self, digest: Digest) {
        let Some(flight) = self.flights.get(&digest).filter(|flight| !flight.is_alone()) else { return };
        let generation = flight.generation;
        let looked_lately = flight.looked_for_better.is_some_and(|at| self.cx.now - at < DEFER_PAUSE);
        let looked_lately = looked_lately && !mutant!("better-leaders-polled");
        if looked_lately || self.calls.any(|call| call.digest == digest && call.purpose == Purpose::Defer) {
            return;
        }
        let width = self.config.probe_width as usize;
        // Where the best do not speak our protocol, did wrong, or are gone, the next ones may be leading, however many those
        // are: who leads because of it would never be found by who comes after it.
        let may_ask = |peer: &&PeerId| self.failures.may_ask(self.cx.now, digest, peer);
        let asked = if mutant!("gone-leaders-hide-others") { 2 * width } else { usize::MAX };
        let before_own = || {
            let ranked = self.members.ranked(&digest).take(asked);
            ranked.take_while(|peer| !self.members.is_own(peer)).filter(may_ask)
        };
        let mut better: Vec<_> = before_own().take(width).cloned().collect();
        // Whoever leads because the best were gone is not found through those, if they take no part: the others in turn.
        let others = if better.len() < width { 0 } else { before_own().skip(width).count() };
        if others > 0 && !mutant!("leaders-of-others-unknown") {
            better.extend(before_own().nth(width + flight.looks as usize % others).cloned());
        }
        let followed = flight.may_lead.iter().filter(may_ask).find(|peer| !better.contains(peer));
        better.extend(followed.cloned());
        if let Some(flight) = self.flights.get_mut(&digest).filter(|_| !better.is_empty()) {
            flight.looked_for_better = Some(self.cx.now);
            flight.looks = flight.looks.wrapping_add(1);
            flight.may_lead = None;
        }
        for peer in better {
            let call = Call { peer, digest, purpose: Purpose::Defer, generation };
            let timeout = self.config.call_timeout;
            self.calls.start(&mut self.cx, call, Request::PullIntent { digest, leads: true }, timeout);
        }
    }

    pub(super) fn defer_answered(&mut self, call: &Call, response: Option<Response>) {
        let digest = call.digest;
        let Some(flight) = self.flights.get(&digest) else { return };
        if flight.role != Role::Leading || !matches!(flight.stage, Stage::Moving) {
            return;
        }
        let Some(Response::PullIntent(intent)) = response else { return };
        if let Some(leader) = intent.follows {
            self.learn(&leader.peer, &leader.addresses);
            return self.may_lead(digest, leader.peer);
        }
        // It has it whole and takes part in our swarm: it has found us, and could lead if it wanted. Who leads does not take
        // part any more, even if it was heard of here a moment ago.
        let takes_part = self.trackers.get(&digest).is_some_and(|tracker| tracker.contains(&call.peer));
        // Whoever ranks behind this node has been told by the question that it leads, and steps down.
        let leads = intent.in_flight_for.is_some() && !self.ranks_before(&digest, &call.peer);
        if (leads || intent.has_cached && !takes_part) && !mutant!("never-steps-down") {
            // Step down: our participants are sent on when they show their next sign of life.
            self.follow(digest, call.peer.clone());
        }
    }

    /// Somebody else may lead the swarm that this node leads: it is asked when it is looked for a better leader again. Whoever leads
    /// without being one of the best would not be found by anybody: only those are asked.
    pub(super) fn may_lead(&mut self, digest: Digest, peer: PeerId) {
        if self.members.is_own(&peer) || mutant!("leaders-of-others-unknown") {
            return;
        }
        // Of several, any: one may be gone.
        let is_taken = |flight: &Flight| flight.may_lead.as_ref().is_some_and(|other| *other != peer);
        let Some(flight) = self.flights.get_mut(&digest).filter(|flight| flight.role == Role::Leading) else { return };
        if !is_taken(flight) || self.cx.below(2) == 0 {
            flight.may_lead = Some(peer);
        }
    }

    /// The cool-down of a failure is over: this node may ask the origin as well.
    pub(super) fn end_cool_down(&mut self, digest: Digest) {
        let now = self.cx.now;
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        if flight.cools_down_until.take_if(|until| *until <= now).is_some()
            && flight.can_fetch_origin()
            && let Some(tracker) = self.trackers.get_mut(&digest)
        {
            tracker.set_can_fetch(&self.config.peer, true);
        }
    }

    /// The swarm is over: whoever still misses something is told at once, and asks why.
    pub(super) fn end_tracking(&mut self, digest: Digest) {
        self.cx.timers.clear(Deadline::Track(digest));
        if let Some(tracker) = self.trackers.remove(&digest) {
            for peer in tracker.incomplete().filter(|peer| **peer != self.config.peer) {
                self.cx.emit(Output::Notify { peer: peer.clone(), notice: Notice::Leave { digest }.into() });
            }
        }
    }

    /// A neighbour did wrong: it is not asked for this blob again.
    pub(super) fn convict(&mut self, digest: Digest, peer: &PeerId, crime: &str) {
        let now = self.cx.now;
        let peer = if mutant!("wrong-one-blamed") { &self.config.peer } else { peer };
        self.failures.suppress(now, digest, peer.clone(), Suppression::Convicted, crate::failures::CONVICTION);
        self.cx.convict(digest, peer, crime);
        if let Some(flight) = self.flights.get_mut(&digest) {
            if flight.neighbours.contains(peer) && flight.estranged.len() < MAX_ESTRANGED {
                flight.estranged.insert(peer.clone());
            }
            flight.neighbours.remove(peer);
            if let Some(download) = &mut flight.download {
                download.disown(peer);
            }
        }
    }

    pub(super) fn explain_completed(&mut self, digest: Digest, origin_bytes: u64, peer_bytes: u64) {
        self.cx.explain(Explanation::Completed { digest, origin_bytes, peer_bytes });
    }
}

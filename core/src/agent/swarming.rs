//! A tracker's and its participants' talk: enrolling, assigning, telling what one has, stepping down.

use core::time::Duration;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::mirroring::STAT_PATIENCE;
use super::{Agent, ENROL_INTERVAL, Op};
use crate::calls::{Call, Purpose};
use crate::digest::Digest;
use crate::failures::Suppression;
use crate::flight::{Role, Stage};
use crate::input::{CallError, OriginFailure, OriginStat};
use crate::message::{Enrol, EnrolReply, FailureClass, Have, Neighbour, Notice, Request, Response};
use crate::names::{Kind, PeerId, Source, StreamId};
use crate::output::{Explanation, Output};
use crate::spine::Midstate;
use crate::swarm::tracker::{Assignment, DEGREE, Introduction, Verdict};
use crate::timers::Deadline;

/// News for neighbours wait this long for company, so that a fast swarm does not drown in messages.
pub(super) const TELL_DELAY: Duration = Duration::from_millis(20);
/// A leader that is not the best in its own view looks for a better one this often.
pub(super) const DEFER_INTERVAL: Duration = Duration::from_secs(1);
/// A complete swarm is looked after this often.
pub(super) const IDLE_TRACK_INTERVAL: Duration = Duration::from_secs(60);
/// A participant that is sent on more often than this without having enrolled anywhere is going in circles.
pub(super) const MAX_REFERRALS: u32 = 10;
/// Sent on to a tracker that is gone, a participant asks again after this long.
pub(super) const REFERRAL_PAUSE: Duration = Duration::from_millis(500);
/// Most midstates in one message: 36 bytes each, far below the message limit.
pub(super) const MAX_SPINE: usize = 4096;

/// Most who wait for one spine to be read; others ask again.
const MAX_SPINE_WAITERS: usize = 256;

/// Somebody who is answered when a spine has been read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum SpineWaiter {
    Greeting(PeerId),
    Enrolment(StreamId, Box<Enrol>),
}

impl Agent {
    // ---- the participant's side ----

    /// Enrols with the tracker, or shows it a sign of life.
    pub(super) fn enrol(&mut self, digest: Digest) {
        let Some(flight) = self.flights.get(&digest) else { return };
        let Role::Following(tracker) = &flight.role else { return };
        self.cx.wake(Deadline::Enrol(digest), ENROL_INTERVAL);
        if self.calls.any(|call| call.digest == digest && call.purpose == Purpose::Enrol) {
            return;
        }
        let enrol = Enrol {
            digest,
            size: flight.size,
            pieces: flight.pieces_bytes(),
            can_fetch_origin: flight.can_fetch_origin(),
            source: flight.source.clone(),
            zone: self.config.zone.clone(),
            addresses: self.config.addresses.clone(),
            private: flight.is_private(),
        };
        let call = Call { peer: tracker.clone(), digest, purpose: Purpose::Enrol, generation: flight.generation };
        let timeout = self.config.call_timeout;
        self.calls.start(&mut self.cx, call, Request::Enrol(enrol), timeout);
    }

    pub(super) fn enrol_answered(&mut self, call: &Call, result: Result<Response, CallError>) {
        let digest = call.digest;
        let tracker = &call.peer;
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        if !flight.follows(tracker) {
            return;
        }
        match result {
            Ok(Response::Enrol(EnrolReply::Enrolled { size, neighbours, spine, private })) => {
                flight.referrals = 0;
                flight.private |= private;
                if let Some(size) = size {
                    self.learn_size(digest, size, None);
                }
                self.hear_spine(digest, tracker, &spine);
                for Neighbour { peer, addresses, zone } in neighbours {
                    self.learn(&peer, &addresses);
                    self.meet(digest, &peer, zone);
                }
                self.fill(digest);
            }
            Ok(Response::Enrol(EnrolReply::Elsewhere { tracker: other })) => {
                flight.referrals += 1;
                let circling = flight.referrals > MAX_REFERRALS || self.members.is_own(&other.peer);
                // Whoever sends us on is a source of pieces all the same.
                self.meet(digest, tracker, None);
                if circling {
                    return self.tracker_lost(digest, tracker);
                }
                if !self.failures.may_ask(self.cx.now, digest, &other.peer) {
                    // It follows somebody whom we know to be gone, and will find out as well.
                    return self.cx.wake(Deadline::Enrol(digest), REFERRAL_PAUSE);
                }
                self.learn(&other.peer, &other.addresses);
                self.follow(digest, other.peer);
            }
            Ok(Response::Enrol(EnrolReply::Failed(failure))) => {
                if failure.class == FailureClass::Auth && flight.credential.is_some() && flight.can_fetch_origin() {
                    // It cannot ask the origin; we can: lead.
                    return self.tracker_lost(digest, tracker);
                }
                self.turned_away(digest, failure.class, failure.cooldown);
            }
            _ => self.tracker_lost(digest, tracker),
        }
    }

    /// Makes `peer` a neighbour for `digest`, and says what we have.
    pub(super) fn meet(&mut self, digest: Digest, peer: &PeerId, zone: Option<Arc<str>>) {
        let usable = !self.members.is_own(peer) && self.failures.may_ask(self.cx.now, digest, peer);
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        if usable && flight.neighbours.add(peer, zone) {
            self.greet(digest, peer);
        }
    }

    fn greet(&mut self, digest: Digest, peer: &PeerId) {
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        let pieces = Have::Exactly(flight.pieces_bytes());
        let Some(neighbour) = flight.neighbours.get_mut(peer) else { return };
        if !core::mem::replace(&mut neighbour.greeted, true) {
            let spine = flight.download.as_ref().map(|download| download.spine(MAX_SPINE)).unwrap_or_default();
            let (size, private) = (flight.size, flight.is_private());
            let notice = Notice::Have { digest, size, pieces, sums: Vec::new(), spine, private };
            self.cx.emit(Output::Notify { peer: peer.clone(), notice });
        }
    }

    pub(super) fn heard_has_all(&mut self, digest: Digest, peer: &PeerId) {
        if let Some(flight) = self.flights.get_mut(&digest) {
            flight.neighbours.heard(peer, &Have::All);
        }
    }

    fn hear_spine(&mut self, digest: Digest, claimant: &PeerId, spine: &[(u32, Midstate)]) {
        let download = self.flights.get_mut(&digest).and_then(|flight| flight.download.as_mut());
        if let Some(download) = download {
            for (piece, state) in spine.iter().take(MAX_SPINE) {
                download.claim(*piece, *state, claimant);
            }
        }
    }

    /// Tells the neighbours what is new, and the tracker what came from the origin.
    pub(super) fn tell(&mut self, digest: Digest) {
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        let Some(download) = &mut flight.download else { return };
        let news = core::mem::take(&mut download.news);
        let tracker_news = core::mem::take(&mut download.tracker_news);
        let sums = download.sums_of(&news);
        let spine = download.spine_around(&news);
        let private = flight.is_private();
        if !news.is_empty() {
            for (peer, neighbour) in flight.neighbours.iter() {
                if !neighbour.complete && neighbour.greeted {
                    let pieces = Have::Also(news.clone());
                    let notice = Notice::Have {
                        digest,
                        size: flight.size,
                        pieces,
                        sums: sums.clone(),
                        spine: spine.clone(),
                        private,
                    };
                    self.cx.emit(Output::Notify { peer: peer.clone(), notice });
                }
            }
        }
        // The tracker hears the rest with the next sign of life; what was assigned it has to know at once.
        if let Role::Following(tracker) = &flight.role
            && !sums.is_empty()
            && !flight
                .neighbours
                .iter()
                .any(|(peer, neighbour)| peer == tracker && neighbour.greeted && !neighbour.complete)
        {
            let pieces = Have::Also(tracker_news);
            let notice = Notice::Have { digest, size: flight.size, pieces, sums, spine: Vec::new(), private };
            self.cx.emit(Output::Notify { peer: tracker.clone(), notice });
        }
    }

    // ---- what peers tell ----

    pub(super) fn noticed(&mut self, peer: &PeerId, notice: Notice) {
        match notice {
            Notice::Have { digest, size, pieces, sums: _, spine, private } => {
                if let Some(flight) = self.flights.get_mut(&digest) {
                    flight.private |= private;
                }
                self.heard_have(peer, digest, size, &pieces, &spine)
            }
            Notice::Assign { digest, size, first, count, source, deadline: _ } => {
                self.assigned(peer, digest, size, first, count, &source);
            }
            Notice::Unassigned { digest, first, count: _, class, cooldown, no_ranges } => {
                self.unassigned(peer, digest, first, class, cooldown, no_ranges);
            }
            Notice::Starving { digest, piece } => {
                let now = self.cx.now;
                if let Some(tracker) = self.trackers.get_mut(&digest) {
                    tracker.starving(now, peer, piece);
                    self.track(digest);
                }
            }
            Notice::Leave { digest } => self.left(peer, digest),
        }
    }

    fn heard_have(
        &mut self,
        peer: &PeerId,
        digest: Digest,
        size: Option<u64>,
        pieces: &Have,
        spine: &[(u32, Midstate)],
    ) {
        let now = self.cx.now;
        let mut tracked = false;
        if let Some(size) = size
            && (self.flights.get(&digest).is_some_and(|flight| flight.size.is_none()))
        {
            self.learn_size(digest, size, None);
        }
        if let Some(tracker) = self.trackers.get_mut(&digest) {
            tracked = tracker.heard(now, peer, pieces);
        }
        if let Some(flight) = self.flights.get_mut(&digest) {
            if size.is_some() && flight.size != size {
                return;
            }
            if !flight.neighbours.contains(peer) {
                self.meet(digest, peer, None);
            }
            self.hear_spine(digest, peer, spine);
            if let Some(flight) = self.flights.get_mut(&digest)
                && flight.neighbours.heard(peer, pieces)
            {
                self.fill(digest);
            }
        } else if let Some(blob) = self.cache.get(&digest) {
            // Somebody exchanges pieces of what we have whole.
            let size = blob.size;
            if matches!(pieces, Have::Exactly(_)) {
                self.offer(digest, peer, size);
            }
        } else if !tracked && matches!(pieces, Have::Exactly(_)) {
            self.cx.emit(Output::Notify { peer: peer.clone(), notice: Notice::Leave { digest } });
        }
        if tracked {
            self.track(digest);
        }
    }

    fn spine_of(&self, digest: &Digest) -> Vec<(u32, Midstate)> {
        let states = self.spines.get(digest).map(Vec::as_slice).unwrap_or_default();
        states.iter().take(MAX_SPINE).enumerate().map(|(piece, state)| (piece as u32, *state)).collect()
    }

    /// Tells somebody that we have the whole blob, with the spine to check it by.
    fn offer(&mut self, digest: Digest, peer: &PeerId, size: u64) {
        if self.spine_is_coming(digest, size) {
            return self.await_spine(digest, SpineWaiter::Greeting(peer.clone()));
        }
        let spine = self.spine_of(&digest);
        let private = self.cache.get(&digest).is_some_and(|blob| blob.facts.private);
        let notice = Notice::Have { digest, size: Some(size), pieces: Have::All, sums: Vec::new(), spine, private };
        self.cx.emit(Output::Notify { peer: peer.clone(), notice });
    }

    /// Whether the spine of a blob that is here has to be read first. A blob of one piece needs none.
    fn spine_is_coming(&self, digest: Digest, size: u64) -> bool {
        crate::piece::Geometry::of_blob(size).pieces() > 1 && !self.spines.contains_key(&digest)
    }

    fn await_spine(&mut self, digest: Digest, waiter: SpineWaiter) {
        let waiters = self.spine_waiters.entry(digest).or_default();
        if waiters.is_empty() {
            self.cx.emit(Output::ReadSpine { digest });
        }
        if waiters.len() < MAX_SPINE_WAITERS {
            waiters.push(waiter);
        }
    }

    /// The store has read the spine of a blob, or there is none: whoever waited for it is answered.
    pub(super) fn spine_read(&mut self, digest: Digest, states: Vec<Midstate>) {
        self.remember_spine(digest, states);
        for waiter in self.spine_waiters.remove(&digest).unwrap_or_default() {
            match waiter {
                SpineWaiter::Greeting(peer) => {
                    if let Some(size) = self.cache.get(&digest).map(|blob| blob.size) {
                        self.offer(digest, &peer, size);
                    }
                }
                SpineWaiter::Enrolment(stream, enrol) => self.answer_enrolment(stream, *enrol),
            }
        }
    }

    fn left(&mut self, peer: &PeerId, digest: Digest) {
        if let Some(tracker) = self.trackers.get_mut(&digest)
            && tracker.contains(peer)
        {
            tracker.gone(peer);
            self.track(digest);
        }
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        flight.neighbours.remove(peer);
        if flight.follows(peer) {
            // It leads no more: it will say where to go, or why not.
            self.enrol(digest);
        }
    }

    pub(super) fn peer_disconnected(&mut self, peer: &PeerId) {
        let following: Vec<_> =
            self.flights.values().filter(|flight| flight.follows(peer)).map(|flight| flight.digest).collect();
        // A participant that still misses something would have kept the connection busy: it is gone, and what it was
        // fetching is free. If it is not gone, it enrols again.
        let tracked: Vec<_> = self
            .trackers
            .iter_mut()
            .filter(|(_, tracker)| tracker.incomplete().any(|participant| participant == peer))
            .map(|(digest, tracker)| {
                tracker.gone(peer);
                *digest
            })
            .collect();
        for digest in tracked {
            self.track(digest);
        }
        for flight in self.flights.values_mut() {
            if let Some(neighbour) = flight.neighbours.get_mut(peer) {
                neighbour.greeted = false;
            }
        }
        for digest in following {
            // Is it gone, or did it only close an idle connection? The call tells.
            self.enrol(digest);
        }
    }

    // ---- origin work ----

    fn assigned(&mut self, from: &PeerId, digest: Digest, size: Option<u64>, first: u32, count: u32, source: &Source) {
        let now_led_by = self.flights.get(&digest).is_some_and(|flight| flight.follows(from));
        if !now_led_by {
            // We have it whole, or another tracker: this one should not wait for us.
            let (class, cooldown) = (FailureClass::Transient, Duration::ZERO);
            let notice = match self.cache.get(&digest) {
                Some(blob) => Notice::Have {
                    digest,
                    size: Some(blob.size),
                    pieces: Have::All,
                    sums: Vec::new(),
                    spine: Vec::new(),
                    private: blob.facts.private,
                },
                None => Notice::Unassigned { digest, first, count, class, cooldown, no_ranges: false },
            };
            self.cx.emit(Output::Notify { peer: from.clone(), notice });
            return;
        }
        if let Some(size) = size {
            self.learn_size(digest, size, None);
        }
        self.take_on(digest, first, count, source);
    }

    /// Fetches a run from the origin: an assignment of somebody else's or of our own.
    fn take_on(&mut self, digest: Digest, first: u32, count: u32, source: &Source) {
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        // The tracker knows where it can be had; a peer's please_pull may have said less.
        flight.source = source.clone();
        match &mut flight.download {
            Some(download) if count > 0 => {
                download.enqueue(first, count);
                self.fill(digest);
            }
            Some(_) => self.tell_size(digest),
            None if flight.source.kind == Kind::Manifest => {
                flight.whole_assigned = true;
                self.fill(digest);
            }
            None => self.ask_size(digest),
        }
    }

    fn ask_size(&mut self, digest: Digest) {
        let Some(flight) = self.flights.get(&digest) else { return };
        let (source, credential) = (flight.source.clone(), flight.credential);
        if self.ops.values().any(|op| matches!(op, Op::Size(of) if *of == digest)) {
            return;
        }
        let op = self.start_op(Op::Size(digest), STAT_PATIENCE);
        self.cx.emit(Output::StatOrigin { op, source, digest, credential });
    }

    pub(super) fn size_answered(&mut self, digest: Digest, result: Result<OriginStat, OriginFailure>) {
        match result {
            Ok(stat) => self.learn_size(digest, stat.size, stat.media_type),
            Err(failure) => self.origin_failed(digest, 0, 0, failure, false),
        }
    }

    /// The size became known here: whoever asked for it has to know.
    pub(super) fn tell_size(&mut self, digest: Digest) {
        let Some(flight) = self.flights.get(&digest) else { return };
        if let Role::Following(tracker) = &flight.role
            && flight.size.is_some()
        {
            let pieces = Have::Exactly(flight.pieces_bytes());
            let private = flight.is_private();
            let notice =
                Notice::Have { digest, size: flight.size, pieces, sums: Vec::new(), spine: Vec::new(), private };
            self.cx.emit(Output::Notify { peer: tracker.clone(), notice });
        }
    }

    /// The origin did not give us what was assigned. The tracker decides what that means.
    pub(super) fn origin_failed(
        &mut self,
        digest: Digest,
        first: u32,
        count: u32,
        failure: OriginFailure,
        no_ranges: bool,
    ) {
        self.cx.counters.origin_failures += u64::from(!no_ranges);
        let own = self.config.peer.clone();
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        let OriginFailure { class, retry_after, challenge, detail, .. } = failure;
        if class == FailureClass::Auth && !no_ranges {
            flight.turned_away = Some(class);
            flight.private = true;
        }
        let mut runs = vec![(first, count)];
        if let Some(download) = &mut flight.download {
            runs.extend(download.drop_runs());
        }
        let cooldown = retry_after.unwrap_or_default();
        match flight.role.clone() {
            Role::Following(tracker) => {
                for (first, count) in runs {
                    let notice = Notice::Unassigned { digest, first, count, class, cooldown, no_ranges };
                    self.cx.emit(Output::Notify { peer: tracker.clone(), notice });
                }
                if class == FailureClass::Auth && !no_ranges {
                    self.turned_away_here(digest, &detail, challenge);
                }
            }
            _ => {
                // One failure, whatever it was to fetch next.
                if let Some(tracker) = self.trackers.get_mut(&digest) {
                    tracker.release(&own, &runs[1..]);
                }
                if let Verdict::Fail(class, _) = self.verdict(&own, digest, first, class, cooldown, no_ranges) {
                    let credential = self.flights.get(&digest).and_then(|flight| flight.credential);
                    if class == FailureClass::RateLimited && credential.is_none() {
                        self.failures.failed(self.cx.now, digest, class, retry_after, Vec::new());
                        return self.fail_flight(digest, class, &detail, challenge, Some(cooldown));
                    }
                    return self.fail_flight(digest, class, &detail, challenge, None);
                }
                self.track(digest);
            }
        }
    }

    /// The origin wants a credential, or a better one. Whoever waits here is told so now and can come back with one;
    /// otherwise this node goes on as one that cannot fetch.
    fn turned_away_here(&mut self, digest: Digest, detail: &str, challenge: Vec<Arc<str>>) {
        let Some(flight) = self.flights.get(&digest) else { return };
        if flight.waiters.is_empty() {
            self.enrol(digest);
        } else {
            self.fail_flight(digest, FailureClass::Auth, detail, challenge, None);
        }
    }

    fn verdict(
        &mut self,
        peer: &PeerId,
        digest: Digest,
        first: u32,
        class: FailureClass,
        cooldown: Duration,
        no_ranges: bool,
    ) -> Verdict {
        let now = self.cx.now;
        match self.trackers.get_mut(&digest) {
            Some(tracker) => tracker.unassigned(now, peer, first, class, cooldown, no_ranges),
            None => Verdict::GoOn,
        }
    }

    fn unassigned(
        &mut self,
        peer: &PeerId,
        digest: Digest,
        first: u32,
        class: FailureClass,
        cooldown: Duration,
        no_ranges: bool,
    ) {
        if !self.trackers.get(&digest).is_some_and(|tracker| tracker.contains(peer)) {
            return;
        }
        if let Verdict::Fail(class, _) = self.verdict(peer, digest, first, class, cooldown, no_ranges) {
            let detail = format!("{peer} was turned away by the origin");
            return match class {
                // Our own requester, without a credential, needs the origin's challenge; others have to know why.
                FailureClass::Auth if self.flights.get(&digest).is_some_and(|flight| !flight.waiters.is_empty()) => {
                    self.turned_away(digest, class, cooldown);
                }
                _ => self.fail_flight(digest, class, &detail, Vec::new(), None),
            };
        }
        self.track(digest);
    }

    /// A new credential may open what was closed.
    pub(super) fn can_fetch_after_all(&mut self, digest: Digest) {
        let Some(flight) = self.flights.get(&digest) else { return };
        match flight.role {
            Role::Leading => {
                if let Some(tracker) = self.trackers.get_mut(&digest) {
                    tracker.set_can_fetch(&self.config.peer, true);
                }
                self.track(digest);
            }
            Role::Following(_) => self.enrol(digest),
            Role::Undecided => {}
        }
    }

    // ---- the tracker's side ----

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

    fn enrolled(&mut self, peer: &PeerId, enrol: Enrol) -> EnrolReply {
        let Enrol { digest, size, pieces, can_fetch_origin, source, zone, addresses, private } = enrol;
        let now = self.cx.now;
        self.learn(peer, &addresses);
        let introduction =
            Introduction { pieces, can_fetch: can_fetch_origin, addresses: addresses.clone(), zone: zone.clone() };
        if let Some(size) = self.cache.get(&digest).map(|blob| blob.size) {
            let tracker = self.trackers.entry(digest).or_default();
            tracker.learn(crate::piece::Geometry::of_blob(size), false);
            tracker.enrol(now, &self.config.peer, Introduction::of_seed(&self.config));
            tracker.heard(now, &self.config.peer, &Have::All);
            tracker.enrol(now, peer, introduction);
            let mut neighbours = tracker.neighbours(&mut self.cx, peer);
            self.add_own_contact(&mut neighbours);
            self.cx.wake_by(Deadline::Track(digest), IDLE_TRACK_INTERVAL);
            let private = self.cache.get(&digest).is_some_and(|blob| blob.facts.private);
            return EnrolReply::Enrolled { size: Some(size), neighbours, spine: self.spine_of(&digest), private };
        }
        if !self.flights.contains_key(&digest) {
            match self.failures.recent(now, &digest) {
                Some(failure) if failure.class == FailureClass::Auth && can_fetch_origin => {
                    // We were turned away; this one has a credential, and we can lead it.
                    if self.draining || self.flights.len() >= self.config.max_admitted_flights as usize {
                        return EnrolReply::NotTracking;
                    }
                    let flight = self.want(digest, &source, None);
                    flight.turned_away = Some(FailureClass::Auth);
                    self.promote();
                }
                Some(failure) => return EnrolReply::Failed(failure),
                None => return EnrolReply::NotTracking,
            }
        }
        if let Some(flight) = self.flights.get_mut(&digest) {
            flight.private |= private;
        }
        if let Some(size) = size {
            self.learn_size(digest, size, None);
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
        self.add_own_contact(&mut neighbours);
        self.meet(digest, peer, zone);
        self.track(digest);
        let Some(flight) = self.flights.get(&digest) else { return EnrolReply::NotTracking };
        let spine = flight.download.as_ref().map(|download| download.spine(MAX_SPINE)).unwrap_or_default();
        EnrolReply::Enrolled { size: flight.size, neighbours, spine, private: flight.is_private() }
    }

    fn ranks_before(&self, digest: &Digest, other: &PeerId) -> bool {
        let ranked = self.members.top(digest, usize::MAX);
        let position = |peer: &PeerId| ranked.iter().position(|ranked| ranked == peer).unwrap_or(usize::MAX);
        position(&self.config.peer) < position(other)
    }

    /// In a small swarm the tracker is everybody's neighbour; in a large one it is drawn like any other, because it could
    /// not bear a thousand.
    fn add_own_contact(&self, neighbours: &mut Vec<Neighbour>) {
        let is_there = neighbours.iter().any(|neighbour| neighbour.peer == self.config.peer);
        if !is_there && neighbours.len() < DEGREE {
            let own = self.members.own();
            let (addresses, zone) = (own.addresses.clone(), own.zone.clone());
            neighbours.insert(0, Neighbour { peer: self.config.peer.clone(), addresses, zone });
        }
    }

    fn contact(&self, peer: &PeerId) -> Neighbour {
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
        let leading = self.flights.get(&digest).is_some_and(|flight| flight.role == Role::Leading);
        let present = self.cache.get(&digest).is_some();
        let Some(tracker) = self.trackers.get_mut(&digest) else { return };
        tracker.expire(now, &self.config.peer);
        if !leading {
            let flying = self.flights.contains_key(&digest);
            if !flying && (tracker.is_empty() || !present) {
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
    fn hand_out(&mut self, digest: Digest) {
        let now = self.cx.now;
        let Some(tracker) = self.trackers.get_mut(&digest) else { return };
        let assignments = tracker.assign(&mut self.cx, &self.config.peer, self.config.max_assignments);
        let stuck = assignments.is_empty() && tracker.is_stuck(now);
        if stuck && self.flights.contains_key(&digest) {
            let waited_for = self.flights.get(&digest).is_some_and(|flight| !flight.waiters.is_empty());
            if waited_for {
                return self.turned_away(digest, FailureClass::Auth, Duration::ZERO);
            }
            let detail = "nobody who takes part has a credential that the origin accepts";
            return self.fail_flight(digest, FailureClass::Auth, detail, Vec::new(), None);
        }
        let next = tracker.next_due(now).map_or(DEFER_INTERVAL, |at| (at - now).min(DEFER_INTERVAL));
        let (source, size) = match (self.flights.get(&digest), self.cache.get(&digest)) {
            (Some(flight), _) => {
                self.cx.wake(Deadline::Track(digest), next.max(Duration::from_millis(1)));
                (flight.source.clone(), flight.size)
            }
            (None, Some(blob)) => (blob.facts.source.clone(), Some(blob.size)),
            (None, None) => return,
        };
        for Assignment { peer, first, count, deadline, .. } in assignments {
            if self.members.is_own(&peer) {
                self.take_on(digest, first, count, &source);
            } else {
                let notice = Notice::Assign { digest, size, first, count, source: source.clone(), deadline };
                self.cx.emit(Output::Notify { peer, notice });
            }
        }
    }

    /// A leader that is not the best in its own view asks those before it whether they are pulling: two swarms become one.
    fn look_for_better(&mut self, digest: Digest) {
        let Some(flight) = self.flights.get(&digest) else { return };
        let generation = flight.generation;
        if self.calls.any(|call| call.digest == digest && call.purpose == Purpose::Defer) {
            return;
        }
        let width = self.config.probe_width as usize;
        let better: Vec<_> = self
            .members
            .top(&digest, width)
            .into_iter()
            .take_while(|peer| !self.members.is_own(peer))
            .filter(|peer| self.failures.may_ask(self.cx.now, digest, peer))
            .collect();
        for peer in better {
            let call = Call { peer, digest, purpose: Purpose::Defer, generation };
            let timeout = self.config.call_timeout;
            self.calls.start(&mut self.cx, call, Request::PullIntent { digest }, timeout);
        }
    }

    pub(super) fn defer_answered(&mut self, call: &Call, response: Option<Response>) {
        let digest = call.digest;
        let Some(flight) = self.flights.get(&digest) else { return };
        if flight.role != Role::Leading || !matches!(flight.stage, Stage::Moving) {
            return;
        }
        // It takes part in our swarm: it has found us, and could lead if it wanted.
        if self.trackers.get(&digest).is_some_and(|tracker| tracker.contains(&call.peer)) {
            return;
        }
        if let Some(Response::PullIntent(intent)) = response
            && (intent.has_cached || intent.in_flight_for.is_some())
        {
            // Step down: our participants are sent on when they show their next sign of life.
            self.follow(digest, call.peer.clone());
        }
    }

    /// The swarm is over: whoever still misses something is told at once, and asks why.
    pub(super) fn end_tracking(&mut self, digest: Digest) {
        self.cx.timers.clear(Deadline::Track(digest));
        if let Some(tracker) = self.trackers.remove(&digest) {
            for peer in tracker.incomplete().filter(|peer| **peer != self.config.peer) {
                self.cx.emit(Output::Notify { peer: peer.clone(), notice: Notice::Leave { digest } });
            }
        }
    }

    /// A neighbour did wrong: it is not asked for this blob again.
    pub(super) fn convict(&mut self, digest: Digest, peer: &PeerId, crime: &str) {
        let now = self.cx.now;
        self.failures.suppress(now, digest, peer.clone(), Suppression::Convicted, crate::failures::CONVICTION);
        self.cx.convict(digest, peer, crime);
        if let Some(flight) = self.flights.get_mut(&digest) {
            flight.neighbours.remove(peer);
        }
    }

    pub(super) fn explain_completed(&mut self, digest: Digest, origin_bytes: u64, peer_bytes: u64) {
        self.cx.explain(Explanation::Completed { digest, origin_bytes, peer_bytes });
    }
}

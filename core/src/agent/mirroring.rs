//! containerd's requests: served from what is here, attached to a flight, or refused so that containerd goes on.

use core::time::Duration;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::asking::Question;
use super::bodies::longest_silence;
use super::{Agent, Op};
use crate::config::AuthCheck;
use crate::digest::Digest;
use crate::failures::Challenge;
use crate::flight::Flight;
use crate::input::{Method, OriginFailure, OriginStat};
use crate::message::FailureClass;
use crate::names::{CredentialId, Kind, OpId, RequestId, Source};
use crate::output::{Output, Refusal};
use crate::time::Time;
use crate::timers::Deadline;

/// A request to the origin that only asks (HEAD) takes no longer than this.
pub(super) const STAT_PATIENCE: Duration = Duration::from_secs(10);
/// The origin's word that a credential may have a private blob holds for this long.
pub(super) const AUTHORIZATION_TTL: Duration = Duration::from_secs(300);

/// Where a mirror request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum State {
    /// The origin is asked about it.
    Asking,
    /// It waits for its flight.
    Waiting,
    /// It waits until a manifest that is here has been read.
    Reading,
    /// It waits until what is here has been hashed again.
    Verifying,
    /// Headers are out. A body may still be growing.
    Serving,
    /// It was answered with an error, or cut short.
    Over,
}

/// A mirror request that the driver has not closed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(super) digest: Digest,
    pub(super) method: Method,
    pub(super) source: Source,
    pub(super) credential: Option<CredentialId>,
    pub(super) state: State,
    /// When it gets headers or a refusal at the latest, whatever else it has to wait for; and once it reads a body that grows,
    /// when it gets the next byte or is cut short.
    pub(super) due: Time,
    /// It reads a committed blob.
    pub(super) holds: bool,
    /// The origin would serve it.
    authorized: bool,
    /// Its body stands still, and the origin is asked why.
    pub(super) is_late: bool,
}

impl Agent {
    pub(super) fn mirror_requested(
        &mut self,
        id: RequestId,
        method: Method,
        source: Source,
        digest: Digest,
        credential: Option<CredentialId>,
    ) {
        self.use_credential(credential);
        let due = self.cx.now + self.config.header_timeout;
        let state = State::Asking;
        let request =
            Request { digest, method, source, credential, state, due, holds: false, authorized: false, is_late: false };
        self.requests.insert(id, request);
        if self.draining {
            return self.refuse(id, Refusal::Unavailable { reason: "the agent is stopping".into() });
        }
        if !self.recovered {
            return self.refuse(id, Refusal::Unavailable { reason: "the agent is starting".into() });
        }
        if self.cache.get(&digest).is_some() {
            return self.serve_present(id);
        }
        self.serve_missing(id);
    }

    /// Whether the origin has to be asked before this requester gets something private.
    pub(super) fn must_authorize(&self, id: RequestId, private: bool) -> bool {
        if !private || self.config.auth_check == AuthCheck::Off || mutant!("private-blob-unchecked") {
            return false;
        }
        let Some(request) = self.requests.get(&id) else { return false };
        let known = request.credential.and_then(|credential| self.authorized.get(&(credential, request.digest)));
        !request.authorized && known.is_none_or(|until| *until <= self.cx.now)
    }

    fn authorize(&mut self, id: RequestId) {
        self.ask_origin(id, Question::Permission);
    }

    pub(super) fn serve_present(&mut self, id: RequestId) {
        let Some(digest) = self.requests.get(&id).map(|request| request.digest) else { return };
        let Some(private) = self.cache.get(&digest).map(|blob| blob.facts.private) else {
            return self.serve_missing(id);
        };
        if self.must_authorize(id, private) {
            return self.authorize(id);
        }
        if !self.hashes_first(id) {
            self.serve_stored(id);
        }
    }

    /// Serves what is here as it is.
    pub(super) fn serve_stored(&mut self, id: RequestId) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        let digest = request.digest;
        let Some(blob) = self.cache.get(&digest) else { return };
        let (size, media_type, kind) = (blob.size, blob.facts.media_type.clone(), blob.facts.source.kind);
        if kind == Kind::Manifest && media_type.is_none() {
            // containerd goes by the media type: what the manifest is has to be read first.
            request.state = State::Reading;
            // Where the store is full it would be gone before it is read, and would come and go for as long as it is waited for.
            if !core::mem::replace(&mut request.holds, true) {
                self.cache.hold(&digest);
            }
            self.cx.timers.set(Deadline::Headers(id), request.due);
            self.cx.emit(Output::ReadManifest { digest });
            return;
        }
        request.state = State::Serving;
        if !core::mem::replace(&mut request.holds, true) {
            self.cache.hold(&digest);
        }
        self.cx.timers.clear(Deadline::Headers(id));
        let is_get = request.method == Method::Get;
        self.cache.touch(&digest);
        self.cx.counters.mirror_hits += 1;
        self.cx.emit(Output::Touch { digest });
        self.cx.emit(Output::MirrorServe { request: id, digest, size, media_type });
        if kind == Kind::Manifest && is_get && self.config.prefetch {
            // The whole image is wanted now; the store says what that is.
            self.cx.emit(Output::ReadManifest { digest });
        }
    }

    pub(super) fn serve_missing(&mut self, id: RequestId) {
        let Some(request) = self.requests.get(&id) else { return };
        let Request { digest, method, source, credential, .. } = request.clone();
        if self.draining {
            // What it has waited for so far may have been something else than bytes.
            return self.refuse(id, Refusal::Unavailable { reason: "the agent is stopping".into() });
        }
        self.cx.counters.mirror_misses += 1;
        let now = self.cx.now;
        let is_coming = self.flights.contains_key(&digest);
        if self.failures.is_left_alone(now, &digest, is_coming)
            || self.failures.disk_spoils(now)
            || (mutant!("refused-while-in-flight") && is_coming)
        {
            return self.refuse(id, Refusal::NotHere);
        }
        let mut cools_down_until = None;
        if let Some(failure) = self.failures.recent(now, &digest) {
            // A credential may open what was closed to the last one who asked.
            if failure.class == FailureClass::Auth && credential.is_none() {
                let has_words = |challenge: &&Challenge| challenge.is_of(&source) && !challenge.words.is_empty();
                let challenge = self.failures.challenge(&digest).filter(has_words).cloned();
                // If it is not known in which words, the origin is asked again: containerd would ask it anyway, and take all of it
                // from there if it is over.
                if challenge.is_some() || mutant!("refused-without-a-challenge") {
                    return self.refuse_unauthorized(id, challenge.as_ref());
                }
            }
            if failure.class != FailureClass::Auth {
                if !self.failures.may_look_again(now, &digest, is_coming) {
                    return self.refuse(id, Refusal::NotHere);
                }
                // Until the registry has said that it has it, only others can give it.
                cools_down_until = Some(now + failure.cooldown);
            }
        }
        let challenge = self.must_be_challenged(&digest).filter(|_| credential.is_none());
        if let Some(challenge) = challenge.filter(|challenge| challenge.is_of(&source)) {
            return self.refuse_unauthorized(id, Some(&challenge));
        }
        if method == Method::Head && source.kind != Kind::Manifest && !self.flights.contains_key(&digest) {
            // A HEAD never pulls a blob (a manifest is small, and its GET follows at once).
            return match self.sizes.get(&digest) {
                Some(named) => {
                    let size = named.size;
                    self.answer(id, size, None);
                }
                None => self.ask_origin(id, Question::Size),
            };
        }
        self.want(digest, &source, credential);
        if let Some(flight) = self.flights.get_mut(&digest) {
            flight.ahead = false;
            flight.cools_down_until = cools_down_until.or(flight.cools_down_until);
            if !(mutant!("waiter-forgotten") && flight.is_running()) {
                flight.waiters.insert(id);
            }
            if !flight.wanted_here {
                flight.wanted_here = true;
                if flight.comes_from(&source) {
                    self.asks_anew(digest);
                }
            }
        }
        self.wait_for_flight(id);
        if credential.is_some() {
            self.can_fetch_after_all(digest);
        }
        self.answer_waiters(digest);
        self.promote();
        // Somebody waits now: more may be fetched at a time.
        self.fill(digest);
    }

    fn wait_for_flight(&mut self, id: RequestId) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        request.state = State::Waiting;
        let mut look = request.due;
        if self.config.auth_check == AuthCheck::Origin && !request.authorized {
            // The origin may have to be asked before, which takes time.
            look = look.min(self.cx.now + (request.due - self.cx.now) / 2);
        }
        if !mutant!("headers-without-deadline") {
            self.cx.timers.set(Deadline::Headers(id), look);
        }
    }

    /// Sends headers to those who wait for a flight, once its size is known and something of it is verified.
    pub(super) fn answer_waiters(&mut self, digest: Digest) {
        let Some(flight) = self.flights.get(&digest) else { return };
        let Some(size) = flight.size else { return };
        let (released, media_type, private) = (flight.released, flight.media_type.clone(), flight.is_private());
        let is_readable = released > 0;
        if flight.source.kind == Kind::Manifest && media_type.is_none() {
            return;
        }
        let waiters: Vec<_> = flight.waiters.iter().copied().collect();
        for id in waiters {
            let Some(request) = self.requests.get(&id) else { continue };
            let waits = request.state == State::Waiting || mutant!("headers-sent-twice");
            if waits && (request.method == Method::Head || is_readable) {
                if self.must_authorize(id, private) {
                    self.authorize(id);
                } else {
                    self.answer(id, size, media_type.clone());
                }
            }
        }
    }

    fn answer(&mut self, id: RequestId, size: u64, media_type: Option<Arc<str>>) {
        self.cx.timers.clear(Deadline::Headers(id));
        let Some(request) = self.requests.get_mut(&id) else { return };
        request.state = State::Serving;
        let digest = request.digest;
        if request.method == Method::Get {
            let flight = self.flights.get(&digest).map(|flight| &**flight);
            request.due = self.cx.now + longest_silence(&self.config, flight);
            self.cx.wake(Deadline::Body(id), self.config.body_timeout);
        }
        self.cx.emit(Output::MirrorServe { request: id, digest, size, media_type });
    }

    pub(super) fn headers_due(&mut self, id: RequestId) {
        let Some(request) = self.requests.get(&id) else { return };
        let (digest, state, due) = (request.digest, request.state, request.due);
        if state == State::Asking && self.cx.now < due {
            // It is its turn to ask a registry that limits us.
            let registry = request.source.registry.clone();
            return self.ask_next(&registry);
        }
        if state == State::Verifying && self.cache.get(&digest).is_some() {
            // Hashing takes longer than containerd waits, and most likely it is what it should be.
            return self.serve_stored(id);
        }
        let Some(flight) = self.flights.get(&digest) else { return self.refuse(id, Refusal::NotHere) };
        let typed = flight.source.kind != Kind::Manifest || flight.media_type.is_some();
        let unproven = self.must_authorize(id, flight.is_private());
        if self.cx.now < due {
            // Half of the time is over.
            return if unproven { self.authorize(id) } else { self.cx.timers.set(Deadline::Headers(id), due) };
        }
        // Something has come since it asked, and the rest will: it has longer to wait for a byte than for headers.
        let came = self.nothing_came_for(flight).is_some_and(|quiet| quiet < self.config.header_timeout);
        match flight.size {
            Some(size) if state == State::Waiting && typed && !unproven && came => {
                let media_type = flight.media_type.clone();
                self.answer(id, size, media_type);
            }
            _ => {
                self.leave_flight(id, digest);
                self.refuse(id, Refusal::NotHere);
            }
        }
    }

    pub(super) fn leave_flight(&mut self, id: RequestId, digest: Digest) {
        if let Some(flight) = self.flights.get_mut(&digest) {
            flight.waiters.remove(&id);
        }
        // It leaves room for another one that is waited for.
        self.promote();
    }

    pub(super) fn refuse(&mut self, id: RequestId, refusal: Refusal) {
        self.cx.timers.clear(Deadline::Headers(id));
        if let Some(request) = self.requests.get_mut(&id)
            && matches!(request.state, State::Asking | State::Waiting | State::Reading | State::Verifying)
        {
            request.state = State::Over;
            let registry = request.source.registry.clone();
            self.cx.counters.mirror_refused += 1;
            self.cx.emit(Output::MirrorRefuse { request: id, refusal });
            self.leave_queue(&registry, id);
        }
    }

    /// 401 where a credential may help; otherwise containerd should hear the origin's own words.
    pub(super) fn refuse_unauthorized(&mut self, id: RequestId, challenge: Option<&Challenge>) {
        let Some(request) = self.requests.get(&id) else { return };
        let asked = challenge.filter(|challenge| challenge.is_of(&request.source) && !challenge.words.is_empty());
        match asked.filter(|_| request.credential.is_none()) {
            Some(Challenge { words, .. }) => self.refuse(id, Refusal::Unauthorized { challenge: words.clone() }),
            None => self.refuse(id, Refusal::NotHere),
        }
    }

    /// The same, in what the origin has just said of this request.
    fn refuse_in_words(&mut self, id: RequestId, words: Vec<Arc<str>>) {
        let source = self.requests.get(&id).map(|request| request.source.clone());
        self.refuse_unauthorized(id, source.map(|source| Challenge { source, words }).as_ref());
    }

    /// Whether headers are out and a body is growing.
    pub(super) fn is_being_served(&self, id: RequestId) -> bool {
        self.requests.get(&id).is_some_and(|request| request.state == State::Serving)
    }

    /// Whether anybody was cut short who was reading a blob, and is not closed yet.
    pub(super) fn is_read_after_all(&self, digest: &Digest) -> bool {
        self.requests.values().any(|request| request.digest == *digest && request.state == State::Over)
    }

    /// Those who wait for a flight that the origin has turned away, and whose credential it has not seen.
    pub(super) fn waiters_with_another_credential(&self, flight: &Flight) -> Vec<RequestId> {
        let unseen = |id: &RequestId| {
            self.requests.get(id).is_some_and(|request| {
                request.state == State::Waiting
                    && request.credential.is_some()
                    && request.credential != flight.credential
            })
        };
        flight.waiters.iter().copied().filter(unseen).collect()
    }

    /// A flight ended without its blob: everybody who waits is told so in the way that lets containerd go on.
    pub(super) fn dismiss_waiters(
        &mut self,
        waiters: impl IntoIterator<Item = RequestId>,
        class: FailureClass,
        challenge: Option<&Challenge>,
    ) {
        for id in waiters {
            let Some(request) = self.requests.get(&id) else { continue };
            match request.state {
                State::Serving => self.abort(id),
                // It is waiting for the origin's word; that decides, and starts another flight if need be.
                State::Asking => {}
                _ if class == FailureClass::Auth => self.refuse_unauthorized(id, challenge),
                _ => self.refuse(id, Refusal::NotHere),
            }
        }
    }

    /// A flight ended with its blob: bodies go on from the committed file, which now has to stay while they do.
    pub(super) fn settle_waiters(&mut self, digest: Digest, waiters: impl IntoIterator<Item = RequestId>) {
        for id in waiters {
            self.cx.timers.clear(Deadline::Body(id));
            if let Some(request) = self.requests.get_mut(&id) {
                match request.state {
                    State::Waiting if mutant!("settled-waiter-forgotten") => {}
                    State::Waiting => self.serve_present(id),
                    State::Serving => {
                        request.holds = true;
                        self.cache.hold(&digest);
                    }
                    // The origin's answer is on its way, and finds the blob here.
                    State::Asking | State::Reading | State::Verifying | State::Over => {}
                }
            }
        }
    }

    /// Where somebody who has asked for a blob and is being served has it from, and with which credential, if any.
    pub(super) fn requester(&self, digest: &Digest) -> Option<(Source, Option<CredentialId>)> {
        let asking = self.requests.values().filter(|request| {
            let is_proven = request.state == State::Serving || mutant!("prefetch-with-unproven-credential");
            is_proven && request.digest == *digest || mutant!("credential-of-another-requester")
        });
        let best = asking.max_by_key(|request| request.credential.is_some())?;
        Some((best.source.clone(), best.credential))
    }

    /// A manifest has been read: whoever waited to know what it is gets it.
    pub(super) fn serve_read(&mut self, digest: Digest) {
        let waiting = |(id, request): (&RequestId, &Request)| {
            (request.digest == digest && request.state == State::Reading).then_some(*id)
        };
        let waiting: Vec<_> = self.requests.iter().filter_map(waiting).collect();
        for id in waiting {
            self.serve_present(id);
        }
    }

    pub(super) fn mirror_closed(&mut self, id: RequestId, sent_bytes: u64) {
        let Some(request) = self.requests.remove(&id) else { return };
        self.cx.counters.mirror_bytes += sent_bytes;
        match self.flights.get_mut(&request.digest) {
            Some(flight) => flight.sent = flight.sent.saturating_add(sent_bytes),
            None => self.cache.sent(&request.digest, sent_bytes),
        }
        self.cx.timers.clear(Deadline::Headers(id));
        self.cx.timers.clear(Deadline::Body(id));
        self.leave_flight(id, request.digest);
        self.leave_queue(&request.source.registry, id);
        if !mutant!("credential-never-forgotten") {
            self.release_credential(request.credential);
        }
        if request.holds {
            self.done_reading(request.digest);
        }
    }

    /// The origin answered a question about a blob that somebody waits for.
    pub(super) fn origin_stat(&mut self, op: OpId, result: Result<OriginStat, OriginFailure>) {
        match self.finish_op(op) {
            Some(Op::Head(id)) => self.question_answered(op, id, Question::Size, result),
            Some(Op::Authorize(id)) => self.question_answered(op, id, Question::Permission, result),
            Some(Op::Size(digest)) => self.size_answered(op, digest, result),
            Some(Op::Confirm(digest, tracker)) => self.failure_checked(op, digest, tracker, result),
            Some(Op::Late(digest)) => self.lateness_explained(op, digest, result),
            Some(Op::Challenge(digest)) => self.challenge_answered(digest, result),
            _ => {}
        }
    }

    pub(super) fn size_of_request_answered(&mut self, id: RequestId, result: Result<OriginStat, OriginFailure>) {
        match result {
            Ok(stat) => self.answer(id, stat.size, stat.media_type),
            Err(failure) if failure.class == FailureClass::Auth => self.refuse_in_words(id, failure.challenge),
            Err(_) => self.refuse(id, Refusal::NotHere),
        }
    }

    pub(super) fn authorization_answered(&mut self, id: RequestId, result: Result<OriginStat, OriginFailure>) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        // It may have been refused meanwhile, because the answer took too long.
        let waits_for_it = request.state == State::Asking;
        match result {
            Ok(_) => {
                request.authorized = true;
                if let Some(credential) = request.credential {
                    let until = self.cx.now + AUTHORIZATION_TTL;
                    self.authorized.insert((credential, request.digest), until);
                }
                if waits_for_it {
                    self.permitted(id);
                }
            }
            Err(_) if !waits_for_it => {}
            Err(failure) if failure.class == FailureClass::Auth => self.refuse_in_words(id, failure.challenge),
            // Not proven is not allowed; the next host is the registry itself.
            Err(_) => self.refuse(id, Refusal::NotHere),
        }
    }

    /// The origin would serve this requester: it gets the blob, or goes on waiting for it.
    pub(super) fn permitted(&mut self, id: RequestId) {
        let Some(digest) = self.requests.get(&id).map(|request| request.digest) else { return };
        if self.cache.get(&digest).is_some() {
            return self.serve_present(id);
        }
        // Its flight goes on, and may have ended meanwhile.
        if self.flights.get(&digest).is_some_and(|flight| flight.waiters.contains(&id)) {
            self.wait_for_flight(id);
            self.answer_waiters(digest);
        } else {
            self.serve_missing(id);
        }
    }
}

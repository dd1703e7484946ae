//! Work at the origin: taking on what a tracker assigns, finding out sizes, and what a failure means for whom.

use core::time::Duration;

use super::challenging::Challenged;
use super::{Agent, Op};
use crate::digest::Digest;
use crate::flight::Role;
use crate::input::{OriginFailure, OriginStat};
use crate::message::{FailureClass, Have, Notice};
use crate::names::{Kind, OpId, PeerId, Source};
use crate::output::Output;
use crate::swarm::outage::Outage;
use crate::swarm::tracker::Verdict;
use crate::time::Time;

impl Agent {
    pub(super) fn assigned(
        &mut self,
        from: &PeerId,
        digest: Digest,
        size: Option<u64>,
        (first, count): (u32, u32),
        source: &Source,
        deadline: Duration,
    ) {
        let is_led = self.flights.get(&digest).is_some_and(|flight| flight.follows(from));
        if !is_led || !self.may_ask_registry(&source.registry) {
            // We have it whole, or another tracker, or may not ask there: this one should not wait for us.
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
            self.cx.emit(Output::Notify { peer: from.clone(), notice: notice.into() });
            return;
        }
        if let Some(size) = size {
            self.learn_size(digest, size, None);
        }
        self.end_cool_down(digest);
        if self.flights.get(&digest).is_some_and(|flight| flight.cools_down_until.is_some()) {
            // Whoever gives us work nevertheless has not heard, or lies. That the registry failed here a while ago is no failure of
            // this run: it is not reported as one, and is somebody else's when its time is up.
            return self.enrol(digest);
        }
        self.take_on(digest, first, count, source, Some((self.cx.now + deadline, deadline)));
    }

    /// Fetches a run from the origin: an assignment of somebody else's or of our own.
    /// `until`: when it is somebody else's unless a piece of it has come, and how long that is from now.
    pub(super) fn take_on(
        &mut self,
        digest: Digest,
        first: u32,
        count: u32,
        source: &Source,
        until: Option<(Time, Duration)>,
    ) {
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        // The tracker knows where it can be had; a peer's please_pull may have said less. Our own requester knows better.
        if !flight.wanted_here && flight.comes_from(source) {
            self.asks_anew(digest);
        }
        self.begin_run(digest, first, count, until);
    }

    /// The same, of a source that is known; `count` 0: the whole blob, or how large it is.
    pub(super) fn begin_run(&mut self, digest: Digest, first: u32, count: u32, until: Option<(Time, Duration)>) {
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        match &mut flight.download {
            Some(download) if count > 0 => {
                download.enqueue(first, count, until, flight.neighbours.available());
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

    pub(super) fn ask_size(&mut self, digest: Digest) {
        if !self.ops.values().any(|op| matches!(op, Op::Size(of) if *of == digest)) {
            self.ask_about(digest, Op::Size(digest));
        }
    }

    pub(super) fn size_answered(&mut self, op: OpId, digest: Digest, result: Result<OriginStat, OriginFailure>) {
        match result {
            Ok(stat) if stat.size > crate::piece::MAX_BLOB_BYTES => {
                let detail = format!("the origin says {} bytes; no blob is that large", stat.size);
                self.fail_flight(digest, FailureClass::Transient, &detail, None);
            }
            Ok(stat) => {
                self.learn_size(digest, stat.size, stat.media_type);
                if let Some(flight) = self.flights.get_mut(&digest) {
                    flight.vouch_for_size(stat.size);
                }
            }
            Err(failure) => self.origin_failed(op, digest, (0, 0), failure, false),
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
            self.cx.emit(Output::Notify { peer: tracker.clone(), notice: notice.into() });
        }
    }

    /// The origin did not give us what was assigned. The tracker decides what that means.
    pub(super) fn origin_failed(
        &mut self,
        op: OpId,
        digest: Digest,
        (first, count): (u32, u32),
        failure: OriginFailure,
        no_ranges: bool,
    ) {
        self.cx.counters.origin_failures += u64::from(!no_ranges);
        if failure.class == FailureClass::Auth
            && !no_ranges
            && self.asks_again_with_credential(op, digest, first, count)
        {
            return;
        }
        let own = self.config.peer.clone();
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        let OriginFailure { class, status, retry_after, challenge, detail } = failure;
        if status.is_some() {
            self.failures.origin_answered(self.cx.now, &flight.source.registry);
        }
        if class == FailureClass::Auth && !no_ranges {
            flight.turned_away = true;
            flight.private = true;
            self.turned_away_with(digest, challenge);
        }
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        let mut runs = vec![(first, count)];
        if let Some(download) = &mut flight.download {
            runs.extend(download.drop_runs());
        }
        let cooldown = retry_after.unwrap_or_default();
        flight.comes_back_at = flight.comes_back_at.max(self.cx.now + Outage::asked_for(cooldown));
        match flight.role.clone() {
            Role::Following(tracker) => {
                for (first, count) in runs {
                    let notice = Notice::Unassigned { digest, first, count, class, cooldown, no_ranges };
                    self.cx.emit(Output::Notify { peer: tracker.clone(), notice: notice.into() });
                }
                if class == FailureClass::Auth && !no_ranges {
                    self.turned_away_here(digest, &detail);
                }
            }
            _ => {
                // One failure, whatever it was to fetch next.
                if let Some(tracker) = self.trackers.get_mut(&digest) {
                    tracker.release(&own, &runs[1..]);
                }
                let verdict = self.verdict(&own, digest, (first, count), class, cooldown, no_ranges);
                if class == FailureClass::Auth && !no_ranges && self.challenge_waiters(digest) != Challenged::Nobody {
                    return self.track(digest);
                }
                if let Verdict::Fail(class, _) = verdict {
                    return self.fail_flight(digest, class, &detail, None);
                }
                self.track(digest);
            }
        }
    }

    /// What the origin was to send, and has not, or what was lost when it was here, has to wait: the origin has told this node to come
    /// back later. Whoever may ask it now fetches it.
    pub(super) fn give_back(&mut self, digest: Digest, (first, count): (u32, u32)) {
        let Some(flight) = self.flights.get(&digest) else { return };
        let cooldown = flight.comes_back_at - self.cx.now;
        match &flight.role {
            Role::Following(tracker) => {
                let class = FailureClass::RateLimited;
                let notice = Notice::Unassigned { digest, first, count, class, cooldown, no_ranges: false };
                self.cx.emit(Output::Notify { peer: tracker.clone(), notice: notice.into() });
            }
            _ => {
                if let Some(tracker) = self.trackers.get_mut(&digest) {
                    tracker.release(&self.config.peer, &[(first, count)]);
                    // It may have been told while it followed somebody else.
                    tracker.pause(&self.config.peer, flight.comes_back_at);
                }
                self.track(digest);
            }
        }
    }

    pub(super) fn verdict(
        &mut self,
        peer: &PeerId,
        digest: Digest,
        run: (u32, u32),
        class: FailureClass,
        cooldown: Duration,
        no_ranges: bool,
    ) -> Verdict {
        let now = self.cx.now;
        let registry = self.flights.get(&digest).map(|flight| &flight.source.registry);
        let origin_answers = registry.is_some_and(|registry| self.failures.origin_answers(now, registry));
        match self.trackers.get_mut(&digest) {
            Some(tracker) => tracker.unassigned(now, peer, run, (class, cooldown), no_ranges, origin_answers),
            None => Verdict::GoOn,
        }
    }

    pub(super) fn unassigned(
        &mut self,
        peer: &PeerId,
        digest: Digest,
        run: (u32, u32),
        class: FailureClass,
        cooldown: Duration,
        no_ranges: bool,
    ) {
        if !self.trackers.get(&digest).is_some_and(|tracker| tracker.contains(peer)) {
            return;
        }
        // That there is nothing is believed of a participant when nobody is left who could look: it may lie, or see another
        // registry under that name. Like one that is turned away, it gets no more to fetch.
        let judged = if class == FailureClass::NotFound { FailureClass::Auth } else { class };
        if let Verdict::Fail(..) = self.verdict(peer, digest, run, judged, cooldown, no_ranges) {
            if class == FailureClass::Auth
                && (self.challenge_waiters(digest) != Challenged::Nobody || self.expects_credential(digest))
            {
                return self.track(digest);
            }
            let detail = format!("{peer} was turned away by the origin");
            return match class {
                // Our own requester, without a credential, needs the origin's challenge; others have to know why.
                FailureClass::Auth if self.flights.get(&digest).is_some_and(|flight| !flight.waiters.is_empty()) => {
                    self.turned_away(digest, class, cooldown);
                }
                _ => self.fail_flight(digest, class, &detail, None),
            };
        }
        self.track(digest);
    }

    /// A new credential may open what was closed.
    pub(super) fn can_fetch_after_all(&mut self, digest: Digest) {
        let Some(flight) = self.flights.get(&digest) else { return };
        match flight.role {
            Role::Leading => {
                let (can_fetch, has_credential) = (flight.can_fetch_origin(), flight.credential.is_some());
                if let Some(tracker) = self.trackers.get_mut(&digest) {
                    tracker.set_can_fetch(&self.config.peer, can_fetch);
                    tracker.set_credential(&self.config.peer, has_credential);
                }
                self.track(digest);
            }
            Role::Following(_) => self.enrol(digest),
            Role::Undecided => {}
        }
    }
}

//! A participant's side of a swarm: enrolling with the tracker, meeting neighbours, telling them what is new.

use core::time::Duration;
use std::sync::Arc;

use super::hearing::SIZE_DELAY;
use super::recovering::recovery_interval;
use super::{Agent, ENROL_INTERVAL};
use crate::calls::{Call, Purpose};
use crate::digest::Digest;
use crate::failures::Suppression;
use crate::flight::{Flight, Role, Stage};
use crate::input::CallError;
use crate::message::{Enrol, EnrolReply, FailureClass, Have, Neighbour, Notice, Request, Response};
use crate::names::PeerId;
use crate::output::Output;
use crate::spine::{MAX_SPINE, Midstate};
use crate::swarm::download::Download;
use crate::timers::Deadline;

/// News of pieces that others have as well wait this long: whoever is told of an upload slot before hears of them with that,
/// and whoever gets the piece elsewhere need not hear of it. A thousand nodes at 1 Gbit/s are as fast with 20 to 300 ms, and
/// send a third less than with 20.
pub(super) const TELL_DELAY: Duration = Duration::from_millis(100);
/// The same after a mismatch, where everybody waits for news and nobody is asked for anything.
pub(super) const RECOVERY_TELL_DELAY: Duration = Duration::from_millis(20);
/// A piece that fewer neighbours have is told of at once: it spreads from here, twice as far with each time it is passed on,
/// and each wait on that way is a wait for everybody.
pub(super) const COMMON: usize = 3;
/// After its first enrolment a participant enrols again so soon, give or take a quarter: those who started with it have come
/// by then, and the tracker can mix them.
pub(super) const SECOND_ENROLMENT: Duration = Duration::from_millis(80);
/// Whatever happens meanwhile, a participant does not enrol with the same tracker again so soon: what one of them says when
/// asked may be what makes the other one ask.
const ENROL_PAUSE: Duration = Duration::from_millis(50);
/// With so many neighbours a participant looks for no more; those who find it are welcome.
pub(super) const ENOUGH_NEIGHBOURS: usize = 20;
/// A participant that is sent on more often than this without having enrolled anywhere is going in circles.
pub(super) const MAX_REFERRALS: u32 = 10;
/// Sent on to a tracker that is gone, a participant asks again after this long.
pub(super) const REFERRAL_PAUSE: Duration = Duration::from_millis(500);

impl Agent {
    /// Enrols with the tracker, or shows it a sign of life.
    pub(super) fn enrol(&mut self, digest: Digest) {
        self.end_cool_down(digest);
        let Some(flight) = self.flights.get(&digest) else { return };
        if flight.role == Role::Leading {
            return self.enrol_here(digest);
        }
        let Role::Following(tracker) = &flight.role else { return };
        if let Some((with, at)) = &flight.enrolled
            && with == tracker
            && self.cx.now < *at + ENROL_PAUSE
        {
            return self.cx.timers.set_by(Deadline::Enrol(digest), *at + ENROL_PAUSE);
        }
        if !mutant!("enrolment-never-renewed") {
            let interval = if flight.is_recovering() { recovery_interval(flight.size) } else { ENROL_INTERVAL };
            self.cx.wake(Deadline::Enrol(digest), interval);
        }
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
            has_credential: flight.credential.is_some(),
            fetching: self.origin_slots.runs_of(self.cx.now, flight),
        };
        let tracker = tracker.clone();
        let call = Call { peer: tracker.clone(), digest, purpose: Purpose::Enrol, generation: flight.generation };
        let timeout = self.config.call_timeout;
        self.calls.start(&mut self.cx, call, Request::Enrol(enrol), timeout);
        if let Some(flight) = self.flights.get_mut(&digest) {
            flight.enrolled = Some((tracker, self.cx.now));
            flight.asks_for_size = false;
        }
    }

    /// A leader is a participant of its own swarm.
    fn enrol_here(&mut self, digest: Digest) {
        self.cx.wake(Deadline::Enrol(digest), ENROL_INTERVAL);
        let Some(tracker) = self.trackers.get_mut(&digest) else { return };
        for Neighbour { peer, addresses, zone } in tracker.neighbours(&mut self.cx, &self.config.peer) {
            self.learn(&peer, &addresses);
            self.meet(digest, &peer, zone);
        }
        // As a tracker's answer does: whoever has it may have said so when it did not count.
        if !mutant!("leader-does-not-look-again") {
            self.fill_from_peers(digest);
        }
    }

    pub(super) fn enrol_answered(&mut self, call: &Call, result: Result<Response, CallError>) {
        let digest = call.digest;
        let tracker = &call.peer;
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        if flight.is_alone() {
            // It was enrolled after it had left.
            let notice = Notice::Leave { digest };
            return self.cx.emit(Output::Notify { peer: tracker.clone(), notice: notice.into() });
        }
        if !flight.follows(tracker) || matches!(flight.stage, Stage::Committing) {
            return;
        }
        match result {
            Ok(Response::Enrol(EnrolReply::Enrolled { size, neighbours, spine, private, quiet })) => {
                flight.referrals = 0;
                flight.private |= private;
                if !core::mem::replace(&mut flight.introduced, true) {
                    let soon = self.cx.jitter(SECOND_ENROLMENT);
                    self.cx.wake_by(Deadline::Enrol(digest), soon);
                }
                if size.is_none() && flight.asks_for_size {
                    // Heard of while this answer was on its way.
                    self.cx.wake_by(Deadline::Enrol(digest), SIZE_DELAY);
                }
                if let Some(size) = size {
                    self.learn_size(digest, size, None);
                }
                if let Some(flight) = self.flights.get_mut(&digest) {
                    flight.tracker_tells(self.cx.now, spine.len(), quiet);
                }
                self.hear_spine(digest, tracker, &spine, false);
                self.tracker_answered_waiting(digest, tracker, &spine);
                for Neighbour { peer, addresses, zone } in neighbours {
                    let enough = |flight: &Flight| flight.neighbours.len() >= ENOUGH_NEIGHBOURS;
                    if self.flights.get(&digest).is_some_and(|flight| enough(flight)) {
                        break;
                    }
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
                let tracker = tracker.clone();
                self.told_of_failure(digest, failure, Some(tracker));
            }
            _ if mutant!("dead-tracker-kept") => {}
            _ => self.tracker_lost(digest, tracker),
        }
    }

    /// Makes `peer` a neighbour for `digest`, and says what we have.
    pub(super) fn meet(&mut self, digest: Digest, peer: &PeerId, zone: Option<Arc<str>>) {
        let usable = !self.members.is_own(peer) && self.failures.may_ask(self.cx.now, digest, peer);
        // Whoever found us by itself has not said where it is.
        let zone = zone.or_else(|| self.members.get(peer)?.zone.clone());
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        if usable && flight.neighbours.add(peer, zone, self.config.zone.as_ref()) {
            self.greet(digest, peer);
        }
    }

    pub(super) fn greet(&mut self, digest: Digest, peer: &PeerId) {
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        let pieces = Have::Exactly(flight.pieces_bytes());
        let gained = flight.download.as_ref().map_or(0, Download::gained);
        let Some(neighbour) = flight.neighbours.get_mut(peer) else { return };
        if !core::mem::replace(&mut neighbour.greeted, true) {
            neighbour.told = gained;
            let spine = flight.download.as_ref().map(|download| download.spine(MAX_SPINE)).unwrap_or_default();
            let (size, private) = (flight.size, flight.is_private());
            let notice = Notice::Have { digest, size, pieces, sums: Vec::new(), spine, private };
            self.cx.emit(Output::Notify { peer: peer.clone(), notice: notice.into() });
        }
    }

    pub(super) fn heard_has_all(&mut self, digest: Digest, peer: &PeerId) {
        if let Some(flight) = self.flights.get_mut(&digest) {
            flight.neighbours.heard(peer, &Have::All);
        }
    }

    /// Takes in midstates that somebody has told; `is_whole`: somebody who says that it has the whole blob.
    pub(super) fn hear_spine(&mut self, digest: Digest, claimant: &PeerId, spine: &[(u32, Midstate)], is_whole: bool) {
        // What a convict claimed makes room for what others claim, not for more of the same.
        if self.failures.suppressed(self.cx.now, digest, claimant) == Some(Suppression::Convicted) {
            return;
        }
        let download = self.flights.get_mut(&digest).and_then(|flight| flight.download.as_mut());
        if let Some(download) = download.filter(|download| download.takes_claims(is_whole, spine)) {
            if is_whole && download.compare_whole(claimant, spine) {
                self.failures.pardon(digest);
            }
            for (piece, state) in spine.iter().take(MAX_SPINE) {
                download.claim(*piece, *state, claimant);
            }
            if download.waits_since().is_some() {
                // What is here can be checked now.
                self.after_piece(digest);
            }
        }
    }

    /// Tells the neighbours what is new to them, and the tracker what came from the origin.
    pub(super) fn tell(&mut self, digest: Digest) {
        self.cx.timers.clear(Deadline::Tell(digest));
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        let (size, private) = (flight.size, flight.is_private());
        let Some(download) = &mut flight.download else { return };
        let mut tracker_news = core::mem::take(&mut download.tracker_news);
        let Some(download) = &flight.download else { return };
        // What was lost before it was told of is not here, or came twice.
        tracker_news.retain(|piece| download.have().contains(*piece));
        tracker_news.sort_unstable();
        tracker_news.dedup();
        let notice = |pieces: Vec<u32>| {
            let (sums, spine) = (download.sums_of(&pieces), download.news_spine(&pieces));
            Arc::new(Notice::Have { digest, size, pieces: Have::Also(pieces), sums, spine, private })
        };
        let tracker = if let Role::Following(tracker) = &flight.role { Some(tracker) } else { None };
        let mut tracker_knows = false;
        // To most of them the same is new, and they can share one notice.
        let mut last: Option<(Vec<u32>, Arc<Notice>)> = None;
        for (peer, neighbour) in flight.neighbours.iter_mut() {
            let lacking = neighbour.not_told(download);
            if lacking.is_empty() {
                continue;
            }
            let (pieces, notice) = match &mut last {
                Some(last) if last.0 == lacking => last,
                last => last.insert((lacking.clone(), notice(lacking))),
            };
            tracker_knows |= tracker == Some(peer) && tracker_news.iter().all(|piece| pieces.contains(piece));
            self.cx.emit(Output::Notify { peer: peer.clone(), notice: notice.clone() });
        }
        // The tracker hears the rest with the next sign of life; what was assigned it has to know at once.
        if let Some(tracker) = tracker
            && !tracker_knows
            && !download.sums_of(&tracker_news).is_empty()
        {
            self.cx.emit(Output::Notify { peer: tracker.clone(), notice: notice(tracker_news) });
        }
    }
}

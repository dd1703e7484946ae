//! A participant's side of a swarm: enrolling with the tracker, meeting neighbours, telling them what is new.

use core::time::Duration;
use std::sync::Arc;

use super::hearing::MAX_SPINE;
use super::{Agent, ENROL_INTERVAL};
use crate::calls::{Call, Purpose};
use crate::digest::Digest;
use crate::flight::{Role, Stage};
use crate::input::CallError;
use crate::message::{Enrol, EnrolReply, FailureClass, Have, Neighbour, Notice, Request, Response};
use crate::names::PeerId;
use crate::output::Output;
use crate::spine::Midstate;
use crate::timers::Deadline;

/// News for neighbours wait this long for company, so that a fast swarm does not drown in messages.
pub(super) const TELL_DELAY: Duration = Duration::from_millis(20);
/// A participant that is sent on more often than this without having enrolled anywhere is going in circles.
pub(super) const MAX_REFERRALS: u32 = 10;
/// Sent on to a tracker that is gone, a participant asks again after this long.
pub(super) const REFERRAL_PAUSE: Duration = Duration::from_millis(500);

impl Agent {
    /// Enrols with the tracker, or shows it a sign of life.
    pub(super) fn enrol(&mut self, digest: Digest) {
        let Some(flight) = self.flights.get(&digest) else { return };
        let Role::Following(tracker) = &flight.role else { return };
        if !mutant!("enrolment-never-renewed") {
            self.cx.wake(Deadline::Enrol(digest), ENROL_INTERVAL);
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
        };
        let call = Call { peer: tracker.clone(), digest, purpose: Purpose::Enrol, generation: flight.generation };
        let timeout = self.config.call_timeout;
        self.calls.start(&mut self.cx, call, Request::Enrol(enrol), timeout);
    }

    pub(super) fn enrol_answered(&mut self, call: &Call, result: Result<Response, CallError>) {
        let digest = call.digest;
        let tracker = &call.peer;
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        if !flight.follows(tracker) || matches!(flight.stage, Stage::Committing) {
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
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        if usable && flight.neighbours.add(peer, zone) {
            self.greet(digest, peer);
        }
    }

    pub(super) fn greet(&mut self, digest: Digest, peer: &PeerId) {
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        let pieces = Have::Exactly(flight.pieces_bytes());
        let Some(neighbour) = flight.neighbours.get_mut(peer) else { return };
        if !core::mem::replace(&mut neighbour.greeted, true) {
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

    pub(super) fn hear_spine(&mut self, digest: Digest, claimant: &PeerId, spine: &[(u32, Midstate)]) {
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
            let (size, pieces, sums) = (flight.size, Have::Also(news), sums.clone());
            let notice = Arc::new(Notice::Have { digest, size, pieces, sums, spine, private });
            for (peer, neighbour) in flight.neighbours.iter() {
                if !neighbour.complete && neighbour.greeted {
                    self.cx.emit(Output::Notify { peer: peer.clone(), notice: notice.clone() });
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
            self.cx.emit(Output::Notify { peer: tracker.clone(), notice: notice.into() });
        }
    }
}

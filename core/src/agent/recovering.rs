//! What was vouched for is not the blob: how it is made good without everybody fetching everything again.
//!
//! The leader fetches all of it from the origin by its own hand. Whoever follows it waits: it keeps what it has, and checks it by
//! the midstates of the first one that has the whole, so that it fetches only what is wrong, from whoever has it right. Where
//! that one does not come, those fetch by hand that are the best among their neighbours, and in the end everybody does.

use core::time::Duration;
use std::sync::Arc;

use super::Agent;
use crate::digest::Digest;
use crate::failures::{LOOK_AGAIN, Remedy};
use crate::flight::{Flight, Role, Stage};
use crate::message::{FailureClass, Have, Notice};
use crate::names::PeerId;
use crate::output::{Explanation, Output};
use crate::resolve::stall_window;
use crate::spine::Midstate;
use crate::swarm::download::Download;
use crate::swarm::tracker::Introduction;
use crate::timers::Deadline;

/// Whoever waits for somebody who has the whole asks its tracker this often, and less often the more there is to wait for: each
/// answer tells midstates, and there may be a thousand who ask.
const RECOVERY_INTERVAL: Duration = Duration::from_millis(500);
/// A second more for so many bytes.
const RECOVERY_RATE: u64 = 1_000_000_000;
/// It waits so many halves of that without getting any nearer.
const RECOVERY_PATIENCE: u32 = 5;
/// If the registry is slow, whoever fetches everything again is slow as well: it has this many times as long as it took until
/// the mismatch was found, and for each step of the way this many times what a piece took until then.
const RECOVERY_SLOWER: u32 = 4;
const RECOVERY_STEP: u32 = 32;
/// But not longer than so many times the time after which a swarm counts as stalled: before this began it may have been queued.
const RECOVERY_STALLS: u32 = 4;
/// Whoever has waited long enough looks this often whether everything has come that was on its way.
const CLOSING_INTERVAL: Duration = Duration::from_millis(50);
/// With so many better ones among its neighbours, or more, it waits as long as anybody.
const MAX_TURNS: u32 = 4;

/// How often whoever waits after a mismatch looks how far its tracker is.
pub(super) fn recovery_interval(size: Option<u64>) -> Duration {
    RECOVERY_INTERVAL + Duration::from_millis(size.unwrap_or(0) / (RECOVERY_RATE / 1000))
}

impl Agent {
    /// All pieces are here and they are not the blob.
    pub(super) fn mismatch(&mut self, digest: Digest) {
        let Some(download) = self.flights.get(&digest).and_then(|flight| flight.download.as_ref()) else { return };
        let all_is_of_now = !download.has_of_others() && !download.has_of_before();
        if all_is_of_now || download.is_by_hand() && mutant!("what-was-fetched-before-is-right") {
            return self.origin_is_wrong(digest);
        }
        self.doubt_everything(digest);
    }

    /// What others delivered counts for nothing until it is known what of it is right. Whoever reads the blob is cut short.
    /// Also before all pieces are here, when somebody who has the whole says that what is here is not part of it, and nothing
    /// fits on to it any more.
    pub(super) fn doubt_everything(&mut self, digest: Digest) {
        let now = self.cx.now;
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        let Some(download) = &mut flight.download else { return };
        let waited = download.is_recovering();
        // Also what was found to fit while it waited, and told of.
        let had_some = !download.have().is_empty();
        download.distrust(now);
        self.cx.counters.blobs_mismatched += 1;
        self.cx.explain(Explanation::Mismatched { digest });
        // Those who read have read what may be wrong. Whoever was told nothing yet waits for the rest, and so does whoever
        // comes back to ask for it.
        let waiters = core::mem::take(&mut flight.waiters);
        let (cut, waiting): (Vec<_>, Vec<_>) = waiters.into_iter().partition(|id| self.is_being_served(*id));
        if let Some(flight) = self.flights.get_mut(&digest) {
            flight.waiters.extend(waiting);
        }
        self.dismiss_waiters(cut, FailureClass::Transient, None);
        if let Some(flight) = self.flights.get_mut(&digest) {
            // Whoever comes now reads nothing of it. What an earlier flight released is in the same file.
            flight.withdrawn = flight.withdrawn.max(core::mem::take(&mut flight.released));
            if !mutant!("wrong-prefix-not-withdrawn") {
                self.cx.emit(Output::Release { digest, bytes: 0 });
            }
        }
        self.promote();
        // Who sent what does not fit a lie may be the one who is right.
        self.failures.pardon(digest);
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        if (waited || flight.role == Role::Leading) && !mutant!("nobody-fetches-by-hand") {
            if had_some {
                self.tell_what_is_left(digest);
            }
            return self.fetch_by_hand(digest);
        }
        flight.enrolled = None;
        let undecided = flight.role == Role::Undecided;
        self.tell_what_is_left(digest);
        self.cx.wake(Deadline::NoProgress(digest), RECOVERY_INTERVAL);
        if undecided {
            // The cascade says whom to follow, or that this one has to do it.
            return;
        }
        // An answer to what it said before it knew is of no use.
        self.calls.cancel(&mut self.cx, |call| call.digest == digest);
        self.enrol(digest);
        self.after_piece(digest);
    }

    fn origin_is_wrong(&mut self, digest: Digest) {
        // Who asks for the rest of what was cut just now goes on to the next host.
        self.failures.send_on(self.cx.now, digest, LOOK_AGAIN);
        self.cx.counters.blobs_mismatched += 1;
        self.cx.emit(Output::Discard { digest });
        if let Some(flight) = self.flights.get_mut(&digest) {
            flight.download = None;
        }
        let detail = "the origin's bytes do not have this digest";
        self.fail_flight(digest, FailureClass::Transient, detail, None);
        self.failures.leave_to(&digest, Remedy::Peers);
    }

    /// Neighbours and tracker must not think any more that it has what counts for nothing now. Who has it whole answers.
    pub(super) fn tell_what_is_left(&mut self, digest: Digest) {
        let Some(flight) = self.flights.get(&digest) else { return };
        let mut peers: Vec<_> = flight.neighbours.iter().map(|(peer, _)| peer.clone()).collect();
        peers.extend(flight.estranged.iter().filter(|peer| !flight.neighbours.contains(peer)).cloned());
        if let Role::Following(tracker) = &flight.role {
            // As a tracker it counts what participants have, and only ever more of it: this one begins anew.
            self.cx.emit(Output::Notify { peer: tracker.clone(), notice: Notice::Leave { digest }.into() });
            if !peers.contains(tracker) {
                peers.push(tracker.clone());
            }
        }
        if !mutant!("mismatch-kept-secret") {
            self.tell_exactly(digest, peers);
        }
    }

    /// Tells what is here, whatever was told before.
    fn tell_exactly(&mut self, digest: Digest, peers: Vec<PeerId>) {
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        let (size, private) = (flight.size, flight.is_private());
        let (sums, spine, pieces) = (Vec::new(), Vec::new(), Have::Exactly(flight.pieces_bytes()));
        let notice = Arc::new(Notice::Have { digest, size, pieces, sums, spine, private });
        let gained = flight.download.as_ref().map_or(0, Download::gained);
        for peer in peers {
            if let Some(neighbour) = flight.neighbours.get_mut(&peer) {
                neighbour.told = gained;
            }
            self.cx.emit(Output::Notify { peer, notice: notice.clone() });
        }
    }

    /// A tracker has answered somebody who waits after a mismatch.
    pub(super) fn tracker_answered_waiting(&mut self, digest: Digest, tracker: &PeerId, spine: &[(u32, Midstate)]) {
        let now = self.cx.now;
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        let Some(download) = flight.download.as_mut().filter(|download| download.waits_since().is_some()) else {
            return;
        };
        download.tracker_moves(now, spine.len());
        // What was on its way when the mismatch was found may have come after the news of it.
        self.tell_exactly(digest, vec![tracker.clone()]);
        // It says when it has the whole to those whom it knows as neighbours.
        self.meet(digest, tracker, None);
    }

    /// Whether whoever waits after a mismatch has waited long enough; else when to look again.
    pub(super) fn waits_too_long(&self, flight: &Flight) -> Option<Result<(), Duration>> {
        let now = self.cx.now;
        let download = flight.download.as_ref()?;
        let (since, moved) = download.waits_since()?;
        if download.is_closing() {
            return Some(Ok(()));
        }
        let took = since - flight.started;
        let step = took * RECOVERY_STEP / download.geometry().pieces();
        let stall = stall_window(flight.source.kind, flight.size);
        let longest = stall.max(took * RECOVERY_SLOWER).min(stall * RECOVERY_STALLS);
        // Whatever the number of pieces: those who rank differently do not all lose patience at the same time.
        let each = (recovery_interval(flight.size) * RECOVERY_PATIENCE / 2).max(step).min(longest / (1 + MAX_TURNS));
        let ranked = self.members.top(&flight.digest, usize::MAX);
        let before = ranked.iter().take_while(|peer| !self.members.is_own(peer));
        let better = before.filter(|peer| flight.neighbours.contains(peer) && !flight.follows(peer)).count() as u32;
        let patience = (each * (1 + better.min(MAX_TURNS))).min(longest);
        let until = (moved + patience).min(since + longest);
        Some(if now >= until { Ok(()) } else { Err(until - now) })
    }

    /// Nobody else's pieces count: this node fetches everything from the origin. It answers whoever follows it, and gives out
    /// nothing.
    pub(super) fn fetch_by_hand(&mut self, digest: Digest) {
        let now = self.cx.now;
        let own = self.config.peer.clone();
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        if flight.cools_down_until.is_some_and(|until| until > now) {
            // Somebody else has to.
            let detail = "what came does not match, and the origin is not asked in a cool-down";
            return self.fail_flight(digest, FailureClass::Transient, detail, None);
        }
        let Some(download) = &mut flight.download else { return };
        if download.piece_fetches() > 0 {
            // What is written now must not be written over what the origin sends.
            download.close();
            return self.cx.wake(Deadline::NoProgress(digest), CLOSING_INTERVAL);
        }
        download.rely_on_origin();
        let role = core::mem::replace(&mut flight.role, Role::Leading);
        flight.stage = Stage::Moving;
        // From here on it is given the time of a flight that has just begun.
        flight.last_byte = now;
        if let Role::Following(tracker) = role {
            // Its tracker must not think any more that it has what it has thrown away.
            self.cx.emit(Output::Notify { peer: tracker, notice: Notice::Leave { digest }.into() });
        }
        self.end_tracking(digest);
        // Whatever it was about to find out about others changes nothing now. An enrolment that overtakes the news that it
        // leaves is answered, and then it says so again.
        self.calls.cancel(&mut self.cx, |call| call.digest == digest && call.purpose != crate::calls::Purpose::Enrol);
        self.cx.timers.clear(Deadline::Probe(digest));
        self.cx.timers.clear(Deadline::Enrol(digest));
        self.cx.explain(Explanation::Leading { digest });
        if let Some(flight) = self.flights.get(&digest) {
            let stall = stall_window(flight.source.kind, flight.size);
            self.cx.wake(Deadline::NoProgress(digest), stall);
        }
        let tracker = self.trackers.entry(digest).or_default();
        let flight = self.flights.get(&digest);
        if let Some(download) = flight.and_then(|flight| flight.download.as_ref()) {
            tracker.learn(download.geometry(), false);
            let pieces = download.have().to_bytes();
            let introduction = Introduction { pieces, can_fetch: true, ..Introduction::default() };
            tracker.enrol(now, &own, introduction);
        }
        self.track(digest);
        self.after_piece(digest);
    }

    pub(super) fn convict_culprits(&mut self, digest: Digest) {
        let download = self.flights.get_mut(&digest).and_then(|flight| flight.download.as_mut());
        for (peer, is_author) in download.map(Download::culprits).unwrap_or_default() {
            if is_author {
                self.convict(digest, &peer, "delivered bytes that the origin does not send");
            } else if self.failures.may_ask(self.cx.now, digest, &peer) {
                self.failures.spoiled(self.cx.now, digest, &peer);
            }
        }
    }
}

//! What peers tell without being asked, and the spines that vouch for what they and we have.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::Agent;
use super::participating::TELL_DELAY;
use crate::digest::Digest;
use crate::flight::Role;
use crate::message::{Enrol, Have, Notice};
use crate::names::{PeerId, StreamId};
use crate::output::Output;
use crate::spine::{MAX_SPINE, Midstate};
use crate::swarm::neighbours::Neighbour;
use crate::timers::Deadline;

/// Most who wait for one spine to be read; others ask again.
const MAX_SPINE_WAITERS: usize = 256;

/// Who hears from a neighbour that the size is known asks the tracker for it after so long, give or take a quarter: the tracker
/// hears of it at the same time, and everybody asks.
pub(super) const SIZE_DELAY: Duration = Duration::from_millis(10);

/// Most neighbours for whose word that is done: somebody may go on saying that it has come and gone.
const MAX_SIZE_HINTS: u32 = 32;

/// Somebody who is answered when a spine has been read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum SpineWaiter {
    Greeting(PeerId),
    Enrolment(StreamId, Box<Enrol>),
}

impl Agent {
    pub(super) fn noticed(&mut self, peer: &PeerId, notice: &Notice) {
        match *notice {
            Notice::Have { digest, size, ref pieces, sums: _, ref spine, private } => {
                if let Some(flight) = self.flights.get_mut(&digest) {
                    flight.private |= private;
                }
                self.heard_have(peer, digest, size, pieces, spine)
            }
            Notice::Assign { digest, size, first, count, ref source, deadline } => {
                self.assigned(peer, digest, size, (first, count), source, deadline);
            }
            Notice::Unassigned { digest, first, count, class, cooldown, no_ranges } => {
                self.unassigned(peer, digest, (first, count), class, cooldown, no_ranges);
            }
            Notice::Starving { digest, piece } => {
                self.pass_on_what_waits(digest, peer, piece);
                let now = self.cx.now;
                if let Some(tracker) = self.trackers.get_mut(&digest) {
                    tracker.starving(now, peer, piece);
                    self.track(digest);
                }
            }
            Notice::Unchoke { digest, ref pieces, ref spine } => self.unchoked(peer, digest, pieces, spine),
            Notice::Leave { digest } => self.left(peer, digest),
        }
    }

    pub(super) fn heard_have(
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
            && self.flights.get(&digest).is_some_and(|flight| flight.size.is_none())
        {
            if !self.may_name_size(&digest, peer) {
                return self.remember_early(digest, peer, size, pieces);
            }
            self.learn_size(digest, size, None);
        }
        if let Some(tracker) = self.trackers.get_mut(&digest) {
            tracked = tracker.heard(now, peer, pieces);
        }
        if let Some(flight) = self.flights.get_mut(&digest) {
            if size.is_some() && flight.size != size {
                return;
            }
            // Whoever was disconnected and comes back has to be greeted again.
            let is_back = |them: &Neighbour| matches!(pieces, Have::Exactly(_)) && !them.greeted;
            if flight.neighbours.get(peer).is_none_or(is_back) {
                self.meet(digest, peer, None);
            }
            self.hear_spine(digest, peer, spine, *pieces == Have::All);
            // Whoever is busy, or sends us something already, is not asked for its news now.
            if let Some(flight) = self.flights.get_mut(&digest)
                && flight.neighbours.heard(peer, pieces)
                && flight.neighbours.is_free(peer, flight.asking(&self.config, now))
            {
                self.fill(digest);
            }
            self.tell_who_lost(digest, peer);
        } else if let Some(blob) = self.cache.get(&digest) {
            // Somebody exchanges pieces of what we have whole.
            let size = blob.size;
            if matches!(pieces, Have::Exactly(_)) {
                self.offer(digest, peer, size);
            }
        } else if !tracked && matches!(pieces, Have::Exactly(_)) {
            self.cx.emit(Output::Notify { peer: peer.clone(), notice: Notice::Leave { digest }.into() });
        }
        if tracked {
            self.track(digest);
        }
    }

    /// A neighbour that has lost what it had hears of all that is here, with the next news.
    fn tell_who_lost(&mut self, digest: Digest, peer: &PeerId) {
        let Some(flight) = self.flights.get(&digest) else { return };
        if let (Some(them), Some(download)) = (flight.neighbours.get(peer), &flight.download)
            && them.is_owed_everything(download)
        {
            self.cx.wake_by(Deadline::Tell(digest), TELL_DELAY);
        }
    }

    /// Whose word on a size is taken: the tracker's, which has it from the origin, and that of a participant which was sent
    /// there to ask. Anybody else's would cut everybody's files for pieces that the blob does not have.
    pub(super) fn may_name_size(&self, digest: &Digest, peer: &PeerId) -> bool {
        self.flights.get(digest).is_some_and(|flight| flight.follows(peer))
            || self.trackers.get(digest).is_some_and(|tracker| tracker.has_sent_for_size(peer))
    }

    /// A neighbour says what it has of a blob whose size we do not know: it counts if the size turns out to be that.
    fn remember_early(&mut self, digest: Digest, peer: &PeerId, size: u64, pieces: &Have) {
        self.meet(digest, peer, None);
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        let is_first = flight.neighbours.heard_early(peer, size, pieces);
        let asks = is_first && flight.size_hints < MAX_SIZE_HINTS && matches!(flight.role, Role::Following(_));
        if asks && !mutant!("size-that-is-known-not-asked-for") {
            flight.size_hints += 1;
            flight.asks_for_size = true;
            // The tracker will know it as well. It says so to whoever enrols, and the next sign of life may be seconds away.
            let soon = self.cx.jitter(SIZE_DELAY);
            self.cx.wake_by(Deadline::Enrol(digest), soon);
        }
    }

    pub(super) fn spine_of(&self, digest: &Digest) -> Vec<(u32, Midstate)> {
        let states = self.spines.get(digest).map(Vec::as_slice).unwrap_or_default();
        states.iter().take(MAX_SPINE).enumerate().map(|(piece, state)| (piece as u32, *state)).collect()
    }

    /// Tells somebody that we have the whole blob, with the spine to check it by.
    pub(super) fn offer(&mut self, digest: Digest, peer: &PeerId, size: u64) {
        if self.spine_is_coming(digest, size) {
            return self.await_spine(digest, SpineWaiter::Greeting(peer.clone()));
        }
        let spine = self.spine_of(&digest);
        let private = self.cache.get(&digest).is_some_and(|blob| blob.facts.private);
        let notice = Notice::Have { digest, size: Some(size), pieces: Have::All, sums: Vec::new(), spine, private };
        self.cx.emit(Output::Notify { peer: peer.clone(), notice: notice.into() });
    }

    /// Whether the spine of a blob that is here has to be read first. A blob of one piece needs none.
    pub(super) fn spine_is_coming(&self, digest: Digest, size: u64) -> bool {
        crate::piece::Geometry::of_blob(size).pieces() > 1 && !self.spines.contains_key(&digest)
    }

    pub(super) fn await_spine(&mut self, digest: Digest, waiter: SpineWaiter) {
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
        let waiting = self.spine_waiters.remove(&digest).unwrap_or_default();
        for waiter in waiting.into_iter().skip(usize::from(mutant!("spine-waiter-forgotten"))) {
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

    pub(super) fn left(&mut self, peer: &PeerId, digest: Digest) {
        if let Some(tracker) = self.trackers.get_mut(&digest)
            && tracker.contains(peer)
        {
            tracker.gone(peer);
            self.track(digest);
        }
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        flight.neighbours.remove(peer);
        flight.estranged.remove(peer);
        if flight.follows(peer) {
            // It leads no more: it will say where to go, or why not.
            self.enrol(digest);
        }
    }

    pub(super) fn peer_disconnected(&mut self, peer: &PeerId) {
        self.choked.gone(peer);
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
}

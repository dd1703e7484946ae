//! What to make of what arrived from the origin and from peers, and of what did not.

use core::time::Duration;
use std::sync::Arc;

use super::choking::BUSY_RETRY;
use super::fetching::{PIECE_PATIENCE, slowest};
use super::origin_slots::ORIGIN_PATIENCE;
use super::participating::{COMMON, RECOVERY_TELL_DELAY, TELL_DELAY};
use super::{Agent, Op};
use crate::digest::Digest;
use crate::failures::Remedy;
use crate::flight::{Flight, Stage};
use crate::input::{BlobFacts, Hashed, OriginFailure, StoreError, TransferEvent, TransferFailure};
use crate::message::{FailureClass, PieceRefusal, PieceSum};
use crate::names::{Kind, OpId, PeerId};
use crate::output::Output;
use crate::piece::{Geometry, MAX_BLOB_BYTES};
use crate::swarm::download::{Download, Fetch, Verdict};
use crate::swarm::way::lately;
use crate::timers::Deadline;

/// A neighbour that failed is left alone for this long, times the failures in a row.
pub(super) const NEIGHBOUR_PAUSE: Duration = Duration::from_millis(500);

impl Agent {
    /// The size of a flight's blob is known: pieces have numbers, and bytes have a place.
    pub(super) fn learn_size(&mut self, digest: Digest, size: u64, media_type: Option<Arc<str>>) {
        self.learn_size_of_what_comes(digest, size, media_type, None);
    }

    /// As [`Agent::learn_size`]. `whole`: the fetch that brings all of it, and has brought the size.
    fn learn_size_of_what_comes(
        &mut self,
        digest: Digest,
        size: u64,
        media_type: Option<Arc<str>>,
        whole: Option<OpId>,
    ) {
        if size > MAX_BLOB_BYTES {
            // A peer's word; what the origin says is looked at where it comes in.
            return;
        }
        let named = self.sizes.get(&digest).is_some_and(|named| named.size != size);
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        if flight.media_type.is_none() {
            flight.media_type = media_type;
        }
        // What a verified manifest says of its children stands against what anybody claims.
        if flight.size.is_some() || named {
            return;
        }
        flight.size = Some(size);
        flight.size_vouched = self.sizes.contains_key(&digest);
        let geometry = Geometry::of_blob(size);
        let was_begun = self.partials.contains_key(&digest);
        let mut download = match self.partials.remove(&digest) {
            Some(partial) if partial.size == size => Download::resume(&partial),
            Some(_) => {
                // The staging file is cut for another size.
                self.cx.emit(Output::Discard { digest });
                Download::new(digest, geometry)
            }
            None => Download::new(digest, geometry),
        };
        flight.neighbours.learn(size, geometry.pieces());
        let pieces = download.have().clone();
        if let Some(op) = whole {
            // Before anything else is begun, which has to know of it.
            download.fetches_whole_by(op);
        }
        if download.gained() > 0 {
            // Those who were greeted before know of nothing that was on disk.
            self.cx.wake_by(Deadline::Tell(digest), TELL_DELAY);
        }
        flight.download = Some(download);
        let facts = facts(flight);
        self.cx.emit(Output::Stage { digest, size, facts });
        if was_begun && !mutant!("earlier-release-stands") {
            // What an earlier flight released counts no more: a piece of it that cannot be read any more is fetched again, from
            // whoever, and read by those who come now before anybody knows what it is.
            self.cx.emit(Output::Release { digest, bytes: 0 });
        }
        if let Some(tracker) = self.trackers.get_mut(&digest) {
            tracker.learn(geometry, flight.source.kind == crate::names::Kind::Manifest);
            tracker.heard(self.cx.now, &self.config.peer, &crate::message::Have::Exactly(pieces.to_bytes()));
        }
        self.tell_size(digest);
        self.after_piece(digest);
        self.answer_waiters(digest);
        self.track(digest);
        self.fill(digest);
    }

    pub(super) fn transfer_event(&mut self, op: OpId, event: TransferEvent) {
        let digest = match self.ops.get(&op) {
            Some(Op::Fetch(digest) | Op::FetchWhole(digest)) => *digest,
            _ => return,
        };
        match event {
            TransferEvent::Progress { bytes } => self.bytes_arrived(digest, op, bytes),
            TransferEvent::Headers { size, media_type } => self.whole_has_size(digest, op, size, media_type),
            TransferEvent::Piece { piece, bytes, hashed, claim } => {
                self.bytes_arrived(digest, op, bytes);
                self.piece_arrived(digest, op, piece, hashed, claim);
            }
            TransferEvent::Done => self.transfer_done(digest, op),
            TransferEvent::Failed(failure) => self.transfer_failed(digest, op, failure),
            TransferEvent::Answered { after } => {
                if let Some(download) = self.flights.get_mut(&digest).and_then(|flight| flight.download.as_mut()) {
                    download.answered(op, after);
                }
            }
        }
    }

    fn bytes_arrived(&mut self, digest: Digest, op: OpId, bytes: u64) {
        let now = self.cx.now;
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        let from_peer =
            flight.download.as_ref().is_some_and(|download| matches!(download.fetch(op), Some(Fetch::Piece { .. })));
        if bytes > 0 {
            flight.last_byte = now;
        }
        if from_peer {
            flight.peer_bytes += bytes;
            self.cx.counters.peer_bytes += bytes;
        } else {
            let of_blob = (flight.source.kind != Kind::Manifest).then_some(&flight.source.registry);
            if let Some(way) = self.origin_slots.brought(now, op, of_blob, bytes)
                && let Some(tracker) = self.trackers.get_mut(&digest)
            {
                // Before the first run is judged.
                tracker.set_way(way);
            }
            flight.origin_bytes += bytes;
            self.failures.origin_answered(now, &flight.source.registry);
            if bytes > 0 {
                self.failures.bytes_came(now, &flight.source.registry);
            }
            flight.private |= flight.credential.is_some();
            self.cx.counters.origin_bytes += bytes;
        }
        if mutant!("transfer-deadline-not-renewed") {
            return;
        }
        let fetch = flight.download.as_ref().and_then(|download| Some((download.fetch(op)?, download.geometry())));
        if let Some((Fetch::Piece { piece, since, .. }, geometry)) = fetch {
            let longest = PIECE_PATIENCE + slowest(geometry.len(*piece));
            self.cx.timers.set(Deadline::Transfer(op), (now + PIECE_PATIENCE).min(*since + longest));
        } else {
            self.cx.wake(Deadline::Transfer(op), ORIGIN_PATIENCE);
        }
    }

    /// The headers of a whole fetch: from here on it is like any other fetch of all pieces.
    fn whole_has_size(&mut self, digest: Digest, op: OpId, size: u64, media_type: Option<Arc<str>>) {
        if !matches!(self.ops.get(&op), Some(Op::FetchWhole(_))) {
            return;
        }
        self.ops.insert(op, Op::Fetch(digest));
        self.learn_size_of_what_comes(digest, size, media_type, Some(op));
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        flight.vouch_for_size(size);
        let Some(download) = flight.download.as_mut().filter(|_| flight.size == Some(size)) else {
            // Somebody claimed another size, and pieces lie by that: start over with what the origin says.
            self.cx.emit(Output::CancelTransfer { op });
            self.finish_op(op);
            if let Some(flight) = self.flights.get_mut(&digest) {
                flight.download = None;
            }
            self.cx.emit(Output::Discard { digest });
            return self.fail_flight(digest, FailureClass::Transient, "peers and origin disagree about the size", None);
        };
        download.fetches_whole_by(op);
    }

    fn piece_arrived(&mut self, digest: Digest, op: OpId, piece: u32, hashed: Hashed, claim: Option<PieceSum>) {
        let own = self.config.peer.clone();
        let Some(download) = self.flights.get_mut(&digest).and_then(|flight| flight.download.as_mut()) else { return };
        let from = match download.fetch(op) {
            Some(Fetch::Piece { peer, .. }) => Some(peer.clone()),
            _ => None,
        };
        let piece_bytes = download.geometry().piece_bytes();
        match download.arrived(op, piece, hashed, claim, &own) {
            Verdict::Accepted(recorded) => {
                match &from {
                    Some(peer) => {
                        self.cx.counters.pieces_from_peers += 1;
                        self.failures.readable(digest, peer);
                        download.piece_fits(self.cx.now);
                    }
                    None => {
                        self.cx.counters.pieces_from_origin += 1;
                        self.origin_slots.arrived(self.cx.now, op, piece_bytes, self.config.max_origin_fetches);
                    }
                }
                let rivals = download.rivals(op, piece);
                if let Some(flight) = self.flights.get_mut(&digest) {
                    if from.is_none() {
                        self.pacing.went_well(self.cx.now, &flight.source.registry);
                    }
                    flight.last_piece = self.cx.now;
                    self.failures.bytes_came(self.cx.now, &flight.source.registry);
                    // The origin has answered a range of a blob of this size.
                    flight.size_vouched |= from.is_none();
                }
                self.cx.emit(Output::Record { digest, piece: recorded });
                for rival in rivals {
                    self.cx.emit(Output::CancelTransfer { op: rival });
                    self.finish_op(rival);
                    self.end_fetch(digest, rival, |neighbours, peer| neighbours.cancelled(peer));
                }
                let mut run_finished = false;
                if let Some(tracker) = self.trackers.get_mut(&digest) {
                    let before = tracker.finished_runs();
                    tracker.heard(self.cx.now, &own, &crate::message::Have::Also(vec![piece]));
                    run_finished = tracker.finished_runs() > before;
                }
                let common = |flight: &Flight| flight.neighbours.holders(piece) >= COMMON;
                match self.flights.get(&digest).filter(|flight| common(flight)) {
                    Some(flight) => {
                        let delay = if flight.is_recovering() { RECOVERY_TELL_DELAY } else { TELL_DELAY };
                        self.cx.wake_by(Deadline::Tell(digest), delay);
                    }
                    None => self.tell(digest),
                }
                self.after_piece(digest);
                if run_finished {
                    self.track(digest);
                }
            }
            Verdict::Known => {}
            Verdict::Wrong => {
                self.cx.counters.pieces_rejected += 1;
                if let Some(peer) = from {
                    self.cx.emit(Output::CancelTransfer { op });
                    self.finish_op(op);
                    self.end_fetch(digest, op, |neighbours, peer| neighbours.cancelled(peer));
                    self.wasted(digest);
                    if !mutant!("culprit-not-blamed") {
                        self.convict(digest, &peer, "sent a piece that does not match its sum");
                    }
                    self.share(digest);
                }
            }
            Verdict::Unvouched => {
                // Its word may be on the way.
                let now = self.cx.now;
                self.end_fetch(digest, op, |neighbours, peer| {
                    neighbours.failed(peer, now, NEIGHBOUR_PAUSE);
                });
                self.cx.emit(Output::CancelTransfer { op });
                self.finish_op(op);
                self.wasted(digest);
                self.share(digest);
            }
            Verdict::Doubtful => {
                self.cx.counters.pieces_rejected += 1;
                if let (Some(peer), Some(flight)) = (from, self.flights.get_mut(&digest)) {
                    flight.neighbours.forget_piece(&peer, piece);
                }
                self.wasted(digest);
                // It may be the last one, and say something of all the others.
                self.after_piece(digest);
            }
        }
    }

    fn wasted(&mut self, digest: Digest) {
        if let Some(flight) = self.flights.get_mut(&digest) {
            flight.wasted();
        }
    }

    fn end_fetch(
        &mut self,
        digest: Digest,
        op: OpId,
        settle: impl FnOnce(&mut crate::swarm::neighbours::Neighbours, &PeerId),
    ) -> Option<Fetch> {
        let flight = self.flights.get_mut(&digest)?;
        let fetch = flight.download.as_mut()?.ended(op)?;
        if let Fetch::Piece { peer, .. } = &fetch {
            settle(&mut flight.neighbours, peer);
        }
        Some(fetch)
    }

    fn transfer_done(&mut self, digest: Digest, op: OpId) {
        self.finish_op(op);
        let fetch = self.end_fetch(digest, op, |neighbours, peer| neighbours.delivered(peer));
        if let (Some(Fetch::Piece { since, peer, way, .. }), Some(flight)) = (&fetch, self.flights.get_mut(&digest)) {
            let took = self.cx.now - *since;
            if flight.neighbours.get(peer).is_some_and(|neighbour| neighbour.zone == self.config.zone) {
                flight.last_near = self.cx.now;
            }
            flight.piece_time = lately(flight.piece_time, took);
            flight.come_from_peers = flight.come_from_peers.saturating_add(1);
            self.way_took(digest, peer, *way);
        }
        if let (Some(Fetch::Origin { start, end, .. }), Some(flight)) = (fetch, self.flights.get_mut(&digest))
            && let Some(download) = &mut flight.download
            && let Some(missing) = (start..end).find(|piece| !download.have().contains(*piece))
        {
            if flight.comes_back_at > self.cx.now && !mutant!("comes-back-for-what-was-lost") {
                self.give_back(digest, (missing, end - missing));
            } else {
                // What was not reported is still ours to fetch; what we have is passed over.
                download.enqueue(start, end - start, None, flight.neighbours.available());
            }
        }
        self.share_origin();
        self.share(digest);
    }

    pub(super) fn transfer_late(&mut self, op: OpId) {
        self.cx.emit(Output::CancelTransfer { op });
        let (Some(Op::Fetch(digest)) | Some(Op::FetchWhole(digest))) = self.ops.get(&op).cloned() else { return };
        let is_piece = self
            .flights
            .get(&digest)
            .and_then(|flight| flight.download.as_ref())
            .is_some_and(|download| matches!(download.fetch(op), Some(Fetch::Piece { .. })));
        let failure = if is_piece {
            TransferFailure::Unreachable
        } else {
            self.origin_slots.stalled(self.cx.now, op, self.config.max_origin_fetches);
            let detail = format!("no byte from the origin in {} s", ORIGIN_PATIENCE.as_secs()).into();
            let class = FailureClass::Transient;
            TransferFailure::Origin(OriginFailure {
                class,
                status: None,
                retry_after: None,
                challenge: Vec::new(),
                detail,
            })
        };
        self.transfer_failed(digest, op, failure);
    }

    fn transfer_failed(&mut self, digest: Digest, op: OpId, failure: TransferFailure) {
        if let TransferFailure::Origin(OriginFailure { class: FailureClass::RateLimited, retry_after, .. }) = &failure
            && let (Some(began), Some(flight)) = (self.origin_slots.last(op), self.flights.get(&digest))
        {
            self.pacing.refused(&mut self.cx, &flight.source.registry, began, retry_after.unwrap_or_default());
        }
        self.finish_op(op);
        let now = self.cx.now;
        if let TransferFailure::Refused(PieceRefusal::Busy(after)) = &failure
            // Whoever says the longest may stand still: what it has is better had from elsewhere, if nothing else comes.
            && self.flights.get(&digest).is_some_and(|it| *after < BUSY_RETRY.1 || self.believes_in_its_turn(it))
            && let Some(flight) = self.flights.get_mut(&digest)
        {
            flight.busy_until = flight.busy_until.max(now + *after);
        }
        let mut gone_missing = None;
        let fetch = self.end_fetch(digest, op, |neighbours, peer| match &failure {
            TransferFailure::Refused(PieceRefusal::Busy(after)) => neighbours.busy(peer, now, now + *after),
            TransferFailure::Refused(PieceRefusal::Missing) => neighbours.cancelled(peer),
            _ => {
                if neighbours.failed(peer, now, NEIGHBOUR_PAUSE) {
                    gone_missing = Some(peer.clone());
                }
            }
        });
        if let TransferFailure::Store(error) = &failure {
            return self.store_failed(digest, error);
        }
        match fetch {
            Some(Fetch::Piece { peer, piece, since, .. }) => {
                if !matches!(failure, TransferFailure::Refused(_)) {
                    self.wasted(digest);
                } else {
                    self.way_took(digest, &peer, now - since);
                }
                match failure {
                    TransferFailure::Refused(PieceRefusal::Missing) if !mutant!("missing-piece-asked-again") => {
                        if let Some(flight) = self.flights.get_mut(&digest) {
                            flight.neighbours.forget_piece(&peer, piece);
                        }
                    }
                    TransferFailure::Malformed => {
                        self.cx.counters.pieces_rejected += 1;
                        self.failures.spoiled(now, digest, &peer);
                    }
                    TransferFailure::Unreachable if gone_missing.is_some() => self.failures.unreachable(now, peer),
                    _ => {}
                }
                self.share(digest);
            }
            Some(Fetch::Origin { first, end, .. }) => {
                let (failure, no_ranges) = origin_failure(failure);
                if let Some(download) = self.flights.get_mut(&digest).and_then(|flight| flight.download.as_mut()) {
                    download.no_ranges |= no_ranges;
                }
                self.origin_failed(op, digest, (first, end - first), failure, no_ranges);
                self.share_origin();
            }
            None => {
                let (failure, no_ranges) = origin_failure(failure);
                self.origin_failed(op, digest, (0, 0), failure, no_ranges);
                self.share_origin();
            }
        }
    }

    pub(super) fn store_failed(&mut self, digest: Digest, error: &StoreError) {
        let detail = match error {
            StoreError::Full => "the disk is full".to_owned(),
            StoreError::Missing => "the staging file is gone".to_owned(),
            StoreError::Io(words) => words.to_string(),
        };
        if let Some(flight) = self.flights.get_mut(&digest) {
            // Whatever was being made durable is not.
            flight.stage = Stage::Moving;
        }
        if *error != StoreError::Full {
            // What is on disk cannot be relied on.
            self.cx.emit(Output::Discard { digest });
            if let Some(flight) = self.flights.get_mut(&digest) {
                flight.download = None;
            }
        }
        self.fail_flight(digest, FailureClass::Transient, &detail, None);
        self.failures.leave_to(&digest, Remedy::Nobody);
    }
}

pub(super) fn facts(flight: &Flight) -> BlobFacts {
    BlobFacts { media_type: flight.media_type.clone(), source: flight.source.clone(), private: flight.is_private() }
}

fn origin_failure(failure: TransferFailure) -> (OriginFailure, bool) {
    let passing = |detail: &str| OriginFailure {
        class: FailureClass::Transient,
        status: None,
        retry_after: None,
        challenge: Vec::new(),
        detail: detail.into(),
    };
    match failure {
        TransferFailure::Origin(failure) => (failure, false),
        TransferFailure::NoRanges => (passing("the origin does not serve ranges"), true),
        TransferFailure::Malformed => (passing("the origin's answer makes no sense"), false),
        TransferFailure::Unreachable | TransferFailure::Refused(_) | TransferFailure::Store(_) => {
            (passing("the origin cannot be reached"), false)
        }
    }
}

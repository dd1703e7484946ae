//! Which bytes to fetch next, and what to make of what arrived.

use core::time::Duration;
use std::sync::Arc;

use super::participating::{COMMON, TELL_DELAY};
use super::{Agent, Op};
use crate::digest::Digest;
use crate::flight::{Flight, Role, Stage};
use crate::input::{BlobFacts, Hashed, OriginFailure, StoreError, TransferEvent, TransferFailure};
use crate::message::{FailureClass, PieceRefusal, PieceSum};
use crate::names::{OpId, PeerId};
use crate::output::{Check, Output, Span};
use crate::piece::{Geometry, MAX_BLOB_BYTES};
use crate::spine::{Midstate, Wanted};
use crate::swarm::download::{Download, Fetch, Prefix, Verdict};
use crate::swarm::picker::{self, Choice, Zone};
use crate::timers::Deadline;

/// A piece from a peer that makes no progress for this long is asked for elsewhere.
pub(super) const PIECE_PATIENCE: Duration = Duration::from_secs(5);
/// A piece moves at least this fast, in bytes per second, or goes elsewhere; what comes byte by byte holds a place that
/// others could use. A node with a thousandth of a Gbit/s that it shares among eight is still faster. Both ends hold the
/// other one to it.
pub(super) const SLOWEST_PIECE: u64 = 16 * 1024;
/// An origin fetch that makes no progress for this long is given up; below the tracker's shortest deadline, so that the
/// participant says so before the tracker gives the run away.
pub(super) const ORIGIN_PATIENCE: Duration = Duration::from_secs(9);
/// A piece that has taken this many times what pieces take lately is late: it does not count for what may be fetched at a
/// time any more, and in the end game it is asked for a second time.
const LATE_FACTOR: u32 = 8;
/// The least and the most that makes a piece late. Where nothing was fetched yet, the most. Whoever gets nothing for as long
/// asks other zones for what its own does not have.
pub(super) const LATE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));
/// A neighbour that failed is left alone for this long, times the failures in a row.
pub(super) const NEIGHBOUR_PAUSE: Duration = Duration::from_millis(500);
/// A participant that can ask nobody for its next piece tells the tracker, this often.
pub(super) const STARVING_INTERVAL: Duration = Duration::from_secs(1);
/// For so many pieces at a time.
pub(super) const STARVING_BATCH: usize = 64;
/// Of the pieces at a time, a flight that nobody waits for gets this share.
const BACKGROUND_SHARE: u32 = 2;
/// The largest manifest that is fetched, in bytes: four times what containerd accepts.
pub(super) const MAX_MANIFEST_BYTES: u64 = 16 * 1024 * 1024;

/// How long so many bytes take at [`SLOWEST_PIECE`].
pub(super) const fn slowest(bytes: u64) -> Duration {
    Duration::from_millis(bytes * 1000 / SLOWEST_PIECE)
}

impl Agent {
    /// The size of a flight's blob is known: pieces have numbers, and bytes have a place.
    pub(super) fn learn_size(&mut self, digest: Digest, size: u64, media_type: Option<Arc<str>>) {
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
        let download = match self.partials.remove(&digest) {
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
        flight.download = Some(download);
        let facts = facts(flight);
        self.cx.emit(Output::Stage { digest, size, facts });
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

    /// Starts whatever can be started for a flight: runs from the origin, pieces from neighbours.
    pub(super) fn fill(&mut self, digest: Digest) {
        self.fill_from_origin(digest);
        self.fill_from_peers(digest);
    }

    fn origin_fetches(&self) -> usize {
        let known: usize =
            self.flights.values().filter_map(|flight| flight.download.as_ref()).map(Download::origin_fetches).sum();
        known + self.ops.values().filter(|op| matches!(op, Op::FetchWhole(_))).count()
    }

    fn fill_from_origin(&mut self, digest: Digest) {
        let limit = self.config.max_origin_fetches as usize;
        loop {
            let Some(flight) = self.flights.get(&digest) else { return };
            // Most calls end here: what the other flights do is looked at only if there is something to start.
            let nothing_to_do = match &flight.download {
                Some(download) => !download.has_runs(),
                None => !flight.whole_assigned,
            };
            if nothing_to_do || self.origin_fetches() >= limit + usize::from(mutant!("origin-limit-off-by-one")) {
                return;
            }
            let Some(flight) = self.flights.get_mut(&digest) else { return };
            if !matches!(flight.stage, Stage::Moving) {
                return;
            }
            let (source, credential) = (flight.source.clone(), flight.credential);
            let Some(download) = &mut flight.download else {
                if flight.whole_assigned {
                    flight.whole_assigned = false;
                    self.cx.counters.origin_fetches += 1;
                    let op = self.start_op(Op::FetchWhole(digest), ORIGIN_PATIENCE);
                    let span = Span::Unknown { max_bytes: MAX_MANIFEST_BYTES };
                    self.cx.emit(Output::FetchOrigin { op, source, digest, span, credential, check: Check::Alone });
                }
                return;
            };
            let Some((first, count)) = download.next_run() else { return };
            let geometry = download.geometry();
            let size = geometry.size();
            let span =
                if count == geometry.pieces() { Span::All { size } } else { Span::Pieces { size, first, count } };
            self.cx.counters.origin_fetches += 1;
            let op = self.start_op(Op::Fetch(digest), ORIGIN_PATIENCE);
            let check = Check::Alone;
            if let Some(download) = self.flights.get_mut(&digest).and_then(|flight| flight.download.as_mut()) {
                download.started(op, Fetch::Origin { start: first, first, end: first + count, check });
            }
            self.cx.emit(Output::FetchOrigin { op, source, digest, span, credential, check });
        }
    }

    fn fill_from_peers(&mut self, digest: Digest) {
        let window = picker::window(self.members.len());
        let now = self.cx.now;
        let (zone, zone_len) = (self.config.zone.clone(), self.members.zone_len());
        let salt = self.config.peer.end() ^ digest.head();
        loop {
            let Some(flight) = self.flights.get_mut(&digest) else { return };
            let Some(download) = &mut flight.download else { return };
            if !matches!(flight.stage, Stage::Moving | Stage::Resolving(_)) || download.origin_only {
                return;
            }
            let share = if flight.waiters.is_empty() { BACKGROUND_SHARE } else { 1 };
            let limit = (self.config.max_downloads / share).max(1) as usize;
            // What comes from the origin shares the downlink with the rest.
            let limit = limit.saturating_sub(download.origin_fetches()).max(1);
            let limit = limit + usize::from(mutant!("download-limit-off-by-one"));
            let patience = late_after(flight.piece_time);
            let fetches = download.piece_fetches();
            if fetches >= limit && (fetches >= 2 * limit || fetches - download.stuck(now, patience) >= limit) {
                return self.cx.wake_by(Deadline::Fetch(digest), patience);
            }
            if !flight.neighbours.anybody_is_free(now) {
                break;
            }
            let wanted = download.wanted(window, flight.neighbours.available());
            let behind = download.have().last().unwrap_or(0).saturating_sub(window);
            let starving = now - flight.last_near >= patience;
            let zone = || zone.as_ref().map(|name| Zone { name, len: zone_len, salt, starving });
            let choice = Choice { neighbours: &flight.neighbours, wanted: &wanted, behind, zone: zone(), now };
            let failures = &self.failures;
            let picked =
                picker::pick(&mut self.cx, &choice, |peer| failures.may_ask(now, digest, peer)).or_else(|| {
                    // The end game: somebody else is asked for what is late.
                    download.late(now, patience).into_iter().find_map(|(piece, from)| {
                        let other = |peer: &PeerId| *peer != from && failures.may_ask(now, digest, peer);
                        let neighbours = &flight.neighbours;
                        let choice = Choice { neighbours, wanted: &[piece], behind, zone: zone(), now };
                        picker::pick(&mut self.cx, &choice, other)
                    })
                });
            let Some((piece, peer)) = picked else { break };
            let check = download.check(piece);
            let size = download.geometry().size();
            flight.neighbours.fetching(&peer);
            let op = self.start_op(Op::Fetch(digest), PIECE_PATIENCE);
            if let Some(download) = self.flights.get_mut(&digest).and_then(|flight| flight.download.as_mut()) {
                download.started(op, Fetch::Piece { peer: peer.clone(), piece, check, since: now });
            }
            self.cx.emit(Output::FetchPiece { op, peer, digest, size, piece, check });
        }
        self.wait_for_more(digest);
    }

    /// Nothing more can be asked for now: when to look again, and whether the tracker has to know.
    fn wait_for_more(&mut self, digest: Digest) {
        let now = self.cx.now;
        let Some(flight) = self.flights.get(&digest) else { return };
        let Some(download) = &flight.download else { return };
        if download.have().is_full() {
            return;
        }
        if let Some(free) = flight.neighbours.next_free(now) {
            self.cx.timers.set_by(Deadline::Fetch(digest), free);
        }
        if download.is_fetching() {
            self.cx.wake_by(Deadline::Fetch(digest), late_after(flight.piece_time));
            return;
        }
        self.cx.wake_by(Deadline::Fetch(digest), late_after(flight.piece_time).min(STARVING_INTERVAL));
        let quiet_since = flight.last_byte.max(flight.last_complaint);
        if now - quiet_since < STARVING_INTERVAL || download.has_runs() {
            return;
        }
        // Who has these? The tracker's next answer tells; if nobody can give them, it lets us fetch them.
        let missing = download.missing(STARVING_BATCH);
        let role = flight.role.clone();
        if let Some(flight) = self.flights.get_mut(&digest) {
            // The answer to a complaint leads back here.
            flight.last_complaint = now;
        }
        match role {
            Role::Following(tracker) => {
                for piece in missing {
                    let notice = crate::message::Notice::Starving { digest, piece };
                    self.cx.emit(Output::Notify { peer: tracker.clone(), notice: notice.into() });
                }
                self.enrol(digest);
            }
            Role::Leading => {
                let own = self.config.peer.clone();
                if let Some(tracker) = self.trackers.get_mut(&digest) {
                    for piece in missing {
                        tracker.starving(now, &own, piece);
                    }
                }
                self.cx.wake_by(Deadline::Track(digest), Duration::from_millis(1));
            }
            Role::Undecided => {}
        }
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
            flight.origin_bytes += bytes;
            self.failures.origin_answered(now, &flight.source.registry);
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
        self.learn_size(digest, size, media_type);
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
            return self.fail_flight(
                digest,
                FailureClass::Transient,
                "peers and origin disagree about the size",
                Vec::new(),
                None,
            );
        };
        download
            .started(op, Fetch::Origin { start: 0, first: 0, end: download.geometry().pieces(), check: Check::Alone });
    }

    fn piece_arrived(&mut self, digest: Digest, op: OpId, piece: u32, hashed: Hashed, claim: Option<PieceSum>) {
        let own = self.config.peer.clone();
        let Some(download) = self.flights.get_mut(&digest).and_then(|flight| flight.download.as_mut()) else { return };
        let from = match download.fetch(op) {
            Some(Fetch::Piece { peer, .. }) => Some(peer.clone()),
            _ => None,
        };
        match download.arrived(op, piece, hashed, claim, &own) {
            Verdict::Accepted(recorded) => {
                match from {
                    Some(_) => self.cx.counters.pieces_from_peers += 1,
                    None => self.cx.counters.pieces_from_origin += 1,
                }
                let rivals = download.rivals(op, piece);
                if from.is_none()
                    && let Some(flight) = self.flights.get_mut(&digest)
                {
                    // The origin has answered a range of a blob of this size.
                    flight.size_vouched = true;
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
                if self.flights.get(&digest).is_some_and(common) {
                    self.cx.wake_by(Deadline::Tell(digest), TELL_DELAY);
                } else {
                    self.tell(digest);
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
                    if !mutant!("culprit-not-blamed") {
                        self.convict(digest, &peer, "sent a piece that does not match its sum");
                    }
                    self.fill(digest);
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
                self.fill(digest);
            }
            Verdict::Doubtful => {
                self.cx.counters.pieces_rejected += 1;
                if let (Some(peer), Some(flight)) = (from, self.flights.get_mut(&digest)) {
                    flight.neighbours.forget_piece(&peer, piece);
                }
            }
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
        if let (Some(Fetch::Piece { since, peer, .. }), Some(flight)) = (&fetch, self.flights.get_mut(&digest)) {
            let took = self.cx.now - *since;
            if flight.neighbours.get(peer).is_some_and(|neighbour| neighbour.zone == self.config.zone) {
                flight.last_near = self.cx.now;
            }
            flight.piece_time = if flight.piece_time.is_zero() { took } else { (flight.piece_time * 7 + took) / 8 };
        }
        let download = self.flights.get_mut(&digest).and_then(|flight| flight.download.as_mut());
        if let (Some(Fetch::Origin { start, end, .. }), Some(download)) = (fetch, download) {
            // What was not reported is still ours to fetch; what we have is passed over.
            download.enqueue(start, end - start);
        }
        self.fill(digest);
        self.fill_others(digest);
    }

    /// A slot for the origin may have become free for another flight.
    fn fill_others(&mut self, digest: Digest) {
        let waiting: Vec<_> = self
            .flights
            .values()
            .filter(|flight| flight.digest != digest)
            .filter(|flight| flight.whole_assigned || flight.download.as_ref().is_some_and(Download::has_runs))
            .map(|flight| flight.digest)
            .collect();
        for digest in waiting {
            self.fill_from_origin(digest);
        }
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
        self.finish_op(op);
        let now = self.cx.now;
        let mut gone_missing = None;
        let fetch = self.end_fetch(digest, op, |neighbours, peer| match &failure {
            TransferFailure::Refused(PieceRefusal::Busy(after)) => neighbours.busy(peer, now + *after),
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
            Some(Fetch::Piece { peer, piece, .. }) => {
                match failure {
                    TransferFailure::Refused(PieceRefusal::Missing) if !mutant!("missing-piece-asked-again") => {
                        if let Some(flight) = self.flights.get_mut(&digest) {
                            flight.neighbours.forget_piece(&peer, piece);
                        }
                    }
                    TransferFailure::Malformed => self.convict(digest, &peer, "sent no piece but something else"),
                    TransferFailure::Unreachable if gone_missing.is_some() => self.failures.unreachable(now, peer),
                    _ => {}
                }
                self.fill(digest);
            }
            Some(Fetch::Origin { first, end, .. }) => {
                let (failure, no_ranges) = origin_failure(failure);
                self.origin_failed(digest, first, end - first, failure, no_ranges);
                self.fill_others(digest);
            }
            None => {
                let (failure, no_ranges) = origin_failure(failure);
                self.origin_failed(digest, 0, 0, failure, no_ranges);
                self.fill_others(digest);
            }
        }
    }

    pub(super) fn piece_hashed(&mut self, op: OpId, result: Result<Midstate, StoreError>) {
        let Some(Op::Hash(digest, wanted)) = self.finish_op(op) else { return };
        let Some(download) = self.flights.get_mut(&digest).and_then(|flight| flight.download.as_mut()) else { return };
        match result {
            Ok(after) => {
                download.hashed(op, wanted, after);
                self.after_piece(digest);
            }
            Err(_) => {
                download.unreadable(op, wanted.piece);
                self.fill(digest);
            }
        }
    }

    /// The prefix may have grown: hash on, release what is verified, finish when it is the blob.
    pub(super) fn after_piece(&mut self, digest: Digest) {
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        let Some(download) = &mut flight.download else { return };
        if matches!(flight.stage, Stage::Committing) {
            return;
        }
        let size = download.geometry().size();
        let culprits = download.settle_doubts();
        let next = download.next_to_hash();
        let prefix = download.prefix();
        if let Some(wanted @ Wanted { piece, from }) = next {
            let op = self.start_op(Op::Hash(digest, wanted), Duration::from_secs(3600));
            if let Some(download) = self.flights.get_mut(&digest).and_then(|flight| flight.download.as_mut()) {
                download.hashing(op);
            }
            self.cx.emit(Output::HashPiece { op, digest, size, piece, from });
        }
        for peer in culprits {
            self.convict(digest, &peer, "sent a piece that does not fit into the blob");
        }
        match prefix {
            Prefix::Bytes(bytes) if mutant!("committed-before-whole") && bytes > size / 2 => self.commit(digest),
            Prefix::Bytes(bytes) => self.release(digest, bytes),
            Prefix::Whole => {
                self.release(digest, size);
                self.commit(digest);
            }
            Prefix::Mismatch => self.mismatch(digest),
        }
    }

    fn release(&mut self, digest: Digest, bytes: u64) {
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        // After a mismatch the prefix starts again; what was given away cannot be taken back.
        if bytes <= flight.released {
            return;
        }
        flight.released = bytes;
        self.cx.emit(Output::Release { digest, bytes });
        self.answer_waiters(digest);
        self.bodies_move(digest);
    }

    /// All pieces are here and they are not the blob. Whoever reads it is cut short, and everything that peers delivered
    /// is fetched again from the origin, which shows who lied.
    fn mismatch(&mut self, digest: Digest) {
        let now = self.cx.now;
        let own = self.config.peer.clone();
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        let Some(download) = &mut flight.download else { return };
        let again = download.origin_only;
        let suspects = download.distrust();
        let waiters = core::mem::take(&mut flight.waiters);
        let patience = self.config.body_timeout;
        self.failures.honour(now, digest, patience);
        self.dismiss_waiters(waiters, FailureClass::Transient, &[]);
        if again || !suspects {
            self.cx.emit(Output::Discard { digest });
            if let Some(flight) = self.flights.get_mut(&digest) {
                flight.download = None;
            }
            let detail = "the origin's bytes do not have this digest";
            return self.fail_flight(digest, FailureClass::Transient, detail, Vec::new(), None);
        }
        // Nobody else's pieces count now: this node fetches for itself.
        self.end_tracking(digest);
        if let Some(flight) = self.flights.get_mut(&digest) {
            flight.role = Role::Leading;
        }
        self.cx.timers.clear(Deadline::Enrol(digest));
        let tracker = self.trackers.entry(digest).or_default();
        let flight = self.flights.get(&digest);
        if let Some(download) = flight.and_then(|flight| flight.download.as_ref()) {
            tracker.learn(download.geometry(), false);
            let introduction = crate::swarm::tracker::Introduction {
                pieces: download.have().to_bytes(),
                can_fetch: true,
                addresses: Vec::new(),
                zone: None,
            };
            tracker.enrol(now, &own, introduction);
        }
        self.track(digest);
    }

    pub(super) fn convict_culprits(&mut self, digest: Digest) {
        let download = self.flights.get_mut(&digest).and_then(|flight| flight.download.as_mut());
        for peer in download.map(Download::culprits).unwrap_or_default() {
            self.convict(digest, &peer, "delivered bytes that the origin does not send");
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
        self.fail_flight(digest, FailureClass::Transient, &detail, Vec::new(), None);
    }
}

/// A piece from a peer is late after this long, if pieces take `typical`.
fn late_after(typical: Duration) -> Duration {
    if typical.is_zero() { LATE.1 } else { (typical * LATE_FACTOR).clamp(LATE.0, LATE.1) }
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

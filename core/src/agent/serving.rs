//! What peers want from this node: admission of their streams, the coordination calls, pieces.

use core::time::Duration;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Agent;
use super::fetching::slowest;
use crate::config::Authorization;
use crate::digest::Digest;
use crate::failures::Remedy;
use crate::flight::Role;
use crate::input::StreamError;
use crate::members::Recognition;
use crate::message::{
    FailureClass, MAX_DIGESTS_PER_BATCH, MAX_MESSAGE_BYTES, Notice, PieceRefusal, PieceRequest, PleasePull, Protocol,
    PullIntent, PullOutcome, PullResult, RecentFailure, Request, Response,
};
use crate::names::{PeerId, StreamId};
use crate::output::{Explanation, Output};
use crate::piece::Geometry;
use crate::time::Time;
use crate::timers::Deadline;

/// A reader has this long, and what the piece takes at [`SLOWEST_PIECE`](super::fetching::SLOWEST_PIECE): as its own patience
/// for the first byte, and a little, so that it gives up first.
pub(super) const UPLOAD_PATIENCE: Duration = Duration::from_secs(8);
/// Most channels of notices at a time; one for each peer that takes part in a swarm with us, and some.
pub(super) const MAX_NOTICE_STREAMS: usize = 2048;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Doing {
    /// Its first message is being read.
    Handshake,
    /// Its request is being answered.
    Answering,
    /// It is a channel of notices.
    Notices,
    /// A piece is being sent; of a committed blob, which is held meanwhile.
    Piece { digest: Digest, holds: bool, since: Time },
}

/// An inbound stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Stream {
    peer: PeerId,
    protocol: Protocol,
    doing: Doing,
}

impl Stream {
    pub(crate) fn is_piece(&self) -> bool {
        matches!(self.doing, Doing::Piece { .. })
    }

    pub(super) fn sending_since(&self) -> Option<Time> {
        match self.doing {
            Doing::Piece { since, .. } => Some(since),
            _ => None,
        }
    }

    /// It has not said what it wants.
    pub(crate) fn is_new(&self) -> bool {
        self.doing == Doing::Handshake
    }

    /// It reads a committed blob.
    pub(crate) fn holds(&self) -> bool {
        matches!(self.doing, Doing::Piece { holds: true, .. })
    }
}

impl Agent {
    pub(super) fn stream_opened(&mut self, stream: StreamId, peer: PeerId, protocol: Protocol) {
        if !self.is_authorized(&peer) {
            self.cx.emit(Output::StreamReset { stream });
            return;
        }
        // Whoever speaks to us is there, whatever we found when we last asked.
        self.failures.reached(&peer);
        let (mut busy, mut channels) = (0, 0);
        for open in self.streams.values() {
            if open.doing == Doing::Notices { channels += 1 } else { busy += 1 }
        }
        let most = self.config.max_streams as usize + usize::from(mutant!("stream-limit-off-by-one"));
        if busy >= most || channels >= MAX_NOTICE_STREAMS {
            self.cx.counters.coord_stream_errors += 1;
            self.cx.emit(Output::StreamReset { stream });
            return;
        }
        self.streams.insert(stream, Stream { peer, protocol, doing: Doing::Handshake });
        let patience = self.config.handshake_timeout;
        if !mutant!("handshake-without-deadline") {
            self.cx.wake(Deadline::Handshake(stream), patience);
        }
        self.cx.emit(Output::StreamAdmit { stream, max_bytes: MAX_MESSAGE_BYTES });
    }

    /// Whether a peer may speak to us, by the membership view; what is odd is counted in either mode.
    fn is_authorized(&mut self, peer: &PeerId) -> bool {
        let enforce = self.config.authorization == Authorization::Enforce;
        let reason = match self.members.recognize(peer) {
            Recognition::Member => return true,
            Recognition::Unrecognized => {
                self.cx.counters.coord_unauthorized_unrecognized += 1;
                "unrecognized"
            }
            Recognition::Unevaluable if !enforce => return true,
            Recognition::Unevaluable => {
                self.cx.counters.coord_unauthorized_unevaluable += 1;
                "unevaluable"
            }
        };
        let peer = peer.clone();
        self.cx.explain(Explanation::UnauthorizedPeer { peer, reason: reason.into(), rejected: enforce });
        !enforce
    }

    /// A blob was committed while pieces of it were on their way out of the staging file: it stays until they are sent.
    pub(super) fn hold_for_uploads(&mut self, digest: Digest) {
        for stream in self.streams.values_mut() {
            if let Doing::Piece { digest: of, holds, .. } = &mut stream.doing
                && *of == digest
                && !core::mem::replace(holds, true)
            {
                self.cache.hold(&digest);
            }
        }
    }

    /// Nothing more is sent of a blob that is here whole, and is not what it should be.
    pub(super) fn stop_uploads(&mut self, digest: Digest) {
        let sends =
            |stream: &Stream| matches!(&stream.doing, Doing::Piece { digest: of, holds: true, .. } if *of == digest);
        let sending: Vec<_> = self.streams.iter().filter(|(_, stream)| sends(stream)).map(|(id, _)| *id).collect();
        for stream in sending {
            self.streams.remove(&stream);
            self.cx.timers.clear(Deadline::Handshake(stream));
            self.cx.emit(Output::StreamReset { stream });
        }
    }

    /// A stream has not said what it wants, or a reader takes so long that others go without.
    pub(super) fn handshake_late(&mut self, stream: StreamId) {
        if let Some(late) = self.streams.remove(&stream) {
            self.cx.counters.coord_stream_errors += 1;
            // Before the blob may go: nothing is deleted while it is being sent.
            self.cx.emit(Output::StreamReset { stream });
            if let Doing::Piece { digest, holds: true, .. } = late.doing {
                self.done_reading(digest);
            }
            self.unchoke();
        }
    }

    pub(super) fn stream_notices(&mut self, stream: StreamId) {
        self.cx.timers.clear(Deadline::Handshake(stream));
        if let Some(open) = self.streams.get_mut(&stream) {
            open.doing = Doing::Notices;
        }
    }

    pub(super) fn stream_closed(&mut self, stream: StreamId, error: Option<StreamError>, sent_bytes: u64) {
        self.cx.timers.clear(Deadline::Handshake(stream));
        self.cx.counters.peer_sent_bytes += sent_bytes;
        if mutant!("upload-slot-never-freed") && sent_bytes > 0 {
            return;
        }
        let Some(closed) = self.streams.remove(&stream) else { return };
        // A channel of notices has no normal end of its own, and a piece may be cancelled by its receiver.
        let counts = matches!(closed.doing, Doing::Handshake | Doing::Answering);
        if error.is_some() && counts {
            self.cx.counters.coord_stream_errors += 1;
        }
        if let Doing::Piece { digest, holds, since } = closed.doing {
            let took = self.cx.now - since;
            if error.is_none() && sent_bytes > 0 {
                self.uploads.sent(sent_bytes, took);
            } else {
                self.uploads.given_up(took);
            }
            if holds {
                self.done_reading(digest);
            }
            self.unchoke();
        }
    }

    pub(super) fn stream_request(&mut self, stream: StreamId, request: Request) {
        self.cx.timers.clear(Deadline::Handshake(stream));
        let Some(open) = self.streams.get_mut(&stream) else { return };
        open.doing = Doing::Answering;
        let fits = open.protocol == request.protocol();
        let response = match request {
            Request::PullIntent { digest, leads } if fits => {
                self.cx.counters.coord_pull_intent_served += 1;
                if leads && let Some(peer) = self.asking_peer(stream) {
                    self.may_lead(digest, peer);
                }
                Some(Response::PullIntent(self.own_intent(&digest)))
            }
            Request::PleasePull(batch) if fits && batch.digests.len() <= MAX_DIGESTS_PER_BATCH => {
                self.cx.counters.coord_please_pull_served += 1;
                Some(Response::PleasePull(self.please_pull(&batch)))
            }
            Request::Enrol(enrol) if fits => return self.answer_enrolment(stream, enrol),
            _ => None,
        };
        match response {
            Some(response) => self.cx.emit(Output::StreamReply { stream, response }),
            None => {
                self.cx.counters.coord_stream_errors += 1;
                self.streams.remove(&stream);
                self.cx.emit(Output::StreamReset { stream });
            }
        }
    }

    /// Whether a peer's word is enough to send requests to a registry.
    pub(super) fn may_ask_registry(&self, registry: &str) -> bool {
        self.config.registries.as_ref().is_none_or(|allowed| allowed.iter().any(|one| &**one == registry))
    }

    /// Who asks on a stream that is still open.
    pub(super) fn asking_peer(&self, stream: StreamId) -> Option<PeerId> {
        self.streams.get(&stream).map(|open| open.peer.clone())
    }

    /// What this node answers when it is asked about a digest; also its own part in its own cascades.
    pub(super) fn own_intent(&self, digest: &Digest) -> PullIntent {
        let now = self.cx.now;
        let flight = self.flights.get(digest);
        // Only who leads is somebody to follow: two participants that found each other would wait for each other.
        let leading = flight.filter(|flight| flight.role == Role::Leading);
        let follows = match flight.map(|flight| &flight.role) {
            Some(Role::Following(tracker)) => Some(self.contact(tracker)),
            _ => None,
        };
        PullIntent {
            has_cached: self.cache.get(digest).is_some(),
            in_flight_for: leading.map(|flight| now - flight.started),
            idle_for: leading.map(|flight| now - flight.idle_since()),
            rank: self.members.own_rank(digest),
            recently_failed: if flight.is_some() { None } else { self.failures.recent(now, digest) },
            follows,
        }
    }

    /// Whether blobs may be fetched that nobody here has asked for.
    pub(super) fn takes_on_more(&self) -> bool {
        !self.draining && !self.failures.disk_spoils(self.cx.now)
    }

    /// Serves a `please_pull`: each digest is dealt with on its own.
    fn please_pull(&mut self, batch: &PleasePull) -> Vec<PullResult> {
        let mut results = Vec::with_capacity(batch.digests.len());
        for digest in &batch.digests {
            let outcome = self.please_pull_one(*digest, batch);
            match outcome {
                PullOutcome::Started => self.cx.counters.coord_please_pull_started += 1,
                PullOutcome::Declined => self.cx.counters.coord_please_pull_declined += 1,
                _ => {}
            }
            results.push(PullResult { digest: *digest, outcome });
        }
        self.promote();
        results
    }

    fn please_pull_one(&mut self, digest: Digest, batch: &PleasePull) -> PullOutcome {
        let now = self.cx.now;
        if self.cache.get(&digest).is_some() {
            return PullOutcome::AlreadyPulling(Duration::ZERO);
        }
        if let Some(flight) = self.flights.get_mut(&digest) {
            flight.others_since.get_or_insert(now);
            let age = now - flight.started;
            if batch.resuming {
                // Somebody lost its tracker, which may be ours: find out now.
                self.enrol(digest);
            }
            return PullOutcome::AlreadyPulling(age);
        }
        let failure = self.failures.recent(now, &digest);
        // Who knows better than the origin's word to us can be led by us. What else is in our way still is.
        let is_over = |failure: &RecentFailure| {
            batch.origin_has_it
                && failure.class != FailureClass::RateLimited
                && self.failures.remedy(self.cx.now, &digest) == Remedy::Anybody
        };
        let knows_better = failure.filter(is_over);
        if let Some(failure) = failure.filter(|_| knows_better.is_none())
            && !mutant!("failed-digest-pulled-for-peers")
        {
            return PullOutcome::RecentlyFailed(failure);
        }
        let elsewhere = !self.may_ask_registry(&batch.source.registry);
        if elsewhere
            || !self.takes_on_more()
            || !self.recovered
            || self.flights.len()
                >= self.config.max_admitted_flights as usize + usize::from(mutant!("admission-limit-off-by-one"))
        {
            return PullOutcome::Declined;
        }
        self.want(digest, &batch.source, None);
        if let (Some(failure), Some(flight)) = (knows_better, self.flights.get_mut(&digest)) {
            // The cool-down goes on: it is they who ask the origin.
            flight.cools_down_until = Some(now + failure.cooldown);
            flight.led_for_others = true;
        }
        if batch.resuming {
            self.expect_survivors(digest);
        }
        PullOutcome::Started
    }

    pub(super) fn piece_requested(&mut self, stream: StreamId, request: PieceRequest) {
        self.cx.timers.clear(Deadline::Handshake(stream));
        let PieceRequest { digest, size, piece } = request;
        let Some(open) = self.streams.get_mut(&stream) else { return };
        open.doing = Doing::Answering;
        let peer = open.peer.clone();
        let geometry = Geometry::of_blob(size);
        let cached = self.cache.get(&digest).is_some_and(|blob| blob.size == size);
        let download = self.flights.get(&digest).and_then(|flight| flight.download.as_ref());
        let staged =
            download.is_some_and(|download| download.geometry() == geometry && download.have().contains(piece));
        let len = geometry.len(piece);
        let refusal = if piece >= geometry.pieces() || !(cached || staged) {
            Some(PieceRefusal::Missing)
        } else if self.free_slots(len) == 0 {
            self.cx.counters.pieces_busy += 1;
            Some(PieceRefusal::Busy(self.choke(&peer, digest)))
        } else {
            None
        };
        if let Some(refusal) = refusal {
            self.cx.emit(Output::PieceRefuse { stream, refusal });
            if self.cache.get(&digest).is_none() && !self.flights.contains_key(&digest) {
                // Whoever asks takes us for somebody who has it: it was deleted here. If it is the tracker, nobody else does then.
                self.cx.emit(Output::Notify { peer, notice: Notice::Leave { digest }.into() });
            }
            return;
        }
        let download = self.flights.get(&digest).and_then(|flight| flight.download.as_ref());
        let vouching = download.or_else(|| self.recent.get(&digest));
        let claim = vouching.and_then(|download| download.sum(piece)).cloned();
        let since = self.cx.now;
        if let Some(open) = self.streams.get_mut(&stream) {
            open.doing = Doing::Piece { digest, holds: cached, since };
        }
        self.has_slot(&peer, digest);
        if cached {
            self.cache.hold(&digest);
        }
        let range = geometry.range(piece);
        self.cx.wake(Deadline::Handshake(stream), UPLOAD_PATIENCE + slowest(range.end - range.start));
        let offset = range.start + u64::from(mutant!("piece-from-wrong-offset"));
        self.cx.emit(Output::PieceServe { stream, digest, offset, len: range.end - range.start, claim });
    }

    /// Addresses that a peer says it has: how others and we reach it.
    pub(super) fn learn(&mut self, peer: &PeerId, addresses: &[Arc<str>]) {
        if !addresses.is_empty() && !self.members.is_own(peer) && self.members.get(peer).is_none() {
            self.cx.emit(Output::Learn { peer: peer.clone(), addresses: addresses.to_vec() });
        }
    }
}

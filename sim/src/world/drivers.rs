//! Carries out what agents ask: the simulated counterpart of `longshore-net`.

use std::time::Duration;

use longshore_core::digest::Digest;
use longshore_core::input::CallError;
use longshore_core::input::{Hashed, Input, OriginFailure, OriginStat, StoreError, TransferEvent, TransferFailure};
use longshore_core::message::{
    FailureClass, Neighbour, Notice, PieceRefusal, PieceRequest, PieceSum, Protocol, Request, Response,
};
use longshore_core::names::{CallId, OpId, PeerId, StreamId};
use longshore_core::output::{Check, Output, Span};
use longshore_core::piece::Geometry;
use longshore_core::spine::Midstate;
use longshore_core::time::Time;

use super::{Complete, Event, Fault, NodeIndex, Staged, World, peer};
use crate::content::{self, Content};

/// Bytes hashed per second from the page cache.
const HASH_RATE: u64 = 1_200_000_000;

#[derive(Clone, Debug)]
pub(crate) enum InboundStream {
    Call { from: NodeIndex, from_life: u32, call: CallId, request: Request },
    Piece { from: NodeIndex, from_life: u32, op: OpId, ask: Ask },
}

#[derive(Clone, Debug)]
pub(crate) struct Ask {
    digest: Digest,
    size: u64,
    piece: u32,
    check: Check,
}

#[derive(Clone, Debug)]
pub(crate) struct PieceOnTheWay {
    ask: Ask,
    content: Content,
    claim: Option<PieceSum>,
    from: NodeIndex,
}

#[derive(Clone, Debug)]
pub(crate) struct OriginOnTheWay {
    digest: Digest,
    size: u64,
    next: u32,
    end: u32,
    check: Check,
}

impl World {
    pub(super) fn perform(&mut self, node: NodeIndex, output: Output) {
        match output {
            Output::MirrorServe { request, size, .. } => self.mirror_served(node, request, size),
            Output::MirrorRefuse { request, .. } => self.mirror_refused(node, request),
            Output::MirrorAbort { request } => self.mirror_aborted(node, request),
            Output::Release { digest, bytes } => self.release(node, digest, bytes),
            Output::StreamAdmit { stream, .. } => self.stream_admitted(node, stream),
            Output::StreamReset { stream } => self.stream_ends(node, stream, None),
            Output::StreamReply { stream, response } => self.stream_ends(node, stream, Some(response)),
            Output::PieceServe { stream, digest, offset, len, claim } => {
                self.piece_served(node, stream, digest, offset, len, claim);
            }
            Output::PieceRefuse { stream, refusal } => self.piece_refused(node, stream, refusal),
            Output::Call { call, peer, request, .. } => self.call(node, call, &peer, request),
            Output::Notify { peer, notice } => self.notify(node, &peer, notice),
            Output::FetchPiece { op, peer, digest, size, piece, check } => {
                self.fetch_piece(node, op, &peer, Ask { digest, size, piece, check });
            }
            Output::FetchOrigin { op, digest, span, credential, check, .. } => {
                self.fetch_origin(node, op, digest, span, credential.is_some(), check);
            }
            Output::CancelTransfer { op } => {
                self.nodes[node].cancelled.insert(op);
            }
            Output::StatOrigin { op, digest, credential, .. } => {
                self.stat_origin(node, op, digest, credential.is_some())
            }
            Output::FindProviders { op, digest } => self.find_providers(node, op, digest),
            Output::Announce { digests } => {
                for digest in digests {
                    if !self.nodes[node].disk.complete.contains_key(&digest) {
                        self.violations
                            .push(format!("{:?}: node {node} announced {digest} without having it", self.now));
                    }
                    self.index.entry(digest).or_default().insert(node);
                }
            }
            Output::Withdraw { digests } => {
                for digest in digests {
                    self.index.entry(digest).or_default().remove(&node);
                }
            }
            Output::Stage { digest, size, facts } => {
                let staged = self.nodes[node].disk.staged.entry(digest).or_default();
                staged.size = size;
                staged.facts = Some(facts);
            }
            Output::Record { digest, piece } => {
                if let Some(staged) = self.nodes[node].disk.staged.get_mut(&digest) {
                    staged.records.insert(piece.piece, piece);
                }
            }
            Output::HashPiece { op, digest, size, piece, from } => self.hash_piece(node, op, digest, size, piece, from),
            Output::Commit { digest, facts } => {
                let result = match self.nodes[node].disk.staged.remove(&digest) {
                    Some(Staged { size, contents, .. }) => {
                        let complete = Complete { size, contents, facts, spine: Vec::new() };
                        self.nodes[node].disk.complete.insert(digest, complete);
                        if !self.has(node, &digest) {
                            self.violations
                                .push(format!("{:?}: node {node} committed wrong bytes as {digest}", self.now));
                        }
                        Ok(())
                    }
                    None => Err(StoreError::Missing),
                };
                self.later(node, Duration::from_millis(2), Input::Committed { digest, result });
                self.bodies_progress(node);
            }
            Output::Discard { digest } => {
                self.nodes[node].disk.staged.remove(&digest);
                self.nodes[node].released.remove(&digest);
            }
            Output::Evict { digest } => {
                if self.index.get(&digest).is_some_and(|holders| holders.contains(&node)) {
                    self.violations
                        .push(format!("{:?}: node {node} deleted {digest} while it was announced", self.now));
                }
                self.nodes[node].disk.complete.remove(&digest);
                self.later(node, Duration::ZERO, Input::Evicted { digest });
            }
            Output::KeepSpine { digest, states } => {
                if let Some(complete) = self.nodes[node].disk.complete.get_mut(&digest) {
                    complete.spine = states;
                }
            }
            Output::ReadSpine { digest } => {
                let complete = self.nodes[node].disk.complete.get(&digest);
                let states = complete.map(|complete| complete.spine.clone()).unwrap_or_default();
                self.later(node, Duration::from_micros(200), Input::Spine { digest, states });
            }
            Output::ReadManifest { digest } => {
                let children = self.blobs.get(&digest).map(|blob| blob.children.clone()).unwrap_or_default();
                self.later(node, Duration::from_micros(200), Input::Manifest { digest, media_type: None, children });
            }
            Output::Explain(explanation) => self.explanations.push((self.now, node, explanation)),
            Output::CallCancel { .. }
            | Output::Learn { .. }
            | Output::ForgetCredential { .. }
            | Output::Touch { .. }
            | Output::Drained => {}
        }
    }

    fn release(&mut self, node: NodeIndex, digest: Digest, bytes: u64) {
        let state = &mut self.nodes[node];
        state.released.insert(digest, bytes);
        if let (Some(staged), Some(blob)) = (state.disk.staged.get(&digest), self.blobs.get(&digest)) {
            let geometry = Geometry::of_blob(blob.size);
            for piece in 0..geometry.pieces() {
                let range = geometry.range(piece);
                if range.end <= bytes && range.end > range.start && staged.contents.get(&piece) != Some(&blob.label) {
                    self.violations
                        .push(format!("{:?}: node {node} released wrong bytes of {digest}, piece {piece}", self.now));
                    break;
                }
            }
        }
        self.bodies_progress(node);
    }

    // ---- calls ----

    fn call(&mut self, node: NodeIndex, call: CallId, to: &PeerId, request: Request) {
        let from_life = self.nodes[node].life;
        let after = self.one_way();
        match self.by_peer.get(to) {
            Some(&to) => {
                let request = Box::new(request);
                self.queue.push(self.now + after, Event::CallArrives { from: node, from_life, to, call, request });
            }
            None => self.later(node, after, Input::CallFailed { call, error: CallError::Unreachable }),
        }
    }

    pub(super) fn call_arrives(
        &mut self,
        from: NodeIndex,
        from_life: u32,
        to: NodeIndex,
        call: CallId,
        request: Request,
    ) {
        if !self.is_up(to) {
            return self.reply(from, from_life, Input::CallFailed { call, error: CallError::Unreachable });
        }
        if !self.reachable(from, to) {
            return;
        }
        let protocol = request.protocol();
        self.open(to, from, protocol, InboundStream::Call { from, from_life, call, request });
    }

    fn open(&mut self, to: NodeIndex, from: NodeIndex, protocol: Protocol, inbound: InboundStream) {
        let stream = StreamId(self.next_id());
        self.nodes[to].streams.insert(stream, inbound);
        self.input(to, Input::StreamOpened { stream, peer: peer(from), protocol });
    }

    fn stream_admitted(&mut self, node: NodeIndex, stream: StreamId) {
        let input = match self.nodes[node].streams.get(&stream) {
            Some(InboundStream::Call { request, .. }) => Input::StreamRequest { stream, request: request.clone() },
            Some(InboundStream::Piece { ask, .. }) => {
                let request = PieceRequest { digest: ask.digest, size: ask.size, piece: ask.piece };
                Input::PieceRequested { stream, request }
            }
            None => return,
        };
        self.later(node, Duration::ZERO, input);
    }

    fn stream_ends(&mut self, node: NodeIndex, stream: StreamId, response: Option<Response>) {
        let Some(inbound) = self.nodes[node].streams.remove(&stream) else { return };
        self.later(node, Duration::ZERO, Input::StreamClosed { stream, error: None, sent_bytes: 0 });
        match inbound {
            InboundStream::Call { from, from_life, call, .. } if self.reachable(node, from) => {
                let input = match response {
                    Some(response) => Input::Reply { call, response },
                    None => Input::CallFailed { call, error: CallError::Reset },
                };
                self.reply(from, from_life, input);
            }
            InboundStream::Piece { from, from_life, op, .. } => {
                let event = TransferEvent::Failed(TransferFailure::Unreachable);
                self.reply(from, from_life, Input::Transfer { op, event });
            }
            InboundStream::Call { .. } => {}
        }
    }

    fn reply(&mut self, to: NodeIndex, life: u32, input: Input) {
        let after = self.one_way();
        self.queue.push(self.now + after, Event::Input(to, life, Box::new(input)));
    }

    fn notify(&mut self, node: NodeIndex, to: &PeerId, notice: Notice) {
        if let Some(&to) = self.by_peer.get(to) {
            let after = self.one_way();
            self.queue.push(self.now + after, Event::NoticeArrives { from: peer(node), to, notice: Box::new(notice) });
        }
    }

    pub(super) fn notice_arrives(&mut self, from: &PeerId, to: NodeIndex, notice: Notice) {
        if let Some(&sender) = self.by_peer.get(from)
            && self.reachable(sender, to)
        {
            self.input(to, Input::Notice { peer: from.clone(), notice });
        }
    }

    // ---- pieces ----

    fn fetch_piece(&mut self, node: NodeIndex, op: OpId, from: &PeerId, ask: Ask) {
        let from_life = self.nodes[node].life;
        let after = self.one_way();
        match self.by_peer.get(from) {
            Some(&to) => self.queue.push(self.now + after, Event::PieceAsked { from: node, from_life, to, op, ask }),
            None => self.transfer_fails(node, op, TransferFailure::Unreachable),
        }
    }

    fn transfer_fails(&mut self, node: NodeIndex, op: OpId, failure: TransferFailure) {
        let after = self.one_way();
        self.later(node, after, Input::Transfer { op, event: TransferEvent::Failed(failure) });
    }

    pub(super) fn piece_asked(&mut self, from: NodeIndex, from_life: u32, to: NodeIndex, op: OpId, ask: Ask) {
        if !self.is_up(to) {
            let event = TransferEvent::Failed(TransferFailure::Unreachable);
            return self.reply(from, from_life, Input::Transfer { op, event });
        }
        if self.reachable(from, to) {
            self.open(to, from, Protocol::Swarm, InboundStream::Piece { from, from_life, op, ask });
        }
    }

    fn piece_refused(&mut self, node: NodeIndex, stream: StreamId, refusal: PieceRefusal) {
        let Some(InboundStream::Piece { from, from_life, op, .. }) = self.nodes[node].streams.remove(&stream) else {
            return;
        };
        self.later(node, Duration::ZERO, Input::StreamClosed { stream, error: None, sent_bytes: 0 });
        let event = TransferEvent::Failed(TransferFailure::Refused(refusal));
        self.reply(from, from_life, Input::Transfer { op, event });
    }

    fn piece_served(
        &mut self,
        node: NodeIndex,
        stream: StreamId,
        digest: Digest,
        offset: u64,
        len: u64,
        claim: Option<PieceSum>,
    ) {
        let Some(InboundStream::Piece { from, from_life, op, ask }) = self.nodes[node].streams.remove(&stream) else {
            return;
        };
        let piece = ask.piece;
        debug_assert_eq!(Geometry::of_blob(ask.size).range(piece).start, offset);
        let disk = &self.nodes[node].disk;
        let stored = disk.complete.get(&digest).and_then(|blob| blob.contents.get(&piece));
        let stored = stored.or_else(|| disk.staged.get(&digest).and_then(|blob| blob.contents.get(&piece))).copied();
        let content = self.nodes[node].corrupt.or(stored);
        let Some(content) = content else {
            self.violations
                .push(format!("{:?}: node {node} offered piece {piece} of {digest} without having it", self.now));
            return;
        };
        let nanos = len.saturating_mul(1_000_000_000) / self.options.node_rate.max(1);
        // The sender's uplink takes one piece after the other; the receiver's downlink cuts through if it is free.
        let length = Duration::from_nanos(nanos);
        let start = self.now.max(self.nodes[node].up_free);
        let sent = start + length;
        self.nodes[node].up_free = sent;
        let server_life = self.nodes[node].life;
        let closed = Input::StreamClosed { stream, error: None, sent_bytes: len };
        self.queue.push(sent, Event::Input(node, server_life, Box::new(closed)));
        let fetch = PieceOnTheWay { ask, content, claim, from: node };
        let at_downlink = sent + self.one_way();
        self.queue.push(at_downlink, Event::PieceAtDownlink { node: from, life: from_life, op, fetch });
    }

    /// When something of `bytes` bytes has come in whole that has just left its sender: the downlink is shared as well.
    fn comes_in(&mut self, node: NodeIndex, bytes: u64) -> Time {
        let nanos = bytes.saturating_mul(1_000_000_000) / self.options.node_rate.max(1);
        let received = self.now.max(self.nodes[node].down_free + Duration::from_nanos(nanos));
        self.nodes[node].down_free = received;
        received
    }

    pub(super) fn piece_at_downlink(&mut self, node: NodeIndex, life: u32, op: OpId, fetch: PieceOnTheWay) {
        if self.nodes[node].life == life && !self.nodes[node].cancelled.contains(&op) {
            let arrives = self.comes_in(node, Geometry::of_blob(fetch.ask.size).len(fetch.ask.piece));
            self.queue.push(arrives, Event::PieceArrives { node, life, op, fetch });
        }
    }

    pub(super) fn piece_arrives(&mut self, node: NodeIndex, life: u32, op: OpId, fetch: PieceOnTheWay) {
        if self.nodes[node].life != life || self.nodes[node].cancelled.remove(&op) {
            return;
        }
        if !self.is_up(fetch.from) {
            let event = TransferEvent::Failed(TransferFailure::Unreachable);
            return self.later(node, Duration::ZERO, Input::Transfer { op, event });
        }
        if !self.reachable(node, fetch.from) {
            return;
        }
        let Ask { digest, size, piece, check } = fetch.ask;
        let bytes = Geometry::of_blob(size).len(piece);
        if let Some(hashed) = self.store_piece(node, digest, piece, fetch.content, check) {
            let event = TransferEvent::Piece { piece, bytes, hashed, claim: fetch.claim };
            self.input(node, Input::Transfer { op, event });
            self.later(node, Duration::ZERO, Input::Transfer { op, event: TransferEvent::Done });
        }
    }

    fn store_piece(
        &mut self,
        node: NodeIndex,
        digest: Digest,
        piece: u32,
        content: Content,
        check: Check,
    ) -> Option<Hashed> {
        let staged = self.nodes[node].disk.staged.get_mut(&digest)?;
        // A piece that was accepted is not overwritten by a rival transfer with other bytes: the store writes the same place.
        staged.contents.insert(piece, content);
        Some(match check {
            Check::From(from) => Hashed::Chained(content::hash(from, piece, content)),
            Check::Alone => Hashed::Alone(content::hash(Midstate::INITIAL, piece, content).to_bytes()),
        })
    }

    fn hash_piece(&mut self, node: NodeIndex, op: OpId, digest: Digest, size: u64, piece: u32, from: Midstate) {
        let content = self.nodes[node].disk.staged.get(&digest).and_then(|staged| staged.contents.get(&piece));
        let result = content.map(|content| content::hash(from, piece, *content)).ok_or(StoreError::Missing);
        let bytes = Geometry::of_blob(size).len(piece);
        let after = Duration::from_nanos(bytes * 1_000_000_000 / HASH_RATE);
        self.later(node, after, Input::PieceHashed { op, result });
    }

    // ---- origin ----

    fn stat_origin(&mut self, node: NodeIndex, op: OpId, digest: Digest, has_credential: bool) {
        if self.origin.fault == Some(Fault::Silent) {
            return;
        }
        let blob = self.blobs.get(&digest);
        let result: Result<OriginStat, OriginFailure> = match self.origin.refuses(has_credential, blob.is_some()) {
            Some(failure) => Err(failure),
            None => Ok(OriginStat { size: blob.map_or(0, |blob| blob.size), media_type: None }),
        };
        let after = self.one_way() * 2;
        self.later(node, after, Input::OriginStat { op, result });
    }

    fn fetch_origin(
        &mut self,
        node: NodeIndex,
        op: OpId,
        digest: Digest,
        span: Span,
        has_credential: bool,
        check: Check,
    ) {
        if self.origin.fault == Some(Fault::Silent) {
            return;
        }
        let blob = self.blobs.get(&digest);
        let size = blob.map_or(0, |blob| blob.size);
        if let Some(failure) = self.origin.refuses(has_credential, blob.is_some()) {
            return self.transfer_fails(node, op, TransferFailure::Origin(failure));
        }
        let pieces = Geometry::of_blob(size).pieces();
        let (next, end) = match span {
            Span::Unknown { .. } => {
                let staged = self.nodes[node].disk.staged.entry(digest).or_default();
                staged.size = size;
                // Headers come before the body on the same connection; no later than the soonest piece.
                let event = TransferEvent::Headers { size, media_type: None };
                self.later(node, self.options.latency, Input::Transfer { op, event });
                (0, pieces)
            }
            Span::All { .. } => (0, pieces),
            Span::Pieces { .. } if self.origin.fault == Some(Fault::NoRanges) => {
                return self.transfer_fails(node, op, TransferFailure::NoRanges);
            }
            Span::Pieces { first, count, .. } => (first, first + count),
        };
        let fetch = OriginOnTheWay { digest, size, next, end, check };
        self.send_from_origin(node, op, fetch);
    }

    fn send_from_origin(&mut self, node: NodeIndex, op: OpId, fetch: OriginOnTheWay) {
        let bytes = Geometry::of_blob(fetch.size).len(fetch.next);
        let sent = self.origin.send(self.now, fetch.digest, fetch.next, bytes);
        let at_downlink = sent + self.one_way();
        let life = self.nodes[node].life;
        self.queue.push(at_downlink, Event::OriginAtDownlink { node, life, op, fetch: Box::new(fetch) });
    }

    pub(super) fn origin_at_downlink(&mut self, node: NodeIndex, life: u32, op: OpId, fetch: OriginOnTheWay) {
        if self.nodes[node].life == life && !self.nodes[node].cancelled.contains(&op) {
            let arrives = self.comes_in(node, Geometry::of_blob(fetch.size).len(fetch.next));
            self.queue.push(arrives, Event::OriginPiece { node, life, op, fetch: Box::new(fetch) });
        }
    }

    pub(super) fn origin_piece(&mut self, node: NodeIndex, life: u32, op: OpId, fetch: OriginOnTheWay) {
        if self.nodes[node].life != life || self.nodes[node].cancelled.remove(&op) {
            return;
        }
        match self.origin.fault {
            Some(Fault::Silent) => return,
            Some(Fault::Errors) => {
                let failure = OriginFailure {
                    class: FailureClass::Transient,
                    status: None,
                    retry_after: None,
                    challenge: Vec::new(),
                    detail: "the connection broke".into(),
                };
                return self.transfer_fails(node, op, TransferFailure::Origin(failure));
            }
            _ => {}
        }
        let OriginOnTheWay { digest, size, next, end, check } = fetch;
        let content = self.blobs.get(&digest).map_or(content::TRUE, |blob| blob.label);
        let Some(hashed) = self.store_piece(node, digest, next, content, check) else { return };
        let check = match hashed {
            Hashed::Chained(after) => Check::From(after),
            Hashed::Alone(_) => check,
        };
        let bytes = Geometry::of_blob(size).len(next);
        let event = TransferEvent::Piece { piece: next, bytes, hashed, claim: None };
        if next + 1 < end {
            self.send_from_origin(node, op, OriginOnTheWay { digest, size, next: next + 1, end, check });
            self.input(node, Input::Transfer { op, event });
        } else {
            self.input(node, Input::Transfer { op, event });
            self.later(node, Duration::ZERO, Input::Transfer { op, event: TransferEvent::Done });
        }
    }

    fn find_providers(&mut self, node: NodeIndex, op: OpId, digest: Digest) {
        let holders = self.index.get(&digest).into_iter().flatten().filter(|holder| **holder != node);
        let peers = holders
            .take(20)
            .map(|holder| Neighbour { peer: peer(*holder), addresses: Vec::new(), zone: None })
            .collect();
        let after = self.one_way() * 4;
        self.later(node, after, Input::Providers { op, peers });
    }
}

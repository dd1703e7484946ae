//! Pieces that peers ask each other for.

use std::time::Duration;

use longshore_core::digest::Digest;
use longshore_core::input::{Input, LONG_WAY, PROGRESS_INTERVAL, TransferEvent, TransferFailure};
use longshore_core::message::{PieceRefusal, PieceSum, Protocol};
use longshore_core::names::{OpId, PeerId, StreamId};
use longshore_core::output::Check;
use longshore_core::piece::{Geometry, round_trips};
use longshore_core::spine::Midstate;
use longshore_core::time::Time;

use super::drivers::InboundStream;
use super::transfers::{Carried, Told};
use super::{Event, Lie, NodeIndex, World};
use crate::content::{self, Content};
use crate::flows::{Route, chunk_of};
use crate::invariants;
use crate::replay::causes::Thread;

/// The place of requests for pieces in [`MESSAGE_KINDS`](super::MESSAGE_KINDS).
const PIECE: usize = 9;

/// One piece, asked for by `to` and sent by `from`.
#[derive(Debug)]
pub(crate) struct PieceTransfer {
    pub(crate) to: NodeIndex,
    pub(crate) to_life: u32,
    pub(crate) from: NodeIndex,
    pub(crate) stream: StreamId,
    pub(crate) op: OpId,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) piece: u32,
    check: Check,
    content: Content,
    claim: Option<PieceSum>,
    pub(super) told: Told,
    /// A slow disk has taken it.
    is_written: bool,
    /// When it was asked for: see [`World::order`].
    opened: u32,
    /// The same as a time.
    asked: Time,
    /// How long after that the answer came.
    answered_after: Duration,
}

/// How fast so many bytes move at most, in bytes a second: the sender waits for the receiver. `None`: it does not.
fn windows_rate(len: u64, round_trip: Duration) -> Option<u64> {
    let waits = round_trip * round_trips(len);
    (!waits.is_zero()).then(|| (u128::from(len) * 1_000_000 / waits.as_micros().max(1)).max(1) as u64)
}

impl World {
    pub(super) fn fetch_piece(
        &mut self,
        node: NodeIndex,
        op: OpId,
        from: &PeerId,
        (digest, size, piece, check): (Digest, u64, u32, Check),
    ) {
        self.count_message(PIECE);
        let Some(from) = self.index_of(from) else {
            return self.transfer_fails(node, op, TransferFailure::Unreachable);
        };
        let to_life = self.nodes[node].life;
        if !self.both_swarm(node, from) {
            return self.not_spoken(from, node, to_life, op);
        }
        let after = self.one_way(node, from);
        let transfer = PieceTransfer {
            to: node,
            to_life,
            from,
            stream: StreamId(0),
            op,
            digest,
            size,
            piece,
            check,
            content: content::TRUE,
            claim: None,
            told: Told::nothing(self.now),
            is_written: false,
            opened: self.order(),
            asked: self.now,
            answered_after: Duration::ZERO,
        };
        self.queue.push(self.now + after, Event::PieceAsked(Box::new(transfer)));
    }

    pub(super) fn transfer_fails(&mut self, node: NodeIndex, op: OpId, failure: TransferFailure) {
        self.later(node, self.options.latency, Input::Transfer { op, event: TransferEvent::Failed(failure) });
    }

    pub(super) fn piece_asked(&mut self, transfer: Box<PieceTransfer>) {
        let (asker, server) = (transfer.to, transfer.from);
        let waits = Some((asker, Thread::Op(transfer.op.0)));
        if !self.gets_through(asker, server, Some(PIECE), waits) {
            return;
        }
        if !self.is_up(server) {
            self.record(|record| record.nobody_there(asker, server));
            let event = TransferEvent::Failed(TransferFailure::Unreachable);
            return self.reply(server, asker, transfer.to_life, Input::Transfer { op: transfer.op, event });
        }
        self.connect(asker, server);
        self.open(server, asker, Protocol::Swarm, InboundStream::Piece(transfer));
    }

    pub(super) fn piece_refused(&mut self, node: NodeIndex, stream: StreamId, refusal: PieceRefusal) {
        let Some(InboundStream::Piece(transfer)) = self.nodes[node].streams.remove(&stream) else { return };
        self.later(node, Duration::ZERO, Input::StreamClosed { stream, error: None, sent_bytes: 0 });
        if self.nodes[transfer.to].life != transfer.to_life || self.nodes[transfer.to].cancelled.remove(&transfer.op) {
            return;
        }
        let event = TransferEvent::Failed(TransferFailure::Refused(refusal));
        self.reply(node, transfer.to, transfer.to_life, Input::Transfer { op: transfer.op, event });
    }

    pub(super) fn piece_served(
        &mut self,
        node: NodeIndex,
        stream: StreamId,
        digest: Digest,
        offset: u64,
        len: u64,
        claim: Option<PieceSum>,
    ) {
        let Some(InboundStream::Piece(mut transfer)) = self.nodes[node].streams.remove(&stream) else { return };
        let piece_bytes = Geometry::of_blob(transfer.size).piece_bytes();
        if offset != u64::from(transfer.piece) * piece_bytes || offset + len > transfer.size {
            let detail = format!("{len} bytes from {offset} are sent for piece {} of {digest}", transfer.piece);
            self.violate(&invariants::right_bytes::RULE, node, &detail);
        }
        let stored = self.nodes[node].disk.content(&digest, transfer.piece);
        let Some(content) = self.nodes[node].corrupt.or(stored) else {
            let detail = format!("piece {} of {digest} was offered and is not here", transfer.piece);
            self.violate(&invariants::announced::RULE, node, &detail);
            self.later(node, Duration::ZERO, Input::StreamClosed { stream, error: None, sent_bytes: 0 });
            return;
        };
        let content = self.content_as_sent(node, (transfer.size, transfer.piece, transfer.check), content);
        let (to, thread) = (transfer.to, Thread::Op(transfer.op.0));
        self.record(|record| record.serves(to, thread));
        transfer.content = content;
        transfer.claim = self.claim_as_told(node, claim);
        if self.blobs.get(&digest).is_none_or(|blob| blob.label != content) {
            self.liars.insert(node);
            if self.nodes[node].lies || self.nodes[node].lie == Some(Lie::Half) {
                let sum = content::hash(Midstate::INITIAL, transfer.piece, content).to_bytes();
                transfer.claim = Some(PieceSum { piece: transfer.piece, sum, author: self.peer(node) });
            }
        }
        let true_sum = content::hash(Midstate::INITIAL, transfer.piece, transfer.content).to_bytes();
        if transfer.claim.as_ref().is_some_and(|claim| claim.sum != true_sum) {
            // Also whoever means well: it took a lie, and the truth came later and lies in its place.
            self.liars.insert(node);
        }
        if self.stays_mute(node, stream) {
            return;
        }
        let receiver = &mut self.nodes[to];
        if receiver.life != transfer.to_life || receiver.cancelled.remove(&transfer.op) {
            return self.later(node, Duration::ZERO, Input::StreamClosed { stream, error: None, sent_bytes: 0 });
        }
        transfer.stream = stream;
        transfer.told = Told::nothing(self.now);
        let (op, geometry) = (transfer.op, Geometry::of_blob(transfer.size));
        let latency = self.one_way(node, to);
        let windows = windows_rate(len, 2 * latency).filter(|rate| *rate < self.options.node_rate);
        let route = Route {
            from: self.nodes[node].up,
            across: self.way_across(node, to),
            to: self.nodes[to].down,
            latency,
            most: self.network.links.rate(node, to).into_iter().chain(self.trickle(node)).chain(windows).min(),
        };
        transfer.answered_after = (self.now + route.latency) - transfer.asked;
        let chunk = chunk_of(geometry.len(0));
        let flow = self.flow_begins(route, len, chunk, Carried::Piece(transfer));
        self.flows.be_quiet(flow, self.now + PROGRESS_INTERVAL);
        self.nodes[to].fetching.insert(op, flow);
    }

    /// A slow disk has taken a piece; maybe nobody waits for it any more.
    pub(super) fn piece_written(&mut self, transfer: PieceTransfer) {
        let receiver = &mut self.nodes[transfer.to];
        if receiver.life == transfer.to_life && !receiver.cancelled.remove(&transfer.op) {
            self.piece_arrives(transfer);
        }
    }

    pub(super) fn piece_arrives(&mut self, mut transfer: PieceTransfer) {
        let PieceTransfer { to: node, from, op, digest, size, piece, check, content, opened, .. } = transfer;
        self.nodes[node].fetching.remove(&op);
        if !transfer.is_written
            && let Some(at) = self.disk_takes(node, Geometry::of_blob(size).len(piece))
        {
            let transfer = PieceTransfer { is_written: true, ..transfer };
            return self.queue.push(at, Event::PieceWritten(Box::new(transfer)));
        }
        if !self.gets_through(from, node, None, Some((node, Thread::Op(op.0)))) {
            return;
        }
        if self.is_garbled() {
            let event = TransferEvent::Failed(TransferFailure::Malformed);
            return self.later(node, Duration::ZERO, Input::Transfer { op, event });
        }
        let bytes = transfer.told.all(Geometry::of_blob(size).len(piece));
        if transfer.answered_after > LONG_WAY {
            let event = TransferEvent::Answered { after: transfer.answered_after };
            self.input(node, Input::Transfer { op, event });
        }
        match self.store_piece(node, digest, (piece, opened), content, check) {
            Ok(hashed) => {
                self.later(node, Duration::ZERO, Input::Transfer { op, event: TransferEvent::Done });
                let event = match hashed {
                    Some(hashed) => TransferEvent::Piece { piece, bytes, hashed, claim: transfer.claim },
                    None => TransferEvent::Progress { bytes },
                };
                self.input(node, Input::Transfer { op, event });
            }
            Err(error) => {
                let event = TransferEvent::Failed(TransferFailure::Store(error));
                self.input(node, Input::Transfer { op, event });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_waits_for_the_receivers_window() {
        let rate = |len| windows_rate(len, Duration::from_millis(100));
        assert_eq!(rate(256 << 10), None);
        // One round trip, and two.
        assert_eq!([rate(512 << 10), rate(1 << 20)], [Some(10 * (512 << 10)), Some(5 * (1 << 20))]);
        assert_eq!(windows_rate(1 << 20, Duration::ZERO), None);
    }
}

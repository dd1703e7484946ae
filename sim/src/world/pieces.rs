//! Pieces on their way from peer to peer: each takes its turn on the sender's uplink and on the receiver's downlink.

use std::time::Duration;

use longshore_core::digest::Digest;
use longshore_core::input::{Input, TransferEvent, TransferFailure};
use longshore_core::message::{PieceRefusal, PieceSum, Protocol};
use longshore_core::names::{OpId, PeerId, StreamId};
use longshore_core::output::Check;
use longshore_core::piece::Geometry;
use longshore_core::time::Time;

use super::drivers::InboundStream;
use super::network::transfer_time;
use super::{Event, NodeIndex, World};
use crate::content::{self, Content};
use crate::invariants;

/// The place of requests for pieces in [`MESSAGE_KINDS`](super::MESSAGE_KINDS).
const PIECE: usize = 8;

/// One piece, asked for by `to` and sent by `from`.
#[derive(Debug)]
pub(crate) struct PieceTransfer {
    pub(crate) to: NodeIndex,
    pub(crate) to_life: u32,
    pub(crate) from: NodeIndex,
    from_life: u32,
    pub(crate) op: OpId,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) piece: u32,
    check: Check,
    content: Content,
    claim: Option<PieceSum>,
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
        let after = self.one_way(node, from);
        let transfer = PieceTransfer {
            to: node,
            to_life,
            from,
            from_life: 0,
            op,
            digest,
            size,
            piece,
            check,
            content: content::TRUE,
            claim: None,
        };
        self.queue.push(self.now + after, Event::PieceAsked(Box::new(transfer)));
    }

    pub(super) fn transfer_fails(&mut self, node: NodeIndex, op: OpId, failure: TransferFailure) {
        self.later(node, self.options.latency, Input::Transfer { op, event: TransferEvent::Failed(failure) });
    }

    pub(super) fn piece_asked(&mut self, mut transfer: Box<PieceTransfer>) {
        let (asker, server) = (transfer.to, transfer.from);
        if !self.network.passes(asker, server, self.nodes.len()) || self.is_lost(asker, server, Some(PIECE)) {
            return;
        }
        if !self.is_up(server) {
            let event = TransferEvent::Failed(TransferFailure::Unreachable);
            return self.reply(server, asker, transfer.to_life, Input::Transfer { op: transfer.op, event });
        }
        transfer.from_life = self.nodes[server].life;
        self.connect(asker, server);
        self.open(server, asker, Protocol::Swarm, InboundStream::Piece(transfer));
    }

    pub(super) fn piece_refused(&mut self, node: NodeIndex, stream: StreamId, refusal: PieceRefusal) {
        let Some(InboundStream::Piece(transfer)) = self.nodes[node].streams.remove(&stream) else { return };
        self.later(node, Duration::ZERO, Input::StreamClosed { stream, error: None, sent_bytes: 0 });
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
        debug_assert_eq!(Geometry::of_blob(transfer.size).range(transfer.piece).start, offset);
        let stored = self.nodes[node].disk.content(&digest, transfer.piece);
        let Some(content) = self.nodes[node].corrupt.or(stored) else {
            let detail = format!("piece {} of {digest} was offered and is not here", transfer.piece);
            self.violate(&invariants::announced::RULE, node, &detail);
            self.later(node, Duration::ZERO, Input::StreamClosed { stream, error: None, sent_bytes: 0 });
            return;
        };
        transfer.content = content;
        transfer.claim = claim;
        // The sender's uplink takes one piece after the other; the receiver's downlink cuts through if it is free.
        let state = &mut self.nodes[node];
        let sent = self.now.max(state.up_free) + transfer_time(len, state.rate);
        state.up_free = sent;
        self.queue.push(sent, Event::StreamClosed(node, state.life, stream, len));
        let across = self.crosses(node, transfer.to, sent, len);
        let slow = self.network.links.rate(node, transfer.to).map_or(Duration::ZERO, |rate| transfer_time(len, rate));
        let arrives = across + slow + self.one_way(node, transfer.to);
        self.queue.push(arrives, Event::PieceAtDownlink(transfer));
    }

    /// When something of `bytes` bytes has come in whole that has just left its sender: the downlink is shared as well.
    pub(super) fn comes_in(&mut self, node: NodeIndex, bytes: u64) -> Time {
        let state = &mut self.nodes[node];
        let received = self.now.max(state.down_free + transfer_time(bytes, state.rate));
        state.down_free = received;
        received
    }

    pub(super) fn piece_at_downlink(&mut self, transfer: Box<PieceTransfer>) {
        let node = transfer.to;
        let state = &mut self.nodes[node];
        if state.life == transfer.to_life && !state.cancelled.remove(&transfer.op) {
            let arrives = self.comes_in(node, Geometry::of_blob(transfer.size).len(transfer.piece));
            self.queue.push(arrives, Event::PieceArrives(transfer));
        }
    }

    pub(super) fn piece_arrives(&mut self, transfer: PieceTransfer) {
        let PieceTransfer { to: node, to_life, from, from_life, op, digest, size, piece, check, content, claim } =
            transfer;
        if self.nodes[node].life != to_life || self.nodes[node].cancelled.remove(&op) {
            return;
        }
        if !self.network.passes(from, node, self.nodes.len()) || self.is_lost(from, node, None) {
            return;
        }
        if self.nodes[from].life != from_life {
            let event = TransferEvent::Failed(TransferFailure::Unreachable);
            return self.later(node, Duration::ZERO, Input::Transfer { op, event });
        }
        if self.is_garbled() {
            let event = TransferEvent::Failed(TransferFailure::Malformed);
            return self.later(node, Duration::ZERO, Input::Transfer { op, event });
        }
        let bytes = Geometry::of_blob(size).len(piece);
        match self.store_piece(node, digest, piece, content, check) {
            Ok(hashed) => {
                self.later(node, Duration::ZERO, Input::Transfer { op, event: TransferEvent::Done });
                self.input(node, Input::Transfer { op, event: TransferEvent::Piece { piece, bytes, hashed, claim } });
            }
            Err(error) => {
                let event = TransferEvent::Failed(TransferFailure::Store(error));
                self.input(node, Input::Transfer { op, event });
            }
        }
    }
}

//! What flows carry in this world, and what becomes of it when it arrives, is not wanted any more, or loses an end.

use std::time::Duration;

use longshore_core::digest::Digest;
use longshore_core::input::{Input, PROGRESS_INTERVAL, TransferEvent, TransferFailure};
use longshore_core::names::{OpId, StreamId};
use longshore_core::piece::Geometry;
use longshore_core::time::Time;

use super::origin::OriginTransfer;
use super::pieces::PieceTransfer;
use super::{Event, NodeIndex, World};
use crate::flows::{FlowId, Progress, Route, Step};

/// A sender whose bytes nobody takes gives up after this long, as the driver of peers does.
const STALLED_WRITE: Duration = Duration::from_secs(30);

/// What an agent has heard of the bytes of a transfer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    /// Bytes from the beginning.
    bytes: u64,
    at: Time,
}

impl Told {
    /// A transfer begins.
    pub(super) fn nothing(now: Time) -> Self {
        Self { bytes: 0, at: now }
    }

    /// `total` bytes have come by now: how many to tell of, if it is time.
    pub(super) fn progress(&mut self, now: Time, total: u64) -> Option<u64> {
        if now - self.at < PROGRESS_INTERVAL || total <= self.bytes {
            return None;
        }
        self.at = now;
        Some(self.all(total))
    }

    /// A piece that ends with byte `total` is told of: how many bytes of it are news.
    pub(super) fn all(&mut self, total: u64) -> u64 {
        let news = total.saturating_sub(self.bytes);
        self.bytes = self.bytes.max(total);
        news
    }
}

/// What a flow carries.
#[derive(Debug)]
pub(crate) enum Carried {
    /// One piece from peer to peer.
    Piece(Box<PieceTransfer>),
    /// A run of pieces from the origin to an agent.
    Origin(Box<OriginTransfer>),
    /// A blob from the origin to a containerd.
    Direct { node: NodeIndex, digest: Digest },
}

impl Carried {
    pub(super) fn to(&self) -> NodeIndex {
        match self {
            Self::Piece(transfer) => transfer.to,
            Self::Origin(transfer) => transfer.node,
            Self::Direct { node, .. } => *node,
        }
    }
}

impl World {
    pub(super) fn flow_begins(&mut self, route: Route, bytes: u64, chunk: u64, carries: Carried) -> FlowId {
        let flow = self.flows.begin(self.now, route, bytes, chunk, carries, &mut self.steps);
        self.schedule_steps();
        flow
    }

    /// Whether any agent is fetching from the registry.
    #[must_use]
    pub fn origin_is_sending(&self) -> bool {
        self.flows.iter().any(|(_, carried)| matches!(carried, Carried::Origin(_)))
    }

    fn schedule_steps(&mut self) {
        for (at, step) in self.steps.drain(..) {
            self.queue.push(at, Event::Flow(step));
        }
    }

    pub(super) fn flow_steps(&mut self, step: Step) {
        let progress = self.flows.step(self.now, step, &mut self.steps);
        self.schedule_steps();
        match progress {
            Progress::Nothing => {}
            Progress::Left { flow, bytes, all } => self.chunk_left(flow, bytes, all),
            Progress::Received { flow, total, all } => match self.flows.get(flow) {
                Some(Carried::Piece(_)) if all => {
                    if let Some(Carried::Piece(transfer)) = self.flows.end(flow) {
                        self.piece_arrives(*transfer);
                    }
                }
                Some(Carried::Piece(_)) => self.more_of_a_piece(flow, total),
                Some(Carried::Origin(_)) => self.came_from_origin(flow, total),
                Some(Carried::Direct { node, digest }) => self.came_directly(flow, *node, *digest, all),
                _ => {}
            },
        }
    }

    fn more_of_a_piece(&mut self, flow: FlowId, total: u64) {
        let Some(Carried::Piece(transfer)) = self.flows.get_mut(flow) else { return };
        if let Some(bytes) = transfer.told.progress(self.now, total) {
            let (from, to, op) = (transfer.from, transfer.to, transfer.op);
            self.flows.be_quiet(flow, self.now + PROGRESS_INTERVAL);
            if self.network.passes(from, to, self.nodes.len()) {
                self.input(to, Input::Transfer { op, event: TransferEvent::Progress { bytes } });
            }
        }
    }

    fn chunk_left(&mut self, flow: FlowId, bytes: u64, all: bool) {
        let from_origin = !matches!(self.flows.get(flow), Some(Carried::Piece(_)) | None);
        self.record(|record| record.leaves(bytes, from_origin));
        match self.flows.get(flow) {
            Some(Carried::Piece(transfer)) => {
                let (from, to, stream) = (transfer.from, transfer.to, transfer.stream);
                let length = Geometry::of_blob(transfer.size).len(transfer.piece);
                if self.zone(from) != self.zone(to) {
                    self.cross_zone_bytes += bytes;
                }
                if all {
                    let input = Input::StreamClosed { stream, error: None, sent_bytes: length };
                    self.later(from, Duration::ZERO, input);
                }
            }
            Some(Carried::Origin(_)) => self.left_origin(flow, bytes),
            Some(Carried::Direct { .. }) => self.origin.direct_bytes += bytes,
            None => {}
        }
    }

    /// The agent does not want it any more.
    pub(super) fn cancel_transfer(&mut self, node: NodeIndex, op: OpId) {
        let Some(flow) = self.nodes[node].fetching.remove(&op) else {
            // The request is still on its way, or the answer.
            self.nodes[node].cancelled.insert(op);
            return;
        };
        self.tell_sender(flow);
        self.flows.end(flow);
    }

    /// A transfer is over for whoever fetched.
    pub(super) fn fetch_ends(&mut self, node: NodeIndex, op: OpId) {
        if let Some(flow) = self.nodes[node].fetching.remove(&op) {
            self.flows.end(flow);
        }
    }

    /// A sender takes back a piece that is on its way: its reader takes too long.
    pub(super) fn stops_sending(&mut self, node: NodeIndex, stream: StreamId) {
        let is_it = |carried: &Carried| matches!(carried, Carried::Piece(it) if it.from == node && it.stream == stream);
        let Some(flow) = self.flows.iter().find(|(_, carried)| is_it(carried)).map(|(flow, _)| flow) else { return };
        let sent_bytes = self.flows.sent(flow);
        let Some(Carried::Piece(transfer)) = self.flows.end(flow) else { return };
        self.later(node, Duration::ZERO, Input::StreamClosed { stream, error: None, sent_bytes });
        self.nodes[transfer.to].fetching.remove(&transfer.op);
        if self.network.passes(node, transfer.to, self.nodes.len()) {
            let after = self.one_way(node, transfer.to);
            let event = TransferEvent::Failed(TransferFailure::Unreachable);
            self.later(transfer.to, after, Input::Transfer { op: transfer.op, event });
        }
    }

    /// Whoever sends a piece learns that nobody takes the rest.
    fn tell_sender(&mut self, flow: FlowId) {
        let sent_bytes = self.flows.sent(flow);
        let Some(Carried::Piece(transfer)) = self.flows.get(flow) else { return };
        let (from, to, stream) = (transfer.from, transfer.to, transfer.stream);
        let sent_all = sent_bytes >= Geometry::of_blob(transfer.size).len(transfer.piece);
        if !sent_all && self.is_up(from) {
            let after = match self.network.passes(to, from, self.nodes.len()) {
                true => self.one_way(to, from),
                false => STALLED_WRITE,
            };
            self.later(from, after, Input::StreamClosed { stream, error: None, sent_bytes });
        }
    }

    /// A node is down: what it received is lost, and those whom it was sending to learn of it, if anything reaches them.
    pub(super) fn flows_break(&mut self, node: NodeIndex) {
        let touched: Vec<_> = self
            .flows
            .iter()
            .filter(|(_, carried)| match carried {
                Carried::Piece(transfer) => transfer.to == node || transfer.from == node,
                other => other.to() == node,
            })
            .map(|(flow, _)| flow)
            .collect();
        for flow in touched {
            self.tell_sender(flow);
            if let Some(Carried::Piece(transfer)) = self.flows.end(flow)
                && transfer.to != node
            {
                let (to, op) = (transfer.to, transfer.op);
                self.nodes[to].fetching.remove(&op);
                if self.network.passes(node, to, self.nodes.len()) {
                    let after = self.one_way(node, to);
                    let event = TransferEvent::Failed(TransferFailure::Unreachable);
                    self.later(to, after, Input::Transfer { op, event });
                }
            }
        }
        self.nodes[node].fetching.clear();
    }
}

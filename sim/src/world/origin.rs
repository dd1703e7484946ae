//! The registry: one uplink, a rate for each connection, and faults on demand.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longshore_core::digest::Digest;
use longshore_core::input::{Hashed, Input, OriginFailure, OriginStat, TransferEvent, TransferFailure};
use longshore_core::message::FailureClass;
use longshore_core::names::OpId;
use longshore_core::output::{Check, Span};
use longshore_core::piece::Geometry;
use longshore_core::time::Time;

use super::transfers::{Carried, Told};
use super::{Event, NodeIndex, Options, World};
use crate::content;
use crate::flows::{FlowId, LinkId, Route, chunk_of};

/// The share of requests that is all of them.
const ALWAYS: u32 = 1_000_000;

/// What the origin does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 500 to everything.
    Errors,
    /// 404 to everything.
    Empty,
    /// 429 with this Retry-After.
    RateLimited(Duration),
    /// Requests are never answered.
    Silent,
    /// Ranges are answered with the whole body.
    NoRanges,
    /// 401 to everything, with or without a credential.
    Unauthorized,
    /// 403 to everything.
    Forbidden,
    /// No connection can be made.
    Unreachable,
    /// Bodies end after a piece.
    Truncates,
    /// Bodies are not what was asked for.
    Corrupt,
}

/// What the origin does wrong to some, or at times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What it does.
    pub fault: Fault,
    /// To whom; to everybody, if nobody is named.
    pub nodes: BTreeSet<NodeIndex>,
    /// How often, in a million.
    pub share: u32,
}

/// The registry's state.
#[derive(Debug)]
pub struct Origin {
    /// What it does wrong now.
    pub fault: Option<Fault>,
    /// What it does wrong to some, or at times, by the number of the fault.
    pub troubles: BTreeMap<u32, Trouble>,
    /// It has sent wrong bytes.
    pub was_corrupt: bool,
    /// It answers 401 to requests without a credential.
    pub private: bool,
    /// Bytes of each blob that it has sent to agents.
    pub sent: BTreeMap<Digest, u64>,
    /// How often each piece was sent to an agent.
    pub pieces_sent: BTreeMap<(Digest, u32), u32>,
    /// Bytes that it has sent to containerds which the mirror had sent on.
    pub direct_bytes: u64,
    /// Requests that it has seen.
    pub requests: u64,
    /// Added to each answer.
    pub delay: Duration,
    pub(crate) connection_rate: Option<u64>,
    pub(crate) link: LinkId,
    /// The present second, and requests seen in it.
    second: (u64, u32),
    requests_per_second: Option<u32>,
    /// The same for each node.
    node_seconds: BTreeMap<NodeIndex, (u64, u32)>,
    requests_per_node_second: Option<u32>,
}

/// A run of pieces on one connection from the origin.
#[derive(Clone, Debug)]
pub(crate) struct OriginTransfer {
    pub(crate) node: NodeIndex,
    life: u32,
    op: OpId,
    pub(crate) digest: Digest,
    size: u64,
    /// The next piece to arrive, and bytes of those before it.
    next: u32,
    arrived_bytes: u64,
    /// The next piece to have left the origin, and bytes of those before it.
    leaving: u32,
    left_bytes: u64,
    end: u32,
    check: Check,
    /// Bytes that have arrived.
    total: u64,
    told: Told,
    /// A slow disk is taking the next piece.
    is_writing: bool,
    /// When it was asked for: see [`World::order`].
    opened: u32,
}

impl Origin {
    pub(crate) fn new(options: &Options, link: LinkId) -> Self {
        Self {
            fault: None,
            troubles: BTreeMap::new(),
            was_corrupt: false,
            private: false,
            sent: BTreeMap::new(),
            pieces_sent: BTreeMap::new(),
            direct_bytes: 0,
            requests: 0,
            delay: Duration::ZERO,
            connection_rate: options.origin_connection_rate,
            link,
            second: (0, 0),
            requests_per_second: options.origin_requests_per_second,
            node_seconds: BTreeMap::new(),
            requests_per_node_second: options.origin_requests_per_node_second,
        }
    }

    pub(crate) fn heal(&mut self) {
        self.fault = None;
        self.troubles.clear();
        self.delay = Duration::ZERO;
    }

    /// Bytes sent to agents, of all blobs.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.sent.values().sum()
    }

    /// The failure that a request of a node meets, if any, with what is wrong now.
    pub(crate) fn refuses(
        &mut self,
        now: Time,
        node: NodeIndex,
        fault: Option<Fault>,
        has_credential: bool,
        exists: bool,
    ) -> Option<OriginFailure> {
        if fault == Some(Fault::Unreachable) {
            return Some(broken("no connection could be made"));
        }
        self.requests += 1;
        let mut too_many = counts_as_too_many(&mut self.second, now, self.requests_per_second);
        if self.requests_per_node_second.is_some() {
            let seen = self.node_seconds.entry(node).or_default();
            too_many |= counts_as_too_many(seen, now, self.requests_per_node_second);
        }
        let (class, status, retry_after) = match fault {
            _ if self.private && !has_credential => (FailureClass::Auth, 401, None),
            Some(Fault::Unauthorized) => (FailureClass::Auth, 401, None),
            Some(Fault::Forbidden) => (FailureClass::Auth, 403, None),
            Some(Fault::Errors) => (FailureClass::Transient, 500, None),
            Some(Fault::Empty) => (FailureClass::NotFound, 404, None),
            Some(Fault::RateLimited(after)) => (FailureClass::RateLimited, 429, Some(after)),
            _ if too_many => (FailureClass::RateLimited, 429, Some(Duration::from_secs(1))),
            _ if !exists => (FailureClass::NotFound, 404, None),
            _ => return None,
        };
        let challenge = if status == 401 { vec!["Basic realm=\"origin\"".into()] } else { Vec::new() };
        Some(OriginFailure { class, status: Some(status), retry_after, challenge, detail: "simulated".into() })
    }
}

/// Counts a request; whether it is one more than `most` in a second.
fn counts_as_too_many(seen: &mut (u64, u32), now: Time, most: Option<u32>) -> bool {
    let second = now.as_micros() / 1_000_000;
    if seen.0 != second {
        *seen = (second, 0);
    }
    seen.1 += 1;
    most.is_some_and(|most| seen.1 > most)
}

fn broken(detail: &str) -> OriginFailure {
    OriginFailure {
        class: FailureClass::Transient,
        status: None,
        retry_after: None,
        challenge: Vec::new(),
        detail: detail.into(),
    }
}

impl World {
    /// What the origin does wrong to a request of a node, this time.
    pub(super) fn origin_fault(&mut self, node: NodeIndex) -> Option<Fault> {
        self.origin_trouble(node, |_| true)
    }

    /// What it does wrong to a body on its way to a node. What befalls a share of the requests spares their bodies.
    pub(super) fn body_fault(&mut self, node: NodeIndex) -> Option<Fault> {
        let is_of_bodies = |fault| matches!(fault, Fault::Truncates | Fault::Corrupt);
        self.origin_trouble(node, |trouble| trouble.share >= ALWAYS || is_of_bodies(trouble.fault))
    }

    fn origin_trouble(&mut self, node: NodeIndex, applies: impl Fn(&Trouble) -> bool) -> Option<Fault> {
        let chance = &mut self.chance;
        let troubles = self.origin.troubles.values();
        self.origin.fault.or_else(|| {
            troubles
                .filter(|trouble| trouble.nodes.is_empty() || trouble.nodes.contains(&node))
                .filter(|trouble| applies(trouble))
                .find(|trouble| trouble.share >= ALWAYS || chance.happens(trouble.share))
                .map(|trouble| trouble.fault)
        })
    }

    pub(super) fn stat_origin(&mut self, node: NodeIndex, op: OpId, digest: Digest, has_credential: bool) {
        let fault = self.origin_fault(node);
        if fault == Some(Fault::Silent) {
            return;
        }
        let blob = self.blobs.get(&digest);
        let result: Result<OriginStat, OriginFailure> =
            match self.origin.refuses(self.now, node, fault, has_credential, blob.is_some()) {
                Some(failure) => Err(failure),
                None => Ok(OriginStat { size: blob.map_or(0, |blob| blob.size), media_type: None }),
            };
        let after = self.origin_way(node) * 2 + self.origin.delay;
        self.later(node, after, Input::OriginStat { op, result });
    }

    pub(super) fn fetch_origin(
        &mut self,
        node: NodeIndex,
        op: OpId,
        digest: Digest,
        span: Span,
        has_credential: bool,
        check: Check,
    ) {
        let fault = self.origin_fault(node);
        if fault == Some(Fault::Silent) {
            return;
        }
        let size = self.blobs.get(&digest).map(|blob| blob.size);
        let way = self.origin_way(node) + self.origin.delay;
        if let Some(failure) = self.origin.refuses(self.now, node, fault, has_credential, size.is_some()) {
            let event = TransferEvent::Failed(TransferFailure::Origin(failure));
            return self.later(node, way * 2, Input::Transfer { op, event });
        }
        let size = size.unwrap_or(0);
        let pieces = Geometry::of_blob(size).pieces();
        let (next, end) = match span {
            Span::Unknown { .. } => {
                let staged = self.nodes[node].disk.staged.entry(digest).or_default();
                staged.size = size;
                // Headers come before the body on the same connection; no later than the soonest piece.
                let event = TransferEvent::Headers { size, media_type: None };
                self.later(node, way, Input::Transfer { op, event });
                (0, pieces)
            }
            Span::All { .. } => (0, pieces),
            Span::Pieces { .. } if fault == Some(Fault::NoRanges) => {
                let event = TransferEvent::Failed(TransferFailure::NoRanges);
                return self.later(node, way * 2, Input::Transfer { op, event });
            }
            Span::Pieces { first, count, .. } => (first, first + count),
        };
        let life = self.nodes[node].life;
        let transfer = OriginTransfer {
            node,
            life,
            op,
            digest,
            size,
            next,
            arrived_bytes: 0,
            leaving: next,
            left_bytes: 0,
            end,
            check,
            total: 0,
            told: Told::nothing(self.now),
            is_writing: false,
            opened: self.order(),
        };
        self.queue.push(self.now + way, Event::OriginAsked(Box::new(transfer)));
    }

    /// Bytes per second that the origin sends from now on.
    pub fn set_origin_rate(&mut self, rate: u64) {
        self.flows.set_rate(self.origin.link, rate);
    }

    pub(super) fn origin_asked(&mut self, mut transfer: Box<OriginTransfer>) {
        let (node, op) = (transfer.node, transfer.op);
        let state = &mut self.nodes[node];
        if state.life != transfer.life || state.cancelled.remove(&op) {
            return;
        }
        transfer.told = Told::nothing(self.now);
        let route = self.route_from_origin(node);
        let geometry = Geometry::of_blob(transfer.size);
        let bytes = (transfer.next..transfer.end).map(|piece| geometry.len(piece)).sum();
        let flow = self.flow_begins(route, bytes, chunk_of(geometry.len(0)), Carried::Origin(transfer));
        self.nodes[node].fetching.insert(op, flow);
    }

    pub(super) fn route_from_origin(&self, node: NodeIndex) -> Route {
        Route {
            from: self.origin.link,
            across: None,
            to: self.nodes[node].down,
            latency: self.origin_way(node) + self.origin.delay,
            most: self.origin.connection_rate,
        }
    }

    /// A piece more has left the origin, maybe.
    pub(super) fn left_origin(&mut self, flow: FlowId, bytes: u64) {
        let total = self.flows.sent(flow);
        let Some(Carried::Origin(transfer)) = self.flows.get_mut(flow) else { return };
        *self.origin.sent.entry(transfer.digest).or_default() += bytes;
        while transfer.leaving < transfer.end {
            let length = Geometry::of_blob(transfer.size).len(transfer.leaving);
            if total < transfer.left_bytes + length {
                break;
            }
            *self.origin.pieces_sent.entry((transfer.digest, transfer.leaving)).or_default() += 1;
            transfer.leaving += 1;
            transfer.left_bytes += length;
        }
    }

    /// More of a run has arrived: so many bytes by now. A chunk may end several pieces, where the last one is small.
    pub(super) fn came_from_origin(&mut self, flow: FlowId, total: u64) {
        let Some(Carried::Origin(transfer)) = self.flows.get_mut(flow) else { return };
        transfer.total = total;
        let OriginTransfer { node, op, size, next, arrived_bytes, is_writing, .. } = **transfer;
        let fault = self.body_fault(node);
        match fault {
            Some(Fault::Silent) => return,
            Some(Fault::Errors | Fault::Unreachable) => {
                self.fetch_ends(node, op);
                let failure = TransferFailure::Origin(broken("the connection broke"));
                return self.transfer_fails(node, op, failure);
            }
            _ => {}
        }
        let bytes = Geometry::of_blob(size).len(next);
        if total < arrived_bytes + bytes || is_writing {
            let now = self.now;
            let told = match self.flows.get_mut(flow) {
                Some(Carried::Origin(transfer)) => transfer.told.progress(now, total),
                _ => None,
            };
            if let Some(bytes) = told {
                self.input(node, Input::Transfer { op, event: TransferEvent::Progress { bytes } });
            }
            return;
        }
        if let Some(at) = self.disk_takes(node, bytes) {
            if let Some(Carried::Origin(transfer)) = self.flows.get_mut(flow) {
                transfer.is_writing = true;
            }
            return self.queue.push(at, Event::OriginWritten(Box::new((flow, fault))));
        }
        self.piece_from_origin(flow, fault);
        if let Some(Carried::Origin(_)) = self.flows.get(flow) {
            self.came_from_origin(flow, total);
        }
    }

    /// A slow disk has taken a piece; the next one may have come meanwhile.
    pub(super) fn written_from_origin(&mut self, flow: FlowId, fault: Option<Fault>) {
        let Some(Carried::Origin(transfer)) = self.flows.get_mut(flow) else { return };
        transfer.is_writing = false;
        self.piece_from_origin(flow, fault);
        if let Some(Carried::Origin(transfer)) = self.flows.get(flow) {
            let total = transfer.total;
            self.came_from_origin(flow, total);
        }
    }

    fn piece_from_origin(&mut self, flow: FlowId, fault: Option<Fault>) {
        let Some(Carried::Origin(transfer)) = self.flows.get_mut(flow) else { return };
        let OriginTransfer { node, op, digest, size, next, end, check, arrived_bytes, opened, .. } = **transfer;
        let bytes = Geometry::of_blob(size).len(next);
        let news = transfer.told.all(arrived_bytes + bytes);
        let label = self.blobs.get(&digest).map_or(content::TRUE, |blob| blob.label);
        let content = if fault == Some(Fault::Corrupt) { content::WRONG } else { label };
        self.origin.was_corrupt |= content == content::WRONG;
        let hashed = match self.store_piece(node, digest, (next, opened), content, check) {
            Ok(hashed) => hashed,
            Err(error) => {
                self.fetch_ends(node, op);
                let event = TransferEvent::Failed(TransferFailure::Store(error));
                return self.input(node, Input::Transfer { op, event });
            }
        };
        if next + 1 == end {
            self.fetch_ends(node, op);
            self.later(node, Duration::ZERO, Input::Transfer { op, event: TransferEvent::Done });
        } else if fault == Some(Fault::Truncates) {
            self.fetch_ends(node, op);
            self.transfer_fails(node, op, TransferFailure::Origin(broken("the body ended early")));
        } else if let Some(Carried::Origin(transfer)) = self.flows.get_mut(flow) {
            transfer.next += 1;
            transfer.arrived_bytes += bytes;
            if let Some(Hashed::Chained(after)) = hashed {
                transfer.check = Check::From(after);
            }
        }
        let event = match hashed {
            Some(hashed) => TransferEvent::Piece { piece: next, bytes: news, hashed, claim: None },
            None => TransferEvent::Progress { bytes: news },
        };
        self.input(node, Input::Transfer { op, event });
    }
}

//! Carries out what agents ask: the simulated counterpart of `longshore-net`.

use std::sync::Arc;
use std::time::Duration;

use longshore_core::input::{CallError, Input, StreamError, TransferEvent, TransferFailure};
use longshore_core::message::{EnrolReply, Notice, PieceRequest, Protocol, Request, Response};
use longshore_core::names::{CallId, PeerId, StreamId};
use longshore_core::output::Output;

use super::pieces::PieceTransfer;
use super::{Event, NodeIndex, World};
use crate::invariants;
use crate::replay::causes::{self, Thread};

/// A call on its way.
#[derive(Debug)]
pub(crate) struct Calling {
    pub(super) from: NodeIndex,
    from_life: u32,
    pub(super) to: NodeIndex,
    call: CallId,
    request: Request,
}

#[derive(Debug)]
pub(crate) enum InboundStream {
    Call { from: NodeIndex, from_life: u32, call: CallId, request: Option<Box<Request>> },
    Piece(Box<PieceTransfer>),
}

impl InboundStream {
    /// Who opened it.
    pub(super) fn opener(&self) -> NodeIndex {
        match self {
            Self::Call { from, .. } => *from,
            Self::Piece(transfer) => transfer.to,
        }
    }
}

/// The place of a request in [`MESSAGE_KINDS`](super::MESSAGE_KINDS).
fn kind_of_request(request: &Request) -> usize {
    match request {
        Request::PullIntent { .. } => 0,
        Request::PleasePull(_) => 1,
        Request::Enrol(_) => 2,
    }
}

/// The place of a notice in [`MESSAGE_KINDS`](super::MESSAGE_KINDS).
fn kind_of_notice(notice: &Notice) -> usize {
    match notice {
        Notice::Have { .. } => 3,
        Notice::Assign { .. } => 4,
        Notice::Unassigned { .. } => 5,
        Notice::Starving { .. } => 6,
        Notice::Leave { .. } => 7,
        Notice::Unchoke { .. } => 8,
    }
}

impl World {
    pub(super) fn perform(&mut self, node: NodeIndex, mut output: Output) {
        self.watch_output(node, &output);
        if self.nodes[node].lies {
            twist(&mut output);
        }
        match output {
            Output::MirrorServe { request, size, .. } => self.mirror_served(node, request, size),
            Output::MirrorRefuse { request, refusal } => self.mirror_refused(node, request, &refusal),
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
                self.fetch_piece(node, op, &peer, (digest, size, piece, check));
            }
            Output::FetchOrigin { op, digest, span, credential, check, .. } => {
                self.fetch_origin(node, op, digest, span, invariants::private::is_accepted(credential), check);
            }
            Output::CancelTransfer { op } => self.cancel_transfer(node, op),
            Output::StatOrigin { op, digest, credential, .. } => {
                self.stat_origin(node, op, digest, invariants::private::is_accepted(credential))
            }
            Output::FindProviders { op, digest } => self.find_providers(node, op, digest),
            Output::Announce { digests } => {
                for digest in digests {
                    if !self.nodes[node].disk.complete.contains_key(&digest) {
                        let detail = format!("{digest} was announced and is not here");
                        self.violate(&invariants::announced::RULE, node, &detail);
                    }
                    let (at, life) = (self.now + self.options.index_delay, self.nodes[node].life);
                    if self.options.index_delay.is_zero() {
                        self.index.entry(digest).or_default().insert(node);
                    } else {
                        self.queue.push(at, Event::Announced(node, life, Box::new(digest)));
                    }
                }
            }
            Output::Withdraw { digests } => {
                for digest in digests {
                    if self.options.index_staleness.is_zero() {
                        self.index.entry(digest).or_default().remove(&node);
                    } else {
                        self.queue
                            .push(self.now + self.options.index_staleness, Event::Forgotten(node, Box::new(digest)));
                    }
                }
            }
            Output::Stage { digest, size, facts } => self.stage(node, digest, size, facts),
            Output::Record { digest, piece } => {
                if let Some(staged) = self.nodes[node].disk.staged.get_mut(&digest) {
                    staged.records.insert(piece.piece, Box::new(piece));
                }
            }
            Output::HashPiece { op, digest, size, piece, from } => self.hash_piece(node, op, digest, size, piece, from),
            Output::Commit { digest, facts } => self.commit(node, digest, facts),
            Output::Discard { digest } => {
                self.nodes[node].disk.staged.remove(&digest);
                self.nodes[node].released.remove(&digest);
            }
            Output::Evict { digest } => self.evict(node, digest),
            Output::KeepSpine { digest, states } => self.keep_spine(node, digest, states),
            Output::ReadSpine { digest } => self.read_spine(node, digest),
            Output::ReadManifest { digest } => {
                let children = self.blobs.get(&digest).map(|blob| blob.children.clone()).unwrap_or_default();
                self.later(node, Duration::from_micros(200), Input::Manifest { digest, media_type: None, children });
            }
            Output::Verify { digest } => self.verify(node, digest),
            Output::Explain(explanation) => self.explained(node, explanation),
            Output::CallCancel { .. }
            | Output::Learn { .. }
            | Output::ForgetCredential { .. }
            | Output::Touch { .. }
            | Output::Drained => {}
        }
    }

    /// Counts a message of a kind of [`MESSAGE_KINDS`](super::MESSAGE_KINDS).
    pub(super) fn count_message(&mut self, kind: usize) {
        self.messages += 1;
        self.messages_by_kind[kind] += 1;
    }

    fn call(&mut self, node: NodeIndex, call: CallId, to: &PeerId, request: Request) {
        self.count_message(kind_of_request(&request));
        let from_life = self.nodes[node].life;
        match self.index_of(to) {
            Some(to) if request.protocol() == Protocol::Swarm && !self.both_swarm(node, to) => {
                self.reply(to, node, from_life, Input::CallFailed { call, error: CallError::Reset });
            }
            Some(to) => {
                let after = self.one_way(node, to);
                let request = self.request_as_told(node, request);
                let calling = Calling { from: node, from_life, to, call, request };
                self.queue.push(self.now + after, Event::CallArrives(Box::new(calling)));
            }
            None => self.later(node, self.options.latency, Input::CallFailed { call, error: CallError::Unreachable }),
        }
    }

    pub(super) fn call_arrives(&mut self, calling: Calling) {
        let Calling { from, from_life, to, call, request } = calling;
        let kind = Some(kind_of_request(&request));
        if !self.gets_through(from, to, kind, Some((from, Thread::Call(call.0)))) {
            return;
        }
        if !self.is_up(to) {
            self.record(|record| record.nobody_there(from, to));
            return self.reply(to, from, from_life, Input::CallFailed { call, error: CallError::Unreachable });
        }
        self.connect(from, to);
        let protocol = request.protocol();
        self.open(to, from, protocol, InboundStream::Call { from, from_life, call, request: Some(Box::new(request)) });
    }

    pub(super) fn open(&mut self, to: NodeIndex, from: NodeIndex, protocol: Protocol, inbound: InboundStream) {
        let stream = StreamId(self.next_id());
        self.nodes[to].streams.insert(stream, inbound);
        self.input(to, Input::StreamOpened { stream, peer: self.peers[from].clone(), protocol });
    }

    fn stream_admitted(&mut self, node: NodeIndex, stream: StreamId) {
        if self.is_garbled() {
            return self.stream_breaks(node, stream, StreamError::Malformed);
        }
        let input = match self.nodes[node].streams.get_mut(&stream) {
            Some(InboundStream::Call { request, .. }) => {
                let Some(request) = request.take() else { return };
                Input::StreamRequest { stream, request: *request }
            }
            Some(InboundStream::Piece(transfer)) => {
                let request = PieceRequest { digest: transfer.digest, size: transfer.size, piece: transfer.piece };
                Input::PieceRequested { stream, request }
            }
            None => return,
        };
        self.later(node, Duration::ZERO, input);
    }

    fn stream_ends(&mut self, node: NodeIndex, stream: StreamId, response: Option<Response>) {
        let Some(inbound) = self.nodes[node].streams.remove(&stream) else { return self.stops_sending(node, stream) };
        self.later(node, Duration::ZERO, Input::StreamClosed { stream, error: None, sent_bytes: 0 });
        self.answer(node, inbound, response);
    }

    /// A stream ends because of what came by it, or because its connection broke; who opened it gets no answer.
    pub(super) fn stream_breaks(&mut self, node: NodeIndex, stream: StreamId, error: StreamError) {
        let Some(inbound) = self.nodes[node].streams.remove(&stream) else { return };
        self.later(node, Duration::ZERO, Input::StreamClosed { stream, error: Some(error), sent_bytes: 0 });
        self.answer(node, inbound, None);
    }

    fn answer(&mut self, node: NodeIndex, inbound: InboundStream, response: Option<Response>) {
        match inbound {
            InboundStream::Call { from, from_life, call, .. } => {
                if let Some(response) = &response {
                    invariants::introductions::check(self, node, from, response);
                }
                let input = match response {
                    Some(_) if self.is_garbled() => Input::CallFailed { call, error: CallError::Malformed },
                    Some(response) => Input::Reply { call, response: self.response_as_told(node, response) },
                    None => Input::CallFailed { call, error: CallError::Reset },
                };
                self.reply(node, from, from_life, input);
            }
            InboundStream::Piece(transfer) => {
                let PieceTransfer { to, to_life, op, .. } = *transfer;
                let event = TransferEvent::Failed(TransferFailure::Unreachable);
                self.reply(node, to, to_life, Input::Transfer { op, event });
            }
        }
    }

    /// Something goes back to whoever asked, if it gets through.
    pub(super) fn reply(&mut self, from: NodeIndex, to: NodeIndex, life: u32, input: Input) {
        let waits = causes::connection(&input).0.map(|thread| (to, thread));
        if !self.gets_through(from, to, None, waits) {
            return;
        }
        let event = Event::Input(to, life, Box::new(input));
        if self.network.links.is_clogged(from, to) {
            return self.held.push((from, to, event));
        }
        let after = self.one_way(from, to);
        self.queue.push(self.now + after, event);
    }

    fn notify(&mut self, node: NodeIndex, to: &PeerId, notice: Arc<Notice>) {
        self.count_message(kind_of_notice(&notice));
        let Some(to) = self.index_of(to).filter(|to| self.both_swarm(node, *to)) else { return };
        let notice = self.notice_as_told(node, notice);
        let duplication = self.network.duplication;
        if self.chance.happens(duplication) {
            let after = self.one_way(node, to) * 2;
            let notice = notice.clone();
            self.queue.push(self.now + after, Event::NoticeArrives(node as u32, to, notice));
        }
        let after = self.one_way(node, to);
        self.queue.push(self.now + after, Event::NoticeArrives(node as u32, to, notice));
    }

    pub(super) fn notice_arrives(&mut self, from: NodeIndex, to: NodeIndex, notice: Arc<Notice>) {
        let kind = Some(kind_of_notice(&notice));
        if self.is_up(to) && self.gets_through(from, to, kind, None) && !self.is_garbled() {
            self.connect(from, to);
            self.input(to, Input::Notice { peer: self.peers[from].clone(), notice });
        }
    }
}

/// What a liar says of midstates.
fn twist(output: &mut Output) {
    let spine = match output {
        Output::StreamReply { response: Response::Enrol(EnrolReply::Enrolled { spine, .. }), .. } => spine,
        Output::Notify { notice, .. } => match Arc::make_mut(notice) {
            Notice::Have { spine, .. } | Notice::Unchoke { spine, .. } => spine,
            _ => return,
        },
        _ => return,
    };
    for (piece, state) in spine {
        state.0[0] ^= *piece + 1;
    }
}

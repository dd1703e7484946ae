//! What happens next: the queue of events, what each of them does, and the way of an input through an agent.

use std::sync::Arc;
use std::time::Duration;

use longshore_core::digest::Digest;
use longshore_core::input::Input;
use longshore_core::message::Notice;
use longshore_core::time::Time;

use super::transfers::Carried;
use super::{Fault, NodeIndex, World, client, drivers, origin, pieces};
use crate::flows::{FlowId, Step};
use crate::invariants::quiet_network;
use crate::record::Record;

#[derive(Debug)]
pub(crate) enum Event {
    Wake(NodeIndex, u32),
    Input(NodeIndex, u32, Box<Input>),
    CallArrives(Box<drivers::Calling>),
    /// To the second node, from the first one.
    NoticeArrives(u32, NodeIndex, Arc<Notice>),
    PieceAsked(Box<pieces::PieceTransfer>),
    OriginAsked(Box<origin::OriginTransfer>),
    Flow(Step),
    /// A slow disk has taken a piece from the origin, which this was wrong with.
    OriginWritten(Box<(FlowId, Option<Fault>)>),
    /// A slow disk has taken a piece from a peer.
    PieceWritten(Box<pieces::PieceTransfer>),
    Client(NodeIndex, Box<client::ClientEvent>),
    Announced(NodeIndex, u32, Box<Digest>),
    Forgotten(NodeIndex, Box<Digest>),
    ViewChanges(NodeIndex),
    /// An informer sees an event that a later one has overtaken.
    Overtaken(NodeIndex, NodeIndex, bool),
}

impl World {
    /// Handles the next event, if there is one before `end`, and all that follows from it at once.
    pub(super) fn step(&mut self, end: Time) -> bool {
        if self.queue.next_time().is_none_or(|at| at > end) && self.ready.is_empty() {
            return false;
        }
        if self.ready.is_empty()
            && let Some((at, event)) = self.queue.pop()
        {
            self.at_once = if at > self.now { 0 } else { self.at_once + 1 };
            self.now = at;
            if self.at_once > quiet_network::MOST_AT_ONCE {
                return self.goes_in_circles();
            }
            self.events += 1;
            let number = self.queue.taken();
            self.record(|record| record.take_queued(number));
            self.happen(event);
        }
        while !self.ready.is_empty() {
            self.record(Record::take_ready);
            let Some((node, life, input)) = self.ready.pop_front() else { break };
            self.events += 1;
            self.at_once += 1;
            if self.at_once > quiet_network::MOST_AT_ONCE {
                return self.goes_in_circles();
            }
            if self.nodes[node].life != life {
                continue;
            }
            if self.nodes[node].paused_until > self.now {
                self.record(|record| record.held(node));
                self.queue.push(self.nodes[node].paused_until, Event::Input(node, life, Box::new(input)));
            } else {
                self.input(node, input);
            }
        }
        self.record(Record::rest);
        true
    }

    /// The node whose process an event needs to run, if it needs one.
    fn runs_on(&self, event: &Event) -> Option<NodeIndex> {
        match event {
            Event::Wake(node, _) | Event::Input(node, ..) | Event::NoticeArrives(_, node, _) => Some(*node),
            Event::CallArrives(calling) => Some(calling.to),
            Event::PieceAsked(transfer) => Some(transfer.from),
            Event::PieceWritten(transfer) => Some(transfer.to),
            // What has come in is not read; soon the sender's window is full.
            Event::Flow(Step::Comes(flow, _) | Step::Received(flow, _)) => self.flows.get(*flow).map(Carried::to),
            _ => None,
        }
    }

    fn happen(&mut self, event: Event) {
        if let Some(node) = self.runs_on(&event)
            && self.nodes[node].paused_until > self.now
        {
            if let Event::Wake(node, life) = event
                && self.nodes[node].life == life
            {
                self.nodes[node].armed = Some(self.nodes[node].paused_until);
            }
            self.record(|record| record.held(node));
            return self.queue.push(self.nodes[node].paused_until, event);
        }
        let Some(event) = self.unless_clogged(event) else { return };
        match event {
            Event::Wake(node, life) => {
                let state = &mut self.nodes[node];
                if state.life == life && state.armed == Some(self.now) {
                    state.armed = None;
                    self.input(node, Input::Tick);
                }
            }
            Event::Input(node, life, input) => self.input_of(node, life, *input),
            Event::CallArrives(calling) => self.call_arrives(*calling),
            Event::NoticeArrives(from, to, notice) => self.notice_arrives(from as NodeIndex, to, notice),
            Event::PieceAsked(transfer) => self.piece_asked(transfer),
            Event::OriginAsked(transfer) => self.origin_asked(transfer),
            Event::Flow(step) => self.flow_steps(step),
            Event::OriginWritten(written) => self.written_from_origin(written.0, written.1),
            Event::PieceWritten(transfer) => self.piece_written(*transfer),
            Event::Client(node, event) => self.client_event(node, *event),
            Event::Announced(node, life, digest) => {
                if self.nodes[node].life == life {
                    self.index.entry(*digest).or_default().insert(node);
                }
            }
            Event::Forgotten(node, digest) => {
                if let Some(holders) = self.index.get_mut(&digest) {
                    holders.remove(&node);
                }
            }
            Event::ViewChanges(node) => self.view_changes(node),
            Event::Overtaken(node, changed, is_up) => self.overtaken(node, changed, is_up),
        }
    }

    fn input_of(&mut self, node: NodeIndex, life: u32, input: Input) {
        if self.nodes[node].life == life {
            self.input(node, input);
        }
    }

    /// Hands an input to a node's agent and carries out what it asks.
    pub(crate) fn input(&mut self, node: NodeIndex, input: Input) {
        let now = self.now;
        let state = &mut self.nodes[node];
        let Some(mut agent) = state.agent.take() else { return };
        let (life, reading) = (state.life, state.clock.read(now));
        self.trace.input(now, node, &input);
        if let Some(recorder) = &mut self.recorder {
            recorder.input(node, reading, &input);
        }
        if let Some(auditor) = &mut self.auditor {
            auditor.event(now, node, "<-", &input);
        }
        self.watch_input(node, &input);
        let check = self.trace.value() as u32;
        self.record(|record| record.input(node, &input, agent.poll_deadline().map(|(_, due)| due), check));
        let mut outbox = std::mem::take(&mut self.outbox);
        agent.handle_into(reading, input, &mut outbox);
        // Nothing that an output causes reaches an agent before the next event, so that it can be carried out at once.
        while let Some(output) = outbox.pop_front() {
            if let Some(recorder) = &mut self.recorder {
                recorder.output(node, &output);
            }
            if let Some(auditor) = &mut self.auditor {
                auditor.event(now, node, "->", &output);
            }
            self.record(|record| record.output(node, &output));
            self.perform(node, output);
        }
        // From the front of its memory on, the next time.
        outbox.clear();
        self.outbox = outbox;
        if let Some(recorder) = &mut self.recorder {
            recorder.settle(node, &agent);
        }
        let state = &mut self.nodes[node];
        state.agent = Some(agent);
        debug_assert_eq!(state.life, life);
        self.arm(node);
    }

    /// Wakes a node's agent at its next deadline, by its clock.
    pub(super) fn arm(&mut self, node: NodeIndex) {
        let now = self.now;
        let state = &mut self.nodes[node];
        let deadline = state.agent.as_ref().and_then(|agent| agent.poll_deadline());
        if let Some(at) = deadline.map(|(at, _)| state.clock.when(at).max(now))
            && state.armed.is_none_or(|armed| armed > at || armed <= now)
        {
            state.armed = Some(at);
            self.queue.push(at, Event::Wake(node, state.life));
        }
        self.watch_settled(node);
    }

    pub(crate) fn later(&mut self, node: NodeIndex, after: Duration, input: Input) {
        let life = self.nodes[node].life;
        if after.is_zero() {
            self.ready.push_back((node, life, input));
        } else {
            self.queue.push(self.now + after, Event::Input(node, life, Box::new(input)));
        }
    }

    /// What happens leads to more at the same time, without an end.
    fn goes_in_circles(&mut self) -> bool {
        let detail = format!("{} events at one point of time", self.at_once);
        self.violate(&quiet_network::RULE, None, &detail);
        self.ready.clear();
        self.at_once = 0;
        false
    }
}

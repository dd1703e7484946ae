//! Bytes on links that several flows share.
//!
//! A flow leaves by one link (an uplink), may cross another (what a zone can send to the next one), and comes in by a third
//! (a downlink). It moves in chunks. A link that flows leave by serves those that can go on in turn, chunk by chunk, so each
//! gets the same share, and what one cannot use the others get; links on the way and downlinks take chunks as they come. A
//! sender has only a window of bytes under way that have not been received, so a slow receiver does not fill the network:
//! what TCP's fair sharing looks like at this scale, without its packets.

use std::collections::VecDeque;
use std::time::Duration;

use longshore_core::time::Time;

/// A chunk is half a piece (so concurrent pieces are done within half a piece of each other of what fair sharing to the bit
/// would give), and not less than a small piece: more events would show nothing else.
const CHUNKS_PER_PIECE: u64 = 2;
/// The least that a chunk has, in bytes: the smallest piece of a blob.
const LEAST_CHUNK: u64 = 256 << 10;

/// No chunk takes a link longer than this by itself, so that a slow link shows that bytes come: who waits for a piece gives
/// up if nothing does.
const LONGEST_CHUNK: Duration = Duration::from_millis(50);
/// The same for a link that lies on the way of many: what is between two zones may have a hundred flows to carry.
const LONGEST_CHUNK_ACROSS: Duration = Duration::from_millis(5);
/// But no chunk is made smaller than this, in bytes.
const SMALLEST_CHUNK: u64 = 16 << 10;

/// The size of chunks for pieces of `piece` bytes, where links are fast.
#[must_use]
pub fn chunk_of(piece: u64) -> u64 {
    (piece / CHUNKS_PER_PIECE).max(LEAST_CHUNK)
}

/// How long `bytes` take at `rate` bytes per second.
#[must_use]
pub fn transfer_time(bytes: u64, rate: u64) -> Duration {
    Duration::from_nanos((u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1))) as u64)
}

/// Bytes that pass at `rate` bytes per second in `time`.
pub(crate) fn within(rate: u64, time: Duration) -> u64 {
    (u128::from(rate) * time.as_micros() / 1_000_000) as u64
}

/// Names a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkId(usize);

/// Names a flow; the name of a flow that has ended names nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowId {
    slot: u32,
    generation: u32,
}

/// What has to be handed to [`Flows::step`] at its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A chunk has left by this link.
    Left(LinkId),
    /// So many bytes reach the downlink.
    Comes(FlowId, u64),
    /// So many bytes have passed the downlink.
    Received(FlowId, u64),
    /// The sender knows that so many bytes were received.
    Acknowledged(FlowId, u64),
    /// A flow with a rate of its own may go on.
    Paced(FlowId),
}

/// What a step brought about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing to tell.
    Nothing,
    /// So many bytes more have left the sender; `all` of them now, maybe.
    Left {
        /// Which flow.
        flow: FlowId,
        /// Bytes of the chunk.
        bytes: u64,
        /// Nothing is left to send.
        all: bool,
    },
    /// More bytes were received. After the last ones the flow is over: [`Flows::end`] has to be called.
    Received {
        /// Which flow.
        flow: FlowId,
        /// Bytes received so far.
        total: u64,
        /// Nothing is left to receive.
        all: bool,
    },
}

/// The way of a flow, and what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// It leaves by this link,
    pub from: LinkId,
    /// crosses this one,
    pub across: Option<LinkId>,
    /// and comes in by this one.
    pub to: LinkId,
    /// One way, from the end of the first link to the beginning of the last.
    pub latency: Duration,
    /// Bytes per second that it never exceeds. `None`: as the links allow.
    pub most: Option<u64>,
}

#[derive(Debug)]
struct Link {
    rate: u64,
    /// Flows that can go on, in turn.
    turns: VecDeque<FlowId>,
    /// The flow that is being served, and the bytes of its chunk.
    serving: Option<(FlowId, u64)>,
    /// When what has come so far will have passed, if chunks are taken as they come.
    free: Time,
}

#[derive(Debug)]
struct Flow<T> {
    route: Route,
    chunk: u64,
    window: u64,
    unsent: u64,
    /// Sent and not acknowledged.
    under_way: u64,
    unreceived: u64,
    received: u64,
    /// It has a turn on its link, or is being served, or waits for its pace.
    queued: bool,
    /// Of what comes before this only the last byte is told of.
    quiet_until: Time,
    carries: T,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    flow: Option<Flow<T>>,
}

/// All links and flows; `T` is what a flow carries, for whoever receives it.
#[derive(Debug)]
pub struct Flows<T> {
    links: Vec<Link>,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Default for Flows<T> {
    fn default() -> Self {
        Self { links: Vec::new(), slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Flows<T> {
    /// Adds a link with `rate` bytes per second.
    pub fn add_link(&mut self, rate: u64) -> LinkId {
        self.links.push(Link { rate: rate.max(1), turns: VecDeque::new(), serving: None, free: Time::ZERO });
        LinkId(self.links.len() - 1)
    }

    /// Bytes per second from the next chunk on. What has come to the link already does not hold up what comes next.
    pub fn set_rate(&mut self, link: LinkId, rate: u64) {
        self.links[link.0].rate = rate.max(1);
        self.links[link.0].free = Time::ZERO;
    }

    /// Begins a flow of `bytes` bytes (at least one) in chunks of `chunk` bytes. What is to happen later is put into `later`.
    pub fn begin(
        &mut self,
        now: Time,
        route: Route,
        bytes: u64,
        chunk: u64,
        carries: T,
        later: &mut Vec<(Time, Step)>,
    ) -> FlowId {
        let slowest = self.links[route.from.0].rate.min(self.links[route.to.0].rate);
        let own = within(slowest.min(route.most.unwrap_or(u64::MAX)), LONGEST_CHUNK);
        let shared = route.across.map_or(u64::MAX, |across| within(self.links[across.0].rate, LONGEST_CHUNK_ACROSS));
        let chunk = chunk.min(own.min(shared).max(SMALLEST_CHUNK));
        // Two chunks keep both links busy; the rest is what is on the wire, at the rate of the narrowest link.
        let narrowest = route.across.map_or(slowest, |across| slowest.min(self.links[across.0].rate));
        let window = 2 * chunk + within(narrowest, route.latency * 2);
        let bytes = bytes.max(1);
        let flow = Flow {
            route,
            chunk: chunk.max(1),
            window,
            unsent: bytes,
            under_way: 0,
            unreceived: bytes,
            received: 0,
            queued: false,
            quiet_until: Time::ZERO,
            carries,
        };
        let id = match self.free.pop() {
            Some(slot) => {
                let place = &mut self.slots[slot as usize];
                place.flow = Some(flow);
                FlowId { slot, generation: place.generation }
            }
            None => {
                self.slots.push(Slot { generation: 0, flow: Some(flow) });
                FlowId { slot: self.slots.len() as u32 - 1, generation: 0 }
            }
        };
        self.queue(now, id, later);
        id
    }

    /// Whoever receives does not want to know of parts that come before `until`: no step is taken for them.
    pub fn be_quiet(&mut self, id: FlowId, until: Time) {
        if let Some(flow) = self.slot_mut(id) {
            flow.quiet_until = until;
        }
    }

    /// What a flow carries.
    #[must_use]
    pub fn get(&self, id: FlowId) -> Option<&T> {
        self.slot(id).map(|flow| &flow.carries)
    }

    /// What a flow carries, to be changed.
    pub fn get_mut(&mut self, id: FlowId) -> Option<&mut T> {
        self.slot_mut(id).map(|flow| &mut flow.carries)
    }

    /// Bytes of a flow that have left its sender.
    #[must_use]
    pub fn sent(&self, id: FlowId) -> u64 {
        self.slot(id).map_or(0, |flow| flow.received + flow.unreceived - flow.unsent)
    }

    /// Ends a flow, done or not; what is still under way is lost. Returns what it carried.
    pub fn end(&mut self, id: FlowId) -> Option<T> {
        let slot = self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation)?;
        let flow = slot.flow.take()?;
        slot.generation += 1;
        self.free.push(id.slot);
        Some(flow.carries)
    }

    /// Flows that are not over, in no order that means anything, but always the same.
    pub fn iter(&self) -> impl Iterator<Item = (FlowId, &T)> {
        self.slots.iter().enumerate().filter_map(|(slot, place)| {
            let id = FlowId { slot: slot as u32, generation: place.generation };
            place.flow.as_ref().map(|flow| (id, &flow.carries))
        })
    }

    /// A step's time has come.
    pub fn step(&mut self, now: Time, step: Step, later: &mut Vec<(Time, Step)>) -> Progress {
        match step {
            Step::Left(link) => self.left(now, link, later),
            Step::Comes(id, bytes) => {
                let Some(to) = self.slot(id).map(|flow| flow.route.to) else { return Progress::Nothing };
                let received = self.links[to.0].pass(now, bytes);
                let is_last = |flow: &Flow<T>| flow.unsent == 0 || bytes >= flow.unreceived;
                let is_told = |flow: &Flow<T>| received >= flow.quiet_until || is_last(flow);
                if received > now && self.slot(id).is_some_and(is_told) {
                    later.push((received, Step::Received(id, bytes)));
                    return Progress::Nothing;
                }
                let progress = self.received(received, id, bytes, later);
                if received > now { Progress::Nothing } else { progress }
            }
            Step::Received(id, bytes) => self.received(now, id, bytes, later),
            Step::Acknowledged(id, bytes) => {
                if let Some(flow) = self.slot_mut(id) {
                    flow.under_way -= bytes;
                    self.queue(now, id, later);
                }
                Progress::Nothing
            }
            Step::Paced(id) => {
                if let Some(flow) = self.slot_mut(id) {
                    flow.queued = false;
                    self.queue(now, id, later);
                }
                Progress::Nothing
            }
        }
    }

    fn slot(&self, id: FlowId) -> Option<&Flow<T>> {
        self.slots.get(id.slot as usize).filter(|slot| slot.generation == id.generation)?.flow.as_ref()
    }

    fn slot_mut(&mut self, id: FlowId) -> Option<&mut Flow<T>> {
        self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation)?.flow.as_mut()
    }

    /// Gives a flow a turn, if it can go on and has none.
    fn queue(&mut self, now: Time, id: FlowId, later: &mut Vec<(Time, Step)>) {
        let Some(flow) = self.slot_mut(id) else { return };
        if flow.queued || flow.unsent == 0 || flow.under_way >= flow.window {
            return;
        }
        flow.queued = true;
        let from = flow.route.from;
        self.links[from.0].turns.push_back(id);
        self.serve(now, from, later);
    }

    /// Serves the next flow, if the link is not busy.
    fn serve(&mut self, now: Time, link: LinkId, later: &mut Vec<(Time, Step)>) {
        if self.links[link.0].serving.is_some() {
            return;
        }
        while let Some(id) = self.links[link.0].turns.pop_front() {
            let Some(bytes) = self.slot(id).map(|flow| flow.chunk.min(flow.unsent)) else { continue };
            let state = &mut self.links[link.0];
            state.serving = Some((id, bytes));
            later.push((now + transfer_time(bytes, state.rate), Step::Left(link)));
            return;
        }
    }

    fn left(&mut self, now: Time, link: LinkId, later: &mut Vec<(Time, Step)>) -> Progress {
        let Some((id, bytes)) = self.links[link.0].serving.take() else { return Progress::Nothing };
        let mut progress = Progress::Nothing;
        if let Some(flow) = self.slot_mut(id) {
            flow.unsent -= bytes;
            flow.under_way += bytes;
            progress = Progress::Left { flow: id, bytes, all: flow.unsent == 0 };
            let (route, rate) = (flow.route, self.links[link.0].rate);
            let pause = route
                .most
                .map_or(Duration::ZERO, |most| transfer_time(bytes, most).saturating_sub(transfer_time(bytes, rate)));
            // The end of a chunk comes no sooner than the flow's own rate allows.
            let across = route.across.map_or(now, |across| self.links[across.0].pass(now, bytes));
            later.push((across + pause + route.latency, Step::Comes(id, bytes)));
            if pause.is_zero() {
                if let Some(flow) = self.slot_mut(id) {
                    flow.queued = false;
                }
                self.queue(now, id, later);
            } else {
                later.push((now + pause, Step::Paced(id)));
            }
        }
        self.serve(now, link, later);
        progress
    }

    fn received(&mut self, now: Time, id: FlowId, bytes: u64, later: &mut Vec<(Time, Step)>) -> Progress {
        let Some(flow) = self.slot_mut(id) else { return Progress::Nothing };
        flow.unreceived -= bytes;
        flow.received += bytes;
        // What is left to send fits into the window whatever is acknowledged: the sender does not wait for it.
        if flow.unsent + flow.under_way > flow.window {
            later.push((now + flow.route.latency, Step::Acknowledged(id, bytes)));
        }
        Progress::Received { flow: id, total: flow.received, all: flow.unreceived == 0 }
    }
}

impl Link {
    /// When `bytes` that come now have passed: a free link cuts through.
    fn pass(&mut self, now: Time, bytes: u64) -> Time {
        self.free = now.max(self.free + transfer_time(bytes, self.rate));
        self.free
    }
}

#[cfg(test)]
mod tests;

//! A cluster: nodes with their agents, disks and containerds, an origin, and the network between them.

mod client;
mod clock;
mod connections;
mod drivers;
mod faults;
mod index;
mod informer;
mod liars;
mod links;
mod network;
mod origin;
mod pieces;
pub mod recorder;
mod store;
mod transfers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use longshore_core::Agent;
use longshore_core::config::Config;
use longshore_core::digest::Digest;
use longshore_core::input::{Child, Input};
use longshore_core::members::{Member, Roster};
use longshore_core::message::Notice;
use longshore_core::names::{Kind, OpId, PeerId, RequestId, StreamId};
use longshore_core::output::{Explanation, Output};
use longshore_core::piece::Geometry;
use longshore_core::spine::Midstate;
use longshore_core::time::Time;

pub(crate) use client::source;
pub use client::{ClientOptions, FinishedPull, PullState};
pub use clock::MAX_DRIFT;
pub use index::IndexFaults;
pub use informer::InformerFaults;
pub use liars::{Lie, Version};
pub use links::{Bursts, Links, SlowLinks};
pub use network::{Cut, Network};
pub use origin::{Fault, Origin, Trouble};
use transfers::Carried;

use crate::audit;
use crate::chance::Chance;
use crate::content::{self, Content};
use crate::flows::{FlowId, Flows, LinkId, Step};
use crate::invariants::{Invariant, quiet_network};
use crate::queue::Queue;
use crate::record::{Record, Wanted};
use crate::trace::TraceHash;
use recorder::Recorder;

/// Index of a node.
pub type NodeIndex = usize;

/// Explanations that are kept; the story of a thousand nodes with some images.
const MAX_EXPLANATIONS: usize = 200_000;
/// Violations that are kept: the first ones tell, a broken rule is broken again and again.
const MAX_VIOLATIONS: usize = 1000;

/// Names of the kinds that [`World::messages_by_kind`] counts.
pub const MESSAGE_KINDS: [&str; 10] =
    ["pull-intent", "please-pull", "enrol", "have", "assign", "unassigned", "starving", "leave", "unchoke", "piece"];

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Number of nodes.
    pub nodes: usize,
    /// Number of zones; node `i` is in zone `i % zones`.
    pub zones: usize,
    /// Racks of each zone; 0: none.
    pub racks: usize,
    /// Added to the latency between racks of a zone.
    pub cross_rack_latency: Duration,
    /// Agents are told their zones, and those of others.
    pub zone_names: bool,
    /// One-way latency between nodes; each pair has its own, between this and twice this.
    pub latency: Duration,
    /// Added to it between zones.
    pub cross_zone_latency: Duration,
    /// Bytes per second that all nodes of one zone together can send to another zone. `None`: no limit.
    pub cross_zone_rate: Option<u64>,
    /// Added to the latency to and from the origin.
    pub origin_latency: Duration,
    /// Bytes per second that a node can send, and receive.
    pub node_rate: u64,
    /// Bytes per second that the origin can send.
    pub origin_rate: u64,
    /// Bytes per second that the origin sends on one connection. `None`: no limit but the total.
    pub origin_connection_rate: Option<u64>,
    /// Requests per second that the origin answers before it says 429. `None`: no limit.
    pub origin_requests_per_second: Option<u32>,
    /// The same for each node by itself.
    pub origin_requests_per_node_second: Option<u32>,
    /// How containerd behaves.
    pub client: ClientOptions,
    /// A change of membership becomes known to each node within this time. `None`: never (nodes find out by themselves).
    pub membership_lag: Option<Duration>,
    /// What is announced can be found after this.
    pub index_delay: Duration,
    /// The index forgets nodes that died, and what was withdrawn, only after this.
    pub index_staleness: Duration,
    /// Reads and writes that fail, in a million.
    pub disk_errors: u32,
    /// Most that a node's clock is ahead of the first one's.
    pub clock_offset: Duration,
    /// Most that a clock is too fast, or too slow, in millionths.
    pub clock_drift: u32,
    /// Changes the settings of every node.
    pub configure: fn(NodeIndex, &mut Config),
    /// Nodes of another version, if there are any.
    pub others: Option<crate::scenario::OtherVersion>,
    /// Settings that a scenario changes, after `configure`.
    pub knobs: crate::scenario::Knobs,
    /// Added to the latency of each message to this node. Nothing, but in tests of the audit.
    pub noise: fn(NodeIndex) -> Duration,
    /// What the audit wants recorded.
    pub record: Option<audit::Settings>,
    /// What to keep of what happened.
    pub story: Option<Wanted>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            nodes: 3,
            zones: 1,
            zone_names: false,
            racks: 0,
            cross_rack_latency: Duration::ZERO,
            latency: Duration::from_micros(300),
            cross_zone_latency: Duration::ZERO,
            cross_zone_rate: None,
            origin_latency: Duration::ZERO,
            node_rate: 125_000_000,
            origin_rate: 125_000_000,
            origin_connection_rate: None,
            origin_requests_per_second: None,
            origin_requests_per_node_second: None,
            client: ClientOptions::default(),
            membership_lag: None,
            index_delay: Duration::ZERO,
            index_staleness: Duration::ZERO,
            disk_errors: 0,
            clock_offset: Duration::ZERO,
            clock_drift: 0,
            configure: |_, _| {},
            others: None,
            knobs: crate::scenario::Knobs::default(),
            noise: |_| Duration::ZERO,
            record: None,
            story: None,
        }
    }
}

/// A blob that the origin has.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What it is.
    pub kind: Kind,
    /// What it refers to, if it is a manifest.
    pub children: Vec<Child>,
    label: Content,
    spine: Vec<Midstate>,
}

/// An image that the origin has.
#[derive(Clone, Debug)]
pub struct Image {
    /// The manifest.
    pub manifest: Digest,
    /// Configuration and layers, in manifest order.
    pub children: Vec<Child>,
    /// containerd has deleted all it had when it pulls this.
    pub fresh: bool,
}

impl Image {
    /// Bytes of the whole image, without the manifest.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.children.iter().map(|child| child.size).sum()
    }

    /// Pieces of the whole image, without the manifest.
    #[must_use]
    pub fn pieces(&self) -> u32 {
        self.children.iter().map(|child| Geometry::of_blob(child.size).pieces()).sum()
    }
}

/// In the order of memory: what is looked at for every event comes first. Each event is another node's, whose state the
/// processor has to wait for.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Node {
    /// In a box, because it is taken out and put back at every input.
    pub(crate) agent: Option<Box<Agent>>,
    /// Counts starts: what was under way in an earlier life does not reach the next one.
    life: u32,
    armed: Option<Time>,
    /// The process does not run before this.
    paused_until: Time,
    clock: clock::Clock,
    streams: BTreeMap<StreamId, drivers::InboundStream>,
    up: LinkId,
    down: LinkId,
    /// What is on its way to the agent.
    fetching: BTreeMap<OpId, FlowId>,
    cancelled: BTreeSet<OpId>,
    /// Sends this instead of what it has, when it is corrupt.
    corrupt: Option<Content>,
    /// It vouches for what it sends instead.
    lies: bool,
    lie: Option<Lie>,
    version: Version,
    /// It is one of those of another version.
    is_other: bool,
    disk: store::Disk,
    released: BTreeMap<Digest, u64>,
    /// It was paused at some time: its containerd may have waited for that.
    was_paused: bool,
    connections: connections::Connections,
    informer: informer::Informer,
    client: client::Client,
    members: Arc<Roster>,
}

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

/// The cluster.
#[derive(Debug)]
pub struct World {
    /// The settings it was made with.
    pub options: Options,
    /// The registry.
    pub origin: Origin,
    /// The network between the nodes.
    pub network: Network,
    now: Time,
    queue: Queue<Event>,
    /// Leaders that faults have killed, by the number of the fault.
    pub(crate) killed_leaders: BTreeMap<u32, NodeIndex>,
    /// What is wrong with the provider index.
    pub index_faults: IndexFaults,
    /// What is wrong with the informers of membership.
    pub informers: InformerFaults,
    /// Who came (true) and went, and when.
    membership: Vec<(Time, NodeIndex, bool)>,
    /// What clogged links hold: from, to, and what happens when it arrives.
    held: Vec<(NodeIndex, NodeIndex, Event)>,
    /// What an agent wants to be done, while it is; empty otherwise.
    outbox: VecDeque<Output>,
    /// Inputs that happen now, after what happens already.
    ready: VecDeque<(NodeIndex, u32, Input)>,
    flows: Flows<Carried>,
    /// What the last flows did brings about later.
    steps: Vec<(Time, Step)>,
    /// What one zone can send to another.
    zone_links: BTreeMap<(usize, usize), LinkId>,
    nodes: Vec<Node>,
    peers: Vec<PeerId>,
    /// What all see who see everything, until somebody comes or goes.
    roster: Option<Arc<Roster>>,
    blobs: BTreeMap<Digest, Blob>,
    index: BTreeMap<Digest, BTreeSet<NodeIndex>>,
    chance: Chance,
    last_id: u64,
    trace: TraceHash,
    auditor: Option<audit::Recorder>,
    record: Option<Box<Record>>,
    /// What agents explained, with time and node: the story of the run.
    pub explanations: Vec<(Time, NodeIndex, Explanation)>,
    /// Rules that were broken, in words.
    pub violations: Vec<String>,
    /// Events handled so far.
    pub events: u64,
    /// Calls and notices sent so far.
    pub messages: u64,
    /// The same by kind, for those who look for the reason of too many; see [`MESSAGE_KINDS`].
    pub messages_by_kind: [u64; MESSAGE_KINDS.len()],
    /// A run for the hunt: see [`run_strictly`](crate::run::run_strictly).
    pub(crate) strict: bool,
    /// It is given up after so many events.
    pub(crate) most_events: u64,
    /// Events at the present point of time.
    at_once: u64,
    /// What the rules remember of each agent.
    pub(crate) watched: Vec<Option<crate::watch::Watched>>,
    /// And of the input that an agent is handling.
    pub(crate) occasion: crate::watch::Occasion,
    /// Inputs that agents have handled.
    pub(crate) inputs: u64,
    /// Nodes that have sent wrong bytes, or wrong hashes, or have claimed what they have not, at some time.
    pub(crate) liars: BTreeSet<NodeIndex>,
    /// A node has vouched for lies at some time.
    pub(crate) lies_are_vouched_for: bool,
    /// Requests of a second tenant that has no credential.
    pub(crate) intruders: BTreeSet<RequestId>,
    /// Pulls that are done, in order of time.
    pub finished_pulls: Vec<FinishedPull>,
    /// Bytes of pieces that went from one zone to another.
    pub cross_zone_bytes: u64,
    /// Writes journals, if somebody wants them.
    recorder: Option<Recorder>,
}

impl World {
    /// A cluster whose nodes all know each other; nothing is pulled yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self::recorded(options, None)
    }

    /// The same, with a journal of each agent from its birth on.
    #[must_use]
    pub fn recorded(options: Options, recorder: Option<Recorder>) -> Self {
        let mut flows = Flows::default();
        let mut world = Self {
            origin: Origin::new(&options, flows.add_link(options.origin_rate)),
            flows,
            steps: Vec::new(),
            zone_links: BTreeMap::new(),
            network: Network::default(),
            now: Time::ZERO,
            queue: Queue::default(),
            killed_leaders: BTreeMap::new(),
            index_faults: IndexFaults::default(),
            informers: InformerFaults::default(),
            membership: Vec::new(),
            held: Vec::new(),
            outbox: VecDeque::new(),
            ready: VecDeque::new(),
            nodes: Vec::new(),
            peers: (0..options.nodes).map(peer).collect(),
            roster: None,
            blobs: BTreeMap::new(),
            index: BTreeMap::new(),
            chance: Chance::new(options.seed),
            last_id: 0,
            trace: TraceHash::default(),
            auditor: options.record.clone().map(audit::Recorder::new),
            record: options.story.clone().map(|wanted| Box::new(Record::new(wanted, options.nodes))),
            explanations: Vec::new(),
            violations: Vec::new(),
            events: 0,
            messages: 0,
            messages_by_kind: [0; MESSAGE_KINDS.len()],
            strict: false,
            most_events: u64::MAX,
            at_once: 0,
            watched: Vec::new(),
            occasion: Default::default(),
            inputs: 0,
            liars: BTreeSet::new(),
            lies_are_vouched_for: false,
            intruders: BTreeSet::new(),
            finished_pulls: Vec::new(),
            cross_zone_bytes: 0,
            recorder,
            options,
        };
        let members = Roster::new((0..world.options.nodes).map(|node| world.member(node)).collect());
        world.roster = Some(members.clone());
        let others = world.options.others.clone();
        let of_another_version = match &others {
            Some(others) => others.nodes(world.options.nodes, &mut world.chance),
            None => Vec::new(),
        };
        for node in 0..world.options.nodes {
            let offset = world.chance.up_to(world.options.clock_offset);
            let drift = match world.options.clock_drift {
                0 => 0,
                most => world.chance.below(2 * u64::from(most) + 1) as i32 - most as i32,
            };
            world.nodes.push(Node {
                agent: None,
                life: 0,
                disk: store::Disk::default(),
                released: BTreeMap::new(),
                corrupt: None,
                lies: false,
                lie: None,
                version: match &others {
                    Some(others) if of_another_version.contains(&node) => others.version(),
                    _ => Version::default(),
                },
                is_other: of_another_version.contains(&node),
                up: world.flows.add_link(world.options.node_rate),
                down: world.flows.add_link(world.options.node_rate),
                fetching: BTreeMap::new(),
                armed: None,
                paused_until: Time::ZERO,
                was_paused: false,
                clock: clock::Clock::new(offset, drift),
                connections: connections::Connections::default(),
                informer: informer::Informer::default(),
                client: client::Client::default(),
                streams: BTreeMap::new(),
                cancelled: BTreeSet::new(),
                members: members.clone(),
            });
            world.start(node);
            world.record(Record::rest);
        }
        world
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// The hash of all inputs so far.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.trace.value()
    }

    /// The running digest, if it was wanted.
    pub(crate) fn take_auditor(&mut self) -> Option<audit::Recorder> {
        self.auditor.take()
    }

    /// Puts an image with layers of these sizes (bytes) into the origin.
    pub fn publish(&mut self, layers: &[u64]) -> Image {
        self.publish_on(&[], layers)
    }

    /// The same, on top of layers of another image.
    pub fn publish_on(&mut self, base: &[Child], layers: &[u64]) -> Image {
        let mut children = Vec::new();
        for (position, size) in core::iter::once(&2000).chain(layers).enumerate() {
            let kind = if position == 0 { Kind::Config } else { Kind::Blob };
            let digest = self.publish_blob(*size, kind, Vec::new());
            children.push(Child { digest, size: *size, kind });
            if position == 0 {
                children.extend(base.iter().filter(|child| child.kind == Kind::Blob).cloned());
            }
        }
        let manifest = self.publish_blob(1500, Kind::Manifest, children.clone());
        Image { manifest, children, fresh: false }
    }

    fn publish_blob(&mut self, size: u64, kind: Kind, children: Vec<Child>) -> Digest {
        let label = self.blobs.len() as u64 + 1;
        let (digest, spine) = content::spine(size, label);
        self.record(|record| record.blob(digest, size));
        self.blobs.insert(digest, Blob { digest, size, kind, children, label, spine });
        digest
    }

    /// The agent of a node that is up.
    #[must_use]
    pub fn agent(&self, node: NodeIndex) -> Option<&Agent> {
        self.nodes[node].agent.as_deref()
    }

    /// The identity of a node.
    #[must_use]
    pub fn peer(&self, node: NodeIndex) -> PeerId {
        self.peers[node].clone()
    }

    pub(crate) fn index_of(&self, peer: &PeerId) -> Option<NodeIndex> {
        let index: NodeIndex = peer.as_str().strip_prefix("peer-")?.parse().ok()?;
        (index < self.nodes.len()).then_some(index)
    }

    /// Ends the journals, if there are any; who looks at them afterwards sees all of the run.
    ///
    /// # Errors
    /// Why they are not complete, in words.
    pub fn close_journals(&mut self) -> Result<(), String> {
        let Some(recorder) = &mut self.recorder else { return Ok(()) };
        recorder.close();
        recorder.failure().map_or(Ok(()), |failure| Err(failure.to_owned()))
    }

    /// Whether a node is up.
    #[must_use]
    pub fn is_up(&self, node: NodeIndex) -> bool {
        self.nodes[node].agent.is_some()
    }

    /// Lets time run until `done` or `limit` from now; returns whether it was `done`.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            if done(self) {
                return true;
            }
            if !self.step(end) {
                self.now = end;
                return done(self);
            }
        }
    }

    /// Lets time run for `length`.
    pub fn run_for(&mut self, length: Duration) {
        let end = self.now + length;
        while self.step(end) {}
        self.now = end;
    }

    /// Handles the next event, if there is one before `end`, and all that follows from it at once.
    fn step(&mut self, end: Time) -> bool {
        if self.queue.next_time().is_none_or(|at| at > end) && self.ready.is_empty() {
            return false;
        }
        if self.ready.is_empty()
            && let Some((at, event)) = self.queue.pop()
        {
            self.at_once = if at > self.now { 0 } else { self.at_once + 1 };
            self.now = at;
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
    fn arm(&mut self, node: NodeIndex) {
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

    /// Whether two nodes have the same view. Each adds itself to what its informer says: with one list between them, they
    /// see the same members only if both are on it.
    pub(crate) fn see_the_same(&self, one: NodeIndex, other: NodeIndex) -> bool {
        let members = &self.nodes[one].members;
        let lists = |node| members.members().iter().any(|member| member.peer.as_ref() == Some(&self.peer(node)));
        *members == self.nodes[other].members && lists(one) && lists(other)
    }

    /// A blob that the origin has.
    pub(crate) fn blob(&self, digest: &Digest) -> Option<&Blob> {
        self.blobs.get(digest)
    }

    /// Whether a node's disk has noted a piece as good.
    pub(crate) fn has_recorded(&self, node: NodeIndex, digest: &Digest, piece: u32) -> bool {
        self.nodes[node].disk.staged.get(digest).is_some_and(|staged| staged.records.contains_key(&piece))
    }

    /// Whether a manifest names a digest.
    pub(crate) fn refers_to(&self, manifest: &Digest, digest: &Digest) -> bool {
        self.blobs.get(manifest).is_some_and(|blob| blob.children.iter().any(|child| child.digest == *digest))
    }

    pub(crate) fn later(&mut self, node: NodeIndex, after: Duration, input: Input) {
        let life = self.nodes[node].life;
        if after.is_zero() {
            self.ready.push_back((node, life, input));
        } else {
            self.queue.push(self.now + after, Event::Input(node, life, Box::new(input)));
        }
    }

    pub(crate) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Notes that a rule was broken.
    pub(crate) fn violate(&mut self, rule: &Invariant, node: impl Into<Option<NodeIndex>>, detail: &str) {
        if self.violations.len() < MAX_VIOLATIONS {
            let (at, node) = (self.now.as_micros() as f64 / 1e6, node.into());
            let place = node.map_or("the cluster".to_owned(), |node| format!("node {node}"));
            let words = format!("{}: {at:.6} s, {place}: {detail}", rule.name);
            self.record(|record| record.violation(node, &words));
            self.violations.push(words);
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

    /// The hunt is over: a rule is broken, or it takes too long.
    pub(crate) fn is_condemned(&self) -> bool {
        self.strict && (!self.violations.is_empty() || self.events > self.most_events)
    }

    /// Tells the recorder, if there is one.
    #[inline]
    pub(crate) fn record(&mut self, tell: impl FnOnce(&mut Record)) {
        if let Some(record) = &mut self.record {
            record.settle(self.now, self.queue.scheduled(), self.ready.len());
            tell(record);
        }
    }

    /// What was recorded; nothing is recorded any more.
    pub(crate) fn take_record(&mut self) -> Option<Record> {
        self.record.take().map(|record| *record)
    }

    fn explained(&mut self, node: NodeIndex, explanation: Explanation) {
        if self.explanations.len() < MAX_EXPLANATIONS {
            self.explanations.push((self.now, node, explanation));
        }
    }

    /// Whether a node has a blob, complete and right.
    #[must_use]
    pub fn has(&self, node: NodeIndex, digest: &Digest) -> bool {
        self.blobs.get(digest).is_some_and(|blob| self.nodes[node].disk.has(blob))
    }

    /// Whether a node has all of an image.
    #[must_use]
    pub fn has_image(&self, node: NodeIndex, image: &Image) -> bool {
        self.has(node, &image.manifest) && image.children.iter().all(|child| self.has(node, &child.digest))
    }

    /// Sum of a counter over all nodes that are up.
    #[must_use]
    pub fn total(&self, counter: fn(&longshore_core::metrics::Counters) -> u64) -> u64 {
        self.nodes.iter().filter_map(|node| node.agent.as_ref()).map(|agent| counter(agent.counters())).sum()
    }

    /// Nodes of the cluster.
    pub fn node_indices(&self) -> std::ops::Range<NodeIndex> {
        0..self.nodes.len()
    }

    fn zone_name(&self, node: NodeIndex) -> Option<Arc<str>> {
        self.options.zone_names.then(|| format!("zone-{}", self.zone(node)).into())
    }

    fn member(&self, node: NodeIndex) -> Member {
        let zone = self.zone_name(node);
        Member { name: name(node).into(), peer: Some(self.peer(node)), addresses: Vec::new(), zone, ready: true }
    }
}

fn name(node: NodeIndex) -> String {
    format!("node-{node:05}")
}

fn peer(node: NodeIndex) -> PeerId {
    PeerId::new(&format!("peer-{node:05}"))
}

//! A cluster: nodes with their agents, disks and containerds, an origin, and the network between them.

mod client;
mod clock;
mod connections;
mod drivers;
mod faults;
mod images;
mod index;
mod informer;
mod ingest;
mod liars;
mod links;
mod network;
mod options;
mod origin;
mod pieces;
pub mod recorder;
mod stepping;
mod store;
mod transfers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use longshore_core::Agent;
use longshore_core::digest::Digest;
use longshore_core::input::Input;
use longshore_core::members::{Member, Roster};
use longshore_core::names::{OpId, PeerId, RequestId, StreamId};
use longshore_core::output::{Explanation, Output};
use longshore_core::time::Time;

pub(crate) use client::source;
pub use client::{ClientOptions, FinishedPull, PullState};
pub use clock::MAX_DRIFT;
pub use images::{Blob, Image};
pub use index::IndexFaults;
pub use informer::InformerFaults;
pub use liars::{Lie, Version};
pub use links::{Bursts, Links, SlowLinks};
pub use network::{Cut, Network};
pub use options::Options;
pub use origin::{Fault, Origin, Trouble};
pub(crate) use stepping::Event;
use transfers::Carried;

use crate::audit;
use crate::chance::Chance;
use crate::content::Content;
use crate::flows::{FlowId, Flows, LinkId, Step};
use crate::invariants::Invariant;
use crate::queue::Queue;
use crate::record::Record;
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

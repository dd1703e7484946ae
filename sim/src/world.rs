//! A cluster: nodes with their agents, disks and containerds, an origin, and the network between them.

mod client;
mod drivers;
mod origin;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longshore_core::Agent;
use longshore_core::config::Config;
use longshore_core::digest::Digest;
use longshore_core::input::{BlobFacts, Child, Input, PartialBlob, RecordedPiece, StoredBlob};
use longshore_core::members::Member;
use longshore_core::message::{Notice, Request};
use longshore_core::names::{CallId, Kind, OpId, PeerId, StreamId};
use longshore_core::output::Explanation;
use longshore_core::piece::Geometry;
use longshore_core::time::Time;
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

pub use client::PullState;
pub use origin::{Fault, Origin};

use crate::content::{self, Content};
use crate::queue::Queue;

/// Index of a node.
pub type NodeIndex = usize;

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Number of nodes.
    pub nodes: usize,
    /// One-way latency between nodes, and to the origin; each message takes between this and twice this.
    pub latency: Duration,
    /// Bytes per second that a node can send, and receive.
    pub node_rate: u64,
    /// Bytes per second that the origin can send.
    pub origin_rate: u64,
    /// Changes the settings of every node.
    pub configure: fn(NodeIndex, &mut Config),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            nodes: 3,
            latency: Duration::from_micros(300),
            node_rate: 125_000_000,
            origin_rate: 125_000_000,
            configure: |_, _| {},
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
}

/// An image that the origin has.
#[derive(Clone, Debug)]
pub struct Image {
    /// The manifest.
    pub manifest: Digest,
    /// Configuration and layers, in manifest order.
    pub children: Vec<Child>,
}

impl Image {
    /// Bytes of the whole image, without the manifest.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.children.iter().map(|child| child.size).sum()
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Staged {
    size: u64,
    contents: BTreeMap<u32, Content>,
    records: BTreeMap<u32, RecordedPiece>,
    facts: Option<BlobFacts>,
}

#[derive(Clone, Debug)]
pub(crate) struct Complete {
    size: u64,
    contents: BTreeMap<u32, Content>,
    facts: BlobFacts,
    spine: Vec<longshore_core::spine::Midstate>,
}

#[derive(Debug, Default)]
pub(crate) struct Disk {
    staged: BTreeMap<Digest, Staged>,
    complete: BTreeMap<Digest, Complete>,
}

#[derive(Debug)]
pub(crate) struct Node {
    agent: Option<Agent>,
    /// Counts starts: what was under way in an earlier life does not reach the next one.
    life: u32,
    disk: Disk,
    released: BTreeMap<Digest, u64>,
    /// Sends this instead of what it has, when it is corrupt.
    corrupt: Option<Content>,
    up_free: Time,
    down_free: Time,
    armed: Option<Time>,
    client: client::Client,
    streams: BTreeMap<StreamId, drivers::InboundStream>,
    cancelled: BTreeSet<OpId>,
    members: Vec<Member>,
}

#[derive(Debug)]
pub(crate) enum Event {
    Wake(NodeIndex, u32),
    Input(NodeIndex, u32, Box<Input>),
    /// A call arrives at its callee.
    CallArrives {
        from: NodeIndex,
        from_life: u32,
        to: NodeIndex,
        call: CallId,
        request: Box<Request>,
    },
    NoticeArrives {
        from: PeerId,
        to: NodeIndex,
        notice: Box<Notice>,
    },
    PieceAtDownlink {
        node: NodeIndex,
        life: u32,
        op: OpId,
        fetch: drivers::PieceOnTheWay,
    },
    OriginAtDownlink {
        node: NodeIndex,
        life: u32,
        op: OpId,
        fetch: Box<drivers::OriginOnTheWay>,
    },
    PieceArrives {
        node: NodeIndex,
        life: u32,
        op: OpId,
        fetch: drivers::PieceOnTheWay,
    },
    OriginPiece {
        node: NodeIndex,
        life: u32,
        op: OpId,
        fetch: Box<drivers::OriginOnTheWay>,
    },
    Client(NodeIndex, client::ClientEvent),
    PieceAsked {
        from: NodeIndex,
        from_life: u32,
        to: NodeIndex,
        op: OpId,
        ask: drivers::Ask,
    },
}

/// The cluster.
#[derive(Debug)]
pub struct World {
    /// The settings it was made with.
    pub options: Options,
    /// The registry.
    pub origin: Origin,
    now: Time,
    queue: Queue<Event>,
    nodes: Vec<Node>,
    by_peer: BTreeMap<PeerId, NodeIndex>,
    blobs: BTreeMap<Digest, Blob>,
    index: BTreeMap<Digest, BTreeSet<NodeIndex>>,
    sides: BTreeMap<NodeIndex, u32>,
    generator: ChaCha8Rng,
    last_id: u64,
    /// What agents explained, with time and node: the story of the run.
    pub explanations: Vec<(Time, NodeIndex, Explanation)>,
    /// Rules that were broken, in words.
    pub violations: Vec<String>,
    /// Events handled so far.
    pub events: u64,
}

impl World {
    /// A cluster whose nodes all know each other; nothing is pulled yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let mut world = Self {
            origin: Origin::new(options.origin_rate),
            now: Time::ZERO,
            queue: Queue::default(),
            nodes: Vec::new(),
            by_peer: (0..options.nodes).map(|node| (peer(node), node)).collect(),
            blobs: BTreeMap::new(),
            index: BTreeMap::new(),
            sides: BTreeMap::new(),
            generator: ChaCha8Rng::seed_from_u64(options.seed),
            last_id: 0,
            explanations: Vec::new(),
            violations: Vec::new(),
            events: 0,
            options,
        };
        let members: Vec<_> = (0..world.options.nodes).map(member).collect();
        for node in 0..world.options.nodes {
            world.nodes.push(Node {
                agent: None,
                life: 0,
                disk: Disk::default(),
                released: BTreeMap::new(),
                corrupt: None,
                up_free: Time::ZERO,
                down_free: Time::ZERO,
                armed: None,
                client: client::Client::default(),
                streams: BTreeMap::new(),
                cancelled: BTreeSet::new(),
                members: members.clone(),
            });
            world.start(node);
        }
        world
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// Puts an image with layers of these sizes (bytes) into the origin.
    pub fn publish(&mut self, layers: &[u64]) -> Image {
        let mut children = Vec::new();
        for (position, size) in core::iter::once(&2000).chain(layers).enumerate() {
            let kind = if position == 0 { Kind::Config } else { Kind::Blob };
            let digest = self.publish_blob(*size, kind, Vec::new());
            children.push(Child { digest, size: *size, kind });
        }
        let manifest = self.publish_blob(1500, Kind::Manifest, children.clone());
        Image { manifest, children }
    }

    fn publish_blob(&mut self, size: u64, kind: Kind, children: Vec<Child>) -> Digest {
        let label = self.blobs.len() as u64 + 1;
        let digest = content::digest(size, label);
        self.blobs.insert(digest, Blob { digest, size, kind, children, label });
        digest
    }

    /// The agent of a node that is up.
    #[must_use]
    pub fn agent(&self, node: NodeIndex) -> Option<&Agent> {
        self.nodes[node].agent.as_ref()
    }

    /// The identity of a node.
    #[must_use]
    pub fn peer(&self, node: NodeIndex) -> PeerId {
        peer(node)
    }

    /// Starts (or restarts) the agent of a node with what is on its disk.
    pub fn start(&mut self, node: NodeIndex) {
        let mut config = Config::new(&name(node), peer(node));
        (self.options.configure)(node, &mut config);
        let seed = self.generator.next_u64();
        let state = &mut self.nodes[node];
        state.life += 1;
        state.released.clear();
        state.streams.clear();
        state.cancelled.clear();
        state.armed = None;
        state.agent = Some(Agent::new(config, seed, self.now));
        let blobs = state
            .disk
            .complete
            .iter()
            .map(|(digest, blob)| StoredBlob { digest: *digest, size: blob.size, facts: blob.facts.clone() })
            .collect();
        let partials = state
            .disk
            .staged
            .iter()
            .filter_map(|(digest, staged)| {
                let facts = staged.facts.clone()?;
                Some(PartialBlob {
                    digest: *digest,
                    size: staged.size,
                    source: facts.source,
                    private: facts.private,
                    pieces: staged.records.values().cloned().collect(),
                })
            })
            .collect();
        let members = state.members.clone();
        self.input(node, Input::Members(members));
        self.input(node, Input::Recovered { blobs, partials });
    }

    /// Kills a node: agent, containerd and connections are gone, the disk stays.
    pub fn kill(&mut self, node: NodeIndex) {
        let state = &mut self.nodes[node];
        state.agent = None;
        state.life += 1;
        state.client.stop();
        for holders in self.index.values_mut() {
            holders.remove(&node);
        }
        let gone = peer(node);
        for other in 0..self.nodes.len() {
            if other != node {
                self.later(other, self.options.latency, Input::Disconnected { peer: gone.clone() });
            }
        }
    }

    /// Whether a node is up.
    #[must_use]
    pub fn is_up(&self, node: NodeIndex) -> bool {
        self.nodes[node].agent.is_some()
    }

    /// From now on the node serves wrong bytes to its peers.
    pub fn corrupt(&mut self, node: NodeIndex) {
        self.nodes[node].corrupt = Some(0xbad);
    }

    /// Gives a node a membership view of its own.
    pub fn set_view(&mut self, node: NodeIndex, visible: &[NodeIndex]) {
        let members: Vec<_> = visible.iter().map(|other| member(*other)).collect();
        self.nodes[node].members = members.clone();
        self.input(node, Input::Members(members));
    }

    /// Puts nodes on sides that cannot talk to each other (the origin can be reached from everywhere). Nodes that are not
    /// named are on side 0; an empty map heals.
    pub fn partition(&mut self, sides: BTreeMap<NodeIndex, u32>) {
        self.sides = sides;
    }

    fn reachable(&self, from: NodeIndex, to: NodeIndex) -> bool {
        let side = |node: &NodeIndex| self.sides.get(node).copied().unwrap_or(0);
        self.nodes[to].agent.is_some() && side(&from) == side(&to)
    }

    /// Lets time run until `done` or `limit` from now; returns whether it was `done`.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            if done(self) {
                return true;
            }
            match self.queue.next_time() {
                Some(at) if at <= end => {}
                _ => {
                    self.now = end;
                    return done(self);
                }
            }
            let Some((at, event)) = self.queue.pop() else { return false };
            self.now = at;
            self.events += 1;
            self.happen(event);
        }
    }

    /// Lets time run for `length`.
    pub fn run_for(&mut self, length: Duration) {
        self.run_until(length, |_| false);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake(node, life) => {
                let state = &mut self.nodes[node];
                if state.life == life && state.armed == Some(self.now) {
                    state.armed = None;
                    self.input(node, Input::Tick);
                }
            }
            Event::Input(node, life, input) => {
                if self.nodes[node].life == life {
                    self.input(node, *input);
                }
            }
            Event::CallArrives { from, from_life, to, call, request } => {
                self.call_arrives(from, from_life, to, call, *request)
            }
            Event::NoticeArrives { from, to, notice } => self.notice_arrives(&from, to, *notice),
            Event::PieceAsked { from, from_life, to, op, ask } => self.piece_asked(from, from_life, to, op, ask),
            Event::PieceAtDownlink { node, life, op, fetch } => self.piece_at_downlink(node, life, op, fetch),
            Event::OriginAtDownlink { node, life, op, fetch } => self.origin_at_downlink(node, life, op, *fetch),
            Event::PieceArrives { node, life, op, fetch } => self.piece_arrives(node, life, op, fetch),
            Event::OriginPiece { node, life, op, fetch } => self.origin_piece(node, life, op, *fetch),
            Event::Client(node, event) => self.client_event(node, event),
        }
    }

    /// Hands an input to a node's agent and carries out what it asks.
    pub(crate) fn input(&mut self, node: NodeIndex, input: Input) {
        let now = self.now;
        let Some(agent) = &mut self.nodes[node].agent else { return };
        agent.handle(now, input);
        let mut outputs = Vec::new();
        while let Some(output) = agent.poll_output() {
            outputs.push(output);
        }
        let next = agent.poll_deadline().map(|(at, _)| at.max(now));
        for output in outputs {
            self.perform(node, output);
        }
        let state = &mut self.nodes[node];
        if let Some(at) = next
            && state.armed.is_none_or(|armed| armed > at || armed <= now)
            && state.agent.is_some()
        {
            state.armed = Some(at);
            self.queue.push(at, Event::Wake(node, state.life));
        }
    }

    pub(crate) fn later(&mut self, node: NodeIndex, after: Duration, input: Input) {
        let life = self.nodes[node].life;
        self.queue.push(self.now + after, Event::Input(node, life, Box::new(input)));
    }

    pub(crate) fn one_way(&mut self) -> Duration {
        let micros = self.options.latency.as_micros() as u64;
        Duration::from_micros(micros + self.generator.next_u64() % (micros + 1))
    }

    pub(crate) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Whether a node has a blob, complete and right.
    #[must_use]
    pub fn has(&self, node: NodeIndex, digest: &Digest) -> bool {
        let (Some(complete), Some(blob)) = (self.nodes[node].disk.complete.get(digest), self.blobs.get(digest)) else {
            return false;
        };
        let pieces = Geometry::of_blob(blob.size).pieces();
        complete.size == blob.size && (0..pieces).all(|piece| complete.contents.get(&piece) == Some(&blob.label))
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
}

pub(crate) fn name(node: NodeIndex) -> String {
    format!("node-{node:05}")
}

pub(crate) fn peer(node: NodeIndex) -> PeerId {
    PeerId::new(&format!("peer-{node:05}"))
}

fn member(node: NodeIndex) -> Member {
    Member { name: name(node).into(), peer: Some(peer(node)), addresses: Vec::new(), zone: None, ready: true }
}

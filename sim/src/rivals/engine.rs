//! What all rivals run on: machines, links, the registry, the clock. A policy decides who sends which blob to whom.
//!
//! Blobs move whole, as flows on links that are shared fairly ([`crate::flows`]); requests and answers take the latency of
//! the scenario. Nobody hashes or writes: a rival's disk and processor cost nothing here, which favours the rivals.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_core::time::Time;

use super::client::{Client, ClientEvent};
use super::faults;
use crate::chance::Chance;
use crate::flows::{FlowId, Flows, LinkId, Progress, Route, Step};
use crate::queue::Queue;
use crate::scenario::Scenario;
use crate::scenario::schedule::{self, Schedule};
use crate::world::{Fault, NodeIndex};

/// Number of a blob in the catalogue.
pub(super) type BlobId = usize;

/// A flow has so many chunks: what flows share is shared to a part in this many.
const CHUNKS: u64 = 32;
/// The least that a chunk has, in bytes.
const LEAST_CHUNK: u64 = 64 << 10;
/// Runs end after this, done or not: everybody from a registry with a thin link takes long.
const LONGEST: Duration = Duration::from_secs(14 * 24 * 3600);

/// How a rival moves blobs.
pub(super) trait Policy {
    /// What it waits for.
    type Event;

    /// How long a receiver waits for bytes on a connection that went silent before it gives the connection up.
    const PATIENCE: Duration;

    /// A node's containerd asks its mirror for a blob. It has to end with [`Cluster::deliver`] or [`Cluster::refuse`], and
    /// to call [`Cluster::headers`] as soon as headers would be sent.
    fn want(&mut self, cluster: &mut Cluster<Self::Event>, ticket: Ticket);

    /// Something that was waited for.
    fn happen(&mut self, cluster: &mut Cluster<Self::Event>, event: Self::Event);

    /// A transfer is complete.
    fn arrived(&mut self, cluster: &mut Cluster<Self::Event>, transfer: Transfer) {
        if let Purpose::Stream(ticket) = transfer.purpose {
            cluster.deliver(ticket);
        }
    }

    /// A transfer broke off, or the registry refused it.
    fn broke(&mut self, cluster: &mut Cluster<Self::Event>, transfer: Transfer, why: Broken);

    /// A blob is complete in a node's store, and whether containerd got it from the registry itself.
    fn stored(&mut self, _cluster: &mut Cluster<Self::Event>, _node: NodeIndex, _blob: BlobId, _from_registry: bool) {}

    /// A node is gone.
    fn died(&mut self, _cluster: &mut Cluster<Self::Event>, _node: NodeIndex) {}

    /// A node is back, with the blobs that are complete on its disk.
    fn returned(&mut self, _cluster: &mut Cluster<Self::Event>, _node: NodeIndex) {}
}

/// What a registry's blob is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blob {
    pub(super) size: u64,
    pub(super) is_manifest: bool,
}

/// An image: its manifest, then configuration and layers in manifest order.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) manifest: BlobId,
    pub(super) children: Vec<BlobId>,
}

/// A request of a node's containerd; of an earlier attempt it is not current any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket {
    pub(super) node: NodeIndex,
    pub(super) blob: BlobId,
    pub(super) attempt: u32,
}

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    Registry,
    Machine(NodeIndex),
}

/// What a transfer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// containerd gets it from the registry itself.
    Direct(Ticket),
    /// Through the mirror to containerd.
    Stream(Ticket),
    /// Into the machine's store; nobody reads it before it is complete.
    Store,
}

/// Bytes of a blob on their way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    pub(super) from: Sender,
    pub(super) to: NodeIndex,
    pub(super) blob: BlobId,
    /// Bytes that were there before.
    pub(super) offset: u64,
    /// Bytes that have come.
    pub(super) received: u64,
    pub(super) purpose: Purpose,
}

/// Why a transfer broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The connection was closed, or nothing came until the receiver's patience was at its end.
    Off,
    /// The registry said no: 429, or something else that will be no in a moment, too.
    Refused,
}

/// A node, or another machine that a rival needs.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) up: bool,
    pub(super) uplink: LinkId,
    pub(super) downlink: LinkId,
    zone: usize,
    /// Transfers that it sends at this moment.
    pub(super) serving: u32,
    pub(super) client: Client,
}

#[derive(Debug)]
pub(super) enum Event<E> {
    Flow(Step),
    Begin(Transfer),
    Refused(Transfer),
    Silent(Transfer),
    Client(NodeIndex, ClientEvent),
    Fault(usize),
    Policy(E),
}

/// The registry's state.
#[derive(Debug)]
pub(super) struct Registry {
    pub(super) link: LinkId,
    pub(super) fault: Option<Fault>,
    second: (u64, u32),
    pub(super) requests: u64,
    pub(super) bytes: u64,
}

/// What a policy sees and uses.
#[derive(Debug)]
pub(super) struct Cluster<E> {
    pub(super) scenario: Scenario,
    seed: u64,
    pub(super) now: Time,
    pub(super) chance: Chance,
    pub(super) machines: Vec<Machine>,
    pub(super) blobs: Vec<Blob>,
    pub(super) images: Vec<Image>,
    pub(super) registry: Registry,
    pub(super) flows: Flows<Transfer>,
    zone_links: BTreeMap<(usize, usize), LinkId>,
    queue: Queue<Event<E>>,
    steps: Vec<(Time, Step)>,
    pub(super) schedule: Schedule,
    /// What the mirror has delivered (or not), for the client; and what nodes have stored, for the policy.
    outbox: Vec<Told>,
    /// Faults, and ends of faults, that are still to come.
    faults_left: usize,
    /// A pull was done, or a fault happened: maybe nothing is left to wait for.
    pub(super) look: bool,
    /// Requests, notices and queries between nodes.
    pub(super) messages: u64,
    pub(super) events: u64,
    pub(super) peer_bytes: u64,
    pub(super) cross_zone_bytes: u64,
    /// Of all queries of the index, so many in a million find nothing.
    pub(super) index_false_empty: u32,
    /// Pulls that were done, in order of time.
    pub(super) finished: Vec<Finished>,
}

/// A pull that was done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finished {
    /// How long it took, with unpacking.
    pub(super) took: Duration,
    /// How long it took until the last byte was there.
    pub(super) delivered: Duration,
    /// Bytes and pieces that the node missed at the beginning.
    pub(super) missing: (u64, u32),
}

/// What the policy is told after an event.
#[derive(Clone, Copy, Debug)]
pub(super) enum Told {
    Want(Ticket),
    Stored { node: NodeIndex, blob: BlobId, from_registry: bool },
    Died(NodeIndex),
    Returned(NodeIndex),
    Arrived(Transfer),
    Broke(Transfer, Broken),
}

impl<E> Cluster<E> {
    pub(super) fn new(scenario: &Scenario, seed: u64) -> Self {
        let schedule = Schedule::draw(scenario, seed);
        let mut flows = Flows::default();
        let link = flows.add_link(scenario.origin.rate.0);
        let mut cluster = Self {
            seed,
            now: Time::ZERO,
            chance: Chance::new(seed ^ 0x71a1_5eed),
            machines: Vec::new(),
            blobs: Vec::new(),
            images: Vec::new(),
            registry: Registry { link, fault: None, second: (0, 0), requests: 0, bytes: 0 },
            flows,
            zone_links: BTreeMap::new(),
            queue: Queue::default(),
            steps: Vec::new(),
            schedule,
            outbox: Vec::new(),
            faults_left: 0,
            look: true,
            messages: 0,
            events: 0,
            peer_bytes: 0,
            cross_zone_bytes: 0,
            index_false_empty: 0,
            finished: Vec::new(),
            scenario: scenario.clone(),
        };
        cluster.publish();
        for node in 0..scenario.cluster.nodes {
            cluster.add_machine(node % scenario.cluster.zones);
        }
        if let Some(rate) = scenario.cluster.cross_zone_rate {
            for from in 0..scenario.cluster.zones {
                for to in (0..scenario.cluster.zones).filter(|to| *to != from) {
                    cluster.zone_links.insert((from, to), cluster.flows.add_link(rate.0));
                }
            }
        }
        cluster.arrive();
        for (number, (at, step)) in cluster.schedule.timeline.iter().enumerate() {
            if *at <= scenario.limit.0 || matches!(step, schedule::Step::Heal) {
                cluster.queue.push(Time::ZERO + *at, Event::Fault(number));
                cluster.faults_left += 1;
            }
        }
        cluster
    }

    /// The same blobs as in the real world: a manifest of 1500 bytes, a configuration of 2000, and the layers.
    fn publish(&mut self) {
        for spec in &self.scenario.images {
            let mut blob = |size, is_manifest| {
                self.blobs.push(Blob { size, is_manifest });
                self.blobs.len() - 1
            };
            let mut children = vec![blob(2000, false)];
            if let Some(last) = self.images.last() {
                children.extend(last.children.iter().skip(1).take(spec.shared_layers));
            }
            children.extend(spec.layers.iter().map(|layer| blob(layer.0, false)));
            let manifest = blob(1500, true);
            self.images.push(Image { manifest, children });
        }
    }

    fn arrive(&mut self) {
        let arrivals = self.schedule.arrivals.clone();
        for (image, pulls) in arrivals.into_iter().enumerate() {
            for pull in pulls {
                let has_credential = !self.scenario.origin.private || pull.has_credential;
                self.machines[pull.node].client.pending += 1;
                self.client_later(pull.node, pull.at, ClientEvent::Start(image, has_credential));
            }
        }
    }

    /// Adds a machine that is as fast as a node.
    pub(super) fn add_machine(&mut self, zone: usize) -> NodeIndex {
        let rate = self.scenario.cluster.node_rate.0;
        let (uplink, downlink) = (self.flows.add_link(rate), self.flows.add_link(rate));
        self.machines.push(Machine { up: true, uplink, downlink, zone, serving: 0, client: Client::default() });
        self.machines.len() - 1
    }

    /// Nodes of the cluster.
    pub(super) const fn nodes(&self) -> usize {
        self.scenario.cluster.nodes
    }

    /// How long a message between two machines takes; always the same for the same two, as in the real world.
    pub(super) fn way(&self, from: NodeIndex, to: NodeIndex) -> Duration {
        let base = self.scenario.cluster.latency.0.as_micros() as u64;
        let mut mix = (from as u64) << 32 ^ to as u64 ^ self.seed.rotate_left(17);
        mix = mix.wrapping_mul(0xff51_afd7_ed55_8ccd);
        mix ^= mix >> 33;
        let latency = Duration::from_micros(base + mix % (base + 1));
        let cross = self.machines[from].zone != self.machines[to].zone;
        if cross { latency + self.scenario.cluster.cross_zone_latency.0 } else { latency }
    }

    /// There and back.
    pub(super) fn round_trip(&self, from: NodeIndex, to: NodeIndex) -> Duration {
        self.way(from, to) + self.way(to, from)
    }

    /// How long a message to or from the registry takes.
    pub(super) fn registry_way(&self, machine: NodeIndex) -> Duration {
        let base = self.scenario.cluster.latency.0.as_micros() as u64;
        let mix = (machine as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        Duration::from_micros(base + mix % (base + 1)) + self.scenario.origin.latency.0
    }

    /// `event` happens after this.
    pub(super) fn later(&mut self, after: Duration, event: E) {
        self.queue.push(self.now + after, Event::Policy(event));
    }

    pub(super) fn client_later(&mut self, node: NodeIndex, after: Duration, event: ClientEvent) {
        self.queue.push(self.now + after, Event::Client(node, event));
    }

    pub(super) fn tell(&mut self, told: Told) {
        self.outbox.push(told);
    }

    /// Whether a node is up and has a blob, complete.
    pub(super) fn has(&self, node: NodeIndex, blob: BlobId) -> bool {
        self.machines[node].up && self.machines[node].client.content.contains_key(&blob)
    }

    /// What of a blob came to containerd before.
    pub(super) fn partial(&self, node: NodeIndex, blob: BlobId) -> u64 {
        self.machines[node].client.partial.get(&blob).copied().unwrap_or(0)
    }

    /// Counts a request to the registry; whether it says no.
    pub(super) fn registry_refuses(&mut self, has_credential: bool) -> bool {
        let registry = &mut self.registry;
        registry.requests += 1;
        let second = self.now.as_micros() / 1_000_000;
        if registry.second.0 != second {
            registry.second = (second, 0);
        }
        registry.second.1 += 1;
        let too_many = self.scenario.origin.requests_per_second.is_some_and(|most| registry.second.1 > most);
        let broken = matches!(registry.fault, Some(Fault::Errors | Fault::Empty | Fault::RateLimited(_)));
        too_many || broken || !has_credential
    }

    /// A machine asks the registry for a blob. What it has of it already is not sent again.
    pub(super) fn fetch(&mut self, to: NodeIndex, blob: BlobId, offset: u64, has_credential: bool, purpose: Purpose) {
        let transfer = Transfer { from: Sender::Registry, to, blob, offset, received: 0, purpose };
        let way = self.registry_way(to);
        if self.registry.fault == Some(Fault::Silent) {
            self.registry.requests += 1;
            let patience = self.scenario.client.header_timeout.0;
            self.queue.push(self.now + patience, Event::Silent(transfer));
        } else if self.registry_refuses(has_credential) {
            self.queue.push(self.now + way * 2, Event::Refused(transfer));
        } else {
            self.queue.push(self.now + way, Event::Begin(transfer));
        }
    }

    /// A machine asks another one for a blob that it has; the request is on its way.
    pub(super) fn stream(&mut self, from: NodeIndex, to: NodeIndex, blob: BlobId, offset: u64, purpose: Purpose) {
        self.messages += 1;
        let transfer = Transfer { from: Sender::Machine(from), to, blob, offset, received: 0, purpose };
        self.queue.push(self.now + self.way(to, from), Event::Begin(transfer));
    }

    /// A machine sends another one a blob that it has; the request has arrived.
    pub(super) fn stream_now(&mut self, from: NodeIndex, to: NodeIndex, blob: BlobId, offset: u64, purpose: Purpose) {
        self.begin(Transfer { from: Sender::Machine(from), to, blob, offset, received: 0, purpose });
    }

    fn begin(&mut self, transfer: Transfer) {
        let to = &self.machines[transfer.to];
        if !to.up || !self.is_wanted(&transfer) {
            return;
        }
        let (from, latency, across, most) = match transfer.from {
            Sender::Registry => {
                let most = self.scenario.origin.connection_rate.map(|rate| rate.0);
                (self.registry.link, self.registry_way(transfer.to), None, most)
            }
            Sender::Machine(sender) => {
                if !self.machines[sender].up {
                    let way = self.way(transfer.to, sender);
                    return self.queue.push(self.now + way, Event::Silent(transfer));
                }
                let across = self.zone_links.get(&(self.machines[sender].zone, to.zone)).copied();
                (self.machines[sender].uplink, self.way(sender, transfer.to), across, None)
            }
        };
        if let Some(ticket) = transfer.purpose.ticket() {
            self.machines[ticket.node].client.streams += 1;
            if matches!(transfer.purpose, Purpose::Direct(_)) {
                self.headers(ticket);
            }
        }
        if let Sender::Machine(from) = transfer.from {
            self.machines[from].serving += 1;
        }
        let route = Route { from, across, to: self.machines[transfer.to].downlink, latency, most };
        let bytes = self.blobs[transfer.blob].size.saturating_sub(transfer.offset);
        let chunk = (self.blobs[transfer.blob].size / CHUNKS).max(LEAST_CHUNK);
        self.flows.begin(self.now, route, bytes, chunk, transfer, &mut self.steps);
    }

    /// Whether anybody still waits for what a transfer brings.
    fn is_wanted(&self, transfer: &Transfer) -> bool {
        transfer.purpose.ticket().is_none_or(|ticket| self.is_current(ticket))
    }

    fn flow(&mut self, step: Step) {
        match self.flows.step(self.now, step, &mut self.steps) {
            Progress::Nothing => {}
            Progress::Left { flow, bytes, .. } => {
                let Some(transfer) = self.flows.get(flow) else { return };
                match transfer.from {
                    Sender::Registry => self.registry.bytes += bytes,
                    Sender::Machine(from) => {
                        self.peer_bytes += bytes;
                        if self.machines[from].zone != self.machines[transfer.to].zone {
                            self.cross_zone_bytes += bytes;
                        }
                    }
                }
            }
            Progress::Received { flow, total, all } => {
                let now = self.now;
                let Some(transfer) = self.flows.get_mut(flow) else { return };
                transfer.received = total;
                if let Some(ticket) = transfer.purpose.ticket() {
                    self.machines[ticket.node].client.last_byte = now;
                }
                if all && let Some(transfer) = self.end(flow) {
                    self.complete(transfer);
                }
            }
        }
    }

    /// Takes a flow off its links.
    pub(super) fn end(&mut self, flow: FlowId) -> Option<Transfer> {
        let transfer = self.flows.end(flow)?;
        let client = &mut self.machines[transfer.to].client;
        if transfer.purpose.ticket().is_some() {
            client.streams = client.streams.saturating_sub(1);
        }
        let had = client.partial.entry(transfer.blob).or_default();
        *had = (*had).max(transfer.offset + transfer.received);
        if let Sender::Machine(from) = transfer.from {
            self.machines[from].serving -= 1;
        }
        Some(transfer)
    }

    fn complete(&mut self, transfer: Transfer) {
        match transfer.purpose {
            Purpose::Direct(ticket) => self.got_directly(ticket),
            Purpose::Stream(_) | Purpose::Store => self.tell(Told::Arrived(transfer)),
        }
    }

    /// A transfer ends before it is done; `known` says whether its receiver is told.
    pub(super) fn cut(&mut self, flow: FlowId, known: bool, patience: Duration) {
        let Some(transfer) = self.end(flow) else { return };
        if known {
            self.fail(transfer, Broken::Off);
        } else {
            self.queue.push(self.now + patience, Event::Silent(transfer));
        }
    }

    fn fail(&mut self, transfer: Transfer, why: Broken) {
        if !self.machines[transfer.to].up || !self.is_wanted(&transfer) {
            return;
        }
        match transfer.purpose {
            Purpose::Direct(ticket) => self.direct_failed(ticket),
            Purpose::Stream(_) | Purpose::Store => self.tell(Told::Broke(transfer, why)),
        }
    }

    /// Puts a blob into a node's store, past its containerd's requests.
    pub(super) fn store(&mut self, node: NodeIndex, blob: BlobId) {
        let now = self.now;
        self.machines[node].client.content.entry(blob).or_insert(now);
        self.tell(Told::Stored { node, blob, from_registry: false });
    }
}

impl Purpose {
    /// The request of containerd that waits for it.
    pub(super) const fn ticket(self) -> Option<Ticket> {
        match self {
            Self::Direct(ticket) | Self::Stream(ticket) => Some(ticket),
            Self::Store => None,
        }
    }
}

/// Runs until all pulls of nodes that are up are done.
pub(super) fn run<P: Policy>(cluster: &mut Cluster<P::Event>, policy: &mut P) {
    while let Some((at, event)) = cluster.queue.pop() {
        if at > Time::ZERO + LONGEST {
            return;
        }
        cluster.now = at;
        cluster.events += 1;
        match event {
            Event::Flow(step) => cluster.flow(step),
            Event::Begin(transfer) => cluster.begin(transfer),
            Event::Refused(transfer) => cluster.fail(transfer, Broken::Refused),
            Event::Silent(transfer) => cluster.fail(transfer, Broken::Off),
            Event::Client(node, event) => cluster.client_event(node, event),
            Event::Fault(number) => {
                cluster.faults_left -= 1;
                cluster.look = true;
                faults::take(cluster, number, P::PATIENCE);
            }
            Event::Policy(event) => policy.happen(cluster, event),
        }
        while !cluster.outbox.is_empty() {
            for told in std::mem::take(&mut cluster.outbox) {
                match told {
                    Told::Want(ticket) if cluster.is_current(ticket) => policy.want(cluster, ticket),
                    Told::Want(_) => {}
                    Told::Stored { node, blob, from_registry } => policy.stored(cluster, node, blob, from_registry),
                    Told::Died(node) => policy.died(cluster, node),
                    Told::Returned(node) => policy.returned(cluster, node),
                    Told::Arrived(transfer) => policy.arrived(cluster, transfer),
                    Told::Broke(transfer, why) => policy.broke(cluster, transfer, why),
                }
            }
        }
        for (at, step) in cluster.steps.drain(..) {
            cluster.queue.push(at, Event::Flow(step));
        }
        if std::mem::take(&mut cluster.look) && cluster.faults_left == 0 && cluster.unfinished() == 0 {
            return;
        }
    }
}

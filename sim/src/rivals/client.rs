//! containerd and the kubelet, as [`crate::world`] has them, for whole blobs.
//!
//! The manifest first, then configuration and layers, three at a time, in manifest order. What the mirror refuses, or gives
//! no headers for in time, comes from the registry; what fails there fails the pull, and the kubelet tries again with a
//! growing back-off. What has come of a blob is not asked for again. Layers are unpacked one after the other.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use longshore_core::piece::Geometry;
use longshore_core::time::Time;

use super::engine::{BlobId, Cluster, Finished, Purpose, Ticket, Told};
use crate::flows::transfer_time;
use crate::world::NodeIndex;

/// containerd's default (containerd: `max_concurrent_downloads`).
const CONCURRENT_DOWNLOADS: usize = 3;
/// How often containerd looks whether a pull makes progress.
const PROGRESS_CHECK: Duration = Duration::from_secs(10);
/// The kubelet's back-off after the first failure, and its most.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
/// How long a machine takes to start a pull after it has started itself; a pull that has to wait looks again as often.
const MACHINE_START: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
pub(super) enum ClientEvent {
    /// A pull of this image begins; whether there is a credential that the registry takes.
    Start(usize, bool),
    Retry(u32),
    HeadersLate(Ticket),
    CheckProgress(u32),
    Unpacked(u32),
}

#[derive(Clone, Copy, Debug)]
struct Active {
    headers: bool,
    /// From the registry itself.
    direct: bool,
}

/// The state of a node's containerd.
#[derive(Debug, Default)]
pub(super) struct Client {
    image: Option<usize>,
    pub(super) has_credential: bool,
    queue: VecDeque<BlobId>,
    active: BTreeMap<BlobId, Active>,
    /// Pulls that are to start.
    pub(super) pending: u32,
    /// What was being pulled when the machine went down.
    lost: Option<(usize, bool)>,
    /// Numbers attempts: events of an earlier one mean nothing.
    attempt: u32,
    failures: u32,
    started: Option<Time>,
    /// Bytes and pieces that were missing then.
    missing: (u64, u32),
    finished: bool,
    in_children: bool,
    /// What is complete, and since when.
    pub(super) content: BTreeMap<BlobId, Time>,
    /// Bytes of what is not.
    pub(super) partial: BTreeMap<BlobId, u64>,
    pub(super) last_byte: Time,
    /// Flows that bring it something at this moment.
    pub(super) streams: u32,
    /// Blobs that the mirror did not deliver.
    pub(super) fallbacks: u64,
    /// Pulls that failed and were tried again.
    pub(super) failed_pulls: u64,
}

impl Client {
    /// The machine goes down. What containerd got is on its disk.
    pub(super) fn stop(&mut self) {
        self.active.clear();
        self.queue.clear();
        self.attempt += 1;
        self.streams = 0;
        let image = self.image.take();
        if !self.finished {
            self.lost = image.map(|image| (image, self.has_credential)).or(self.lost.take());
            self.started = None;
        }
    }

    pub(super) fn is_pulling(&self) -> bool {
        self.pending > 0 || self.started.is_some() && !self.finished
    }
}

impl<E> Cluster<E> {
    /// Nodes that are up and whose pulls are not done.
    pub(super) fn unfinished(&self) -> usize {
        self.machines.iter().filter(|machine| machine.up && machine.client.is_pulling()).count()
    }

    /// Whether containerd still waits for this.
    pub(super) fn is_current(&self, ticket: Ticket) -> bool {
        let machine = &self.machines[ticket.node];
        machine.up && machine.client.attempt == ticket.attempt && machine.client.active.contains_key(&ticket.blob)
    }

    /// The mirror sends headers: containerd is patient from now on.
    pub(super) fn headers(&mut self, ticket: Ticket) {
        if self.is_current(ticket)
            && let Some(active) = self.machines[ticket.node].client.active.get_mut(&ticket.blob)
        {
            active.headers = true;
        }
    }

    /// containerd has the whole blob.
    pub(super) fn deliver(&mut self, ticket: Ticket) {
        if self.is_current(ticket) {
            self.got(ticket, false);
        }
    }

    /// The mirror cannot deliver: the next host is the registry itself.
    pub(super) fn refuse(&mut self, ticket: Ticket) {
        if self.is_current(ticket) {
            self.machines[ticket.node].client.fallbacks += 1;
            self.go_direct(ticket);
        }
    }

    /// containerd asks the registry itself.
    pub(super) fn go_direct(&mut self, ticket: Ticket) {
        let client = &mut self.machines[ticket.node].client;
        client.active.insert(ticket.blob, Active { headers: false, direct: true });
        let (has_credential, offset) = (client.has_credential, self.partial(ticket.node, ticket.blob));
        self.fetch(ticket.node, ticket.blob, offset, has_credential, Purpose::Direct(ticket));
    }

    pub(super) fn got_directly(&mut self, ticket: Ticket) {
        if self.is_current(ticket) {
            self.got(ticket, true);
        }
    }

    pub(super) fn direct_failed(&mut self, ticket: Ticket) {
        if self.is_current(ticket) {
            self.pull_fails(ticket.node);
        }
    }

    /// Goes on with the pull that was lost when the machine went down, as the kubelet does after a start.
    pub(super) fn resume_pull(&mut self, node: NodeIndex) {
        if let Some((image, has_credential)) = self.machines[node].client.lost.take() {
            self.machines[node].client.pending += 1;
            self.client_later(node, MACHINE_START, ClientEvent::Start(image, has_credential));
        }
    }

    pub(super) fn client_event(&mut self, node: NodeIndex, event: ClientEvent) {
        let machine = &self.machines[node];
        let busy = machine.client.started.is_some() && !machine.client.finished;
        if matches!(event, ClientEvent::Start(..)) && (busy || !machine.up) {
            return self.client_later(node, MACHINE_START, event);
        }
        if !machine.up {
            return;
        }
        let attempt = machine.client.attempt;
        match event {
            ClientEvent::Start(image, has_credential) => {
                let now = self.now;
                let content = &self.machines[node].client.content;
                let missing = self.images[image].children.iter().filter(|child| !content.contains_key(child));
                let missing = missing
                    .map(|child| self.blobs[*child].size)
                    .fold((0, 0), |(bytes, pieces), size| (bytes + size, pieces + Geometry::of_blob(size).pieces()));
                let client = &mut self.machines[node].client;
                client.missing = missing;
                client.image = Some(image);
                client.has_credential = has_credential;
                client.pending -= 1;
                client.started = Some(now);
                client.finished = false;
                client.failures = 0;
                client.attempt += 1;
                self.begin_pull(node);
            }
            ClientEvent::Retry(of) if of == attempt => self.begin_pull(node),
            ClientEvent::HeadersLate(ticket) => self.headers_late(ticket),
            ClientEvent::CheckProgress(of) if of == attempt => self.check_progress(node),
            ClientEvent::Unpacked(of) if of == attempt => self.finish(node),
            _ => {}
        }
    }

    fn begin_pull(&mut self, node: NodeIndex) {
        let now = self.now;
        let client = &mut self.machines[node].client;
        let Some(image) = client.image else { return };
        client.in_children = false;
        client.last_byte = now;
        let attempt = client.attempt;
        let manifest = self.images[image].manifest;
        if client.content.contains_key(&manifest) {
            self.go_on(node);
        } else {
            self.request(node, manifest);
        }
        self.client_later(node, PROGRESS_CHECK, ClientEvent::CheckProgress(attempt));
    }

    fn request(&mut self, node: NodeIndex, blob: BlobId) {
        let client = &mut self.machines[node].client;
        client.active.insert(blob, Active { headers: false, direct: false });
        let ticket = Ticket { node, blob, attempt: client.attempt };
        let patience = self.scenario.client.header_timeout.0;
        self.client_later(node, patience, ClientEvent::HeadersLate(ticket));
        self.tell(Told::Want(ticket));
    }

    fn headers_late(&mut self, ticket: Ticket) {
        let late = |active: &Active| !active.headers && !active.direct;
        if self.is_current(ticket) && self.machines[ticket.node].client.active.get(&ticket.blob).is_some_and(late) {
            self.refuse(ticket);
        }
    }

    fn check_progress(&mut self, node: NodeIndex) {
        let client = &self.machines[node].client;
        if client.finished || client.active.is_empty() {
            return;
        }
        let attempt = client.attempt;
        // A flow always moves, if in chunks that may take long.
        if client.streams > 0 || self.now - client.last_byte < self.scenario.client.progress_timeout.0 {
            return self.client_later(node, PROGRESS_CHECK, ClientEvent::CheckProgress(attempt));
        }
        self.pull_fails(node);
    }

    /// The pull is given up; the kubelet tries again later.
    fn pull_fails(&mut self, node: NodeIndex) {
        self.hang_up(node);
        let client = &mut self.machines[node].client;
        client.active.clear();
        client.queue.clear();
        client.attempt += 1;
        client.failed_pulls += 1;
        let back_off = (BACK_OFF.0 * (1 << client.failures.min(5))).min(BACK_OFF.1);
        client.failures += 1;
        let attempt = client.attempt;
        self.client_later(node, back_off, ClientEvent::Retry(attempt));
    }

    /// Ends all flows that bring a node's containerd something.
    fn hang_up(&mut self, node: NodeIndex) {
        let of_client = |ticket: Ticket| ticket.node == node;
        let open: Vec<_> = self
            .flows
            .iter()
            .filter(|(_, transfer)| transfer.purpose.ticket().is_some_and(of_client))
            .map(|(flow, _)| flow)
            .collect();
        for flow in open {
            self.end(flow);
        }
    }

    fn got(&mut self, ticket: Ticket, from_registry: bool) {
        let Ticket { node, blob, .. } = ticket;
        let now = self.now;
        let client = &mut self.machines[node].client;
        client.last_byte = now;
        client.content.entry(blob).or_insert(now);
        client.partial.remove(&blob);
        client.active.remove(&blob);
        self.tell(Told::Stored { node, blob, from_registry });
        self.go_on(node);
    }

    fn go_on(&mut self, node: NodeIndex) {
        let client = &mut self.machines[node].client;
        let Some(image) = client.image.map(|image| &self.images[image]) else { return };
        if !client.in_children {
            client.in_children = true;
            client.queue = image.children.iter().copied().collect();
        }
        let mut asked = Vec::new();
        while client.active.len() + asked.len() < CONCURRENT_DOWNLOADS {
            let Some(child) = client.queue.pop_front() else { break };
            if !client.content.contains_key(&child) {
                asked.push(child);
            }
        }
        if asked.is_empty() && client.active.is_empty() && !client.finished {
            return self.unpack(node);
        }
        for blob in asked {
            self.request(node, blob);
        }
    }

    /// Everything is there. Each layer was unpacked when it and all before it had come.
    fn unpack(&mut self, node: NodeIndex) {
        let now = self.now;
        let client = &self.machines[node].client;
        let (Some(rate), Some(image)) = (self.scenario.client.unpack_rate, client.image) else {
            return self.finish(node);
        };
        let mut at = client.started.unwrap_or(now);
        for child in &self.images[image].children {
            let came = client.content.get(child).copied().unwrap_or(now);
            at = at.max(came) + transfer_time(self.blobs[*child].size, rate.0);
        }
        let attempt = client.attempt;
        self.client_later(node, at.max(now) - now, ClientEvent::Unpacked(attempt));
    }

    fn finish(&mut self, node: NodeIndex) {
        let now = self.now;
        let client = &mut self.machines[node].client;
        client.finished = true;
        self.look = true;
        let (Some(image), Some(started)) = (client.image, client.started) else { return };
        let children = &self.images[image].children;
        let last = children.iter().filter_map(|child| client.content.get(child)).max().copied();
        let (took, delivered, missing) = (now - started, last.unwrap_or(started) - started, client.missing);
        self.finished.push(Finished { took, delivered, missing });
    }
}

//! containerd as a client of its node's mirror, and the kubelet behind it.
//!
//! The manifest first, then configuration and layers, three at a time, in manifest order; without a credential, until a 401
//! asks for one; a body that ends short is asked for again, from where it ended; what the mirror refuses comes from the
//! registry; what fails there, and what has not its digest in the end, fails the pull, and the kubelet tries again with a growing
//! back-off. Layers are unpacked one after the other. (Reference: the containerd mirror contract, sections 10.2-10.5.)

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use longshore_core::digest::Digest;
use longshore_core::input::{Child, Input, Method};
use longshore_core::names::{CredentialId, Kind, RequestId, Source};
use longshore_core::output::Refusal;
use longshore_core::piece::Geometry;
use longshore_core::time::Time;

use super::ingest::Ingest;
use super::transfers::Carried;
use super::{Event, Fault, Image, NodeIndex, World};
use crate::flows::{FlowId, chunk_of, transfer_time};
use crate::invariants;

/// containerd's default (reference, section 10.3).
const CONCURRENT_DOWNLOADS: usize = 3;
/// Tries in a row without progress (reference, section 10.5).
const MAX_TRIES: u32 = 3;
/// How often containerd looks whether a pull makes progress (reference, section 10.5).
const PROGRESS_CHECK: Duration = Duration::from_secs(10);
/// The kubelet's back-off after the first failure, and its most.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
/// How long a machine takes to start a pull after it has started itself; a pull that has to wait looks again as often.
const MACHINE_START: Duration = Duration::from_secs(1);

/// How containerd behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// Headers that take longer send it to the next host.
    pub header_timeout: Duration,
    /// A pull without a new byte for this long is given up.
    pub progress_timeout: Duration,
    /// Bytes of layers unpacked per second. `None`: in no time.
    pub unpack_rate: Option<u64>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { header_timeout: Duration::from_secs(30), progress_timeout: Duration::from_secs(300), unpack_rate: None }
    }
}

#[derive(Debug)]
pub(crate) enum ClientEvent {
    Start(Image, Option<CredentialId>),
    Retry(u32),
    HeadersLate(RequestId),
    CheckProgress(u32),
    /// The registry has the request for what the mirror refused.
    Direct {
        attempt: u32,
        digest: Digest,
    },
    DirectFailed(u32),
    /// The registry's token service has answered: the mirror is asked again, with a credential.
    HasToken {
        attempt: u32,
        digest: Digest,
        tries: u32,
    },
    Unpacked(u32),
    /// The body of what the mirror has whole was read to its end.
    HasRead(RequestId),
}

/// How a node's pull stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullState {
    /// Nothing was asked for.
    Idle,
    /// It runs.
    Pulling,
    /// Everything is there; it took this long.
    Done(Duration),
}

/// A pull that was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinishedPull {
    /// Where.
    pub node: NodeIndex,
    /// What.
    pub manifest: Digest,
    /// When it was done.
    pub at: Time,
    /// How long it took, with unpacking.
    pub took: Duration,
    /// How long it took until the last byte was there.
    pub delivered: Duration,
    /// Bytes and pieces of it that the node missed at the beginning, without the manifest.
    pub missing: (u64, u32),
}

#[derive(Debug)]
pub(super) struct Active {
    pub(super) digest: Digest,
    credential: Option<CredentialId>,
    /// When its patience for headers ends, by the node's clock.
    late: Time,
    pub(super) size: Option<u64>,
    tries: u32,
    pub(super) ingest: Ingest,
    /// Byte of the blob that its body begins with.
    pub(super) begins: u64,
    /// Since when it is read out of a blob that is here whole.
    pub(super) stored_since: Option<Time>,
}

#[derive(Debug, Default)]
pub(crate) struct Client {
    image: Option<Image>,
    credential: Option<CredentialId>,
    /// The mirror has answered 401: it is asked with the credential from now on, until the pull is tried again.
    challenged: bool,
    queue: VecDeque<Child>,
    pub(super) active: BTreeMap<RequestId, Active>,
    /// Of requests that ended before the blob did.
    ingests: BTreeMap<Digest, Ingest>,
    /// What comes from the registry itself, or waits for a token of its; there is no flow before it has the request.
    direct: BTreeMap<Digest, Option<FlowId>>,
    /// Pulls that are to start.
    pending: u32,
    /// What was being pulled when the machine went down.
    lost: Option<(Image, Option<CredentialId>)>,
    /// Numbers attempts: events of an earlier one mean nothing.
    attempt: u32,
    failures: u32,
    started: Option<Time>,
    /// Bytes and pieces that were missing then.
    missing: (u64, u32),
    finished: Option<Time>,
    in_children: bool,
    /// What it has got, and when.
    content: BTreeMap<Digest, Time>,
    pub(crate) last_byte: Time,
    /// Blobs that the mirror did not deliver.
    fallbacks: u32,
    /// Pulls that failed and were tried again.
    failed_pulls: u32,
}

impl Client {
    /// containerd has read this blob to its end.
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.content.contains_key(digest)
    }

    /// The machine has a new disk.
    pub(crate) fn forget(&mut self) {
        self.content.clear();
    }

    /// The machine goes down. What containerd got is on its disk.
    pub(crate) fn stop(&mut self) {
        self.active.clear();
        self.ingests.clear();
        self.queue.clear();
        self.direct.clear();
        self.attempt += 1;
        let image = self.image.take();
        if self.finished.is_none() {
            self.lost = image.map(|image| (image, self.credential)).or(self.lost.take());
            self.started = None;
        }
    }
}

impl World {
    /// Starts a pull of `image` on `node`, after a while.
    pub fn pull(&mut self, node: NodeIndex, image: &Image, after: Duration) {
        self.pull_with(node, image, after, None);
    }

    /// Starts a pull with a credential for the origin.
    pub fn pull_with(&mut self, node: NodeIndex, image: &Image, after: Duration, credential: Option<CredentialId>) {
        self.nodes[node].client.pending += 1;
        self.client_later(node, after, ClientEvent::Start(image.clone(), credential));
    }

    /// How the pull of a node stands.
    #[must_use]
    pub fn pull_state(&self, node: NodeIndex) -> PullState {
        let client = &self.nodes[node].client;
        match (client.started, client.finished) {
            _ if client.pending > 0 => PullState::Pulling,
            (Some(started), Some(finished)) => PullState::Done(finished - started),
            (Some(_), None) => PullState::Pulling,
            _ => PullState::Idle,
        }
    }

    /// Goes on with the pull that was lost when the machine went down, as the kubelet does after a start.
    pub fn resume_pull(&mut self, node: NodeIndex) {
        if let Some((image, credential)) = self.nodes[node].client.lost.take() {
            self.pull_with(node, &image, MACHINE_START, credential);
        }
    }

    /// Blobs that containerd on `node` had to get from the registry itself.
    #[must_use]
    pub fn fallbacks(&self, node: NodeIndex) -> u32 {
        self.nodes[node].client.fallbacks
    }

    /// Pulls of `node` that failed; each was tried again.
    #[must_use]
    pub fn failed_pulls(&self, node: NodeIndex) -> u32 {
        self.nodes[node].client.failed_pulls
    }

    /// Whether all pulls of nodes that are up are done.
    #[must_use]
    pub fn all_done(&self) -> bool {
        (0..self.nodes.len()).all(|node| !self.is_up(node) || self.pull_state(node) != PullState::Pulling)
    }

    pub(super) fn client_later(&mut self, node: NodeIndex, after: Duration, event: ClientEvent) {
        self.queue.push(self.now + after, Event::Client(node, Box::new(event)));
    }

    pub(super) fn client_event(&mut self, node: NodeIndex, event: ClientEvent) {
        let client = &self.nodes[node].client;
        let busy = client.started.is_some() && client.finished.is_none();
        if matches!(event, ClientEvent::Start(..)) && (busy || !self.is_up(node)) {
            return self.client_later(node, MACHINE_START, event);
        }
        if !self.is_up(node) {
            return;
        }
        let attempt = self.nodes[node].client.attempt;
        match event {
            ClientEvent::Start(image, credential) => {
                let now = self.now;
                let client = &mut self.nodes[node].client;
                if image.fresh {
                    client.content.clear();
                }
                let missing = image.children.iter().filter(|child| !client.content.contains_key(&child.digest));
                let missing = missing.fold((0, 0), |(bytes, pieces), child| {
                    (bytes + child.size, pieces + Geometry::of_blob(child.size).pieces())
                });
                *client = Client {
                    image: Some(image),
                    missing,
                    pending: client.pending - 1,
                    started: Some(now),
                    credential,
                    attempt: client.attempt + 1,
                    fallbacks: client.fallbacks,
                    failed_pulls: client.failed_pulls,
                    content: std::mem::take(&mut client.content),
                    last_byte: now,
                    ..Client::default()
                };
                self.record_pull(node);
                self.begin(node);
            }
            ClientEvent::Retry(of) if of == attempt => self.begin(node),
            ClientEvent::HeadersLate(request) => self.headers_late(node, request),
            ClientEvent::CheckProgress(of) if of == attempt => self.check_progress(node),
            ClientEvent::Direct { attempt: of, digest } if of == attempt => self.direct_begins(node, digest),
            ClientEvent::DirectFailed(of) if of == attempt => self.pull_fails(node),
            ClientEvent::HasToken { attempt: of, digest, tries } if of == attempt => {
                self.nodes[node].client.direct.remove(&digest);
                self.request(node, digest, tries);
            }
            ClientEvent::Unpacked(of) if of == attempt => self.finish(node),
            ClientEvent::HasRead(request) => self.has_read(node, request),
            _ => {}
        }
    }

    fn record_pull(&mut self, node: NodeIndex) {
        if let (Some(record), Some(image)) = (&mut self.record, &self.nodes[node].client.image) {
            record.settle(self.now, self.queue.scheduled(), self.ready.len());
            record.pull_begins(node, image);
        }
    }

    fn begin(&mut self, node: NodeIndex) {
        let now = self.now;
        let client = &mut self.nodes[node].client;
        let Some(image) = &client.image else { return };
        let manifest = image.manifest;
        client.in_children = false;
        client.challenged = false;
        client.last_byte = now;
        let attempt = client.attempt;
        if client.content.contains_key(&manifest) {
            self.got(node, manifest);
        } else {
            self.request(node, manifest, 0);
        }
        self.client_later(node, PROGRESS_CHECK, ClientEvent::CheckProgress(attempt));
    }

    fn request(&mut self, node: NodeIndex, digest: Digest, tries: u32) {
        let request = RequestId(self.next_id());
        let kind = self.blobs.get(&digest).map_or(Kind::Blob, |blob| blob.kind);
        let header_timeout = self.options.client.header_timeout;
        let late = self.clock_of(node) + header_timeout;
        let client = &mut self.nodes[node].client;
        let credential = client.credential.filter(|_| client.challenged);
        let ingest = client.ingests.remove(&digest).unwrap_or_default();
        let active =
            Active { digest, credential, late, size: None, tries, ingest, begins: ingest.read, stored_since: None };
        client.active.insert(request, active);
        let source = source(kind);
        self.later(node, Duration::ZERO, Input::Mirror { request, method: Method::Get, source, digest, credential });
        self.when_headers_are_late(node, request, late);
        if kind == Kind::Manifest && node % 2 == 1 {
            // A second tenant wants the same image at the same time.
            self.intrude(node, digest);
        }
    }

    pub(super) fn mirror_served(&mut self, node: NodeIndex, request: RequestId, size: u64) {
        if self.intruder_answered(node, request, true) {
            return;
        }
        self.body_begins(node, request, size);
    }

    pub(super) fn mirror_refused(&mut self, node: NodeIndex, request: RequestId, refusal: &Refusal) {
        if self.intruder_answered(node, request, false) {
            return;
        }
        self.later(node, Duration::ZERO, Input::MirrorClosed { request, sent_bytes: 0 });
        let Some(Active { digest, credential, tries, ingest, .. }) = self.nodes[node].client.active.remove(&request)
        else {
            return;
        };
        let client = &mut self.nodes[node].client;
        client.ingests.insert(digest, ingest);
        let is_asked = matches!(refusal, Refusal::Unauthorized { .. }) && credential.is_none();
        if is_asked && client.credential.is_some() {
            client.challenged = true;
            client.direct.insert(digest, None);
            let attempt = client.attempt;
            let answer = self.origin_way(node) * 2;
            self.client_later(node, answer, ClientEvent::HasToken { attempt, digest, tries });
        } else {
            self.next_host(node, digest);
        }
    }

    /// containerd and agent go by the same clock, whatever it does.
    fn when_headers_are_late(&mut self, node: NodeIndex, request: RequestId, late: Time) {
        let at = self.nodes[node].clock.when(late).max(self.now);
        self.queue.push(at, Event::Client(node, Box::new(ClientEvent::HeadersLate(request))));
    }

    fn headers_late(&mut self, node: NodeIndex, request: RequestId) {
        let Some(active) = self.nodes[node].client.active.get(&request).filter(|active| active.size.is_none()) else {
            return;
        };
        let late = active.late;
        if self.clock_of(node) < late {
            return self.when_headers_are_late(node, request, late);
        }
        let client = &mut self.nodes[node].client;
        let Some(active) = client.active.remove(&request) else { return };
        client.ingests.insert(active.digest, active.ingest);
        let patient = self.options.client.header_timeout >= ClientOptions::default().header_timeout;
        if patient && !self.nodes[node].was_paused {
            let detail = format!("the request for {} got no headers", active.digest);
            self.violate(&invariants::contract::RULE, node, &detail);
        }
        self.later(node, Duration::ZERO, Input::MirrorClosed { request, sent_bytes: 0 });
        self.next_host(node, active.digest);
    }

    /// The next host is the registry itself.
    fn next_host(&mut self, node: NodeIndex, digest: Digest) {
        self.record(|record| record.falls_back(node, &digest));
        let client = &mut self.nodes[node].client;
        client.fallbacks += 1;
        client.direct.insert(digest, None);
        let (attempt, has_credential) = (client.attempt, client.credential.is_some());
        let fault = self.origin_fault(node);
        if fault == Some(Fault::Silent) {
            let patience = self.options.client.header_timeout;
            return self.client_later(node, patience, ClientEvent::DirectFailed(attempt));
        }
        let way = self.origin_way(node);
        if self.origin.refuses(self.now, node, fault, has_credential, true).is_some() {
            return self.client_later(node, way * 2, ClientEvent::DirectFailed(attempt));
        }
        self.client_later(node, way, ClientEvent::Direct { attempt, digest });
    }

    fn direct_begins(&mut self, node: NodeIndex, digest: Digest) {
        let size = self.blobs.get(&digest).map_or(0, |blob| blob.size);
        let chunk = chunk_of(Geometry::of_blob(size).len(0));
        let route = self.route_from_origin(node);
        let flow = self.flow_begins(route, size, chunk, Carried::Direct { node, digest });
        self.nodes[node].client.direct.insert(digest, Some(flow));
    }

    /// The registry has sent more of what the mirror refused.
    pub(super) fn came_directly(&mut self, flow: FlowId, node: NodeIndex, digest: Digest, all: bool) {
        match self.body_fault(node) {
            // containerd hashes what it gets.
            Some(Fault::Corrupt) if all => return self.pull_fails(node),
            // The progress check ends this.
            Some(Fault::Silent) => return,
            Some(Fault::Errors | Fault::Unreachable) => return self.pull_fails(node),
            _ => {}
        }
        self.nodes[node].client.last_byte = self.now;
        if all {
            self.flows.end(flow);
            self.record(|record| record.fetched_directly(node, &digest));
            let client = &mut self.nodes[node].client;
            client.direct.remove(&digest);
            let ingest = client.ingests.remove(&digest).unwrap_or_default();
            self.commit_ingest(node, digest, ingest);
        }
    }

    fn check_progress(&mut self, node: NodeIndex) {
        let client = &self.nodes[node].client;
        if client.finished.is_some() || client.active.is_empty() && client.direct.is_empty() {
            return;
        }
        let attempt = client.attempt;
        let without = self.nodes[node].clock.measures(self.now - client.last_byte);
        if without < self.options.client.progress_timeout {
            return self.client_later(node, PROGRESS_CHECK, ClientEvent::CheckProgress(attempt));
        }
        let patient = self.options.client.progress_timeout >= ClientOptions::default().progress_timeout;
        if patient && !client.active.is_empty() && !self.nodes[node].was_paused {
            self.violate(&invariants::contract::RULE, node, "a body stood still until containerd gave up the pull");
        }
        self.pull_fails(node);
    }

    /// containerd restarts: what it was asked for fails, and what it has got stays. It is back after `down`.
    pub fn restart_containerd(&mut self, node: NodeIndex, down: Duration) {
        let client = &self.nodes[node].client;
        if self.is_up(node) && client.image.is_some() && client.started.is_some() && client.finished.is_none() {
            self.pull_fails_for(node, down);
        }
    }

    /// The pull is given up; the kubelet tries again later.
    pub(super) fn pull_fails(&mut self, node: NodeIndex) {
        self.pull_fails_for(node, Duration::ZERO);
    }

    /// The same, not before `least`.
    fn pull_fails_for(&mut self, node: NodeIndex, least: Duration) {
        self.record(|record| record.pull_fails(node));
        let client = &self.nodes[node].client;
        let open: Vec<_> = client.active.keys().copied().collect();
        for request in open {
            let sent_bytes = self.body_ends(node, request);
            self.later(node, Duration::ZERO, Input::MirrorClosed { request, sent_bytes });
        }
        let client = &mut self.nodes[node].client;
        client.active.clear();
        client.ingests.clear();
        client.queue.clear();
        let direct = std::mem::take(&mut client.direct);
        client.attempt += 1;
        client.failed_pulls += 1;
        let back_off = (BACK_OFF.0 * (1 << client.failures.min(5))).min(BACK_OFF.1);
        client.failures += 1;
        let attempt = client.attempt;
        for flow in direct.into_values().flatten() {
            self.flows.end(flow);
        }
        self.client_later(node, back_off.max(least), ClientEvent::Retry(attempt));
    }

    pub(super) fn mirror_aborted(&mut self, node: NodeIndex, request: RequestId) {
        let sent_bytes = self.body_ends(node, request);
        self.later(node, Duration::ZERO, Input::MirrorClosed { request, sent_bytes });
        let client = &mut self.nodes[node].client;
        let Some(active) = client.active.remove(&request) else { return };
        client.ingests.insert(active.digest, active.ingest);
        if active.tries + 1 < MAX_TRIES {
            self.request(node, active.digest, active.tries + 1);
        } else {
            self.pull_fails(node);
        }
    }

    pub(super) fn got(&mut self, node: NodeIndex, digest: Digest) {
        let now = self.now;
        let client = &mut self.nodes[node].client;
        client.last_byte = now;
        client.content.entry(digest).or_insert(now);
        self.intrude(node, digest);
        let client = &mut self.nodes[node].client;
        let Some(image) = &client.image else { return };
        if !client.in_children && digest == image.manifest {
            client.in_children = true;
            let missing = image.children.iter().filter(|child| !client.content.contains_key(&child.digest));
            client.queue = missing.cloned().collect();
        }
        let mut next = Vec::new();
        while client.active.len() + client.direct.len() + next.len() < CONCURRENT_DOWNLOADS {
            let Some(child) = client.queue.pop_front() else { break };
            next.push(child.digest);
        }
        let idle = next.is_empty() && client.active.is_empty() && client.direct.is_empty();
        if idle && client.in_children && client.finished.is_none() {
            self.unpack(node);
        }
        for digest in next {
            self.request(node, digest, 0);
        }
    }

    fn finish(&mut self, node: NodeIndex) {
        let now = self.now;
        self.record(|record| record.pull_finishes(node));
        let client = &mut self.nodes[node].client;
        client.finished = Some(now);
        let (Some(image), Some(started)) = (&client.image, client.started) else { return };
        let last = image.children.iter().filter_map(|child| client.content.get(&child.digest)).max();
        let delivered = last.copied().unwrap_or(started) - started;
        let (manifest, missing) = (image.manifest, client.missing);
        let pull = FinishedPull { node, manifest, at: now, took: now - started, delivered, missing };
        self.finished_pulls.push(pull);
    }

    /// Everything is there. Each layer was unpacked when it and all before it had come.
    fn unpack(&mut self, node: NodeIndex) {
        let now = self.now;
        let client = &mut self.nodes[node].client;
        let (Some(rate), Some(image)) = (self.options.client.unpack_rate, &client.image) else {
            return self.finish(node);
        };
        let mut at = client.started.unwrap_or(now);
        for child in &image.children {
            let came = client.content.get(&child.digest).copied().unwrap_or(now);
            at = at.max(came) + transfer_time(child.size, rate);
        }
        let attempt = client.attempt;
        self.queue.push(at.max(now), Event::Client(node, Box::new(ClientEvent::Unpacked(attempt))));
    }
}

pub(crate) fn source(kind: Kind) -> Source {
    Source { registry: "origin.example".into(), repository: "app".into(), kind }
}

//! containerd as a client of its node's mirror: the manifest first, then configuration and layers, three at a time, in
//! manifest order; a body that ends short is asked for again; what the mirror refuses comes from the registry.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use longshore_core::digest::Digest;
use longshore_core::input::{Child, Input, Method};
use longshore_core::names::{CredentialId, Kind, RequestId, Source};
use longshore_core::time::Time;

use super::{Event, Image, NodeIndex, World};

/// containerd's default (reference, section 10.3).
const CONCURRENT_DOWNLOADS: usize = 3;
/// Tries in a row without progress (reference, section 10.5).
const MAX_TRIES: u32 = 3;

#[derive(Debug)]
pub(crate) enum ClientEvent {
    Start(Box<Image>, Option<CredentialId>),
    /// The registry has sent what the mirror refused.
    Direct(Digest),
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

#[derive(Debug)]
struct Active {
    digest: Digest,
    size: Option<u64>,
    tries: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Client {
    image: Option<Image>,
    credential: Option<CredentialId>,
    queue: VecDeque<Child>,
    active: BTreeMap<RequestId, Active>,
    direct: usize,
    scheduled: bool,
    started: Option<Time>,
    finished: Option<Time>,
    in_children: bool,
    /// Blobs that the mirror did not deliver.
    pub(crate) fallbacks: u32,
}

impl Client {
    pub(crate) fn stop(&mut self) {
        self.active.clear();
        self.queue.clear();
        self.image = None;
        self.scheduled = false;
    }
}

impl World {
    /// Starts a pull of `image` on `node`, after a while.
    pub fn pull(&mut self, node: NodeIndex, image: &Image, after: Duration) {
        self.pull_with(node, image, after, None);
    }

    /// Starts a pull with a credential for the origin.
    pub fn pull_with(&mut self, node: NodeIndex, image: &Image, after: Duration, credential: Option<CredentialId>) {
        self.nodes[node].client.scheduled = true;
        let event = ClientEvent::Start(Box::new(image.clone()), credential);
        self.queue.push(self.now + after, Event::Client(node, event));
    }

    /// How the pull of a node stands.
    #[must_use]
    pub fn pull_state(&self, node: NodeIndex) -> PullState {
        let client = &self.nodes[node].client;
        match (client.started, client.finished) {
            (Some(started), Some(finished)) => PullState::Done(finished - started),
            _ if client.scheduled => PullState::Pulling,
            _ => PullState::Idle,
        }
    }

    /// Blobs that containerd on `node` had to get from the registry itself.
    #[must_use]
    pub fn fallbacks(&self, node: NodeIndex) -> u32 {
        self.nodes[node].client.fallbacks
    }

    /// Whether all pulls of nodes that are up are done.
    #[must_use]
    pub fn all_done(&self) -> bool {
        (0..self.nodes.len()).all(|node| !self.is_up(node) || self.pull_state(node) != PullState::Pulling)
    }

    pub(super) fn client_event(&mut self, node: NodeIndex, event: ClientEvent) {
        if !self.is_up(node) {
            return;
        }
        match event {
            ClientEvent::Start(image, credential) => {
                let manifest = image.manifest;
                let now = self.now;
                let client = &mut self.nodes[node].client;
                *client = Client {
                    scheduled: true,
                    started: Some(now),
                    credential,
                    fallbacks: client.fallbacks,
                    ..Client::default()
                };
                client.image = Some(*image);
                self.request(node, manifest, 0);
            }
            ClientEvent::Direct(digest) => {
                self.nodes[node].client.direct -= 1;
                self.got(node, digest);
            }
        }
    }

    fn request(&mut self, node: NodeIndex, digest: Digest, tries: u32) {
        let request = RequestId(self.next_id());
        let kind = self.blobs.get(&digest).map_or(Kind::Blob, |blob| blob.kind);
        let client = &mut self.nodes[node].client;
        client.active.insert(request, Active { digest, size: None, tries });
        let credential = client.credential;
        let source = source(kind);
        self.later(node, Duration::ZERO, Input::Mirror { request, method: Method::Get, source, digest, credential });
    }

    pub(super) fn mirror_served(&mut self, node: NodeIndex, request: RequestId, size: u64) {
        if let Some(active) = self.nodes[node].client.active.get_mut(&request) {
            active.size = Some(size);
        }
        self.bodies_progress(node);
    }

    pub(super) fn mirror_refused(&mut self, node: NodeIndex, request: RequestId) {
        self.later(node, Duration::ZERO, Input::MirrorClosed { request, sent_bytes: 0 });
        let Some(active) = self.nodes[node].client.active.remove(&request) else { return };
        // The next host is the registry itself.
        let size = self.blobs.get(&active.digest).map_or(0, |blob| blob.size);
        let client = &mut self.nodes[node].client;
        client.fallbacks += 1;
        client.direct += 1;
        let nanos = size.saturating_mul(1_000_000_000) / self.options.node_rate.max(1);
        let after = Duration::from_nanos(nanos);
        self.queue.push(self.now + after, Event::Client(node, ClientEvent::Direct(active.digest)));
    }

    pub(super) fn mirror_aborted(&mut self, node: NodeIndex, request: RequestId) {
        self.later(node, Duration::ZERO, Input::MirrorClosed { request, sent_bytes: 0 });
        let Some(active) = self.nodes[node].client.active.remove(&request) else { return };
        if active.tries + 1 < MAX_TRIES {
            self.request(node, active.digest, active.tries + 1);
        } else {
            let text = format!("{:?}: node {node} gave up {} after {MAX_TRIES} short bodies", self.now, active.digest);
            self.violations.push(text);
        }
    }

    /// Bodies end when everything of them is released.
    pub(super) fn bodies_progress(&mut self, node: NodeIndex) {
        let state = &mut self.nodes[node];
        let finished: Vec<_> = state
            .client
            .active
            .iter()
            .filter(|(_, active)| {
                active.size.is_some_and(|size| {
                    state.disk.complete.contains_key(&active.digest)
                        || state.released.get(&active.digest).is_some_and(|released| *released >= size)
                })
            })
            .map(|(request, active)| (*request, active.digest, active.size.unwrap_or(0)))
            .collect();
        for (request, digest, size) in finished {
            self.nodes[node].client.active.remove(&request);
            self.later(node, Duration::ZERO, Input::MirrorClosed { request, sent_bytes: size });
            self.got(node, digest);
        }
    }

    fn got(&mut self, node: NodeIndex, digest: Digest) {
        let now = self.now;
        let client = &mut self.nodes[node].client;
        let Some(image) = &client.image else { return };
        if !client.in_children && digest == image.manifest {
            client.in_children = true;
            client.queue = image.children.iter().cloned().collect();
        }
        let mut next = Vec::new();
        while client.active.len() + client.direct + next.len() < CONCURRENT_DOWNLOADS {
            let Some(child) = client.queue.pop_front() else { break };
            next.push(child.digest);
        }
        if next.is_empty() && client.active.is_empty() && client.direct == 0 && client.finished.is_none() {
            client.finished = Some(now);
        }
        for digest in next {
            self.request(node, digest, 0);
        }
    }
}

pub(super) fn source(kind: Kind) -> Source {
    Source { registry: "origin.example".into(), repository: "app".into(), kind }
}

//! `gantry`: chairs and store-and-forward (Azure's Gantry, its third generation).
//!
//! Up to 64 nodes hold a chair. The eight chairs that rank highest for a digest pull it from the registry, whole; when a
//! node is asked for a digest that nobody provides, it asks those eight to pull, and looks every second whether somebody
//! provides it. Once a chair has committed all of it and said so, others get it from there, again whole; a node serves ten
//! bodies at a time and answers 429 to the rest, which try the next of up to twenty providers and, when all are busy, begin
//! again after a second. Finishers provide, too. After a manifest, all that it names is asked of its chairs at once.
//!
//! Simplified: chairs are all held and known at the start (no claiming, no epochs); a dead holder's chair is held by somebody
//! else after the lease has run out. Left out: the tag, the guarded fallback with its bucket and jitter (a node that finds no
//! way answers 503, and containerd goes to the registry, as in a fail-open installation), suppression of providers, the
//! processor, which was the only saturated resource in the published benchmark. All of that favours it. See also
//! [`super::index`] and [`super::engine`].

mod chairs;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longshore_core::time::Time;

use self::chairs::{Answer, Chairs};
use super::engine::{BlobId, Broken, Cluster, Policy, Purpose, Ticket, Transfer};
use super::index::Index;
use crate::world::{Fault, NodeIndex};

/// `transfer_max_concurrent_serves`.
const SERVES: u32 = 10;
/// Providers are looked for this often: of manifests, of everything else.
const POLL: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));
/// The chairs are asked again after this long: for manifests, for everything else (the expected size is never passed on).
const STALL_WINDOW: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(30));
/// Between two rounds over busy providers: Retry-After, and up to a quarter more.
const BUSY_DELAY: Duration = Duration::from_secs(1);
/// A connection to a machine that is gone, and a call to a chair that is.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// The registry's HEAD, for the sake of early headers.
const HEAD_TIMEOUT: Duration = Duration::from_secs(3);
/// The local store is looked at this often after a response, before what came is provided.
const COMMIT_POLL: Duration = Duration::from_millis(150);
/// What came past the mirror is provided by the next reconciliation.
const RECONCILE: Duration = Duration::from_secs(60);
/// The manifest is read from the store for the first time after this.
const PREFETCH_DELAY: Duration = Duration::from_millis(100);
/// Rounds (about a second each) in which all providers are gone, before the mirror gives up: `peer_rediscover_budget`.
const MOST_BAD_ROUNDS: u32 = 300;
/// `chair_lease_duration`.
const LEASE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) enum Event {
    /// The first look-up, for the sake of early headers, is done.
    Early(Ticket),
    Headers(Ticket, bool),
    Found(Ticket),
    /// The chairs have got the call.
    Asked(Ticket),
    Poll(Ticket),
    Fetch(Ticket),
    /// A provider has got a request.
    Requested(Ticket, NodeIndex),
    Prefetch(NodeIndex, usize),
    Provide(NodeIndex, BlobId),
    Provided(NodeIndex, BlobId),
    Expired(NodeIndex),
    LeaseOver(NodeIndex),
}

#[derive(Debug)]
struct Search {
    ticket: Ticket,
    providers: Vec<NodeIndex>,
    any_busy: bool,
    bad_rounds: u32,
    asked_chairs: bool,
    cohort: usize,
    recheck_at: Time,
}

/// Index, chairs, and who looks for what.
#[derive(Debug, Default)]
pub(super) struct Gantry {
    index: Index,
    chairs: Chairs,
    searches: BTreeMap<(NodeIndex, BlobId), Search>,
}

impl Gantry {
    fn search(&mut self, ticket: Ticket) -> Option<&mut Search> {
        self.searches.get_mut(&(ticket.node, ticket.blob)).filter(|search| search.ticket == ticket)
    }

    fn look_up(&self, cluster: &mut Cluster<Event>, ticket: Ticket, then: fn(Ticket) -> Event) {
        let length = self.index.look_up(cluster, ticket.node);
        cluster.later(length, then(ticket));
    }

    /// Early headers: from the first provider's HEAD, else from the registry's.
    fn early(&mut self, cluster: &mut Cluster<Event>, ticket: Ticket) {
        let (after, known) = match self.index.sample(cluster, ticket.node, ticket.blob).first() {
            Some(provider) => {
                cluster.messages += 1;
                (cluster.round_trip(ticket.node, *provider), true)
            }
            None if cluster.registry.fault == Some(Fault::Silent) => (HEAD_TIMEOUT, false),
            None => {
                let has_credential = cluster.machines[ticket.node].client.has_credential;
                (cluster.registry_way(ticket.node) * 2, !cluster.registry_refuses(has_credential))
            }
        };
        cluster.later(after, Event::Headers(ticket, known));
    }

    fn found(&mut self, cluster: &mut Cluster<Event>, ticket: Ticket) {
        if cluster.has(ticket.node, ticket.blob) {
            return cluster.deliver(ticket);
        }
        let providers = self.index.sample(cluster, ticket.node, ticket.blob);
        let is_empty = providers.is_empty();
        let Some(search) = self.search(ticket) else { return };
        search.providers = providers;
        search.any_busy = false;
        if !is_empty {
            self.fetch(cluster, ticket);
        } else if search.asked_chairs {
            self.next_round(cluster, ticket);
        } else {
            self.ask_chairs(cluster, ticket);
        }
    }

    /// Calls the chairs of the present cohort; the slowest one counts.
    fn ask_chairs(&mut self, cluster: &mut Cluster<Event>, ticket: Ticket) {
        let Some(search) = self.search(ticket) else { return };
        search.asked_chairs = true;
        let cohort = search.cohort;
        let holders = self.chairs.seeds(cluster, ticket.blob, cohort);
        if holders.is_empty() {
            return cluster.refuse(ticket);
        }
        cluster.messages += holders.len() as u64;
        let call = |holder: &NodeIndex| {
            let up = cluster.machines[*holder].up;
            if up { cluster.round_trip(ticket.node, *holder) } else { DIAL_TIMEOUT }
        };
        let slowest = holders.iter().map(call).max().unwrap_or_default();
        cluster.later(slowest, Event::Asked(ticket));
    }

    fn asked(&mut self, cluster: &mut Cluster<Event>, ticket: Ticket) {
        let Some(cohort) = self.search(ticket).map(|search| search.cohort) else { return };
        let has_credential = cluster.machines[ticket.node].client.has_credential;
        let (mut accepted, mut failed) = (false, false);
        for holder in self.chairs.seeds(cluster, ticket.blob, cohort) {
            match self.chairs.please_pull(cluster, holder, ticket.blob, has_credential) {
                Answer::Accepted => accepted = true,
                Answer::Failed => failed = true,
                Answer::Declined => {}
            }
        }
        let is_manifest = cluster.blobs[ticket.blob].is_manifest;
        let window = if is_manifest { STALL_WINDOW.0 } else { STALL_WINDOW.1 };
        let recheck_at = cluster.now + window;
        let Some(search) = self.search(ticket) else { return };
        if accepted {
            search.recheck_at = recheck_at;
            self.look_up(cluster, ticket, Event::Poll);
        } else if failed {
            cluster.refuse(ticket);
        } else {
            search.cohort += 1;
            self.ask_chairs(cluster, ticket);
        }
    }

    fn poll(&mut self, cluster: &mut Cluster<Event>, ticket: Ticket) {
        if cluster.has(ticket.node, ticket.blob) {
            return cluster.deliver(ticket);
        }
        let providers = self.index.sample(cluster, ticket.node, ticket.blob);
        let now = cluster.now;
        let Some(search) = self.search(ticket) else { return };
        if let Some(first) = providers.first().copied() {
            // A provider counts when it has answered a HEAD.
            search.providers = providers;
            search.any_busy = false;
            cluster.messages += 1;
            let answer = cluster.round_trip(ticket.node, first);
            return cluster.later(answer, Event::Fetch(ticket));
        }
        if now >= search.recheck_at {
            return self.ask_chairs(cluster, ticket);
        }
        let is_manifest = cluster.blobs[ticket.blob].is_manifest;
        let interval = if is_manifest { POLL.0 } else { POLL.1 };
        let walk = self.index.look_up(cluster, ticket.node);
        cluster.later(interval.max(walk), Event::Poll(ticket));
    }

    /// Asks the next provider.
    fn fetch(&mut self, cluster: &mut Cluster<Event>, ticket: Ticket) {
        let Some(search) = self.search(ticket) else { return };
        let Some(provider) = search.providers.pop() else { return self.next_round(cluster, ticket) };
        cluster.messages += 1;
        if cluster.machines[provider].up {
            let way = cluster.way(ticket.node, provider);
            cluster.later(way, Event::Requested(ticket, provider));
        } else {
            cluster.later(DIAL_TIMEOUT, Event::Fetch(ticket));
        }
    }

    fn requested(&mut self, cluster: &mut Cluster<Event>, ticket: Ticket, provider: NodeIndex) {
        let is_manifest = cluster.blobs[ticket.blob].is_manifest;
        let has = cluster.has(provider, ticket.blob);
        let busy = cluster.machines[provider].serving >= SERVES && !is_manifest;
        if has && !busy {
            cluster.headers(ticket);
            let offset = cluster.partial(ticket.node, ticket.blob);
            return cluster.stream_now(provider, ticket.node, ticket.blob, offset, Purpose::Stream(ticket));
        }
        if let Some(search) = self.search(ticket) {
            search.any_busy |= has && busy;
        }
        let back = cluster.way(provider, ticket.node);
        cluster.later(back, Event::Fetch(ticket));
    }

    /// All providers were busy, or gone.
    fn next_round(&mut self, cluster: &mut Cluster<Event>, ticket: Ticket) {
        let Some(search) = self.search(ticket) else { return };
        if !search.any_busy {
            if !search.asked_chairs {
                return self.ask_chairs(cluster, ticket);
            }
            search.bad_rounds += 1;
            if search.bad_rounds > MOST_BAD_ROUNDS {
                return cluster.refuse(ticket);
            }
        }
        let delay = BUSY_DELAY + cluster.chance.up_to(BUSY_DELAY / 4);
        let walk = self.index.look_up(cluster, ticket.node);
        cluster.later(delay + walk, Event::Found(ticket));
    }

    /// Asks the chairs of everything that a manifest names.
    fn prefetch(&mut self, cluster: &mut Cluster<Event>, node: NodeIndex, image: usize) {
        if !cluster.machines[node].up {
            return;
        }
        let has_credential = cluster.machines[node].client.has_credential;
        let mut called = BTreeSet::new();
        for child in cluster.images[image].children.clone() {
            if cluster.has(node, child) {
                continue;
            }
            for holder in self.chairs.seeds(cluster, child, 0) {
                called.insert(holder);
                self.chairs.please_pull(cluster, holder, child, has_credential);
            }
        }
        cluster.messages += called.len() as u64;
    }
}

impl Policy for Gantry {
    type Event = Event;

    /// A ping after ten seconds without a byte, and fifteen more for its answer (Go's default).
    const PATIENCE: Duration = Duration::from_secs(25);

    fn want(&mut self, cluster: &mut Cluster<Event>, ticket: Ticket) {
        let search = Search {
            ticket,
            providers: Vec::new(),
            any_busy: false,
            bad_rounds: 0,
            asked_chairs: false,
            cohort: 0,
            recheck_at: Time::ZERO,
        };
        self.searches.insert((ticket.node, ticket.blob), search);
        self.look_up(cluster, ticket, Event::Early);
    }

    fn happen(&mut self, cluster: &mut Cluster<Event>, event: Event) {
        match event {
            Event::Early(ticket)
            | Event::Headers(ticket, _)
            | Event::Found(ticket)
            | Event::Asked(ticket)
            | Event::Poll(ticket)
            | Event::Fetch(ticket)
            | Event::Requested(ticket, _)
                if !cluster.is_current(ticket) => {}
            Event::Early(ticket) => self.early(cluster, ticket),
            Event::Headers(ticket, known) => {
                if known {
                    cluster.headers(ticket);
                }
                self.look_up(cluster, ticket, Event::Found);
            }
            Event::Found(ticket) => self.found(cluster, ticket),
            Event::Asked(ticket) => self.asked(cluster, ticket),
            Event::Poll(ticket) => self.poll(cluster, ticket),
            Event::Fetch(ticket) => self.fetch(cluster, ticket),
            Event::Requested(ticket, provider) => self.requested(cluster, ticket, provider),
            Event::Prefetch(node, image) => self.prefetch(cluster, node, image),
            Event::Provide(node, blob) => {
                let after = self.index.provide(cluster, node);
                cluster.later(after, Event::Provided(node, blob));
            }
            Event::Provided(node, blob) => {
                if cluster.has(node, blob) {
                    self.index.add(node, blob);
                }
            }
            Event::Expired(node) => {
                if !cluster.machines[node].up {
                    self.index.forget(node);
                }
            }
            Event::LeaseOver(node) => self.chairs.lease_over(cluster, node),
        }
    }

    fn arrived(&mut self, cluster: &mut Cluster<Event>, transfer: Transfer) {
        match transfer.purpose {
            Purpose::Stream(ticket) => cluster.deliver(ticket),
            Purpose::Store => {
                self.chairs.pulled(cluster, transfer.to, transfer.blob);
                cluster.store(transfer.to, transfer.blob);
            }
            Purpose::Direct(_) => {}
        }
    }

    fn broke(&mut self, cluster: &mut Cluster<Event>, transfer: Transfer, _why: Broken) {
        match transfer.purpose {
            // On from the byte that was reached, with another provider.
            Purpose::Stream(ticket) => self.look_up(cluster, ticket, Event::Found),
            Purpose::Store => self.chairs.pull_failed(cluster, transfer.to, transfer.blob),
            Purpose::Direct(_) => {}
        }
    }

    fn stored(&mut self, cluster: &mut Cluster<Event>, node: NodeIndex, blob: BlobId, from_registry: bool) {
        // A chair that has pulled what its own containerd still waits for goes on until that has it, too.
        let is_over = self.searches.get(&(node, blob)).is_some_and(|search| !cluster.is_current(search.ticket));
        let was_mirrored = is_over && !from_registry;
        if is_over {
            self.searches.remove(&(node, blob));
        }
        let image = cluster.images.iter().position(|image| image.manifest == blob);
        if let Some(image) = image.filter(|_| was_mirrored) {
            cluster.later(PREFETCH_DELAY, Event::Prefetch(node, image));
        }
        let until_seen = if from_registry { RECONCILE } else { COMMIT_POLL };
        let after = cluster.chance.up_to(until_seen);
        cluster.later(after, Event::Provide(node, blob));
    }

    fn died(&mut self, cluster: &mut Cluster<Event>, node: NodeIndex) {
        let staleness = cluster.scenario.cluster.index_staleness.0;
        cluster.later(staleness, Event::Expired(node));
        self.chairs.holder_died(node);
        cluster.later(LEASE, Event::LeaseOver(node));
    }

    fn returned(&mut self, cluster: &mut Cluster<Event>, node: NodeIndex) {
        let held: Vec<_> = cluster.machines[node].client.content.keys().copied().collect();
        for blob in held {
            cluster.later(Duration::ZERO, Event::Provide(node, blob));
        }
    }
}

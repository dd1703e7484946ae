//! `whole-layer`: Spegel's way. Who misses a blob looks for a node that has it, complete, and gets all of it from there;
//! when there is none, containerd goes to the registry.
//!
//! After Spegel 0.7: a look-up has 20 ms; up to three peers are tried, the next one after 50 ms without an answer; a peer that
//! dies in the middle is replaced by another one, from the byte that was reached; a layer is announced as soon as containerd
//! has it. Nobody bounds what a node serves at a time.
//!
//! Simplified: look-ups are not remembered for five seconds (a blob is looked up once); of several peers one is taken at
//! random, not the least used one (at a synchronised start both are the same); layers stay in containerd's store, which needs
//! `discard_unpacked_layers = false`; pulls are by digest. In its favour: see [`super::index`] and [`super::engine`].

use std::collections::BTreeMap;
use std::time::Duration;

use super::engine::{BlobId, Broken, Cluster, Policy, Purpose, Ticket, Transfer};
use super::index::Index;
use crate::world::NodeIndex;

/// `--mirror-resolve-timeout`: a look-up that takes longer has found nothing.
const RESOLVE_TIMEOUT: Duration = Duration::from_millis(20);
/// `--mirror-resolve-retries`: peers that are tried.
const TRIES: usize = 3;
/// The next peer is tried after this long without an answer, when there is no history.
const HEDGE: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) enum Event {
    LookedUp(Ticket),
    LookUpLate(Ticket),
    Next(Ticket),
    Provided(NodeIndex, BlobId),
    Expired(NodeIndex),
}

#[derive(Debug)]
struct Search {
    ticket: Ticket,
    peers: Vec<NodeIndex>,
}

/// Who has what, and who looks for what.
#[derive(Debug, Default)]
pub(super) struct WholeLayer {
    index: Index,
    searches: BTreeMap<(NodeIndex, BlobId), Search>,
}

impl WholeLayer {
    fn next_peer(&mut self, cluster: &mut Cluster<Event>, ticket: Ticket) {
        let search = self.searches.get_mut(&(ticket.node, ticket.blob)).filter(|search| search.ticket == ticket);
        let Some(peer) = search.and_then(|search| search.peers.pop()) else {
            return cluster.refuse(ticket);
        };
        if !cluster.machines[peer].up {
            cluster.messages += 1;
            return cluster.later(HEDGE, Event::Next(ticket));
        }
        if !cluster.has(peer, ticket.blob) {
            cluster.messages += 1;
            let answer = cluster.round_trip(ticket.node, peer);
            return cluster.later(answer, Event::Next(ticket));
        }
        cluster.headers(ticket);
        let offset = cluster.partial(ticket.node, ticket.blob);
        cluster.stream(peer, ticket.node, ticket.blob, offset, Purpose::Stream(ticket));
    }

    fn provide(&self, cluster: &mut Cluster<Event>, node: NodeIndex, blob: BlobId) {
        let after = self.index.provide(cluster, node);
        cluster.later(after, Event::Provided(node, blob));
    }
}

impl Policy for WholeLayer {
    type Event = Event;

    /// Bodies have no time-out; the kernel's keep-alive as Go sets it (15 s, nine probes) notices that a machine is gone.
    const PATIENCE: Duration = Duration::from_secs(150);

    fn want(&mut self, cluster: &mut Cluster<Event>, ticket: Ticket) {
        let length = self.index.look_up(cluster, ticket.node);
        if length > RESOLVE_TIMEOUT {
            cluster.later(RESOLVE_TIMEOUT, Event::LookUpLate(ticket));
        } else {
            cluster.later(length, Event::LookedUp(ticket));
        }
    }

    fn happen(&mut self, cluster: &mut Cluster<Event>, event: Event) {
        match event {
            Event::LookedUp(ticket) if cluster.is_current(ticket) => {
                let mut peers = self.index.sample(cluster, ticket.node, ticket.blob);
                peers.truncate(TRIES);
                self.searches.insert((ticket.node, ticket.blob), Search { ticket, peers });
                self.next_peer(cluster, ticket);
            }
            Event::Next(ticket) if cluster.is_current(ticket) => self.next_peer(cluster, ticket),
            Event::LookUpLate(ticket) => cluster.refuse(ticket),
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
            Event::LookedUp(_) | Event::Next(_) => {}
        }
    }

    fn broke(&mut self, cluster: &mut Cluster<Event>, transfer: Transfer, _why: Broken) {
        if let Purpose::Stream(ticket) = transfer.purpose {
            self.next_peer(cluster, ticket);
        }
    }

    fn stored(&mut self, cluster: &mut Cluster<Event>, node: NodeIndex, blob: BlobId, _from_registry: bool) {
        self.searches.remove(&(node, blob));
        self.provide(cluster, node, blob);
    }

    fn died(&mut self, cluster: &mut Cluster<Event>, node: NodeIndex) {
        let staleness = cluster.scenario.cluster.index_staleness.0;
        cluster.later(staleness, Event::Expired(node));
    }

    fn returned(&mut self, cluster: &mut Cluster<Event>, node: NodeIndex) {
        let held: Vec<_> = cluster.machines[node].client.content.keys().copied().collect();
        for blob in held {
            self.provide(cluster, node, blob);
        }
    }
}

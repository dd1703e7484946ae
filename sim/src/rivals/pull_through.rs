//! `pull-through`: one cache (a registry in proxy mode, Harbor, zot) with one network card, as fast as a node's.
//!
//! Simplified, all in its favour: the cache asks the registry once for each blob however many ask at the same time (Harbor
//! does not), streams while it fetches, has credentials for everything, never fails, and has a disk of any speed. It stands
//! in the first zone. A node whose request the cache cannot fulfil goes to the registry itself.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;

use super::engine::{BlobId, Broken, Cluster, Policy, Purpose, Ticket, Transfer};
use crate::world::NodeIndex;

/// What the cache has and does.
#[derive(Debug, Default)]
pub(super) struct PullThrough {
    cache: Option<NodeIndex>,
    held: BTreeSet<BlobId>,
    fetching: BTreeMap<BlobId, Vec<Ticket>>,
}

impl Policy for PullThrough {
    type Event = Infallible;

    /// As [`super::direct`]: nobody but containerd is impatient.
    const PATIENCE: Duration = Duration::from_secs(300);

    fn want(&mut self, cluster: &mut Cluster<Infallible>, ticket: Ticket) {
        let cache = *self.cache.get_or_insert_with(|| cluster.add_machine(0));
        if !self.held.contains(&ticket.blob) && !self.fetching.contains_key(&ticket.blob) {
            self.fetching.insert(ticket.blob, Vec::new());
            cluster.fetch(cache, ticket.blob, 0, true, Purpose::Store);
        }
        let offset = cluster.partial(ticket.node, ticket.blob);
        cluster.headers(ticket);
        cluster.stream(cache, ticket.node, ticket.blob, offset, Purpose::Stream(ticket));
    }

    fn happen(&mut self, _cluster: &mut Cluster<Infallible>, event: Infallible) {
        match event {}
    }

    fn arrived(&mut self, cluster: &mut Cluster<Infallible>, transfer: Transfer) {
        match transfer.purpose {
            Purpose::Stream(ticket) => match self.fetching.get_mut(&ticket.blob) {
                // The flow was faster than what it passes on: its last byte comes with the cache's.
                Some(waiting) => waiting.push(ticket),
                None if self.held.contains(&ticket.blob) => cluster.deliver(ticket),
                None => cluster.refuse(ticket),
            },
            Purpose::Store => {
                self.held.insert(transfer.blob);
                for ticket in self.fetching.remove(&transfer.blob).unwrap_or_default() {
                    cluster.deliver(ticket);
                }
            }
            Purpose::Direct(_) => {}
        }
    }

    fn broke(&mut self, cluster: &mut Cluster<Infallible>, transfer: Transfer, _why: Broken) {
        match transfer.purpose {
            Purpose::Stream(ticket) => cluster.refuse(ticket),
            Purpose::Store => {
                for ticket in self.fetching.remove(&transfer.blob).unwrap_or_default() {
                    cluster.refuse(ticket);
                }
            }
            Purpose::Direct(_) => {}
        }
    }
}

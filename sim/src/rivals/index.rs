//! The provider index that `whole-layer` and `gantry` use: a distributed hash table of who has what.
//!
//! Records are hints: they say nothing about whether a node lives or has a free slot. Looking up and providing take as many
//! rounds as a Kademlia table with buckets of [`REPLICAS`] needs, each round the round trip to a random node. That tables are
//! complete, records arrive, and each query sees all of them favours the rivals, and so does that a query returns a fair
//! sample of the providers: real nodes return those that they heard of first.

use std::collections::BTreeMap;
use std::time::Duration;

use super::engine::{BlobId, Cluster};
use crate::world::NodeIndex;

/// libp2p's: records of a key are on so many nodes, a bucket has so many, and a query returns so many providers.
const REPLICAS: usize = 20;
/// Kademlia asks so many nodes at a time.
const ASKED_AT_ONCE: u64 = 3;

/// Who has what, as far as it can be found.
#[derive(Debug, Default)]
pub(super) struct Index {
    providers: BTreeMap<BlobId, Vec<NodeIndex>>,
}

fn rounds(nodes: usize) -> u32 {
    let mut rounds = 1;
    let mut reached = REPLICAS;
    while reached < nodes {
        reached = reached.saturating_mul(REPLICAS);
        rounds += 1;
    }
    rounds
}

fn walk<E>(cluster: &mut Cluster<E>, node: NodeIndex) -> Duration {
    let rounds = rounds(cluster.nodes());
    cluster.messages += ASKED_AT_ONCE * u64::from(rounds);
    let mut length = Duration::ZERO;
    for _ in 0..rounds {
        let other = cluster.chance.below(cluster.nodes() as u64) as NodeIndex;
        length += cluster.round_trip(node, other);
    }
    length
}

impl Index {
    /// Begins a look-up; how long it takes.
    pub(super) fn look_up<E>(&self, cluster: &mut Cluster<E>, node: NodeIndex) -> Duration {
        walk(cluster, node)
    }

    /// Up to twenty others that are said to have a blob, in random order.
    pub(super) fn sample<E>(&mut self, cluster: &mut Cluster<E>, node: NodeIndex, blob: BlobId) -> Vec<NodeIndex> {
        let Some(providers) = self.providers.get_mut(&blob) else { return Vec::new() };
        if cluster.chance.happens(cluster.index_false_empty) {
            return Vec::new();
        }
        let count = REPLICAS.min(providers.len());
        for place in 0..count {
            let other = place + cluster.chance.below((providers.len() - place) as u64) as usize;
            providers.swap(place, other);
        }
        providers[..count].iter().copied().filter(|provider| *provider != node).collect()
    }

    /// Begins to provide a blob; after how long it can be found.
    pub(super) fn provide<E>(&self, cluster: &mut Cluster<E>, node: NodeIndex) -> Duration {
        let length = walk(cluster, node);
        cluster.messages += REPLICAS.min(cluster.nodes().saturating_sub(1)) as u64;
        length + cluster.scenario.cluster.latency.0 + cluster.scenario.cluster.index_delay.0
    }

    /// A record has arrived.
    pub(super) fn add(&mut self, node: NodeIndex, blob: BlobId) {
        let providers = self.providers.entry(blob).or_default();
        if !providers.contains(&node) {
            providers.push(node);
        }
    }

    /// All records of a node have expired.
    pub(super) fn forget(&mut self, node: NodeIndex) {
        for providers in self.providers.values_mut() {
            providers.retain(|provider| *provider != node);
        }
    }
}

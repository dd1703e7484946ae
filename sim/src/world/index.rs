//! The provider index: late, forgetful, in no order, and at times plainly wrong.

use std::time::Duration;

use longshore_core::digest::Digest;
use longshore_core::input::Input;
use longshore_core::message::Neighbour;
use longshore_core::names::OpId;

use super::{NodeIndex, World};

/// Most providers that the index names (Gantry's limit).
const MAX_PROVIDERS: usize = 20;
/// Most providers in an answer that never had it.
const MAX_WRONG: u64 = 5;
/// A query takes so many messages one after the other (Kademlia, some hops).
const HOPS: u32 = 6;

/// What is wrong with the index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexFaults {
    /// Queries that find nothing although there is something, in a million.
    pub false_empty: u32,
    /// Queries that also find nodes which never had it, in a million.
    pub wrong: u32,
    /// Added to each query.
    pub delay: Duration,
}

impl World {
    pub(super) fn find_providers(&mut self, node: NodeIndex, op: OpId, digest: Digest) {
        let IndexFaults { false_empty, wrong, delay } = self.index_faults;
        let mut holders: Vec<_> =
            self.index.get(&digest).into_iter().flatten().copied().filter(|holder| *holder != node).collect();
        if self.chance.happens(false_empty) {
            holders.clear();
        }
        if self.chance.happens(wrong) {
            for _ in 0..=self.chance.below(MAX_WRONG) {
                let other = self.chance.below(self.nodes.len() as u64) as usize;
                if other != node && !holders.contains(&other) {
                    holders.push(other);
                }
            }
        }
        // In no order, and not always the same ones.
        let mut peers = Vec::new();
        while peers.len() < MAX_PROVIDERS && !holders.is_empty() {
            let holder = holders.swap_remove(self.chance.below(holders.len() as u64) as usize);
            peers.push(Neighbour { peer: self.peer(holder), addresses: Vec::new(), zone: None });
        }
        let after = self.options.latency * HOPS + delay;
        self.later(node, after, Input::Providers { op, peers });
    }
}

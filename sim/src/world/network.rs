//! The network between nodes: latency, loss, cuts, and what zones share.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::links::Links;
use super::{NodeIndex, World};
use crate::flows::LinkId;
use crate::replay::causes::Thread;

/// Who cannot talk to whom. Nothing says so to either end: what is sent is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nodes on different sides do not reach each other; who is not named is on side 0.
    Sides(BTreeMap<NodeIndex, u32>),
    /// What the first send does not reach the second (one way).
    OneWay(BTreeSet<NodeIndex>, BTreeSet<NodeIndex>),
    /// Two halves that only a bridge connects: the bridge talks to both.
    Bridge {
        /// One half; everybody else is the other.
        left: BTreeSet<NodeIndex>,
        /// Who talks to both.
        bridge: NodeIndex,
    },
    /// Each node reaches only those this near to it on a ring.
    Ring(usize),
    /// These nodes are half open: connections seem to be there, nothing passes.
    Silent(BTreeSet<NodeIndex>),
}

impl Cut {
    fn passes(&self, from: NodeIndex, to: NodeIndex, nodes: usize) -> bool {
        match self {
            Self::Sides(sides) => {
                let side = |node: &NodeIndex| sides.get(node).copied().unwrap_or(0);
                side(&from) == side(&to)
            }
            Self::OneWay(senders, receivers) => !(senders.contains(&from) && receivers.contains(&to)),
            Self::Bridge { left, bridge } => {
                from == *bridge || to == *bridge || left.contains(&from) == left.contains(&to)
            }
            Self::Ring(reach) => {
                let apart = from.abs_diff(to);
                apart.min(nodes - apart) <= *reach
            }
            Self::Silent(silent) => !silent.contains(&from) && !silent.contains(&to),
        }
    }
}

/// The network's present state.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Messages that are lost, in a million.
    pub loss: u32,
    /// Notices that come twice, in a million.
    pub duplication: u32,
    /// Added at random to each message: this is what makes messages overtake each other.
    pub jitter: Duration,
    /// Added to every message.
    pub delay: Duration,
    /// So many messages in a million take up to so much longer, each order of magnitude as likely as the others: a heavy tail.
    pub spikes: (u32, Duration),
    /// Messages of one kind (an index of [`MESSAGE_KINDS`](super::MESSAGE_KINDS)) that are lost, in a million.
    pub loss_of: Option<(usize, u32)>,
    /// Messages that cannot be read when they arrive, in a million.
    pub garbling: u32,
    /// What is wrong with single links.
    pub links: Links,
    cuts: BTreeMap<u32, Cut>,
}

impl Network {
    /// Cuts the network; of the same number there is one cut at a time.
    pub fn cut(&mut self, number: u32, cut: Cut) {
        self.cuts.insert(number, cut);
    }

    /// Takes back a cut.
    pub fn mend(&mut self, number: u32) {
        self.cuts.remove(&number);
    }

    /// Whether something from `from` can arrive at `to`.
    #[must_use]
    pub fn passes(&self, from: NodeIndex, to: NodeIndex, nodes: usize) -> bool {
        self.cuts.values().all(|cut| cut.passes(from, to, nodes))
    }

    /// The number of the first cut between two nodes.
    fn cut_between(&self, from: NodeIndex, to: NodeIndex, nodes: usize) -> Option<u32> {
        self.cuts.iter().find(|(_, cut)| !cut.passes(from, to, nodes)).map(|(number, _)| *number)
    }
}

impl World {
    /// The zone of a node.
    #[must_use]
    pub fn zone(&self, node: NodeIndex) -> usize {
        node % self.options.zones.max(1)
    }

    /// The rack of a node within its zone.
    #[must_use]
    pub fn rack(&self, node: NodeIndex) -> usize {
        node / self.options.zones.max(1) % self.options.racks.max(1)
    }

    /// How long a message takes. Between two nodes it is always the same, so that messages keep their order, unless there
    /// is jitter.
    pub(super) fn one_way(&mut self, from: NodeIndex, to: NodeIndex) -> Duration {
        let base = self.options.latency.as_micros() as u64;
        let mut mix = (from as u64) << 32 ^ to as u64 ^ self.options.seed.rotate_left(17);
        mix = mix.wrapping_mul(0xff51_afd7_ed55_8ccd);
        mix ^= mix >> 33;
        let mut latency = Duration::from_micros(base + mix % (base + 1)) + self.network.delay;
        latency += (self.options.noise)(to) + self.network.links.delay(from, to);
        if self.zone(from) != self.zone(to) {
            latency += self.options.cross_zone_latency;
        } else if self.rack(from) != self.rack(to) {
            latency += self.options.cross_rack_latency;
        }
        if !self.network.jitter.is_zero() {
            latency += self.chance.up_to(self.network.jitter);
        }
        let (share, longest) = self.network.spikes;
        if self.chance.happens(share) {
            latency += Duration::from_micros(self.chance.magnitude(1, longest.as_micros() as u64));
        }
        latency
    }

    /// How long a message to or from the origin takes.
    pub(super) fn origin_way(&self, node: NodeIndex) -> Duration {
        let base = self.options.latency.as_micros() as u64;
        let mix = (node as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        Duration::from_micros(base + mix % (base + 1)) + self.options.origin_latency
    }

    /// Whether a message of this kind of [`MESSAGE_KINDS`](super::MESSAGE_KINDS) (answers have none) is lost on its way.
    pub(super) fn is_lost(&mut self, from: NodeIndex, to: NodeIndex, kind: Option<usize>) -> bool {
        let loss = match self.network.loss_of {
            Some((lost, loss)) if kind == Some(lost) => loss.max(self.network.loss),
            _ => self.network.loss,
        };
        self.chance.happens(loss) || self.is_in_a_burst(from, to)
    }

    /// Whether a message that has arrived cannot be read.
    pub(super) fn is_garbled(&mut self) -> bool {
        let garbling = self.network.garbling;
        self.chance.happens(garbling)
    }

    /// Whether something of this kind from `from` arrives at `to` now. `waits`: who has numbered it, and how.
    pub(super) fn gets_through(
        &mut self,
        from: NodeIndex,
        to: NodeIndex,
        kind: Option<usize>,
        waits: Option<(NodeIndex, Thread)>,
    ) -> bool {
        let arrives = self.network.passes(from, to, self.nodes.len()) && !self.is_lost(from, to, kind);
        if !arrives && self.record.is_some() {
            let cut = self.network.cut_between(from, to, self.nodes.len());
            self.record(|record| record.lost((from, to), waits, cut));
        }
        arrives
    }

    /// The link between the zones of two nodes, if there is one that can be full.
    pub(super) fn way_across(&mut self, from: NodeIndex, to: NodeIndex) -> Option<LinkId> {
        let (here, there) = (self.zone(from), self.zone(to));
        let rate = self.options.cross_zone_rate.filter(|_| here != there)?;
        Some(*self.zone_links.entry((here, there)).or_insert_with(|| self.flows.add_link(rate)))
    }
}

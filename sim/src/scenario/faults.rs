//! Faults on the timeline.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Cluster;
use super::units::{Rate, Span};
use crate::chance::Chance;
use crate::world::{Cut, Fault, NodeIndex, World};

/// What can befall a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// Processes die, connections close; with `for`, they start again.
    Kill,
    /// Machines lose power: what was not synced is gone, nobody is told; with `for`, they start again.
    PowerCut,
    /// The node that leads the swarm of the first image's largest layer dies.
    KillLeader,
    /// Processes stand still (needs `for`).
    Pause,
    /// Nodes serve wrong bytes.
    Corrupt,
    /// Nodes send and receive at `rate`.
    Slow,
    /// Disks are full.
    DiskFull,
    /// Of all reads and writes, `per-million` fail.
    DiskErrors,
    /// The nodes are apart from the others; with `sides`, everybody is on one of so many.
    Partition,
    /// What the nodes send does not arrive.
    OneWay,
    /// Two halves, and one node that talks to both.
    Bridge,
    /// Each node reaches only its `reach` nearest on a ring, each way.
    Ring,
    /// Connections of the nodes stay open and carry nothing.
    HalfOpen,
    /// Of all messages and pieces, `per-million` are lost.
    Loss,
    /// Of all notices, `per-million` come twice.
    Duplicate,
    /// Each message takes up to `delay` longer: they overtake each other.
    Jitter,
    /// Each message takes `delay` longer.
    Delay,
    /// The registry answers 500 and breaks its connections.
    OriginErrors,
    /// The registry answers 404.
    OriginEmpty,
    /// The registry does not answer.
    OriginSilent,
    /// The registry answers 429, with a Retry-After of `delay`.
    OriginRateLimited,
    /// The registry knows no ranges.
    OriginNoRanges,
    /// The registry sends at `rate`.
    OriginSlow,
    /// Of all queries of the provider index, `per-million` find nothing.
    IndexEmpty,
    /// Nodes see `sides` different clusters: each class misses another part of the members.
    Views,
}

impl FaultKind {
    /// All kinds.
    pub const ALL: &[Self] = &[
        Self::Kill,
        Self::PowerCut,
        Self::KillLeader,
        Self::Pause,
        Self::Corrupt,
        Self::Slow,
        Self::DiskFull,
        Self::DiskErrors,
        Self::Partition,
        Self::OneWay,
        Self::Bridge,
        Self::Ring,
        Self::HalfOpen,
        Self::Loss,
        Self::Duplicate,
        Self::Jitter,
        Self::Delay,
        Self::OriginErrors,
        Self::OriginEmpty,
        Self::OriginSilent,
        Self::OriginRateLimited,
        Self::OriginNoRanges,
        Self::OriginSlow,
        Self::IndexEmpty,
        Self::Views,
    ];

    /// The name in files.
    #[must_use]
    pub fn name(self) -> String {
        let mut name = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    }

    /// It befalls some nodes, which have to be named.
    #[must_use]
    pub const fn needs_nodes(self) -> bool {
        matches!(
            self,
            Self::Kill
                | Self::PowerCut
                | Self::Pause
                | Self::Corrupt
                | Self::Slow
                | Self::DiskFull
                | Self::OneWay
                | Self::HalfOpen
        )
    }
}

/// A fault, when it begins, and whom it befalls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FaultSpec {
    /// When it begins.
    pub at: Span,
    /// How long it lasts; absent: to the end.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Span>,
    /// What.
    pub what: FaultKind,
    /// These nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeIndex>,
    /// So many nodes, drawn from the seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
    /// So many of a hundred nodes, drawn from the seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u32>,
    /// All nodes of this zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<usize>,
    /// With several nodes, they are hit at random times within this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Span>,
    /// For partitions and views: how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sides: Option<u32>,
    /// For rings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<usize>,
    /// A probability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_million: Option<u32>,
    /// A duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Span>,
    /// A rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

impl FaultSpec {
    /// A fault of this kind at this time, without anything else.
    #[must_use]
    pub const fn new(at: Span, what: FaultKind) -> Self {
        Self {
            at,
            lasts: None,
            what,
            nodes: Vec::new(),
            count: None,
            percent: None,
            zone: None,
            over: None,
            sides: None,
            reach: None,
            per_million: None,
            delay: None,
            rate: None,
        }
    }

    pub(super) fn check(&self, nodes: usize, zones: usize) -> Result<(), String> {
        let need = |has: bool, key: &str| if has { Ok(()) } else { Err(format!("needs '{key}'")) };
        if let Some(node) = self.nodes.iter().find(|node| **node >= nodes) {
            return Err(format!("there is no node {node}; the last one is {}", nodes - 1));
        }
        if self.zone.is_some_and(|zone| zone >= zones) {
            return Err(format!("there is no zone {}; the last one is {}", self.zone.unwrap_or(0), zones - 1));
        }
        let named = !self.nodes.is_empty() || self.count.is_some() || self.percent.is_some() || self.zone.is_some();
        if self.what.needs_nodes() {
            need(named, "nodes', 'count', 'percent' or 'zone")?;
        }
        match self.what {
            FaultKind::Pause => need(self.lasts.is_some(), "for"),
            FaultKind::Slow | FaultKind::OriginSlow => need(self.rate.is_some(), "rate"),
            FaultKind::DiskErrors | FaultKind::Loss | FaultKind::Duplicate | FaultKind::IndexEmpty => {
                need(self.per_million.is_some(), "per-million")
            }
            FaultKind::Jitter | FaultKind::Delay | FaultKind::OriginRateLimited => need(self.delay.is_some(), "delay"),
            FaultKind::Ring => need(self.reach.is_some(), "reach"),
            FaultKind::Views => need(self.sides.is_some_and(|sides| sides > 0), "sides"),
            FaultKind::Partition => need(named || self.sides.is_some_and(|sides| sides > 0), "nodes' or 'sides"),
            _ => Ok(()),
        }
    }

    /// Whom it befalls.
    pub(crate) fn victims(&self, cluster: &Cluster, chance: &mut Chance) -> Vec<NodeIndex> {
        let all = cluster.nodes;
        if !self.nodes.is_empty() {
            return self.nodes.clone();
        }
        if let Some(zone) = self.zone {
            return (0..all).filter(|node| node % cluster.zones == zone).collect();
        }
        let share = self.percent.map(|percent| all * percent as usize / 100);
        chance.some_of(all, self.count.or(share).unwrap_or(0))
    }

    /// It begins for these nodes. `number` tells it from other faults.
    pub(crate) fn begin(&self, world: &mut World, number: u32, victims: &[NodeIndex]) {
        let all = world.node_indices().len();
        let set: BTreeSet<_> = victims.iter().copied().collect();
        let per_million = self.per_million.unwrap_or(0);
        let delay = self.delay.unwrap_or_default().0;
        match self.what {
            FaultKind::Kill => victims
                .iter()
                .filter(|node| world.is_up(**node))
                .copied()
                .collect::<Vec<_>>()
                .into_iter()
                .for_each(|node| world.kill(node)),
            FaultKind::PowerCut => {
                for node in victims {
                    if world.is_up(*node) {
                        world.cut_power(*node);
                    }
                }
            }
            FaultKind::KillLeader => {
                let leads = |node: &NodeIndex| {
                    let flights = world.agent(*node).map(|agent| agent.status().flights).unwrap_or_default();
                    flights.iter().filter(|flight| flight.role == "leading").filter_map(|flight| flight.size).max()
                };
                let leader = (0..all).filter_map(|node| Some((leads(&node)?, node))).max();
                if let Some((_, node)) = leader {
                    world.kill(node);
                }
            }
            FaultKind::Pause => {
                let length = self.lasts.unwrap_or_default().0;
                victims.iter().for_each(|node| world.pause(*node, length));
            }
            FaultKind::Corrupt => victims.iter().for_each(|node| world.corrupt(*node)),
            FaultKind::Slow => {
                let rate = self.rate.unwrap_or_default().0;
                victims.iter().for_each(|node| world.set_rate(*node, rate));
            }
            FaultKind::DiskFull => victims.iter().for_each(|node| world.fill_disk(*node, true)),
            FaultKind::DiskErrors => world.options.disk_errors = per_million,
            FaultKind::Partition => {
                let sides = match self.sides {
                    Some(sides) => (0..all).map(|node| (node, node as u32 % sides)).collect(),
                    None => set.iter().map(|node| (*node, 1)).collect(),
                };
                world.network.cut(number, Cut::Sides(sides));
            }
            FaultKind::OneWay => world.network.cut(number, Cut::OneWay(set, (0..all).collect())),
            FaultKind::Bridge => {
                let left = (0..all / 2).collect();
                world.network.cut(number, Cut::Bridge { left, bridge: all / 2 });
            }
            FaultKind::Ring => world.network.cut(number, Cut::Ring(self.reach.unwrap_or(1))),
            FaultKind::HalfOpen => world.network.cut(number, Cut::Silent(set)),
            FaultKind::Loss => world.network.loss = per_million,
            FaultKind::Duplicate => world.network.duplication = per_million,
            FaultKind::Jitter => world.network.jitter = delay,
            FaultKind::Delay => world.network.delay = delay,
            FaultKind::OriginErrors => world.origin.fault = Some(Fault::Errors),
            FaultKind::OriginEmpty => world.origin.fault = Some(Fault::Empty),
            FaultKind::OriginSilent => world.origin.fault = Some(Fault::Silent),
            FaultKind::OriginRateLimited => world.origin.fault = Some(Fault::RateLimited(delay)),
            FaultKind::OriginNoRanges => world.origin.fault = Some(Fault::NoRanges),
            FaultKind::OriginSlow => world.set_origin_rate(self.rate.unwrap_or_default().0),
            FaultKind::IndexEmpty => world.options.index_false_empty = per_million,
            FaultKind::Views => {
                let classes = self.sides.unwrap_or(1).max(1) as usize;
                for node in 0..all {
                    // Each class misses another tenth of the cluster (a third of a small one), itself never.
                    let hidden = if all < 10 { 3 } else { 10.max(classes) };
                    let class = node % classes;
                    let visible: Vec<_> =
                        (0..all).filter(|other| *other == node || other % hidden != class % hidden).collect();
                    world.set_view(node, &visible);
                }
            }
        }
    }

    /// It ends for these nodes.
    pub(crate) fn end(&self, world: &mut World, number: u32, victims: &[NodeIndex]) {
        match self.what {
            FaultKind::Kill | FaultKind::PowerCut => {
                for node in victims {
                    if !world.is_up(*node) {
                        world.start(*node);
                    }
                }
            }
            FaultKind::KillLeader => {
                let dead: Vec<_> = world.node_indices().filter(|node| !world.is_up(*node)).collect();
                dead.into_iter().for_each(|node| world.start(node));
            }
            FaultKind::Pause => {}
            FaultKind::Corrupt => victims.iter().for_each(|node| world.reform(*node)),
            FaultKind::Slow => {
                let rate = world.options.node_rate;
                victims.iter().for_each(|node| world.set_rate(*node, rate));
            }
            FaultKind::DiskFull => victims.iter().for_each(|node| world.fill_disk(*node, false)),
            FaultKind::DiskErrors => world.options.disk_errors = 0,
            FaultKind::Partition | FaultKind::OneWay | FaultKind::Bridge | FaultKind::Ring | FaultKind::HalfOpen => {
                world.network.mend(number)
            }
            FaultKind::Loss => world.network.loss = 0,
            FaultKind::Duplicate => world.network.duplication = 0,
            FaultKind::Jitter => world.network.jitter = std::time::Duration::ZERO,
            FaultKind::Delay => world.network.delay = std::time::Duration::ZERO,
            FaultKind::OriginErrors
            | FaultKind::OriginEmpty
            | FaultKind::OriginSilent
            | FaultKind::OriginRateLimited
            | FaultKind::OriginNoRanges => world.origin.fault = None,
            FaultKind::OriginSlow => {
                let rate = world.options.origin_rate;
                world.set_origin_rate(rate);
            }
            FaultKind::IndexEmpty => world.options.index_false_empty = 0,
            FaultKind::Views => world.node_indices().for_each(|node| world.heal_view(node)),
        }
    }
}

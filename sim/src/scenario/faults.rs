//! Faults on the timeline.

mod befalling;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Cluster;
use super::units::{Rate, Span};
use crate::chance::Chance;
use crate::world::{Fault, MESSAGE_KINDS, NodeIndex};

/// A fault that comes and goes does so no faster than this: each turn is an event on the timeline.
const LEAST_TURN: Duration = Duration::from_millis(20);

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
    /// Nodes serve wrong bytes and vouch for them, and for midstates that are none.
    Lie,
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
    /// Clocks are `per-million` too fast.
    ClockFast,
    /// Clocks are `per-million` too slow.
    ClockSlow,
    /// Clocks leap forward by `delay`.
    ClockLeap,
    /// Clocks stand still (needs `for`).
    ClockStop,
    /// Machines are suspended: processes and clocks stand still (needs `for`).
    Suspend,
    /// Informers have no watch; when it ends, a list comes.
    InformerGap,
    /// Informers get a list that is `delay` old, and nothing more before it ends.
    InformerStale,
    /// Of all changes of membership, each informer misses `per-million`.
    InformerLoss,
    /// Of all changes of membership, `per-million` reach an informer before an earlier one, which then counts.
    InformerReorder,
    /// Links between the nodes and the `others` (everybody else) take `delay` longer, and a piece has `rate` at most.
    SlowLinks,
    /// Links of the nodes hold what they carry until it ends; with `over`, one after the other, and freed in another order.
    Clog,
    /// Links lose everything for `per-million` of the time, for `delay` on average.
    BurstLoss,
    /// Of all messages and pieces, `per-million` cannot be read when they arrive.
    Garble,
    /// All connections of the nodes break, once.
    Reset,
    /// Of all messages, `per-million` take longer, most of them a little, few of them up to `delay`.
    Spikes,
    /// The registry answers 401, with or without a credential.
    OriginUnauthorized,
    /// The registry answers 403.
    OriginForbidden,
    /// The registry cannot be connected to.
    OriginUnreachable,
    /// Bodies from the registry end after a piece.
    OriginTruncates,
    /// Bodies from the registry are not what was asked for.
    OriginCorrupt,
    /// Of all queries of the provider index, `per-million` also find nodes that never had it.
    IndexWrong,
    /// Queries of the provider index take `delay` longer.
    IndexSlow,
    /// Disks write at `rate`, and take `delay` for each write.
    SlowDisk,
    /// Of what is stored, `per-million` pieces rot, once.
    BitRot,
    /// As a power cut, and the machines come back with empty disks.
    Wipe,
    /// containerd restarts, and is down for `for`.
    RestartContainerd,
    /// Nodes say that they have everything, and refuse when they are asked.
    FalseClaims,
    /// Nodes send wrong hashes with right bytes.
    WrongSums,
    /// Nodes send wrong bytes where nobody can tell, and right ones with right midstates from the middle of a blob on.
    HalfTruth,
    /// Nodes take requests for pieces and send none.
    Mute,
    /// Nodes send pieces at `rate`.
    Trickle,
    /// Of what is committed, `per-million` pieces are not what was written.
    DiskSpoils,
}

impl FaultKind {
    /// All kinds.
    pub const ALL: &[Self] = &[
        Self::Kill,
        Self::PowerCut,
        Self::KillLeader,
        Self::Pause,
        Self::Corrupt,
        Self::Lie,
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
        Self::ClockFast,
        Self::ClockSlow,
        Self::ClockLeap,
        Self::ClockStop,
        Self::Suspend,
        Self::InformerGap,
        Self::InformerStale,
        Self::InformerLoss,
        Self::InformerReorder,
        Self::SlowLinks,
        Self::Clog,
        Self::BurstLoss,
        Self::Garble,
        Self::Reset,
        Self::Spikes,
        Self::OriginUnauthorized,
        Self::OriginForbidden,
        Self::OriginUnreachable,
        Self::OriginTruncates,
        Self::OriginCorrupt,
        Self::IndexWrong,
        Self::IndexSlow,
        Self::SlowDisk,
        Self::BitRot,
        Self::Wipe,
        Self::RestartContainerd,
        Self::FalseClaims,
        Self::WrongSums,
        Self::HalfTruth,
        Self::Mute,
        Self::Trickle,
        Self::DiskSpoils,
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

    /// What the registry does wrong: to the nodes that are named, or to all; always, or `per-million` of the time.
    #[must_use]
    pub const fn origin_fault(self, retry_after: Duration) -> Option<Fault> {
        Some(match self {
            Self::OriginErrors => Fault::Errors,
            Self::OriginEmpty => Fault::Empty,
            Self::OriginSilent => Fault::Silent,
            Self::OriginRateLimited => Fault::RateLimited(retry_after),
            Self::OriginNoRanges => Fault::NoRanges,
            Self::OriginUnauthorized => Fault::Unauthorized,
            Self::OriginForbidden => Fault::Forbidden,
            Self::OriginUnreachable => Fault::Unreachable,
            Self::OriginTruncates => Fault::Truncates,
            Self::OriginCorrupt => Fault::Corrupt,
            _ => return None,
        })
    }

    /// It is about how informers follow the membership.
    #[must_use]
    pub const fn is_of_informers(self) -> bool {
        matches!(self, Self::InformerGap | Self::InformerStale | Self::InformerLoss | Self::InformerReorder)
    }

    /// It needs a probability.
    #[must_use]
    pub const fn needs_per_million(self) -> bool {
        matches!(
            self,
            Self::DiskErrors
                | Self::Loss
                | Self::Duplicate
                | Self::IndexEmpty
                | Self::ClockFast
                | Self::ClockSlow
                | Self::InformerLoss
                | Self::InformerReorder
                | Self::BurstLoss
                | Self::Garble
                | Self::Spikes
                | Self::IndexWrong
                | Self::BitRot
                | Self::DiskSpoils
        )
    }

    /// It needs a duration.
    #[must_use]
    pub const fn needs_delay(self) -> bool {
        matches!(
            self,
            Self::Jitter
                | Self::Delay
                | Self::OriginRateLimited
                | Self::ClockLeap
                | Self::InformerStale
                | Self::BurstLoss
                | Self::Spikes
                | Self::IndexSlow
        )
    }

    /// It comes and goes, if it is told to.
    #[must_use]
    pub const fn can_flap(self) -> bool {
        !matches!(self, Self::Kill | Self::PowerCut | Self::KillLeader | Self::Wipe | Self::BitRot)
    }

    /// It makes no sense without an end.
    #[must_use]
    pub const fn needs_an_end(self) -> bool {
        matches!(self, Self::Pause | Self::ClockStop | Self::Suspend | Self::RestartContainerd)
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
                | Self::Lie
                | Self::Slow
                | Self::DiskFull
                | Self::OneWay
                | Self::HalfOpen
                | Self::ClockFast
                | Self::ClockSlow
                | Self::ClockLeap
                | Self::ClockStop
                | Self::Suspend
                | Self::InformerGap
                | Self::InformerStale
                | Self::SlowLinks
                | Self::Clog
                | Self::Reset
                | Self::SlowDisk
                | Self::BitRot
                | Self::Wipe
                | Self::RestartContainerd
                | Self::FalseClaims
                | Self::WrongSums
                | Self::HalfTruth
                | Self::Mute
                | Self::Trickle
                | Self::DiskSpoils
        )
    }

    /// It may befall some nodes only: those that are named, or all.
    #[must_use]
    pub fn can_name_nodes(self) -> bool {
        let is_of_origin = self.origin_fault(Duration::ZERO).is_some();
        self.needs_nodes() || is_of_origin || matches!(self, Self::Partition | Self::DiskErrors)
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
    /// All nodes of this rack: those of the first zone are counted first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<usize>,
    /// With several nodes, they are hit at random times within this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Span>,
    /// It comes and goes: on for half of this, off for the other half, as long as it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Span>,
    /// For slow links: the other end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<NodeIndex>,
    /// For loss: of these messages only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
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
            rack: None,
            over: None,
            every: None,
            others: Vec::new(),
            message: None,
            sides: None,
            reach: None,
            per_million: None,
            delay: None,
            rate: None,
        }
    }

    pub(super) fn check(&self, cluster: &Cluster) -> Result<(), String> {
        let (nodes, zones) = (cluster.nodes, cluster.zones);
        let need = |has: bool, key: &str| if has { Ok(()) } else { Err(format!("needs '{key}'")) };
        if let Some(node) = self.nodes.iter().chain(&self.others).find(|node| **node >= nodes) {
            return Err(format!("there is no node {node}; the last one is {}", nodes - 1));
        }
        if self.zone.is_some_and(|zone| zone >= zones) {
            return Err(format!("there is no zone {}; the last one is {}", self.zone.unwrap_or(0), zones - 1));
        }
        let racks = zones * cluster.racks;
        if self.rack.is_some_and(|rack| rack >= racks) {
            return Err(format!(
                "there is no rack {}; the last one is {}",
                self.rack.unwrap_or(0),
                racks.saturating_sub(1)
            ));
        }
        if self.what.is_of_informers() && cluster.membership_lag.is_none() {
            return Err("informers see changes only with 'cluster.membership-lag'".into());
        }
        if let Some(message) = self.message.as_deref().filter(|message| !MESSAGE_KINDS.contains(message)) {
            return Err(format!("there is no message '{message}'; expected one of {}", MESSAGE_KINDS.join(", ")));
        }
        if self.every.is_some_and(|every| every.0 < LEAST_TURN) {
            return Err(format!("'every' is too short; expected at least {} ms", LEAST_TURN.as_millis()));
        }
        need(self.every.is_none() || self.lasts.is_some(), "for' with 'every")?;
        let named = self.names_nodes();
        need(named || !self.what.needs_nodes(), "nodes', 'count', 'percent', 'zone' or 'rack")?;
        if named && !self.what.can_name_nodes() {
            return Err("befalls everybody; remove 'nodes', 'count', 'percent', 'zone' and 'rack'".into());
        }
        need(self.lasts.is_some() || !self.what.needs_an_end(), "for")?;
        need(self.per_million.is_some() || !self.what.needs_per_million(), "per-million")?;
        need(self.delay.is_some() || !self.what.needs_delay(), "delay")?;
        match self.what {
            FaultKind::Slow | FaultKind::OriginSlow | FaultKind::Trickle => need(self.rate.is_some(), "rate"),
            FaultKind::SlowLinks | FaultKind::SlowDisk => {
                need(self.rate.is_some() || self.delay.is_some(), "rate' or 'delay")
            }
            FaultKind::Ring => need(self.reach.is_some(), "reach"),
            FaultKind::Views => need(self.sides.is_some_and(|sides| sides > 0), "sides"),
            FaultKind::Partition => need(named || self.sides.is_some_and(|sides| sides > 0), "nodes' or 'sides"),
            _ => Ok(()),
        }
    }

    /// It befalls some nodes, not all.
    #[must_use]
    pub fn names_nodes(&self) -> bool {
        let drawn = self.count.is_some() || self.percent.is_some();
        !self.nodes.is_empty() || drawn || self.zone.is_some() || self.rack.is_some()
    }

    /// Whom it befalls.
    pub(crate) fn victims(&self, cluster: &Cluster, chance: &mut Chance) -> Vec<NodeIndex> {
        let all = cluster.nodes;
        if !self.nodes.is_empty() {
            return self.nodes.clone();
        }
        if let Some(rack) = self.rack {
            return (0..all).filter(|node| cluster.rack(*node) == rack).collect();
        }
        if let Some(zone) = self.zone {
            return (0..all).filter(|node| node % cluster.zones == zone).collect();
        }
        let share = self.percent.map(|percent| all * percent as usize / 100);
        chance.some_of(all, self.count.or(share).unwrap_or(0))
    }
}

//! What the world does when a fault begins, and when it ends.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{FaultKind, FaultSpec};
use crate::world::{Bursts, Cut, Lie, MESSAGE_KINDS, NodeIndex, SlowLinks, Trouble, World};

impl FaultSpec {
    /// It begins for these nodes. `number` tells it from other faults.
    pub(crate) fn begin(&self, world: &mut World, number: u32, victims: &[NodeIndex]) {
        let all = world.node_indices().len();
        let set: BTreeSet<_> = victims.iter().copied().collect();
        let per_million = self.per_million.unwrap_or(0);
        let delay = self.delay.unwrap_or_default().0;
        let lasts = self.every.map_or(self.lasts.unwrap_or_default().0, |every| every.0 / 2);
        if let Some(fault) = self.what.origin_fault(delay) {
            let share = self.per_million.unwrap_or(1_000_000);
            world.origin.troubles.insert(number, Trouble { fault, nodes: set, share });
            return;
        }
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
                    world.killed_leaders.insert(number, node);
                }
            }
            FaultKind::Pause => {
                victims.iter().for_each(|node| world.pause(*node, lasts));
            }
            FaultKind::Corrupt => victims.iter().for_each(|node| world.corrupt(*node)),
            FaultKind::Lie => victims.iter().for_each(|node| world.lie(*node)),
            FaultKind::Slow => {
                let rate = self.rate.unwrap_or_default().0;
                victims.iter().for_each(|node| world.set_rate(*node, rate));
            }
            FaultKind::DiskFull => victims.iter().for_each(|node| world.fill_disk(*node, true)),
            FaultKind::DiskErrors if self.names_nodes() => {
                victims.iter().for_each(|node| world.set_disk_errors(*node, per_million));
            }
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
            FaultKind::Loss => match &self.message {
                Some(message) => {
                    let kind = MESSAGE_KINDS.iter().position(|kind| kind == message);
                    world.network.loss_of = kind.map(|kind| (kind, per_million));
                }
                None => world.network.loss = per_million,
            },
            FaultKind::Duplicate => world.network.duplication = per_million,
            FaultKind::Jitter => world.network.jitter = delay,
            FaultKind::Delay => world.network.delay = delay,
            FaultKind::OriginSlow => world.set_origin_rate(self.rate.unwrap_or_default().0),
            FaultKind::IndexEmpty => world.index_faults.false_empty = per_million,
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
            FaultKind::ClockFast => victims.iter().for_each(|node| world.set_drift(*node, per_million as i32)),
            FaultKind::ClockSlow => victims.iter().for_each(|node| world.set_drift(*node, -(per_million as i32))),
            FaultKind::ClockLeap => victims.iter().for_each(|node| world.leap(*node, delay)),
            FaultKind::ClockStop => victims.iter().for_each(|node| world.stop_clock(*node, lasts)),
            FaultKind::Suspend => victims.iter().for_each(|node| world.suspend(*node, lasts)),
            FaultKind::InformerGap => victims.iter().for_each(|node| world.lose_watch(*node)),
            FaultKind::InformerStale => victims.iter().for_each(|node| world.show_stale_list(*node, delay)),
            FaultKind::InformerLoss => world.informers.loss = per_million,
            FaultKind::InformerReorder => world.informers.reordering = per_million,
            FaultKind::SlowLinks => {
                let (others, rate) = (self.others.iter().copied().collect(), self.rate.map(|rate| rate.0));
                world.network.links.slow.insert(number, SlowLinks { these: set, others, delay, rate });
            }
            FaultKind::Clog => world.clog(number, set),
            FaultKind::BurstLoss => world.network.links.bursts = Some(Bursts::new(per_million, delay)),
            FaultKind::Garble => world.network.garbling = per_million,
            FaultKind::Reset => victims.iter().for_each(|node| world.reset_connections(*node)),
            FaultKind::Spikes => world.network.spikes = (per_million, delay),
            FaultKind::IndexWrong => world.index_faults.wrong = per_million,
            FaultKind::IndexSlow => world.index_faults.delay = delay,
            FaultKind::SlowDisk => {
                let rate = self.rate.map_or(u64::MAX, |rate| rate.0);
                victims.iter().for_each(|node| world.set_disk(*node, Some((rate, delay))));
            }
            FaultKind::BitRot => victims.iter().for_each(|node| world.rot(*node, per_million)),
            FaultKind::DiskSpoils => victims.iter().for_each(|node| world.spoil_disk(*node, per_million)),
            FaultKind::Wipe => {
                for node in victims {
                    if world.is_up(*node) {
                        world.wipe(*node);
                    }
                }
            }
            FaultKind::RestartContainerd => victims.iter().for_each(|node| world.restart_containerd(*node, lasts)),
            FaultKind::FalseClaims => victims.iter().for_each(|node| world.set_lie(*node, Some(Lie::Claims))),
            FaultKind::WrongSums => victims.iter().for_each(|node| world.set_lie(*node, Some(Lie::Sums))),
            FaultKind::HalfTruth => victims.iter().for_each(|node| world.set_lie(*node, Some(Lie::Half))),
            FaultKind::Mute => victims.iter().for_each(|node| world.set_lie(*node, Some(Lie::Mute))),
            FaultKind::Trickle => {
                let lie = Lie::Trickle(self.rate.unwrap_or_default().0);
                victims.iter().for_each(|node| world.set_lie(*node, Some(lie)));
            }
            // These were dealt with above.
            FaultKind::OriginErrors
            | FaultKind::OriginEmpty
            | FaultKind::OriginSilent
            | FaultKind::OriginRateLimited
            | FaultKind::OriginNoRanges
            | FaultKind::OriginUnauthorized
            | FaultKind::OriginForbidden
            | FaultKind::OriginUnreachable
            | FaultKind::OriginTruncates
            | FaultKind::OriginCorrupt => {}
        }
    }

    /// It ends for these nodes.
    pub(crate) fn end(&self, world: &mut World, number: u32, victims: &[NodeIndex]) {
        match self.what {
            FaultKind::Kill | FaultKind::PowerCut | FaultKind::Wipe => {
                for node in victims {
                    if !world.is_up(*node) {
                        world.start(*node);
                    }
                }
            }
            FaultKind::KillLeader => {
                if let Some(node) = world.killed_leaders.remove(&number).filter(|node| !world.is_up(*node)) {
                    world.start(node);
                }
            }
            // These last as long as they were said to at the beginning, or are over at once.
            FaultKind::Pause
            | FaultKind::ClockLeap
            | FaultKind::ClockStop
            | FaultKind::Suspend
            | FaultKind::Reset
            | FaultKind::BitRot
            | FaultKind::RestartContainerd => {}
            FaultKind::ClockFast | FaultKind::ClockSlow => victims.iter().for_each(|node| world.set_drift(*node, 0)),
            FaultKind::InformerGap | FaultKind::InformerStale => {
                victims.iter().for_each(|node| world.heal_view(*node));
            }
            FaultKind::InformerLoss | FaultKind::InformerReorder => {
                world.informers = Default::default();
                world.node_indices().for_each(|node| world.heal_view(node));
            }
            FaultKind::SlowLinks => drop(world.network.links.slow.remove(&number)),
            FaultKind::Clog => world.unclog(number),
            FaultKind::BurstLoss => world.network.links.bursts = None,
            FaultKind::Garble => world.network.garbling = 0,
            FaultKind::Spikes => world.network.spikes = (0, Duration::ZERO),
            FaultKind::IndexWrong => world.index_faults.wrong = 0,
            FaultKind::IndexSlow => world.index_faults.delay = Duration::ZERO,
            FaultKind::SlowDisk => victims.iter().for_each(|node| world.set_disk(*node, None)),
            FaultKind::FalseClaims
            | FaultKind::WrongSums
            | FaultKind::HalfTruth
            | FaultKind::Mute
            | FaultKind::Trickle => {
                victims.iter().for_each(|node| world.set_lie(*node, None));
            }
            FaultKind::OriginErrors
            | FaultKind::OriginEmpty
            | FaultKind::OriginSilent
            | FaultKind::OriginRateLimited
            | FaultKind::OriginNoRanges
            | FaultKind::OriginUnauthorized
            | FaultKind::OriginForbidden
            | FaultKind::OriginUnreachable
            | FaultKind::OriginTruncates
            | FaultKind::OriginCorrupt => drop(world.origin.troubles.remove(&number)),
            FaultKind::Corrupt | FaultKind::Lie => victims.iter().for_each(|node| world.reform(*node)),
            FaultKind::Slow => {
                let rate = world.options.node_rate;
                victims.iter().for_each(|node| world.set_rate(*node, rate));
            }
            FaultKind::DiskFull => victims.iter().for_each(|node| world.fill_disk(*node, false)),
            FaultKind::DiskErrors if self.names_nodes() => {
                victims.iter().for_each(|node| world.set_disk_errors(*node, 0));
            }
            FaultKind::DiskErrors => world.options.disk_errors = 0,
            FaultKind::DiskSpoils => victims.iter().for_each(|node| world.spoil_disk(*node, 0)),
            FaultKind::Partition | FaultKind::OneWay | FaultKind::Bridge | FaultKind::Ring | FaultKind::HalfOpen => {
                world.network.mend(number)
            }
            FaultKind::Loss if self.message.is_some() => world.network.loss_of = None,
            FaultKind::Loss => world.network.loss = 0,
            FaultKind::Duplicate => world.network.duplication = 0,
            FaultKind::Jitter => world.network.jitter = Duration::ZERO,
            FaultKind::Delay => world.network.delay = Duration::ZERO,
            FaultKind::OriginSlow => {
                let rate = world.options.origin_rate;
                world.set_origin_rate(rate);
            }
            FaultKind::IndexEmpty => world.index_faults.false_empty = 0,
            FaultKind::Views => world.node_indices().for_each(|node| world.heal_view(node)),
        }
    }
}

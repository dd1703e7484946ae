//! Who pulls when, and whom which fault befalls when: what a scenario leaves to chance, drawn from the seed alone, so that
//! whatever runs the scenario runs the same one.

use std::time::Duration;

use super::{Arrivals, FaultKind, FaultSpec, Scenario};
use crate::chance::Chance;
use crate::world::NodeIndex;

/// A pull that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) node: NodeIndex,
    pub(crate) at: Duration,
    /// The node has a credential for the registry.
    pub(crate) has_credential: bool,
}

/// Faults that come one by one are numbered in steps of this: room for all nodes.
const GROUPS: u32 = 100_000;
/// Turns of a fault that comes and goes; more are a mistake in the file.
const MAX_TURNS: usize = 1000;

/// Which fault of the scenario, and its number in the world: of those that come one by one, each has its own.
pub(crate) type FaultName = (usize, u32);

/// A change of what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// This fault begins for these nodes.
    Begin(FaultName, Vec<NodeIndex>),
    /// It ends for these.
    End(FaultName, Vec<NodeIndex>),
    /// Everything is well from now on.
    Heal,
}

/// All that `seed` decides about a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// The pulls of each image.
    pub(crate) arrivals: Vec<Vec<Arrival>>,
    /// The faults in order of time.
    pub(crate) timeline: Vec<(Duration, Step)>,
}

impl Schedule {
    pub(crate) fn draw(scenario: &Scenario, seed: u64) -> Self {
        let mut chance = Chance::new(seed ^ 0x5ce0_a410);
        let arrivals = arrivals(scenario, &mut chance);
        let mut timeline = timeline(scenario, &mut chance);
        timeline.sort_by_key(|(at, _)| *at);
        Self { arrivals, timeline }
    }
}

fn arrivals(scenario: &Scenario, chance: &mut Chance) -> Vec<Vec<Arrival>> {
    let all = scenario.cluster.nodes;
    let mut images = Vec::new();
    for spec in &scenario.images {
        let mut order = chance.some_of(all, spec.nodes.unwrap_or(all));
        for position in (1..order.len()).rev() {
            order.swap(position, chance.below(position as u64 + 1) as usize);
        }
        let (count, over) = (order.len() as u32, spec.over.0);
        let mut poisson = Duration::ZERO;
        let mut pulls = Vec::new();
        for (position, node) in order.into_iter().enumerate() {
            let after = match spec.arrivals {
                Arrivals::AtOnce => Duration::ZERO,
                Arrivals::Rolling => over * position as u32 / count.max(1),
                Arrivals::Poisson => {
                    // Uniform gaps of twice the mean: random enough, and without a logarithm that differs by machine.
                    poisson += chance.up_to(over * 2 / count.max(1));
                    poisson
                }
            };
            let has_credential = chance.happens(scenario.origin.credentials_per_million);
            pulls.push(Arrival { node, at: spec.at.0 + after, has_credential });
        }
        images.push(pulls);
    }
    images
}

fn timeline(scenario: &Scenario, chance: &mut Chance) -> Vec<(Duration, Step)> {
    let mut steps = Vec::new();
    for (number, fault) in scenario.faults.iter().enumerate() {
        let victims = fault.victims(&scenario.cluster, chance);
        let groups: Vec<(Duration, Vec<NodeIndex>)> = match fault.over {
            Some(over) => victims.into_iter().map(|node| (chance.up_to(over.0), vec![node])).collect(),
            None => vec![(Duration::ZERO, victims)],
        };
        for (group, (after, nodes)) in groups.into_iter().enumerate() {
            let name = (number, number as u32 * GROUPS + group as u32);
            let begins = fault.at.0 + after;
            let ends = fault.lasts.map(|length| match fault.over {
                // The first to stop is not the first to go on.
                Some(over) if fault.what == FaultKind::Clog => fault.at.0 + over.0 + length.0 + chance.up_to(over.0),
                _ => begins + length.0,
            });
            for (begins, ends) in turns(fault, begins, ends) {
                if scenario.heal_at.is_some_and(|heal| begins >= heal.0) {
                    continue;
                }
                if let Some(ends) = ends
                    && scenario.heal_at.is_none_or(|heal| ends < heal.0)
                {
                    steps.push((ends, Step::End(name, nodes.clone())));
                }
                steps.push((begins, Step::Begin(name, nodes.clone())));
            }
        }
    }
    if let Some(heal) = scenario.heal_at {
        steps.push((heal.0, Step::Heal));
    }
    steps
}

/// When a fault is on, from when to when: once, or again and again.
fn turns(fault: &FaultSpec, begins: Duration, ends: Option<Duration>) -> Vec<(Duration, Option<Duration>)> {
    let (Some(every), Some(ends)) = (fault.every, ends) else { return vec![(begins, ends)] };
    let mut turns = Vec::new();
    let mut at = begins;
    while at < ends && turns.len() < MAX_TURNS {
        turns.push((at, Some((at + every.0 / 2).min(ends))));
        at += every.0;
    }
    turns
}

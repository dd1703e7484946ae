//! Makes a failing scenario smaller: fewer faults, fewer nodes, less to pull, default knobs.
//!
//! Each pass tries its steps from the largest to the smallest, and goes on from whatever still breaks the same rule. A
//! run that fails ends at the first broken rule, and one that does not is given up when it has taken a good deal more steps
//! than the failing one: so time goes to what fails fast.

use std::time::{Duration, Instant};

use super::{Found, try_scenario_for};
use crate::scenario::units::{Bytes, Span};
use crate::scenario::{Arrivals, Cluster, Knobs, Scenario};

/// What may be tried instead of a scenario.
type Pass = fn(&Scenario) -> Vec<Scenario>;
/// One change of a scenario.
type Edit<'a> = Box<dyn Fn(&mut Scenario) + 'a>;

/// Events that a smaller scenario may take: this many times those of the one that fails, and some.
const PATIENCE: (u64, u64) = (2, 20_000);
/// With other nodes or faults chance falls otherwise: so many other seeds are tried for those. When nothing gets smaller any
/// more and it is still too much for a reader, more of them.
const OTHER_SEEDS: [u64; 3] = [2, 12, 60];
/// So many nodes and faults a reader can hold in the head.
const SMALL: usize = 10;

/// Shrinks what was found for at most `budget` of wall time: the smallest scenario that still breaks the same rule.
#[must_use]
pub fn shrink(found: Found, budget: Duration) -> Found {
    let start = Instant::now();
    shrink_while(found, || start.elapsed() < budget)
}

/// The same, for as long as there is time.
#[must_use]
pub fn shrink_while(found: Found, there_is_time: impl Fn() -> bool) -> Found {
    let mut best = found;
    for other_seeds in OTHER_SEEDS {
        // The first two decide what a reader has to hold in the head, and how fast the others are.
        let passes: [(Pass, u64); 4] =
            [(fewer_faults, other_seeds), (fewer_nodes, other_seeds), (less_to_pull, 0), (nothing_special, 0)];
        loop {
            let before = best.scenario.clone();
            for (pass, other_seeds) in passes {
                while there_is_time()
                    && let Some(smaller) = first_that_fails(&best, pass(&best.scenario), other_seeds, &there_is_time)
                {
                    best = smaller;
                }
            }
            if best.scenario == before || !there_is_time() {
                break;
            }
        }
        if best.scenario.cluster.nodes <= SMALL && best.scenario.faults.len() <= SMALL {
            break;
        }
    }
    best.scenario.name = format!("shrunk-{}", best.seed);
    best.scenario.seed = best.seed;
    best
}

/// The first of the candidates that breaks the same rule.
fn first_that_fails(
    best: &Found,
    candidates: Vec<Scenario>,
    other_seeds: u64,
    there_is_time: impl Fn() -> bool,
) -> Option<Found> {
    let events = best.report.as_ref().map(|report| report.summary.events);
    let most = events.map_or(u64::MAX, |events| events.saturating_mul(PATIENCE.0) + PATIENCE.1);
    for candidate in candidates.into_iter().filter(can_be_kept) {
        for seed in [best.seed].into_iter().chain(1..=other_seeds) {
            if !there_is_time() {
                return None;
            }
            if let Err(found) = try_scenario_for(candidate.clone(), seed, most)
                && found.rule() == best.rule()
            {
                return Some(*found);
            }
        }
    }
    None
}

/// What is found is kept as a file: what could not be read again is no smaller scenario.
fn can_be_kept(scenario: &Scenario) -> bool {
    Scenario::parse(&scenario.to_toml()).is_ok_and(|read| read == *scenario)
}

/// What an edit makes of a scenario, if it changes anything.
fn changed(scenario: &Scenario, edits: Vec<Edit<'_>>) -> Vec<Scenario> {
    let mut all = Vec::new();
    for edit in edits {
        let mut copy = scenario.clone();
        edit(&mut copy);
        if copy != *scenario {
            all.push(copy);
        }
    }
    all
}

/// Without a part of the faults: all of them, halves, quarters, and so on down to single ones (delta debugging).
fn fewer_faults(scenario: &Scenario) -> Vec<Scenario> {
    let mut all = Vec::new();
    let faults = scenario.faults.len();
    let mut part = faults;
    while part > 0 {
        for first in (0..faults).step_by(part) {
            let mut copy = scenario.clone();
            copy.faults.drain(first..(first + part).min(faults));
            if copy.faults.is_empty() {
                // Without a fault there is nothing to heal, and nothing that a pull has to survive.
                copy.heal_at = None;
            }
            all.push(copy);
        }
        part = if part == 1 { 0 } else { part.div_ceil(2) };
    }
    all
}

fn fewer_nodes(scenario: &Scenario) -> Vec<Scenario> {
    let nodes = scenario.cluster.nodes;
    let mut sizes = vec![1, 2, 3, 5, 8, SMALL, nodes / 4, nodes / 2, nodes * 3 / 4, nodes - 1];
    sizes.retain(|fewer| *fewer > 0 && *fewer < nodes);
    sizes.sort_unstable();
    sizes.dedup();
    let mut edits: Vec<Edit<'_>> = Vec::new();
    for fewer in sizes {
        edits.push(Box::new(move |copy| with_nodes(copy, fewer)));
        if scenario.faults.iter().any(|fault| fault.count.is_some_and(|count| count > 1)) {
            // What befell half of the nodes befalls half of fewer.
            edits.push(Box::new(move |copy| {
                for fault in &mut copy.faults {
                    fault.count = fault.count.map(|count| (count * fewer / nodes).max(1));
                }
                with_nodes(copy, fewer);
            }));
        }
    }
    changed(scenario, edits)
}

/// Fewer images and layers, and smaller ones.
fn less_to_pull(scenario: &Scenario) -> Vec<Scenario> {
    let mut edits: Vec<Edit<'_>> = Vec::new();
    let images = scenario.images.len();
    for number in (0..images).rev().filter(|_| images > 1) {
        edits.push(Box::new(move |copy| drop(copy.images.remove(number))));
    }
    for (number, image) in scenario.images.iter().enumerate() {
        let layers = image.layers.len();
        if layers > 2 {
            edits.push(Box::new(move |copy| copy.images[number].layers.truncate(1)));
        }
        for layer in (0..layers).filter(|_| layers > 1) {
            edits.push(Box::new(move |copy| _ = copy.images[number].layers.remove(layer)));
        }
        for divisor in [16, 4] {
            edits.push(Box::new(move |copy| {
                copy.images[number].layers.iter_mut().for_each(|size| *size = Bytes((size.0 / divisor).max(1)));
            }));
        }
    }
    changed(scenario, edits)
}

/// Defaults instead of what was drawn, and simple faults.
fn nothing_special(scenario: &Scenario) -> Vec<Scenario> {
    let mut edits: Vec<Edit<'_>> = vec![
        Box::new(|copy| copy.knobs = Knobs::default()),
        Box::new(|copy| {
            let Cluster { nodes, latency, node_rate, .. } = copy.cluster;
            copy.cluster = Cluster { nodes, latency, node_rate, ..Cluster::default() };
        }),
        Box::new(|copy| copy.cluster = Cluster { nodes: copy.cluster.nodes, ..Cluster::default() }),
        Box::new(|copy| copy.other_version = None),
        Box::new(|copy| copy.origin = Default::default()),
        Box::new(|copy| copy.client = Default::default()),
        Box::new(|copy| copy.heal_at = copy.heal_at.map(|at| Span(at.0 / 2))),
    ];
    for number in 0..scenario.images.len() {
        edits.push(Box::new(move |copy| {
            let image = &mut copy.images[number];
            (image.arrivals, image.over, image.at) = (Arrivals::AtOnce, Span::default(), Span::default());
        }));
        edits.push(Box::new(move |copy| (copy.images[number].nodes, copy.images[number].fresh) = (None, false)));
    }
    for number in 0..scenario.faults.len() {
        edits.push(Box::new(move |copy| {
            let fault = &mut copy.faults[number];
            fault.over = None;
            fault.every = None;
            fault.count = fault.count.map(|count| (count / 2).max(1));
        }));
    }
    let mut all = changed(scenario, edits);
    all.extend(single_knobs(&scenario.knobs).into_iter().map(|knobs| Scenario { knobs, ..scenario.clone() }));
    all
}

/// The knobs with one of them back at its default.
fn single_knobs(knobs: &Knobs) -> Vec<Knobs> {
    // By their names in files, so that no knob can be forgotten here.
    let Ok(toml::Value::Table(table)) = toml::Value::try_from(knobs) else { return Vec::new() };
    let without = |name: &String| {
        let mut fewer = table.clone();
        fewer.remove(name);
        fewer.try_into().ok()
    };
    table.keys().filter_map(without).collect()
}

fn with_nodes(scenario: &mut Scenario, nodes: usize) {
    scenario.cluster.nodes = nodes;
    scenario.cluster.zones = scenario.cluster.zones.min(nodes);
    for image in &mut scenario.images {
        image.nodes = image.nodes.map(|pulling| pulling.min(nodes));
    }
    for fault in &mut scenario.faults {
        fault.nodes.retain(|node| *node < nodes);
        fault.others.retain(|node| *node < nodes);
        fault.count = fault.count.map(|count| count.min(nodes));
        fault.zone = fault.zone.map(|zone| zone.min(scenario.cluster.zones - 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::{Limits, draw};

    /// Everything that the passes try, and that makes sense, can be written and read again.
    #[test]
    fn what_is_tried_can_be_kept_as_a_file() {
        let text = "name = 'x'\n[cluster]\nnodes = 4\nmembership-lag = '5s'\n[[images]]\nlayers = ['1MiB']\n\
                    [[faults]]\nat = '1s'\nwhat = 'informer-stale'\ncount = 2\ndelay = '3s'\n";
        let stale = Scenario::parse(text).expect("a scenario");
        // Without the lag of its cluster, this fault is refused.
        assert!(nothing_special(&stale).iter().any(|candidate| !can_be_kept(candidate)));
        let drawn = (0..100).map(|seed| draw(seed, Limits { nodes: 10, layer_bytes: 32 << 20 }));
        for scenario in drawn.chain([stale]) {
            let passes: [Pass; 4] = [fewer_faults, fewer_nodes, less_to_pull, nothing_special];
            for candidate in passes.iter().flat_map(|pass| pass(&scenario)).filter(can_be_kept) {
                assert_eq!(Scenario::parse(&candidate.to_toml()), Ok(candidate));
            }
        }
    }

    #[test]
    fn what_is_found_smaller_is_read_again() {
        // The cluster's defaults have no lag: this rule breaks without it, and the file would be refused.
        let text = "name = 'x'\nlimit = '1s'\n[cluster]\nnodes = 4\nmembership-lag = '5s'\n[[images]]\nlayers = ['64MiB']\n\
                    [[faults]]\nat = '0s'\nwhat = 'origin-silent'\n\
                    [[faults]]\nat = '100ms'\nwhat = 'informer-stale'\ncount = 2\ndelay = '3s'\n";
        let scenario = Scenario::parse(text).expect("a scenario");
        let found = *try_scenario_for(scenario, 1, u64::MAX).expect_err("pulls that do not finish");
        for steps in 0_u32..40 {
            let left = std::cell::Cell::new(steps);
            let small = shrink_while(found.clone(), || left.replace(left.get().saturating_sub(1)) > 0);
            let file = small.scenario.to_toml();
            assert_eq!(Scenario::parse(&file), Ok(small.scenario), "{file}");
        }
    }
}

//! Makes a failing scenario smaller: fewer faults, fewer nodes, less to pull, default knobs.

use std::time::{Duration, Instant};

use super::{Found, try_scenario};
use crate::scenario::units::{Bytes, Span};
use crate::scenario::{Arrivals, Cluster, Knobs, Scenario};

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
    loop {
        let mut smaller = None;
        for candidate in candidates(&best.scenario) {
            if !there_is_time() {
                break;
            }
            if let Err(found) = try_scenario(candidate, best.seed)
                && found.rule() == best.rule()
            {
                smaller = Some(*found);
                break;
            }
        }
        match smaller {
            Some(found) => best = found,
            None => {
                best.scenario.name = format!("shrunk-{}", best.seed);
                return best;
            }
        }
    }
}

/// Scenarios that are a step smaller, the largest steps first.
fn candidates(scenario: &Scenario) -> Vec<Scenario> {
    let mut all = Vec::new();
    let mut change = |edit: &dyn Fn(&mut Scenario)| {
        let mut copy = scenario.clone();
        edit(&mut copy);
        if copy != *scenario {
            all.push(copy);
        }
    };
    let faults = scenario.faults.len();
    if faults > 3 {
        change(&|copy| copy.faults.truncate(faults / 2));
        change(&|copy| drop(copy.faults.drain(..faults / 2)));
    }
    let nodes = scenario.cluster.nodes;
    for fewer in [nodes / 2, nodes * 3 / 4, nodes - 1] {
        if fewer > 0 {
            change(&|copy| with_nodes(copy, fewer));
        }
    }
    for number in 0..faults {
        change(&|copy| drop(copy.faults.remove(number)));
    }
    change(&|copy| copy.knobs = Knobs::default());
    change(&|copy| {
        let Cluster { nodes, latency, node_rate, .. } = copy.cluster;
        copy.cluster = Cluster { nodes, latency, node_rate, ..Cluster::default() };
    });
    change(&|copy| copy.origin = Default::default());
    change(&|copy| copy.client = Default::default());
    for number in (0..scenario.images.len()).rev().filter(|_| scenario.images.len() > 1) {
        change(&|copy| drop(copy.images.remove(number)));
    }
    for (number, image) in scenario.images.iter().enumerate() {
        change(&|copy| {
            copy.images[number].arrivals = Arrivals::AtOnce;
            copy.images[number].over = Span::default();
        });
        for layer in (0..image.layers.len()).filter(|_| image.layers.len() > 1) {
            change(&|copy| {
                copy.images[number].layers.remove(layer);
            });
        }
        change(&|copy| copy.images[number].layers.iter_mut().for_each(|size| *size = Bytes((size.0 / 4).max(1))));
    }
    for number in 0..faults {
        change(&|copy| {
            let fault = &mut copy.faults[number];
            fault.over = None;
            fault.every = None;
            fault.count = fault.count.map(|count| (count / 2).max(1));
        });
    }
    all
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
    }
}

//! The same cluster with other policies, side by side: what Longshore is measured against.
//!
//! Topology, latencies, rates, arrivals, the registry's limits, containerd and the deaths of nodes are those of the scenario,
//! drawn from the same seed as in [`crate::run`]. What each rival does, what was simplified, and whom that favours is said
//! in its file.
//!
//! - `direct`: every node pulls from the registry,
//! - `pull_through`: one cache with one network card,
//! - `whole_layer`: Spegel's way,
//! - `gantry`: chairs, store-and-forward,
//! - `optimum`: the formula T* = (B/r)(1 + log2(N)/M), which nobody can beat,
//! - `longshore`: the real agents, in [`crate::world`].

mod client;
mod direct;
mod engine;
mod faults;
mod gantry;
mod index;
mod pull_through;
mod table;
#[cfg(test)]
mod tests;
mod whole_layer;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use longshore_core::piece::Geometry;
use serde::{Deserialize, Serialize};

use crate::run::{optimum_seconds, ratio, run, thousandth};
use crate::scenario::Scenario;
use engine::{Cluster, Policy};

/// A way to distribute images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Every node pulls from the registry.
    Direct,
    /// One cache with one network card.
    PullThrough,
    /// Spegel's way: whole layers from nodes that have them.
    WholeLayer,
    /// Gantry's way: eight nodes pull each layer, whole layers from there on.
    Gantry,
    /// What nobody can beat.
    Optimum,
    /// The agents as they are.
    Longshore,
}

impl Way {
    /// All ways, the slowest usually first.
    pub const ALL: [Self; 6] =
        [Self::Direct, Self::PullThrough, Self::WholeLayer, Self::Gantry, Self::Longshore, Self::Optimum];

    /// Its name on command lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::PullThrough => "pull-through",
            Self::WholeLayer => "whole-layer",
            Self::Gantry => "gantry",
            Self::Optimum => "optimum",
            Self::Longshore => "longshore",
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// A name that no way has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no policy '{found}'; expected some of: {}{}", known(), nearest(found))]
pub struct UnknownWay {
    found: String,
}

fn known() -> String {
    Way::ALL.map(Way::name).join(", ")
}

fn nearest(found: &str) -> String {
    let distance = |way: &Way| strsim::damerau_levenshtein(found, way.name());
    let near = Way::ALL.into_iter().min_by_key(distance).filter(|way| distance(way) <= 3);
    near.map_or_else(String::new, |way| format!("; did you mean '{way}'?"))
}

impl FromStr for Way {
    type Err = UnknownWay;

    fn from_str(text: &str) -> Result<Self, UnknownWay> {
        Self::ALL.into_iter().find(|way| way.name() == text).ok_or_else(|| UnknownWay { found: text.to_owned() })
    }
}

/// What came of a scenario with one policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The policy.
    pub policy: Way,
    /// Median pull in seconds.
    pub median_seconds: f64,
    /// Slowest pull in seconds.
    pub slowest_seconds: f64,
    /// Median pull against the optimum.
    pub median_ratio: f64,
    /// Slowest pull against the optimum.
    pub slowest_ratio: f64,
    /// Bytes out of the registry in copies of all images.
    pub origin_copies: f64,
    /// Requests to the registry, where they are counted.
    pub origin_requests: Option<u64>,
    /// Bytes from node to node (or from a cache to nodes) in copies.
    pub peer_copies: f64,
    /// Of these, what went from zone to zone.
    pub cross_zone_copies: f64,
    /// Requests, notices and queries between nodes, where they are counted.
    pub messages: Option<u64>,
    /// Pulls that were done.
    pub finished: usize,
    /// Nodes that are up and whose pull was not done.
    pub unfinished: usize,
    /// Blobs that containerds got from the registry because the mirror could not deliver.
    pub fallbacks: u64,
    /// Pulls that failed and were tried again.
    pub failed_pulls: u64,
    /// Wall time of the run.
    pub wall_seconds: f64,
}

/// The same scenario with several policies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// Nodes of the cluster.
    pub nodes: usize,
    /// The optimum for the largest image.
    pub optimum_seconds: f64,
    /// One for each policy, in the order in which they were asked for.
    pub outcomes: Vec<Outcome>,
    /// Faults of the scenario that only Longshore was subjected to.
    pub left_out_faults: Vec<String>,
}

/// Runs `scenario` with each of these policies.
#[must_use]
pub fn compare(scenario: &Scenario, seed: u64, ways: &[Way]) -> Comparison {
    Comparison {
        scenario: scenario.name.clone(),
        seed,
        nodes: scenario.cluster.nodes,
        optimum_seconds: thousandth(largest_optimum(scenario)),
        outcomes: ways.iter().map(|way| outcome(scenario, seed, *way)).collect(),
        left_out_faults: faults::left_out(scenario),
    }
}

fn outcome(scenario: &Scenario, seed: u64, way: Way) -> Outcome {
    let wall = Instant::now();
    let mut outcome = match way {
        Way::Direct => rival(scenario, seed, way, direct::Direct),
        Way::PullThrough => rival(scenario, seed, way, pull_through::PullThrough::default()),
        Way::WholeLayer => rival(scenario, seed, way, whole_layer::WholeLayer::default()),
        Way::Gantry => rival(scenario, seed, way, gantry::Gantry::default()),
        Way::Optimum => optimum(scenario, seed),
        Way::Longshore => longshore(scenario, seed),
    };
    outcome.wall_seconds = thousandth(wall.elapsed().as_secs_f64());
    outcome
}

fn rival<P: Policy>(scenario: &Scenario, seed: u64, way: Way, mut policy: P) -> Outcome {
    let mut cluster = Cluster::<P::Event>::new(scenario, seed);
    engine::run(&mut cluster, &mut policy);
    let seconds = sorted(cluster.finished.iter().map(|pull| pull.took.as_secs_f64()));
    let ratios = cluster.finished.iter().filter_map(|pull| ratio(scenario, pull.delivered, pull.missing));
    let ratios = sorted(ratios);
    let copies = |bytes: u64| thousandth(bytes as f64 / bytes_of(&cluster));
    Outcome {
        policy: way,
        median_seconds: thousandth(middle(&seconds)),
        slowest_seconds: thousandth(last(&seconds)),
        median_ratio: thousandth(middle(&ratios)),
        slowest_ratio: thousandth(last(&ratios)),
        origin_copies: copies(cluster.registry.bytes),
        origin_requests: Some(cluster.registry.requests),
        peer_copies: copies(cluster.peer_bytes),
        cross_zone_copies: copies(cluster.cross_zone_bytes),
        messages: Some(cluster.messages),
        finished: cluster.finished.len(),
        unfinished: cluster.unfinished(),
        fallbacks: cluster.machines.iter().map(|machine| machine.client.fallbacks).sum(),
        failed_pulls: cluster.machines.iter().map(|machine| machine.client.failed_pulls).sum(),
        wall_seconds: 0.0,
    }
}

/// Everybody is done after T*, one copy leaves the registry, and each node receives each blob once.
fn optimum(scenario: &Scenario, seed: u64) -> Outcome {
    let cluster = Cluster::<()>::new(scenario, seed);
    let seconds = largest_optimum(scenario);
    let mut pulls = 0;
    let mut needs = BTreeSet::new();
    for (image, arrivals) in cluster.images.iter().zip(&cluster.schedule.arrivals) {
        pulls += arrivals.len();
        for pull in arrivals {
            needs.extend(image.children.iter().chain([&image.manifest]).map(|blob| (*blob, pull.node)));
        }
    }
    let needed: u64 = needs.iter().map(|(blob, _)| cluster.blobs[*blob].size).sum();
    let peer_copies = thousandth((needed as f64 / bytes_of(&cluster) - 1.0).max(0.0));
    Outcome {
        policy: Way::Optimum,
        median_seconds: thousandth(seconds),
        slowest_seconds: thousandth(seconds),
        median_ratio: 1.0,
        slowest_ratio: 1.0,
        origin_copies: 1.0,
        origin_requests: None,
        peer_copies,
        cross_zone_copies: (scenario.cluster.zones - 1) as f64,
        messages: None,
        finished: pulls,
        unfinished: 0,
        fallbacks: 0,
        failed_pulls: 0,
        wall_seconds: 0.0,
    }
}

fn longshore(scenario: &Scenario, seed: u64) -> Outcome {
    let summary = run(scenario, seed).summary;
    Outcome {
        policy: Way::Longshore,
        median_seconds: summary.median_seconds,
        slowest_seconds: summary.slowest_seconds,
        median_ratio: summary.median_ratio,
        slowest_ratio: summary.slowest_ratio,
        origin_copies: summary.origin_copies,
        origin_requests: Some(summary.origin_requests),
        peer_copies: summary.peer_copies,
        cross_zone_copies: summary.cross_zone_copies,
        messages: Some(summary.messages),
        finished: summary.finished,
        unfinished: summary.unfinished,
        fallbacks: summary.fallbacks,
        failed_pulls: summary.failed_pulls,
        wall_seconds: 0.0,
    }
}

/// The optimum of each image.
fn optima<E>(cluster: &Cluster<E>) -> Vec<f64> {
    let of_image = |image: &engine::Image| {
        let sizes = image.children.iter().map(|blob| cluster.blobs[*blob].size);
        let pieces: u32 = sizes.clone().map(|size| Geometry::of_blob(size).pieces()).sum();
        optimum_seconds(&cluster.scenario, sizes.sum(), pieces)
    };
    cluster.images.iter().map(of_image).collect()
}

fn largest_optimum(scenario: &Scenario) -> f64 {
    last(&sorted(optima(&Cluster::<()>::new(scenario, 0)).into_iter()))
}

fn bytes_of<E>(cluster: &Cluster<E>) -> f64 {
    cluster.blobs.iter().map(|blob| blob.size).sum::<u64>().max(1) as f64
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn middle(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

fn last(sorted: &[f64]) -> f64 {
    sorted.last().copied().unwrap_or(0.0)
}

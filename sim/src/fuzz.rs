//! Makes scenarios up and looks whether any breaks a rule.
//!
//! Swarm testing: each seed first draws which families of faults are on at all, then sizes, knobs and workload. Small
//! clusters are more likely, because they are fast and most errors show there. All faults end at a drawn time; from then on
//! every pull has to finish. What broke is made smaller by [`shrink`].

pub mod shrink;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::chance::Chance;
use crate::invariants::NO_PANIC;
use crate::run::{Report, panic_words, run_strictly};
use crate::scenario::units::{Bytes, Rate, Span};
use crate::scenario::{Arrivals, FaultKind, FaultSpec, ImageSpec, Knobs, OtherVersion, Scenario};
use crate::world::MESSAGE_KINDS;

/// Once faults have ended, a pull may take this long: the kubelet's longest back-off (5 min), the longest cool-down after
/// failures, a try that runs into containerd's progress time-out (5 min), and then a good one; and what comes on top for
/// the bytes, see [`longest_transfer`].
const LIVENESS_LIMIT: Duration = Duration::from_secs(1500);
/// One of so many families of faults is on: some six of them at a time.
const FAMILIES: u64 = 9;
/// The longest time that faults last: longer than the longest cool-down.
const LONG_OUTAGE: Duration = Duration::from_secs(900);
/// Faults that are drawn by a chance of their own, so that seeds go on to mean what they meant before there were these.
const DRAWN_LATER: [FaultKind; 2] = [FaultKind::HalfTruth, FaultKind::DiskSpoils];
/// One of so many scenarios has such a fault.
const LATER_FAMILIES: u64 = 16;
/// One of so many scenarios has a slow registry and an image of many layers: a small cluster's everyday case.
const SLOW_UPLINKS: u64 = 24;

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most nodes.
    pub nodes: usize,
    /// Most bytes of one layer.
    pub layer_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { nodes: 40, layer_bytes: 96 << 20 }
    }
}

/// A seed that broke a rule.
#[derive(Clone, Debug)]
pub struct Found {
    /// The seed.
    pub seed: u64,
    /// What was drawn.
    pub scenario: Scenario,
    /// What came of it; `None` if the run panicked.
    pub report: Option<Report>,
    /// The broken rules, in words; the first one counts.
    pub violations: Vec<String>,
}

impl Found {
    /// The name of the first broken rule.
    #[must_use]
    pub fn rule(&self) -> &str {
        rule_of(&self.violations)
    }
}

fn rule_of(violations: &[String]) -> &str {
    violations.first().and_then(|text| text.split(':').next()).unwrap_or_default()
}

/// Runs the scenario that `seed` draws.
///
/// # Errors
/// What it found, if a rule was broken.
pub fn try_seed(seed: u64, limits: Limits) -> Result<Report, Box<Found>> {
    try_scenario(draw(seed, limits), seed)
}

/// Runs a scenario; a panic is a broken rule like any other.
///
/// # Errors
/// What it found, if a rule was broken.
pub fn try_scenario(scenario: Scenario, seed: u64) -> Result<Report, Box<Found>> {
    try_scenario_for(scenario, seed, u64::MAX)
}

/// The same, given up after so many events.
fn try_scenario_for(scenario: Scenario, seed: u64, events: u64) -> Result<Report, Box<Found>> {
    match catch_unwind(AssertUnwindSafe(|| run_strictly(&scenario, seed, events))) {
        Ok(report) if report.violations.is_empty() => Ok(report),
        Ok(report) => {
            let violations = report.violations.clone();
            Err(Box::new(Found { seed, scenario, report: Some(report), violations }))
        }
        Err(panic) => {
            let violations = vec![format!("{}: {}", NO_PANIC.name, panic_words(&*panic))];
            Err(Box::new(Found { seed, scenario, report: None, violations }))
        }
    }
}

/// The scenario that follows from a seed.
#[must_use]
pub fn draw(seed: u64, limits: Limits) -> Scenario {
    let mut chance = Chance::new(seed ^ 0xf022);
    let coin = |chance: &mut Chance| chance.below(2) == 0;
    let nodes = chance.magnitude(1, limits.nodes as u64).min(limits.nodes as u64) as usize;
    let mut scenario = Scenario {
        name: format!("fuzz-{seed}"),
        about: String::new(),
        seed,
        limit: Span(LIVENESS_LIMIT),
        heal_at: None,
        cluster: crate::scenario::Cluster { nodes, ..Default::default() },
        other_version: None,
        origin: Default::default(),
        client: Default::default(),
        knobs: Knobs::default(),
        images: images(&mut chance, nodes, limits),
        faults: Vec::new(),
        expect: Default::default(),
    };
    let cluster = &mut scenario.cluster;
    cluster.latency = Span(Duration::from_micros(chance.magnitude(50, 20_000)));
    cluster.node_rate = Rate(chance.magnitude(2_000_000, 500_000_000));
    if coin(&mut chance) {
        cluster.zones = chance.between(1, 4) as usize;
        cluster.zones_known = coin(&mut chance);
        cluster.racks = chance.below(4) as usize;
        cluster.cross_rack_latency = Span(chance.up_to(Duration::from_millis(2)));
        cluster.cross_zone_latency = Span(chance.up_to(Duration::from_millis(30)));
        if coin(&mut chance) {
            cluster.cross_zone_rate = Some(Rate(chance.magnitude(2_000_000, 500_000_000)));
        }
    }
    if coin(&mut chance) {
        cluster.membership_lag = Some(Span(chance.up_to(Duration::from_secs(30))));
    }
    if coin(&mut chance) {
        cluster.index_delay = Span(chance.up_to(Duration::from_secs(10)));
        cluster.index_staleness = Span(chance.up_to(Duration::from_secs(60)));
    }
    if coin(&mut chance) {
        cluster.clock_offset = Span(chance.up_to(Duration::from_secs(100_000)));
        cluster.clock_drift_per_million = chance.below(2) as u32 * chance.magnitude(10, 20_000) as u32;
    }
    let origin = &mut scenario.origin;
    origin.rate = Rate(chance.magnitude(2_000_000, 500_000_000));
    origin.latency = Span(chance.up_to(Duration::from_millis(100)));
    if coin(&mut chance) {
        origin.connection_rate = Some(Rate(chance.magnitude(1_000_000, 100_000_000)));
    }
    if chance.below(4) == 0 {
        origin.private = true;
    }
    if chance.below(8) == 0 {
        origin.requests_per_node_second = Some(chance.magnitude(1, 100) as u32);
    }
    if coin(&mut chance) {
        scenario.client.unpack_rate = Some(Rate(chance.magnitude(10_000_000, 500_000_000)));
    }
    scenario.knobs = knobs(&mut chance);
    if chance.below(8) == 0 {
        scenario.other_version = Some(OtherVersion {
            percent: chance.between(1, 100) as u32,
            swarm: coin(&mut chance),
            // From a chance of its own: it was drawn later than the rest, which stays what it was.
            spine: coin(&mut Chance::new(seed ^ 0x591e)),
            knobs: knobs(&mut chance),
        });
    }
    if chance.below(5) != 0 {
        scenario.faults = faults(&mut chance, &scenario);
        if scenario.faults.iter().any(|fault| fault.what.is_of_informers()) && scenario.cluster.membership_lag.is_none()
        {
            scenario.cluster.membership_lag = Some(Span(chance.up_to(Duration::from_secs(10))));
        }
    }
    scenario.faults.extend(later_faults(seed, nodes));
    if scenario.faults.iter().any(|fault| fault.what == FaultKind::DiskSpoils) {
        // Such a node sends its containerd to the registry, with three requests at once: of two a second one is refused each time.
        scenario.origin.requests_per_node_second = None;
    }
    if !scenario.faults.is_empty() {
        let last = scenario.faults.iter().map(|fault| fault.at.0).max().unwrap_or_default();
        // Cool-downs and back-offs show only in what lasts for minutes.
        let most = if chance.below(6) == 0 { LONG_OUTAGE } else { Duration::from_secs(60) };
        scenario.heal_at = Some(Span(last + Duration::from_millis(1) + chance.up_to(most)));
    }
    slow_uplink(seed, limits, &mut scenario);
    bad_disks(seed, &mut scenario);
    scenario.limit = Span(LIVENESS_LIMIT + longest_transfer(&scenario));
    scenario
}

/// How long the bytes take at worst: after enough faults all nodes are sent on to the registry, for everything, at the same
/// time, and share what it can send.
fn longest_transfer(scenario: &Scenario) -> Duration {
    let seconds = |image: &ImageSpec| {
        let bytes: u64 = image.layers.iter().map(|layer| layer.0).sum();
        let copies = image.nodes.unwrap_or(scenario.cluster.nodes) as u64;
        let alone = scenario.origin.connection_rate.map_or(0, |rate| bytes / rate.0.max(1));
        let shared = copies * bytes / scenario.origin.rate.0.max(1);
        shared + alone + bytes / scenario.cluster.node_rate.0.max(1)
    };
    Duration::from_secs(scenario.images.iter().map(seconds).sum())
}

fn images(chance: &mut Chance, nodes: usize, limits: Limits) -> Vec<ImageSpec> {
    let mut images: Vec<ImageSpec> = Vec::new();
    for number in 0..chance.between(1, 3) {
        let layers = (0..chance.between(1, 6)).map(|_| Bytes(chance.magnitude(1, limits.layer_bytes))).collect();
        let arrivals =
            *chance.pick(&[Arrivals::AtOnce, Arrivals::Rolling, Arrivals::Poisson]).unwrap_or(&Arrivals::AtOnce);
        let before = images.last().map_or(0, |image| image.layers.len());
        images.push(ImageSpec {
            layers,
            shared_layers: chance.below(before as u64 + 1) as usize,
            at: Span(chance.up_to(Duration::from_secs(5)) * number as u32),
            arrivals,
            over: Span(chance.up_to(Duration::from_secs(10))),
            nodes: (chance.below(3) == 0).then(|| chance.between(1, nodes as u64) as usize),
            fresh: chance.below(4) == 0,
        });
        if chance.below(2) == 0 {
            break;
        }
    }
    images
}

fn knobs(chance: &mut Chance) -> Knobs {
    let mut knobs = Knobs::default();
    if chance.below(2) == 0 {
        return knobs;
    }
    let mut maybe = |low: u64, high: u64| (chance.below(4) == 0).then(|| chance.between(low, high) as u32);
    knobs.probe_width = maybe(1, 6);
    knobs.max_uploads = maybe(1, 32);
    knobs.max_downloads = maybe(1, 16);
    knobs.max_origin_fetches = maybe(1, 12);
    knobs.max_assignments = maybe(1, 32);
    knobs.max_running_flights = maybe(1, 16);
    knobs.max_admitted_flights = maybe(1, 64);
    knobs.prefetch = maybe(0, 1).map(|number| number == 1);
    knobs.zone_scope = maybe(0, 1).map(|number| number == 1);
    knobs.auth_check = maybe(0, 1).map(|number| number == 1);
    knobs.max_streams = maybe(4, 64);
    knobs.call_timeout = maybe(200, 4000).map(|millis| Span(Duration::from_millis(u64::from(millis))));
    knobs.body_timeout = maybe(2, 60).map(|seconds| Span(Duration::from_secs(u64::from(seconds))));
    knobs.header_timeout = maybe(2, 25).map(|seconds| Span(Duration::from_secs(u64::from(seconds))));
    knobs.no_progress_timeout = maybe(20, 300).map(|seconds| Span(Duration::from_secs(u64::from(seconds))));
    knobs.store_cap = maybe(1, 200).map(|mebibytes| Bytes(u64::from(mebibytes) << 20));
    knobs
}

fn faults(chance: &mut Chance, scenario: &Scenario) -> Vec<FaultSpec> {
    let nodes = scenario.cluster.nodes;
    let drawn = FaultKind::ALL.iter().filter(|what| !DRAWN_LATER.contains(what));
    let families: Vec<_> = drawn.filter(|_| chance.below(FAMILIES) == 0).copied().collect();
    let mut faults = Vec::new();
    for what in families {
        for _ in 0..chance.between(1, 3) {
            let mut fault = FaultSpec::new(Span(chance.up_to(Duration::from_secs(12))), what);
            if chance.below(3) != 0 || what.needs_an_end() {
                fault.lasts = Some(Span(Duration::from_millis(chance.magnitude(10, 40_000))));
            }
            if what.needs_nodes() || what == FaultKind::Partition && chance.below(2) == 0 {
                fault.count = Some(chance.magnitude(1, nodes as u64) as usize);
            } else if matches!(what, FaultKind::Partition | FaultKind::Views) {
                fault.sides = Some(chance.between(2, 4) as u32);
            }
            if what.needs_nodes() && chance.below(2) == 0 {
                fault.over = Some(Span(chance.up_to(Duration::from_secs(5))));
            }
            if fault.lasts.is_some() && what.can_flap() && chance.below(5) == 0 {
                fault.every = Some(Span(Duration::from_millis(chance.magnitude(50, 10_000))));
            }
            details(chance, &mut fault, nodes);
            faults.push(fault);
        }
    }
    faults
}

/// The faults that came after seeds were given a meaning.
fn later_faults(seed: u64, nodes: usize) -> Vec<FaultSpec> {
    let mut chance = Chance::new(seed ^ 0x1a7e);
    let mut faults = Vec::new();
    for what in DRAWN_LATER {
        if chance.below(LATER_FAMILIES) == 0 {
            let mut fault = FaultSpec::new(Span(chance.up_to(Duration::from_secs(6))), what);
            fault.lasts = (chance.below(3) == 0).then(|| Span(Duration::from_millis(chance.magnitude(10, 40_000))));
            fault.count = Some(chance.magnitude(1, nodes as u64) as usize);
            fault.per_million = what.needs_per_million().then(|| chance.magnitude(1000, 1_000_000) as u32);
            faults.push(fault);
        }
    }
    faults
}

/// Slows the registry down and splits the first image, if it is this seed's turn: drawn later as well.
fn slow_uplink(seed: u64, limits: Limits, scenario: &mut Scenario) {
    let mut chance = Chance::new(seed ^ 0x510e);
    if chance.below(SLOW_UPLINKS) == 0 {
        scenario.origin.rate = Rate(chance.magnitude(200_000, 4_000_000));
        let layers = chance.between(6, 24);
        scenario.images[0].layers =
            (0..layers).map(|_| Bytes(chance.magnitude(1, limits.layer_bytes / 16 + 1))).collect();
    }
}

/// Of the disks that fail, in half of all scenarios it is some nodes' only: drawn later as well.
fn bad_disks(seed: u64, scenario: &mut Scenario) {
    let mut chance = Chance::new(seed ^ 0xd15c);
    let nodes = scenario.cluster.nodes;
    for fault in scenario.faults.iter_mut().filter(|fault| fault.what == FaultKind::DiskErrors) {
        if chance.below(2) == 0 {
            fault.count = Some(chance.magnitude(1, nodes as u64) as usize);
        }
    }
}

/// What a fault needs besides times and nodes.
fn details(chance: &mut Chance, fault: &mut FaultSpec, nodes: usize) {
    let what = fault.what;
    if what.needs_per_million() {
        fault.per_million = Some(chance.magnitude(100, 300_000) as u32);
    }
    if what.needs_delay() {
        let longest = match what {
            FaultKind::ClockLeap => 400_000,
            FaultKind::OriginRateLimited => 100_000,
            _ => 5000,
        };
        fault.delay = Some(Span(Duration::from_millis(chance.magnitude(1, longest))));
    }
    match what {
        FaultKind::Slow | FaultKind::OriginSlow | FaultKind::Trickle => {
            fault.rate = Some(Rate(chance.magnitude(50_000, 10_000_000)));
        }
        FaultKind::SlowDisk => {
            fault.rate = Some(Rate(chance.magnitude(500_000, 50_000_000)));
            fault.delay = Some(Span(Duration::from_millis(chance.magnitude(1, 500))));
        }
        _ if what.origin_fault(Duration::ZERO).is_some() => {
            // For some nodes only, or at times.
            fault.count = (chance.below(3) == 0).then(|| chance.magnitude(1, nodes as u64) as usize);
            fault.per_million = (chance.below(3) == 0).then(|| chance.magnitude(1000, 900_000) as u32);
        }
        FaultKind::SlowLinks => {
            fault.delay = Some(Span(Duration::from_millis(chance.magnitude(1, 2000))));
            if chance.below(2) == 0 {
                fault.rate = Some(Rate(chance.magnitude(50_000, 10_000_000)));
            }
            if chance.below(2) == 0 {
                let others = chance.magnitude(1, nodes as u64) as usize;
                fault.others = chance.some_of(nodes, others);
            }
        }
        FaultKind::Loss if chance.below(3) == 0 => {
            fault.message = chance.pick(&MESSAGE_KINDS).map(|message| (*message).to_owned());
        }
        FaultKind::Ring => fault.reach = Some(chance.between(1, 3) as usize),
        _ => {}
    }
}

//! Runs a scenario and says what came of it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use longshore_core::names::CredentialId;
use serde::{Deserialize, Serialize};

use crate::invariants::{self, calm, finishes, in_time, moves_on, no_leaks, one_copy, quiet_network};
use crate::record::{Record, Wanted};
use crate::scenario::schedule::{Arrival, Schedule, Step};
use crate::scenario::{FaultKind, Scenario};
use crate::world::recorder::Recorder;
use crate::world::{Image, Options, PullState, World};

/// Whether everybody is done is looked at this often; when each pull was done is known exactly.
const LOOK: Duration = Duration::from_millis(100);
/// After the last pull, flights that nobody waits for any more may have a lot to fetch from a slow registry: it is not quiet before
/// they have it, however slow, up to this.
const MOST_UNTIL_QUIET: Duration = Duration::from_secs(7200);
/// Whether they have is looked at this often.
const LOOK_FOR_QUIET: Duration = Duration::from_secs(10);
/// Then time goes on for this long, so that everything that is left ends by its own timeouts: the longest
/// of the defaults is 5 min.
const QUIET: Duration = Duration::from_secs(400);

/// After so much more, no swarm is left. A flight that nobody waits for may still be under way when the last pull is done,
/// and only then does its tracker begin to recommend it, for ten minutes (`SEED_TTL`) and until it is looked at next, each
/// minute (`IDLE_TRACK_INTERVAL`); a clock may be a few percent slow.
const LONG_QUIET: Duration = Duration::from_secs(700);
/// A pull that misses fewer bytes is not measured against the optimum, which knows no latency.
const LEAST_MEASURED: u64 = 1 << 20;

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// The hash of all inputs of all agents, in hex.
    pub trace_hash: String,
    /// Nodes of the cluster.
    pub nodes: usize,
    /// Virtual time until the last pull was done, or until the limit.
    pub virtual_seconds: f64,
    /// Wall time of the run.
    pub wall_seconds: f64,
    /// Nodes times hours that were simulated, quiet time after the last pull included, in each second of that.
    pub node_hours_per_wall_second: f64,
    /// Events handled.
    pub events: u64,
    /// Calls, notices and requests for pieces.
    pub messages: u64,
    /// Bytes out of the registry in copies of all images.
    pub origin_copies: f64,
    /// Requests to the registry.
    pub origin_requests: u64,
    /// Bytes of pieces that agents which are up at the end received from peers, in copies.
    pub peer_copies: f64,
    /// Bytes of pieces that went from zone to zone, in copies.
    pub cross_zone_copies: f64,
    /// The optimum for the largest image: T* = (B/r)(1 + log2(N)/M).
    pub optimum_seconds: f64,
    /// Median pull in seconds, with unpacking.
    pub median_seconds: f64,
    /// Slowest pull in seconds, with unpacking.
    pub slowest_seconds: f64,
    /// Median pull against the optimum for what its node missed, until the last byte was there.
    pub median_ratio: f64,
    /// Slowest pull against it.
    pub slowest_ratio: f64,
    /// Pulls that were done.
    pub finished: usize,
    /// Nodes that are up and whose pull was not done at the limit.
    pub unfinished: usize,
    /// Blobs that containerds got from the registry themselves.
    pub fallbacks: u64,
    /// Pulls that failed and were tried again.
    pub failed_pulls: u64,
    /// Rules that were broken.
    pub violations: usize,
}

impl Summary {
    fn took(&mut self, wall: Duration, world: &World) {
        let node_hours = world.now().as_micros() as f64 / 3.6e9 * self.nodes as f64;
        self.wall_seconds = thousandth(wall.as_secs_f64());
        self.node_hours_per_wall_second = thousandth(node_hours / wall.as_secs_f64());
    }
}

/// A summary with what is needed to find out why.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The figures.
    pub summary: Summary,
    /// The broken rules, in words.
    pub violations: Vec<String>,
    /// The expectations that were not met, in words.
    pub disappointments: Vec<String>,
}

impl Report {
    /// No rule is broken, and everything is as expected.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.violations.is_empty() && self.disappointments.is_empty()
    }
}

/// Runs `scenario` with `seed`.
#[must_use]
pub fn run(scenario: &Scenario, seed: u64) -> Report {
    let wall = Instant::now();
    let mut world = World::new(scenario.options(seed));
    let mut report = run_in(scenario, seed, &mut world);
    report.summary.took(wall.elapsed(), &world);
    report
}

/// The same for the hunt: it ends when the first rule is broken, or after so many `events`, and more is looked at, at more
/// expense.
#[must_use]
pub fn run_strictly(scenario: &Scenario, seed: u64, events: u64) -> Report {
    let mut world = World::new(scenario.options(seed));
    world.look_at_all_rules();
    world.most_events = events;
    run_in(scenario, seed, &mut world)
}

/// Runs `scenario` with `seed` and writes a journal of every agent; the same run, with the same trace hash. `strictly`: as
/// [`run_strictly`] does.
///
/// # Errors
/// Why a journal is not complete, in words.
pub fn run_recorded(scenario: &Scenario, seed: u64, recorder: Recorder, strictly: bool) -> Result<Report, String> {
    let mut world = World::recorded(scenario.options(seed), Some(recorder));
    if strictly {
        world.look_at_all_rules();
    }
    let report = run_in(scenario, seed, &mut world);
    world.close_journals()?;
    Ok(report)
}

/// A run of which more is known than the figures.
#[derive(Debug)]
pub struct Recorded {
    /// What came of it; `None` if it panicked.
    pub report: Option<Report>,
    /// The broken rules, in words; a panic is the last of them.
    pub violations: Vec<String>,
    /// What happened.
    pub record: Record,
}

/// Runs `scenario` with `seed` and keeps what is wanted of what happened; the same run, with the same trace hash.
#[must_use]
pub fn run_with_record(scenario: &Scenario, seed: u64, wanted: Wanted) -> Recorded {
    let strictly = wanted.strictly;
    let options = Options { story: Some(wanted), ..scenario.options(seed) };
    let nodes = options.nodes;
    let mut world = World::new(options);
    if strictly {
        world.look_at_all_rules();
    }
    // What is broken after a panic is not looked at; what was recorded before is what the record is for.
    let report = match catch_unwind(AssertUnwindSafe(|| run_in(scenario, seed, &mut world))) {
        Ok(report) => Some(report),
        Err(panic) => {
            world.violate(&invariants::NO_PANIC, None, &panic_words(&*panic));
            None
        }
    };
    let violations = world.violations.clone();
    let record = world.take_record().unwrap_or_else(|| Record::new(Wanted::default(), nodes));
    Recorded { report, violations, record }
}

/// What somebody said who panicked.
#[must_use]
pub fn panic_words(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<String>().cloned();
    words.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// Runs `scenario` with `seed` in a new world that has its options, and perhaps more.
pub(crate) fn run_in(scenario: &Scenario, seed: u64, world: &mut World) -> Report {
    let wall = Instant::now();
    let schedule = Schedule::draw(scenario, seed);
    let images = arrive(scenario, world, &schedule.arrivals);
    for (at, step) in schedule.timeline {
        if at > scenario.limit.0 && !matches!(step, Step::Heal) {
            continue;
        }
        let now = Duration::from_micros(world.now().as_micros());
        world.run_for(at.saturating_sub(now));
        if world.is_condemned() {
            break;
        }
        take(scenario, world, step);
    }
    let healthy_from = world.now();
    let now = Duration::from_micros(healthy_from.as_micros());
    let end = match scenario.heal_at {
        Some(_) => now + scenario.limit.0,
        None => scenario.limit.0,
    };
    let (mut moved, mut looked) = (moves_on::Memory::default(), healthy_from);
    while !world.all_done() && Duration::from_micros(world.now().as_micros()) < end && !world.is_condemned() {
        world.run_for(LOOK);
        if world.strict && world.now() - looked >= moves_on::LOOK {
            looked = world.now();
            moves_on::check(world, &mut moved, looked - healthy_from);
        }
    }
    let unfinished = unfinished(world);
    let virtual_seconds = match world.finished_pulls.last() {
        Some(last) if unfinished == 0 => last.at.as_micros() as f64 / 1e6,
        _ => world.now().as_micros() as f64 / 1e6,
    };
    if !world.is_condemned() {
        finishes::check(world);
    }
    world.record(Record::story_ends);
    if unfinished == 0 && !world.is_condemned() {
        let most = world.now() + MOST_UNTIL_QUIET;
        while world.origin_is_sending() && world.now() < most && !world.is_condemned() {
            world.run_for(LOOK_FOR_QUIET);
        }
        world.run_for(QUIET);
        no_leaks::check(world, false);
        if world.strict {
            world.run_for(LONG_QUIET);
            no_leaks::check(world, true);
        }
    }
    let blobs: usize = images.iter().map(|image| image.children.len() + 1).sum();
    let pieces: u64 = images.iter().map(|image| u64::from(image.pieces())).sum();
    quiet_network::check(world, pieces, blobs as u64);
    if nothing_is_wrong(scenario) {
        one_copy::check(world);
        // What goes from zone to zone by a slow line depends on whether anybody knows that there are zones.
        let is_known = scenario.cluster.zones_known || scenario.cluster.cross_zone_rate.is_none();
        if is_known && !world.is_condemned() {
            in_time::check(world, scenario, optimum_of_all(scenario, &images));
        }
    }
    if world.strict && nothing_can_fail(scenario) {
        calm::check(world);
    }
    report(scenario, seed, world, &images, Figures { unfinished, virtual_seconds, wall })
}

struct Figures {
    unfinished: usize,
    virtual_seconds: f64,
    wall: Instant,
}

fn nothing_is_wrong(scenario: &Scenario) -> bool {
    let usual = crate::world::ClientOptions::default();
    scenario.faults.is_empty()
        && scenario.knobs == crate::scenario::Knobs::default()
        && scenario.origin.requests_per_second.is_none()
        && scenario.origin.requests_per_node_second.is_none()
        && scenario.other_version.is_none()
        && !scenario.origin.private
        && scenario.client.header_timeout.0 >= usual.header_timeout
}

/// Nothing is wrong, and no limit is so tight that something may fail all the same.
fn nothing_can_fail(scenario: &Scenario) -> bool {
    let knobs = crate::scenario::Knobs {
        probe_width: None,
        max_running_flights: None,
        max_uploads: None,
        max_downloads: None,
        max_origin_fetches: None,
        max_assignments: None,
        prefetch: None,
        ..scenario.knobs.clone()
    };
    nothing_is_wrong(&Scenario { knobs, ..scenario.clone() })
}

fn unfinished(world: &World) -> usize {
    world.node_indices().filter(|node| world.is_up(*node) && world.pull_state(*node) == PullState::Pulling).count()
}

/// Publishes the images and schedules their pulls.
fn arrive(scenario: &Scenario, world: &mut World, arrivals: &[Vec<Arrival>]) -> Vec<Image> {
    world.origin.private = scenario.origin.private;
    let mut images: Vec<Image> = Vec::new();
    for (spec, pulls) in scenario.images.iter().zip(arrivals) {
        let sizes: Vec<_> = spec.layers.iter().map(|size| size.0).collect();
        let base: Vec<_> = match images.last() {
            Some(last) => last.children.iter().skip(1).take(spec.shared_layers).cloned().collect(),
            None => Vec::new(),
        };
        let mut image = world.publish_on(&base, &sizes);
        image.fresh = spec.fresh;
        for pull in pulls {
            // Each pull has its own: what one may have does not open what another asks for.
            let number = images.len() * scenario.cluster.nodes + pull.node;
            let credential = (scenario.origin.private && pull.has_credential).then_some(CredentialId(number as u64));
            world.pull_with(pull.node, &image, pull.at, credential);
        }
        images.push(image);
    }
    images
}

fn take(scenario: &Scenario, world: &mut World, step: Step) {
    match step {
        Step::Begin((fault, number), nodes) => {
            world.record(|record| record.fault_begins((fault, number), &scenario.faults[fault], &nodes));
            scenario.faults[fault].begin(world, number, &nodes);
        }
        Step::End((fault, number), nodes) => {
            world.record(|record| record.fault_ends((fault, number), &nodes));
            scenario.faults[fault].end(world, number, &nodes);
        }
        Step::Heal => {
            world.record(Record::heals);
            world.heal();
            for node in world.node_indices() {
                if !world.is_up(node) {
                    world.start(node);
                }
                if scenario.faults.iter().any(|fault| fault.what == FaultKind::Views || fault.what.is_of_informers()) {
                    world.heal_view(node);
                }
            }
        }
    }
    for node in world.node_indices() {
        if world.is_up(node) {
            world.resume_pull(node);
        }
    }
    world.record(Record::rest);
}

fn report(scenario: &Scenario, seed: u64, world: &World, images: &[Image], figures: Figures) -> Report {
    let largest = images.iter().max_by_key(|image| image.bytes());
    let optimum = largest.map_or(0.0, |image| optimum_seconds(scenario, image.bytes(), image.pieces()));
    let mut ratios: Vec<f64> =
        world.finished_pulls.iter().filter_map(|pull| ratio(scenario, pull.delivered, pull.missing)).collect();
    ratios.sort_by(f64::total_cmp);
    let mut seconds: Vec<f64> = world.finished_pulls.iter().map(|pull| pull.took.as_secs_f64()).collect();
    seconds.sort_by(f64::total_cmp);
    let mut distinct: Vec<_> =
        images.iter().flat_map(|image| &image.children).map(|child| (child.digest, child.size)).collect();
    distinct.sort_unstable();
    distinct.dedup();
    let bytes = distinct.iter().map(|(_, size)| size).sum::<u64>() as f64 + 1500.0 * images.len() as f64;
    let nodes = world.node_indices();
    let mut summary = Summary {
        scenario: scenario.name.clone(),
        seed,
        trace_hash: format!("{:016x}", world.trace_hash()),
        nodes: scenario.cluster.nodes,
        virtual_seconds: figures.virtual_seconds,
        wall_seconds: 0.0,
        node_hours_per_wall_second: 0.0,
        events: world.events,
        messages: world.messages,
        origin_copies: thousandth((world.origin.sent_bytes() + world.origin.direct_bytes) as f64 / bytes),
        origin_requests: world.origin.requests,
        peer_copies: thousandth(world.total(|counters| counters.peer_bytes) as f64 / bytes),
        cross_zone_copies: thousandth(world.cross_zone_bytes as f64 / bytes),
        optimum_seconds: thousandth(optimum),
        median_seconds: thousandth(seconds.get(seconds.len() / 2).copied().unwrap_or(0.0)),
        slowest_seconds: thousandth(seconds.last().copied().unwrap_or(0.0)),
        median_ratio: thousandth(ratios.get(ratios.len() / 2).copied().unwrap_or(0.0)),
        slowest_ratio: thousandth(ratios.last().copied().unwrap_or(0.0)),
        finished: world.finished_pulls.len(),
        unfinished: figures.unfinished,
        fallbacks: nodes.clone().map(|node| u64::from(world.fallbacks(node))).sum(),
        failed_pulls: nodes.map(|node| u64::from(world.failed_pulls(node))).sum(),
        violations: world.violations.len(),
    };
    summary.took(figures.wall.elapsed(), world);
    Report { disappointments: disappointments(scenario, &summary), violations: world.violations.clone(), summary }
}

/// The optimum for an image, in seconds: T* = (B/r)(1 + log2(N)/M).
pub(crate) fn optimum_seconds(scenario: &Scenario, bytes: u64, pieces: u32) -> f64 {
    optimum_at(scenario.cluster.node_rate.0.min(scenario.origin.rate.0), scenario.cluster.nodes, bytes, pieces)
}

/// The same for `nodes` with links of this many bytes a second.
fn optimum_at(rate: u64, nodes: usize, bytes: u64, pieces: u32) -> f64 {
    bytes as f64 / rate.max(1) as f64 * (1.0 + (nodes as f64).log2() / f64::from(pieces.max(1)))
}

/// The optimum for all images, one after the other, over the slowest link that there is on the way. What a zone can send goes to all
/// others.
fn optimum_of_all(scenario: &Scenario, images: &[Image]) -> f64 {
    let (cluster, origin) = (&scenario.cluster, &scenario.origin);
    let other_zones = cluster.zones.saturating_sub(1).max(1) as u64;
    let to_each_zone = cluster.cross_zone_rate.map(|rate| rate.0 / other_zones);
    let limits =
        [Some(cluster.node_rate.0), Some(origin.rate.0), origin.connection_rate.map(|rate| rate.0), to_each_zone];
    let rate = limits.into_iter().flatten().min().unwrap_or(0);
    images.iter().map(|image| optimum_at(rate, cluster.nodes, image.bytes(), image.pieces())).sum()
}

/// How long a pull took against the optimum for what its node missed (an update shares layers), until the last byte was there:
/// unpacking is containerd's. `None` if so little was missing that this would measure latency.
pub(crate) fn ratio(scenario: &Scenario, delivered: Duration, (bytes, pieces): (u64, u32)) -> Option<f64> {
    (bytes >= LEAST_MEASURED).then(|| delivered.as_secs_f64() / optimum_seconds(scenario, bytes, pieces))
}

/// Rounded to a thousandth.
pub(crate) fn thousandth(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn disappointments(scenario: &Scenario, summary: &Summary) -> Vec<String> {
    let expect = &scenario.expect;
    let mut all = Vec::new();
    let mut at_most = |name: &str, found: f64, most: Option<f64>| {
        if let Some(most) = most.filter(|most| found > *most) {
            all.push(format!("{name} is {found}, expected at most {most}"));
        }
    };
    at_most("slowest-ratio", summary.slowest_ratio, expect.slowest_ratio);
    at_most("median-ratio", summary.median_ratio, expect.median_ratio);
    at_most("slowest-seconds", summary.slowest_seconds, expect.slowest_seconds);
    at_most("origin-copies", summary.origin_copies, expect.origin_copies);
    at_most("fallbacks", summary.fallbacks as f64, expect.fallbacks.map(|most| most as f64));
    at_most("failed-pulls", summary.failed_pulls as f64, expect.failed_pulls.map(|most| most as f64));
    all
}

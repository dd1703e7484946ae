//! What the page's script is given.

use longshore_core::time::Time;
use serde::Serialize;

use super::Path;
use crate::record::timeline::{DOWN, FULL, IDLE, Lane, Series};
use crate::record::{EventId, Record, these};
use crate::run::Recorded;
use crate::scenario::Scenario;
use crate::why::Shown;
use crate::world::NodeIndex;

/// Points in time that the page can tell apart: more than a screen has columns, so that one can look closer.
const TICKS: u64 = 60_000;
/// Most lanes; with more nodes, neighbours share one.
const MAX_LANES: usize = 1200;
/// Most broken rules that are listed.
const MAX_VIOLATIONS: usize = 200;

/// Everything that the page shows. Times are in ticks of `tick` seconds.
#[derive(Debug, Serialize)]
pub(super) struct Data {
    scenario: String,
    about: String,
    seed: u64,
    trace_hash: String,
    again: String,
    nodes: usize,
    zones: usize,
    tick: f64,
    /// When the last thing that is shown happened.
    end: u64,
    /// The optimum of the largest image.
    optimum: u64,
    figures: Vec<[String; 2]>,
    is_good: bool,
    problems: Vec<String>,
    full: u8,
    lanes: Vec<LaneData>,
    /// Time and node of each.
    begun: Vec<[u64; 2]>,
    finished: Vec<[u64; 2]>,
    failed: Vec<[u64; 2]>,
    fallbacks: Vec<[u64; 2]>,
    origin: SeriesData,
    peers: SeriesData,
    messages: SeriesData,
    origin_rate: u64,
    node_rate: u64,
    faults: Vec<FaultData>,
    violations: Vec<ViolationData>,
    path: Option<PathData>,
}

#[derive(Debug, Serialize)]
struct LaneData {
    /// The first node, and how many share the lane.
    node: NodeIndex,
    count: usize,
    /// How far apart they are: nodes of a zone are.
    step: usize,
    zone: usize,
    /// Time and level by turns.
    changes: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct SeriesData {
    /// Width of a bucket in seconds.
    width: f64,
    sums: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct FaultData {
    name: String,
    words: String,
    from: u64,
    /// Absent: to the end.
    to: Option<u64>,
    whom: String,
    nodes: Vec<NodeIndex>,
}

#[derive(Debug, Serialize)]
struct ViolationData {
    at: u64,
    node: Option<NodeIndex>,
    text: String,
}

#[derive(Debug, Serialize)]
struct PathData {
    title: String,
    /// Time and node of every link.
    points: Vec<[u64; 2]>,
    shares: Vec<ShareData>,
    lines: Vec<LineData>,
}

#[derive(Debug, Serialize)]
struct ShareData {
    what: &'static str,
    seconds: f64,
    times: usize,
}

#[derive(Debug, Serialize)]
struct LineData {
    event: Option<EventId>,
    at: u64,
    waited: f64,
    node: Option<NodeIndex>,
    happened: String,
    did: String,
    /// It is no link, but a fault or what stands between it and the next line.
    is_beside: bool,
}

struct Clock {
    micros: u64,
}

impl Clock {
    fn tick(&self, at: Time) -> u64 {
        at.as_micros() / self.micros
    }

    fn pairs(&self, all: &[(Time, NodeIndex)]) -> Vec<[u64; 2]> {
        all.iter().map(|(at, node)| [self.tick(*at), *node as u64]).collect()
    }
}

pub(super) fn of(scenario: &Scenario, seed: u64, again: &str, run: &Recorded, path: Option<&Path>) -> Data {
    let record = &run.record;
    let timeline = record.timeline();
    let end = end(record);
    let clock = Clock { micros: (end.as_micros() / TICKS).max(1) };
    let summary = run.report.as_ref().map(|report| &report.summary);
    let disappointments = run.report.as_ref().map_or(&[][..], |report| &report.disappointments);
    let problems: Vec<_> = run.violations.iter().chain(disappointments).take(MAX_VIOLATIONS).cloned().collect();
    let last = |what: &Time| what.as_micros() <= end.as_micros();
    let violations = record.violations().iter().zip(&run.violations).take(MAX_VIOLATIONS);
    let violations = violations.map(|(id, text)| {
        let event = record.event(*id);
        // Without causes only the words are known, and the time is in them.
        let at = event.map_or(end, |event| event.at);
        let at = if last(&at) { at } else { end };
        ViolationData { at: clock.tick(at), node: event.and_then(|event| event.node()), text: text.clone() }
    });
    Data {
        scenario: scenario.name.clone(),
        about: scenario.about.clone(),
        seed,
        trace_hash: summary.map_or_else(|| "(the run panicked)".to_owned(), |summary| summary.trace_hash.clone()),
        again: again.to_owned(),
        nodes: scenario.cluster.nodes,
        zones: scenario.cluster.zones,
        tick: clock.micros as f64 / 1e6,
        end: clock.tick(end),
        optimum: summary.map_or(0, |summary| (summary.optimum_seconds * 1e6) as u64 / clock.micros),
        figures: summary.map(figures).unwrap_or_default(),
        is_good: problems.is_empty(),
        problems,
        full: FULL,
        lanes: lanes(scenario, &timeline.lanes, &clock),
        begun: clock.pairs(&timeline.begun),
        finished: clock.pairs(&timeline.finished),
        failed: clock.pairs(&timeline.failed),
        fallbacks: clock.pairs(&timeline.fallbacks),
        origin: series(&timeline.origin, end),
        peers: series(&timeline.peers, end),
        messages: series(&timeline.messages, end),
        origin_rate: scenario.origin.rate.0,
        node_rate: scenario.cluster.node_rate.0,
        faults: faults(record, &clock, end),
        violations: violations.collect(),
        path: path.map(|path| path_data(record, path, &clock)),
    }
}

/// Shortly after the last that is worth looking at.
fn end(record: &Record) -> Time {
    let timeline = record.timeline();
    let times = [&timeline.begun, &timeline.finished, &timeline.failed, &timeline.fallbacks];
    let last = times.into_iter().flatten().map(|(at, _)| *at).max();
    let moves = [&timeline.origin, &timeline.peers];
    let moves = moves.map(|series| Time::from_micros(series.sums.len() as u64 * series.width));
    let unfinished = record.pulls().iter().any(|pull| pull.finished.is_none());
    let talk = Time::from_micros(timeline.messages.sums.len() as u64 * timeline.messages.width);
    let last = moves.into_iter().chain(last).chain(unfinished.then_some(talk)).max().unwrap_or_default();
    Time::from_micros((last.as_micros() + last.as_micros() / 25).max(1000))
}

fn figures(summary: &crate::run::Summary) -> Vec<[String; 2]> {
    [
        ("nodes", summary.nodes.to_string()),
        ("pulls done", format!("{} of {}", summary.finished, summary.finished + summary.unfinished)),
        ("optimum T*", format!("{:.3} s", summary.optimum_seconds)),
        ("median pull", format!("{:.3} × T*", summary.median_ratio)),
        ("slowest pull", format!("{:.3} × T*", summary.slowest_ratio)),
        ("out of the registry", format!("{:.3} copies", summary.origin_copies)),
        ("between zones", format!("{:.3} copies", summary.cross_zone_copies)),
        ("fall-backs", summary.fallbacks.to_string()),
        ("pulls tried again", summary.failed_pulls.to_string()),
        ("messages", summary.messages.to_string()),
        ("broken rules", summary.violations.to_string()),
    ]
    .map(|(name, value)| [name.to_owned(), value])
    .to_vec()
}

fn series(series: &Series, end: Time) -> SeriesData {
    let buckets = (end.as_micros() / series.width + 1) as usize;
    SeriesData { width: series.width as f64 / 1e6, sums: series.sums.iter().take(buckets).copied().collect() }
}

fn lanes(scenario: &Scenario, lanes: &[Lane], clock: &Clock) -> Vec<LaneData> {
    let (nodes, zones) = (lanes.len(), scenario.cluster.zones.max(1));
    let count = nodes.div_ceil(MAX_LANES).max(1);
    let mut all = Vec::new();
    for zone in 0..zones {
        let of_zone: Vec<NodeIndex> = (zone..nodes).step_by(zones).collect();
        for group in of_zone.chunks(count) {
            let Some(node) = group.first() else { continue };
            let changes = match group {
                [node] => lanes[*node].changes.clone(),
                group => mean(&group.iter().map(|node| &lanes[*node]).collect::<Vec<_>>()),
            };
            let changes = thinned(&changes, clock);
            all.push(LaneData { node: *node, count: group.len(), step: zones, zone, changes });
        }
    }
    all
}

/// What several nodes have on average, of those that are up; and when all are down.
fn mean(lanes: &[&Lane]) -> Vec<(Time, u8)> {
    let mut changes: Vec<(Time, usize, u8)> = Vec::new();
    for (place, lane) in lanes.iter().enumerate() {
        changes.extend(lane.changes.iter().map(|(at, level)| (*at, place, *level)));
    }
    changes.sort_unstable();
    let mut levels = vec![IDLE; lanes.len()];
    let mut all: Vec<(Time, u8)> = Vec::new();
    for (at, place, level) in changes {
        levels[place] = level;
        let up: Vec<u32> = levels.iter().filter(|level| **level <= FULL).map(|level| u32::from(*level)).collect();
        let level = match up.len() as u32 {
            0 if levels.contains(&DOWN) => DOWN,
            0 => IDLE,
            count => (up.iter().sum::<u32>() / count) as u8,
        };
        if all.last().is_none_or(|(_, last)| *last != level) {
            all.push((at, level));
        }
    }
    all
}

/// Of several changes within one tick, the last.
fn thinned(changes: &[(Time, u8)], clock: &Clock) -> Vec<u64> {
    let mut thin: Vec<u64> = Vec::new();
    for (at, level) in changes {
        let (tick, level) = (clock.tick(*at), u64::from(*level));
        let before = thin.len().checked_sub(2).map(|place| thin[place]);
        if before == Some(tick) {
            thin.truncate(thin.len() - 2);
        }
        thin.extend([tick, level]);
    }
    thin
}

/// Faults of one kind and place in the scenario that begin at random times are one band each, as long as they are few.
fn faults(record: &Record, clock: &Clock, end: Time) -> Vec<FaultData> {
    let mut all: Vec<FaultData> = Vec::new();
    let mut numbers: Vec<usize> = Vec::new();
    for fault in record.faults().iter().filter(|fault| fault.at <= end) {
        let from = clock.tick(fault.at);
        let to = fault.ended.filter(|ended| *ended <= end).map(|ended| clock.tick(ended));
        if let Some(place) = numbers.iter().position(|number| *number == fault.number) {
            let band = &mut all[place];
            band.nodes.extend(&fault.nodes);
            band.to = band.to.zip(to).map(|(one, other)| one.max(other));
            band.whom = these(&band.nodes);
        } else {
            numbers.push(fault.number);
            let whom = if fault.nodes.is_empty() { String::new() } else { these(&fault.nodes) };
            let (name, words, nodes) = (fault.name.clone(), fault.words.clone(), fault.nodes.clone());
            all.push(FaultData { name, words, from, to, whom, nodes });
        }
    }
    all
}

fn path_data(record: &Record, path: &Path, clock: &Clock) -> PathData {
    let mut points: Vec<[u64; 2]> = Vec::new();
    for event in path.chain.links.iter().filter_map(|link| record.event(link.event)) {
        let point = event.node().map(|node| [clock.tick(event.at), node as u64]);
        points.extend(point.filter(|point| points.last() != Some(point)));
    }
    let shares = path.chain.shares(record, path.found.since);
    let shares =
        shares.iter().map(|it| ShareData { what: it.what, seconds: it.took.as_secs_f64(), times: it.times }).collect();
    let mut lines = Vec::new();
    for shown in path.chain.shown(record) {
        match shown {
            Shown::Gap(count, took) => lines.push(LineData {
                event: None,
                at: 0,
                waited: took.as_secs_f64(),
                node: None,
                happened: format!("{count} more"),
                did: String::new(),
                is_beside: false,
            }),
            Shown::Link(link) => {
                for id in crate::why::beside(record, link.event) {
                    lines.extend(line(record, path, clock, id, None));
                }
                lines.extend(line(record, path, clock, link.event, Some(link)));
            }
        }
    }
    PathData { title: path.found.title.clone(), points, shares, lines }
}

fn line(record: &Record, path: &Path, clock: &Clock, id: EventId, link: Option<crate::why::Link>) -> Option<LineData> {
    let event = record.event(id)?;
    let (happened, did) = crate::why::words(record, &path.said, id, link);
    Some(LineData {
        event: Some(id),
        at: clock.tick(event.at),
        waited: link.map_or(0.0, |link| link.waited.as_secs_f64()),
        node: event.node(),
        happened,
        did,
        is_beside: link.is_none(),
    })
}

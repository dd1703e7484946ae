//! What went wrong, as far as journals show it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longshore_core::journal::file::End;
use longshore_core::message::FailureClass;

use super::super::History;
use super::super::gather::Fate;
use super::super::links::Lost;
use super::topology::{Topology, at_least_a_second};
use super::watch::{Answer, Watch};
use super::{Comments, span};
use crate::scenario::units::Span;
use crate::scenario::{FaultKind, FaultSpec};

/// An agent whose journal just stops this much before the last one's, in microseconds, has ended before the others: even a
/// quiet one handles a timer in every reconciliation (1 min and a quarter, by default).
const EARLIER: i64 = 90_000_000;
/// ... or if so many messages to it failed afterwards.
const FAILED: usize = 3;
/// An agent that is born this much after the first one was not there before.
const LATE: i64 = 5_000_000;
/// Peers notice a death within this.
const NOTICED: i64 = 30_000_000;
/// Failures of the registry that are this near to each other belong together, whatever else it answered in between.
const TOGETHER: i64 = 1_000_000;
/// The end of an outage lies between the last failure and the next success; of a longer time than this, the beginning.
const LONGEST_GUESS: i64 = 120_000_000;
/// More outages than this are not outages but a registry that fails now and then.
const MOST_OUTAGES: usize = 20;
/// Losses that are this near to each other may have one reason.
const ONE_REASON: i64 = 30_000_000;
/// So many messages have to be lost between two groups before they are called parted.
const PARTED: usize = 5;
/// Losses below this share (in a million) are not worth a fault.
const LEAST_LOSS: u64 = 1000;

pub(super) fn faults(
    history: &History<'_>,
    watch: &Watch,
    topology: &Topology,
    comments: &mut Comments,
) -> Vec<FaultSpec> {
    let mut faults = deaths(history, topology, comments);
    faults.extend(pauses(history, watch, topology, comments));
    faults.extend(outages(history, watch, comments));
    faults.extend(network(history, topology, comments));
    faults.extend(lies(history, watch, topology, comments));
    faults.extend(disks(history, watch, topology, comments));
    faults.extend(views(history, watch, comments));
    faults.sort_by_key(|fault| fault.at);
    faults
}

fn last(history: &History<'_>, life: usize) -> i64 {
    let begin = history.clocks.common(life, history.lives[life].begin());
    history.facts[life].times.last().map_or(begin, |time| history.clocks.common(life, *time))
}

/// Agents that ended before the others, and those that began after them.
fn deaths(history: &History<'_>, topology: &Topology, comments: &mut Comments) -> Vec<FaultSpec> {
    let end = (0..history.lives.len()).map(|life| last(history, life)).max().unwrap_or(0);
    let mut noticed: BTreeMap<u32, Vec<i64>> = BTreeMap::new();
    for (life, facts) in history.facts.iter().enumerate() {
        for (index, peer) in &facts.disconnected {
            let at = history.clocks.common(life, facts.times[*index as usize]);
            noticed.entry(*peer).or_default().push(at);
        }
    }
    let (mut faults, mut orderly, mut late) = (Vec::new(), 0, 0);
    for (number, life) in history.lives.iter().enumerate() {
        let Some(node) = topology.index(&life.peer) else { continue };
        let begin = history.clocks.common(number, life.begin());
        let is_first = number == 0 || history.lives[number - 1].peer != life.peer;
        if is_first && life.newborn && begin > LATE {
            late += 1;
            let mut fault = FaultSpec::new(Span::default(), FaultKind::Kill);
            fault.lasts = Some(span(begin));
            fault.nodes = vec![node];
            faults.push(fault);
        }
        let next = history.lives.get(number + 1).filter(|next| next.peer == life.peer);
        let (stops, stopped) = (last(history, number), matches!(life.end(), Some(End::Stopped(_))));
        // What is not recorded of the same start is a hole in the files, and no end.
        let goes_on = next.is_some_and(|next| !next.newborn);
        if stopped || goes_on {
            continue;
        }
        let peer = history.peers.get(&life.peer).unwrap_or(super::super::gather::NONE);
        let heard =
            noticed.get(&peer).into_iter().flatten().filter(|at| (stops - TOGETHER..stops + NOTICED).contains(*at));
        let died = heard.clone().min().copied();
        let closed = matches!(life.end(), Some(End::Closed));
        let vanished = || !closed && (end - stops > EARLIER || failed_after(history, peer, stops) >= FAILED);
        if next.is_none() && died.is_none() && !vanished() {
            continue;
        }
        orderly += usize::from(closed);
        let what = if died.is_some() { FaultKind::Kill } else { FaultKind::PowerCut };
        let at = died.unwrap_or(stops).max(stops);
        let mut fault = FaultSpec::new(span(at), what);
        fault.nodes = vec![node];
        fault.lasts = next.map(|next| span(history.clocks.common(number + 1, next.begin()) - at));
        faults.push(fault);
    }
    if !faults.is_empty() {
        comments.push(
            "kill, power-cut: journals that end before the others; a kill if peers saw connections break. The last second \
             of a real agent that is killed is in no journal"
                .into(),
        );
    }
    if orderly > 0 {
        comments.push(format!("{orderly} of these agents were stopped in an orderly way, which a scenario cannot say"));
    }
    if late > 0 {
        comments.push(format!("{late} nodes that began later are killed at 0 until then"));
    }
    faults
}

/// Messages to a peer that failed after a time.
fn failed_after(history: &History<'_>, peer: u32, after: i64) -> usize {
    let of_life = |(life, facts): (usize, &super::super::gather::Facts)| {
        let failed = |send: &&super::super::gather::Send| {
            send.to == peer
                && matches!(send.fate, Fate::TimedOut | Fate::Unreachable)
                && history.clocks.common(life, facts.times[send.event as usize]) > after
        };
        facts.sends.iter().filter(failed).count()
    };
    history.facts.iter().enumerate().map(of_life).sum()
}

/// The longest time from a death to the next view of a node, if views change with deaths at all.
pub(super) fn membership_lag(history: &History<'_>, watch: &Watch, faults: &[FaultSpec]) -> Option<Span> {
    let is_death = |fault: &&FaultSpec| matches!(fault.what, FaultKind::Kill | FaultKind::PowerCut);
    let mut longest = None;
    for death in faults.iter().filter(is_death) {
        let at = death.at.0.as_micros() as i64;
        let mut next: BTreeMap<u32, i64> = BTreeMap::new();
        for ((life, time), _) in &watch.views {
            let lag = history.clocks.common(*life as usize, *time) - at;
            // What comes later has another reason.
            if (1..NOTICED).contains(&lag) {
                next.entry(*life).and_modify(|least| *least = lag.min(*least)).or_insert(lag);
            }
        }
        // A node that has just begun gets its first view, whatever happened.
        if next.len() * 2 > history.lives.len() {
            longest = longest.max(next.into_values().max());
        }
    }
    longest.map(span)
}

/// Processes that stood still.
fn pauses(history: &History<'_>, watch: &Watch, topology: &Topology, comments: &mut Comments) -> Vec<FaultSpec> {
    let pause = |((life, since), length): &((u32, u64), u64)| {
        let at = history.clocks.common(*life as usize, *since);
        let mut fault = FaultSpec::new(span(at), FaultKind::Pause);
        fault.lasts = Some(span(length.cast_signed()));
        fault.nodes = vec![topology.index(&history.lives[*life as usize].peer)?];
        Some(fault)
    };
    let faults: Vec<_> = watch.pauses.iter().filter_map(pause).collect();
    if !faults.is_empty() {
        comments.push("pause: timers that were handled more than a second after they were due".into());
    }
    faults
}

/// A run of failures of the registry.
struct Outage {
    what: FaultKind,
    first: i64,
    last: i64,
    retry_after: Option<Duration>,
}

/// Times in which the registry failed.
fn outages(history: &History<'_>, watch: &Watch, comments: &mut Comments) -> Vec<FaultSpec> {
    let mut answers: Vec<_> = watch
        .answers
        .iter()
        .map(|((life, time), answer)| (history.clocks.common(*life as usize, *time), answer))
        .collect();
    answers.sort_by_key(|(at, _)| *at);
    let goods: Vec<i64> =
        answers.iter().filter(|(_, answer)| matches!(answer, Answer::Good)).map(|(at, _)| *at).collect();
    let mut outages: Vec<Outage> = Vec::new();
    for (at, answer) in &answers {
        let (what, retry_after) = match answer {
            Answer::Good => continue,
            Answer::NoRanges => (FaultKind::OriginNoRanges, None),
            Answer::Silent => (FaultKind::OriginSilent, None),
            Answer::Failed(failure) => match failure.class {
                // A registry that wants a credential is no fault.
                FailureClass::Auth => continue,
                FailureClass::NotFound => (FaultKind::OriginEmpty, None),
                FailureClass::RateLimited => (FaultKind::OriginRateLimited, failure.retry_after),
                FailureClass::Transient => (FaultKind::OriginErrors, None),
            },
        };
        let good_since = |since: i64| {
            let next = goods.partition_point(|good| *good <= since);
            goods.get(next).is_some_and(|good| good < at)
        };
        match outages.iter_mut().rev().find(|outage| outage.what == what) {
            Some(outage) if at - outage.last < TOGETHER || !good_since(outage.last) => {
                outage.last = *at;
                outage.retry_after = outage.retry_after.max(retry_after);
            }
            _ => outages.push(Outage { what, first: *at, last: *at, retry_after }),
        }
    }
    if outages.len() > MOST_OUTAGES {
        comments.push(format!("the registry failed {} times for a moment: not taken over", outages.len()));
        return Vec::new();
    }
    if !outages.is_empty() {
        comments.push(
            "origin-*: from the first request that failed to half-way between the last one and the next that did not, or to \
             the last one if agents asked no more"
                .into(),
        );
    }
    let ends = (0..history.lives.len()).map(|life| last(history, life)).max().unwrap_or(0);
    let fault = |outage: &Outage| {
        let next = goods.get(goods.partition_point(|good| *good <= outage.last));
        let guess = next.map_or(0, |next| next - outage.last);
        let end = if guess <= LONGEST_GUESS { outage.last + guess / 2 } else { outage.last };
        let mut fault = FaultSpec::new(span(outage.first), outage.what);
        fault.lasts = (next.is_some() || outage.last + LATE < ends).then(|| at_least_a_second(end - outage.first));
        if outage.what == FaultKind::OriginRateLimited {
            fault.delay = Some(Span(outage.retry_after.unwrap_or(Duration::from_secs(1))));
        }
        fault
    };
    outages.iter().map(fault).collect()
}

/// Partitions and loss.
fn network(history: &History<'_>, topology: &Topology, comments: &mut Comments) -> Vec<FaultSpec> {
    let delivered = delivered(history);
    let mut faults = Vec::new();
    for lost in history.links.lost.chunk_by(|one, other| other.at - one.at <= ONE_REASON) {
        let (Some(first), Some(last)) = (lost.first(), lost.last()) else { continue };
        let between = |(at, ..): &&(i64, u32, u32)| (first.at + TOGETHER / 10..last.at).contains(at);
        let passed: Vec<_> = delivered.iter().filter(between).collect();
        let apart = parted(lost, &passed, history.peers.count());
        if let Some(nodes) = apart {
            let mut fault = FaultSpec::new(span(first.at), FaultKind::Partition);
            fault.lasts = Some(at_least_a_second(last.at - first.at));
            fault.nodes = nodes.iter().filter_map(|peer| topology.index(history.peers.peer(*peer))).collect();
            fault.nodes.sort_unstable();
            comments.push(format!(
                "partition at {:.1} s: {} messages were lost and none passed between these {} nodes and the others; it \
                 lasted at least from the first to the last",
                first.at as f64 / 1e6,
                lost.len(),
                fault.nodes.len()
            ));
            faults.push(fault);
            continue;
        }
        let share = lost.len() as u64 * 1_000_000 / (lost.len() + passed.len()).max(1) as u64;
        if share >= LEAST_LOSS && lost.len() >= PARTED {
            let mut fault = FaultSpec::new(span(first.at), FaultKind::Loss);
            fault.lasts = Some(at_least_a_second(last.at - first.at));
            fault.per_million = Some(share as u32);
            comments.push(format!(
                "loss at {:.1} s: {} messages of {}",
                first.at as f64 / 1e6,
                lost.len(),
                lost.len() + passed.len()
            ));
            faults.push(fault);
        }
    }
    faults
}

/// Messages that passed: when they were sent, and between whom.
fn delivered(history: &History<'_>) -> Vec<(i64, u32, u32)> {
    if history.links.lost.is_empty() {
        return Vec::new();
    }
    let mut delivered = Vec::new();
    for (life, places) in history.matched.received.iter().enumerate() {
        let Some(from) = history.peers.get(&history.lives[life].peer) else { continue };
        let facts = &history.facts[life];
        for (send, _) in facts.sends.iter().zip(places).filter(|(_, place)| **place != super::super::matching::NOWHERE)
        {
            delivered.push((history.clocks.common(life, facts.times[send.event as usize]), from, send.to));
        }
    }
    delivered
}

/// The smaller side, if what was lost was lost between two groups between which nothing passed.
fn parted(lost: &[Lost], passed: &[&(i64, u32, u32)], peers: usize) -> Option<BTreeSet<u32>> {
    let mut groups: Vec<u32> = (0..peers as u32).collect();
    fn group(groups: &mut [u32], mut peer: u32) -> u32 {
        while groups[peer as usize] != peer {
            groups[peer as usize] = groups[groups[peer as usize] as usize];
            peer = groups[peer as usize];
        }
        peer
    }
    for (_, from, to) in passed {
        let (one, other) = (group(&mut groups, *from), group(&mut groups, *to));
        groups[one as usize] = other;
    }
    let across = lost.iter().filter(|lost| group(&mut groups, lost.from) != group(&mut groups, lost.to)).count();
    if across < PARTED || across * 10 < lost.len() * 8 {
        return None;
    }
    let mut sizes: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    let talked =
        lost.iter().flat_map(|lost| [lost.from, lost.to]).chain(passed.iter().flat_map(|(_, from, to)| [*from, *to]));
    for peer in talked.collect::<BTreeSet<_>>() {
        sizes.entry(group(&mut groups, peer)).or_default().insert(peer);
    }
    let largest = sizes.iter().max_by_key(|(_, peers)| peers.len()).map(|(group, _)| *group)?;
    Some(sizes.into_iter().filter(|(group, _)| *group != largest).flat_map(|(_, peers)| peers).collect())
}

/// Nodes that were caught with wrong bytes.
fn lies(history: &History<'_>, watch: &Watch, topology: &Topology, comments: &mut Comments) -> Vec<FaultSpec> {
    let lie = |(peer, (life, time)): (&longshore_core::names::PeerId, &(u32, u64))| {
        let caught = history.clocks.common(*life as usize, *time);
        let mut fault = FaultSpec::new(span(caught - LATE), FaultKind::Corrupt);
        fault.nodes = vec![topology.index(peer)?];
        Some(fault)
    };
    let faults: Vec<_> = watch.convicted.iter().filter_map(lie).collect();
    if !faults.is_empty() {
        comments.push(
            "corrupt: peers that were convicted of wrong bytes, from five seconds before they were caught".into(),
        );
    }
    faults
}

/// Disks that were full.
fn disks(history: &History<'_>, watch: &Watch, topology: &Topology, comments: &mut Comments) -> Vec<FaultSpec> {
    let mut spans: BTreeMap<usize, (i64, i64)> = BTreeMap::new();
    for (life, time) in &watch.full {
        if let Some(node) = topology.index(&history.lives[*life as usize].peer) {
            let at = history.clocks.common(*life as usize, *time);
            let known = spans.entry(node).or_insert((at, at));
            *known = (known.0.min(at), known.1.max(at));
        }
    }
    if !spans.is_empty() {
        comments.push("disk-full: from the first write that found no space to the last".into());
    }
    let full = |(node, (first, last)): (usize, (i64, i64))| {
        let mut fault = FaultSpec::new(span(first), FaultKind::DiskFull);
        fault.lasts = Some(at_least_a_second(last - first));
        fault.nodes = vec![node];
        fault
    };
    spans.into_iter().map(full).collect()
}

/// Nodes that saw different clusters when the first image was asked for.
fn views(history: &History<'_>, watch: &Watch, comments: &mut Comments) -> Option<FaultSpec> {
    let first = watch.asked.iter().map(|((_, life), time)| history.clocks.common(*life as usize, *time)).min()?;
    let classes = |at: i64| {
        let mut seen: BTreeMap<u32, u64> = BTreeMap::new();
        for ((life, time), view) in &watch.views {
            if history.clocks.common(*life as usize, *time) <= at {
                seen.insert(*life, *view);
            }
        }
        seen.into_values().collect::<BTreeSet<_>>().len()
    };
    // What differs only for a moment is a change that is on its way.
    let sides = classes(first).min(classes(first + LATE));
    if sides < 2 {
        return None;
    }
    comments.push(format!("views: when the first image was asked for, nodes saw {sides} different clusters"));
    let mut fault = FaultSpec::new(Span::default(), FaultKind::Views);
    fault.sides = Some(sides as u32);
    Some(fault)
}

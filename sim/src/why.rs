//! Why something happened: its causes, one behind the other, back to where they began.
//!
//! A message follows from the output that sent it, that from the input that made its sender send, a timer from the input that
//! armed it. Faults that had a hand in it stand beside the chain.

mod lines;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longshore_core::time::Time;

pub use lines::{heading, line, words};

use crate::record::{Event, EventId, PullRecord, Record, Wanted, What};
use crate::run::{Recorded, optimum_seconds, run_with_record};
use crate::scenario::Scenario;
use crate::world::NodeIndex;

/// Longest chain that is told line by line; of a longer one the lines that took longest and the ones at both ends.
const MAX_LINES: usize = 60;
/// Lines at each end of a chain that are always told.
const ENDS: usize = 8;

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The first broken rule, or else the slowest pull.
    Anything,
    /// An event.
    Event(EventId),
    /// A broken rule, counted from 1.
    Violation(usize),
    /// The last pull of a node.
    Node(NodeIndex),
    /// How a node came by a blob, or did not: the first hex digits of its digest.
    Blob(NodeIndex, String),
}

/// One of a chain of causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The event.
    pub event: EventId,
    /// Which of the outputs of its agent led on; `None` if no output did, or none leads on.
    pub output: Option<u16>,
    /// Time since the event before it.
    pub waited: Duration,
}

/// A chain of causes, the first one first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Its events.
    pub links: Vec<Link>,
    /// What came before was too long ago to be kept.
    pub is_cut: bool,
}

/// A part of the time that a chain took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// What was waited for.
    pub what: &'static str,
    /// How long in all.
    pub took: Duration,
    /// How often.
    pub times: usize,
    /// The longest one: how long, and the event that ended it.
    pub longest: (Duration, EventId),
}

/// Something to tell about a chain: a link, or how many were left out and how long they took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// A link.
    Link(Link),
    /// So many left out.
    Gap(usize, Duration),
}

impl Chain {
    /// The causes of an event.
    #[must_use]
    pub fn of(record: &Record, event: EventId) -> Self {
        let mut chain = Self::default();
        let (mut next, mut output) = (Some(event), None);
        while let Some(id) = next {
            let Some(event) = record.event(id) else {
                chain.is_cut = true;
                break;
            };
            let cause = event.cause().filter(|cause| cause.event < id);
            let before = cause.and_then(|cause| record.event(cause.event));
            let waited = before.map_or(Duration::ZERO, |before| event.at.since(before.at));
            chain.links.push(Link { event: id, output, waited });
            next = cause.map(|cause| cause.event);
            output = cause.and_then(|cause| cause.output);
        }
        chain.links.reverse();
        chain
    }

    /// The links to tell, at most about sixty.
    #[must_use]
    pub fn shown(&self, record: &Record) -> Vec<Shown> {
        let count = self.links.len();
        if count <= MAX_LINES {
            return self.links.iter().copied().map(Shown::Link).collect();
        }
        let mut kept: BTreeSet<usize> = (0..ENDS).chain(count - ENDS..count).collect();
        let telling = |link: &Link| {
            let event = record.event(link.event);
            event.is_some_and(|event| {
                event.because().is_some() || event.what < What::Timer(crate::record::Timer::Handshake)
            })
        };
        let mut order: Vec<usize> = (ENDS..count - ENDS).collect();
        order.sort_by_key(|place| {
            let link = &self.links[*place];
            // What waited tells more than what it waited for alone: its cause is told with it.
            (std::cmp::Reverse(link.waited), !telling(link), *place)
        });
        for place in order {
            if kept.len() + 1 >= MAX_LINES {
                break;
            }
            kept.extend([place - 1, place]);
        }
        let mut shown = Vec::new();
        let (mut left_out, mut took) = (0, Duration::ZERO);
        for (place, link) in self.links.iter().enumerate() {
            if kept.contains(&place) {
                if left_out > 0 {
                    shown.push(Shown::Gap(left_out, took));
                    (left_out, took) = (0, Duration::ZERO);
                }
                shown.push(Shown::Link(*link));
            } else {
                left_out += 1;
                took += link.waited;
            }
        }
        shown
    }

    /// Events whose words are needed to tell these, what stands beside them included.
    #[must_use]
    pub fn wanted(record: &Record, shown: &[Shown]) -> BTreeSet<EventId> {
        let mut wanted = BTreeSet::new();
        for link in shown.iter().filter_map(|shown| if let Shown::Link(link) = shown { Some(link) } else { None }) {
            wanted.insert(link.event);
            wanted.extend(beside(record, link.event));
        }
        wanted
    }

    /// Where the time from `since` on went, the largest part first.
    #[must_use]
    pub fn shares(&self, record: &Record, since: Time) -> Vec<Share> {
        let mut shares: BTreeMap<&'static str, Share> = BTreeMap::new();
        let mut before: Option<What> = None;
        for link in &self.links {
            let Some(event) = record.event(link.event) else { continue };
            let waited = link.waited.min(event.at.since(since));
            let what = waited_for(before, event);
            before = Some(event.what);
            if waited.is_zero() {
                continue;
            }
            let share = shares.entry(what);
            let share = share.or_insert(Share { what, took: Duration::ZERO, times: 0, longest: (Duration::ZERO, 0) });
            share.took += waited;
            share.times += 1;
            share.longest = share.longest.max((waited, link.event));
        }
        let mut shares: Vec<_> = shares.into_values().collect();
        shares.sort_by_key(|share| std::cmp::Reverse(share.took));
        shares
    }

    /// Nodes that it passes, and the time from its first event to its last.
    fn span(&self, record: &Record) -> (Vec<NodeIndex>, Time, Time) {
        let events: Vec<_> = self.links.iter().filter_map(|link| record.event(link.event)).collect();
        let nodes: BTreeSet<_> = events.iter().flat_map(|event| [event.node(), event.peer()]).flatten().collect();
        let (first, last) = (events.first().map(|event| event.at), events.last().map(|event| event.at));
        (nodes.into_iter().collect(), first.unwrap_or_default(), last.unwrap_or_default())
    }
}

/// What is between an event and the fault that had a hand in it, the fault first.
pub(crate) fn beside(record: &Record, event: EventId) -> Vec<EventId> {
    let mut all = Vec::new();
    let mut next = record.event(event).and_then(|event| event.because());
    while let Some(id) = next
        && all.len() < 4
    {
        all.push(id);
        next = record.event(id).and_then(|event| event.because().or(event.cause().map(|cause| cause.event)));
        let is_fault = |id: EventId| record.event(id).is_some_and(|event| event.what == What::FaultBegins);
        let is_link = |id: EventId| record.event(id).is_some_and(|event| event.because().is_some());
        next = next.filter(|next| *next < id && (is_fault(*next) || is_link(*next)) && !is_fault(id));
    }
    all.reverse();
    all
}

fn waited_for(before: Option<What>, event: &Event) -> &'static str {
    match event.what {
        _ if before == Some(What::Held) => "processes that stand still",
        What::Timer(timer) => timer.words(),
        What::Piece => "pieces from peers",
        What::Transfer if event.peer().is_some() => "pieces from peers",
        What::OriginPiece | What::Transfer => "pieces from the registry",
        What::FetchedDirectly => "containerd and the registry",
        What::Looked => "questions to the registry and the index",
        What::Disk => "the disk",
        What::PullFinishes => "unpacking",
        What::PullFails => "containerd, until it gives up",
        What::Request if before == Some(What::PullFails) => "the kubelet, until it tries again",
        What::Starts => "the machine, until it starts again",
        What::PullBegins => "the pull, until it begins",
        What::Violation => "nothing more: nothing else happened",
        _ => "messages",
    }
}

/// What is asked about, found in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The event.
    pub event: EventId,
    /// What it is, in words.
    pub title: String,
    /// From when on its time is taken apart.
    pub since: Time,
}

/// The pull that took longest against its optimum, of those that are done.
#[must_use]
pub fn slowest_pull<'a>(scenario: &Scenario, record: &'a Record) -> Option<(f64, &'a PullRecord)> {
    let ratios = record.pulls().iter().filter_map(|pull| Some((ratio(scenario, pull)?, pull)));
    ratios.max_by(|one, other| one.0.total_cmp(&other.0))
}

fn ratio(scenario: &Scenario, pull: &PullRecord) -> Option<f64> {
    let (finished, _) = pull.finished?;
    Some(finished.since(pull.begun.0).as_secs_f64() / optimum_seconds(scenario, pull.bytes, pull.pieces))
}

/// Finds what is asked about.
///
/// # Errors
/// In words, if there is no such thing.
pub fn find(scenario: &Scenario, recorded: &Recorded, target: &Target) -> Result<Found, String> {
    let record = &recorded.record;
    match target {
        Target::Anything if !record.violations().is_empty() => find(scenario, recorded, &Target::Violation(1)),
        Target::Anything => {
            let (_, pull) = slowest_pull(scenario, record).ok_or("no rule was broken, and no pull was done")?;
            Ok(of_pull(scenario, record, pull))
        }
        Target::Violation(number) => {
            let place = number.checked_sub(1).filter(|place| *place < record.violations().len());
            let place = place.ok_or_else(|| match record.violations().len() {
                0 => "no rule was broken; without an event, the slowest pull is explained".to_owned(),
                all => format!("there is no violation {number}; {all} rules were broken"),
            })?;
            let event = record.violations()[place];
            let title = recorded.violations.get(place).cloned().unwrap_or_default();
            let node = record.event(event).and_then(|event| event.node());
            let pull = record.pulls().iter().rev().find(|pull| Some(pull.node) == node);
            let since = pull.map_or(Time::ZERO, |pull| pull.begun.0);
            Ok(Found { event, title, since })
        }
        Target::Event(id) => {
            if record.event(*id).is_none() {
                let (first, last) = (record.first(), record.len().saturating_sub(1));
                return Err(format!("there is no event {id}; this run has {first} to {last}"));
            }
            Ok(Found { event: *id, title: format!("event {id}"), since: Time::ZERO })
        }
        Target::Node(node) => {
            has_node(scenario, *node)?;
            let pull = record.pulls().iter().rev().find(|pull| pull.node == *node);
            let pull = pull.ok_or_else(|| format!("node {node} pulled nothing"))?;
            Ok(of_pull(scenario, record, pull))
        }
        Target::Blob(node, prefix) => {
            has_node(scenario, *node)?;
            let prefix = prefix.trim_start_matches("sha256:").to_ascii_lowercase();
            let blobs: BTreeSet<_> = record.blobs_like(&prefix).collect();
            if blobs.is_empty() {
                return Err(format!("no blob of this run has a digest that begins with '{prefix}'"));
            }
            let telling = |what: What| match what {
                What::Piece | What::OriginPiece | What::FetchedDirectly | What::FallsBack => true,
                What::Disk | What::TransferFails | What::CallFails => true,
                What::Timer(timer) => !timer.is_housekeeping(),
                _ => false,
            };
            let mut events = record.events().rev();
            let found = events.find(|(_, event)| {
                event.node() == Some(*node) && event.blob().is_some_and(|it| blobs.contains(&it)) && telling(event.what)
            });
            let (event, _) = found.ok_or_else(|| format!("nothing on node {node} was about {prefix}"))?;
            let pull = record.pulls().iter().rev().find(|pull| pull.node == *node);
            let since = pull.map_or(Time::ZERO, |pull| pull.begun.0);
            Ok(Found { event, title: format!("the last about {prefix} on node {node}"), since })
        }
    }
}

fn has_node(scenario: &Scenario, node: NodeIndex) -> Result<(), String> {
    let last = scenario.cluster.nodes - 1;
    if node > last { Err(format!("there is no node {node}; the last one is {last}")) } else { Ok(()) }
}

fn of_pull(scenario: &Scenario, record: &Record, pull: &PullRecord) -> Found {
    let (node, since) = (pull.node, pull.begun.0);
    let Some((finished, event)) = pull.finished else {
        let mine = |event: &Event| event.node() == Some(node);
        let last = record.events().rev().find(|(_, event)| mine(event)).map_or(pull.begun.1, |(id, _)| id);
        return Found { event: last, title: format!("the pull of node {node} is not done"), since };
    };
    let mine = ratio(scenario, pull).unwrap_or(0.0);
    let slower = record.pulls().iter().filter(|other| ratio(scenario, other).is_some_and(|ratio| ratio > mine)).count();
    let place = match slower {
        0 => "the slowest".to_owned(),
        1 => "only one was slower".to_owned(),
        more => format!("{more} were slower"),
    };
    let (took, count) = (finished.since(since).as_secs_f64(), record.pulls().len());
    let title =
        format!("the pull of node {node} took {took:.3} s, {mine:.2} times the optimum: {place} of {count} pulls");
    Found { event, title, since }
}

/// Runs `scenario` and tells why the target happened. `strictly`: all rules are looked at, and the first one that is broken
/// ends the run.
///
/// # Errors
/// In words, if there is no such thing.
pub fn why(scenario: &Scenario, seed: u64, target: &Target, strictly: bool) -> Result<String, String> {
    let recorded = run_with_record(scenario, seed, Wanted { events: true, strictly, ..Wanted::default() });
    let found = find(scenario, &recorded, target)?;
    let chain = Chain::of(&recorded.record, found.event);
    let shown = chain.shown(&recorded.record);
    let words = Chain::wanted(&recorded.record, &shown);
    let said = run_with_record(scenario, seed, Wanted { words, strictly, ..Wanted::default() });
    Ok(format!("why: {}\n\n{}", found.title, tell(&recorded.record, &said.record, &chain, &shown, found.since)))
}

/// A chain in words: where the time went, the lines, and faults that may have had a hand in it. `said` is the record of the
/// same run with the words.
#[must_use]
pub fn tell(record: &Record, said: &Record, chain: &Chain, shown: &[Shown], since: Time) -> String {
    let mut text = lines::shares(record, &chain.shares(record, since));
    text.push_str(&heading());
    if chain.is_cut {
        text.push_str("  (what came before is too long ago: only the last events of a run are kept)\n");
    }
    for shown in shown {
        match shown {
            Shown::Gap(count, took) => {
                text.push_str(&format!("{:>9}  ... {count} more in {:.6} s\n", "", took.as_secs_f64()));
            }
            Shown::Link(link) => {
                for id in beside(record, link.event) {
                    text.push_str(&line(record, said, id, None, "!"));
                }
                text.push_str(&line(record, said, link.event, Some(*link), ""));
            }
        }
    }
    let (nodes, from, to) = chain.span(record);
    let faults: Vec<_> =
        record.faults().iter().filter(|fault| fault.is_on_between(from, to) && fault.befalls(&nodes)).collect();
    if !faults.is_empty() {
        text.push_str("\nfaults meanwhile, on nodes of this chain\n");
        for fault in faults.iter().take(20) {
            text.push_str(&lines::fault(fault));
        }
        if faults.len() > 20 {
            text.push_str(&format!("{:>9}  ... and {} more\n", "", faults.len() - 20));
        }
    }
    text
}

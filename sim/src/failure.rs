//! What is told about a run that failed: what, when and where; how to do it again; the last that happened; and why.

use longshore_core::time::Time;

use crate::invariants::TABLE;
use crate::record::{EventId, Record, Wanted};
use crate::run::{Recorded, run_with_record};
use crate::scenario::Scenario;
use crate::why::{Chain, Found, Target, find, heading, line, slowest_pull, tell};

/// Lines of the last that happened.
const LAST: usize = 40;
/// Broken rules and missed expectations that are told; of a broken one there are many more of the same kind.
const MOST_PROBLEMS: usize = 20;

/// A failed run, told. `again` is the command that does it again; `drawn` is told after it.
///
/// The run is done twice more, to find out and to put into words: it is the same each time.
#[must_use]
pub fn report(scenario: &Scenario, seed: u64, again: &str, drawn: &str) -> String {
    let run = |strictly| run_with_record(scenario, seed, Wanted { events: true, strictly, ..Wanted::default() });
    let mut recorded = run(false);
    // Some rules only the hunt looks at.
    let strictly = recorded.report.as_ref().is_some_and(crate::run::Report::is_good);
    if strictly {
        recorded = run(true);
    }
    let disappointments = recorded.report.as_ref().map_or(&[][..], |report| &report.disappointments);
    let mut text = String::new();
    let found = target(scenario, &recorded);
    text.push_str(&first_line(&recorded, found.as_ref(), disappointments));
    text.push_str(&format!("again: {again}\n"));
    let problems: Vec<_> = recorded.violations.iter().chain(disappointments).collect();
    for problem in problems.iter().take(MOST_PROBLEMS) {
        text.push_str(&format!("  ! {problem}\n"));
    }
    if problems.len() > MOST_PROBLEMS {
        text.push_str(&format!("  ! ... and {} more\n", problems.len() - MOST_PROBLEMS));
    }
    if !drawn.is_empty() {
        text.push_str(&format!("\ndrawn\n{drawn}"));
    }
    let Some(found) = found else { return text };
    let record = &recorded.record;
    let node = record.event(found.event).and_then(|event| event.node());
    let last = last_events(record, found.event);
    let chain = Chain::of(record, found.event);
    let shown = chain.shown(record);
    let mut words = Chain::wanted(record, &shown);
    words.extend(&last);
    let said = run_with_record(scenario, seed, Wanted { words, strictly, ..Wanted::default() }).record;
    let place = node.map_or("in the cluster".to_owned(), |node| format!("on node {node}"));
    text.push_str(&format!("\nthe last {} that happened {place}\n{}", last.len(), heading()));
    for id in last {
        text.push_str(&line(record, &said, id, None, ""));
    }
    text.push_str(&format!("\nwhy: {}\n{}", found.title, tell(record, &said, &chain, &shown, found.since)));
    text
}

/// Property, time and nodes.
fn first_line(recorded: &Recorded, found: Option<&Found>, disappointments: &[String]) -> String {
    let record = &recorded.record;
    let event = found.and_then(|found| record.event(found.event));
    let at = event.map_or(0.0, |event| event.at.as_micros() as f64 / 1e6);
    let Some(name) = recorded.violations.first().and_then(|text| text.split(':').next()) else {
        let what = disappointments.first().map_or("nothing", String::as_str);
        let node = event.and_then(|event| event.node()).map_or(String::new(), |node| format!(", node {node}"));
        return format!("NOT AS EXPECTED {what}: {at:.6} s{node}\n");
    };
    let sentence = TABLE.iter().find(|rule| rule.name == name).map_or("", |rule| rule.sentence);
    let of_rule = record.violations().iter().zip(&recorded.violations);
    let of_rule = of_rule.filter(|(_, text)| text.split(':').next() == Some(name));
    let mut nodes: Vec<_> = of_rule.filter_map(|(id, _)| record.event(*id)?.node()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let whom = if nodes.is_empty() { "the cluster".to_owned() } else { crate::record::these(&nodes) };
    format!("BROKEN {name}: {at:.6} s, {whom}\n  {sentence}\n")
}

/// The event that the failure is about.
fn target(scenario: &Scenario, recorded: &Recorded) -> Option<Found> {
    let record = &recorded.record;
    if !record.violations().is_empty() {
        return find(scenario, recorded, &Target::Violation(1)).ok();
    }
    let what = recorded.report.as_ref()?.disappointments.first()?;
    let about = |event: Option<EventId>| {
        let event = event?;
        let since = record
            .event(event)
            .and_then(|event| event.node())
            .and_then(|node| record.pulls().iter().rev().find(|pull| pull.node == node).map(|pull| pull.begun.0));
        Some(Found { event, title: what.clone(), since: since.unwrap_or(Time::ZERO) })
    };
    let found = match what.split(' ').next() {
        Some("origin-copies") => about(record.fetched_twice().or(record.fallbacks().first().copied())),
        Some("fallbacks") => about(record.fallbacks().first().copied()),
        Some("failed-pulls") => about(record.failures().first().copied()),
        _ => None,
    };
    found.or_else(|| {
        let (_, pull) = slowest_pull(scenario, record)?;
        find(scenario, recorded, &Target::Node(pull.node)).ok()
    })
}

/// The last events up to `event`, on its node.
fn last_events(record: &Record, event: EventId) -> Vec<EventId> {
    let node = record.event(event).and_then(|event| event.node());
    let here = |other: &crate::record::Event| node.is_none() || other.node() == node;
    let before = record.events().rev().skip_while(|(id, _)| *id > event);
    let mut last: Vec<_> = before.filter(|(_, other)| here(other)).map(|(id, _)| id).take(LAST).collect();
    last.reverse();
    last
}

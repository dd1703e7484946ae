//! Where two runs part: the first event that differs, with what came before and after it, and the figures side by side.

use std::collections::BTreeSet;

use crate::record::{Event, EventId, Record, Wanted};
use crate::run::{Recorded, Summary, run_with_record};
use crate::scenario::Scenario;
use crate::why::{heading, line};

/// Events that both runs have in common, told before the first difference.
const BEFORE: u32 = 8;
/// Events of each run that are told from the first difference on.
const AFTER: u32 = 12;

/// One of two runs.
#[derive(Clone, Debug)]
pub struct Side {
    /// What it is called: its file.
    pub name: String,
    /// The scenario.
    pub scenario: Scenario,
    /// The seed.
    pub seed: u64,
}

/// What two runs have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// They are the same, event by event.
    pub is_none: bool,
    /// In words.
    pub text: String,
}

/// Runs both and compares them.
#[must_use]
pub fn diff(sides: [&Side; 2]) -> Difference {
    let run = |side: &Side, wanted: Wanted| run_with_record(&side.scenario, side.seed, wanted);
    let runs = sides.map(|side| run(side, Wanted { events: true, ..Wanted::default() }));
    let mut text = String::new();
    for (which, (side, recorded)) in ["one", "other"].into_iter().zip(sides.into_iter().zip(&runs)) {
        let hash = recorded.report.as_ref().map_or("(it panicked)", |report| &report.summary.trace_hash);
        text.push_str(&format!("{which:<6} {}, seed {}: trace {hash}\n", side.name, side.seed));
    }
    let [one, other] = &runs;
    let Some(first) = first_difference(&one.record, &other.record) else {
        text.push_str(&format!("\nno difference: all {} events are the same\n", one.record.len()));
        return Difference { is_none: true, text };
    };
    let kept = one.record.first().max(other.record.first());
    let from = first.saturating_sub(BEFORE).max(kept);
    let words: BTreeSet<EventId> = (from..first + AFTER).collect();
    let said = sides.map(|side| run(side, Wanted { words: words.clone(), ..Wanted::default() }).record);
    if first == kept && kept > 0 {
        text.push_str(&format!(
            "\nthey differ from event {first} on, or earlier: only the last events of a run are kept\n"
        ));
    } else {
        text.push_str(&format!("\nthe first {first} events are the same; then they part\n"));
    }
    text.push_str(&heading());
    lines(&mut text, &one.record, &said[0], from..first);
    for (which, (recorded, said)) in ["one", "other"].into_iter().zip(runs.iter().zip(&said)) {
        text.push_str(&format!("--- {which}\n"));
        if first >= recorded.record.len() {
            text.push_str("    nothing more happens\n");
        }
        lines(&mut text, &recorded.record, said, first..first + AFTER);
    }
    text.push_str(&figures(&runs));
    Difference { is_none: false, text }
}

fn lines(text: &mut String, record: &Record, said: &Record, events: std::ops::Range<EventId>) {
    for id in events.filter(|id| record.event(*id).is_some()) {
        text.push_str(&line(record, said, id, None, ""));
    }
}

/// The number of the first event that is not the same in both.
fn first_difference(one: &Record, other: &Record) -> Option<EventId> {
    let from = one.first().max(other.first());
    let to = one.len().min(other.len());
    let differ = |id: &EventId| one.event(*id).map(essence) != other.event(*id).map(essence);
    (from..to).find(differ).or((one.len() != other.len()).then_some(to))
}

/// What makes an event the same as another one. The hash stands for everything that agents were told until then.
fn essence(event: &Event) -> impl PartialEq + use<> {
    (event.at, event.node(), event.what, event.check, event.number)
}

fn figures(runs: &[Recorded; 2]) -> String {
    let summaries = runs.each_ref().map(|run| run.report.as_ref().map(|report| &report.summary));
    let mut text = format!("\n{:<22} {:>14} {:>14}\n", "", "one", "other");
    let mut row = |name: &str, figure: fn(&Summary) -> String| {
        let [one, other] = summaries.map(|summary| summary.map_or("-".to_owned(), figure));
        let mark = if one == other { "" } else { "  *" };
        text.push_str(&format!("{name:<22} {one:>14} {other:>14}{mark}\n"));
    };
    row("nodes", |it| it.nodes.to_string());
    row("pulls done", |it| it.finished.to_string());
    row("pulls not done", |it| it.unfinished.to_string());
    row("optimum, seconds", |it| format!("{:.3}", it.optimum_seconds));
    row("median, times that", |it| format!("{:.3}", it.median_ratio));
    row("slowest, times that", |it| format!("{:.3}", it.slowest_ratio));
    row("copies from registry", |it| format!("{:.3}", it.origin_copies));
    row("copies between zones", |it| format!("{:.3}", it.cross_zone_copies));
    row("fall-backs", |it| it.fallbacks.to_string());
    row("pulls tried again", |it| it.failed_pulls.to_string());
    row("messages", |it| it.messages.to_string());
    row("events", |it| it.events.to_string());
    row("virtual seconds", |it| format!("{:.3}", it.virtual_seconds));
    row("broken rules", |it| it.violations.to_string());
    text
}

//! A run as one page: what each node had over time, what moved, what was wrong, and why the slowest pull was slow.
//!
//! The page is one file without anything from elsewhere: styles, script and data are in it.

mod data;

use std::collections::BTreeSet;

use crate::record::{EventId, Wanted};
use crate::run::{Recorded, run_with_record};
use crate::scenario::Scenario;
use crate::why::{Chain, Found, Target, find};

/// With more nodes than this, causes are not looked for: their events do not fit into memory.
const MAX_NODES_WITH_CAUSES: usize = 2500;

const PAGE: &str = include_str!("view/page.html");
const STYLE: &str = include_str!("view/page.css");
const SCRIPT: &str = include_str!("view/page.js");

/// A page.
#[derive(Debug)]
pub struct Page {
    /// The file.
    pub html: String,
    /// The run that it shows.
    pub run: Recorded,
}

/// A chain of causes that the page shows, with the words.
#[derive(Debug)]
struct Path {
    found: Found,
    chain: Chain,
    said: crate::record::Record,
}

/// Runs `scenario` and draws it. `again` is the command that draws the same.
///
/// # Errors
/// In words, if the data cannot be written.
pub fn page(scenario: &Scenario, seed: u64, again: &str) -> Result<Page, String> {
    let with_causes = scenario.cluster.nodes <= MAX_NODES_WITH_CAUSES;
    let wanted = Wanted { events: with_causes, timeline: true, words: BTreeSet::new(), strictly: false };
    let run = run_with_record(scenario, seed, wanted);
    let path = if with_causes { path(scenario, seed, &run) } else { None };
    let data = data::of(scenario, seed, again, &run, path.as_ref());
    let data = serde_json::to_string(&data).map_err(|error| format!("cannot write the data of the page: {error}"))?;
    // Within a script element, only this could end it.
    let data = data.replace('<', "\\u003c");
    let title = format!("{}, seed {seed}", scenario.name);
    let html = PAGE
        .replace("{{title}}", &escaped(&title))
        .replace("{{again}}", &escaped(again))
        .replace("{{style}}", STYLE)
        .replace("{{script}}", SCRIPT)
        .replace("{{data}}", &data);
    Ok(Page { html, run })
}

/// The causes of the first broken rule, or else of the slowest pull.
fn path(scenario: &Scenario, seed: u64, run: &Recorded) -> Option<Path> {
    let found = find(scenario, run, &Target::Anything).ok()?;
    let chain = Chain::of(&run.record, found.event);
    let words: BTreeSet<EventId> = Chain::wanted(&run.record, &chain.shown(&run.record));
    let said = run_with_record(scenario, seed, Wanted { words, ..Wanted::default() }).record;
    Some(Path { found, chain, said })
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

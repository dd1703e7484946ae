//! A scenario in which happens what journals tell of, so that it can be run again with something changed.
//!
//! What a journal does not hold (the registry's and containerd's own settings, most of all) is estimated from what it does,
//! or left at the default; the file says so in comments.

mod faults;
mod images;
mod topology;
mod watch;

use std::time::Duration;

use super::History;
use super::lives::Life;
use crate::scenario::units::Span;
use crate::scenario::{Expectations, Scenario};
use topology::Topology;
use watch::Watch;

/// A quiet time at the beginning that is longer than this is left out.
const LONGEST_QUIET: i64 = 60_000_000;
/// ... but for this much.
const LEAD: i64 = 10_000_000;
/// The exported run may take at least this long, and twice what was recorded.
const SHORTEST_LIMIT: Duration = Duration::from_secs(600);

/// An exported scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// The scenario.
    pub scenario: Scenario,
    /// Its file, with comments.
    pub text: String,
}

/// Collects what the file says in comments.
type Comments = Vec<String>;

/// Makes a scenario out of journals.
///
/// # Errors
/// In words, when nothing was pulled in them.
pub fn export(lives: &[Life]) -> Result<Exported, String> {
    let mut watch = Watch::default();
    let history = History::join(lives, |life, step, _| watch.see(life as u32, step));
    let mut comments = Comments::new();
    let topology = Topology::new(&history, &watch, &mut comments);
    let mut images = images::images(&history, &watch, &topology, &mut comments);
    if images.is_empty() {
        return Err(
            "no image was pulled in these journals: no agent was asked for a manifest whose layers became known; \
                    take the journals of a time when something was pulled"
                .into(),
        );
    }
    let mut faults = faults::faults(&history, &watch, &topology, &mut comments);
    let begins = images
        .iter()
        .map(|image| image.at)
        .chain(faults.iter().map(|fault| fault.at).filter(|at| at.0 > Duration::ZERO));
    let mut cluster = topology.cluster(&history, &watch, &mut comments);
    cluster.membership_lag = faults::membership_lag(&history, &watch, &faults);
    if cluster.membership_lag.is_some() {
        comments.push("membership-lag: the longest time from a death to a node's next view".into());
    }
    let quiet = begins.map(|at| at.0.as_micros() as i64).min().unwrap_or(0);
    if quiet > LONGEST_QUIET {
        let shift = Duration::from_micros((quiet - LEAD) as u64);
        comments.push(format!("the first {} s, in which nothing was pulled, are left out", shift.as_secs()));
        let earlier = |at: &mut Span| at.0 = at.0.saturating_sub(shift);
        images.iter_mut().for_each(|image| earlier(&mut image.at));
        faults.iter_mut().for_each(|fault| earlier(&mut fault.at));
    }
    let end = history.order.iter().map(|event| history.time(*event)).max().unwrap_or(0);
    let scenario = Scenario {
        name: "exported".into(),
        about: format!("What the journals of {} nodes tell of.", topology.recorded),
        seed: 1,
        limit: Span(SHORTEST_LIMIT.max(Duration::from_secs((end / 500_000).max(0) as u64))),
        heal_at: None,
        cluster,
        other_version: None,
        origin: topology::origin(&history, &watch, &mut comments),
        client: crate::scenario::ClientSpec::default(),
        knobs: topology::knobs(lives, &mut comments),
        images,
        faults,
        expect: Expectations::default(),
    };
    comments.push("containerd's own time-outs and its rate of unpacking are in no journal: the defaults".into());
    let mut text =
        String::from("# Made by 'longshore replay --export-scenario'. What it says and where that comes from:\n");
    for comment in &comments {
        text.push_str(&format!("# - {comment}\n"));
    }
    text.push('\n');
    text.push_str(&scenario.to_toml());
    // What is written has to be readable: a figure out of bounds is told here, not to whoever runs the file.
    Scenario::parse(&text).map_err(|error| format!("what these journals tell of is no scenario: {error}"))?;
    Ok(Exported { scenario, text })
}

/// A common time as a scenario says it.
fn span(micros: i64) -> Span {
    Span(Duration::from_micros(micros.max(0) as u64))
}

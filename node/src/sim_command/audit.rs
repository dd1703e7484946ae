//! `longshore sim audit`: the same scenario and seed, run twice.

use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use longshore_sim::audit::{Audited, audit, is_in_share};
use longshore_sim::fuzz::{Limits, draw};

use super::{parse_nodes, parse_seeds, read};

/// Seeds that are audited when neither files nor seeds are given.
const DEFAULT_SEEDS: Range<u64> = 0..50;

/// Arguments of `longshore sim audit`.
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// Scenario files (TOML); without any, random scenarios are drawn
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Seeds, the last one not included: of random scenarios (0..50 if not given), or instead of each file's own
    #[arg(long, value_name = "A..B", value_parser = parse_seeds)]
    seeds: Option<Range<u64>>,
    /// Audit this share of the seeds only
    #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100))]
    share: u32,
    /// Most nodes of a random scenario
    #[arg(long, value_name = "N", default_value_t = Limits::default().nodes, value_parser = parse_nodes)]
    nodes: usize,
    /// Print what came of each as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn main(args: &AuditArgs, print: impl Fn(&str)) -> Result<ExitCode, String> {
    let scenarios = args.files.iter().map(|file| read(file)).collect::<Result<Vec<_>, _>>()?;
    let mut all = Vec::new();
    let mut done = |audited: Audited| {
        if !args.json {
            print(&told(&audited));
        }
        all.push(audited);
    };
    let chosen = |seeds: Range<u64>| seeds.filter(|seed| is_in_share(*seed, args.share));
    match &args.seeds {
        None if !scenarios.is_empty() => {
            scenarios.iter().for_each(|scenario| done(audit(scenario, scenario.seed)));
        }
        seeds => {
            let limits = Limits { nodes: args.nodes, ..Limits::default() };
            for seed in chosen(seeds.clone().unwrap_or(DEFAULT_SEEDS)) {
                scenarios.iter().for_each(|scenario| done(audit(scenario, seed)));
                if scenarios.is_empty() {
                    done(audit(&draw(seed, limits), seed));
                }
            }
        }
    }
    let different = all.iter().filter(|audited| audited.difference.is_some()).count();
    if args.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&all).map_err(|error| error.to_string())?));
    } else {
        print(&format!("{} audited, {different} of them not the same twice\n", all.len()));
    }
    Ok(if different == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn told(audited: &Audited) -> String {
    let Audited { scenario, seed, events, digest, difference } = audited;
    let verdict = match difference {
        None => "the same twice".into(),
        Some(difference) => format!("NOT the same twice: {difference}"),
    };
    format!("{scenario}, seed {seed}: {events} events, digest {digest}, {verdict}\n")
}

#[cfg(test)]
mod tests {
    use longshore_sim::audit::{Difference, DifferentEvent};

    use super::*;

    #[test]
    fn a_difference_is_told_with_the_event_in_both_runs() {
        let event = Some(DifferentEvent { number: 1030, first: "at one time".into(), second: "at another".into() });
        let difference = Some(Difference { window_start: 1024, window_events: 1024, event });
        let text = told(&Audited { scenario: "s".into(), seed: 7, events: 5000, digest: "d".into(), difference });
        for part in ["seed 7", "1024 to 2048", "1030", "at one time", "at another"] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }
}

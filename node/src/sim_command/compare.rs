//! `longshore sim compare`: one scenario with several policies.

use std::path::PathBuf;

use clap::Args;
use longshore_sim::rivals::{Comparison, Outcome, Way, compare};

use super::read;

#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    /// Scenario file (TOML)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Random seed, instead of the file's
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Only these policies, with commas between them [default: all]
    ///
    /// direct: every node pulls from the registry; pull-through: one cache with one network card; whole-layer: Spegel's way;
    /// gantry: eight nodes pull each layer, the others get it from them and from each other; longshore: the agents as they
    /// are; optimum: the formula.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    policies: Vec<Way>,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the scenario and prints one table.
///
/// # Errors
/// In words, if the file is no scenario.
pub(super) fn run(args: &CompareArgs, print: impl Fn(&str)) -> Result<(), String> {
    let scenario = read(&args.file)?;
    let ways: &[Way] = if args.policies.is_empty() { &Way::ALL[..] } else { &args.policies };
    let comparison = compare(&scenario, args.seed.unwrap_or(scenario.seed), ways);
    if args.json {
        let text = serde_json::to_string_pretty(&comparison).map_err(|error| error.to_string())?;
        print(&format!("{text}\n"));
    } else {
        print(&table(&comparison));
    }
    Ok(())
}

const HEADS: [&str; 9] =
    ["policy", "median", "x T*", "slowest", "x T*", "registry copies", "peer copies", "messages", "wall s"];

fn table(comparison: &Comparison) -> String {
    let Comparison { scenario, seed, nodes, optimum_seconds, outcomes, left_out_faults } = comparison;
    let mut text = format!("{scenario}, seed {seed}: {nodes} nodes, T* {optimum_seconds:.3} s\n\n");
    let rows: Vec<[String; HEADS.len()]> =
        core::iter::once(HEADS.map(str::to_owned)).chain(outcomes.iter().map(cells)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEADS.len()).map(width).collect();
    for row in &rows {
        let mut line = format!("  {:<width$}", row[0], width = widths[0]);
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            line.push_str(&format!("  {cell:>width$}"));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let mut notes: Vec<String> = outcomes.iter().filter_map(troubles).collect();
    if !left_out_faults.is_empty() {
        notes.push(format!("rivals were spared: {}", left_out_faults.join(", ")));
    }
    for note in notes {
        text.push_str(&format!("  ! {note}\n"));
    }
    text
}

fn cells(outcome: &Outcome) -> [String; HEADS.len()] {
    let computed = outcome.policy == Way::Optimum;
    [
        outcome.policy.to_string(),
        format!("{:.1} s", outcome.median_seconds),
        format!("{:.2}", outcome.median_ratio),
        format!("{:.1} s", outcome.slowest_seconds),
        format!("{:.2}", outcome.slowest_ratio),
        format!("{:.3}", outcome.origin_copies),
        format!("{:.1}", outcome.peer_copies),
        outcome.messages.map_or_else(|| "-".into(), |messages| messages.to_string()),
        if computed { "-".into() } else { format!("{:.1}", outcome.wall_seconds) },
    ]
}

fn troubles(outcome: &Outcome) -> Option<String> {
    let Outcome { policy, unfinished, fallbacks, failed_pulls, .. } = outcome;
    let some = |count: u64, what: &str| (count > 0).then(|| format!("{count} {what}"));
    let all: Vec<String> = [
        some(*unfinished as u64, "pulls not done"),
        some(*fallbacks, "blobs from the registry because the mirror had none"),
        some(*failed_pulls, "pulls failed and were tried again"),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!all.is_empty()).then(|| format!("{policy}: {}", all.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_policy_is_refused_with_the_known_ones() {
        let error = "gantri".parse::<Way>().expect_err("a typo").to_string();
        assert!(error.contains("'gantri'") && error.contains("did you mean 'gantry'?"), "{error}");
        assert!("torrent".parse::<Way>().expect_err("not there").to_string().contains("whole-layer"));
    }
}

//! A comparison as a table.

use super::{Comparison, Outcome, Way};

const HEADS: [&str; 9] =
    ["policy", "median", "x T*", "slowest", "x T*", "registry copies", "peer copies", "messages", "wall s"];

impl Comparison {
    /// One line for each policy, and notes on what did not go well.
    #[must_use]
    pub fn table(&self) -> String {
        table(self)
    }
}

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

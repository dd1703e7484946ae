//! Trace hashes of a fixed set of scenarios: the same on every machine, in debug and in release.

use std::fmt::Write;

use crate::fuzz::{Limits, draw};
use crate::run::run;

/// So many random scenarios, of so many nodes at most. Random ones have all families of faults between them.
const SETS: [(Limits, std::ops::Range<u64>); 3] = [
    (Limits { nodes: 16, layer_bytes: 32 << 20 }, 70_000..70_032),
    (Limits { nodes: 60, layer_bytes: 64 << 20 }, 70_100..70_108),
    (Limits { nodes: 300, layer_bytes: 64 << 20 }, 70_200..70_202),
];

/// One line for each scenario: what was drawn, and the hash of its run.
#[must_use]
pub fn pins() -> String {
    let mut text = String::new();
    for (limits, seeds) in SETS {
        for seed in seeds {
            let summary = run(&draw(seed, limits), seed).summary;
            let (nodes, most, hash) = (summary.nodes, limits.nodes, summary.trace_hash);
            let line = writeln!(text, "seed {seed}, at most {most} nodes: {nodes} nodes, {hash}");
            line.expect("writing to a string does not fail");
        }
    }
    text
}

//! What an agent costs, measured in one run on one machine beside nginx and docker-registry.
//!
//! `make bench` runs it and prints the tables of BENCHMARKS.md. It needs Debian's docker-registry and nginx.

#![allow(dead_code, unused_imports, reason = "the harness is shared with the tests, and has more than this needs")]
#![allow(clippy::unwrap_used, reason = "a measurement that cannot be made ends the run")]

#[path = "../../tests/real"]
mod tests {
    pub(crate) mod harness;
}
use tests::harness;

mod cpu;
mod latency;
mod peers;
mod warm;

use harness::lab::Lab;

fn main() {
    // The tables need a root user only because the lab's other inhabitant, containerd, does.
    let Some(lab) = Lab::open() else { return };
    println!("{}", machine());
    println!("{}", warm::measure(&lab));
    println!("{}", latency::measure(&lab));
    println!("{}", peers::measure(&lab));
}

/// One line about this machine: figures mean nothing without it.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let count = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("Machine: {count} x {}, Linux {}.\n", model.trim_start_matches(['\t', ' ', ':']), kernel.trim())
}

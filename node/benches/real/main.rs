//! What an agent costs, measured in one run on one machine beside nginx and docker-registry.
//!
//! `make bench` runs it and prints the tables of BENCHMARKS.md; `make bench ARGS="warm peers"` only some of them. It needs Debian's docker-registry and nginx.

#![allow(dead_code, unused_imports, reason = "the harness is shared with the tests, and has more than this needs")]
#![allow(clippy::unwrap_used, reason = "a measurement that cannot be made ends the run")]

#[path = "../../tests/real"]
mod tests {
    pub(crate) mod harness;
}
use tests::harness;

mod cpu;
mod far;
mod latency;
mod memory;
mod peers;
mod spread;
mod warm;

use harness::lab::Lab;

/// A table's name and how it is measured.
type Table = (&'static str, fn(&Lab) -> String);

fn main() {
    // The tables need a root user only because the lab's other inhabitant, containerd, does.
    let Some(lab) = Lab::open() else { return };
    println!("{}", machine());
    let tables: [Table; 5] = [
        ("warm", warm::measure),
        ("latency", latency::measure),
        ("far", far::measure),
        ("peers", peers::measure),
        ("memory", memory::measure),
    ];
    // cargo adds flags of its own.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if let Some(unknown) = wanted.iter().find(|name| tables.iter().all(|(known, _)| known != name)) {
        let known: Vec<&str> = tables.iter().map(|(name, _)| *name).collect();
        eprintln!("there is no table '{unknown}'; there are {}", known.join(", "));
        std::process::exit(2);
    }
    for (name, measure) in tables {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            println!("{}", measure(&lab.room(name)));
        }
    }
}

/// Bytes that cannot be compressed, the same for the same seed.
fn random_bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let mut generator = <rand_chacha::ChaCha8Rng as rand_core::SeedableRng>::seed_from_u64(seed);
    rand_core::RngCore::fill_bytes(&mut generator, &mut bytes);
    bytes
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

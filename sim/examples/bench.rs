//! What the simulator costs, as a table: `cargo run --release --example bench -- [NAMES...]`; without names all but the
//! largest. Run it from the root of the project; `make bench-sim` does.

use std::process::ExitCode;
use std::time::Duration;

use longshore_sim::fuzz::{Limits, try_seed};
use longshore_sim::run::run;
use longshore_sim::scenario::Scenario;
use longshore_sim::stopwatch::Stopwatch;

/// Random scenarios of one size are tried for this much of the processor's time.
const FUZZ: Duration = Duration::from_secs(60);
/// Scenario files and their seeds, and whether they run when nothing is named.
const FILES: [(&str, u64, bool); 3] =
    [("rollout-1000", 7, true), ("steady-1000", 7, true), ("rollout-10000", 7, false)];
/// Most nodes of random scenarios.
const SIZES: [usize; 3] = [10, 100, 1000];

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let is_meant = |name: &str, usual: bool| if names.is_empty() { usual } else { names.iter().any(|one| one == name) };
    println!(
        "| what | CPU seconds | wall seconds | events | node-hours per CPU second | peak memory of all so far, MB |"
    );
    println!("|---|---|---|---|---|---|");
    for (name, seed, usual) in FILES {
        if is_meant(name, usual)
            && let Err(problem) = file(name, seed)
        {
            eprintln!("{name}: {problem}");
            return ExitCode::FAILURE;
        }
    }
    let sizes: Vec<_> = SIZES.into_iter().filter(|nodes| is_meant(&format!("fuzz-{nodes}"), true)).collect();
    if !sizes.is_empty() {
        println!("\n| random scenarios of up to | tried | CPU seconds | in a CPU minute | broke a rule |");
        println!("|---|---|---|---|---|");
    }
    for nodes in sizes {
        fuzz(nodes);
    }
    ExitCode::SUCCESS
}

fn file(name: &str, seed: u64) -> Result<(), String> {
    let text = std::fs::read_to_string(format!("scenarios/{name}.toml")).map_err(|error| error.to_string())?;
    let scenario = Scenario::parse(&text).map_err(|error| error.to_string())?;
    let watch = Stopwatch::start();
    let report = run(&scenario, seed);
    let (processor, wall) = (watch.processor().as_secs_f64(), watch.wall().as_secs_f64());
    let summary = &report.summary;
    let node_hours = summary.node_hours_per_wall_second * summary.wall_seconds / processor;
    println!(
        "| `{name}` | {processor:.1} | {wall:.1} | {} | {node_hours:.1} | {} |",
        summary.events,
        peak_megabytes().map_or("?".to_owned(), |peak| peak.to_string())
    );
    report.is_good().then_some(()).ok_or_else(|| format!("{:?} {:?}", report.violations, report.disappointments))
}

fn fuzz(nodes: usize) {
    let limits = Limits { nodes, ..Limits::default() };
    let watch = Stopwatch::start();
    let (mut tried, mut broke) = (0_u64, 0_u64);
    while watch.processor() < FUZZ {
        broke += u64::from(try_seed(tried, limits).is_err());
        tried += 1;
    }
    let seconds = watch.processor().as_secs_f64();
    println!("| {nodes} nodes | {tried} | {seconds:.1} | {:.0} | {broke} |", tried as f64 * 60.0 / seconds);
}

/// The most memory that this process had, in MB (Linux).
fn peak_megabytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kibibytes| kibibytes / 1024)
}

//! Runs scenario files and prints one line each: `cargo run --release --example run -- FILE...`.

use longshore_sim::run::run;
use longshore_sim::scenario::Scenario;

fn main() {
    for file in std::env::args().skip(1) {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        match Scenario::parse(&text) {
            Ok(scenario) => {
                let report = run(&scenario, scenario.seed);
                let s = &report.summary;
                println!(
                    "{:<22} {} median {:.3} slowest {:.3} copies {:.3} unfinished {} fallbacks {} failed {} events {} virtual {:.1} wall {:.1} {:?} {:?}",
                    s.scenario,
                    s.trace_hash,
                    s.median_ratio,
                    s.slowest_ratio,
                    s.origin_copies,
                    s.unfinished,
                    s.fallbacks,
                    s.failed_pulls,
                    s.events,
                    s.virtual_seconds,
                    s.wall_seconds,
                    report.disappointments,
                    report.violations.first()
                );
            }
            Err(error) => println!("{file}: {error}"),
        }
    }
}

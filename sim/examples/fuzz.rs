//! Tries random scenarios: `cargo run --release --example fuzz -- FROM TO`.

use longshore_sim::fuzz::{Limits, shrink::shrink, try_seed};

fn main() {
    let arguments: Vec<u64> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let (from, to) = (arguments.first().copied().unwrap_or(0), arguments.get(1).copied().unwrap_or(100));
    std::panic::set_hook(Box::new(|_| {}));
    let wall = std::time::Instant::now();
    let mut found = 0;
    for seed in from..to {
        if let Err(broken) = try_seed(seed, Limits::default()) {
            found += 1;
            println!(
                "seed {seed}: {} nodes {} faults: {}",
                broken.scenario.cluster.nodes,
                broken.scenario.faults.len(),
                broken.violations[0]
            );
            if std::env::var_os("LINES").is_some() {
                for line in broken.report.iter().flat_map(|report| &report.last_lines) {
                    println!("{line}");
                }
            }
            if arguments.get(2).is_some() {
                let small = shrink(*broken, std::time::Duration::from_secs(arguments[2]));
                println!("{}\n{}", small.violations[0], small.scenario.to_toml());
            }
        }
    }
    println!("{} seeds, {found} broken, {:.1} s", to - from, wall.elapsed().as_secs_f64());
}

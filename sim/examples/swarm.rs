//! Prints how near a cold pull comes to the optimum: `cargo run --release --example swarm -- NODES MIB [SEED [LAYERS]]`.

use std::time::Duration;

use longshore_sim::world::{Options, PullState, World};

fn main() {
    let arguments: Vec<u64> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let nodes = arguments.first().copied().unwrap_or(50) as usize;
    let size = arguments.get(1).copied().unwrap_or(256) * 1024 * 1024;
    let seed = arguments.get(2).copied().unwrap_or(1);
    let wall = std::time::Instant::now();
    let mut world = World::new(Options { nodes, seed, ..Options::default() });
    let layers = arguments.get(3).copied().unwrap_or(1);
    let image = world.publish(&vec![size / layers; layers as usize]);
    for node in world.node_indices() {
        world.pull(node, &image, Duration::ZERO);
    }
    world.run_until(Duration::from_secs(600), World::all_done);
    let mut times: Vec<f64> = world
        .node_indices()
        .filter_map(|node| match world.pull_state(node) {
            PullState::Done(took) => Some(took.as_secs_f64()),
            _ => None,
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let pieces = longshore_core::piece::Geometry::of_blob(size).pieces();
    let optimum = size as f64 / world.options.node_rate as f64 * (1.0 + f64::from(nodes.ilog2()) / f64::from(pieces));
    println!(
        "nodes {nodes} pieces {pieces} done {} median {:.3} slowest {:.3} (ratios to the optimum) copies {:.3} events {} wall {:.1} s violations {}",
        times.len(),
        times.get(times.len() / 2).copied().unwrap_or(0.0) / optimum,
        times.last().copied().unwrap_or(0.0) / optimum,
        world.origin.sent_bytes() as f64 / image.bytes() as f64,
        world.events,
        wall.elapsed().as_secs_f64(),
        world.violations.len()
    );
}

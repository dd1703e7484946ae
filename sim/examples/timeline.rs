//! Prints what moved in each tenth of a second of a cold pull: `cargo run --release --example timeline -- NODES MIB`.

use std::time::Duration;

use longshore_sim::world::{Options, World};

fn main() {
    let arguments: Vec<u64> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let nodes = arguments.first().copied().unwrap_or(8) as usize;
    let size = arguments.get(1).copied().unwrap_or(256) * 1024 * 1024;
    let mut world = World::new(Options { nodes, ..Options::default() });
    let image = world.publish(&[size]);
    for node in world.node_indices() {
        world.pull(node, &image, Duration::ZERO);
    }
    let mut last = (0, 0);
    for _ in 0..100 {
        world.run_for(Duration::from_millis(100));
        let now = (world.origin.sent_bytes(), world.total(|counters| counters.peer_bytes));
        let line = world.node_indices().filter_map(|node| {
            let status = world.agent(node)?.status();
            let flight = status.flights.iter().max_by_key(|flight| flight.size)?;
            Some(format!("{}/{}{}", flight.pieces, flight.released_bytes >> 20, &flight.role[..1]))
        });
        println!(
            "{:>7.1} origin {:>6.1} MB peers {:>7.1} MB busy {} | {}",
            world.now().as_micros() as f64 / 1e6,
            (now.0 - last.0) as f64 / 1e6,
            (now.1 - last.1) as f64 / 1e6,
            world.total(|counters| counters.pieces_busy),
            line.take(8).collect::<Vec<_>>().join(" ")
        );
        last = now;
        if world.all_done() {
            break;
        }
    }
}

//! Says where the time of a cold pull goes: `cargo run --release --example lost_time -- NODES MIB [SEED [STEP_MS]]`.
//!
//! For each step of time: the share of what the origin, and all nodes together, could have sent in it; nodes that have not
//! got a piece yet; the rarest and the median piece's number of holders; how far apart the nodes are; refusals and messages.

use std::time::Duration;

use longshore_sim::world::{Options, PullState, World};

fn main() {
    let arguments: Vec<u64> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let nodes = arguments.first().copied().unwrap_or(100) as usize;
    let size = arguments.get(1).copied().unwrap_or(256) * 1024 * 1024;
    let seed = arguments.get(2).copied().unwrap_or(1);
    let step = Duration::from_millis(arguments.get(3).copied().unwrap_or(100));
    let mut world = World::new(Options { nodes, seed, ..Options::default() });
    let image = world.publish(&[size]);
    let layer = image.children[1].digest;
    for node in world.node_indices() {
        world.pull(node, &image, Duration::ZERO);
    }
    let per_step = world.options.node_rate as f64 * step.as_secs_f64();
    let (mut origin, mut peers, mut busy, mut messages) = (0, 0, 0, 0);
    println!("     at | origin   nodes | none yet  least median   most | refusals messages");
    while !world.all_done() && world.now().as_micros() < 60_000_000 {
        world.run_for(step);
        let sent = world.origin.sent_bytes();
        let received = world.total(|counters| counters.peer_bytes);
        let refused = world.total(|counters| counters.pieces_busy);
        let mut pieces: Vec<u32> = world
            .node_indices()
            .filter_map(|node| {
                let status = world.agent(node)?.status();
                let flight = status.flights.iter().find(|flight| flight.digest == layer);
                Some(match flight {
                    Some(flight) => flight.pieces,
                    None if world.has(node, &layer) => u32::MAX,
                    None => 0,
                })
            })
            .collect();
        pieces.sort_unstable();
        println!(
            "{:>7.3} | {:>5.1} % {:>5.1} % | {:>8} {:>6} {:>6} {:>6} | {:>8} {:>8}",
            world.now().as_micros() as f64 / 1e6,
            (sent - origin) as f64 * 100.0 / per_step,
            (received - peers) as f64 * 100.0 / per_step / nodes as f64,
            pieces.iter().filter(|pieces| **pieces == 0).count(),
            pieces.first().map_or(0, |pieces| *pieces as i32),
            pieces.get(nodes / 2).map_or(0, |pieces| *pieces as i32),
            pieces.last().map_or(0, |pieces| *pieces as i32),
            refused - busy,
            world.messages - messages,
        );
        (origin, peers, busy, messages) = (sent, received, refused, world.messages);
    }
    let mut times: Vec<f64> = world
        .node_indices()
        .filter_map(|node| match world.pull_state(node) {
            PullState::Done(took) => Some(took.as_secs_f64()),
            _ => None,
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let optimum =
        size as f64 / world.options.node_rate as f64 * (1.0 + (nodes as f64).log2() / f64::from(image.pieces()));
    let at = |share: usize| times.get((times.len().max(1) - 1) * share / 100).copied().unwrap_or(0.0) / optimum;
    println!(
        "optimum {optimum:.3} s; ratios: median {:.3}, 90 % {:.3}, 99 % {:.3}, slowest {:.3}; messages by kind {:?} {:?}",
        at(50),
        at(90),
        at(99),
        at(100),
        longshore_sim::world::MESSAGE_KINDS,
        world.messages_by_kind
    );
}

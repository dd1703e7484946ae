//! Checked at the end of a run in which nothing was wrong.

use core::time::Duration;

use longshore_core::piece::{Geometry, round_trips};

use super::Invariant;
use crate::scenario::Scenario;
use crate::world::World;

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "in-time",
    sentence: "Where nothing is wrong, a pull takes no more than twice what its links need for the bytes, sixteen round trips (and four for each that a sender of a piece waits for its receiver) and half a second.",
    source: "classic (a mirror that makes pulls slower than none would)",
};

/// So many times the optimum for all images together: others are pulled at the same time, and the optimum knows no protocol. (330
/// random clusters of up to 60 nodes: none took more than 1.95 times the sum of the optimum, five round trips and 0.1 s.)
const TIMES: f64 = 2.0;
/// So many round trips to the registry and to peers: until the manifest is here, and until as much is on its way as the way holds. (One of
/// 2,500 random scenarios took more than twelve.)
const ROUND_TRIPS: u32 = 16;
/// Pieces that go from node to node one after the other, until the last one has it.
const HOPS: u32 = 4;
/// For what waits on purpose: a node that leads collects, news are told together.
const WAITS: Duration = Duration::from_millis(500);

/// Looks at what each pull has taken.
pub fn check(world: &mut World, scenario: &Scenario, optimum: f64) {
    let cluster = &scenario.cluster;
    let zones = if cluster.zones > 1 { cluster.cross_zone_latency.0 } else { Duration::ZERO };
    let between = cluster.latency.0 * 2 + zones + cluster.cross_rack_latency.0;
    let round_trip = (between + scenario.origin.latency.0) * 2;
    let layers = scenario.images.iter().flat_map(|image| &image.layers);
    let windows = layers.map(|size| round_trips(Geometry::of_blob(size.0).piece_bytes())).max().unwrap_or(0);
    let most = Duration::from_secs_f64(optimum * TIMES) + round_trip * (ROUND_TRIPS + HOPS * windows) + WAITS;
    let late: Vec<_> = world
        .finished_pulls
        .iter()
        .filter(|pull| pull.delivered > most)
        .map(|pull| (pull.node, pull.delivered))
        .collect();
    for (node, took) in late {
        let detail =
            format!("a pull took {took:?}; {most:?} would do for {optimum:.3} s of bytes and ways of {round_trip:?}");
        world.violate(&RULE, node, &detail);
    }
}

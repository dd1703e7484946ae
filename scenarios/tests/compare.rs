//! Rivals side by side on smaller versions of some scenarios: the tables are snapshots. What Longshore does is in the
//! snapshots of the scenarios themselves.

use std::path::PathBuf;

use longshore_sim::rivals::{Comparison, Way, compare};
use longshore_sim::scenario::Scenario;
use longshore_sim::scenario::units::Bytes;

fn compared(name: &str, nodes: usize, layer: u64, ways: &[Way]) -> Comparison {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("{name}.toml"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut scenario = Scenario::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    scenario.cluster.nodes = scenario.cluster.nodes.min(nodes);
    for image in &mut scenario.images {
        image.layers.iter_mut().for_each(|size| *size = Bytes(size.0.min(layer)));
    }
    let mut comparison = compare(&scenario, scenario.seed, ways);
    comparison.outcomes.iter_mut().for_each(|outcome| outcome.wall_seconds = 0.0);
    comparison
}

const RIVALS: [Way; 5] = [Way::Direct, Way::PullThrough, Way::WholeLayer, Way::Gantry, Way::Optimum];

macro_rules! tables {
    ($($test:ident $name:literal $nodes:literal $layer:expr,)*) => {
        $(
            #[test]
            fn $test() {
                insta::assert_snapshot!(compared($name, $nodes, $layer, &RIVALS).table());
            }
        )*
    };
}

tables! {
    rollout_1000 "rollout-1000" 100 256 << 20,
    rollout_1000_40gib "rollout-1000-40gib" 100 16 << 20,
    gantry_benchmark "gantry-benchmark" 100 16 << 20,
    cross_zone "cross-zone" 90 128 << 20,
    five_percent_die "five-percent-die" 100 256 << 20,
    small_cluster_3 "small-cluster-3" 3 64 << 20,
}

#[test]
fn of_all_that_are_real_longshore_is_the_nearest_to_the_optimum() {
    let comparison = compared("rollout-1000", 100, 64 << 20, &Way::ALL);
    let of = |way: Way| comparison.outcomes.iter().find(|outcome| outcome.policy == way).expect("all were asked for");
    let longshore = of(Way::Longshore);
    for way in [Way::Direct, Way::PullThrough, Way::WholeLayer, Way::Gantry] {
        assert!(of(way).slowest_ratio > 2.0 * longshore.slowest_ratio, "{}", comparison.table());
        assert!(of(way).origin_copies >= 0.99 * longshore.origin_copies, "{}", comparison.table());
    }
    assert_eq!(longshore.unfinished, 0);
}

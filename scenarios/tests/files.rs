//! Every scenario file, under its own seed: what came of it is a snapshot. Large ones run in a smaller version, so that a
//! debug build is done with all of them in a minute; `longshore sim run` runs them as they are.

use std::path::{Path, PathBuf};

use longshore_sim::run::{Summary, run, run_strictly};
use longshore_sim::scenario::Scenario;
use longshore_sim::scenario::units::Bytes;

/// Most nodes in a test.
const MAX_NODES: usize = 100;
/// Most bytes of an image in a test.
const MAX_BYTES: u64 = 256 << 20;

fn scenario(name: &str) -> Scenario {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("{name}.toml"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let scenario = Scenario::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(scenario.name, name, "a scenario is named as its file");
    scenario
}

fn scaled(mut scenario: Scenario) -> Scenario {
    scenario.cluster.nodes = scenario.cluster.nodes.min(MAX_NODES);
    for image in &mut scenario.images {
        let bytes: u64 = image.layers.iter().map(|layer| layer.0).sum();
        let divisor = bytes.div_ceil(MAX_BYTES);
        image.layers.iter_mut().for_each(|layer| *layer = Bytes(layer.0 / divisor));
    }
    scenario
}

/// What a snapshot keeps: not the wall time, and not the hash of every message.
fn lasting(summary: &Summary) -> String {
    format!(
        "nodes {}, pulls {} done and {} not\nmedian {:.2}, slowest {:.2} times the optimum of {} s\n\
         {:.2} copies from the registry, {:.2} between zones\n{} fall-backs, {} pulls tried again\n{} broken rules",
        summary.nodes,
        summary.finished,
        summary.unfinished,
        summary.median_ratio,
        summary.slowest_ratio,
        summary.optimum_seconds,
        summary.origin_copies,
        summary.cross_zone_copies,
        summary.fallbacks,
        summary.failed_pulls,
        summary.violations
    )
}

fn check(name: &str) {
    let scenario = scaled(scenario(name));
    let report = run(&scenario, scenario.seed);
    insta::assert_snapshot!(name, lasting(&report.summary));
    assert_eq!(report.violations, Vec::<String>::new(), "{name}");
    assert_eq!(report.disappointments, Vec::<String>::new(), "{name}");
}

macro_rules! scenarios {
    ($($test:ident $name:literal,)*) => {
        $(
            #[test]
            fn $test() {
                check($name);
            }
        )*

        #[test]
        fn no_scenario_file_goes_untested() {
            let tested = [$($name),*];
            for entry in std::fs::read_dir(env!("CARGO_MANIFEST_DIR")).expect("the directory of this crate") {
                let path = entry.expect("a file of this crate").path();
                let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
                if path.extension() == Some("toml".as_ref()) && name != "Cargo" {
                    assert!(tested.contains(&name.as_str()), "{name}.toml has no test");
                }
            }
        }
    };
}

scenarios! {
    rollout_1000 "rollout-1000",
    rollout_1000_40gib "rollout-1000-40gib",
    gantry_benchmark "gantry-benchmark",
    rollout_10000 "rollout-10000",
    steady_1000 "steady-1000",
    partition_1000 "partition-1000",
    informer_divergence "informer-divergence",
    tracker_death "tracker-death",
    zone_loss "zone-loss",
    five_percent_die "five-percent-die",
    best_are_gone "best-are-gone",
    origin_was_corrupt "origin-was-corrupt",
    origin_outage "origin-outage",
    origin_slow "origin-slow",
    far_registry "far-registry",
    far_registry_alone "far-registry-alone",
    far_peers "far-peers",
    origin_rate_limited "origin-rate-limited",
    corrupt_peer "corrupt-peer",
    half_truth "half-truth",
    many_layers "many-layers",
    join_storm "join-storm",
    rolling_update "rolling-update",
    cross_zone "cross-zone",
    small_cluster_1 "small-cluster-1",
    small_cluster_2 "small-cluster-2",
    small_cluster_3 "small-cluster-3",
    no_peers "no-peers",
    private_image "private-image",
    containerd_impatient "containerd-impatient",
}

#[test]
fn what_was_once_found_is_not_found_again() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("found");
    let mut files: Vec<_> =
        std::fs::read_dir(directory).expect("scenarios/found").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a readable file");
        let scenario = Scenario::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        // As the hunt does: some rules only it looks at.
        let report = run_strictly(&scenario, scenario.seed, u64::MAX);
        assert_eq!(report.violations, Vec::<String>::new(), "{}", file.display());
        assert_eq!(report.disappointments, Vec::<String>::new(), "{}", file.display());
    }
}

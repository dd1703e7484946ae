//! Random scenarios under fixed seeds, and what must be true of the fuzzer itself.

use longshore_sim::audit::{audit, is_in_share};
use longshore_sim::fuzz::{Limits, draw, try_scenario};
use longshore_sim::run::run;
use longshore_sim::scenario::Scenario;

const SMALL: Limits = Limits { nodes: 10, layer_bytes: 32 << 20 };
const MIDDLE: Limits = Limits { nodes: 100, layer_bytes: 32 << 20 };
const LARGE: Limits = Limits { nodes: 1000, layer_bytes: 16 << 20 };
/// So many of the seeds are run twice and compared, in percent.
const AUDITED: u32 = 5;

/// Open findings: seeds that are known to break a rule. Whoever mends one takes it off the list.
const OPEN: &[(u64, &str)] = &[
    (10_103, "moves-on"),
    (10_145, "asked-politely"),
    (20_018, "asked-politely"),
    (20_125, "no-leaks"),
    (20_146, "bounded-messages"),
    (20_208, "no-leaks"),
    (20_238, "moves-on"),
    (30_045, "no-leaks"),
    (30_260, "no-leaks"),
    (40_019, "no-leaks"),
    (40_023, "moves-on"),
    (50_018, "no-leaks"),
    (50_042, "asked-politely"),
    (50_046, "no-leaks"),
    (50_057, "no-leaks"),
    (60_022, "no-leaks"),
    (60_037, "no-leaks"),
    (80_002, "no-leaks"),
];

/// Tries what these seeds draw, if it has at least so many nodes. All of these together take two minutes of a core.
fn no_rule_is_broken(limits: Limits, least_nodes: usize, seeds: std::ops::Range<u64>) {
    let mut broken = Vec::new();
    for seed in seeds {
        let scenario = draw(seed, limits);
        if scenario.cluster.nodes < least_nodes {
            continue;
        }
        if is_in_share(seed, AUDITED)
            && let Some(difference) = audit(&scenario, seed).difference
        {
            broken.push(format!("seed {seed}, at most {} nodes: {difference}", limits.nodes));
        }
        let open = OPEN.iter().find(|(of, _)| *of == seed);
        match (try_scenario(scenario, seed), open) {
            (Ok(_), None) => {}
            (Err(found), Some((_, rule))) if found.violations.iter().any(|broken| broken.starts_with(rule)) => {}
            (Ok(_), Some((_, rule))) => broken.push(format!("seed {seed} breaks {rule} no more: take it off the list")),
            (Err(found), _) => {
                broken.push(format!("seed {seed}, at most {} nodes: {:?}", limits.nodes, found.violations.first()));
            }
        }
    }
    assert_eq!(broken, Vec::<String>::new());
}

macro_rules! random_scenarios_break_no_rule {
    ($($test:ident: $limits:ident, at least $least:literal nodes, $seeds:expr;)*) => {
        $(
            #[test]
            fn $test() {
                no_rule_is_broken($limits, $least, $seeds);
            }
        )*
    };
}

// Each test is a process of its own, so that two cores have something to do.
random_scenarios_break_no_rule! {
    small_clusters_1: SMALL, at least 1 nodes, 10_000..10_300;
    small_clusters_2: SMALL, at least 1 nodes, 20_000..20_300;
    small_clusters_3: SMALL, at least 1 nodes, 30_000..30_300;
    middling_clusters_1: MIDDLE, at least 11 nodes, 40_000..40_060;
    middling_clusters_2: MIDDLE, at least 11 nodes, 50_000..50_060;
    middling_clusters_3: MIDDLE, at least 11 nodes, 60_000..60_060;
    large_clusters_1: LARGE, at least 300 nodes, 70_000..70_008;
    large_clusters_2: LARGE, at least 300 nodes, 80_000..80_008;
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [3, 14, 15, 92] {
        let scenario = draw(seed, SMALL);
        let (first, second) = (run(&scenario, seed).summary, run(&scenario, seed).summary);
        assert_eq!(first.trace_hash, second.trace_hash, "seed {seed}");
        assert_eq!(first.events, second.events, "seed {seed}");
        assert_ne!(first.trace_hash, run(&scenario, seed + 1).summary.trace_hash);
    }
}

#[test]
fn what_is_drawn_can_be_written_and_run_again() {
    for seed in 0..200 {
        let scenario = draw(seed, Limits::default());
        assert_eq!(Scenario::parse(&scenario.to_toml()), Ok(scenario), "seed {seed}");
    }
}

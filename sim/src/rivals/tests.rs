//! Small clusters whose times one can work out by hand.

use super::*;

fn scenario(text: &str) -> Scenario {
    Scenario::parse(&format!("name = 'x'\n{text}")).expect("a scenario")
}

fn only(scenario: &Scenario, way: Way) -> Outcome {
    outcome(scenario, 1, way)
}

/// Of `expected`, within a part in `parts`.
#[track_caller]
fn near(found: f64, expected: f64, parts: f64) {
    assert!((found - expected).abs() <= expected / parts, "{found} is not near {expected}");
}

const TEN_NODES: &str = "[cluster]\nnodes = 10\nnode-rate = '100MB/s'\n[origin]\nrate = '100MB/s'\n";

#[test]
fn direct_takes_as_long_as_the_registry_needs_for_all_copies() {
    let outcome = only(&scenario(&format!("{TEN_NODES}[[images]]\nlayers = ['100MB']\n")), Way::Direct);
    near(outcome.slowest_seconds, 10.0, 100.0);
    near(outcome.origin_copies, 10.0, 1000.0);
    assert_eq!((outcome.peer_copies, outcome.messages, outcome.unfinished), (0.0, Some(0), 0));
}

#[test]
fn direct_is_no_faster_than_a_connection_of_each() {
    let limited =
        TEN_NODES.replace("[origin]\nrate = '100MB/s'", "[origin]\nrate = '10GB/s'\nconnection-rate = '5MB/s'");
    let one_layer = only(&scenario(&format!("{limited}[[images]]\nlayers = ['100MB']\n")), Way::Direct);
    near(one_layer.slowest_seconds, 20.0, 50.0);
    // Three at a time, so six layers take as long as two.
    let six = format!("{limited}[[images]]\nlayers = ['50MB', '50MB', '50MB', '50MB', '50MB', '50MB']\n");
    near(only(&scenario(&six), Way::Direct).slowest_seconds, 20.0, 50.0);
}

#[test]
fn a_cache_is_bound_by_its_card_and_asks_the_registry_once() {
    let fast = TEN_NODES.replace("[origin]\nrate = '100MB/s'", "[origin]\nrate = '10GB/s'");
    let outcome = only(&scenario(&format!("{fast}[[images]]\nlayers = ['50MB', '50MB']\n")), Way::PullThrough);
    near(outcome.slowest_seconds, 10.0, 50.0);
    near(outcome.origin_copies, 1.0, 1000.0);
    near(outcome.peer_copies, 10.0, 1000.0);
    assert_eq!(outcome.fallbacks, 0);
}

#[test]
fn a_cache_passes_nothing_on_before_it_has_come() {
    let slow = TEN_NODES.replace("[origin]\nrate = '100MB/s'", "[origin]\nrate = '5MB/s'");
    let outcome = only(&scenario(&format!("{slow}[[images]]\nlayers = ['100MB']\n")), Way::PullThrough);
    near(outcome.slowest_seconds, 20.0, 50.0);
}

#[test]
fn whole_layers_come_from_nodes_that_have_them_and_only_from_those() {
    let layers = "[[images]]\nlayers = ['100MB']\n";
    let at_once = only(&scenario(&format!("{TEN_NODES}{layers}")), Way::WholeLayer);
    near(at_once.origin_copies, 10.0, 1000.0);
    assert!(at_once.fallbacks >= 20, "manifest and layer, on each node: {at_once:?}");
    // One after the other, each is done before the next begins.
    let rolling = only(&scenario(&format!("{TEN_NODES}{layers}arrivals = 'rolling'\nover = '20s'\n")), Way::WholeLayer);
    near(rolling.origin_copies, 1.0, 1000.0);
    near(rolling.peer_copies, 9.0, 1000.0);
    near(rolling.slowest_seconds, 1.0, 20.0);
}

#[test]
fn a_second_generation_waits_for_all_of_the_first() {
    // The first node has the layer after 1 s and serves the other two at half its rate for 2 s: 1 + 2, not 1.
    let text =
        "[cluster]\nnodes = 3\nnode-rate = '100MB/s'\n[origin]\nrate = '100MB/s'\n[[images]]\nlayers = ['100MB']\n";
    let outcome = only(&scenario(text), Way::Gantry);
    near(outcome.origin_copies, 1.0, 1000.0);
    near(outcome.peer_copies, 2.0, 1000.0);
    // It looks for providers once a second.
    assert!((3.0..5.5).contains(&outcome.slowest_seconds), "{outcome:?}");
}

#[test]
fn eight_chairs_pull_each_blob() {
    let text = "[cluster]\nnodes = 100\nnode-rate = '100MB/s'\n[origin]\nrate = '1GB/s'\n\
                [[images]]\nlayers = ['20MB', '20MB', '20MB', '20MB']\n";
    let outcome = only(&scenario(text), Way::Gantry);
    near(outcome.origin_copies, 8.0, 1000.0);
    assert_eq!((outcome.finished, outcome.fallbacks), (100, 0));
}

#[test]
fn a_way_between_zones_bounds_what_crosses_it() {
    let text = "[cluster]\nnodes = 2\nzones = 2\nnode-rate = '100MB/s'\ncross-zone-rate = '10MB/s'\n\
                [origin]\nrate = '100MB/s'\n[[images]]\nlayers = ['100MB']\narrivals = 'rolling'\nover = '10s'\n";
    let outcome = only(&scenario(text), Way::WholeLayer);
    near(outcome.slowest_seconds, 10.0, 20.0);
    near(outcome.cross_zone_copies, 1.0, 1000.0);
}

#[test]
fn everybody_who_lives_is_done_although_nodes_die() {
    let faults = "[[images]]\nlayers = ['50MB', '50MB']\n[[faults]]\nat = '0s'\nover = '3s'\nwhat = 'kill'\npercent = 20\n\
                  [[faults]]\nat = '1s'\nfor = '10s'\nwhat = 'power-cut'\ncount = 2\n";
    let scenario = scenario(&format!("{}{faults}", TEN_NODES.replace("nodes = 10", "nodes = 40")));
    for way in [Way::Direct, Way::PullThrough, Way::WholeLayer, Way::Gantry] {
        let outcome = only(&scenario, way);
        assert_eq!(outcome.unfinished, 0, "{outcome:?}");
        assert!((32..=40).contains(&outcome.finished), "{outcome:?}");
    }
}

#[test]
fn a_registry_that_says_no_fails_pulls_and_they_are_tried_again() {
    let text = "[cluster]\nnodes = 10\n[origin]\nrequests-per-second = 5\n[[images]]\nlayers = ['1MB']\n";
    let outcome = only(&scenario(text), Way::Direct);
    assert_eq!((outcome.finished, outcome.unfinished), (10, 0));
    assert!(outcome.failed_pulls >= 5, "{outcome:?}");
    assert!(outcome.slowest_seconds >= 10.0, "the kubelet waits ten seconds: {outcome:?}");
}

#[test]
fn a_seed_decides_everything() {
    let scenario =
        scenario(&format!("{TEN_NODES}[[images]]\nlayers = ['20MB', '10MB']\narrivals = 'poisson'\nover = '2s'\n"));
    for way in [Way::Direct, Way::PullThrough, Way::WholeLayer, Way::Gantry] {
        let forget = |outcome: Outcome| Outcome { wall_seconds: 0.0, ..outcome };
        let (first, second) = (forget(outcome(&scenario, 3, way)), forget(outcome(&scenario, 3, way)));
        assert_eq!(first, second);
        assert_ne!(
            first.slowest_seconds,
            outcome(&scenario, 4, way).slowest_seconds,
            "{way}: the seed decides nothing"
        );
    }
}

#[test]
fn the_optimum_is_one_copy_and_everybody_at_once() {
    let outcome = only(&scenario(&format!("{TEN_NODES}[[images]]\nlayers = ['256MiB']\n")), Way::Optimum);
    // 256 pieces, and the configuration is one.
    near(outcome.slowest_seconds, 2.684_356_56 * (1.0 + 10_f64.log2() / 257.0), 1000.0);
    assert_eq!((outcome.origin_copies, outcome.peer_copies, outcome.finished), (1.0, 9.0, 10));
}

#[test]
fn faults_that_only_longshore_has_to_stand_are_named() {
    let text = "[[images]]\nlayers = ['1MB']\n[[faults]]\nat = '1s'\nwhat = 'partition'\nsides = 2\n\
                [[faults]]\nat = '1s'\nwhat = 'kill'\ncount = 1\n";
    let comparison = compare(&scenario(text), 1, &[Way::Optimum]);
    assert_eq!(comparison.left_out_faults, ["partition"]);
    assert!(comparison.table().contains("rivals were spared: partition"), "{}", comparison.table());
}

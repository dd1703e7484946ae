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

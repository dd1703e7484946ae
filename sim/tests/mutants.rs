//! The planted bugs are where the table says, and the rules that hunt them are in order.

use std::collections::BTreeSet;
use std::path::Path;

use longshore_core::mutants::{ENABLED, TABLE};
use longshore_sim::fuzz::{Found, Limits, draw, shrink::shrink_while, try_scenario};
use longshore_sim::invariants;
use longshore_sim::scenario::{FaultKind, FaultSpec, units::Span};

/// Names that stand in `mutant!("...")` below a directory.
fn used(directory: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).expect("the core's sources") {
        let path = entry.expect("an entry of the core's sources").path();
        if path.is_dir() {
            used(&path, names);
        } else if path.file_name().is_some_and(|name| name != "mutants.rs") {
            let text = std::fs::read_to_string(&path).expect("a source file");
            let calls = text.split("mutant!(\"").skip(1);
            names.extend(calls.filter_map(|rest| rest.split('"').next()).map(str::to_owned));
        }
    }
}

#[test]
fn every_planted_bug_is_in_the_code() {
    let mut names = BTreeSet::new();
    used(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/src"), &mut names);
    let listed: BTreeSet<_> = TABLE.iter().map(|mutant| mutant.name.to_owned()).collect();
    assert_eq!(names, listed);
    assert!(listed.len() >= 40);
}

#[test]
fn the_tests_run_without_bugs_planted() {
    assert_eq!(ENABLED, cfg!(longshore_mutants));
    const { assert!(!ENABLED, "RUSTFLAGS has --cfg longshore_mutants; that is for `make mutants`") };
}

#[test]
fn rules_have_names_of_their_own() {
    let names: BTreeSet<_> = invariants::TABLE.iter().map(|rule| rule.name).collect();
    assert_eq!(names.len(), invariants::TABLE.len());
    assert!(invariants::TABLE.iter().all(|rule| !rule.sentence.is_empty() && !rule.source.is_empty()));
}

/// A scenario that no agent can survive: all disks are full from the start, for longer than any pull may take.
fn hopeless() -> Found {
    let mut scenario = draw(7, Limits { nodes: 12, layer_bytes: 8 << 20 });
    scenario.cluster.nodes = scenario.cluster.nodes.max(4);
    scenario.origin.private = true;
    scenario.origin.credentials_per_million = 0;
    for number in 0..6 {
        let mut fault = FaultSpec::new(Span(std::time::Duration::from_secs(number)), FaultKind::DiskFull);
        fault.count = Some(2);
        scenario.faults.push(fault);
    }
    *try_scenario(scenario, 7).expect_err("nobody has a credential, so no pull can finish")
}

#[test]
fn what_is_shrunk_breaks_the_same_rule_and_is_smaller() {
    let found = hopeless();
    let steps = std::cell::Cell::new(0);
    let small = shrink_while(found.clone(), || {
        steps.set(steps.get() + 1);
        steps.get() < 200
    });
    assert_eq!(small.rule(), found.rule());
    assert_eq!(small.scenario.cluster.nodes, 1);
    assert!(small.scenario.faults.is_empty());
    assert_eq!(small.scenario.images.len(), 1);
    let again = try_scenario(small.scenario.clone(), small.seed).expect_err("it is still broken");
    assert_eq!(again.rule(), small.rule());
}

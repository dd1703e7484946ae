//! `longshore demo` as a visitor runs it: the goals of the first issue, as its own JSON reports them.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::harness::agent::PROGRAM;
use crate::harness::lab::Lab;
use crate::harness::process::Process;

/// Longest a demo may take here: a debug build on two shared cores.
const DEMO_PATIENCE: Duration = Duration::from_secs(150);

/// Runs the demo with its directory in the lab; the object that it prints.
fn demo(lab: &Lab, arguments: &[&str]) -> Value {
    let directory = lab.directory("demo");
    let errors = directory.with_extension("stderr");
    let mut all = vec!["demo", "--json", "--directory", directory.to_str().expect("temporary paths are text")];
    all.extend(arguments);
    let mut process =
        Process::spawn_split("longshore demo", Path::new(PROGRAM), &all, &lab.directory("out").join("json"), &errors);
    let status = process.wait(DEMO_PATIENCE);
    let printed = process.output();
    let complaint = std::fs::read_to_string(&errors).unwrap_or_default();
    assert!(status.success(), "the demo ended with {status}:\n{printed}\n{complaint}");
    let leftovers: Vec<_> = std::fs::read_dir(&directory).unwrap().collect();
    assert!(leftovers.is_empty(), "the demo left {leftovers:?}");
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("one JSON object on stdout: {error}\n{printed}"))
}

fn number(result: &Value, key: &str) -> f64 {
    result[key].as_f64().unwrap_or_else(|| panic!("no number {key} in {result}"))
}

#[test]
fn eight_agents_take_one_copy_out_of_the_registry() {
    let lab = Lab::without_parts();
    let result = demo(&lab, &["--nodes", "8", "--image-size", "64MiB", "--layers", "4"]);
    assert_eq!((number(&result, "nodes"), number(&result, "failed_nodes")), (8.0, 0.0), "{result}");
    assert_eq!(result["verified"], true, "{result}");
    assert!(number(&result, "image_bytes") >= 64.0 * 1024.0 * 1024.0, "{result}");
    assert!(number(&result, "origin_copies") <= 1.05, "{result}");
    // Eight copies arrived, and one came from the registry.
    assert!(number(&result, "peer_bytes") >= 6.9 * number(&result, "image_bytes"), "{result}");
    assert_eq!(number(&result, "fallbacks"), 0.0, "{result}");
    assert!(number(&result, "peak_memory_bytes") < 100e6, "{result}");
    assert!(number(&result, "median_seconds") <= number(&result, "slowest_seconds"), "{result}");
}

#[test]
fn with_two_of_eight_agents_killed_the_six_others_finish() {
    let lab = Lab::without_parts();
    let result = demo(&lab, &["--nodes", "8", "--image-size", "64MiB", "--layers", "4", "--kill", "2"]);
    assert_eq!(result["verified"], true, "{result}");
    assert_eq!((number(&result, "killed_nodes"), number(&result, "failed_nodes")), (2.0, 0.0), "{result}");
    assert!(number(&result, "origin_copies") <= 1.3, "{result}");
}

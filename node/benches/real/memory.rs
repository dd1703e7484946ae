//! What an agent keeps in memory: at full speed, and with nothing to do.

use std::path::Path;
use std::time::Duration;

use crate::harness::agent::{Cluster, PROGRAM, Settings};
use crate::harness::lab::Lab;
use crate::harness::process::Process;

/// Long enough for an agent to have done what it does at its start.
const IDLE: Duration = Duration::from_secs(10);
/// Longest that two agents may take for 2 GiB each.
const DEMO_PATIENCE: Duration = Duration::from_secs(300);

/// The table.
pub(crate) fn measure(lab: &Lab) -> String {
    let cluster = Cluster::start(lab, 3, &Settings::default());
    // Idleness has no event to wait for: it is what this measures.
    std::thread::sleep(IDLE);
    let idle = cluster.agents.iter().map(|agent| agent.peak_memory_bytes()).max().expect("there are three");
    drop(cluster);
    let rows = [
        ("idle, the largest of three, after 10 s".to_owned(), idle),
        row(lab, "256MiB", "4"),
        row(lab, "2GiB", "4"),
        row(lab, "2GiB", "1"),
    ];
    let mut table = "## Peak resident memory of an agent\n\n| agent | MB |\n|---|---|\n".to_owned();
    for (name, bytes) in rows {
        table.push_str(&format!("| {name} | {:.0} |\n", bytes as f64 / 1e6));
    }
    table
}

/// The larger peak of two agents that pull an image at once, at full speed.
fn row(lab: &Lab, size: &str, layers: &str) -> (String, u64) {
    let room = lab.room("memory");
    let directory = room.directory("demo");
    let directory = directory.to_str().expect("temporary paths are text");
    let arguments =
        ["demo", "--json", "--nodes", "2", "--image-size", size, "--layers", layers, "--directory", directory];
    let (output, errors) = (room.directory("out").join("json"), room.directory("out").join("stderr"));
    let mut process = Process::spawn_split("longshore demo", Path::new(PROGRAM), &arguments, &output, &errors);
    let status = process.wait(DEMO_PATIENCE);
    assert!(status.success(), "{status}: {}", std::fs::read_to_string(&errors).unwrap_or_default());
    let report: serde_json::Value = serde_json::from_str(&process.output()).expect("the demo prints JSON");
    let peak = report["peak_memory_bytes"].as_u64().expect("the report has the peak");
    (format!("pulling {size} in {layers} layers, the larger of two"), peak)
}

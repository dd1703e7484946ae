//! Simulated agents record what happens to them, as real ones do.

use longshore_core::journal::file::End;
use longshore_sim::replay::{Journal, replay};
use longshore_sim::run::{run, run_recorded};
use longshore_sim::scenario::Scenario;
use longshore_sim::world::recorder::Recorder;

use super::recorded;

const TEXT: &str = "
name = 'x'
cluster = { nodes = 5, clock-offset = '3s' }
images = [{ layers = ['40MiB', '9MiB'] }]
faults = [{ at = '150ms', for = '20s', what = 'kill', nodes = [3] }]
";

#[test]
fn a_run_with_journals_is_the_run_without_and_every_journal_replays() {
    let (report, files) = recorded(TEXT);
    let scenario = Scenario::parse(TEXT).unwrap();
    assert_eq!(run(&scenario, scenario.seed).summary.trace_hash, report.summary.trace_hash);
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    assert_eq!(names, ["node-00000", "node-00001", "node-00002", "node-00003", "node-00003-2", "node-00004"]);
    for (name, bytes) in &files {
        let journal = Journal::read(bytes).unwrap();
        // The one that was killed just stops.
        let end = if name == "node-00003" { None } else { Some(End::Closed) };
        assert_eq!((&journal.damage, &journal.end), (&None, &end), "{name}");
        let replayed = replay(&[journal], |_| {}).unwrap();
        assert_eq!(replayed.divergence, None, "{name}");
        assert!(replayed.kinds["Transfer"] > 3, "{name}: {:?}", replayed.kinds);
    }
}

#[test]
fn a_journal_that_cannot_be_written_is_told_and_the_run_is_given_up() {
    let scenario = Scenario::parse(TEXT).unwrap();
    let sink = |name: &str, _: &[u8]| match name {
        "node-00002" => Err(std::io::Error::other("no space left")),
        _ => Ok(()),
    };
    let error = run_recorded(&scenario, 1, Recorder::new(Box::new(sink)), false).unwrap_err();
    assert!(error.contains("node-00002") && error.contains("no space left"), "{error}");
}

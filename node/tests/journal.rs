//! Real agents record what happens to them; what they recorded replays without a difference.

// A helper that panics fails its test, as it should.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_longshore");

fn longshore(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).output().unwrap()
}

fn json(file: &Path) -> serde_json::Value {
    let output = longshore(&["replay", "--json", file.to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).unwrap()
}

/// Runs the demo with a journal in `directory`; the journals.
fn record(directory: &Path, more: &[&str]) -> Vec<PathBuf> {
    let setting = format!("journal_dir={}", directory.display());
    let size = ["demo", "--nodes", "3", "--layers", "2", "--json", "--set", &setting];
    let output = longshore(&[&size, more].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn agents_that_pull_an_image_and_one_that_is_killed_replay_without_a_difference() {
    let directory = tempfile::tempdir().unwrap();
    let files = record(directory.path(), &["--image-size", "96MiB", "--kill", "1"]);
    assert_eq!(files.len(), 3);
    let found: Vec<_> = files.iter().map(|file| json(file)).collect();
    let ended: Vec<_> = found.iter().filter(|it| it["end"] == "the agent ended").collect();
    assert_eq!(ended.len(), 2, "{found:?}");
    for replayed in &found {
        assert!(replayed["divergence"].is_null(), "{replayed}");
        // The one that was killed, too, was in the middle of it.
        assert!(replayed["kinds"]["Transfer"].as_u64().unwrap_or_default() > 10, "{replayed}");
    }
}

#[test]
fn a_recorded_agent_tells_its_story_and_the_causes() {
    let directory = tempfile::tempdir().unwrap();
    let files = record(directory.path(), &["--image-size", "24MiB"]);
    let file = files[0].to_str().unwrap();
    let text = |args: &[&str]| {
        let output = longshore(&[&["replay", file], args].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let story = text(&["--story"]);
    let line =
        |what: &str| story.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}:\n{story}"));
    assert!(line("Mirror 1 Get").contains("find providers"), "{story}");
    let committed = line("Committed");
    let (number, digest) = (committed.split_whitespace().next().unwrap(), committed.split_whitespace().nth(3).unwrap());
    let about = text(&["--digest", digest]);
    assert!(about.lines().count() < story.lines().count() && about.contains(committed), "{about}");
    let why = text(&["--why", number]);
    let chain: Vec<_> = why.lines().take_while(|line| !line.starts_with("agent")).collect();
    assert!(chain.len() > 4 && why.contains("^ ends the commit ordered at") && why.contains(committed), "{why}");
    assert!(text(&["--at", "0.5"]).contains("The agent after input"), "{story}");
    let nothing = longshore(&["replay", file, "--why", "99999999"]);
    assert_eq!(nothing.status.code(), Some(1));
}

#[test]
fn a_redacted_journal_of_a_real_agent_has_no_names_and_the_same_story() {
    let directory = tempfile::tempdir().unwrap();
    let files = record(directory.path(), &["--image-size", "24MiB", "--set", "zone=canary-zone"]);
    let redacted = directory.path().join("redacted");
    let output = longshore(&["replay", files[0].to_str().unwrap(), "--export-redacted", redacted.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (before, after) = (json(&files[0]), json(&redacted));
    assert_eq!(before["kinds"], after["kinds"]);
    assert_eq!((&before["outputs"], &after["redacted"]), (&after["outputs"], &true.into()));
    let names = ["canary-zone", "longshore/demo", "127.0.0.1"];
    let plain = |file: &Path| {
        let journal = longshore_sim::replay::Journal::read(&std::fs::read(file).unwrap()).unwrap();
        let mut bytes = format!("{:?}", journal.header).into_bytes();
        bytes.extend(journal.batches.iter().flat_map(|batch| batch.records.clone()));
        String::from_utf8_lossy(&bytes).into_owned()
    };
    for name in names {
        assert!(plain(&files[0]).contains(name), "{name} was not there to begin with");
        assert!(!plain(&redacted).contains(name), "{name} is in the redacted journal");
    }
}

#[test]
fn a_file_that_is_no_journal_and_a_damaged_one_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.journal");
    std::fs::write(&file, "hello").unwrap();
    let output = longshore(&["replay", file.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("x.journal") && text.contains("no journal"), "{text}");
    let empty = longshore(&["replay", tempfile::tempdir().unwrap().path().to_str().unwrap()]);
    assert!(!empty.status.success());
}

#[test]
fn an_agent_that_cannot_record_does_not_start_and_names_the_key() {
    let directory = tempfile::tempdir().unwrap();
    let ports = longshore::demo::ports::free(3).unwrap();
    let output = Command::new(PROGRAM)
        .args(["agent", "--journal", "/proc/longshore-journal", "--data-dir"])
        .arg(directory.path())
        .args(["--mirror-listen", &format!("127.0.0.1:{}", ports[0])])
        .args(["--status-listen", &format!("127.0.0.1:{}", ports[1])])
        .args(["--peer-listen", &format!("/ip4/127.0.0.1/tcp/{}", ports[2])])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("journal_dir"), "{text}");
}

const SCENARIO: &str = "
name = 'x'
cluster = { nodes = 6 }
images = [{ layers = ['24MiB'] }]
faults = [{ at = '100ms', for = '20s', what = 'kill', nodes = [3] }]
";

/// Standard output of a command that has to succeed.
fn text(args: &[&str]) -> String {
    let output = longshore(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn value(args: &[&str]) -> serde_json::Value {
    serde_json::from_str(&text(args)).unwrap()
}

#[test]
fn the_journals_of_a_simulated_cluster_are_told_as_one_story_and_run_again_as_a_scenario() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (file, journals, exported) = (path("x.toml"), path("journals"), path("exported.toml"));
    std::fs::write(&file, SCENARIO).unwrap();
    let before = value(&["sim", "run", &file, "--json"]);
    let recorded = value(&["sim", "run", &file, "--json", "--journal", &journals]);
    assert_eq!(before["trace_hash"], recorded["trace_hash"]);
    // Nothing is written over.
    assert!(!longshore(&["sim", "run", &file, "--journal", &journals]).status.success());

    let one = json(&directory.path().join("journals/node-00003.journal"));
    let all = value(&["replay", &journals, "--json"]);
    assert!(one["divergence"].is_null(), "{one}");
    let starts = all["starts"].as_array().unwrap();
    assert_eq!(starts.len(), 7, "{all}");
    let third = starts.iter().find(|start| start["label"] == "node-00003").unwrap();
    assert_eq!((&third["digest"], &third["inputs"]), (&one["digest"], &one["inputs"]));
    assert_eq!(
        (&all["messages"]["lost"], &all["contradictions"], &all["missing"]),
        (&0.into(), &0.into(), &serde_json::json!([]))
    );

    let story = text(&["replay", &journals, "--story"]);
    let committed = story.lines().rfind(|line| line.contains("Committed")).unwrap();
    let (event, digest) = (committed.split_whitespace().nth(1).unwrap(), committed.split_whitespace().nth(3).unwrap());
    let about = text(&["replay", &journals, "--digest", digest]);
    assert!(about.contains(committed) && about.lines().count() < story.lines().count(), "{about}");
    let peer = text(&["replay", &journals, "--peer", "node-00003"]);
    assert!(peer.contains("node-00003#2:0") && peer.lines().count() < story.lines().count(), "{peer}");
    let why = text(&["replay", &journals, "--why", event]);
    assert!(why.contains(committed) && why.contains("^ goes on from") && why.lines().count() > 6, "{why}");
    let at = text(&["replay", &journals, "--at", "0.3"]);
    assert!(at.contains("5 agents were alive then"), "{at}");
    let nothing = longshore(&["replay", &journals, "--why", "17"]);
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("NODE:NUMBER"));

    text(&["replay", &journals, "--export-scenario", &exported]);
    let again = value(&["sim", "run", &exported, "--json"]);
    for figure in ["nodes", "finished", "unfinished", "violations"] {
        assert_eq!(again[figure], before[figure], "{figure}: {}", std::fs::read_to_string(&exported).unwrap());
    }
}

#[test]
fn the_journals_of_real_agents_are_told_as_one_story_and_run_again_as_a_scenario() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (journals, redacted, exported) = (path("journals"), path("redacted"), path("exported.toml"));
    text(&[
        "demo",
        "--nodes",
        "4",
        "--layers",
        "2",
        "--image-size",
        "96MiB",
        "--kill",
        "1",
        "--json",
        "--journal",
        &journals,
    ]);
    let all = value(&["replay", &journals, "--json"]);
    let figure = |name: &str| all["messages"][name].as_u64().unwrap();
    assert_eq!((all["starts"].as_array().unwrap().len(), &all["missing"]), (4, &serde_json::json!([])), "{all}");
    assert!(figure("arrived") > 100 && figure("arrived") * 100 > figure("sent") * 97, "{all}");

    text(&["replay", &journals, "--export-redacted", &redacted]);
    let anonymous = value(&["replay", &redacted, "--json"]);
    assert_eq!((&anonymous["messages"], &anonymous["inputs"]), (&all["messages"], &all["inputs"]));

    text(&["replay", &journals, "--export-scenario", &exported]);
    let toml = std::fs::read_to_string(&exported).unwrap();
    let again = value(&["sim", "run", &exported, "--json"]);
    assert_eq!(
        (&again["nodes"], &again["unfinished"], &again["violations"]),
        (&4.into(), &0.into(), &0.into()),
        "{toml}"
    );
    let scenario = longshore_sim::scenario::Scenario::parse(&toml).unwrap();
    let bytes: u64 = scenario.images.iter().flat_map(|image| &image.layers).map(|layer| layer.0).sum();
    assert!((96 << 20..97 << 20).contains(&bytes), "{toml}");
    assert!(scenario.faults.iter().any(|fault| fault.what == longshore_sim::scenario::FaultKind::Kill), "{toml}");
}

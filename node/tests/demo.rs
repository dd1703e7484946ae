//! The program `longshore demo`, from outside.

// A helper that panics fails its test, as it should.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use longshore::demo::{registry::Registry, synthetic};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_longshore");

fn demo(directory: &Path, args: &[&str]) -> Output {
    Command::new(PROGRAM).arg("demo").arg("--directory").arg(directory).args(args).output().unwrap()
}

fn report(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text} {}", String::from_utf8_lossy(&output.stderr)))
}

/// What is left of a demo in its directory, and in the list of processes.
fn left_over(directory: &Path) -> Vec<String> {
    let mut found: Vec<String> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path().display().to_string()).collect();
    let needle = directory.display().to_string();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains("agent") && command.contains(&needle) {
            found.push(command);
        }
    }
    found
}

#[test]
fn every_node_gets_every_byte_and_nothing_is_left_behind() {
    let directory = tempfile::tempdir().unwrap();
    let output = demo(directory.path(), &["--nodes", "3", "--image-size", "8MiB", "--layers", "4", "--json"]);
    let report = report(&output);
    assert_eq!(output.status.code(), Some(0), "{report}");
    assert_eq!(report["nodes"], 3);
    assert_eq!(report["verified"], true, "{report}");
    assert_eq!((&report["failed_nodes"], &report["fallbacks"]), (&Value::from(0), &Value::from(0)), "{report}");
    let image = report["image_bytes"].as_u64().unwrap();
    assert!((8 << 20..9 << 20).contains(&image), "{report}");
    assert!(report["origin_bytes"].as_u64().unwrap() >= image, "{report}");
    assert!(report["slowest_seconds"].as_f64() >= report["median_seconds"].as_f64(), "{report}");
    assert!(report["peak_memory_bytes"].as_u64().unwrap() > 1 << 20, "{report}");
    assert_eq!(left_over(directory.path()), Vec::<String>::new());
}

#[test]
fn killed_nodes_are_counted_apart_and_the_others_finish() {
    let directory = tempfile::tempdir().unwrap();
    let output =
        demo(directory.path(), &["--nodes", "4", "--image-size", "16MiB", "--kill", "2", "--seed", "3", "--json"]);
    let report = report(&output);
    assert_eq!(output.status.code(), Some(0), "{report}");
    assert_eq!((&report["killed_nodes"], &report["failed_nodes"]), (&Value::from(2), &Value::from(0)), "{report}");
    assert_eq!(report["verified"], true, "{report}");
    assert_eq!(left_over(directory.path()), Vec::<String>::new());
}

#[test]
fn an_image_from_an_oci_layout_is_pulled() {
    let layout = tempfile::tempdir().unwrap();
    let image = synthetic::image(9, 1 << 20, 2);
    let blobs = layout.path().join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    for (digest, blob) in &image.blobs {
        std::fs::write(blobs.join(digest.hex()), blob.read(0, blob.size as usize).unwrap()).unwrap();
    }
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": image.root, "size": image.blobs[&image.root].size,
        "annotations": { "org.opencontainers.image.ref.name": "v1" },
    }]});
    std::fs::write(layout.path().join("index.json"), index.to_string()).unwrap();

    let directory = tempfile::tempdir().unwrap();
    let named = format!("{}:v1", layout.path().display());
    let report = report(&demo(directory.path(), &["--nodes", "2", "--image", &named, "--json"]));
    assert_eq!(report["verified"], true, "{report}");
    let total: u64 = image.blobs.values().map(|blob| blob.size).sum();
    assert_eq!(report["image_bytes"], total, "{report}");

    let output = demo(directory.path(), &["--image", &format!("{}:v2", layout.path().display())]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("with the tags v1"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_from_a_real_registry_is_pulled_by_its_tag() {
    let image = synthetic::image(4, 2 << 20, 2);
    let total: u64 = image.blobs.values().map(|blob| blob.size).sum();
    let registry = Registry::start(image).await.unwrap();
    let base = format!("http://{}/longshore/demo", registry.address());
    let (output, unknown) = tokio::task::spawn_blocking(move || {
        let directory = tempfile::tempdir().unwrap();
        let named = format!("{base}:seed-4");
        let output = demo(directory.path(), &["--nodes", "2", "--registry", &named, "--json"]);
        (output, demo(directory.path(), &["--registry", &format!("{base}:nothing")]))
    })
    .await
    .unwrap();
    let report = report(&output);
    assert_eq!((&report["verified"], &report["image_bytes"]), (&Value::from(true), &Value::from(total)), "{report}");
    // What the agents count is what the registry counts.
    assert_eq!(report["origin_bytes"], registry.sent_bytes(), "{report}");
    let text = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(!unknown.status.success() && text.contains("404"), "{text}");
}

#[test]
fn a_demo_that_is_interrupted_or_killed_takes_its_agents_with_it() {
    for (signal, code) in [(rustix::process::Signal::INT, Some(130)), (rustix::process::Signal::KILL, None)] {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(PROGRAM)
            .args(["demo", "--nodes", "2", "--image-size", "1GiB", "--directory"])
            .arg(directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = || left_over(directory.path()).iter().filter(|line| line.contains("--exit-on-stdin-eof")).count();
        wait_until(|| started() == 2);
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), code);
        wait_until(|| started() == 0);
        if code.is_some() {
            assert_eq!(left_over(directory.path()), Vec::<String>::new());
        }
    }
}

/// Looks at processes, which report nothing: there is no event to wait for.
fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "it did not come to pass within a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_cannot_be_is_refused_before_anything_starts() {
    let directory = tempfile::tempdir().unwrap();
    for (args, part) in [
        (&["--layers", "0"][..], "--layers 0: expected 1 to 127"),
        (&["--image-size", "1KiB"], "4 layers have at least 16KiB together"),
        (&["--image-size", "big"], "expected a size"),
        (&["--nodes", "2", "--kill", "2"], "at least one has to survive"),
        (&["--nodes", "0"], "expected 1 to 200"),
        (&["--nodes", "100", "--image-size", "1PiB"], "expected a size"),
        (&["--nodes", "100", "--image-size", "1TiB"], "expected at most"),
        (&["--registry", "quay.io"], "the repository is missing"),
        (&["--image", "/does/not/exist"], "expected an OCI layout"),
        (&["--set", "prefetch"], "expected KEY=VALUE"),
        (&["--set", "prefech=false"], "perhaps --prefetch"),
    ] {
        let output = demo(directory.path(), args);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(part), "{args:?}: {text}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
    assert_eq!(left_over(directory.path()), Vec::<String>::new());
}

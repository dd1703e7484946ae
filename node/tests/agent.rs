//! The program `longshore agent`, from outside: start, status, stop, and what it says when it cannot start.

// A helper that panics fails its test, as it should.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_longshore");

fn longshore(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A running agent; killed when the test ends, however it ends.
struct Agent {
    child: Child,
    status: String,
    log: BufReader<std::process::ChildStderr>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Agent {
    /// Starts an agent on ports of its own and waits until it says that it is ready.
    fn start(directory: &Path) -> Self {
        let ports = longshore::demo::ports::free(3).unwrap();
        let status = format!("127.0.0.1:{}", ports[1]);
        let mut child = Command::new(PROGRAM)
            .args(["agent", "--exit-on-stdin-eof", "--node-name", "tested"])
            .arg("--data-dir")
            .arg(directory)
            .args(["--mirror-listen", &format!("127.0.0.1:{}", ports[0])])
            .args(["--status-listen", &status])
            .args(["--peer-listen", &format!("/ip4/127.0.0.1/tcp/{}", ports[2])])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut lines = String::new();
        while !lines.contains("the agent is ready") {
            assert!(log.read_line(&mut lines).unwrap() > 0, "the agent ended early:\n{lines}");
        }
        Self { child, status, log }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, signal).unwrap();
    }

    /// Waits for the end: exit code and the rest of the log.
    fn end(&mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

#[test]
fn an_agent_shows_its_status_and_drains_on_sigterm() {
    let directory = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(directory.path());
    let page = longshore(&["status", "--address", &agent.status]);
    let text = String::from_utf8(page.stdout).unwrap();
    assert!(page.status.success() && text.starts_with("tested: ready"), "{text}");
    let identity = directory.path().join("identity");
    let printed = longshore(&["identity", "--file", identity.to_str().unwrap()]);
    let peer = String::from_utf8(printed.stdout).unwrap();
    assert!(peer.starts_with("12D3KooW") && text.contains(peer.trim()), "{peer} {text}");
    agent.signal(rustix::process::Signal::TERM);
    let (code, log) = agent.end();
    assert!(code == Some(0) && log.contains("SIGTERM") && log.contains("drained"), "{code:?} {log}");
}

#[test]
fn an_agent_ends_with_the_program_that_started_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(directory.path());
    drop(agent.child.stdin.take());
    let (code, log) = agent.end();
    assert!(code == Some(0) && log.contains("end of standard input"), "{code:?} {log}");
}

#[test]
fn a_taken_port_is_named_with_its_key_and_what_to_do() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().port();
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let keys = ["--status-listen", "--mirror-listen", "--peer-listen"];
    for (number, key) in keys.into_iter().enumerate() {
        let free = longshore::demo::ports::free(keys.len()).unwrap();
        let mut arguments = vec!["agent".to_owned(), "--data-dir".to_owned(), data.to_owned()];
        for (other, name) in keys.into_iter().enumerate() {
            let port = if other == number { taken } else { free[other] };
            let multiaddr = format!("/ip4/127.0.0.1/tcp/{port}");
            let address = if name == "--peer-listen" { multiaddr } else { format!("127.0.0.1:{port}") };
            arguments.extend([name.to_owned(), address]);
        }
        let output = longshore(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        let name = key.trim_start_matches('-').replace('-', "_");
        for part in [&taken.to_string(), &name, "another program"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

#[test]
fn a_data_directory_that_cannot_be_used_is_named_with_its_key() {
    let free = longshore::demo::ports::free(1).unwrap();
    let status = format!("127.0.0.1:{}", free[0]);
    let output = longshore(&["agent", "--data-dir", "/proc/longshore", "--status-listen", &status]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("/proc/longshore") && text.contains("data_dir"), "{text}");
}

#[test]
fn a_wrong_configuration_is_refused_with_every_problem() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("longshore.toml");
    std::fs::write(&file, "mirror_listn = '127.0.0.1:1'\nscope = 'galaxy'\n").unwrap();
    let file = file.to_str().unwrap();
    for command in ["agent", "config"] {
        let output = longshore(&[command, "--config", file, "--probe-width", "none"]);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        for part in ["longshore.toml:1", "perhaps mirror_listen", "longshore.toml:2: scope", "flag --probe-width"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    let missing = longshore(&["config", "--config", "/does/not/exist.toml"]);
    assert!(stderr(&missing).contains("/does/not/exist.toml"), "{}", stderr(&missing));
}

#[test]
fn the_environment_configures_and_config_says_so() {
    let output = Command::new(PROGRAM).arg("config").env("LONGSHORE_STORE_CAP", "20GiB").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("store_cap = \"20GiB\"  # environment variable LONGSHORE_STORE_CAP"), "{text}");
}

#[test]
fn status_of_an_agent_that_does_not_run_says_what_to_check() {
    let free = longshore::demo::ports::free(1).unwrap();
    let start = Instant::now();
    let output = longshore(&["status", "--address", &format!("127.0.0.1:{}", free[0])]);
    assert!(!output.status.success() && stderr(&output).contains("is the agent running"), "{}", stderr(&output));
    assert!(start.elapsed() < Duration::from_secs(10));
}

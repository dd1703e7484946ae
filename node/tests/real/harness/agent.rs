//! The program under test: one `longshore agent` as a process, and a cluster of them.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use sha2::{Digest as _, Sha256};

use super::http;
use super::lab::{Lab, free_port};
use super::process::{Process, run};
use super::{PATIENCE, wait_for};

/// The program, as cargo has built it for this test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_longshore");

/// An identity that was made before the agent that uses it, so that others can name it.
pub(crate) struct Identity {
    file: PathBuf,
    /// libp2p peer ID.
    pub(crate) peer_id: String,
    /// Where its agent will listen.
    pub(crate) peer_port: u16,
}

impl Identity {
    /// Makes a key in the directory with `longshore identity --create`.
    pub(crate) fn make(directory: &Path) -> Self {
        let file = directory.join("identity");
        let printed = run(
            PROGRAM,
            &["identity", "--create", "--file", file.to_str().expect("temporary paths are text")],
            directory,
        );
        let peer_id = printed
            .split_whitespace()
            .find(|word| word.starts_with("12D3KooW"))
            .unwrap_or_else(|| panic!("'longshore identity' prints a peer ID; it printed: {printed}"))
            .to_owned();
        Self { file, peer_id, peer_port: free_port() }
    }

    /// Its entry in the `members` of a configuration.
    pub(crate) fn member(&self) -> String {
        member(self.peer_port, &self.peer_id)
    }
}

/// An entry in the `members` of a configuration.
pub(crate) fn member(port: u16, peer_id: &str) -> String {
    format!("/ip4/127.0.0.1/tcp/{port}/p2p/{peer_id}")
}

/// An entry in a members file.
pub(crate) fn member_table(port: u16, peer_id: &str) -> String {
    format!("[[member]]\npeer = {peer_id:?}\naddresses = [\"/ip4/127.0.0.1/tcp/{port}\"]\n")
}

/// What the agents of a test are told beyond where to listen.
#[derive(Clone, Default)]
pub(crate) struct Settings {
    /// Ports of registries on 127.0.0.1, all without TLS.
    pub(crate) registry_ports: Vec<u16>,
    /// Further members, as `member` writes them.
    pub(crate) strangers: Vec<String>,
    /// Write the members to this file, which may change later, instead of the configuration.
    pub(crate) members_file: Option<PathBuf>,
    /// Lines of TOML, before the first table.
    pub(crate) extra: String,
}

impl Settings {
    /// One registry, and defaults.
    pub(crate) fn with_registry(port: u16) -> Self {
        Self { registry_ports: vec![port], ..Self::default() }
    }

    /// As this, with further lines of TOML.
    pub(crate) fn and(self, lines: &str) -> Self {
        Self { extra: format!("{}{lines}\n", self.extra), ..self }
    }
}

/// A running agent.
pub(crate) struct Agent {
    name: String,
    process: Process,
    config: PathBuf,
    log: PathBuf,
    /// Its blobs and staging files.
    pub(crate) data: PathBuf,
    /// Who it is.
    pub(crate) identity: Identity,
    /// Where containerd reaches it.
    pub(crate) mirror_port: u16,
    status_port: u16,
}

impl Agent {
    /// Starts one agent that is a cluster of its own.
    pub(crate) fn alone(lab: &Lab, settings: &Settings) -> Self {
        let mut cluster = Cluster::start(lab, 1, settings);
        cluster.agents.pop().expect("a cluster of one has one agent")
    }

    fn start(lab: &Lab, name: &str, identity: Identity, members: &[String], settings: &Settings) -> Self {
        let directory = lab.directory(name);
        let (mirror_port, status_port) = (free_port(), free_port());
        let (config, log, data) = (directory.join("agent.toml"), directory.join("log"), directory.join("data"));
        let mut text = format!(
            "data_dir = {data:?}\n\
             identity_file = {identity_file:?}\n\
             mirror_listen = \"127.0.0.1:{mirror_port}\"\n\
             peer_listen = [\"/ip4/127.0.0.1/tcp/{peer_port}\"]\n\
             status_listen = \"127.0.0.1:{status_port}\"\n\
             {members}\n\
             log_level = \"{log_level}\"\n\
             {extra}\n",
            members = match &settings.members_file {
                Some(file) => format!("members_file = {file:?}"),
                None => format!("members = {members:?}"),
            },
            identity_file = identity.file,
            peer_port = identity.peer_port,
            log_level = if cfg!(debug_assertions) { "info,longshore=debug,longshore_net=debug" } else { "info" },
            extra = settings.extra,
        );
        for port in &settings.registry_ports {
            text.push_str(&format!("[registries.\"127.0.0.1:{port}\"]\nplain_http = true\n"));
        }
        std::fs::write(&config, text).expect("the lab can be written to");
        let process = spawn(name, &config, &log);
        Self { name: name.to_owned(), process, config, log, data, identity, mirror_port, status_port }
    }

    /// Waits until it says that it is ready.
    pub(crate) fn wait_until_ready(&mut self) {
        wait_for("the agent to be ready", PATIENCE, || {
            self.process.assert_running();
            self.is_ready().then_some(())
        });
    }

    /// Whether `/readyz` answers 200.
    pub(crate) fn is_ready(&self) -> bool {
        http::get(self.status_port, "/readyz", &[]).is_ok_and(|response| response.status == 200)
    }

    /// SIGKILL: nothing is flushed, nothing is said to peers.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM, and waits until it has ended by itself. Whether everything was finished in time.
    pub(crate) fn terminate(&mut self) -> bool {
        self.ask_to_stop();
        self.wait_until_ended()
    }

    /// SIGTERM.
    pub(crate) fn ask_to_stop(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Waits until it has ended by itself, after a SIGTERM. Whether everything was finished in time.
    pub(crate) fn wait_until_ended(&mut self) -> bool {
        let status = self.process.wait(PATIENCE);
        let code = status.code().unwrap_or_else(|| panic!("{} ended with {status} on SIGTERM", self.name));
        code == 0
    }

    /// Starts it again, after a kill or a SIGTERM, with all it has on disk. Not ready yet.
    pub(crate) fn restart(&mut self) {
        self.process.stop();
        self.process = spawn(&self.name, &self.config, &self.log);
    }

    /// Its process number.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Everything it has logged.
    pub(crate) fn log(&self) -> String {
        self.process.output()
    }

    /// A counter by its name in the core, without `longshore_` and `_total`. Counters start at 0 with the process.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let page = http::get(self.status_port, "/metrics", &[]).expect("a ready agent answers /metrics").text();
        let full = format!("longshore_{name}_total");
        let line = page.lines().find(|line| line.strip_prefix(&full).is_some_and(|rest| rest.starts_with([' ', '{'])));
        let line = line.unwrap_or_else(|| panic!("no {full} in /metrics of {}:\n{page}", self.name));
        let value = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        value.unwrap_or_else(|| panic!("{full} has no number: {line}")) as u64
    }

    /// Most memory it has ever had resident, in bytes.
    pub(crate) fn peak_memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid()))
            .expect("a running process has a status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux reports VmHWM");
        let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("VmHWM is a number of kB");
        kilobytes * 1024
    }

    /// What the mirror is asked for a blob of a registry on 127.0.0.1.
    pub(crate) fn blob_path(registry_port: u16, repository: &str, digest: &str) -> String {
        format!("/v2/{repository}/blobs/{digest}?ns=127.0.0.1:{registry_port}")
    }

    /// What the mirror is asked for a manifest of a registry on 127.0.0.1.
    pub(crate) fn manifest_path(registry_port: u16, repository: &str, digest: &str) -> String {
        format!("/v2/{repository}/manifests/{digest}?ns=127.0.0.1:{registry_port}")
    }
}

fn spawn(name: &str, config: &Path, log: &Path) -> Process {
    let config = config.to_str().expect("temporary paths are text");
    Process::spawn(&format!("longshore {name}"), Path::new(PROGRAM), &["agent", "--config", config], log)
}

/// Agents that know each other as static members.
pub(crate) struct Cluster {
    /// All of them, ready.
    pub(crate) agents: Vec<Agent>,
}

impl Cluster {
    /// Starts `count` agents and waits until all are ready.
    pub(crate) fn start(lab: &Lab, count: usize, settings: &Settings) -> Self {
        let names: Vec<String> = (0..count).map(|number| format!("agent-{number}")).collect();
        let identities: Vec<Identity> = names.iter().map(|name| Identity::make(&lab.directory(name))).collect();
        let mut members: Vec<String> = identities.iter().map(Identity::member).collect();
        members.extend(settings.strangers.iter().cloned());
        if let Some(file) = &settings.members_file {
            let tables = identities.iter().map(|identity| member_table(identity.peer_port, &identity.peer_id));
            std::fs::write(file, tables.collect::<String>()).expect("the lab can be written to");
        }
        let mut agents: Vec<Agent> = names
            .iter()
            .zip(identities)
            .map(|(name, identity)| Agent::start(lab, name, identity, &members, settings))
            .collect();
        agents.iter_mut().for_each(Agent::wait_until_ready);
        Self { agents }
    }

    /// Which agent has the best rank for a digest: its designated puller. The reference's function, written out here.
    pub(crate) fn designated(&self, digest: &str) -> usize {
        let score = |agent: &Agent| Sha256::new().chain_update(&agent.identity.peer_id).chain_update(digest).finalize();
        (0..self.agents.len())
            .max_by_key(|number| score(&self.agents[*number]))
            .expect("a cluster has at least one agent")
    }

    /// The sum of a counter over all agents.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        self.agents.iter().map(|agent| agent.counter(name)).sum()
    }
}

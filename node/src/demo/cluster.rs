//! Agents as child processes, each with a directory, an identity and ports of its own, and all with the same members.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, ChildStdin, Command};
use tokio::time::Instant;

use super::ports;
use longshore_net::peers::Identity;

use crate::config::ENVIRONMENT_PREFIX;
use crate::http::client::Client;

/// Longest until all agents are ready.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How often an agent that starts is asked whether it is ready.
const READY_INTERVAL: Duration = Duration::from_millis(50);
/// Longest until agents have ended by themselves.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes at the end of an agent's log that explain why it failed.
const LOG_TAIL: i64 = 2000;

/// The agents. Dropping them kills them.
#[derive(Debug)]
pub struct Cluster {
    /// One for each node.
    pub nodes: Vec<Node>,
}

/// One agent.
#[derive(Debug)]
pub struct Node {
    /// The node's name.
    pub name: String,
    /// Where containerd would reach it.
    pub mirror: SocketAddr,
    /// Where it shows its status.
    pub status: SocketAddr,
    log: PathBuf,
    child: Child,
    /// Held open: the agent stops when it closes, and so when this process dies, however it dies.
    stdin: Option<ChildStdin>,
}

/// How the agents reach the registry.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Its host, as image references name it.
    pub host: String,
    /// Its URL.
    pub base_url: String,
}

/// A cluster could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Something of the machine is missing.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// What was found.
        source: std::io::Error,
    },
    /// An identity could not be made.
    #[error(transparent)]
    Identity(#[from] longshore_net::peers::IdentityError),
    /// An agent ended, or was not ready in time.
    #[error("{name} {what}; the end of its log:\n{log}")]
    Agent {
        /// The node's name.
        name: String,
        /// What happened.
        what: String,
        /// The last lines of its log.
        log: String,
    },
}

fn io_error(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> ClusterError {
    let action = action.into();
    move |source| ClusterError::Io { action, source }
}

impl Cluster {
    /// Starts `count` agents of the program `program` below `directory`, and waits until all are ready.
    ///
    /// # Errors
    /// When one of them cannot be started or is not ready in time.
    pub async fn start(
        program: &Path,
        directory: &Path,
        count: usize,
        upstream: &Upstream,
        settings: &[(String, String)],
        client: &Client,
    ) -> Result<Self, ClusterError> {
        let ports = ports::free(count * 3).map_err(io_error(format!("find ports for {count} agents")))?;
        let ports: Vec<[u16; 3]> = ports.chunks_exact(3).map(|three| [three[0], three[1], three[2]]).collect();
        let mut members = Vec::new();
        for (number, [peer, ..]) in ports.iter().enumerate() {
            let home = node_directory(directory, number);
            std::fs::create_dir_all(&home).map_err(io_error(format!("make {}", home.display())))?;
            let identity = Identity::load_or_create(&home.join("identity"))?;
            members.push(format!("/ip4/127.0.0.1/tcp/{peer}/p2p/{}", identity.peer_id()));
        }
        let mut cluster = Self { nodes: Vec::with_capacity(count) };
        for (number, [peer, mirror, status]) in ports.iter().enumerate() {
            let name = node_name(number);
            let data = node_directory(directory, number);
            let at = |port: &u16| SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
            let config =
                Configuration { name: &name, data: &data, peer: *peer, mirror: at(mirror), status: at(status) };
            let path = data.join("longshore.toml");
            std::fs::write(&path, config.render(&members, upstream))
                .map_err(io_error(format!("write {}", path.display())))?;
            let log = data.join("log");
            let (child, stdin) = spawn(program, &path, &log, settings)?;
            cluster.nodes.push(Node { name, mirror: at(mirror), status: at(status), log, child, stdin });
        }
        let deadline = Instant::now() + READY_TIMEOUT;
        for node in &mut cluster.nodes {
            node.ready(client, deadline).await?;
        }
        Ok(cluster)
    }

    /// Tells all agents to stop, and waits until they have; those that do not are killed.
    pub async fn stop(mut self) {
        for node in &mut self.nodes {
            node.stdin = None;
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        for node in &mut self.nodes {
            if tokio::time::timeout_at(deadline, node.child.wait()).await.is_err() {
                node.kill().await;
            }
        }
    }

    /// Kills all agents, and waits until they are gone.
    pub async fn kill(mut self) {
        for node in &mut self.nodes {
            node.kill().await;
        }
    }
}

impl Node {
    /// The process, while it runs.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        self.child.id()
    }

    /// Ends the process at once (SIGKILL) and waits until it is gone.
    pub async fn kill(&mut self) {
        // It fails only for a process that is gone already.
        let _ = self.child.kill().await;
    }

    async fn ready(&mut self, client: &Client, deadline: Instant) -> Result<(), ClusterError> {
        let url = format!("http://{}/readyz", self.status);
        loop {
            if let Ok(Some(code)) = self.child.try_wait() {
                return Err(self.failed(format!("ended with {code}")));
            }
            if let Ok((status, _)) = client.get(&url, 4096, READY_TIMEOUT).await
                && status.is_success()
            {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(self.failed(format!("was not ready within {} s", READY_TIMEOUT.as_secs())));
            }
            tokio::time::sleep(READY_INTERVAL).await;
        }
    }

    fn failed(&self, what: String) -> ClusterError {
        ClusterError::Agent { name: self.name.clone(), what, log: self.log_tail() }
    }

    /// The end of the agent's log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let tail = || {
            let mut file = std::fs::File::open(&self.log)?;
            let len = file.metadata()?.len();
            file.seek(SeekFrom::End(-LOG_TAIL.min(i64::try_from(len).unwrap_or(LOG_TAIL))))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes).into_owned())
        };
        tail().unwrap_or_else(|error| format!("(cannot read {}: {error})", self.log.display()))
    }
}

fn node_name(number: usize) -> String {
    format!("node-{}", number + 1)
}

fn node_directory(directory: &Path, number: usize) -> PathBuf {
    directory.join(node_name(number))
}

struct Configuration<'a> {
    name: &'a str,
    data: &'a Path,
    peer: u16,
    mirror: SocketAddr,
    status: SocketAddr,
}

impl Configuration<'_> {
    fn render(&self, members: &[String], upstream: &Upstream) -> String {
        let text = |text: &str| toml::Value::String(text.to_owned());
        let mut table = toml::Table::new();
        table.insert("node_name".to_owned(), text(self.name));
        table.insert("data_dir".to_owned(), text(&self.data.display().to_string()));
        table.insert("mirror_listen".to_owned(), text(&self.mirror.to_string()));
        table.insert("status_listen".to_owned(), text(&self.status.to_string()));
        let listen = text(&format!("/ip4/127.0.0.1/tcp/{}", self.peer));
        table.insert("peer_listen".to_owned(), toml::Value::Array(vec![listen]));
        table.insert("members".to_owned(), toml::Value::Array(members.iter().map(|member| text(member)).collect()));
        let mut registry = toml::Table::new();
        registry.insert("url".to_owned(), text(&upstream.base_url));
        let registries = toml::Table::from_iter([(upstream.host.clone(), toml::Value::Table(registry))]);
        table.insert("registries".to_owned(), toml::Value::Table(registries));
        table.to_string()
    }
}

fn spawn(
    program: &Path,
    config: &Path,
    log: &Path,
    settings: &[(String, String)],
) -> Result<(Child, Option<ChildStdin>), ClusterError> {
    let file = std::fs::File::create(log).map_err(io_error(format!("make {}", log.display())))?;
    let mut command = Command::new(program);
    command.arg("agent").arg("--exit-on-stdin-eof").arg("--config").arg(config);
    for (key, value) in settings {
        command.arg(format!("--{}={value}", key.replace('_', "-")));
    }
    for (variable, _) in std::env::vars_os() {
        // What configures an agent on this machine is not meant for the demo's.
        if variable.to_string_lossy().starts_with(ENVIRONMENT_PREFIX) {
            command.env_remove(variable);
        }
    }
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(file).kill_on_drop(true);
    // A Ctrl-C in the terminal goes to the demo, which then stops its agents.
    command.process_group(0);
    let mut child = command.spawn().map_err(io_error(format!("start {}", program.display())))?;
    let stdin = child.stdin.take();
    Ok((child, stdin))
}

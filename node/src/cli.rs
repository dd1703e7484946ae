//! The command line.

mod flags;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use longshore_net::peers::Identity;

use crate::config::{self, Effective, FileText, Layers};
use crate::demo::options::DemoArgs;
use crate::http::client::Client;
use crate::replay::ReplayArgs;
use crate::status::page;
use flags::KeyFlags;

/// Exit code when the command line or the configuration is wrong, as clap's own.
const EXIT_USAGE: u8 = 2;
/// Largest `/status` that is read, in bytes.
const MOST_STATUS_BYTES: usize = 16 << 20;
/// Longest to wait for `/status`.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest configuration file, in bytes: ten thousand members with room to spare.
const MOST_CONFIG_BYTES: u64 = 4 << 20;

/// Makes container images arrive: out of the registry once, then from node to node.
///
/// An agent runs beside containerd on every node, as a mirror of the registries (see containerd's hosts.toml). What one
/// agent fetches, the others get from it.
#[derive(Debug, Parser)]
#[command(name = "longshore", version, propagate_version = false, after_help = IN_A_HURRY)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const IN_A_HURRY: &str = "In a hurry?
  longshore status                        what the agent on this node is doing now
  longshore config --config FILE          what is configured, and where each value comes from
  curl -s 127.0.0.1:9095/readyz           why an agent is not ready
  Pulls go on without the agent: containerd falls back to the registry when the mirror
  does not answer. Stopping the agent is always safe.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run an agent on this node
    ///
    /// Runs until SIGTERM or SIGINT; then it finishes what it is serving (at most --drain-timeout). A second signal stops
    /// it at once. Logs go to standard error.
    Agent(AgentArgs),
    /// Print the effective configuration as TOML
    ///
    /// Every value that is not the default says where it was set: file and line, environment variable, or flag.
    /// Problems are listed all at once. Nothing is started.
    Config(ConfigArgs),
    /// Show what a running agent is doing
    ///
    /// Asks the agent's status address and prints its store, its transfers with their progress, its peers and its counters.
    Status(StatusArgs),
    /// Print the peer ID of this node's identity
    ///
    /// Other agents name this node by it in their members list.
    Identity(IdentityArgs),
    /// Watch a cluster on this machine pull one image
    ///
    /// Starts a registry and some agents on loopback, pulls on all of them at once as containerd does, and shows where the
    /// bytes come from. Nothing is left behind.
    Demo(DemoArgs),
    /// Execute what an agent recorded again
    ///
    /// Reads what 'longshore agent --journal DIR' has written, does exactly what the agent did, and names the first input
    /// after which the two differ, if they do: then another version recorded it. Tells what the agent did and why.
    Replay(ReplayArgs),
    /// Simulate clusters of many agents
    ///
    /// Thousands of agents in one process on virtual time: rollouts and incidents from files, random ones, and the rules
    /// that have to hold in all of them.
    Sim(crate::sim_command::SimArgs),
}

#[derive(Debug, Args)]
struct AgentArgs {
    /// Configuration file (TOML)
    #[arg(long, short, value_name = "FILE", env = "LONGSHORE_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
    /// Stop when standard input ends, as when the program that started this one dies
    #[arg(long, hide = true)]
    exit_on_stdin_eof: bool,
    #[command(flatten)]
    keys: KeyFlags,
}

#[derive(Debug, Args)]
struct ConfigArgs {
    /// Configuration file (TOML)
    #[arg(long, short, value_name = "FILE", env = "LONGSHORE_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
    /// Print what every key means, too
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    keys: KeyFlags,
}

#[derive(Debug, Args)]
struct StatusArgs {
    /// The agent's status_listen
    #[arg(long, short, value_name = "IP:PORT", default_value = "127.0.0.1:9095")]
    address: SocketAddr,
    /// Print the agent's JSON as it is
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct IdentityArgs {
    /// The agent's identity_file
    #[arg(long, short, value_name = "PATH", default_value = "/var/lib/longshore/identity")]
    file: PathBuf,
    /// Make an identity if there is none
    #[arg(long)]
    create: bool,
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli.command) {
        Ok(code) => code,
        Err(Failure { code, message }) => {
            eprintln!("longshore: {message}");
            ExitCode::from(code)
        }
    }
}

/// Why a command ended, for standard error.
struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    fn usage(error: impl std::fmt::Display) -> Self {
        Self { code: EXIT_USAGE, message: error.to_string() }
    }

    fn other(error: impl std::fmt::Display) -> Self {
        Self { code: 1, message: error.to_string() }
    }
}

fn dispatch(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Agent(args) => {
            let effective = effective(args.config, args.keys)?;
            runtime()?
                .block_on(crate::agent::run::run(effective.settings, args.exit_on_stdin_eof))
                .map_err(Failure::other)
        }
        Command::Config(args) => {
            let effective = effective(args.config, args.keys)?;
            print(&config::print::print(&effective, args.explain));
            Ok(ExitCode::SUCCESS)
        }
        Command::Status(args) => runtime()?.block_on(status(&args)),
        Command::Identity(args) => {
            let identity = if args.create {
                if let Some(parent) = args.file.parent() {
                    std::fs::create_dir_all(parent).map_err(Failure::other)?;
                }
                Identity::load_or_create(&args.file)
            } else {
                Identity::load(&args.file)
            };
            print(&format!("{}\n", identity.map_err(Failure::other)?.peer_id()));
            Ok(ExitCode::SUCCESS)
        }
        Command::Sim(args) => crate::sim_command::main(&args, print).map_err(Failure::usage),
        Command::Demo(args) => {
            let options = args.check().map_err(Failure::usage)?;
            runtime()?.block_on(crate::demo::run(options)).map_err(Failure::other)
        }
        Command::Replay(args) => {
            crate::replay::run(&args, &mut std::io::BufWriter::new(std::io::stdout())).map_err(Failure::other)
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let built = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    built.map_err(|error| Failure::other(format!("cannot start the threads of the runtime: {error}")))
}

/// Prints to standard output; a reader that has enough (`| head`) is no error.
fn print(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn effective(file: Option<PathBuf>, keys: KeyFlags) -> Result<Effective, Failure> {
    let file = file.map(|path| read_config(&path)).transpose()?;
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .filter(|(name, _)| name.starts_with(config::ENVIRONMENT_PREFIX))
        .collect();
    config::load(&Layers { file, environment, flags: keys.0 }).map_err(Failure::usage)
}

fn read_config(path: &std::path::Path) -> Result<FileText, Failure> {
    use std::io::Read as _;
    let failed = |error: std::io::Error| {
        Failure::usage(format!("cannot read the configuration file {}: {error}", path.display()))
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MOST_CONFIG_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MOST_CONFIG_BYTES {
        return Err(failed(std::io::Error::other(format!("it is longer than {MOST_CONFIG_BYTES} bytes"))));
    }
    Ok(FileText { path: path.display().to_string(), text })
}

async fn status(args: &StatusArgs) -> Result<ExitCode, Failure> {
    let client = Client::new().map_err(Failure::other)?;
    let url = format!("http://{}/status", args.address);
    let advice = "is the agent running, and is this its status_listen? ('--address IP:PORT' names another)";
    let (code, body) = client
        .get(&url, MOST_STATUS_BYTES, STATUS_TIMEOUT)
        .await
        .map_err(|error| Failure::other(format!("{error}; {advice}")))?;
    if args.json && code.is_success() {
        print(&String::from_utf8_lossy(&body));
        return Ok(ExitCode::SUCCESS);
    }
    let status = if code.is_success() { serde_json::from_slice(&body).ok() } else { None };
    let status = status.ok_or_else(|| {
        Failure::other(format!("{url} answered {code} with something else than an agent's status; {advice}"))
    })?;
    print(&page::render(&status));
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests;

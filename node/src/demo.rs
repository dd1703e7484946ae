//! `longshore demo`: a registry, some agents, and one image, all on this machine.

pub mod cluster;
pub mod image;
pub mod kill;
pub mod layout;
pub mod manifest;
pub mod media_types;
pub mod options;
pub mod ports;
pub mod pull;
pub mod registry;
pub mod report;
mod rollout;
mod source;
pub mod synthetic;
pub mod watch;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use crate::http::client::Client;
use cluster::Cluster;
use options::Options;
use report::Outcome;
use source::Source;

/// Exit code when a node failed.
const EXIT_FAILED: u8 = 1;
/// Exit code after Ctrl-C or SIGTERM, as a shell reports a program that SIGINT ended.
const EXIT_INTERRUPTED: u8 = 130;

/// Something that the demo needs is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The image.
    #[error(transparent)]
    Layout(#[from] layout::LayoutError),
    /// The agents.
    #[error(transparent)]
    Cluster(#[from] cluster::ClusterError),
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

/// Runs the demo. Whatever happens, its agents end with it and its directory is removed.
///
/// # Errors
/// When it cannot start. A node that fails is no error here but an exit code.
pub async fn run(options: Options) -> Result<ExitCode, DemoError> {
    let failed = |what: &'static str| move |error: std::io::Error| DemoError::Other(format!("cannot {what}: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed("listen for signals"))?;
    let client = Client::new().map_err(failed("set up TLS"))?;
    let directory =
        tempfile::Builder::new().prefix("longshore-demo-").tempdir_in(&options.directory).map_err(|error| {
            DemoError::Other(format!(
                "cannot make a directory in {}: {error}; --directory names another",
                options.directory.display()
            ))
        })?;
    let work = async {
        say("making the image");
        let source = Source::open(&options, &client).await?;
        say(&format!("starting {} agents", options.nodes));
        let program = std::env::current_exe().map_err(failed("find this program"))?;
        let cluster =
            Cluster::start(&program, directory.path(), options.nodes, source.upstream(), &options.settings, &client)
                .await?;
        say(&format!("pulling {} on all of them", source.name()));
        Ok::<_, DemoError>(rollout::run(cluster, &source, &options).await)
    };
    let (outcomes, report) = tokio::select! {
        result = work => result?,
        // Dropping the work kills the agents.
        _ = tokio::signal::ctrl_c() => return Ok(interrupted()),
        _ = terminate.recv() => return Ok(interrupted()),
    };
    for (number, outcome) in outcomes.iter().enumerate() {
        if let Outcome::Failed(reason) = outcome {
            eprintln!("node-{} failed: {reason}", number + 1);
        }
    }
    if options.json {
        let json = serde_json::to_string(&report).map_err(|error| DemoError::Other(error.to_string()))?;
        println!("{json}");
    } else {
        print!("{}", report.table());
    }
    Ok(if report.verified { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

/// A word about what happens now, to people only.
fn say(text: &str) {
    if std::io::stderr().is_terminal() {
        eprintln!("{text} ...");
    }
}

fn interrupted() -> ExitCode {
    eprintln!("interrupted; the agents are stopped");
    ExitCode::from(EXIT_INTERRUPTED)
}

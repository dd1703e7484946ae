//! The life of `longshore agent`, from its settings to its exit code.

use std::io::Read as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::{StartError, logs};
use crate::config::Settings;
use crate::status::{Phase, StatusServer};

/// Exit code after a second signal: as a shell reports a program that SIGINT ended.
const EXIT_INTERRUPTED: u8 = 130;
/// Exit code when the agent ended although nobody asked it to, or could not drain in time.
const EXIT_FAILED: u8 = 1;
/// How long the status server still says "draining" after the last byte, so that a probe in flight gets its answer.
const LAST_ANSWERS: Duration = Duration::from_millis(50);

/// What ends an agent.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
    stdin: Option<oneshot::Receiver<()>>,
}

impl Stop {
    fn new(with_stdin: bool) -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            stdin: with_stdin.then(end_of_stdin).transpose()?,
        })
    }

    /// The next reason to stop.
    async fn next(&mut self) -> &'static str {
        let stdin = async {
            match &mut self.stdin {
                Some(ended) => drop(ended.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            () = stdin => {
                self.stdin = None;
                "end of standard input"
            }
        }
    }
}

/// Resolves when nobody holds the other end of standard input any more.
///
/// A thread of its own, because the runtime could not be shut down while one of its threads is reading.
fn end_of_stdin() -> std::io::Result<oneshot::Receiver<()>> {
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let mut buffer = [0; 64];
        while let Ok(1..) = std::io::stdin().read(&mut buffer) {}
        // The receiver is gone only when the agent is stopping already.
        let _ = sender.send(());
    })?;
    Ok(receiver)
}

/// Runs an agent until a signal, or (with `exit_on_stdin_eof`) the end of standard input.
///
/// # Errors
/// When it cannot be started.
pub async fn run(settings: Settings, exit_on_stdin_eof: bool) -> Result<ExitCode, StartError> {
    logs::start(&settings).map_err(StartError::Other)?;
    let mut stop = Stop::new(exit_on_stdin_eof)
        .map_err(|error| StartError::Other(format!("cannot listen for signals: {error}")))?;
    // The status server comes first: a probe of a starting agent gets an answer.
    let status = StatusServer::start(&settings).await?;
    let agent: Arc<dyn super::Running> = tokio::select! {
        agent = super::start(&settings) => agent?.into(),
        reason = stop.next() => {
            tracing::info!(reason, "stopped before the start was complete");
            return Ok(ExitCode::SUCCESS);
        }
    };
    status.attach(Arc::clone(&agent));
    status.enter(Phase::Ready);
    tracing::info!(
        peer = agent.peer_id(),
        mirror = %agent.mirror_address(),
        addresses = ?agent.peer_addresses(),
        status = status.address().map(|address| address.to_string()),
        "the agent is ready"
    );
    tokio::select! {
        reason = stop.next() => tracing::info!(reason, timeout = ?settings.drain_timeout, "draining; a second signal stops at once"),
        reason = agent.broken() => {
            tracing::error!(reason, "the agent broke down");
            return Ok(ExitCode::from(EXIT_FAILED));
        }
    }
    status.enter(Phase::Draining);
    let timeout = settings.drain_timeout;
    // The agent keeps to the time-out itself; the second one guards against an agent that does not.
    let drain = tokio::time::timeout(timeout + Duration::from_secs(1), agent.drain(timeout));
    let code = tokio::select! {
        drained = drain => match drained {
            Ok(true) => {
                tracing::info!("drained");
                ExitCode::SUCCESS
            }
            Ok(false) | Err(_) => {
                tracing::warn!(?timeout, "stopped although not everything was finished");
                ExitCode::from(EXIT_FAILED)
            }
        },
        reason = stop.next() => {
            tracing::warn!(reason, "stopped at once");
            ExitCode::from(EXIT_INTERRUPTED)
        }
    };
    tokio::time::sleep(LAST_ANSWERS).await;
    Ok(code)
}

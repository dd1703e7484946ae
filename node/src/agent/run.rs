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
/// Exit code when what was asked for is done.
const EXIT_DRAINED: u8 = 0;
/// What an agent may take longer to drain than it was told.
const PATIENCE: Duration = Duration::from_secs(1);
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
            return Ok(ExitCode::from(EXIT_DRAINED));
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
    let code = finish(agent.as_ref(), settings.drain_timeout, stop.next()).await;
    tokio::time::sleep(LAST_ANSWERS).await;
    Ok(ExitCode::from(code))
}

/// Drains the agent, unless there is another reason to `stop` meanwhile. The exit code.
async fn finish(agent: &dyn super::Running, timeout: Duration, stop: impl Future<Output = &'static str>) -> u8 {
    // The agent keeps to the time-out itself; the second one guards against an agent that does not.
    let drain = tokio::time::timeout(timeout + PATIENCE, agent.drain(timeout));
    tokio::select! {
        drained = drain => match drained {
            Ok(true) => {
                tracing::info!("drained");
                EXIT_DRAINED
            }
            Ok(false) | Err(_) => {
                tracing::warn!(?timeout, "stopped although not everything was finished");
                EXIT_FAILED
            }
        },
        reason = stop => {
            tracing::warn!(reason, "stopped at once");
            EXIT_INTERRUPTED
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use futures::future::{BoxFuture, pending};

    use super::*;

    /// An agent whose drain takes this long; for ever, if there is no time.
    struct Slow(Option<Duration>);

    impl super::super::Running for Slow {
        fn peer_id(&self) -> String {
            String::new()
        }
        fn mirror_address(&self) -> SocketAddr {
            SocketAddr::from(([127, 0, 0, 1], 0))
        }
        fn peer_addresses(&self) -> Vec<String> {
            Vec::new()
        }
        fn look(&self) -> BoxFuture<'_, Option<super::super::Look>> {
            Box::pin(pending())
        }
        fn drain(&self, timeout: Duration) -> BoxFuture<'_, bool> {
            Box::pin(async move {
                match self.0 {
                    Some(time) => tokio::time::timeout(timeout, tokio::time::sleep(time)).await.is_ok(),
                    None => pending().await,
                }
            })
        }
    }

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn an_agent_that_drains_in_time_ends_well() {
        assert_eq!(finish(&Slow(Some(SHORT)), LONG, pending()).await, EXIT_DRAINED);
    }

    #[tokio::test]
    async fn an_agent_that_does_not_drain_in_time_ends_with_a_failure() {
        for agent in [Slow(Some(LONG)), Slow(None)] {
            let start = std::time::Instant::now();
            assert_eq!(finish(&agent, SHORT, pending()).await, EXIT_FAILED);
            assert!(start.elapsed() < LONG / 2);
        }
    }

    #[tokio::test]
    async fn a_second_signal_ends_the_agent_at_once() {
        let start = std::time::Instant::now();
        assert_eq!(finish(&Slow(None), LONG, async { "SIGTERM" }).await, EXIT_INTERRUPTED);
        assert!(start.elapsed() < LONG / 2);
    }
}

//! Runs an agent's decisions: inputs from the drivers into the core, outputs of the core to the drivers, and the clock.
//!
//! The shell decides nothing. It is generic over its drivers, so that tests and simulations can put others in their place.

use std::time::Duration;

use longshore_core::Agent;
use longshore_core::agent::status::Status;
use longshore_core::input::Input;
use longshore_core::metrics::Counters;
use longshore_core::output::{Explanation, Output};
use longshore_core::time::Time;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::driver::{BlobStore, Inputs, Mirror, Origin, Peers};
use crate::journal::{JournalState, Recorder};

/// After this many inputs in a row the shell lets other tasks run, so that a flood of notices cannot starve them.
const BURST: usize = 64;

/// The drivers of one agent.
#[derive(Debug)]
pub struct Drivers<M, P, O, S> {
    /// Answers containerd.
    pub mirror: M,
    /// Talks to other agents.
    pub peers: P,
    /// Talks to registries.
    pub origin: O,
    /// Keeps blobs.
    pub store: S,
}

/// What an agent looks like at one moment.
#[derive(Clone, Debug)]
pub struct Look {
    /// What it has counted.
    pub counters: Counters,
    /// What it holds and does.
    pub status: Status,
    /// How its recording is doing, if there is one.
    pub journal: Option<JournalState>,
}

/// A running shell, from outside. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ShellHandle {
    looks: mpsc::Sender<oneshot::Sender<Look>>,
    inputs: Inputs,
    drained: watch::Receiver<bool>,
}

impl ShellHandle {
    /// The agent now; `None` after the shell has ended.
    pub async fn look(&self) -> Option<Look> {
        let (sender, receiver) = oneshot::channel();
        self.looks.send(sender).await.ok()?;
        receiver.await.ok()
    }

    /// Tells the agent to take no new work, and waits until what runs is done, at most `timeout`. Whether it was done.
    pub async fn drain(&self, timeout: Duration) -> bool {
        self.inputs.send(Input::Drain);
        let mut drained = self.drained.clone();
        let waited = tokio::time::timeout(timeout, drained.wait_for(|drained| *drained)).await;
        matches!(waited, Ok(Ok(_)))
    }

    /// Resolves when the shell has ended.
    pub async fn ended(&self) {
        self.looks.closed().await;
    }
}

/// Runs `agent` in a task of its own, until every [`Inputs`] is gone or the task is aborted. `origin_of_time` is where the
/// agent's time line starts. A `recorder` has to have been started with the agent's own configuration and seed.
pub fn spawn<M, P, O, S>(
    agent: Agent,
    drivers: Drivers<M, P, O, S>,
    inputs: Inputs,
    receiver: mpsc::UnboundedReceiver<Input>,
    origin_of_time: Instant,
    recorder: Option<Recorder>,
) -> (ShellHandle, tokio::task::JoinHandle<()>)
where
    M: Mirror + 'static,
    P: Peers + 'static,
    O: Origin + 'static,
    S: BlobStore + 'static,
{
    let (looks, look_requests) = mpsc::channel(16);
    let (drained, is_drained) = watch::channel(false);
    let shell = Shell { agent, drivers, receiver, look_requests, drained, origin_of_time, recorder };
    let task = tokio::spawn(shell.run());
    (ShellHandle { looks, inputs, drained: is_drained }, task)
}

struct Shell<M, P, O, S> {
    agent: Agent,
    drivers: Drivers<M, P, O, S>,
    receiver: mpsc::UnboundedReceiver<Input>,
    look_requests: mpsc::Receiver<oneshot::Sender<Look>>,
    drained: watch::Sender<bool>,
    origin_of_time: Instant,
    recorder: Option<Recorder>,
}

impl<M: Mirror, P: Peers, O: Origin, S: BlobStore> Shell<M, P, O, S> {
    async fn run(mut self) {
        let mut burst = 0;
        loop {
            burst += 1;
            if burst >= BURST {
                burst = 0;
                tokio::task::yield_now().await;
            }
            let deadline = self.agent.poll_deadline().map(|(at, _)| self.instant(at));
            let flush = self.recorder.as_ref().and_then(Recorder::flush_at).map(|at| self.instant(at));
            tokio::select! {
                biased;
                () = sleep_until(deadline) => self.handle(Input::Tick),
                input = self.receiver.recv() => match input {
                    Some(input) => self.handle(input),
                    None => return,
                },
                () = sleep_until(flush) => {
                    if let Some(recorder) = &mut self.recorder {
                        recorder.flush(&self.agent);
                    }
                }
                request = self.look_requests.recv() => match request {
                    Some(request) => {
                        let look = Look {
                            counters: self.agent.counters().clone(),
                            status: self.agent.status(),
                            journal: self.recorder.as_ref().map(Recorder::state),
                        };
                        // Whoever asked may have gone.
                        let _ = request.send(look);
                    }
                    None => return,
                },
            }
        }
    }

    fn now(&self) -> Time {
        let elapsed = self.origin_of_time.elapsed();
        Time::from_micros(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
    }

    /// Rounded up: a timer that fires early would only find that nothing is due.
    fn instant(&self, time: Time) -> Instant {
        self.origin_of_time + Duration::from_micros(time.as_micros().saturating_add(1))
    }

    fn handle(&mut self, input: Input) {
        let now = self.now();
        // Before the agent sees it: if the agent dies of it, it is in the journal.
        if let Some(recorder) = &mut self.recorder {
            recorder.input(now, &input);
        }
        self.agent.handle(now, input);
        while let Some(output) = self.agent.poll_output() {
            if let Some(recorder) = &mut self.recorder {
                recorder.output(&output);
            }
            self.perform(output);
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.settle(now, &self.agent);
        }
    }

    fn perform(&mut self, output: Output) {
        let Drivers { mirror, peers, origin, store } = &mut self.drivers;
        match output {
            Output::MirrorServe { request, digest, size, media_type } => {
                mirror.serve(request, digest, size, media_type)
            }
            Output::MirrorRefuse { request, refusal } => mirror.refuse(request, refusal),
            Output::MirrorAbort { request } => mirror.abort(request),
            Output::Release { digest, bytes } => store.release(digest, bytes),
            Output::StreamAdmit { stream, max_bytes } => peers.admit(stream, max_bytes),
            Output::StreamReset { stream } => peers.reset(stream),
            Output::StreamReply { stream, response } => peers.reply(stream, response),
            Output::PieceServe { stream, digest, offset, len, claim } => {
                peers.serve_piece(stream, digest, offset, len, claim);
            }
            Output::PieceRefuse { stream, refusal } => peers.refuse_piece(stream, refusal),
            Output::Call { call, peer, request, timeout } => peers.call(call, peer, request, timeout),
            Output::CallCancel { call } => peers.cancel_call(call),
            Output::Notify { peer, notice } => peers.notify(peer, notice),
            Output::Learn { peer, addresses } => peers.learn(peer, addresses),
            Output::FetchPiece { op, peer, digest, size, piece, check } => {
                peers.fetch_piece(op, peer, digest, size, piece, check);
            }
            Output::FetchOrigin { op, source, digest, span, credential, check } => {
                origin.fetch(op, source, digest, span, credential, check);
            }
            // Only one of them knows the number; to the other it means nothing.
            Output::CancelTransfer { op } => {
                peers.cancel(op);
                origin.cancel(op);
            }
            Output::StatOrigin { op, source, digest, credential } => origin.stat(op, source, digest, credential),
            Output::ForgetCredential { credential } => origin.forget_credential(credential),
            Output::FindProviders { op, digest } => peers.find_providers(op, digest),
            Output::Announce { digests } => peers.announce(digests),
            Output::Withdraw { digests } => peers.withdraw(digests),
            Output::Stage { digest, size, facts } => store.stage(digest, size, facts),
            Output::Record { digest, piece } => store.record(digest, piece),
            Output::HashPiece { op, digest, size, piece, from } => store.hash_piece(op, digest, size, piece, from),
            Output::Commit { digest, facts } => store.commit(digest, facts),
            Output::KeepSpine { digest, states } => store.keep_spine(digest, states),
            Output::ReadSpine { digest } => store.read_spine(digest),
            Output::Discard { digest } => store.discard(digest),
            Output::Evict { digest } => store.evict(digest),
            Output::Touch { digest } => store.touch(digest),
            Output::ReadManifest { digest } => store.read_manifest(digest),
            Output::Verify { digest } => store.verify(digest),
            Output::Drained => {
                // Nobody may be waiting for it.
                let _ = self.drained.send(true);
            }
            Output::Explain(explanation) => explain(&explanation),
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What the agent did and why, for people.
fn explain(explanation: &Explanation) {
    match explanation {
        Explanation::Resolved { digest, rule, outcome } => tracing::debug!(%digest, %rule, %outcome, "resolved"),
        Explanation::Leading { digest } => tracing::debug!(%digest, "leading the swarm"),
        Explanation::Following { digest, tracker } => tracing::debug!(%digest, %tracker, "following"),
        Explanation::TrackerLost { digest, tracker } => {
            tracing::info!(%digest, %tracker, "the tracker does not answer, or nothing moves: looking for another");
        }
        Explanation::Convicted { digest, peer, crime } => {
            tracing::warn!(%digest, %peer, %crime, "a peer is not asked for this blob again");
        }
        Explanation::Completed { digest, origin_bytes, peer_bytes } => {
            tracing::info!(%digest, origin_bytes, peer_bytes, "complete and verified");
        }
        Explanation::Failed { digest, class, detail } => {
            tracing::warn!(%digest, class = class.name(), %detail, "could not be fetched; containerd asks the next host");
        }
        Explanation::Mismatched { digest } => {
            tracing::warn!(%digest, "what is here of this blob turned out not to be it: what is wrong has to be fetched again");
        }
        Explanation::Rotten { digest } => {
            tracing::error!(
                %digest,
                "a stored blob is not what it was when it was committed: deleted, it is fetched again; look at this node's disk"
            );
        }
        Explanation::DiskSpoils { digest } => {
            tracing::error!(
                %digest,
                "a stored blob is wrong again soon after it was fetched again: this node's disk or memory spoils what it stores; \
                 no fetch is begun for an hour, and containerd is sent to the next host"
            );
        }
        Explanation::RegistryLimits { registry, gap } => {
            let gap_millis = gap.as_millis() as u64;
            tracing::info!(%registry, gap_millis, "the registry limits requests: asking for one thing at a time");
        }
        Explanation::RankMismatch { digest, peer, ours, theirs } => {
            tracing::debug!(%digest, %peer, ours, ?theirs, "a peer sees other members than this node");
        }
        Explanation::UnauthorizedPeer { peer, reason, rejected } => {
            tracing::warn!(%peer, %reason, rejected, "a request from a peer that is no member");
        }
    }
}

//! Writes down everything that happens to an agent, so that it can be executed again: see [`longshore_core::journal`] for
//! what is written, and `longshore replay` for what can be done with it.
//!
//! The shell encodes each input, which takes about a microsecond; a thread of its own compresses and writes. The thread
//! never holds up the agent: if it is too slow, if the disk is full, or if an input does not fit, the recording stops, says
//! so in the log, in the metrics and (if it still can) in the file, and the agent goes on without it. A journal never has
//! holes: what is there is everything up to its end.

mod writer;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use longshore_core::Agent;
use longshore_core::config::Config;
use longshore_core::input::Input;
use longshore_core::journal::file::{End, Frame};
use longshore_core::journal::scribe::Scribe;
use longshore_core::output::Output;
use longshore_core::time::Time;

/// Records are handed to the thread when there are this many bytes of them: enough to compress well, little enough to
/// lose.
const BATCH_BYTES: usize = 64 << 10;
/// ... or after this long: so much of the past is missing at most when the process is killed.
const BATCH_AGE: Duration = Duration::from_secs(1);
/// Most batches that wait for the thread: 4 MiB, or some seconds of a very busy agent.
const MOST_WAITING: usize = 64;
/// Longest that a stopping agent waits for the last batch to be written.
const LAST_WRITE: Duration = Duration::from_secs(2);
/// Part of the cap that one file takes: fewer files would make a coarse ring, more would hold more states than inputs.
const FILES_IN_CAP: u64 = 8;
/// Smallest and largest file, in bytes. The largest is a few hundred thousand inputs, which replay in some seconds.
const FILE_BYTES: std::ops::RangeInclusive<u64> = (64 << 10)..=(16 << 20);
/// How the files of journals end.
pub const EXTENSION: &str = "journal";

/// Where and how much to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalConfig {
    /// The directory. Made if it is missing. Only one agent may write into it.
    pub directory: PathBuf,
    /// Most bytes of all journal files in it; the oldest go first. At least the newest file is kept.
    pub cap_bytes: u64,
    /// The program and its version.
    pub program: String,
}

impl JournalConfig {
    fn file_bytes(&self) -> u64 {
        (self.cap_bytes / FILES_IN_CAP).clamp(*FILE_BYTES.start(), *FILE_BYTES.end())
    }
}

/// How a recording is doing. Cheap to clone; all clones see the same.
#[derive(Clone, Debug, Default)]
pub struct JournalState(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    bytes: AtomicU64,
    inputs: AtomicU64,
    /// The current file is full: the next one has to start with a state.
    full: AtomicBool,
    stopped: AtomicBool,
    /// Why it stopped; written before `stopped` is set.
    reason: Mutex<Option<String>>,
}

impl JournalState {
    /// Bytes written to files so far, by this agent.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Inputs written to files so far.
    #[must_use]
    pub fn inputs(&self) -> u64 {
        self.0.inputs.load(Ordering::Relaxed)
    }

    /// Whether the recording has stopped although the agent goes on.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.0.stopped.load(Ordering::Acquire)
    }

    /// Says why, once.
    fn stop(&self, reason: String) {
        let mut slot = self.0.reason.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            tracing::error!(
                reason,
                "the journal has stopped; the agent goes on without it, start it again to record again"
            );
            *slot = Some(reason);
        }
        drop(slot);
        self.0.stopped.store(true, Ordering::Release);
    }

    fn reason(&self) -> Option<String> {
        self.0.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The shell's end of a recording.
#[derive(Debug)]
pub struct Recorder {
    scribe: Scribe,
    state: JournalState,
    /// `None` when the recording has stopped.
    sender: Option<SyncSender<Frame>>,
    /// Closes when the thread has written all it ever will.
    finished: Receiver<()>,
    thread: Option<JoinHandle<()>>,
    /// When the oldest record that waits in the scribe was recorded.
    waiting_since: Option<Time>,
}

impl Recorder {
    /// Starts to record an agent that will be made with exactly this configuration and seed, at [`Time::ZERO`].
    ///
    /// # Errors
    /// When the directory or the first file cannot be made.
    pub fn start(journal: &JournalConfig, config: Config, seed: u64) -> std::io::Result<Self> {
        let epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let epoch = u64::try_from(epoch.as_micros()).unwrap_or(u64::MAX);
        let scribe = Scribe::new(&journal.program, epoch, config, seed, Time::ZERO);
        let state = JournalState::default();
        let writer = writer::Writer::start(journal, scribe.header(), state.clone())?;
        let (sender, receiver) = sync_channel(MOST_WAITING);
        let (finish, finished) = sync_channel(0);
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
            writer.run(&receiver);
            drop(finish);
        })?;
        Ok(Self { scribe, state, sender: Some(sender), finished, thread: Some(thread), waiting_since: None })
    }

    /// How the recording is doing.
    #[must_use]
    pub fn state(&self) -> JournalState {
        self.state.clone()
    }

    /// The agent is about to handle this, at exactly this time.
    pub fn input(&mut self, now: Time, input: &Input) {
        if self.sender.is_none() {
            return;
        }
        if let Err(error) = self.scribe.input(now, input) {
            self.stop(error.to_string());
        }
        self.waiting_since.get_or_insert(now);
    }

    /// The agent did this.
    pub fn output(&mut self, output: &Output) {
        if self.sender.is_some() {
            self.scribe.output(output);
        }
    }

    /// The agent has handled the input.
    pub fn settle(&mut self, now: Time, agent: &Agent) {
        if self.sender.is_none() {
            return;
        }
        self.scribe.settle(agent);
        if self.scribe.pending_bytes() >= BATCH_BYTES || self.flush_at().is_some_and(|at| at <= now) {
            self.flush(agent);
        }
    }

    /// When to [flush](Self::flush) at the latest.
    #[must_use]
    pub fn flush_at(&self) -> Option<Time> {
        self.waiting_since.map(|since| since + BATCH_AGE)
    }

    /// Hands over what was recorded. To be called between two inputs.
    pub fn flush(&mut self, agent: &Agent) {
        self.hand_over();
        if self.state.stopped() {
            self.sender = None;
        }
        if self.sender.is_some() && self.state.0.full.swap(false, Ordering::Relaxed) {
            match self.scribe.rotate(agent) {
                Ok(header) => {
                    let header = Frame::Header(Box::new(header.clone()));
                    self.send(header);
                }
                Err(error) => self.stop(error.to_string()),
            }
        }
    }

    fn hand_over(&mut self) {
        self.waiting_since = None;
        if let Some(batch) = self.scribe.take() {
            self.send(Frame::Batch(batch));
        }
    }

    fn send(&mut self, frame: Frame) {
        let Some(sender) = &self.sender else { return };
        match sender.try_send(frame) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                self.stop(format!("the disk does not keep up: {MOST_WAITING} batches wait to be written"));
            }
            // The thread has said why.
            Err(TrySendError::Disconnected(_)) => self.sender = None,
        }
    }

    fn stop(&mut self, reason: String) {
        self.state.stop(reason);
        self.sender = None;
        self.waiting_since = None;
    }
}

impl Drop for Recorder {
    /// Writes what is left; also when the agent panics: then the input that it died of is the last one in the journal.
    fn drop(&mut self) {
        self.hand_over();
        if let Some(sender) = self.sender.take()
            && !self.state.stopped()
        {
            // If there is no room, the file ends like after a crash.
            let _ = sender.try_send(Frame::End(End::Closed));
        }
        // A disk that hangs must not keep the program from ending.
        if let Err(std::sync::mpsc::RecvTimeoutError::Disconnected) = self.finished.recv_timeout(LAST_WRITE)
            && let Some(thread) = self.thread.take()
        {
            // It has nothing left to do; that it panicked would have been reported by the panic itself.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;

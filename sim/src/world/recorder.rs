//! Journals of simulated agents: what `longshore agent --journal` writes of a real one, so that whatever reads one kind
//! reads the other.
//!
//! Nothing that a world does depends on whether it is recorded.

use std::collections::BTreeMap;
use std::fmt;

use longshore_core::Agent;
use longshore_core::config::Config;
use longshore_core::input::Input;
use longshore_core::journal::JournalError;
use longshore_core::journal::file::{End, Frame, MAGIC};
use longshore_core::journal::scribe::Scribe;
use longshore_core::output::Output;
use longshore_core::time::Time;

use super::NodeIndex;

/// Records become a frame when there are this many bytes of them, or after a second: as a real agent's (`net/src/journal.rs`),
/// so that a simulated journal is as large as a real one.
const BATCH_BYTES: usize = 64 << 10;
const BATCH_MICROS: u64 = 1_000_000;
/// Wall-clock time at the beginning of every simulated world: 2026-01-01. For people who read the journal.
const EPOCH_UNIX_MICROS: u64 = 1_767_225_600_000_000;

/// Takes the bytes of journals: the file's name without extension, and what comes next in it.
pub type Sink = Box<dyn FnMut(&str, &[u8]) -> std::io::Result<()>>;

/// Writes the journals of a world.
pub struct Recorder {
    sink: Sink,
    nodes: BTreeMap<NodeIndex, Recording>,
    /// Lives of each node so far.
    lives: BTreeMap<NodeIndex, u32>,
    /// Why nothing more is recorded.
    failure: Option<String>,
}

/// One agent's journal.
struct Recording {
    file: String,
    scribe: Scribe,
    /// Time of the first record that waits.
    waiting_since: Option<Time>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Recorder").field("failure", &self.failure).finish_non_exhaustive()
    }
}

impl Recorder {
    /// A recorder that gives what it writes to `sink`.
    #[must_use]
    pub fn new(sink: Sink) -> Self {
        Self { sink, nodes: BTreeMap::new(), lives: BTreeMap::new(), failure: None }
    }

    /// Why the journals are not complete, if they are not.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// An agent was made with exactly these.
    pub(super) fn born(&mut self, node: NodeIndex, config: &Config, seed: u64, birth: Time) {
        let life = self.lives.entry(node).or_default();
        *life += 1;
        let file = if *life == 1 { config.name.to_string() } else { format!("{}-{life}", config.name) };
        let program = concat!("longshore-sim ", env!("CARGO_PKG_VERSION"));
        let scribe = Scribe::new(program, EPOCH_UNIX_MICROS, config.clone(), seed, birth);
        let header = Frame::Header(Box::new(scribe.header().clone())).encode();
        let recording = Recording { file, scribe, waiting_since: None };
        self.put(&recording.file, header.map(|frame| [MAGIC, &frame].concat()));
        self.nodes.insert(node, recording);
    }

    /// The agent is about to handle this. Its time is the agent's, not the world's.
    pub(super) fn input(&mut self, node: NodeIndex, time: Time, input: &Input) {
        let Some(recording) = self.nodes.get_mut(&node) else { return };
        let since = *recording.waiting_since.get_or_insert(time);
        let full = recording.scribe.pending_bytes() >= BATCH_BYTES;
        if full || time.since(since).as_micros() >= u128::from(BATCH_MICROS) {
            self.flush(node);
        }
        let Some(recording) = self.nodes.get_mut(&node) else { return };
        recording.waiting_since.get_or_insert(time);
        if let Err(error) = recording.scribe.input(time, input) {
            self.fail(node, &error.to_string());
        }
    }

    /// The agent did this.
    pub(super) fn output(&mut self, node: NodeIndex, output: &Output) {
        if let Some(recording) = self.nodes.get_mut(&node) {
            recording.scribe.output(output);
        }
    }

    /// The agent has nothing more to do for its input.
    pub(super) fn settle(&mut self, node: NodeIndex, agent: &Agent) {
        if let Some(recording) = self.nodes.get_mut(&node) {
            recording.scribe.settle(agent);
        }
    }

    /// The agent was killed: its journal just stops.
    pub(super) fn died(&mut self, node: NodeIndex) {
        self.flush(node);
        self.nodes.remove(&node);
    }

    /// The world ends, and with it every agent that is still alive, in an orderly way.
    pub(super) fn close(&mut self) {
        for node in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.flush(node);
            if let Some(recording) = self.nodes.remove(&node) {
                self.put(&recording.file, Frame::End(End::Closed).encode());
            }
        }
    }

    fn flush(&mut self, node: NodeIndex) {
        let Some(recording) = self.nodes.get_mut(&node) else { return };
        recording.waiting_since = None;
        if let Some(batch) = recording.scribe.take() {
            let (file, frame) = (recording.file.clone(), Frame::Batch(batch).encode());
            self.put(&file, frame);
        }
    }

    fn put(&mut self, file: &str, frame: Result<Vec<u8>, JournalError>) {
        if self.failure.is_some() {
            return;
        }
        let written = match frame {
            Ok(bytes) => (self.sink)(file, &bytes).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = written {
            self.failure = Some(format!("{file}: {error}"));
        }
    }

    /// A journal has no holes: with an input that cannot be written it ends.
    fn fail(&mut self, node: NodeIndex, why: &str) {
        if let Some(recording) = self.nodes.remove(&node) {
            self.put(&recording.file, Frame::End(End::Stopped(why.to_owned())).encode());
            self.failure.get_or_insert_with(|| format!("{}: {why}", recording.file));
        }
    }
}

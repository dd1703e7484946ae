//! Records an agent while it runs. Whoever drives the agent tells the scribe what it tells the agent, and what comes out.

use super::record::Batch;
use super::running::Running;
use super::{FORMAT, Header, JournalError, snapshot};
use crate::agent::Agent;
use crate::config::Config;
use crate::input::Input;
use crate::output::Output;
use crate::time::Time;

/// Writes down one agent's inputs.
#[derive(Clone, Debug)]
pub struct Scribe {
    header: Header,
    running: Running,
    time: Time,
    batch: Batch,
    /// An input was written, its check was not.
    open: bool,
}

impl Scribe {
    /// Starts with a newborn agent: one that was made with exactly these, and has handled nothing.
    #[must_use]
    pub fn new(program: &str, epoch_unix_micros: u64, config: Config, seed: u64, birth: Time) -> Self {
        Self::resume(Header {
            format: FORMAT,
            program: program.to_owned(),
            epoch_unix_micros,
            number: 0,
            inputs_before: 0,
            time: birth,
            digest: Running::default().value(),
            config,
            seed,
            redacted: false,
            state: None,
        })
    }

    /// Starts with the agent that this header describes, instead of a newborn one.
    #[must_use]
    pub fn resume(header: Header) -> Self {
        let (running, time) = (Running::resume(header.digest), header.time);
        let batch = Batch::after(header.inputs_before, time);
        Self { header, running, time, batch, open: false }
    }

    /// What the current file starts with.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The agent is about to handle this, at this time.
    ///
    /// # Errors
    /// When the input cannot be encoded. The recording has a gap then and must end.
    pub fn input(&mut self, now: Time, input: &Input) -> Result<(), JournalError> {
        self.batch.push(self.time, now, input)?;
        self.time = now;
        self.open = true;
        Ok(())
    }

    /// The agent did this.
    pub fn output(&mut self, output: &Output) {
        self.running.output(output);
    }

    /// The agent has nothing more to do for this input.
    pub fn settle(&mut self, agent: &Agent) {
        self.running.settle(agent.poll_deadline());
        self.batch.check(self.running.check());
        self.batch.digest = Some(self.running.seal(agent.counters()));
        self.open = false;
    }

    /// Number of inputs so far.
    #[must_use]
    pub fn inputs(&self) -> u64 {
        self.batch.first + u64::from(self.batch.count)
    }

    /// Bytes that wait to be taken.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.batch.records.len()
    }

    /// The running digest.
    #[must_use]
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// Takes what was recorded since the last time, if there is anything.
    pub fn take(&mut self) -> Option<Batch> {
        if self.batch.count == 0 {
            return None;
        }
        let next = Batch::after(self.inputs(), self.time);
        let mut batch = core::mem::replace(&mut self.batch, next);
        if self.open {
            batch.digest = None;
        }
        Some(batch)
    }

    /// Ends the file after all that was [taken](Self::take): the header of the next one, with the agent's state. To be
    /// called between two inputs.
    ///
    /// # Errors
    /// When the state cannot be encoded.
    pub fn rotate(&mut self, agent: &Agent) -> Result<&Header, JournalError> {
        debug_assert!(self.batch.count == 0, "what was recorded belongs to the old file");
        self.header = Header {
            number: self.header.number + 1,
            inputs_before: self.inputs(),
            time: self.time,
            digest: self.running.value(),
            state: Some(snapshot(agent)?),
            ..self.header.clone()
        };
        Ok(&self.header)
    }
}

//! Journals of agents that anything can happen to: they replay, and what is wrong with them is found.

#![allow(clippy::unwrap_used, reason = "everything here is a test, helpers of tests included")]

mod inputs;
mod properties;
mod quiet;
mod wrong;

use longshore_core::Agent;
use longshore_core::config::Config;
use longshore_core::input::Input;
use longshore_core::journal::file::End;
use longshore_core::journal::scribe::Scribe;
use longshore_core::names::PeerId;
use longshore_core::time::Time;
use longshore_sim::replay::Journal;

/// An agent that is recorded.
pub(crate) struct Recorded {
    pub(crate) agent: Agent,
    pub(crate) now: Time,
    scribe: Scribe,
    files: Vec<Journal>,
    /// How many records make a batch.
    batch: u64,
}

impl Recorded {
    pub(crate) fn new(seed: u64, batch: u64) -> Self {
        let mut config = Config::new("node of 12D3KooWPeer0", PeerId::new("12D3KooWPeer0"));
        config.zone = Some("canary zone 0".into());
        config.addresses = vec!["canary address 0".into()];
        let scribe = Scribe::new("test 1", 1_795_228_359_355_464, config.clone(), seed, Time::ZERO);
        let files = vec![journal(scribe.header())];
        Self { agent: Agent::new(config, seed, Time::ZERO), now: Time::ZERO, scribe, files, batch }
    }

    /// What a shell does with an input.
    pub(crate) fn input(&mut self, now: Time, input: Input) {
        self.now = now;
        self.scribe.input(now, &input).unwrap();
        self.agent.handle(now, input);
        while let Some(output) = self.agent.poll_output() {
            self.scribe.output(&output);
        }
        self.scribe.settle(&self.agent);
        if self.scribe.inputs().is_multiple_of(self.batch) {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let batch = self.scribe.take();
        self.files.last_mut().unwrap().batches.extend(batch);
    }

    pub(crate) fn rotate(&mut self) {
        self.flush();
        self.files.last_mut().unwrap().end = Some(End::Rotated);
        self.files.push(journal(self.scribe.rotate(&self.agent).unwrap()));
    }

    pub(crate) fn close(mut self) -> Vec<Journal> {
        self.flush();
        self.files.last_mut().unwrap().end = Some(End::Closed);
        self.files
    }
}

fn journal(header: &longshore_core::journal::Header) -> Journal {
    Journal { header: header.clone(), batches: Vec::new(), end: None, damage: None }
}

/// An agent to which all of this happened; a new file after every `file` inputs.
pub(crate) fn recorded(seed: u64, life: &[(u64, Input)], batch: u64, file: usize) -> Vec<Journal> {
    let mut recorded = Recorded::new(seed, batch);
    for (index, (delta, input)) in life.iter().enumerate() {
        if index > 0 && index % file == 0 {
            recorded.rotate();
        }
        let now = Time::from_micros(recorded.now.as_micros() + delta);
        recorded.input(now, input.clone());
    }
    recorded.close()
}

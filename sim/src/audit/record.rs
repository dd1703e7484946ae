//! The running digest of a run.

use std::fmt::{Debug, Write};
use std::ops::Range;

use longshore_core::time::Time;

use crate::trace::TraceHash;
use crate::world::NodeIndex;

/// What a world records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Events between two digests.
    pub window: u64,
    /// Numbers of the events whose words are kept.
    pub lines: Range<u64>,
}

/// The running digest of a run, and some of its events.
#[derive(Debug)]
pub(crate) struct Recorder {
    settings: Settings,
    hash: Words,
    /// Events so far.
    pub(crate) events: u64,
    /// The digest of everything until the end of each window.
    windows: Vec<u64>,
    /// The events that were to be kept.
    pub(crate) lines: Vec<String>,
}

/// Hashes what is written to it.
#[derive(Debug, Default)]
struct Words(TraceHash);

impl Write for Words {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.add(text.len() as u64);
        for chunk in text.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0.add(u64::from_le_bytes(word));
        }
        Ok(())
    }
}

impl Recorder {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, hash: Words::default(), events: 0, windows: Vec::new(), lines: Vec::new() }
    }

    /// Takes in what went into an agent (`<-`) or came out of it (`->`).
    pub(crate) fn event(&mut self, at: Time, node: NodeIndex, way: &str, what: &dyn Debug) {
        let micros = at.as_micros();
        write!(self.hash, "{micros} {node} {way} {what:?}").expect("hashing does not fail");
        if self.settings.lines.contains(&self.events) {
            self.lines.push(format!("{:.6} s, node {node} {way} {what:?}", micros as f64 / 1e6));
        }
        self.events += 1;
        if self.events.is_multiple_of(self.settings.window) {
            self.windows.push(self.digest());
        }
    }

    /// The digest of everything so far.
    pub(crate) fn digest(&self) -> u64 {
        self.hash.0.value()
    }

    /// The number of the first window in which two runs differ; a window that only one of them began is one.
    pub(crate) fn first_difference(&self, other: &Self) -> Option<usize> {
        let whole = self.windows.iter().zip(&other.windows).take_while(|(one, other)| one == other).count();
        let ends_here = whole == self.windows.len() && whole == other.windows.len();
        (!ends_here || self.digest() != other.digest() || self.events != other.events).then_some(whole)
    }
}

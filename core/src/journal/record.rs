//! Inputs with their times as bytes, batch by batch.
//!
//! A record is: microseconds since the record before (zigzag varint: a clock that steps back is recorded as it is), the
//! input, and 16 bits of the running digest after it.

use serde::{Deserialize, Serialize};

use super::JournalError;
use crate::input::Input;
use crate::time::Time;

/// Records that are written together: the contents of one frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Number of inputs before this batch, since the agent's birth.
    pub first: u64,
    /// The time that the first record counts from: that of the input before.
    pub start: Time,
    /// Number of records.
    pub count: u32,
    /// The [sealed](super::running::Running::seal) digest after the last record; `None` if the agent died in it.
    pub digest: Option<u64>,
    /// The records.
    pub records: Vec<u8>,
}

/// One input.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// What [`Agent::handle`](crate::Agent::handle) was told of the time.
    pub time: Time,
    /// What happened.
    pub input: Input,
    /// 16 bits of the running digest after it; `None` if the agent died in this input.
    pub check: Option<u16>,
}

impl Batch {
    /// An empty batch that follows this many inputs, the last of them at `start`.
    #[must_use]
    pub const fn after(first: u64, start: Time) -> Self {
        Self { first, start, count: 0, digest: None, records: Vec::new() }
    }

    /// Adds an input, without its check. `before` is the time of the record before. On an error nothing is added.
    pub(super) fn push(&mut self, before: Time, time: Time, input: &Input) -> Result<(), JournalError> {
        // Times are microseconds since an agent's start: the difference of two fits.
        let delta = time.as_micros().wrapping_sub(before.as_micros()).cast_signed();
        let record = postcard::to_allocvec(&(delta, input))
            .map_err(|error| JournalError::Encode { what: "an input", why: error.to_string() })?;
        self.records.extend_from_slice(&record);
        self.count += 1;
        Ok(())
    }

    /// Adds the check of the last input.
    pub(super) fn check(&mut self, check: u16) {
        self.records.extend_from_slice(&check.to_le_bytes());
    }

    /// The records, in order. After an error nothing more comes.
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        Records { rest: &self.records, left: self.count, time: self.start, torn: self.digest.is_none() }
    }
}

/// Reads a batch.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    left: u32,
    time: Time,
    torn: bool,
}

impl Iterator for Records<'_> {
    type Item = Result<Record, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            if self.rest.is_empty() {
                return None;
            }
            self.rest = &[];
            return Some(Err(wrong("there is more than the batch should have".to_owned())));
        }
        self.left -= 1;
        let read = self.read();
        if read.is_err() {
            self.left = 0;
            self.rest = &[];
        }
        Some(read)
    }
}

impl Records<'_> {
    fn read(&mut self) -> Result<Record, JournalError> {
        let ((delta, input), rest) =
            postcard::take_from_bytes::<(i64, Input)>(self.rest).map_err(|error| wrong(error.to_string()))?;
        self.time = Time::from_micros(self.time.as_micros().wrapping_add_signed(delta));
        let check = match rest {
            [low, high, rest @ ..] => {
                self.rest = rest;
                Some(u16::from_le_bytes([*low, *high]))
            }
            // Only the last record of an agent that died can lack it.
            [] if self.torn && self.left == 0 => {
                self.rest = rest;
                None
            }
            _ => return Err(wrong("its check is missing".to_owned())),
        };
        Ok(Record { time: self.time, input, check })
    }
}

fn wrong(why: String) -> JournalError {
    JournalError::Decode { what: "a record", why }
}

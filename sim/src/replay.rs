//! Executes a recorded agent again.
//!
//! The agent is a function of what a journal holds, so a replay does exactly what the agent did; if it does not, another
//! program (or a nondeterministic one) recorded it, and the first input after which the two differ is named.

pub mod causes;
pub mod redacted;
pub mod story;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use longshore_core::Agent;
use longshore_core::input::Input;
use longshore_core::journal::file::{End, Frame, Frames};
use longshore_core::journal::record::{Batch, Record, Records};
use longshore_core::journal::running::Running;
use longshore_core::journal::{Header, JournalError, snapshot};
use longshore_core::output::Output;
use longshore_core::time::Time;
use longshore_core::timers::Deadline;

/// A journal file that was read, as far as it can be.
#[derive(Clone, Debug)]
pub struct Journal {
    /// What it starts with.
    pub header: Header,
    /// What it holds.
    pub batches: Vec<Batch>,
    /// How it ended; `None` if it just stops, as after a crash.
    pub end: Option<End>,
    /// What is wrong with the rest of the file, if it could not be read to its end.
    pub damage: Option<JournalError>,
}

impl Journal {
    /// Reads a file.
    ///
    /// # Errors
    /// When not even its header can be read. Anything wrong after it is [`damage`](Self::damage): what comes before counts.
    pub fn read(bytes: &[u8]) -> Result<Self, JournalError> {
        let (header, frames) = Frames::open(bytes)?;
        let mut journal = Self { header, batches: Vec::new(), end: None, damage: None };
        let mut next = journal.header.inputs_before;
        let mut frames = frames;
        loop {
            let offset = frames.offset();
            match frames.next() {
                None => return Ok(journal),
                Some(Ok(Frame::Batch(batch))) if batch.first == next && journal.end.is_none() => {
                    next += u64::from(batch.count);
                    journal.batches.push(batch);
                }
                Some(Ok(Frame::End(end))) if journal.end.is_none() => journal.end = Some(end),
                Some(Ok(_)) => {
                    journal.damage =
                        Some(JournalError::Misplaced { offset, what: "the batch that follows, or the end" });
                    return Ok(journal);
                }
                Some(Err(error)) => {
                    journal.damage = Some(error);
                    return Ok(journal);
                }
            }
        }
    }

    /// The journal as a file.
    ///
    /// # Errors
    /// When a part of it is larger than a frame may be.
    pub fn write(&self) -> Result<Vec<u8>, JournalError> {
        let mut bytes = longshore_core::journal::file::MAGIC.to_vec();
        bytes.extend(Frame::Header(Box::new(self.header.clone())).encode()?);
        for batch in &self.batches {
            bytes.extend(Frame::Batch(batch.clone()).encode()?);
        }
        if let Some(end) = &self.end {
            bytes.extend(Frame::End(end.clone()).encode()?);
        }
        Ok(bytes)
    }

    /// Number of inputs in it.
    #[must_use]
    pub fn inputs(&self) -> u64 {
        self.batches.iter().map(|batch| u64::from(batch.count)).sum()
    }

    /// Whether `next` is the file that follows this one.
    #[must_use]
    pub fn is_followed_by(&self, next: &Self) -> bool {
        let (this, next) = (&self.header, &next.header);
        this.epoch_unix_micros == next.epoch_unix_micros
            && this.number + 1 == next.number
            && this.inputs_before + self.inputs() == next.inputs_before
    }
}

/// One input and what followed from it.
#[derive(Debug)]
pub struct Step<'a> {
    /// The input's number since the agent's birth, from 0.
    pub number: u64,
    /// When it came.
    pub time: Time,
    /// The input.
    pub input: &'a Input,
    /// For a tick: the deadline that was due first.
    pub due: Option<Deadline>,
    /// For a tick: how long that deadline had been due.
    pub late: Duration,
    /// What the agent did.
    pub outputs: &'a [Output],
    /// The agent after it.
    pub agent: &'a Agent,
}

/// Where a replay left the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The first input after which the replayed agent differs from the recorded one.
    pub number: u64,
    /// When it came.
    pub time: Time,
    /// Its kind.
    pub kind: &'static str,
    /// How it differs.
    pub difference: Difference,
}

/// How a replayed agent differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// It did something else: 16 bits of the running digests.
    Check {
        /// In the journal.
        expected: u16,
        /// In the replay.
        found: u16,
    },
    /// It did the same as far as a check tells, but the whole digests differ, or the counters.
    Digest {
        /// In the journal.
        expected: u64,
        /// In the replay.
        found: u64,
    },
    /// It did the same, but its state differs from the one that the next file starts with.
    State,
    /// It panicked, and the recorded one went on.
    Panicked,
}

impl std::fmt::Display for Divergence {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { number, time, kind, difference } = self;
        write!(formatter, "at input {number} ({kind}, {:.6} s): ", time.as_micros() as f64 / 1e6)?;
        match difference {
            Difference::Check { expected, found } => {
                write!(
                    formatter,
                    "the digest of what the agent did was {expected:04x}, in this replay it is {found:04x}"
                )
            }
            Difference::Digest { expected, found } => {
                write!(formatter, "the digest with the counters was {expected:016x}, in this replay it is {found:016x}")
            }
            Difference::State => formatter.write_str("the next file starts with another state than this replay has"),
            Difference::Panicked => formatter.write_str("this replay panicked, the agent did not"),
        }
    }
}

/// What a replay found.
#[derive(Debug)]
pub struct Replayed {
    /// Inputs executed.
    pub inputs: u64,
    /// How many of each kind.
    pub kinds: BTreeMap<&'static str, u64>,
    /// Outputs that followed.
    pub outputs: u64,
    /// Time of the first input.
    pub first: Option<Time>,
    /// Time of the last input.
    pub last: Option<Time>,
    /// The agent panicked in the last input, as it did when it was recorded.
    pub died: bool,
    /// The running digest at the end.
    pub digest: u64,
    /// Where the replay left the path, if it did; nothing was executed after that.
    pub divergence: Option<Divergence>,
    /// The agent at the end.
    pub agent: Agent,
}

/// An agent that is being executed again, input by input.
#[derive(Debug)]
pub struct Stepper<'a> {
    journals: &'a [Journal],
    /// The file that is being read, and the next batch in it.
    place: (usize, usize),
    /// What is left of the batch before, with the number of its next record.
    records: Option<(u64, Records<'a>, &'a Batch)>,
    running: Running,
    input: Option<Executed>,
    outputs: Vec<Output>,
    result: Replayed,
}

/// The last input that was executed.
#[derive(Debug)]
struct Executed {
    number: u64,
    time: Time,
    input: Input,
    due: Option<(Time, Deadline)>,
}

/// Executes the files of one agent, in order, and shows every step to `visit`.
///
/// # Errors
/// When something in a file cannot be decoded although its checksums are right, or when the files do not follow each other.
pub fn replay(journals: &[Journal], mut visit: impl FnMut(&Step<'_>)) -> Result<Replayed, JournalError> {
    let mut stepper = Stepper::new(journals)?;
    while let Some(step) = stepper.advance()? {
        visit(&step);
    }
    Ok(stepper.finish())
}

impl<'a> Stepper<'a> {
    /// Starts with the agent that the first of these files starts with.
    ///
    /// # Errors
    /// When there is no file, or the agent's state cannot be decoded.
    pub fn new(journals: &'a [Journal]) -> Result<Self, JournalError> {
        let Some(Journal { header, .. }) = journals.first() else { return Err(JournalError::NoJournal) };
        let result = Replayed {
            inputs: 0,
            kinds: BTreeMap::new(),
            outputs: 0,
            first: None,
            last: None,
            died: false,
            digest: header.digest,
            divergence: None,
            agent: header.agent()?,
        };
        let running = Running::resume(header.digest);
        Ok(Self { journals, place: (0, 0), records: None, running, input: None, outputs: Vec::new(), result })
    }

    /// What was found so far.
    #[must_use]
    pub fn finish(self) -> Replayed {
        self.result
    }

    /// Executes the next input. `None` at the end, and after the replay has left the path.
    ///
    /// # Errors
    /// When something in a file cannot be decoded although its checksums are right, or when the files do not follow each
    /// other.
    pub fn advance(&mut self) -> Result<Option<Step<'_>>, JournalError> {
        let Some((number, record)) = self.next_record()? else { return Ok(None) };
        self.execute(number, record);
        let Self { input, outputs, result, .. } = self;
        Ok(input.as_ref().map(|Executed { number, time, input, due }| Step {
            number: *number,
            time: *time,
            input,
            due: due.map(|(_, deadline)| deadline),
            late: due.map_or(Duration::ZERO, |(at, _)| time.since(at)),
            outputs,
            agent: &result.agent,
        }))
    }

    /// The next record of this batch, of the next one, or of the next file.
    fn next_record(&mut self) -> Result<Option<(u64, Record)>, JournalError> {
        loop {
            if self.result.divergence.is_some() || self.result.died {
                return Ok(None);
            }
            if let Some((number, records, batch)) = &mut self.records {
                if let Some(record) = records.next() {
                    *number += 1;
                    return Ok(Some((*number - 1, record?)));
                }
                let batch = *batch;
                self.records = None;
                self.check_batch(batch);
                continue;
            }
            let (file, batch) = self.place;
            let Some(journal) = self.journals.get(file) else { return Ok(None) };
            match journal.batches.get(batch) {
                Some(found) => {
                    self.place.1 += 1;
                    self.records = Some((found.first, found.records(), found));
                }
                None => {
                    self.place = (file + 1, 0);
                    if let Some(next) = self.journals.get(file + 1) {
                        self.check_border(journal, next)?;
                    }
                }
            }
        }
    }

    fn check_border(&mut self, before: &Journal, next: &Journal) -> Result<(), JournalError> {
        if !before.is_followed_by(next) {
            let what = "another file of the journal that follows the one before it without a gap";
            return Err(JournalError::Misplaced { offset: 0, what });
        }
        if next.header.state.as_deref() != Some(&snapshot(&self.result.agent)?) {
            let (number, time) = (next.header.inputs_before.saturating_sub(1), next.header.time);
            self.result.divergence = Some(Divergence { number, time, kind: "state", difference: Difference::State });
        }
        Ok(())
    }

    fn check_batch(&mut self, batch: &Batch) {
        let found = self.running.seal(self.result.agent.counters());
        if let (Some(expected), Some(Executed { number, time, input, .. })) = (batch.digest, &self.input)
            && expected != found
            && batch.count > 0
        {
            let difference = Difference::Digest { expected, found };
            let (number, time, kind) = (*number, *time, story::kind(input));
            self.result.divergence = Some(Divergence { number, time, kind, difference });
        }
    }

    fn execute(&mut self, number: u64, record: Record) {
        let Record { time, input, check } = record;
        let kind = story::kind(&input);
        let Self { running, outputs, result, .. } = self;
        result.inputs += 1;
        *result.kinds.entry(kind).or_default() += 1;
        result.first.get_or_insert(time);
        result.last = Some(time);
        let due = if input == Input::Tick { result.agent.poll_deadline() } else { None };
        let panicked = execute(&mut result.agent, time, input.clone(), outputs);
        for output in &*outputs {
            running.output(output);
        }
        running.settle(result.agent.poll_deadline());
        result.outputs += outputs.len() as u64;
        result.digest = running.value();
        self.input = Some(Executed { number, time, input, due });
        let difference = match check {
            Some(_) if panicked => Some(Difference::Panicked),
            Some(expected) if expected != running.check() => {
                Some(Difference::Check { expected, found: running.check() })
            }
            Some(_) => None,
            None => {
                result.died = true;
                None
            }
        };
        result.divergence = difference.map(|difference| Divergence { number, time, kind, difference });
    }
}

/// Gives one input to the agent and collects what it does. Whether it panicked; nothing may be done with it then but look.
fn execute(agent: &mut Agent, time: Time, input: Input, outputs: &mut Vec<Output>) -> bool {
    outputs.clear();
    // A journal of an agent that died ends with the input that it died of: replaying it has to survive that.
    catch_unwind(AssertUnwindSafe(|| {
        agent.handle(time, input);
        outputs.extend(std::iter::from_fn(|| agent.poll_output()));
    }))
    .is_err()
}

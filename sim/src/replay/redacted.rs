//! Journals that can be given away: without names of registries, repositories, zones and addresses, and with a proof that
//! the agent decides the same without them.

use longshore_core::input::Input;
use longshore_core::journal::file::End;
use longshore_core::journal::record::Record;
use longshore_core::journal::redact::{Pseudonyms, shape};
use longshore_core::journal::scribe::Scribe;
use longshore_core::journal::{Header, JournalError, snapshot};
use longshore_core::output::Output;

use super::{Journal, Replayed, execute, replay};

/// Why a journal cannot be redacted.
#[derive(Debug, thiserror::Error)]
pub enum RedactError {
    /// It cannot be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// It does not replay here, so nothing can be proven about it.
    #[error("it does not replay {0}; redact it with the program that recorded it")]
    Diverged(super::Divergence),
    /// An agent that knows only the pseudonyms decides something else.
    #[error(
        "the redacted journal would replay to other decisions, first at input {number}: {what}; it was not written"
    )]
    Decides {
        /// The input.
        number: u64,
        /// What differs.
        what: &'static str,
    },
}

/// A redacted journal.
#[derive(Debug)]
pub struct Redacted {
    /// The journal; its digests are those of the agent that knows only the pseudonyms.
    pub journal: Journal,
    /// Every text that was replaced, with its pseudonym. Not for giving away.
    pub key: Vec<(String, String)>,
}

/// Redacted journals with common pseudonyms: what had the same name in two of them has so still.
#[derive(Debug)]
pub struct RedactedSet {
    /// The journals.
    pub journals: Vec<Journal>,
    /// Every text that was replaced, with its pseudonym. Not for giving away.
    pub key: Vec<(String, String)>,
}

/// Replaces names and addresses by pseudonyms, and proves input by input that the agent does the same with them: same
/// outputs in the same order with the same numbers, peers, digests and times, same deadlines; only replaced texts differ.
///
/// # Errors
/// When the journal does not replay, or a decision depends on a text that was replaced.
pub fn redact(journal: &Journal) -> Result<Redacted, RedactError> {
    let RedactedSet { mut journals, key } = redact_all(&[journal])?;
    let journal = journals.pop().ok_or(RedactError::Journal(JournalError::NoJournal))?;
    Ok(Redacted { journal, key })
}

/// The same for journals that belong together: of several files, or of several nodes.
///
/// # Errors
/// The same.
pub fn redact_all(journals: &[&Journal]) -> Result<RedactedSet, RedactError> {
    let mut pseudonyms = Pseudonyms::default();
    for journal in journals {
        let Replayed { divergence, .. } = replay(std::slice::from_ref(*journal), |_| {})?;
        if let Some(divergence) = divergence {
            return Err(RedactError::Diverged(divergence));
        }
        pseudonyms.collect(&journal.header.config)?;
        pseudonyms.collect(&journal.header.agent()?)?;
        for batch in &journal.batches {
            for record in batch.records() {
                pseudonyms.collect(&record?.input)?;
            }
        }
    }
    let key = pseudonyms.assign().map(|(text, name)| (text.to_owned(), name.to_owned())).collect();
    let mut disguised = Vec::new();
    let mut before: Option<(&Journal, u64)> = None;
    for journal in journals {
        // Of files that follow each other, the digests do so, too.
        let digest = before.filter(|(before, _)| before.is_followed_by(journal)).map(|(_, digest)| digest);
        let (redacted, digest) = disguise(journal, &pseudonyms, digest)?;
        disguised.push(redacted);
        before = Some((*journal, digest));
    }
    Ok(RedactedSet { journals: disguised, key })
}

/// One journal with pseudonyms, proven, and the running digest at its end. It starts from `digest`, or from its own.
fn disguise(journal: &Journal, pseudonyms: &Pseudonyms, digest: Option<u64>) -> Result<(Journal, u64), RedactError> {
    let mut original = journal.header.agent()?;
    let mut header = header(&journal.header, &original, pseudonyms)?;
    header.digest = digest.unwrap_or(header.digest);
    let mut disguised = header.agent()?;
    let mut scribe = Scribe::resume(header.clone());
    let mut batches = Vec::new();
    let (mut outputs, mut disguised_outputs) = (Vec::<Output>::new(), Vec::<Output>::new());
    for batch in &journal.batches {
        for (number, record) in (batch.first..).zip(batch.records()) {
            let Record { time, input, check } = record?;
            let disguised_input: Input = pseudonyms.redact(&input)?;
            scribe.input(time, &disguised_input)?;
            let panicked = execute(&mut original, time, input, &mut outputs);
            let panicked_too = execute(&mut disguised, time, disguised_input, &mut disguised_outputs);
            let differs = |what| Err(RedactError::Decides { number, what });
            if panicked != panicked_too {
                return differs("one of them panics");
            }
            if shape(&outputs)? != shape(&disguised_outputs)? {
                return differs("what it does");
            }
            if original.poll_deadline() != disguised.poll_deadline() {
                return differs("when it wants to be woken");
            }
            if original.counters() != disguised.counters() {
                return differs("what it counts");
            }
            for output in &disguised_outputs {
                scribe.output(output);
            }
            if check.is_some() {
                scribe.settle(&disguised);
            }
        }
        batches.extend(scribe.take());
    }
    let end = journal.end.clone().map(|end| match end {
        // The reason may name a path.
        End::Stopped(_) => End::Stopped("redacted".to_owned()),
        end => end,
    });
    Ok((Journal { header, batches, end, damage: None }, scribe.running().value()))
}

fn header(header: &Header, agent: &longshore_core::Agent, pseudonyms: &Pseudonyms) -> Result<Header, JournalError> {
    let state = match header.state {
        Some(_) => Some(snapshot(&pseudonyms.redact(agent)?)?),
        None => None,
    };
    Ok(Header { config: pseudonyms.redact(&header.config)?, redacted: true, state, ..header.clone() })
}

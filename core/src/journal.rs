//! The journal: everything that happened to an agent, so that it can be executed again. Bytes in, bytes out, no I/O.
//!
//! The agent is a function of its configuration, its seed and its inputs with their times. So a journal holds these and
//! nothing else, apart from digests of what the agent did, which prove a replay or show where it leaves the path.
//!
//! A journal file is a [magic line](file::MAGIC) and [frames](file::Frame): first a [`Header`], then
//! [batches](record::Batch) of records, at last, if the recording ended in an orderly way, an [`End`](file::End). Each
//! frame is compressed and checksummed alone: whatever a crash leaves behind is readable up to the last whole frame.
//! The header of an agent's first file has its configuration and seed; that of every later one also has the agent's whole
//! state, so that any file can be replayed alone.
//!
//! | what | file |
//! |---|---|
//! | digest of what the agent did | `journal/running.rs` |
//! | inputs to records and back, batch by batch | `journal/record.rs` |
//! | frames, header, compression, checksums | `journal/file.rs` |
//! | what an agent does, recorded as it does it | `journal/scribe.rs` |
//! | names and addresses replaced by their type | `journal/redact.rs` |

pub mod file;
pub mod record;
pub mod redact;
pub mod running;
pub mod scribe;

use serde::{Deserialize, Serialize};

use crate::agent::Agent;
use crate::config::Config;
use crate::time::Time;

/// The version of everything that is encoded here. Part of it is the shape of [`Input`](crate::input::Input) and
/// [`Config`]: postcard does not describe itself, so any change of these needs another number. A test compares encoded
/// examples with this number's.
///
/// The shape of the agent's state changes more often and is not part of it: files with a state are for the program that
/// wrote them. Another one refuses the state, or differs from the digests at once.
pub const FORMAT: u32 = 6;

/// What a replay starts from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`] of the program that wrote it.
    pub format: u32,
    /// The program and its version.
    pub program: String,
    /// Wall-clock time at [`Time::ZERO`], in microseconds since 1970: for people; no decision reads it.
    pub epoch_unix_micros: u64,
    /// 0 for the first file of an agent's life, then counted up.
    pub number: u32,
    /// Number of inputs before this file.
    pub inputs_before: u64,
    /// Time of the last input before this file; for the first file, the time that the agent was made at.
    pub time: Time,
    /// The running digest so far.
    pub digest: u64,
    /// The agent's settings. They contain no secret.
    pub config: Config,
    /// Decides what is left to chance.
    pub seed: u64,
    /// Names and addresses have been replaced.
    pub redacted: bool,
    /// The agent as it was after the last input before this file, as [`snapshot`] encodes it; `None` in the first file.
    pub state: Option<Vec<u8>>,
}

/// Something cannot be written to or read from a journal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Does not start with the magic line.
    #[error("this is no journal: it does not start with {:?}", core::str::from_utf8(file::MAGIC).unwrap_or_default().trim_end())]
    NoJournal,
    /// Written in another format.
    #[error(
        "this journal has format {found}, this program reads format {FORMAT}; replay it with the program that wrote it ({program})"
    )]
    OtherFormat {
        /// Its format.
        found: u32,
        /// What wrote it.
        program: String,
    },
    /// The file ends within a frame, as after a crash.
    #[error("the file ends within the frame at byte {offset}; everything before it is good")]
    Truncated {
        /// Where the frame starts.
        offset: u64,
    },
    /// A frame is not what was written.
    #[error("the frame at byte {offset} is damaged ({what}); everything before it is good")]
    Damaged {
        /// Where the frame starts.
        offset: u64,
        /// What does not fit.
        what: &'static str,
    },
    /// A frame came where another kind has to be.
    #[error("the frame at byte {offset} does not belong there ({what})")]
    Misplaced {
        /// Where the frame starts.
        offset: u64,
        /// What was expected.
        what: &'static str,
    },
    /// Something does not encode.
    #[error("{what} cannot be encoded: {why}")]
    Encode {
        /// What.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// Something does not decode although its frame is whole: written by a program whose types differ.
    #[error("{what} cannot be decoded: {why}; was it written by another version?")]
    Decode {
        /// What.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// Larger than a frame may be.
    #[error("{what} has {bytes} bytes, more than the {limit} of a frame")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Its size in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

/// The agent's whole state, between two inputs, as bytes. Equal states give equal bytes.
///
/// # Errors
/// None that the agent's state is known to cause.
pub fn snapshot(agent: &Agent) -> Result<Vec<u8>, JournalError> {
    postcard::to_allocvec(agent)
        .map_err(|error| JournalError::Encode { what: "the agent's state", why: error.to_string() })
}

/// The agent whose state this is.
///
/// # Errors
/// When it is the state of no agent of this version.
pub fn restore(state: &[u8]) -> Result<Agent, JournalError> {
    postcard::from_bytes(state)
        .map_err(|error| JournalError::Decode { what: "the agent's state", why: error.to_string() })
}

impl Header {
    /// The agent that the records of this file have to be given to.
    ///
    /// # Errors
    /// When the state cannot be decoded.
    pub fn agent(&self) -> Result<Agent, JournalError> {
        match &self.state {
            Some(state) => restore(state),
            None => Ok(Agent::new(self.config.clone(), self.seed, self.time)),
        }
    }
}

//! The frames of a journal file.
//!
//! A frame is: kind (1 byte), size of its contents (4), size as stored (4), CRC-32 of all of these and of what is stored
//! (4), then the contents, compressed with LZ4. Numbers are little-endian.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::record::Batch;
use super::{FORMAT, Header, JournalError};

/// How every journal file begins. `file` and `head` show it.
pub const MAGIC: &[u8] = b"longshore journal\n";
/// Largest contents of a frame in bytes: the state of an agent with thousands of peers and blobs, or the contents of a
/// large store as one input, are well below it.
pub const MAX_FRAME_BYTES: usize = 64 << 20;
/// Bytes before the contents of a frame.
const PREFIX_BYTES: usize = 13;
/// LZ4 cannot shrink by more than about this (a byte of length stands for 255 bytes): a frame that promises more lies.
const MOST_SHRINKING: usize = 256;

/// One frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// Comes first.
    Header(Box<Header>),
    /// Inputs.
    Batch(Batch),
    /// Comes last, if the file was closed in an orderly way.
    End(End),
}

/// Why there is nothing more in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// The agent ended.
    Closed,
    /// The next file goes on.
    Rotated,
    /// The recording stopped, but the agent went on; in words.
    Stopped(String),
}

impl Frame {
    /// The frame as bytes.
    ///
    /// # Errors
    /// When its contents are larger than [`MAX_FRAME_BYTES`].
    pub fn encode(&self) -> Result<Vec<u8>, JournalError> {
        let (kind, what, contents) = match self {
            Self::Header(header) => (0, "a header", postcard::to_allocvec(header)),
            Self::Batch(batch) => (1, "a batch of inputs", postcard::to_allocvec(batch)),
            Self::End(end) => (2, "an end", postcard::to_allocvec(end)),
        };
        let contents = contents.map_err(|error| JournalError::Encode { what, why: error.to_string() })?;
        if contents.len() > MAX_FRAME_BYTES {
            return Err(JournalError::TooLarge { what, bytes: contents.len(), limit: MAX_FRAME_BYTES });
        }
        let stored = lz4_flex::block::compress(&contents);
        let mut bytes = Vec::with_capacity(PREFIX_BYTES + stored.len());
        bytes.push(kind);
        for size in [contents.len(), stored.len()] {
            // Both are below 2^32: LZ4 grows what it cannot shrink by less than a percent.
            bytes.extend_from_slice(&u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes());
        }
        let checksum = checksum(&bytes, &stored);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes.extend_from_slice(&stored);
        Ok(bytes)
    }
}

fn checksum(prefix: &[u8], stored: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(prefix);
    hasher.update(stored);
    hasher.finalize()
}

/// Reads the frames of a file, or of the part of it that a crash has left.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
    failed: bool,
}

impl<'a> Frames<'a> {
    /// Reads a whole file: its header, and the frames after it.
    ///
    /// # Errors
    /// When it does not begin like a journal, or is of another format.
    pub fn open(bytes: &'a [u8]) -> Result<(Header, Self), JournalError> {
        if !bytes.starts_with(MAGIC) {
            return Err(JournalError::NoJournal);
        }
        let mut frames = Self { bytes, at: MAGIC.len(), failed: false };
        let offset = frames.offset();
        match frames.next() {
            Some(Ok(Frame::Header(header))) => Ok((*header, frames)),
            Some(Ok(_)) => Err(JournalError::Misplaced { offset, what: "the header has to be first" }),
            Some(Err(error)) => Err(error),
            None => Err(JournalError::Truncated { offset }),
        }
    }

    /// Where the next frame starts, in bytes.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.at as u64
    }

    fn read(&mut self) -> Result<Frame, JournalError> {
        let offset = self.offset();
        let truncated = JournalError::Truncated { offset };
        let damaged = |what| JournalError::Damaged { offset, what };
        let (prefix, rest) = self.bytes[self.at..].split_at_checked(PREFIX_BYTES).ok_or(truncated.clone())?;
        let number = |at: usize| u32::from_le_bytes([prefix[at], prefix[at + 1], prefix[at + 2], prefix[at + 3]]);
        let (size, stored_size) = (number(1) as usize, number(5) as usize);
        if size > MAX_FRAME_BYTES || size > stored_size.saturating_mul(MOST_SHRINKING) {
            return Err(damaged("its size is impossible"));
        }
        let stored = rest.get(..stored_size).ok_or(truncated)?;
        if checksum(&prefix[..9], stored) != number(9) {
            return Err(damaged("its checksum differs"));
        }
        let contents = lz4_flex::block::decompress(stored, size).map_err(|_| damaged("it cannot be decompressed"))?;
        if contents.len() != size {
            return Err(damaged("it has another size than it says"));
        }
        let frame = match prefix[0] {
            0 => {
                // The format comes first in every version, so that it can be told before anything else is decoded.
                let (format, rest) =
                    postcard::take_from_bytes::<u32>(&contents).map_err(|_| damaged("the header has no format"))?;
                if format != FORMAT {
                    let program = postcard::take_from_bytes::<String>(rest).map_or_else(|_| "?".to_owned(), |it| it.0);
                    return Err(JournalError::OtherFormat { found: format, program });
                }
                Frame::Header(Box::new(decode(&contents, "the header")?))
            }
            1 => Frame::Batch(decode(&contents, "a batch of inputs")?),
            2 => Frame::End(decode(&contents, "the end")?),
            _ => return Err(damaged("its kind is unknown")),
        };
        self.at += PREFIX_BYTES + stored_size;
        Ok(frame)
    }
}

fn decode<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, JournalError> {
    postcard::from_bytes(bytes).map_err(|error| JournalError::Decode { what, why: error.to_string() })
}

impl Iterator for Frames<'_> {
    type Item = Result<Frame, JournalError>;

    /// The next frame; after an error nothing more comes, because nothing after it can be trusted to be a frame.
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.at >= self.bytes.len() {
            return None;
        }
        let read = self.read();
        self.failed = read.is_err();
        Some(read)
    }
}

#[cfg(test)]
mod tests;

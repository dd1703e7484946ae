//! The record log beside a staging file: what the blob is, and which pieces of it are good.
//!
//! One JSON value a line, each after the first eight bytes of its SHA-256 in hex: a line that was torn by a crash or
//! changed by the disk is told apart and skipped. A record begins with a line feed of its own, so that it never
//! continues a torn line.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use longshore_core::digest::hex;
use longshore_core::input::{BlobFacts, RecordedPiece};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The first line of a log, and the sidecar of a committed blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    /// Size of the whole blob in bytes.
    pub(super) size: u64,
    /// What is remembered beside its bytes.
    pub(super) facts: BlobFacts,
}

/// What a log says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Log {
    pub(super) header: Header,
    /// The last record of each piece.
    pub(super) pieces: BTreeMap<u32, RecordedPiece>,
    /// Lines that are no records.
    pub(super) damaged: usize,
}

fn checksum(text: &[u8]) -> String {
    hex(&Sha256::digest(text)[..8])
}

fn line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let text = serde_json::to_vec(value).map_err(io::Error::other)?;
    let mut line = Vec::with_capacity(text.len() + 19);
    line.push(b'\n');
    line.extend_from_slice(checksum(&text).as_bytes());
    line.push(b' ');
    line.extend_from_slice(&text);
    line.push(b'\n');
    Ok(line)
}

fn parse<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    let (sum, text) = line.split_at_checked(16)?;
    let text = text.strip_prefix(b" ")?;
    (checksum(text).as_bytes() == sum).then(|| serde_json::from_slice(text).ok()).flatten()
}

/// Starts the log at `path`, in place of any that is there.
pub(super) fn create(path: &Path, header: &Header) -> io::Result<()> {
    File::create(path)?.write_all(&line(header)?)
}

/// Adds a record. One `write`, so that records of several threads do not mix.
pub(super) fn append(path: &Path, record: &RecordedPiece) -> io::Result<()> {
    OpenOptions::new().append(true).open(path)?.write_all(&line(record)?)
}

/// Reads a log; `None` if its header is not readable.
pub(super) fn read(path: &Path) -> io::Result<Option<Log>> {
    let mut header = None;
    let mut pieces = BTreeMap::new();
    let mut damaged = 0;
    for line in BufReader::new(File::open(path)?).split(b'\n') {
        let line = line?;
        if line.is_empty() {
            continue;
        }
        if header.is_none() {
            match parse::<Header>(&line) {
                Some(found) => header = Some(found),
                None => return Ok(None),
            }
        } else if let Some(record) = parse::<RecordedPiece>(&line) {
            pieces.insert(record.piece, record);
        } else {
            damaged += 1;
        }
    }
    Ok(header.map(|header| Log { header, pieces, damaged }))
}

/// Replaces the log by one with these records only.
pub(super) fn rewrite(path: &Path, header: &Header, pieces: &[RecordedPiece]) -> io::Result<()> {
    let fresh = path.with_extension("fresh");
    let mut text = line(header)?;
    for record in pieces {
        text.extend_from_slice(&line(record)?);
    }
    File::create(&fresh)?.write_all(&text)?;
    std::fs::rename(&fresh, path)
}

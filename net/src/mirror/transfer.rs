//! The bytes of a blob on their way to containerd: from the page cache to the socket, as far as they are released.

use std::fmt;
use std::io;
use std::ops::Range;

use rustix::fs::sendfile;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::requests::Ticket;
use super::wire::{PATIENCE, impatient};
use crate::store::{BlobReader, Released};

/// Most bytes for one system call: a few tenths of a millisecond, after which other tasks get their turn.
const CALL_BYTES: u64 = 1024 * 1024;

/// A blob to be sent. The ticket in it reports the end, however it comes.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) reader: BlobReader,
    /// What part of the blob; not empty.
    pub(crate) range: Range<u64>,
    pub(crate) ticket: Ticket,
    /// The client wants to go on using the connection.
    pub(crate) keep_alive: bool,
}

/// A body that ended before its declared length. The connection has to be closed; containerd asks for the rest.
#[derive(Debug)]
pub(crate) enum CutShort {
    /// The core or the operator said so.
    Aborted,
    /// The blob went away.
    Gone,
    /// The blob has fewer bytes than it should.
    Truncated(u64),
    /// The client went away, or the blob cannot be read.
    Broken(io::Error),
}

impl fmt::Display for CutShort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aborted => formatter.write_str("aborted"),
            Self::Gone => formatter.write_str("the blob is not in the store any more"),
            Self::Truncated(at) => write!(formatter, "the file of the blob ends at byte {at}, too early"),
            Self::Broken(error) => write!(formatter, "the client hung up, or reading failed: {error}"),
        }
    }
}

impl Transfer {
    /// Sends everything; says whether the client wants to go on using the connection.
    pub(crate) async fn send(mut self, stream: &TcpStream, cut: &CancellationToken) -> Result<bool, CutShort> {
        tokio::select! {
            biased;
            () = cut.cancelled() => Err(CutShort::Aborted),
            sent = self.send_all(stream) => sent.map(|()| self.keep_alive),
        }
    }

    async fn send_all(&mut self, stream: &TcpStream) -> Result<(), CutShort> {
        let mut released = self.reader.released();
        let Range { start: mut position, end } = self.range;
        while position < end {
            let limit = tokio::select! {
                biased;
                limit = more(&mut released, position, end) => limit?,
                error = hang_up(stream) => return Err(CutShort::Broken(error)),
            };
            // With `limit == end` the blob may be evicted from now on: the open file is all that is needed.
            while position < limit {
                let sent = self.send_some(stream, position, limit).await?;
                position += sent;
                self.ticket.sent(sent);
            }
        }
        Ok(())
    }

    /// Sends the next bytes, at least one.
    async fn send_some(&self, stream: &TcpStream, position: u64, limit: u64) -> Result<u64, CutShort> {
        let count = usize::try_from((limit - position).min(CALL_BYTES)).unwrap_or(usize::MAX);
        loop {
            let mut offset = position;
            let call = || Ok(sendfile(stream, &self.reader, Some(&mut offset), count)?);
            match stream.try_io(Interest::WRITABLE, call) {
                Ok(0) => return Err(CutShort::Truncated(position)),
                Ok(sent) => {
                    // A fast reader must not keep the thread from everybody else.
                    tokio::task::yield_now().await;
                    return Ok(sent as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let writable = tokio::time::timeout(PATIENCE, stream.writable()).await;
                    writable.map_err(|_| CutShort::Broken(impatient()))?.map_err(CutShort::Broken)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(CutShort::Broken(error)),
            }
        }
    }
}

/// Waits until there is something to send; says up to where.
async fn more(released: &mut watch::Receiver<Released>, position: u64, end: u64) -> Result<u64, CutShort> {
    let more = |released: &Released| match released {
        Released::Prefix(bytes) => *bytes > position,
        Released::Whole | Released::Gone => true,
    };
    let released = released.wait_for(more).await.map(|released| *released);
    match released {
        Ok(Released::Prefix(bytes)) => Ok(bytes.min(end)),
        Ok(Released::Whole) => Ok(end),
        // An error: the store is closed, so no more will ever be released.
        Ok(Released::Gone) | Err(_) => Err(CutShort::Gone),
    }
}

/// Waits until the client closes its side. Never ends if it has sent a further request instead.
async fn hang_up(stream: &TcpStream) -> io::Error {
    match stream.peek(&mut [0]).await {
        Ok(0) => io::ErrorKind::UnexpectedEof.into(),
        Ok(_) => std::future::pending().await,
        Err(error) => error,
    }
}

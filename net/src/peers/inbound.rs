//! Streams that peers open: nothing is read before the core admits them.

use std::time::Duration;

use futures::AsyncWriteExt as _;
use libp2p::swarm::Stream;
use longshore_core::digest::Digest;
use longshore_core::input::{Input, StreamError};
use longshore_core::message::{Notice, PieceRefusal, PieceSum, Protocol, Response};
use longshore_core::names::{PeerId, StreamId};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use super::clock::Clock;
use crate::driver::Inputs;
use crate::store::Store;
use crate::wire::frame::{FrameError, frame, read_frame};
use crate::wire::swarm::{PieceHeader, decode_notice, encode_piece_header};
use crate::wire::{Opening, decode_opening, encode_response};

/// Bytes of a piece that are read from the store at a time: large enough that system calls cost nothing, small enough
/// that all uploads together (three, and up to 48 where peers are far away) stay at a few MiB.
const READ_BYTES: usize = 256 * 1024;
/// A peer that takes nothing for this long has gone, or is holding an upload slot for nothing.
const SEND_STALL: Duration = Duration::from_secs(30);
/// Notices that are read from one peer in a second; the rest waits in the peer. The core's queue has no bound of its own,
/// and no honest peer comes near this: it sends one notice for some pieces.
const NOTICES_PER_SECOND: u32 = 2_000;

/// What the core wants of an inbound stream.
#[derive(Debug)]
pub(super) enum Instruction {
    Admit { max_bytes: usize },
    Reply(Response),
    ServePiece { digest: Digest, offset: u64, len: u64, claim: Option<PieceSum> },
    RefusePiece(PieceRefusal),
}

/// One inbound stream. Reports [`Input::StreamClosed`] when it is dropped, whatever happened to it.
pub(super) struct InboundStream {
    pub(super) id: StreamId,
    pub(super) peer: PeerId,
    pub(super) protocol: Protocol,
    pub(super) stream: Stream,
    pub(super) instructions: mpsc::UnboundedReceiver<Instruction>,
    pub(super) inputs: Inputs,
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) ended: Ended,
}

/// What will be reported when the stream is dropped.
#[derive(Debug, Default)]
pub(super) struct Ended {
    error: Option<StreamError>,
    sent_bytes: u64,
}

impl Drop for InboundStream {
    fn drop(&mut self) {
        let Ended { error, sent_bytes } = self.ended;
        self.inputs.send(Input::StreamClosed { stream: self.id, error, sent_bytes });
    }
}

impl InboundStream {
    /// Does what the core wants until the stream ends.
    pub(super) async fn run(mut self) {
        if let Err(error) = self.converse().await {
            self.ended.error = Some(error);
        }
    }

    async fn converse(&mut self) -> Result<(), StreamError> {
        // Whatever does not fit the state of the stream is passed over: the core will be told how the stream ends.
        let max_bytes = loop {
            match self.instructions.recv().await {
                Some(Instruction::Admit { max_bytes }) => break max_bytes,
                Some(_) => {}
                None => return Ok(()),
            }
        };
        let bytes = read_frame(&mut self.stream, max_bytes).await.map_err(|error| self.bad_frame(&error))?;
        match decode_opening(self.protocol, &bytes).map_err(|error| self.malformed(&error))? {
            Opening::Request(request) => {
                self.inputs.send(Input::StreamRequest { stream: self.id, request });
                self.answer().await
            }
            Opening::Piece(request) => {
                self.inputs.send(Input::PieceRequested { stream: self.id, request });
                self.answer().await
            }
            Opening::Notice(notice) => {
                self.inputs.send(Input::StreamNotices { stream: self.id });
                self.noticed(notice);
                self.notices(max_bytes).await
            }
        }
    }

    async fn answer(&mut self) -> Result<(), StreamError> {
        loop {
            match self.instructions.recv().await {
                Some(Instruction::Reply(response)) => {
                    let message = encode_response(&response, self.clock.now());
                    return self.send(&message).await;
                }
                Some(Instruction::RefusePiece(refusal)) => {
                    return self.send(&encode_piece_header(&PieceHeader::Refused(refusal))).await;
                }
                Some(Instruction::ServePiece { digest, offset, len, claim }) => {
                    return self.serve_piece(digest, offset, len, claim).await;
                }
                Some(Instruction::Admit { .. }) => {}
                None => return Ok(()),
            }
        }
    }

    async fn notices(&mut self, max_bytes: usize) -> Result<(), StreamError> {
        let mut second_ends = Instant::now() + Duration::from_secs(1);
        let mut read = 1;
        loop {
            if read == NOTICES_PER_SECOND {
                sleep_until(second_ends).await;
                second_ends = Instant::now() + Duration::from_secs(1);
                read = 0;
            }
            let bytes = match read_frame(&mut self.stream, max_bytes).await {
                Ok(bytes) => bytes,
                Err(FrameError::Ended) => return Ok(()),
                Err(error) => return Err(self.bad_frame(&error)),
            };
            let notice = decode_notice(&bytes).map_err(|error| self.malformed(&error))?;
            self.noticed(notice);
            read += 1;
        }
    }

    fn noticed(&self, notice: Option<Notice>) {
        match notice {
            Some(notice) => self.inputs.send(Input::Notice { peer: self.peer.clone(), notice: notice.into() }),
            None => debug!(peer = %self.peer, "passed over a notice of a kind that this version does not know"),
        }
    }

    async fn serve_piece(
        &mut self,
        digest: Digest,
        offset: u64,
        len: u64,
        claim: Option<PieceSum>,
    ) -> Result<(), StreamError> {
        let mut buffer = vec![0; READ_BYTES.min(usize::try_from(len).unwrap_or(READ_BYTES))];
        // The first bytes are read before anything is promised.
        let first = self.store.reader(digest).and_then(|reader| {
            let read = reader.read_at(&mut buffer, offset);
            read.map(|()| reader).map_err(|error| longshore_core::input::StoreError::Io(error.to_string().into()))
        });
        let reader = match first {
            Ok(reader) => reader,
            Err(error) => {
                debug!(peer = %self.peer, %digest, ?error, "a piece that should be served cannot be read");
                return self.send(&encode_piece_header(&PieceHeader::Refused(PieceRefusal::Missing))).await;
            }
        };
        self.write(&framed(&encode_piece_header(&PieceHeader::Follows { length: len, claim }))?).await?;
        let mut sent = 0;
        loop {
            self.write(&buffer).await?;
            sent += buffer.len() as u64;
            self.ended.sent_bytes = sent;
            if sent == len {
                return self.finish().await;
            }
            buffer.truncate(usize::try_from(len - sent).unwrap_or(usize::MAX));
            // Too late for a refusal: the reset tells the peer.
            reader.read_at(&mut buffer, offset + sent).map_err(|error| {
                debug!(peer = %self.peer, %digest, %error, "a piece cannot be read to its end");
                StreamError::Broken
            })?;
        }
    }

    async fn send(&mut self, message: &[u8]) -> Result<(), StreamError> {
        self.write(&framed(message)?).await?;
        self.finish().await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        match timeout(SEND_STALL, self.stream.write_all(bytes)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(StreamError::Broken),
        }
    }

    async fn finish(&mut self) -> Result<(), StreamError> {
        match timeout(SEND_STALL, self.stream.close()).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(StreamError::Broken),
        }
    }

    fn bad_frame(&self, error: &FrameError) -> StreamError {
        debug!(peer = %self.peer, %error, "no message could be read");
        match error {
            FrameError::BadLength => StreamError::Malformed,
            FrameError::Oversized { .. } => StreamError::Oversized,
            FrameError::Ended | FrameError::Broken(_) => StreamError::Broken,
        }
    }

    fn malformed(&self, error: &crate::wire::WireError) -> StreamError {
        debug!(peer = %self.peer, %error, "a peer sent something that is no message");
        StreamError::Malformed
    }
}

/// An answer that no peer would accept is not sent; the core bounds its messages far below that.
fn framed(message: &[u8]) -> Result<Vec<u8>, StreamError> {
    frame(message).map_err(|error| {
        tracing::error!(%error, "an answer is too large to be sent");
        StreamError::Oversized
    })
}

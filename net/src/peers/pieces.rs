//! Fetching pieces from peers into the store.

use std::time::Duration;

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use longshore_core::input::{Input, LONG_WAY, PROGRESS_INTERVAL, TransferEvent, TransferFailure};
use longshore_core::message::{MAX_MESSAGE_BYTES, PieceRequest, PieceSum, Protocol};
use longshore_core::names::{OpId, PeerId};
use longshore_core::output::Check;
use longshore_core::piece::Geometry;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::hub::Hub;
use crate::driver::Inputs;
use crate::store::Store;
use crate::store::intake::{Intake, StoredPiece, Ticket};
use crate::wire::frame::{FrameError, frame, read_frame};
use crate::wire::swarm::{PieceHeader, decode_piece_header, encode_piece_request};

/// Bytes that are read from the stream at a time.
const READ_BYTES: usize = 128 * 1024;
/// The end of the stream comes right behind the last byte; a piece is not lost for a peer that forgets it.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// One transfer of one piece.
pub(super) struct Fetch {
    pub(super) op: OpId,
    pub(super) peer: PeerId,
    pub(super) request: PieceRequest,
    pub(super) check: Check,
    pub(super) inputs: Inputs,
    pub(super) store: Store,
    pub(super) hub: Hub,
}

impl Fetch {
    /// Runs the transfer and reports how it goes.
    pub(super) async fn run(self) {
        let event = match self.fetch().await {
            Ok(()) => TransferEvent::Done,
            Err(failure) => {
                debug!(peer = %self.peer, digest = %self.request.digest, piece = self.request.piece, ?failure,
                    "a piece was not fetched");
                TransferEvent::Failed(failure)
            }
        };
        self.report(event);
    }

    fn report(&self, event: TransferEvent) {
        self.inputs.send(Input::Transfer { op: self.op, event });
    }

    async fn fetch(&self) -> Result<(), TransferFailure> {
        let unreachable = |_| TransferFailure::Unreachable;
        let ticket = Ticket::take(&self.store, self.request.digest);
        let message = frame(&encode_piece_request(&self.request)).map_err(|_| TransferFailure::Malformed)?;
        let mut stream = self.hub.open(&self.peer, Protocol::Swarm).await.map_err(|_| TransferFailure::Unreachable)?;
        stream.write_all(&message).await.map_err(unreachable)?;
        stream.flush().await.map_err(unreachable)?;
        let asked = Instant::now();
        let header = read_frame(&mut stream, MAX_MESSAGE_BYTES).await.map_err(|error| match error {
            FrameError::Ended | FrameError::Broken(_) => TransferFailure::Unreachable,
            FrameError::BadLength | FrameError::Oversized { .. } => TransferFailure::Malformed,
        })?;
        let (length, claim) = match decode_piece_header(&header).map_err(|_| TransferFailure::Malformed)? {
            PieceHeader::Follows { length, claim } => (length, claim),
            PieceHeader::Refused(refusal) => return Err(TransferFailure::Refused(refusal)),
        };
        let after = asked.elapsed();
        if after > LONG_WAY {
            self.report(TransferEvent::Answered { after });
        }
        let PieceRequest { digest, size, piece } = self.request;
        let geometry = Geometry::of_blob(size);
        let about_another_piece = claim.as_ref().is_some_and(|claim| claim.piece != piece);
        if length != geometry.len(piece) || about_another_piece {
            return Err(TransferFailure::Malformed);
        }
        let intake = Intake::open_in_turn(&self.store, ticket, digest, geometry, piece, self.check);
        let intake = intake.map_err(TransferFailure::Store)?;
        self.receive(stream, intake, length, claim).await
    }

    async fn receive(
        &self,
        mut stream: libp2p::swarm::Stream,
        mut intake: Intake,
        length: u64,
        claim: Option<PieceSum>,
    ) -> Result<(), TransferFailure> {
        let mut buffer = vec![0; READ_BYTES];
        let mut missing = length;
        let mut unreported = 0;
        let mut stored: Option<StoredPiece> = None;
        let mut reported_at = Instant::now();
        while missing > 0 {
            let read = stream.read(&mut buffer).await.map_err(|_| TransferFailure::Unreachable)?;
            if read == 0 {
                // A peer that cannot go on resets the stream, which reads as its end here.
                return Err(TransferFailure::Unreachable);
            }
            missing = missing.checked_sub(read as u64).ok_or(TransferFailure::Malformed)?;
            intake.write(&buffer[..read], |piece| stored = Some(piece)).map_err(TransferFailure::Store)?;
            unreported += read as u64;
            if missing > 0 && reported_at.elapsed() >= PROGRESS_INTERVAL {
                self.report(TransferEvent::Progress { bytes: unreported });
                unreported = 0;
                reported_at = Instant::now();
            }
        }
        match timeout(END_TIMEOUT, stream.read(&mut buffer)).await {
            Ok(Ok(surplus)) if surplus > 0 => return Err(TransferFailure::Malformed),
            _ => {}
        }
        let _ = stream.close().await;
        intake.finish(|piece| stored = Some(piece));
        // The length was the piece's own, so its last byte has completed it.
        let Some(StoredPiece { piece, hashed }) = stored else {
            // Somebody else's bytes were there first, and are others. Who of the two is wrong, nobody knows yet: this one has sent
            // all that it was asked for.
            self.report(TransferEvent::Progress { bytes: unreported });
            return Ok(());
        };
        self.report(TransferEvent::Piece { piece, bytes: unreported, hashed, claim });
        Ok(())
    }
}

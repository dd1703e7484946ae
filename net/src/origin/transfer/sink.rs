//! Where the bytes of a fetch go: into the staging file, and as numbers into the reports.

use std::ops::Range;
use std::time::Instant;

use longshore_core::input::{PROGRESS_INTERVAL, StoreError, TransferEvent};
use longshore_core::piece::Geometry;

use super::{Parts, lost};
use crate::origin::report::Report;
use crate::store::intake::{Intake, StoredPiece};

/// The end of the pipe.
#[derive(Debug)]
pub(super) struct Sink<'a> {
    /// Away only while a disk task has it.
    intake: Option<Intake>,
    geometry: Geometry,
    wanted: Range<u64>,
    /// Offset in the blob up to which bytes are stored.
    position: u64,
    /// Offset in the blob up to which bytes were reported.
    reported: u64,
    last_progress: Instant,
    report: &'a Report,
}

impl<'a> Sink<'a> {
    /// A sink for the bytes `wanted` of a blob, which start where `intake` stands.
    pub(super) fn new(intake: Intake, geometry: Geometry, wanted: Range<u64>, report: &'a Report) -> Self {
        let start = wanted.start;
        Self {
            intake: Some(intake),
            geometry,
            wanted,
            position: start,
            reported: start,
            last_progress: Instant::now(),
            report,
        }
    }

    /// Stores bytes, as far as they are wanted; says how many were not.
    pub(super) async fn take(&mut self, mut parts: Parts) -> Result<u64, StoreError> {
        let surplus = self.cut(&mut parts);
        let length: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let (result, stored) = self
            .with_intake(move |intake| {
                let mut stored = Vec::new();
                let result = parts.iter().try_for_each(|part| intake.write(part, |piece| stored.push(piece)));
                (result, stored)
            })
            .await?;
        for piece in stored {
            self.report_piece(piece);
        }
        result?;
        self.position += length;
        if self.last_progress.elapsed() >= PROGRESS_INTERVAL {
            self.report_progress();
        }
        Ok(surplus)
    }

    /// Whether everything that is wanted is stored.
    pub(super) fn is_full(&self) -> bool {
        self.position == self.wanted.end
    }

    /// Ends it: the one piece of an empty blob is complete now.
    pub(super) fn finish(&mut self) {
        let mut stored = None;
        if let Some(intake) = &mut self.intake {
            intake.finish(|piece| stored = Some(piece));
        }
        if let Some(piece) = stored {
            self.report_piece(piece);
        }
    }

    /// Reports the bytes that came since the last report.
    pub(super) fn report_progress(&mut self) {
        self.last_progress = Instant::now();
        if self.position > self.reported {
            self.report.event(TransferEvent::Progress { bytes: self.position - self.reported });
            self.reported = self.position;
        }
    }

    /// How far it came.
    pub(super) fn words(&self) -> String {
        format!("{} of {} bytes came", self.position - self.wanted.start, self.wanted.end - self.wanted.start)
    }

    fn report_piece(&mut self, StoredPiece { piece, hashed }: StoredPiece) {
        let end = self.geometry.range(piece).end;
        let bytes = end.saturating_sub(self.reported);
        self.reported = self.reported.max(end);
        self.report.event(TransferEvent::Piece { piece, bytes, hashed, claim: None });
    }

    /// Cuts off what is past the end, and says how much that was.
    fn cut(&self, parts: &mut Parts) -> u64 {
        let mut room = self.wanted.end - self.position;
        let mut surplus = 0;
        for part in parts.iter_mut() {
            let length = part.len() as u64;
            if length > room {
                surplus += length - room;
                // Less than the length of something in memory.
                part.truncate(usize::try_from(room).unwrap_or(usize::MAX));
            }
            room -= part.len() as u64;
        }
        surplus
    }

    /// Works on the intake where a slow disk holds up nobody else.
    async fn with_intake<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Intake) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        // It is away only after a disk task was lost.
        let mut intake = self.intake.take().ok_or(StoreError::Missing)?;
        let task = tokio::task::spawn_blocking(move || {
            let result = work(&mut intake);
            (intake, result)
        });
        let (intake, result) = task.await.map_err(|error| lost(&error))?;
        self.intake = Some(intake);
        Ok(result)
    }
}

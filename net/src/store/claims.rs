//! Who may write which piece of a staging file.
//!
//! Two transfers may be after the same piece: at the end of a download on purpose, and whenever a cancelled one still has
//! bytes on the way. What was reported as stored must not change under the core that has accepted it. So a piece has
//! one writer at a time, and a transfer never overwrites what another one finished after it was opened.

use std::collections::BTreeMap;

/// The claims on the pieces of one staging file.
#[derive(Debug)]
pub(super) struct Claims {
    /// Whether the file may be written at all: not any more once it is committed or discarded.
    pub(super) open: bool,
    /// Numbers intakes and finished pieces in the order in which they came.
    clock: u64,
    /// At most one entry for each piece of the blob.
    pieces: BTreeMap<u32, Claim>,
}

#[derive(Debug, Default)]
struct Claim {
    /// The intake that writes it.
    writer: Option<u64>,
    /// When it was last finished.
    finished: Option<u64>,
}

/// Where an intake's bytes of one piece go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Into the staging file.
    File,
    /// Somewhere else until the piece is complete: another intake is writing it.
    Aside,
    /// Nowhere: it was finished since this intake was opened.
    Nowhere,
}

impl Claims {
    pub(super) fn new() -> Self {
        Self { open: true, clock: 0, pieces: BTreeMap::new() }
    }

    /// A number for a new intake.
    pub(super) fn enter(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// The intake has the first bytes of a piece.
    pub(super) fn begin(&mut self, intake: u64, piece: u32) -> Place {
        let claim = self.pieces.entry(piece).or_default();
        if claim.finished.is_some_and(|finished| finished > intake) {
            Place::Nowhere
        } else if claim.writer.is_some() {
            Place::Aside
        } else {
            claim.writer = Some(intake);
            Place::File
        }
    }

    /// Whether the intake is the one that writes the piece.
    pub(super) fn writes(&self, intake: u64, piece: u32) -> bool {
        self.pieces.get(&piece).is_some_and(|claim| claim.writer == Some(intake))
    }

    /// Whether the intake, which has all bytes of the piece aside, may put them into the file.
    pub(super) fn may_place(&self, intake: u64, piece: u32) -> bool {
        self.pieces.get(&piece).is_none_or(|claim| claim.finished.is_none_or(|finished| finished < intake))
    }

    /// The piece is complete in the file. An intake that was writing it has lost it.
    pub(super) fn finish(&mut self, piece: u32) {
        self.clock += 1;
        self.pieces.insert(piece, Claim { writer: None, finished: Some(self.clock) });
    }

    /// The intake writes this piece no more.
    pub(super) fn leave(&mut self, intake: u64, piece: u32) {
        if let Some(claim) = self.pieces.get_mut(&piece)
            && claim.writer == Some(intake)
        {
            claim.writer = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_has_one_writer_until_it_is_finished_or_left() {
        let mut claims = Claims::new();
        let (first, second) = (claims.enter(), claims.enter());
        assert_eq!(claims.begin(first, 7), Place::File);
        assert_eq!(claims.begin(second, 7), Place::Aside);
        assert_eq!(claims.begin(second, 8), Place::File);
        claims.leave(first, 7);
        assert_eq!(claims.begin(second, 7), Place::File);
        assert!(!claims.writes(first, 7));
        assert!(claims.writes(second, 7));
    }

    #[test]
    fn what_was_finished_since_an_intake_was_opened_is_not_overwritten_by_it() {
        let mut claims = Claims::new();
        let (early, quick) = (claims.enter(), claims.enter());
        assert_eq!(claims.begin(quick, 0), Place::File);
        claims.finish(0);
        assert_eq!(claims.begin(early, 0), Place::Nowhere);
        assert!(!claims.may_place(early, 0));
        // The core asks again for a piece that it rejected.
        let again = claims.enter();
        assert_eq!(claims.begin(again, 0), Place::File);
    }

    #[test]
    fn a_writer_loses_a_piece_that_another_intake_finishes_first() {
        let mut claims = Claims::new();
        let (slow, quick) = (claims.enter(), claims.enter());
        assert_eq!(claims.begin(slow, 0), Place::File);
        assert_eq!(claims.begin(quick, 0), Place::Aside);
        assert!(claims.may_place(quick, 0));
        claims.finish(0);
        assert!(!claims.writes(slow, 0));
    }
}

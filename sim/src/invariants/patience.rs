//! Checked at every transfer that an agent gives up by its clock.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_core::digest::Digest;
use longshore_core::input::{Input, TransferEvent};
use longshore_core::names::OpId;
use longshore_core::output::Output;
use longshore_core::piece::Geometry;
use longshore_core::time::Time;

use super::Invariant;
use crate::watch::{Broken, Scene};

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "patience",
    sentence: "A transfer is given up by the clock only when no byte has come for its patience, or when it is too slow for anybody.",
    source: "design, section 3.4 (deadlines go by progress); gantry reference, section 10.2 (total time-outs)",
};

/// Without a byte for so long, a piece from a peer is asked for elsewhere, and a request to the origin has failed.
const PIECE_PATIENCE: Duration = Duration::from_secs(5);
const ORIGIN_PATIENCE: Duration = Duration::from_secs(9);
/// Bytes per second that a piece has to move with in all, however steadily it comes.
const SLOWEST_PIECE: u64 = 16 * 1024;
/// Deadlines are rounded.
const ROUNDING: Duration = Duration::from_millis(2);

#[derive(Debug)]
struct Transfer {
    digest: Digest,
    /// When the last byte came, or when it was asked for.
    moved: Time,
    patience: Duration,
    /// However it moves, it may be given up from here on.
    until: Option<Time>,
}

/// The transfers of one agent.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    transfers: BTreeMap<OpId, Transfer>,
    /// What is happening is that time passes.
    by_the_clock: bool,
    /// Blobs that all is here of.
    complete: Vec<Digest>,
    given_up: Vec<(Digest, String)>,
}

impl Memory {
    pub(crate) fn input(&mut self, now: Time, input: &Input) {
        self.by_the_clock = matches!(input, Input::Tick);
        let Input::Transfer { op, event } = input else { return };
        match event {
            TransferEvent::Progress { bytes: 1.. } | TransferEvent::Piece { .. } => {
                if let Some(transfer) = self.transfers.get_mut(op) {
                    transfer.moved = now;
                }
            }
            TransferEvent::Done | TransferEvent::Failed(_) => drop(self.transfers.remove(op)),
            TransferEvent::Progress { .. } | TransferEvent::Headers { .. } => {}
        }
    }

    pub(crate) fn output(&mut self, scene: &Scene<'_>, output: &Output) {
        let now = scene.now;
        match output {
            Output::FetchPiece { op, digest, size, piece, .. } => {
                let bytes = Geometry::of_blob(*size).len(*piece);
                let longest = PIECE_PATIENCE + Duration::from_millis(bytes * 1000 / SLOWEST_PIECE);
                let until = Some(now + longest);
                let transfer = Transfer { digest: *digest, moved: now, patience: PIECE_PATIENCE, until };
                self.transfers.insert(*op, transfer);
            }
            Output::FetchOrigin { op, digest, .. } => {
                let transfer = Transfer { digest: *digest, moved: now, patience: ORIGIN_PATIENCE, until: None };
                self.transfers.insert(*op, transfer);
            }
            Output::Commit { digest, .. } => self.complete.push(*digest),
            Output::CancelTransfer { op } => {
                let Some(transfer) = self.transfers.remove(op).filter(|_| self.by_the_clock) else { return };
                let stood = now - transfer.moved + ROUNDING;
                let is_too_slow = transfer.until.is_some_and(|until| now + ROUNDING >= until);
                if stood < transfer.patience && !is_too_slow {
                    let (op, digest) = (op.0, transfer.digest);
                    let detail = format!("transfer {op} of {digest} is given up {stood:?} after its last byte");
                    self.given_up.push((digest, detail));
                }
            }
            _ => {}
        }
    }

    /// All that an input led to is known: whatever ended took its transfers along.
    pub(crate) fn settled(&mut self, ended: &[Digest], broken: &mut Vec<Broken>) {
        for (digest, detail) in self.given_up.drain(..) {
            if !ended.contains(&digest) && !self.complete.contains(&digest) {
                broken.push((&RULE, detail));
            }
        }
        self.complete.clear();
    }
}

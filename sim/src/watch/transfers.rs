//! What the drivers of one agent fetch for it at present: most rules about fetching look at this.

use std::collections::BTreeMap;

use longshore_core::digest::Digest;
use longshore_core::input::{Input, TransferEvent};
use longshore_core::names::{OpId, PeerId};
use longshore_core::output::Output;
use longshore_core::time::Time;

/// A transfer that a driver runs.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) digest: Digest,
    /// Who sends which piece; `None`: the origin sends.
    pub(crate) piece: Option<(PeerId, u32)>,
    /// Size of the blob, in bytes; 0 where the origin sends, whose size may not be known.
    pub(crate) size: u64,
    /// When it was asked for, by the agent's clock.
    pub(crate) since: Time,
    /// When the last byte came, or when it was asked for.
    pub(crate) moved: Time,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Transfers(BTreeMap<OpId, Transfer>);

impl Transfers {
    /// Takes note of an input. Returns the transfer that is over with it.
    pub(super) fn input(&mut self, now: Time, input: &Input) -> Option<Transfer> {
        let Input::Transfer { op, event } = input else { return None };
        match event {
            TransferEvent::Progress { bytes: 1.. } | TransferEvent::Piece { .. } => {
                if let Some(transfer) = self.0.get_mut(op) {
                    transfer.moved = now;
                }
                None
            }
            TransferEvent::Progress { .. } | TransferEvent::Headers { .. } | TransferEvent::Answered { .. } => None,
            TransferEvent::Done | TransferEvent::Failed(_) => self.0.remove(op),
        }
    }

    /// Takes note of an output. Returns the transfer that is cancelled by it.
    pub(super) fn output(&mut self, now: Time, output: &Output) -> Option<Transfer> {
        let (op, digest, size, piece) = match output {
            Output::FetchPiece { op, peer, digest, size, piece, .. } => {
                (op, digest, *size, Some((peer.clone(), *piece)))
            }
            Output::FetchOrigin { op, digest, .. } => (op, digest, 0, None),
            Output::CancelTransfer { op } => return self.0.remove(op),
            _ => return None,
        };
        self.0.insert(*op, Transfer { digest: *digest, piece, size, since: now, moved: now });
        None
    }

    pub(crate) fn get(&self, op: OpId) -> Option<&Transfer> {
        self.0.get(&op)
    }

    /// In the order in which they began.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&OpId, &Transfer)> {
        self.0.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Requests to the origin that run.
    pub(crate) fn of_origin(&self) -> usize {
        self.0.values().filter(|transfer| transfer.piece.is_none()).count()
    }
}

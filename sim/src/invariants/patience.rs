//! Checked at every transfer that an agent gives up by its clock.

use std::time::Duration;

use longshore_core::digest::Digest;
use longshore_core::output::Output;
use longshore_core::piece::Geometry;

use super::Invariant;
use crate::watch::{Broken, Occasion, Scene};

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

/// What one input leads to.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Blobs that all is here of.
    complete: Vec<Digest>,
    given_up: Vec<(Digest, String)>,
}

pub(crate) fn output(scene: &mut Scene<'_>, output: &Output) {
    match output {
        Output::Commit { digest, .. } => scene.occasion.patience.complete.push(*digest),
        Output::CancelTransfer { op } => {
            let Some(transfer) = scene.over.filter(|_| scene.occasion.by_the_clock) else { return };
            let (patience, longest) = match &transfer.piece {
                Some((_, piece)) => {
                    let bytes = Geometry::of_blob(transfer.size).len(*piece);
                    let longest = PIECE_PATIENCE + Duration::from_millis(bytes * 1000 / SLOWEST_PIECE);
                    (PIECE_PATIENCE, Some(longest))
                }
                None => (ORIGIN_PATIENCE, None),
            };
            let stood = scene.now - transfer.moved + ROUNDING;
            // However it moves, it may be given up from here on.
            let is_too_slow = longest.is_some_and(|longest| scene.now + ROUNDING >= transfer.since + longest);
            if stood < patience && !is_too_slow {
                let (op, digest) = (op.0, transfer.digest);
                let detail = format!("transfer {op} of {digest} is given up {stood:?} after its last byte");
                scene.occasion.patience.given_up.push((digest, detail));
            }
        }
        _ => {}
    }
}

/// All that an input led to is known: whatever ended took its transfers along.
pub(crate) fn settled(occasion: &mut Occasion, broken: &mut Vec<Broken>) {
    for (digest, detail) in occasion.patience.given_up.drain(..) {
        if !occasion.ended.contains(&digest) && !occasion.patience.complete.contains(&digest) {
            broken.push((&RULE, detail));
        }
    }
    occasion.patience.complete.clear();
}

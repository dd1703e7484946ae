//! Checked whenever a flight ends.

use longshore_core::digest::Digest;

use super::Invariant;
use crate::watch::{Broken, Transfers};

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "no-ghosts",
    sentence: "When a flight ends, everything that drivers do for it ends with it.",
    source: "design, section 7, rule 5; classic (cancellation that does not reach the bottom)",
};

/// The flights of these digests are over.
pub(crate) fn check(transfers: &Transfers, over: &[Digest], broken: &mut Vec<Broken>) {
    let left = transfers.iter().find(|(_, transfer)| over.contains(&transfer.digest));
    if let Some((op, transfer)) = left {
        let from = transfer.piece.as_ref().map_or("the origin", |(peer, _)| peer.as_str());
        let detail = format!("transfer {} from {from} goes on after the flight of {}", op.0, transfer.digest);
        broken.push((&RULE, detail));
    }
}

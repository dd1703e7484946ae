//! The swarm of one blob: who takes part, who has which piece, whom to ask for which piece, and who fetches which piece
//! from the origin.
//!
//! [`tracker`] is the leader's side: soft state about participants, and the assignment of each piece to exactly one of
//! them for the origin. [`neighbours`] is what a participant knows of the peers that it exchanges pieces with.
//! [`download`] is its own progress. [`picker`] chooses the next piece and the peer to ask. [`pace`] says how many runs are
//! fetched from the origin at a time and how long they are, [`outage`] how gently a failing origin is asked again, [`way`] how many
//! pieces peers send each other at a time.

pub(crate) mod choked;
pub(crate) mod download;
pub(crate) mod neighbours;
pub(crate) mod outage;
pub(crate) mod pace;
pub(crate) mod picker;
pub(crate) mod readiness;
pub(crate) mod tracker;
pub(crate) mod way;

use crate::piece::Geometry;

/// However long the way to the registry is, and however few requests it allows: what is lost if its fetcher dies, and has to be
/// spread when the last piece is there.
const MOST_RUN_BYTES: u64 = 64 * 1024 * 1024;

/// The most that anybody is given in one go, in pieces. (Runs in a row may be one request, where one alone is shorter than that.)
fn most_of_run(geometry: Geometry) -> u64 {
    (MOST_RUN_BYTES / geometry.piece_bytes()).max(1)
}

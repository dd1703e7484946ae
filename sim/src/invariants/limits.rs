//! Checked at every transfer and every stream.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longshore_core::Agent;
use longshore_core::digest::Digest;
use longshore_core::input::Input;
use longshore_core::message::{PullOutcome, Response};
use longshore_core::names::StreamId;
use longshore_core::output::Output;

use super::Invariant;
use crate::watch::{Broken, Scene, Transfer};

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "limits",
    sentence: "No node does more at a time than its settings allow, and what is being sent is not deleted.",
    source: "design, section 2 (everything is bounded) and section 7, rule 5",
};

/// A piece that takes longer than this may be late, and then does not count for what may be fetched at a time: the least
/// that agents take for late. Late or not, there are never more than twice as many.
pub(crate) const LEAST_LATE: Duration = Duration::from_millis(200);

/// What one agent's drivers do for others at present.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    streams: BTreeSet<StreamId>,
    uploads: BTreeMap<StreamId, Digest>,
}

impl Memory {
    /// Pieces that are being sent.
    pub(crate) fn uploads(&self) -> usize {
        self.uploads.len()
    }

    pub(crate) fn input(&mut self, input: &Input) {
        if let Input::StreamClosed { stream, .. } = input {
            self.streams.remove(stream);
            self.uploads.remove(stream);
        }
    }

    pub(crate) fn output(&mut self, scene: &mut Scene<'_>, output: &Output) {
        match output {
            Output::StreamAdmit { stream, .. } => {
                self.streams.insert(*stream);
                within(scene, self.streams.len(), scene.config.max_streams, "streams are admitted");
            }
            Output::StreamReset { stream } => {
                self.streams.remove(stream);
                self.uploads.remove(stream);
            }
            Output::PieceServe { stream, digest, .. } => {
                self.uploads.insert(*stream, *digest);
                within(scene, self.uploads.len(), scene.config.max_uploads, "pieces are sent");
            }
            Output::StreamReply { response: Response::PleasePull(results), .. } => {
                scene.occasion.admits |= results.iter().any(|result| result.outcome == PullOutcome::Started);
            }
            Output::Evict { digest } if self.uploads.values().any(|of| of == digest) => {
                scene.violate(&RULE, format!("{digest} is deleted while it is being sent"));
            }
            Output::FetchPiece { digest, .. } => {
                let same = |transfer: &&Transfer| transfer.piece.is_some() && transfer.digest == *digest;
                let may_be_late = |transfer: &Transfer| scene.now - transfer.since >= LEAST_LATE;
                let (mut late, mut timely) = (0, 0);
                for transfer in scene.transfers.iter().map(|(_, transfer)| transfer).filter(same) {
                    *if may_be_late(transfer) { &mut late } else { &mut timely } += 1;
                }
                within(scene, timely, scene.config.max_downloads, "pieces of one blob are fetched");
                within(scene, late + timely, 2 * scene.config.max_downloads, "pieces of one blob are late or fetched");
            }
            Output::FetchOrigin { .. } => {
                let fetches = scene.transfers.of_origin();
                within(scene, fetches, scene.config.max_origin_fetches, "requests to the origin run");
            }
            _ => {}
        }
    }
}

/// After an input: what was started for peers was within what may be admitted.
pub(crate) fn check_admission(agent: &Agent, broken: &mut Vec<Broken>) {
    let (flights, most) = (agent.census().flights, agent.config().max_admitted_flights as usize);
    if flights > most {
        broken.push((&RULE, format!("{flights} flights are admitted, {most} may")));
    }
}

fn within(scene: &mut Scene<'_>, there: usize, most: u32, what: &str) {
    if there > most as usize {
        scene.violate(&RULE, format!("{there} {what}, {most} may"));
    }
}

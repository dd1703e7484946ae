//! Checked at every transfer and every stream.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longshore_core::Agent;
use longshore_core::digest::Digest;
use longshore_core::input::{Input, TransferEvent};
use longshore_core::message::{PullOutcome, Response};
use longshore_core::names::{OpId, PeerId, StreamId};
use longshore_core::output::Output;
use longshore_core::time::Time;

use super::Invariant;
use crate::watch::{Broken, Scene};

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "limits",
    sentence: "No node does more at a time than its settings allow, and what is being sent is not deleted.",
    source: "design, section 2 (everything is bounded) and section 7, rule 5",
};

/// A piece that takes longer than this may be late, and then does not count for what may be fetched at a time: the least
/// that agents take for late. Late or not, there are never more than twice as many.
pub(crate) const LEAST_LATE: Duration = Duration::from_millis(200);

/// A transfer that a driver runs.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) digest: Digest,
    /// Who sends; `None`: the origin.
    pub(crate) peer: Option<PeerId>,
    since: Time,
}

/// What one agent's drivers do at present.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) transfers: BTreeMap<OpId, Transfer>,
    streams: BTreeSet<StreamId>,
    uploads: BTreeMap<StreamId, Digest>,
    /// It has just told a peer that it begins a flight.
    admits: bool,
}

impl Memory {
    /// Whether it has told a peer that it begins a flight, since this was last asked.
    pub(crate) fn takes_admission(&mut self) -> bool {
        std::mem::take(&mut self.admits)
    }

    /// Requests to the origin that run.
    pub(crate) fn origin_requests(&self) -> usize {
        self.transfers.values().filter(|transfer| transfer.peer.is_none()).count()
    }

    /// Transfers and uploads.
    pub(crate) fn under_way(&self) -> (usize, usize) {
        (self.transfers.len(), self.uploads.len())
    }

    pub(crate) fn input(&mut self, input: &Input) {
        match input {
            Input::StreamClosed { stream, .. } => {
                self.streams.remove(stream);
                self.uploads.remove(stream);
            }
            Input::Transfer { op, event: TransferEvent::Done | TransferEvent::Failed(_) } => {
                self.transfers.remove(op);
            }
            _ => {}
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
                self.admits |= results.iter().any(|result| result.outcome == PullOutcome::Started);
            }
            Output::Evict { digest } if self.uploads.values().any(|of| of == digest) => {
                scene.violate(&RULE, format!("{digest} is deleted while it is being sent"));
            }
            Output::FetchPiece { op, peer, digest, .. } => {
                self.transfers.insert(*op, Transfer { digest: *digest, peer: Some(peer.clone()), since: scene.now });
                let same = |transfer: &&Transfer| transfer.peer.is_some() && transfer.digest == *digest;
                let fetches = self.transfers.values().filter(same);
                let may_be_late = |transfer: &&Transfer| scene.now - transfer.since >= LEAST_LATE;
                let (late, timely): (Vec<_>, Vec<_>) = fetches.partition(may_be_late);
                let (late, timely) = (late.len(), timely.len());
                within(scene, timely, scene.config.max_downloads, "pieces of one blob are fetched");
                within(scene, late + timely, 2 * scene.config.max_downloads, "pieces of one blob are late or fetched");
            }
            Output::FetchOrigin { op, digest, .. } => {
                self.transfers.insert(*op, Transfer { digest: *digest, peer: None, since: scene.now });
                let fetches = self.transfers.values().filter(|transfer| transfer.peer.is_none()).count();
                within(scene, fetches, scene.config.max_origin_fetches, "requests to the origin run");
            }
            Output::CancelTransfer { op } => {
                self.transfers.remove(op);
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

//! Checked at every transfer and every stream.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use longshore_core::Agent;
use longshore_core::digest::Digest;
use longshore_core::input::{Input, TransferEvent, TransferFailure};
use longshore_core::message::{PullOutcome, Response};
use longshore_core::names::StreamId;
use longshore_core::output::{Explanation, Output};

use super::Invariant;
use crate::watch::{Broken, Scene, Transfer};

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "limits",
    sentence: "No node does more at a time than its settings allow (pieces from peers: and as many more as are on a long way, up to four times as many), and what is being sent is not deleted.",
    source: "design, section 2 (everything is bounded) and section 7, rule 5",
};

/// A piece that takes longer than this may be late, and then does not count for what may be fetched at a time: the least
/// that agents take for late. Late or not, there are never more than twice as many.
pub(crate) const LEAST_LATE: Duration = Duration::from_millis(200);

/// Where peers are far away, at most this many times as many pieces are fetched at a time as the setting says.
const MOST_ON_THE_WAY: u32 = 4;
/// Where the way there and back takes less than this, they are near.
const NEAR: Duration = Duration::from_millis(2);
/// What an agent takes for usual is an average in which the latest so many pieces count for seven eighths at least.
const LATEST: usize = 16;

/// What one agent's drivers do for others at present.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    streams: BTreeSet<StreamId>,
    uploads: BTreeMap<StreamId, Digest>,
    ways: BTreeMap<Digest, Way>,
}

/// What an agent may have learnt of the way to those who send it pieces of one blob.
#[derive(Debug, Default)]
struct Way {
    /// The longest that a refusal has taken.
    longest: Duration,
    /// What the latest pieces have taken.
    latest: VecDeque<Duration>,
}

impl Way {
    /// How many pieces may be fetched at a time where `count` may if peers are near: with the longest way and the shortest pieces
    /// that the agent can have seen.
    fn most(&self, count: u32) -> u32 {
        let most = count.saturating_mul(MOST_ON_THE_WAY);
        if self.longest < NEAR {
            return count;
        }
        let Some(shortest) = self.latest.iter().min().map(|took| *took * 7 / 8) else { return most };
        match shortest.saturating_sub(self.longest).as_micros() {
            0 => most,
            rest => (u128::from(count) * shortest.as_micros() / rest).clamp(count.into(), most.into()) as u32,
        }
    }
}

impl Memory {
    /// Pieces that are being sent.
    pub(crate) fn uploads(&self) -> usize {
        self.uploads.len()
    }

    pub(crate) fn input(&mut self, scene: &Scene<'_>, input: &Input) {
        match input {
            Input::StreamClosed { stream, .. } => {
                self.streams.remove(stream);
                self.uploads.remove(stream);
            }
            Input::Transfer { event, .. } => {
                let Some(over) = scene.over.filter(|over| over.piece.is_some()) else { return };
                let (way, took) = (self.ways.entry(over.digest).or_default(), scene.now - over.since);
                match event {
                    TransferEvent::Failed(TransferFailure::Refused(_)) => way.longest = way.longest.max(took),
                    TransferEvent::Done => {
                        way.latest.truncate(LATEST - 1);
                        way.latest.push_front(took);
                    }
                    _ => {}
                }
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
                let most = scene.config.max_downloads;
                let most = self.ways.get(digest).map_or(most, |way| way.most(most));
                within(scene, timely, most, "pieces of one blob are fetched");
                within(scene, late + timely, 2 * most, "pieces of one blob are late or fetched");
            }
            Output::FetchOrigin { .. } => {
                let fetches = scene.transfers.of_origin();
                within(scene, fetches, scene.config.max_origin_fetches, "requests to the origin run");
            }
            Output::Explain(Explanation::Failed { digest, .. } | Explanation::Completed { digest, .. }) => {
                self.ways.remove(digest);
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

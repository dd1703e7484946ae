//! Checked at every transfer and every stream.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use longshore_core::Agent;
use longshore_core::config::Config;
use longshore_core::digest::Digest;
use longshore_core::input::{Input, TransferEvent, TransferFailure};
use longshore_core::message::{PullOutcome, Response};
use longshore_core::names::StreamId;
use longshore_core::output::{Explanation, Output};
use longshore_core::piece::{MAX_PIECE_BYTES, round_trips};
use longshore_core::time::Time;

use super::Invariant;
use crate::watch::{Broken, Scene, Transfer};

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "limits",
    sentence: "No node does more at a time than its settings allow (pieces from peers: and as many more as are on a long way, up to sixteen times as many), and what is being sent is not deleted.",
    source: "design, section 2 (everything is bounded) and section 7, rule 5",
};

/// A piece that takes longer than this may be late, and then does not count for what may be fetched at a time: the least
/// that agents take for late. Late or not, there are never more than twice as many as among near peers, or as many as are on the way.
pub(crate) const LEAST_LATE: Duration = Duration::from_millis(200);

/// Where peers are far away, at most this many times as many pieces are fetched, and sent, at a time as the settings say.
const MOST_ON_THE_WAY: u32 = 16;
/// Where the way there and back takes less than this, they are near.
const NEAR: Duration = Duration::from_millis(2);
/// What an agent takes for usual is an average in which the latest so many pieces count for seven eighths at least.
const LATEST: usize = 16;

/// What one agent's drivers do for others at present, and what it may have learnt of what that takes.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    streams: BTreeSet<StreamId>,
    uploads: BTreeMap<StreamId, (Digest, Time)>,
    /// The longest that a peer's answer has taken.
    way: Duration,
    /// What the latest uploads have taken.
    sent: Latest,
    /// What the latest pieces have taken, of each blob.
    fetched: BTreeMap<Digest, Latest>,
}

/// What was done lately, the latest first, and how often it was done at all.
#[derive(Debug, Default)]
struct Latest {
    took: VecDeque<Duration>,
    all: u32,
}

impl Latest {
    fn push(&mut self, took: Duration) {
        self.took.truncate(LATEST - 1);
        self.took.push_front(took);
        self.all += 1;
    }

    /// The least that an agent can take for usual.
    fn least(&self) -> Option<Duration> {
        self.took.iter().min().map(|took| *took * 7 / 8)
    }
}

/// How many may be done at a time where `count` may if peers are near, and each takes `all`: half as many again as keep as many moving,
/// with all the times that a sender may have to wait.
fn most(count: u32, way: Duration, all: Duration) -> u32 {
    let most = count.saturating_mul(MOST_ON_THE_WAY);
    match all.saturating_sub(way * (1 + round_trips(MAX_PIECE_BYTES))).as_micros() {
        _ if way < NEAR => count,
        0 => most,
        sending => (u128::from(count) * all.as_micros() * 3 / (2 * sending)).clamp(count.into(), most.into()) as u32,
    }
}

impl Memory {
    /// Pieces that are being sent.
    pub(crate) fn uploads(&self) -> usize {
        self.uploads.len()
    }

    /// How many pieces may be sent at a time.
    pub(crate) fn most_uploads(&self, config: &Config) -> u32 {
        let count = config.max_uploads;
        self.sent.least().map_or(count, |sending| most(count, self.way, sending + self.way))
    }

    pub(crate) fn input(&mut self, scene: &Scene<'_>, input: &Input) {
        match input {
            Input::StreamClosed { stream, error, sent_bytes } => {
                self.streams.remove(stream);
                let upload = self.uploads.remove(stream).filter(|_| error.is_none() && *sent_bytes > 0);
                if let Some((_, since)) = upload {
                    self.sent.push(scene.now - since);
                }
            }
            Input::Transfer { event, .. } => {
                if let TransferEvent::Answered { after } = event {
                    self.way = self.way.max(*after);
                }
                let Some(over) = scene.over.filter(|over| over.piece.is_some()) else { return };
                let took = scene.now - over.since;
                match event {
                    TransferEvent::Failed(TransferFailure::Refused(_)) => self.way = self.way.max(took),
                    TransferEvent::Done => self.fetched.entry(over.digest).or_default().push(took),
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
                self.uploads.insert(*stream, (*digest, scene.now));
                let most = self.most_uploads(scene.config);
                within(scene, self.uploads.len(), most, "pieces are sent");
            }
            Output::StreamReply { response: Response::PleasePull(results), .. } => {
                scene.occasion.admits |= results.iter().any(|result| result.outcome == PullOutcome::Started);
            }
            Output::Evict { digest } if self.uploads.values().any(|(of, _)| of == digest) => {
                scene.violate(&RULE, format!("{digest} is deleted while it is being sent"));
            }
            Output::FetchPiece { digest, .. } => {
                let same = |transfer: &&Transfer| transfer.piece.is_some() && transfer.digest == *digest;
                let may_be_late = |transfer: &Transfer| scene.now - transfer.since >= LEAST_LATE;
                let (mut late, mut timely) = (0, 0);
                for transfer in scene.transfers.iter().map(|(_, transfer)| transfer).filter(same) {
                    *if may_be_late(transfer) { &mut late } else { &mut timely } += 1;
                }
                let count = scene.config.max_downloads;
                // One more with each that has come.
                let most = self.fetched.get(digest).map_or(count, |come| {
                    let most = come.least().map_or(count, |takes| most(count, self.way, takes));
                    most.min(count.saturating_add(come.all))
                });
                within(scene, timely, most, "pieces of one blob are fetched");
                within(scene, late + timely, most.max(2 * count), "pieces of one blob are late or fetched");
            }
            Output::FetchOrigin { .. } => {
                let fetches = scene.transfers.of_origin();
                within(scene, fetches, scene.config.max_origin_fetches, "requests to the origin run");
            }
            Output::Explain(Explanation::Failed { digest, .. } | Explanation::Completed { digest, .. }) => {
                self.fetched.remove(digest);
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

//! Peers that are not what they should be: those that lie, and those of another version.
//!
//! Every one of them runs an agent as shipped; what it says is changed on its way out, and what it would not understand does
//! not come in. That is all that other agents can know of it.

use std::sync::Arc;
use std::time::Duration;

use longshore_core::input::{Input, TransferEvent, TransferFailure};
use longshore_core::message::{EnrolReply, Have, Notice, PieceSum, PullIntent, Request, Response};
use longshore_core::names::{OpId, StreamId};
use longshore_core::output::Check;
use longshore_core::piece::{Geometry, PieceSet};
use longshore_core::spine::Midstate;

use super::{NodeIndex, World};
use crate::content::{self, Content};

/// A peer that sends nothing gets rid of the stream after this long: the other end gives up earlier.
const MUTE_STREAM: Duration = Duration::from_secs(60);

/// How a peer lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// It says that it has everything, and refuses when it is asked.
    Claims,
    /// It sends right bytes with wrong hashes: spines and sums that no data can satisfy.
    Sums,
    /// It sends wrong bytes of a blob's first half to whoever has nothing to check them by, and vouches for them; the rest
    /// is right, and it tells the midstates of the second half only, which are right as well: who goes by those alone ends
    /// at the digest.
    Half,
    /// It takes requests for pieces and never sends one.
    Mute,
    /// It sends at so many bytes per second.
    Trickle(u64),
}

/// What a node of another version does not speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// It takes part in swarms; else it answers on the coordination protocol only, as a Gantry node does.
    pub has_swarm: bool,
    /// It sends midstates.
    pub has_spine: bool,
}

impl Default for Version {
    fn default() -> Self {
        Self { has_swarm: true, has_spine: true }
    }
}

fn wrong(state: Midstate) -> Midstate {
    Midstate(state.0.map(|word| word ^ 0x0bad_0bad))
}

impl World {
    /// From now on the node lies like this; `None`: it does not any more.
    pub fn set_lie(&mut self, node: NodeIndex, lie: Option<Lie>) {
        self.nodes[node].lie = lie;
        if matches!(lie, Some(Lie::Claims | Lie::Sums | Lie::Half)) {
            self.liars.insert(node);
            self.lies_are_vouched_for |= lie == Some(Lie::Half);
        }
    }

    /// The node speaks another version from now on.
    pub fn set_version(&mut self, node: NodeIndex, version: Version) {
        self.nodes[node].version = version;
    }

    /// Whether somebody has sent something that is not so by now, or the origin has sent wrong bytes.
    pub(crate) fn is_lied_to(&self) -> bool {
        !self.liars.is_empty() || self.origin.was_corrupt
    }

    fn distorts(&self, node: NodeIndex) -> bool {
        matches!(self.nodes[node].lie, Some(Lie::Claims | Lie::Sums | Lie::Half)) || !self.nodes[node].version.has_spine
    }

    fn spine_as_told(&self, node: NodeIndex, spine: &mut Vec<(u32, Midstate)>) {
        if !self.nodes[node].version.has_spine {
            spine.clear();
        } else if self.nodes[node].lie == Some(Lie::Sums) {
            // The first one everybody knows: it is the initial value of SHA-256.
            spine.iter_mut().filter(|(piece, _)| *piece > 0).for_each(|(_, state)| *state = wrong(*state));
        } else if self.nodes[node].lie == Some(Lie::Half) {
            let last = spine.iter().map(|(piece, _)| *piece).max().unwrap_or(0);
            spine.retain(|(piece, _)| *piece > last / 2);
        }
    }

    /// What the others get to hear of a notice.
    pub(super) fn notice_as_told(&self, node: NodeIndex, notice: Arc<Notice>) -> Arc<Notice> {
        if !self.distorts(node) {
            return notice;
        }
        let mut told = (*notice).clone();
        match &mut told {
            Notice::Have { pieces, sums, spine, .. } => {
                match self.nodes[node].lie {
                    Some(Lie::Claims) => *pieces = Have::All,
                    Some(Lie::Sums) => sums.iter_mut().for_each(|sum| sum.sum[0] ^= 0xff),
                    _ => {}
                }
                self.spine_as_told(node, spine);
            }
            Notice::Unchoke { spine, .. } => self.spine_as_told(node, spine),
            _ => {}
        }
        Arc::new(told)
    }

    /// What the other one gets to hear of a request.
    pub(super) fn request_as_told(&self, node: NodeIndex, mut request: Request) -> Request {
        if self.nodes[node].lie == Some(Lie::Claims)
            && let Request::Enrol(enrol) = &mut request
            && let Some(size) = enrol.size
        {
            enrol.pieces = PieceSet::all(Geometry::of_blob(size).pieces()).to_bytes();
        }
        request
    }

    /// What the other one gets to hear of an answer.
    pub(super) fn response_as_told(&self, node: NodeIndex, mut response: Response) -> Response {
        match &mut response {
            Response::PullIntent(intent) if self.nodes[node].lie == Some(Lie::Claims) => {
                *intent = PullIntent { has_cached: true, rank: intent.rank, ..PullIntent::default() };
            }
            Response::Enrol(EnrolReply::Enrolled { spine, .. }) if self.distorts(node) => {
                self.spine_as_told(node, spine);
            }
            _ => {}
        }
        response
    }

    /// What a node sends for a piece of which it has `stored`.
    pub(super) fn content_as_sent(
        &self,
        node: NodeIndex,
        (size, piece, check): (u64, u32, Check),
        stored: Content,
    ) -> Content {
        let is_first_half = piece < Geometry::of_blob(size).pieces() / 2;
        let wrong = self.nodes[node].lie == Some(Lie::Half) && is_first_half && check == Check::Alone;
        if wrong { content::WRONG } else { stored }
    }

    /// What goes with a piece.
    pub(super) fn claim_as_told(&self, node: NodeIndex, claim: Option<PieceSum>) -> Option<PieceSum> {
        claim.map(|mut sum| {
            sum.sum[0] ^= if self.nodes[node].lie == Some(Lie::Sums) { 0xff } else { 0 };
            sum
        })
    }

    /// The most bytes per second that a node sends a piece with; `None`: as its links allow.
    pub(super) fn trickle(&self, node: NodeIndex) -> Option<u64> {
        match self.nodes[node].lie {
            Some(Lie::Trickle(rate)) => Some(rate.max(1)),
            _ => None,
        }
    }

    /// Whether a node keeps what it was asked for to itself.
    pub(super) fn stays_mute(&mut self, node: NodeIndex, stream: StreamId) -> bool {
        let is_mute = self.nodes[node].lie == Some(Lie::Mute);
        if is_mute {
            self.later(node, MUTE_STREAM, Input::StreamClosed { stream, error: None, sent_bytes: 0 });
        }
        is_mute
    }

    /// Whether two nodes can talk about swarms.
    pub(crate) fn both_swarm(&self, one: NodeIndex, other: NodeIndex) -> bool {
        self.nodes[one].version.has_swarm && self.nodes[other].version.has_swarm
    }

    /// A piece cannot be asked for: the other end does not speak the protocol.
    pub(super) fn not_spoken(&mut self, from: NodeIndex, to: NodeIndex, life: u32, op: OpId) {
        let event = TransferEvent::Failed(TransferFailure::Unreachable);
        self.reply(from, to, life, Input::Transfer { op, event });
    }
}

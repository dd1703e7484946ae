//! Checked at every piece that is asked for or refused, by those who look closely.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longshore_core::digest::Digest;
use longshore_core::input::{Hashed, Input, TransferEvent};
use longshore_core::message::{Have, Notice, PieceRefusal, PieceRequest};
use longshore_core::names::{OpId, PeerId, StreamId};
use longshore_core::output::{Check, Explanation, Output, Span};
use longshore_core::spine::Midstate;

use super::{Invariant, told_once};
use crate::watch::Scene;

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "kept-word",
    sentence: "Whoever has told others of a piece gives it, or has told them since that it is gone; what a peer sent and was not taken is not fetched from it over and over.",
    source: "design, section 3.2 (nobody polls); found by hand, `recovering.rs` and `download/doubts.rs`",
};

/// One may have been out of sight when the others were told.
const MOST_DECEIVED: usize = 2;
/// Of what it was told before that it may have been told by somebody who does not know it any more.
const LATELY: Duration = Duration::from_secs(5);
/// Others may have claimed other midstates meanwhile, each time.
const MOST_IN_VAIN: u32 = 5;

/// A piece of a blob from a peer.
type Source = (PeerId, Digest, u32);

/// What one agent has told others, and got from them.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    requests: BTreeMap<StreamId, PieceRequest>,
    /// Who was refused what it had been told of.
    deceived: BTreeMap<Digest, BTreeSet<PeerId>>,
    fetches: BTreeMap<OpId, (Source, Midstate)>,
    /// What has just come, and is taken or not.
    arriving: Option<(Source, Midstate)>,
    /// How often that was not.
    in_vain: BTreeMap<Source, (Midstate, u32)>,
}

impl Memory {
    pub(crate) fn input(&mut self, input: &Input) {
        if let Some((source, from)) = self.arriving.take() {
            let (before, times) = self.in_vain.entry(source).or_insert((from, 0));
            *times = if *before == from { *times + 1 } else { 1 };
            *before = from;
        }
        match input {
            Input::PieceRequested { stream, request } => drop(self.requests.insert(*stream, request.clone())),
            Input::StreamClosed { stream, .. } => drop(self.requests.remove(stream)),
            Input::Transfer { op, event: TransferEvent::Piece { hashed: Hashed::Chained(_), .. } } => {
                self.arriving = self.fetches.remove(op);
            }
            Input::Transfer { op, event: TransferEvent::Done | TransferEvent::Failed(_) } => {
                drop(self.fetches.remove(op))
            }
            _ => {}
        }
    }

    /// `told`: what was told before this.
    pub(crate) fn output(&mut self, scene: &mut Scene<'_>, output: &Output, told: &told_once::Memory) {
        match output {
            Output::Notify { peer, notice } => {
                if let Notice::Have { digest, pieces: Have::Exactly(_) | Have::All, .. } | Notice::Leave { digest } =
                    &**notice
                    && let Some(deceived) = self.deceived.get_mut(digest)
                {
                    deceived.remove(peer);
                }
            }
            Output::PieceRefuse { stream, refusal: PieceRefusal::Missing } => self.refuses(scene, *stream, told),
            Output::FetchOrigin { digest, span: Span::All { .. }, .. }
            | Output::Discard { digest }
            | Output::Evict { digest }
            | Output::Explain(Explanation::Failed { digest, .. } | Explanation::Completed { digest, .. }) => {
                self.deceived.remove(digest);
                self.in_vain.retain(|(_, of, _), _| of != digest);
            }
            Output::FetchPiece { op, peer, digest, piece, check: Check::From(from), .. } => {
                let source = (peer.clone(), *digest, *piece);
                if let Some((before, times)) = self.in_vain.get(&source)
                    && before == from
                    && *times >= MOST_IN_VAIN
                {
                    let detail = format!("piece {piece} of {} came {times} times from {peer} in vain", digest.short());
                    scene.violate(&RULE, detail);
                }
                self.fetches.insert(*op, (source, *from));
            }
            Output::CancelTransfer { op } => drop(self.fetches.remove(op)),
            Output::Record { digest, piece } => {
                if let Some(source) = self.arriving.take_if(|((_, of, it), _)| of == digest && *it == piece.piece) {
                    self.in_vain.remove(&source.0);
                }
            }
            _ => {}
        }
    }

    fn refuses(&mut self, scene: &mut Scene<'_>, stream: StreamId, told: &told_once::Memory) {
        let (Some(peer), Some(request)) = (told.asker(stream), self.requests.get(&stream)) else { return };
        let digest = request.digest;
        if told.told_of(peer, digest, request.piece).is_some_and(|last| scene.now - last < LATELY) {
            let deceived = self.deceived.entry(digest).or_default();
            deceived.insert(peer.clone());
            if deceived.len() > MOST_DECEIVED {
                let number = deceived.len();
                let detail = format!("{number} were told of pieces of {} that are not here", digest.short());
                scene.violate(&RULE, detail);
            }
        }
    }
}

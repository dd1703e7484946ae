//! Checked at every notice, by those who look closely: it remembers every piece that everybody was told of.

use std::collections::{BTreeMap, BTreeSet};

use longshore_core::digest::Digest;
use longshore_core::input::Input;
use longshore_core::message::{Have, Notice};
use longshore_core::names::{PeerId, StreamId};
use longshore_core::output::{Explanation, Output, Span};
use longshore_core::time::Time;

use super::Invariant;
use crate::watch::Scene;

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "told-once",
    sentence: "Nobody is told of a piece twice that was not lost since, nor of a free slot more often than it has asked, nor more than slots are free.",
    source: "design, section 3.2; the choking of BitTorrent, BEP 3",
};

/// What one agent has told others.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    streams: BTreeMap<StreamId, PeerId>,
    /// Requests for pieces of a blob that no free slot was told for.
    asked: BTreeMap<(PeerId, Digest), u32>,
    /// And when it was last told of anything.
    told: BTreeMap<(PeerId, Digest), (Time, BTreeSet<u32>)>,
    /// Free slots that somebody was told of with the present input.
    offered: usize,
}

impl Memory {
    /// Who asks by this stream.
    pub(super) fn asker(&self, stream: StreamId) -> Option<&PeerId> {
        self.streams.get(&stream)
    }

    /// When `peer` was last told of any piece of the blob, if it was told of this one.
    pub(super) fn told_of(&self, peer: &PeerId, digest: Digest, piece: u32) -> Option<Time> {
        let (last, pieces) = self.told.get(&(peer.clone(), digest))?;
        pieces.contains(&piece).then_some(*last)
    }

    pub(crate) fn input(&mut self, input: &Input) {
        self.offered = 0;
        match input {
            Input::StreamOpened { stream, peer, .. } => {
                self.streams.insert(*stream, peer.clone());
            }
            Input::StreamClosed { stream, .. } => {
                self.streams.remove(stream);
            }
            Input::PieceRequested { stream, request } => {
                if let Some(peer) = self.streams.get(stream) {
                    *self.asked.entry((peer.clone(), request.digest)).or_default() += 1;
                }
            }
            Input::Disconnected { peer: gone } => {
                self.asked.retain(|(peer, _), _| peer != gone);
                self.told.retain(|(peer, _), _| peer != gone);
            }
            // What cannot be read is lost, fetched again, and told of again.
            Input::PieceHashed { result: Err(_), .. } => self.told.clear(),
            Input::Notice { peer, notice } => match &**notice {
                // Who says exactly what it has may have been started again, and know nothing of what it was told.
                Notice::Leave { digest } | Notice::Have { digest, pieces: Have::Exactly(_), .. } => {
                    self.told.remove(&(peer.clone(), *digest));
                }
                _ => {}
            },
            _ => {}
        }
    }

    /// `sending`: pieces that are being sent now; `slots`: how many may be.
    pub(crate) fn output(&mut self, scene: &mut Scene<'_>, output: &Output, sending: usize, slots: u32) {
        let Output::Notify { peer, notice } = output else {
            // Another one may have become free.
            self.offered = 0;
            // Whoever has to fetch everything has lost what it had.
            if let Output::FetchOrigin { digest: lost, span: Span::All { .. }, .. }
            | Output::Discard { digest: lost }
            | Output::Evict { digest: lost }
            | Output::Explain(Explanation::Failed { digest: lost, .. }) = output
            {
                self.told.retain(|(_, digest), _| digest != lost);
            }
            return;
        };
        match &**notice {
            Notice::Unchoke { digest, pieces, .. } => {
                self.offered += 1;
                if sending + self.offered > slots as usize {
                    let offered = self.offered;
                    let detail = format!("{offered} are told of free slots, {sending} of {slots} are taken");
                    scene.violate(&RULE, detail);
                }
                match self.asked.get_mut(&(peer.clone(), *digest)).filter(|asked| **asked > 0) {
                    Some(asked) => *asked -= 1,
                    None => {
                        let detail = format!("{peer} is told of a slot for {} and has not asked", digest.short());
                        scene.violate(&RULE, detail);
                    }
                }
                self.tells(scene, peer, digest, pieces, false);
            }
            Notice::Have { digest, pieces: Have::Also(pieces), sums, .. } => {
                // What came from the origin the tracker is told of whether it is a neighbour or not.
                self.tells(scene, peer, digest, pieces, !sums.is_empty());
            }
            Notice::Have { digest, .. } | Notice::Leave { digest } => {
                self.told.remove(&(peer.clone(), *digest));
            }
            _ => {}
        }
    }

    fn tells(&mut self, scene: &mut Scene<'_>, peer: &PeerId, digest: &Digest, pieces: &[u32], may_repeat: bool) {
        let (last, told) = self.told.entry((peer.clone(), *digest)).or_default();
        *last = scene.now;
        // Who fetches everything again after a lie tells of it again.
        if let Some(piece) = pieces.iter().find(|piece| !told.insert(**piece) && !scene.lies && !may_repeat) {
            let detail = format!("{peer} was told of piece {piece} of {} before", digest.short());
            scene.violate(&RULE, detail);
        }
    }
}

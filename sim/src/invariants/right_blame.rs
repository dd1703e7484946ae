//! Checked at every conviction, and at every piece that contradicts what its sender says of it.

use longshore_core::digest::Digest;
use longshore_core::input::{Hashed, TransferEvent};
use longshore_core::names::{OpId, PeerId};
use longshore_core::output::{Explanation, Output};

use super::{Invariant, limits};
use crate::watch::Broken;
use crate::world::{NodeIndex, World};

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "right-blame",
    sentence: "Whoever sends bytes that contradict its own word is convicted at once; whoever never sent wrong bytes never is.",
    source: "design, section 3.3 (verified pieces)",
};

/// Whom one agent has to convict now.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    guilty: Option<PeerId>,
}

impl Memory {
    /// A piece arrives; `wrong`: it contradicts the sum that came with it.
    pub(crate) fn wrong_piece_comes(&mut self, limits: &limits::Memory, op: OpId, wrong: bool) {
        self.guilty = limits.transfers.get(&op).filter(|_| wrong).and_then(|transfer| transfer.peer.clone());
    }

    pub(crate) fn settled(&mut self, broken: &mut Vec<Broken>) {
        if let Some(peer) = self.guilty.take() {
            broken.push((&RULE, format!("{peer} has sent wrong bytes and goes free")));
        }
    }
}

impl World {
    /// Whether an event brings a piece that is not here yet and contradicts the sum that its sender gave.
    pub(crate) fn is_wrong(&self, node: NodeIndex, digest: &Digest, event: &TransferEvent) -> bool {
        match event {
            TransferEvent::Piece { piece, hashed: Hashed::Alone(sum), claim: Some(claim), .. } => {
                claim.piece == *piece && claim.sum != *sum && !self.has_recorded(node, digest, *piece)
            }
            _ => false,
        }
    }

    pub(crate) fn watch_blame(&mut self, node: NodeIndex, output: &Output) {
        let Output::Explain(Explanation::Convicted { peer, crime, .. }) = output else { return };
        if let Some(memory) = self.watched_blame(node)
            && memory.guilty.as_ref() == Some(peer)
        {
            memory.guilty = None;
        }
        let is_liar = self.node_indices().any(|other| self.liars.contains(&other) && self.peer(other) == *peer);
        // Where the registry has sent wrong bytes, those who got them vouch for them in good faith, and for other ones when they
        // have got them anew.
        if !is_liar && !self.origin.was_corrupt {
            self.violate(&RULE, node, &format!("{peer} is convicted because it {crime}, and never lied"));
        }
    }
}

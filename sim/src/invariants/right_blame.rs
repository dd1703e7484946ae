//! Checked at every conviction, and at every piece that contradicts what its sender says of it.

use longshore_core::input::{Hashed, TransferEvent};
use longshore_core::names::{OpId, PeerId};
use longshore_core::output::{Explanation, Output};

use super::Invariant;
use crate::watch::{Broken, Occasion};
use crate::world::{NodeIndex, World};

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "right-blame",
    sentence: "Whoever sends bytes that contradict its own word is convicted at once; whoever never sent wrong bytes never is.",
    source: "design, section 3.3 (verified pieces)",
};

/// All that an input led to is known.
pub(crate) fn settled(occasion: &mut Occasion, broken: &mut Vec<Broken>) {
    if let Some(peer) = occasion.guilty.take() {
        broken.push((&RULE, format!("{peer} has sent wrong bytes and goes free")));
    }
}

impl World {
    /// Who has sent a piece that is not here yet and contradicts the sum that came with it.
    pub(crate) fn guilty(&self, node: NodeIndex, op: OpId, event: &TransferEvent) -> Option<PeerId> {
        let TransferEvent::Piece { piece, hashed: Hashed::Alone(sum), claim: Some(claim), .. } = event else {
            return None;
        };
        if claim.piece != *piece || claim.sum == *sum {
            return None;
        }
        let transfer = self.transfer(node, op)?;
        let (peer, _) = transfer.piece.as_ref()?;
        (!self.has_recorded(node, &transfer.digest, *piece)).then(|| peer.clone())
    }

    pub(crate) fn watch_blame(&mut self, node: NodeIndex, output: &Output) {
        let Output::Explain(Explanation::Convicted { peer, crime, .. }) = output else { return };
        self.occasion.guilty.take_if(|guilty| guilty == peer);
        let is_liar = self.node_indices().any(|other| self.liars.contains(&other) && self.peer(other) == *peer);
        // Where the registry has sent wrong bytes, those who got them vouch for them in good faith, and for other ones when they
        // have got them anew.
        if !is_liar && !self.origin.was_corrupt {
            self.violate(&RULE, node, &format!("{peer} is convicted because it {crime}, and never lied"));
        }
    }
}

//! Checked whenever an agent finds that its view differs from another's.

use std::time::Duration;

use longshore_core::config::Scope;
use longshore_core::output::{Explanation, Output};

use super::Invariant;
use crate::world::{NodeIndex, World};

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "same-view-same-ranks",
    sentence: "Two nodes that see the same members rank them alike.",
    source: "design, section 1 (room members); gantry reference, section 3",
};

/// A view that is younger than this may not have been there when the other side answered.
const SETTLED: Duration = Duration::from_secs(15);

impl World {
    pub(crate) fn watch_ranks(&mut self, node: NodeIndex, output: &Output) {
        let Output::Explain(Explanation::RankMismatch { digest, peer, ours, theirs }) = output else { return };
        let Some(other) = self.node_indices().find(|other| self.peer(*other) == *peer) else { return };
        // Within zones they rank other nodes; and a node that does not, ranks others than one that does.
        let by_zone = |node| self.watched_config(node).is_none_or(|config| config.scope == Scope::Zone);
        // Who asks compares with what it saw when it began to ask. The answer may wait long for a machine that is suspended.
        let settled = SETTLED.max(self.asks_for(node, digest));
        if !by_zone(node) && !by_zone(other) && self.same_view_for(node, other) >= settled {
            let detail = format!("{peer} ranks itself {theirs:?} for {digest}, and is {ours} here");
            self.violate(&RULE, node, &detail);
        }
    }
}

//! Checked at every answer of a tracker.

use longshore_core::message::{EnrolReply, Response};

use super::Invariant;
use crate::world::{NodeIndex, World};

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "introductions",
    sentence: "A tracker names a few neighbours, each once, and never the one who asks.",
    source: "design, section 3.2 (about ten neighbours; sixteen measured better)",
};

/// The sixteen that each has in an even graph, one that has the next missing piece, and the tracker.
const MOST: usize = 18;

/// Looks at an answer of `node` to `asker`.
pub fn check(world: &mut World, node: NodeIndex, asker: NodeIndex, response: &Response) {
    let Response::Enrol(EnrolReply::Enrolled { neighbours, .. }) = response else { return };
    let mut names: Vec<_> = neighbours.iter().map(|neighbour| &neighbour.peer).collect();
    names.sort();
    names.dedup();
    let detail = if names.contains(&&world.peer(asker)) {
        "is introduced to itself"
    } else if names.len() < neighbours.len() {
        "gets one name twice"
    } else if neighbours.len() > MOST {
        "gets too many names"
    } else {
        return;
    };
    world.violate(&RULE, node, &format!("node {asker} {detail}"));
}

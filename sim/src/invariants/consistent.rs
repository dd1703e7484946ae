//! Checked every few inputs of each agent.

use super::Invariant;
use crate::world::{NodeIndex, World};

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "consistent",
    sentence: "An agent does not contradict itself: what waits has a deadline, what is noted is in use, limits are kept.",
    source: "design, section 2 and section 7, rules 2 and 5",
};

/// Looks into one agent.
pub fn check_node(world: &mut World, node: NodeIndex) {
    if let Some(detail) = world.agent(node).and_then(longshore_core::Agent::contradiction) {
        world.violate(&RULE, node, &detail);
    }
}

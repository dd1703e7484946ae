//! Checked at the end of the liveness phase.

use super::Invariant;
use crate::world::{PullState, World};

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "every-pull-finishes",
    sentence: "Once faults have ended, every pull of a node that is up finishes within a bound that follows from the timeouts.",
    source: "design, section 6 (liveness phase) and section 7, rule 2",
};

/// Looks at all nodes.
pub fn check(world: &mut World) {
    for node in world.node_indices() {
        if world.is_up(node) && world.pull_state(node) == PullState::Pulling {
            let flights = world.agent(node).map(|agent| agent.status().flights).unwrap_or_default();
            let flights: Vec<_> = flights
                .iter()
                .map(|flight| {
                    format!(
                        "{} {} {} {}/{} neighbours {} idle {} s",
                        flight.digest.short(),
                        flight.stage,
                        flight.role,
                        flight.pieces,
                        flight.pieces_total,
                        flight.neighbours,
                        flight.idle_seconds
                    )
                })
                .collect();
            world.violate(&RULE, node, &format!("the pull is not done; flights: [{}]", flights.join("; ")));
        }
    }
}

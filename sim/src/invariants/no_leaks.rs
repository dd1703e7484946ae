//! Checked when the cluster has been quiet for longer than any timeout.

use super::Invariant;
use crate::world::World;

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "no-leaks",
    sentence: "A quiet agent has no flight, stream, call or mirror request left, and only its periodic deadlines.",
    source: "design, section 7, rule 5",
};

/// Deadlines of an idle agent: sweep, reconcile, and one for each blob whose swarm it still looks after.
const MAX_IDLE_DEADLINES: usize = 64;

/// Looks at all nodes that are up.
pub fn check(world: &mut World) {
    for node in world.node_indices() {
        let Some(status) = world.agent(node).map(longshore_core::Agent::status) else { continue };
        let left = [
            ("flights", status.flights.len()),
            ("streams", status.streams),
            ("calls", status.calls),
            ("mirror requests", status.mirror_requests),
            ("deadlines beyond the usual", status.deadlines.saturating_sub(MAX_IDLE_DEADLINES)),
        ];
        let left: Vec<_> =
            left.into_iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{count} {what}")).collect();
        if !left.is_empty() {
            let flights: Vec<_> = status
                .flights
                .iter()
                .map(|flight| {
                    format!("{} {} {} waiters {}", flight.digest.short(), flight.stage, flight.role, flight.waiters)
                })
                .collect();
            world.violate(&RULE, node, &format!("{} are left after quiet [{}]", left.join(", "), flights.join("; ")));
        }
    }
}

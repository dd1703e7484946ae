//! Checked when the cluster has been quiet for longer than any timeout.

use super::Invariant;
use crate::world::World;

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "no-leaks",
    sentence: "A quiet agent remembers no flight, stream, call, request, operation, reader or credential; its drivers do nothing.",
    source: "design, section 7, rule 5",
};

/// Looks at all nodes that are up. Swarms are looked after for ten minutes after their last flight has ended: `long` after
/// a look that has found no flight there are none.
pub fn check(world: &mut World, long: bool) {
    for node in world.node_indices() {
        let Some(census) = world.agent(node).map(longshore_core::Agent::census) else { continue };
        let (transfers, uploads) = world.still_driving(node);
        let drivers = [("transfers", transfers), ("pieces on their way out", uploads)];
        let left: Vec<_> = census
            .list()
            .into_iter()
            .chain(drivers)
            .filter(|(what, count)| *count > 0 && (long || *what != "trackers"))
            .map(|(what, count)| format!("{count} {what}"))
            .collect();
        if !left.is_empty() {
            world.violate(&RULE, node, &format!("{} are left after quiet", left.join(", ")));
        }
    }
}

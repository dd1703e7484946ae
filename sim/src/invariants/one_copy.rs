//! Checked at the end of a run without faults.

use super::Invariant;
use crate::world::World;

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "one-copy",
    sentence: "Absent faults, the origin sends each piece to the cluster once (up to once to each zone, if what goes between them goes by a slow line); one run, or one in fifty, twice where it is slow.",
    source: "design, section 7, rule 3",
};

/// A run whose fetcher misses its deadline is given to somebody else while it may still be coming: the goal is 1.02 copies.
const TOLERANCE: usize = 50;
/// And that is never less than one run: four of the smallest pieces.
const RUN: usize = 4;

/// Looks at what the origin has sent; only where nothing was wrong with anything.
pub fn check(world: &mut World) {
    // Whoever waits for its turn at a slow line between zones for seconds asks the registry.
    let most = if world.options.cross_zone_rate.is_some() { world.options.zones.max(1) } else { 1 };
    let twice = world.origin.pieces_sent.iter().filter(|(_, times)| **times as usize > most).count();
    let all = world.origin.pieces_sent.len();
    if twice > (all / TOLERANCE).max(RUN) {
        world.violate(&RULE, None, &format!("{twice} of {all} pieces were sent more than once"));
    }
    if world.origin.direct_bytes > 0 {
        let bytes = world.origin.direct_bytes;
        world.violate(&RULE, None, &format!("containerds were sent on to the registry for {bytes} bytes"));
    }
}

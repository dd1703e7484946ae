//! Checked at the end of a run in which nothing was wrong.

use longshore_core::metrics::Counters;

use super::Invariant;
use crate::world::World;

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "calm",
    sentence: "Where nothing is wrong, nothing fails: no flight, no transfer, no request of containerd, no tracker, no view; and the best-ranked node leads.",
    source: "design, section 7 (absent faults)",
};

type Count = fn(&Counters) -> u64;

/// What must not happen.
const NEVER: [(&str, Count); 12] = [
    ("flights failed", |counters| counters.flights_failed),
    ("requests to the origin failed", |counters| counters.origin_failures),
    ("times what was here of a blob was not it", |counters| counters.blobs_mismatched),
    ("stored blobs were not what they had been", |counters| counters.blobs_rotten),
    ("pieces were rejected", |counters| counters.pieces_rejected),
    ("ranks differed", |counters| counters.hrw_rank_mismatch),
    ("cascades asked a second row of nodes", |counters| counters.topk_expansions),
    ("trackers were given up", |counters| counters.tracker_takeovers),
    ("mirror requests were refused", |counters| counters.mirror_refused),
    ("bodies were cut short", |counters| counters.mirror_aborted),
    ("peers were convicted", |counters| counters.peers_convicted),
    ("streams were dropped", |counters| counters.coord_stream_errors),
];

/// Looks at what all agents have counted.
pub fn check(world: &mut World) {
    for (what, count) in NEVER {
        let times = world.total(count);
        if times > 0 {
            world.violate(&RULE, 0, &format!("{times} {what}"));
        }
    }
    for node in world.node_indices() {
        if let Some((digest, rank)) = world.lesser_lead(node) {
            world.violate(&RULE, node, &format!("it leads the swarm of {digest}, and ranks {rank}"));
        }
    }
}

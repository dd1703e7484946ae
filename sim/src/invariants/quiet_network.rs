//! Checked at the end of a run, and whenever time stands still.

use super::Invariant;
use crate::world::World;

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "bounded-messages",
    sentence: "Messages grow with pieces and with time, not faster: nothing goes round in circles.",
    source: "simulation reference, checkers (no livelock)",
};

/// Messages for each piece of each node: news to thirty neighbours at most, its request, and requests that were in vain.
const PER_PIECE: u64 = 60;
/// Messages a second and node beside that: signs of life and probes of some flights.
const PER_NODE_SECOND: u64 = 60;
/// Messages that a node may always send for each blob: cascade, enrolment, greetings.
const PER_NODE_BLOB: u64 = 200;

/// Events at one point of time: all nodes of the largest cluster begin together, and each of them does a hundred things.
pub(crate) const MOST_AT_ONCE: u64 = 2_000_000;

/// Looks at all messages of the run for images of `pieces` pieces and `blobs` blobs in all.
pub fn check(world: &mut World, pieces: u64, blobs: u64) {
    let nodes = world.node_indices().len() as u64;
    let seconds = world.now().as_micros() / 1_000_000 + 1;
    let most = nodes * (pieces * PER_PIECE + blobs * PER_NODE_BLOB + seconds * PER_NODE_SECOND);
    if world.messages > most {
        let kinds: Vec<_> = crate::world::MESSAGE_KINDS
            .iter()
            .zip(world.messages_by_kind)
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        let (sent, kinds) = (world.messages, kinds.join(", "));
        let detail =
            format!("{sent} messages ({kinds}) for {pieces} pieces to {nodes} nodes in {seconds} s; {most} are enough");
        world.violate(&RULE, None, &detail);
    }
}

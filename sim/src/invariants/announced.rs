//! Checked at every announcement, offer of a piece, and eviction.

use super::Invariant;

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "announced-is-servable",
    sentence: "What is announced or offered can be served; it is withdrawn before it is deleted.",
    source: "design, section 7, rule 4",
};

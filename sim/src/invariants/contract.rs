//! Checked by the model of containerd, at its own limits.

use super::Invariant;

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "containerd-contract",
    sentence: "A node that is up gives its containerd headers or a refusal within 30 s, and no body stands still for 5 min.",
    source: "design, section 7, rule 7; containerd mirror contract, sections 10.2 and 10.5",
};

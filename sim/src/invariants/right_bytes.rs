//! Checked at every release, write and commit.

use super::Invariant;

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "right-bytes",
    sentence: "A byte given to containerd under a digest belongs to that digest; what is committed is what the digest says.",
    source: "design, section 7, rule 1",
};

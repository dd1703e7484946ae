//! Checked at every announcement, offer of a piece, and eviction.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_core::digest::Digest;
use longshore_core::output::Output;
use longshore_core::time::Time;

use super::Invariant;
use crate::watch::Scene;

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "announced-is-servable",
    sentence: "What is announced or offered can be served; it is withdrawn before it is deleted, and not announced again in between.",
    source: "design, section 7, rule 4; gantry reference, section 10.4 d",
};

/// An index that forgets has to be told again, but not before it can have forgotten.
const AGAIN: Duration = Duration::from_secs(30);

/// When one agent announced what.
#[derive(Debug, Default)]
pub(crate) struct Memory(BTreeMap<Digest, Time>);

impl Memory {
    pub(crate) fn output(&mut self, scene: &mut Scene<'_>, output: &Output) {
        match output {
            Output::Announce { digests } => {
                for digest in digests {
                    let before = self.0.insert(*digest, scene.now);
                    if let Some(ago) = before.map(|at| scene.now - at).filter(|ago| *ago < AGAIN) {
                        scene.violate(&RULE, format!("{digest} is announced again after {ago:?}"));
                    }
                }
            }
            Output::Withdraw { digests } => self.0.retain(|digest, _| !digests.contains(digest)),
            _ => {}
        }
    }
}

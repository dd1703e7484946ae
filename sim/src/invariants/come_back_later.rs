//! Checked at every request to the origin.

use std::collections::{BTreeMap, BTreeSet};

use longshore_core::digest::Digest;
use longshore_core::failures::LONGEST_COOLDOWN;
use longshore_core::input::{Input, TransferEvent, TransferFailure};
use longshore_core::output::{Explanation, Output};
use longshore_core::time::Time;

use super::Invariant;
use crate::watch::Scene;

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "come-back-later",
    sentence: "A leader that the origin told when to come back does not fetch that blob from it before, as long as it leads.",
    source: "gantry reference, sections 7.5 and 8 (Retry-After); RFC 9110, section 10.2.3",
};

/// What the origin has said to one agent.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Swarms that it leads.
    leads: BTreeSet<Digest>,
    not_before: BTreeMap<Digest, Time>,
}

impl Memory {
    pub(crate) fn input(&mut self, scene: &Scene<'_>, input: &Input) {
        let (Input::Transfer { event, .. }, Some(transfer)) = (input, scene.over) else { return };
        if transfer.piece.is_some() {
            return;
        }
        let digest = transfer.digest;
        if matches!(event, TransferEvent::Failed(TransferFailure::NoRanges)) {
            // From now on one has to fetch everything, and what several were fetching comes to nothing.
            self.leads.remove(&digest);
            self.not_before.remove(&digest);
        }
        let TransferEvent::Failed(TransferFailure::Origin(failure)) = event else { return };
        if let Some(after) = failure.retry_after
            && self.leads.contains(&digest)
        {
            // Of what several fetches were told, the longest counts.
            let until = self.not_before.entry(digest).or_insert(Time::ZERO);
            *until = (*until).max(scene.now + after.min(LONGEST_COOLDOWN));
        }
    }

    pub(crate) fn output(&mut self, scene: &mut Scene<'_>, output: &Output) {
        match output {
            Output::FetchOrigin { digest, .. } => {
                // Who finds out that it was lied to begins again, with a tracker that was told nothing.
                let is_excused = scene.occasion.is_rest || scene.lies;
                if let Some(until) = self.not_before.get(digest).filter(|until| **until > scene.now && !is_excused) {
                    let early = *until - scene.now;
                    scene.violate(&RULE, format!("the origin is asked for {digest} again {early:?} too early"));
                }
            }
            // A new role is a new tracker, which knows nothing of what another one was told.
            Output::Explain(Explanation::Leading { digest }) => {
                self.leads.insert(*digest);
                self.not_before.remove(digest);
            }
            Output::Explain(
                Explanation::Following { digest, .. }
                | Explanation::Failed { digest, .. }
                | Explanation::Completed { digest, .. },
            ) => {
                self.leads.remove(digest);
                self.not_before.remove(digest);
            }
            _ => {}
        }
    }
}

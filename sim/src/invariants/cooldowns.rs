//! Checked at every request to the origin, and at every refusal.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longshore_core::digest::Digest;
use longshore_core::failures::{
    FIRST_COOLDOWN, LADDER_FACTOR, LADDER_MEMORY, LONGEST_COOLDOWN, LONGEST_HONOUR, LOOK_AGAIN,
};
use longshore_core::input::Input;
use longshore_core::message::{FailureClass, PullOutcome, RecentFailure, Response};
use longshore_core::names::OpId;
use longshore_core::output::{Explanation, Output};
use longshore_core::time::Time;

use super::Invariant;
use crate::watch::Scene;

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "cool-downs",
    sentence: "A digest that failed is left alone for its cool-down, which climbs with each failure in a row, and no longer; what the \
               registry did not have it is asked for again on behalf of containerd.",
    source: "gantry reference, sections 8 and 10.4 a; design, section 1 (room failures)",
};

#[derive(Debug, Default)]
struct Failed {
    /// Failures in a row: at least so many of our own, at most so many.
    least: u32,
    most: u32,
    /// Nobody asks the origin before, and nobody is refused for it after.
    not_before: Time,
    not_after: Time,
    /// The longest that it may be told to others: they honour it.
    told_until: Time,
}

/// What failed in one agent's life.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    failed: BTreeMap<Digest, Failed>,
    /// Blobs that were fetched with a credential.
    with_credential: BTreeSet<Digest>,
    /// What the origin is asked about.
    questions: BTreeMap<OpId, Digest>,
}

fn ladder(strikes: u32) -> Duration {
    FIRST_COOLDOWN.saturating_mul(LADDER_FACTOR.saturating_pow(strikes.clamp(1, 8) - 1)).min(LONGEST_COOLDOWN)
}

/// For how long requests of containerd may be refused at once after a failure that cools down for so long.
fn may_last(class: FailureClass, cooldown: Duration) -> Duration {
    if class == FailureClass::NotFound { LOOK_AGAIN } else { cooldown }
}

impl Memory {
    /// Whether a request for this digest may be refused at once.
    pub(crate) fn may_refuse(&self, now: Time, digest: &Digest) -> bool {
        self.failed.get(digest).is_some_and(|failed| failed.not_after >= now)
    }

    pub(crate) fn input(&mut self, now: Time, input: &Input) {
        let Input::OriginStat { op, result } = input else { return };
        // It has it after all, or has been asked too much to say: nobody need wait for the rest of the cool-down.
        let is_over = result.as_ref().err().is_none_or(|failure| failure.class == FailureClass::RateLimited);
        let Some(digest) = self.questions.remove(op).filter(|_| is_over) else { return };
        if let Some(failed) = self.failed.get_mut(&digest) {
            failed.not_before = failed.not_before.min(now);
        }
    }

    pub(crate) fn output(&mut self, scene: &mut Scene<'_>, output: &Output) {
        let now = scene.now;
        match output {
            Output::StatOrigin { op, digest, .. } => {
                self.questions.insert(*op, *digest);
            }
            Output::CancelTransfer { op } => {
                self.questions.remove(op);
            }
            Output::Explain(Explanation::Failed { digest, class, detail }) => {
                let retry_after = scene.occasion.retry_after.unwrap_or_default().min(LONGEST_COOLDOWN);
                let failed = self.failed.entry(*digest).or_default();
                // Whose failure it was decides for how long it counts here.
                if detail.starts_with("another node") || detail.starts_with("in a cool-down") {
                    failed.not_after = failed.not_after.max(now + may_last(*class, LONGEST_HONOUR));
                    return;
                }
                failed.most += 1;
                let longest = ladder(failed.most).max(retry_after);
                failed.told_until = failed.told_until.max(now + longest);
                failed.not_after = failed.not_after.max(now + may_last(*class, longest.max(LONGEST_HONOUR)));
                if *class == FailureClass::Auth {
                    // The next one who asks may have a credential.
                    failed.not_before = now;
                    return;
                }
                if now > failed.not_before + LADDER_MEMORY {
                    failed.least = 0;
                }
                failed.least += 1;
                // Rate limits may be a credential's own.
                let limited = *class == FailureClass::RateLimited && !self.with_credential.contains(digest);
                let asked_for = if limited { retry_after } else { Duration::ZERO };
                failed.not_before = now + ladder(failed.least).max(asked_for);
            }
            Output::Explain(Explanation::Completed { digest, .. }) => {
                self.failed.remove(digest);
            }
            Output::StreamReply { response: Response::PullIntent(intent), .. } => {
                if let (Some(digest), Some(told)) = (scene.occasion.asked, intent.recently_failed) {
                    self.told(scene, &digest, told);
                }
            }
            Output::StreamReply { response: Response::PleasePull(results), .. } => {
                for result in results {
                    if let PullOutcome::RecentlyFailed(told) = result.outcome {
                        self.told(scene, &result.digest, told);
                    }
                }
            }
            Output::FetchOrigin { digest, credential, .. } => {
                if credential.is_some() {
                    self.with_credential.insert(*digest);
                }
                if let Some(failed) = self.failed.get(digest).filter(|failed| failed.not_before > now) {
                    let (row, early) = (failed.least, failed.not_before - now);
                    let detail =
                        format!("the origin is asked for {digest} {early:?} too early, after {row} failures in a row");
                    scene.violate(&RULE, detail);
                }
            }
            _ => {}
        }
    }

    /// A peer hears for how long a digest is left alone here.
    fn told(&self, scene: &mut Scene<'_>, digest: &Digest, told: RecentFailure) {
        let until = self.failed.get(digest).map_or(Time::ZERO, |failed| failed.told_until);
        if scene.now + told.cooldown > until {
            let (cooldown, left) = (told.cooldown, until - scene.now);
            scene.violate(&RULE, format!("a peer is told that {digest} cools down for {cooldown:?}, not {left:?}"));
        }
    }

    /// A body was cut short: the ranged retry has to go on to the next host.
    pub(crate) fn cut_short(&mut self, now: Time, digest: Digest) {
        let failed = self.failed.entry(digest).or_default();
        failed.not_after = failed.not_after.max(now + LONGEST_HONOUR);
    }
}

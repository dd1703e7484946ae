//! Checked at every answer to containerd.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longshore_core::digest::Digest;
use longshore_core::failures::{DISK_DISTRUST, ROTTEN_MEMORY};
use longshore_core::input::Input;
use longshore_core::names::{OpId, RequestId};
use longshore_core::output::{Output, Refusal};
use longshore_core::time::Time;

use super::{Invariant, cooldowns};
use crate::watch::Scene;

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "answered-once",
    sentence: "A mirror request is answered once; it is refused or cut short only for a reason, and only when its time is up.",
    source: "design, section 3.4 (failing well) and section 7, rules 2 and 7",
};

#[derive(Debug)]
struct Asked {
    digest: Digest,
    /// When the agent last began to wait for something.
    since: Time,
    served: Option<Time>,
    over: bool,
}

/// The requests of one agent.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    requests: BTreeMap<RequestId, Asked>,
    /// When the prefix of a blob last grew.
    released: BTreeMap<Digest, Time>,
    /// What the origin was asked and has not answered.
    questions: BTreeSet<OpId>,
    /// When what was here of a blob was last found wrong.
    rotten: BTreeMap<Digest, Time>,
    /// When that was so again soon after it was fetched again: nothing is given to such a disk.
    spoiled: Option<Time>,
}

impl Memory {
    pub(crate) fn digest_of(&self, request: RequestId) -> Option<Digest> {
        self.requests.get(&request).map(|asked| asked.digest)
    }

    /// Somebody has got headers for the blob, and has not been cut short.
    pub(crate) fn is_read(&self, digest: &Digest) -> bool {
        self.requests.values().any(|asked| asked.digest == *digest && asked.served.is_some() && !asked.over)
    }

    pub(crate) fn input(&mut self, scene: &Scene<'_>, input: &Input) {
        match input {
            Input::Mirror { request, digest, .. } => {
                let asked = Asked { digest: *digest, since: scene.now, served: None, over: false };
                self.requests.insert(*request, asked);
            }
            Input::MirrorClosed { request, .. } => {
                self.requests.remove(request);
            }
            // What the origin says of a credential or a size decides at once.
            Input::OriginStat { op, .. } => {
                self.questions.remove(op);
                self.decided();
            }
            Input::Manifest { .. } => self.decided(),
            // What has rotted is fetched again: who asked for it waits for a flight from now on.
            Input::Verified { digest, result } if *result != Ok(true) => {
                if *result == Ok(false)
                    && let Some(before) = self.rotten.insert(*digest, scene.now)
                    && scene.now - before < ROTTEN_MEMORY
                {
                    self.spoiled = Some(scene.now);
                }
                let waiting = self.requests.values_mut().filter(|asked| asked.digest == *digest);
                waiting.for_each(|asked| asked.since = Time::ZERO);
            }
            _ => {}
        }
    }

    /// Whoever waited for a word waits no more.
    fn decided(&mut self) {
        self.requests.values_mut().for_each(|asked| asked.since = Time::ZERO);
    }

    pub(crate) fn output(&mut self, scene: &mut Scene<'_>, output: &Output, cooldowns: &cooldowns::Memory) {
        let wrong = match output {
            Output::StatOrigin { op, .. } => {
                self.questions.insert(*op);
                return;
            }
            // That it did not say anything in time is a word as well.
            Output::CancelTransfer { op } => {
                if self.questions.remove(op) {
                    self.decided();
                }
                return;
            }
            Output::Release { digest, .. } => {
                self.released.insert(*digest, scene.now);
                return;
            }
            Output::MirrorServe { request, .. } => match self.requests.get_mut(request) {
                None => "is answered after it was closed",
                Some(asked) if asked.over || asked.served.is_some() => "is answered twice",
                Some(asked) => {
                    asked.served = Some(scene.now);
                    return;
                }
            },
            Output::MirrorRefuse { request, refusal } => match self.requests.get_mut(request) {
                None => "is refused after it was closed",
                Some(asked) if asked.over || asked.served.is_some() => "is refused although it was answered",
                Some(asked) => {
                    asked.over = true;
                    let waited = scene.now - asked.since;
                    let excused = *refusal != Refusal::NotHere
                        || scene.lies
                        || asked.since == Time::ZERO
                        || scene.occasion.ended.contains(&asked.digest)
                        || waited + Duration::from_millis(1) >= scene.config.header_timeout
                        || waited.is_zero() && cooldowns.may_refuse(scene.now, &asked.digest)
                        || waited.is_zero() && self.spoiled.is_some_and(|at| scene.now - at < DISK_DISTRUST);
                    if excused {
                        return;
                    }
                    "is refused without a reason"
                }
            },
            Output::MirrorAbort { request } => match self.requests.get_mut(request) {
                None => "is cut short after it was closed",
                Some(Asked { served: None, .. }) => "is cut short before it was answered",
                Some(asked) => {
                    asked.over = true;
                    let moved = self.released.get(&asked.digest).copied().max(asked.served).unwrap_or(Time::ZERO);
                    let stood_still = scene.now - moved + Duration::from_millis(1) >= scene.config.body_timeout;
                    if scene.lies || stood_still || scene.occasion.ended.contains(&asked.digest) {
                        return;
                    }
                    "is cut short although it moves"
                }
            },
            _ => return,
        };
        let (Output::MirrorServe { request, .. }
        | Output::MirrorRefuse { request, .. }
        | Output::MirrorAbort { request }) = output
        else {
            return;
        };
        scene.violate(&RULE, format!("request {} {wrong}", request.0));
    }
}

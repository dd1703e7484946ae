//! Checked at every input by which time passes, or by which the origin answers a question of a request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::digest::Digest;
use longshore_core::input::Input;
use longshore_core::message::FailureClass;
use longshore_core::names::OpId;
use longshore_core::output::Output;
use longshore_core::time::Time;

use super::Invariant;
use crate::watch::{Broken, Occasion};

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "one-question",
    sentence: "Requests that have waited for a registry which limits how often it is asked do not put their questions at once when it may be asked again.",
    source: "containerd reference, section 9; RFC 6585, section 4",
};

/// Who was told that it asks too often, and has not been told so again for this long, may ask as before.
const LIMITED_FOR: Duration = Duration::from_secs(30);

/// What one agent has asked on behalf of containerd's requests.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Questions that it waits for the answers to.
    open: BTreeMap<OpId, Arc<str>>,
    /// Registries that have said it is too much, and when.
    limited: BTreeMap<Arc<str>, Time>,
}

/// What the origin is asked with one input: the question, the blob and the registry.
pub(crate) type Asked = (OpId, Digest, Arc<str>);

pub(crate) fn input(occasion: &mut Occasion, memory: &mut Memory, now: Time, input: &Input) {
    let Input::OriginStat { op, result } = input else { return };
    let Some(registry) = memory.open.remove(op) else { return };
    occasion.answers_request = true;
    if result.as_ref().is_err_and(|failure| failure.class == FailureClass::RateLimited) {
        memory.limited.insert(registry, now);
    }
}

pub(crate) fn output(occasion: &mut Occasion, output: &Output) {
    if let Output::StatOrigin { op, source, digest, .. } = output {
        occasion.asked_origin.push((*op, *digest, source.registry.clone()));
    }
}

impl Memory {
    /// All that an input leads to has happened. `is_flying`: whether a blob is on its way; what is asked of such a one may be asked for
    /// its flight, and is not counted.
    pub(crate) fn settled(
        &mut self,
        now: Time,
        occasion: &mut Occasion,
        is_flying: impl Fn(&Digest) -> bool,
        broken: &mut Vec<Broken>,
    ) {
        let mut of_requests: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for (op, digest, registry) in std::mem::take(&mut occasion.asked_origin) {
            if !is_flying(&digest) {
                self.open.insert(op, registry.clone());
                *of_requests.entry(registry).or_default() += 1;
            }
        }
        // Requests that come at the same time ask at the same time, before the registry has said that it is too much.
        if !occasion.by_the_clock && !occasion.answers_request {
            return;
        }
        let limits = |registry: &Arc<str>| self.limited.get(registry).is_some_and(|at| now - *at < LIMITED_FOR);
        let too_many = |(registry, asked): &(Arc<str>, usize)| *asked > 1 && limits(registry);
        if let Some((registry, asked)) = of_requests.into_iter().find(too_many) {
            broken.push((&RULE, format!("{asked} questions are put to {registry} at once")));
        }
    }
}

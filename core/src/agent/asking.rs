//! Questions to the origin on behalf of containerd's requests: may this one have the blob, and how large is it?
//!
//! A registry that limits how often it is asked would turn all but one of an image's layers away, at each try of the
//! kubelet's, for ever: what is refused here goes to the same registry by another way. So whoever was told to come back in
//! a moment waits for that as long as containerd waits for headers, and from then on one question is asked at a time.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::mirroring::{STAT_PATIENCE, State};
use super::{Agent, Op};
use crate::failures::LONGEST_COOLDOWN;
use crate::input::{OriginFailure, OriginStat};
use crate::message::FailureClass;
use crate::names::{OpId, RequestId};
use crate::output::{Output, Refusal};
use crate::time::Time;
use crate::timers::{Deadline, Timers};

/// A registry that limits us is asked again after this long, or after what it says if that is longer; and somewhat later,
/// because others were told the same.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What is to be asked for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Question {
    /// How large is it?
    Size,
    /// May its requester have it?
    Permission,
}

/// A registry that was asked too often, for as long as somebody waits to ask it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Limited {
    not_before: Time,
    /// The one question that is under way. Those that were when it began to limit us are not counted.
    asked: Option<OpId>,
    waiting: VecDeque<(RequestId, Question)>,
}

impl Limited {
    pub(super) fn waits(&self, id: RequestId) -> bool {
        self.waiting.iter().any(|(waiting, _)| *waiting == id)
    }

    /// Nothing will make whoever is first ask as soon as it may.
    pub(super) fn is_forgotten(&self, timers: &Timers) -> bool {
        let asks = self.waiting.front().and_then(|(id, _)| timers.due(Deadline::Headers(*id)));
        self.asked.is_none() && asks.is_none_or(|at| at > self.not_before)
    }
}

impl Agent {
    /// The origin has the time that is left of the requester's patience.
    pub(super) fn ask_origin(&mut self, id: RequestId, question: Question) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        request.state = State::Asking;
        let due = request.due;
        self.cx.timers.set(Deadline::Headers(id), due);
        let Some(limited) = self.limited.get_mut(&request.source.registry) else {
            self.put_question(id, question);
            return;
        };
        if limited.not_before >= due {
            return self.refuse(id, Refusal::NotHere);
        }
        limited.waiting.push_back((id, question));
    }

    fn put_question(&mut self, id: RequestId, question: Question) -> Option<OpId> {
        let request = self.requests.get(&id)?;
        let (source, digest, credential) = (request.source.clone(), request.digest, request.credential);
        let op = match question {
            Question::Size => Op::Head(id),
            Question::Permission => Op::Authorize(id),
        };
        let op = self.start_op(op, STAT_PATIENCE);
        self.cx.emit(Output::StatOrigin { op, source, digest, credential });
        Some(op)
    }

    /// The origin has answered a question. Whoever was told to come back while there is time does so, and is not told more
    /// now.
    pub(super) fn question_answered(
        &mut self,
        op: OpId,
        id: RequestId,
        question: Question,
        result: Result<OriginStat, OriginFailure>,
    ) {
        let mut registry = None;
        for (name, limited) in &mut self.limited {
            if limited.asked == Some(op) {
                limited.asked = None;
                registry = Some(name.clone());
            }
        }
        let has_turn = registry.is_some();
        let request = self.requests.get(&id);
        let waiting = request.filter(|request| request.state == State::Asking);
        let mut comes_back = false;
        if let Err(failure) = &result
            && failure.class == FailureClass::RateLimited
            && let Some(request) = request
        {
            let after = failure.retry_after.unwrap_or_default().min(LONGEST_COOLDOWN).max(ASK_AGAIN);
            let not_before = self.cx.now + after + self.cx.jitter(after / 4);
            comes_back = waiting.is_some_and(|request| not_before < request.due);
            let name = request.source.registry.clone();
            if comes_back {
                self.limited.entry(name.clone()).or_default();
            }
            if let Some(limited) = self.limited.get_mut(&name) {
                limited.not_before = limited.not_before.max(not_before);
                match comes_back {
                    true if has_turn => limited.waiting.push_front((id, question)),
                    true => limited.waiting.push_back((id, question)),
                    false => {}
                }
                registry = Some(name);
            }
        }
        if !comes_back {
            match question {
                Question::Size if waiting.is_some() => self.size_of_request_answered(id, result),
                // It was refused meanwhile.
                Question::Size => {}
                Question::Permission => self.authorization_answered(id, result),
            }
        }
        if let Some(registry) = registry {
            self.ask_next(&registry);
        }
    }

    /// Asks a registry that limits us the next question, if it is time; otherwise whoever is first is woken when it is.
    pub(super) fn ask_next(&mut self, registry: &Arc<str>) {
        let now = self.cx.now;
        while let Some(limited) = self.limited.get_mut(registry) {
            if limited.asked.is_some() && !mutant!("limiting-registry-asked-at-once") {
                return;
            }
            let Some((id, question)) = limited.waiting.front().copied() else {
                self.limited.remove(registry);
                return;
            };
            let not_before = limited.not_before;
            let Some(due) = self.requests.get(&id).map(|request| request.due).filter(|due| not_before < *due) else {
                limited.waiting.pop_front();
                self.refuse(id, Refusal::NotHere);
                continue;
            };
            if now < not_before {
                return self.cx.timers.set(Deadline::Headers(id), not_before);
            }
            limited.waiting.pop_front();
            self.cx.timers.set(Deadline::Headers(id), due);
            if question == Question::Permission && !self.must_authorize(id, true) {
                // The origin has told another request of the same requester.
                self.permitted(id);
                continue;
            }
            let asked = self.put_question(id, question);
            if let Some(limited) = self.limited.get_mut(registry) {
                limited.asked = asked;
            }
        }
    }

    /// A request does not wait for its turn any more.
    pub(super) fn leave_queue(&mut self, registry: &Arc<str>, id: RequestId) {
        let Some(limited) = self.limited.get_mut(registry).filter(|limited| limited.waits(id)) else { return };
        limited.waiting.retain(|(waiting, _)| *waiting != id);
        if !mutant!("turn-not-passed-on") {
            self.ask_next(registry);
        }
    }
}

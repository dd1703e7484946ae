//! Calls to peers that have no answer yet, and what to do with the answer.

use core::time::Duration;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::digest::Digest;
use crate::message::Request;
use crate::names::{CallId, PeerId};
use crate::output::Output;
use crate::timers::Deadline;

/// Why a call was made: what its answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Purpose {
    /// A probe of the cascade.
    Probe,
    /// The cascade asks for a pull.
    AskToPull,
    /// A participant enrols.
    Enrol,
    /// A leader looks whether somebody better leads.
    Defer,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) peer: PeerId,
    pub(crate) digest: Digest,
    pub(crate) purpose: Purpose,
    /// The flight that asked: an answer for an earlier flight of the same digest is dropped.
    pub(crate) generation: u64,
}

/// The calls that are out. The one place where a stale answer is recognised: its number is not here any more.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Calls(BTreeMap<CallId, Call>);

impl Calls {
    pub(crate) fn start(&mut self, cx: &mut Context, call: Call, request: Request, timeout: Duration) {
        let id = cx.next_call();
        if !mutant!("call-without-deadline") {
            cx.wake(Deadline::Call(id), timeout);
        }
        cx.emit(Output::Call { call: id, peer: call.peer.clone(), request, timeout });
        self.0.insert(id, call);
    }

    /// Takes the call that was answered, failed or timed out.
    pub(crate) fn finish(&mut self, cx: &mut Context, id: CallId) -> Option<Call> {
        cx.timers.clear(Deadline::Call(id));
        self.0.remove(&id)
    }

    /// Gives up every call of a digest that `matches`.
    pub(crate) fn cancel(&mut self, cx: &mut Context, matches: impl Fn(&Call) -> bool) {
        self.0.retain(|id, call| {
            let gone = matches(call);
            if gone {
                cx.timers.clear(Deadline::Call(*id));
                cx.emit(Output::CallCancel { call: *id });
            }
            !gone || mutant!("cancelled-call-kept")
        });
    }

    pub(crate) fn any(&self, matches: impl Fn(&Call) -> bool) -> bool {
        self.0.values().any(matches)
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = CallId> + '_ {
        self.0.keys().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

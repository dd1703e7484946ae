//! What every room of the agent needs while it handles one input: the time, the outbox, the timers, the dice.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

use crate::digest::Digest;
use crate::metrics::Counters;
use crate::names::{CallId, OpId, PeerId};
use crate::output::{Explanation, Output};
use crate::time::Time;
use crate::timers::{Deadline, Timers};

#[derive(Debug, Serialize, Deserialize)]
#[repr(C)]
pub(crate) struct Context {
    pub(crate) counters: Counters,
    generator: ChaCha8Rng,
    last_id: u64,
    pub(crate) now: Time,
    pub(crate) outbox: VecDeque<Output>,
    pub(crate) timers: Timers,
}

impl Context {
    pub(crate) fn new(seed: u64, now: Time) -> Self {
        Self {
            now,
            outbox: VecDeque::new(),
            timers: Timers::default(),
            counters: Counters::default(),
            generator: ChaCha8Rng::seed_from_u64(seed),
            last_id: 0,
        }
    }

    pub(crate) fn emit(&mut self, output: Output) {
        self.outbox.push_back(output);
    }

    pub(crate) fn explain(&mut self, explanation: Explanation) {
        self.emit(Output::Explain(explanation));
    }

    pub(crate) fn wake(&mut self, deadline: Deadline, after: Duration) {
        self.timers.set(deadline, self.now + after);
    }

    pub(crate) fn wake_by(&mut self, deadline: Deadline, after: Duration) {
        self.timers.set_by(deadline, self.now + after);
    }

    /// A number below `bound` (which is not 0), each about as likely.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        // The bias of the multiplication is below bound/2^32: no decision here notices.
        ((u64::from(self.generator.next_u32()) * u64::from(bound)) >> 32) as u32
    }

    /// `duration`, give or take a quarter.
    pub(crate) fn jitter(&mut self, duration: Duration) -> Duration {
        duration * (75 + self.below(51)) / 100
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            let other = self.below(index as u32 + 1) as usize;
            items.swap(index, other);
        }
    }

    pub(crate) fn next_op(&mut self) -> OpId {
        self.last_id += 1;
        OpId(self.last_id)
    }

    pub(crate) fn next_call(&mut self) -> CallId {
        self.last_id += 1;
        CallId(self.last_id)
    }

    pub(crate) fn convict(&mut self, digest: Digest, peer: &PeerId, crime: &str) {
        self.counters.peers_convicted += 1;
        self.explain(Explanation::Convicted { digest, peer: peer.clone(), crime: Arc::from(crime) });
    }
}

//! What this node has told the provider index, and what it still has to tell it.

use core::time::Duration;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::digest::Digest;
use crate::output::Output;
use crate::timers::Deadline;

/// Announcements wait this long for company.
pub const BATCH_DELAY: Duration = Duration::from_millis(100);
/// Most digests in one announcement; the next batch follows after [`BATCH_DELAY`], so that a node that starts with ten
/// thousand blobs does not flood the index.
pub const BATCH: usize = 64;

/// Announced is always a subset of servable: a digest is withdrawn before it is deleted.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Presence {
    announced: BTreeSet<Digest>,
    waiting: BTreeSet<Digest>,
}

impl Presence {
    /// The blob can be served: announce it soon.
    pub(crate) fn available(&mut self, cx: &mut Context, digest: Digest) {
        if !self.announced.contains(&digest) && self.waiting.insert(digest) && !mutant!("announcement-without-deadline")
        {
            cx.wake_by(Deadline::Announce, BATCH_DELAY);
        }
    }

    /// The blobs must not be asked for any more: withdraw them now.
    pub(crate) fn unavailable(&mut self, cx: &mut Context, digests: &[Digest]) {
        let mut gone = Vec::new();
        for digest in digests {
            self.waiting.remove(digest);
            if self.announced.remove(digest) {
                gone.push(*digest);
            }
        }
        if !gone.is_empty() {
            cx.emit(Output::Withdraw { digests: gone });
        }
    }

    /// Sends the next batch.
    pub(crate) fn flush(&mut self, cx: &mut Context) {
        let batch: Vec<_> = self.waiting.iter().take(BATCH).copied().collect();
        for digest in &batch {
            if self.announced.insert(*digest) && mutant!("announced-twice") {
                continue;
            }
            self.waiting.remove(digest);
        }
        if !batch.is_empty() {
            cx.emit(Output::Announce { digests: batch });
        }
        if !self.waiting.is_empty() {
            cx.wake_by(Deadline::Announce, BATCH_DELAY);
        }
    }

    /// Compares with what is servable and mends the difference. What was announced before is not said again: the index
    /// publishes it anew by itself (`provider_republish_interval`).
    pub(crate) fn reconcile(&mut self, cx: &mut Context, servable: &BTreeSet<Digest>) {
        let gone: Vec<_> = self.announced.difference(servable).copied().collect();
        self.unavailable(cx, &gone);
        self.waiting.retain(|digest| servable.contains(digest));
        for digest in servable {
            self.available(cx, *digest);
        }
    }

    /// Withdraws everything: this node is going away.
    pub(crate) fn withdraw_all(&mut self, cx: &mut Context) {
        let all: Vec<_> = self.announced.iter().copied().collect();
        self.unavailable(cx, &all);
        self.waiting.clear();
    }

    /// Whether something is still to be announced.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.announced.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Time;

    fn digest(seed: u8) -> Digest {
        Digest::from_bytes([seed; 32])
    }

    fn outputs(cx: &mut Context) -> Vec<Output> {
        cx.outbox.drain(..).collect()
    }

    #[test]
    fn announcements_are_batched_and_a_big_start_is_spread() {
        let mut cx = Context::new(1, Time::ZERO);
        let mut presence = Presence::default();
        for seed in 0..100 {
            presence.available(&mut cx, digest(seed));
        }
        assert!(outputs(&mut cx).is_empty());
        presence.flush(&mut cx);
        assert_eq!(presence.len(), BATCH);
        assert!(cx.timers.next().is_some());
        presence.flush(&mut cx);
        assert_eq!((presence.len(), outputs(&mut cx).len()), (100, 2));
    }

    #[test]
    fn reconcile_withdraws_what_is_gone_and_announces_what_was_missed() {
        let mut cx = Context::new(1, Time::ZERO);
        let mut presence = Presence::default();
        presence.available(&mut cx, digest(1));
        presence.flush(&mut cx);
        outputs(&mut cx);
        presence.reconcile(&mut cx, &BTreeSet::from([digest(2)]));
        presence.flush(&mut cx);
        assert_eq!(
            outputs(&mut cx),
            [Output::Withdraw { digests: vec![digest(1)] }, Output::Announce { digests: vec![digest(2)] }]
        );
    }

    #[test]
    fn what_was_never_announced_is_not_withdrawn() {
        let mut cx = Context::new(1, Time::ZERO);
        let mut presence = Presence::default();
        presence.available(&mut cx, digest(1));
        presence.unavailable(&mut cx, &[digest(1), digest(2)]);
        presence.flush(&mut cx);
        assert!(outputs(&mut cx).is_empty());
    }
}

//! Whether what is here is the blob: the verified prefix grows, containerd gets it, and at its end the digest decides.

use core::time::Duration;

use super::participating::RECOVERY_TELL_DELAY;
use super::{Agent, Op};
use crate::digest::Digest;
use crate::flight::Stage;
use crate::input::StoreError;
use crate::names::OpId;
use crate::output::Output;
use crate::spine::{Midstate, Wanted};
use crate::swarm::download::Prefix;
use crate::swarm::download::recovery::Weighed;
use crate::timers::Deadline;

impl Agent {
    pub(super) fn piece_hashed(&mut self, op: OpId, result: Result<Midstate, StoreError>) {
        let Some(Op::Hash(digest, wanted)) = self.finish_op(op) else { return };
        let Some(download) = self.flights.get_mut(&digest).and_then(|flight| flight.download.as_mut()) else { return };
        match result {
            Ok(after) => {
                download.hashed(op, wanted, after);
                if download.is_recovering() {
                    // What was kept and is right can be given to others.
                    self.cx.wake_by(Deadline::Tell(digest), RECOVERY_TELL_DELAY);
                }
                self.after_piece(digest);
            }
            Err(_) => {
                download.unreadable(op, wanted.piece);
                self.fill(digest);
            }
        }
    }

    /// The prefix may have grown: hash on, release what is verified, finish when it is the blob.
    pub(super) fn after_piece(&mut self, digest: Digest) {
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        let Some(download) = &mut flight.download else { return };
        if matches!(flight.stage, Stage::Committing) {
            return;
        }
        let size = download.geometry().size();
        let weighed = download.weigh(self.cx.now);
        download.compare_claims();
        let (suspects, culprits) = (download.confirm_doubts(), download.settle_doubts());
        let next = download.next_to_hash();
        let prefix = download.prefix();
        if let Some(wanted @ Wanted { piece, from }) = next {
            let op = self.start_op(Op::Hash(digest, wanted), Duration::from_secs(3600));
            if let Some(download) = self.flights.get_mut(&digest).and_then(|flight| flight.download.as_mut()) {
                download.hashing(op);
            }
            self.cx.emit(Output::HashPiece { op, digest, size, piece, from });
        }
        for peer in suspects {
            if self.failures.may_ask(self.cx.now, digest, &peer) {
                self.failures.spoiled(self.cx.now, digest, &peer);
            }
        }
        for peer in culprits {
            self.convict(digest, &peer, "sent a piece that does not fit into the blob");
        }
        match prefix {
            Prefix::Bytes(bytes) if mutant!("committed-before-whole") && bytes > size / 2 => self.commit(digest),
            Prefix::Bytes(bytes) => self.release(digest, bytes),
            Prefix::Whole => {
                self.release(digest, size);
                self.commit(digest);
            }
            Prefix::Mismatch => self.mismatch(digest),
        }
        match weighed {
            Weighed::Nothing => {}
            Weighed::Wrong => self.fill(digest),
            Weighed::Refuted => self.tell_what_is_left(digest),
        }
    }

    fn release(&mut self, digest: Digest, bytes: u64) {
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        // After a mismatch nothing is given away that may be wrong once more: whoever reads has headers, and waits for the whole.
        let waits = flight.is_recovering() && flight.size.is_none_or(|size| bytes < size);
        if bytes <= flight.released || waits && !mutant!("unverified-prefix-released-again") {
            return;
        }
        flight.released = bytes;
        flight.last_release = self.cx.now;
        self.cx.emit(Output::Release { digest, bytes });
        self.answer_waiters(digest);
        self.bodies_move(digest);
    }
}

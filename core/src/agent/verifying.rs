//! Whether what is here is the blob: the verified prefix grows, containerd gets it, and at its end the digest decides.

use core::time::Duration;

use super::{Agent, Op};
use crate::digest::Digest;
use crate::flight::{Role, Stage};
use crate::input::StoreError;
use crate::message::{FailureClass, Notice};
use crate::names::OpId;
use crate::output::Output;
use crate::resolve::stall_window;
use crate::spine::{Midstate, Wanted};
use crate::swarm::download::{Download, Prefix};
use crate::timers::Deadline;

impl Agent {
    pub(super) fn piece_hashed(&mut self, op: OpId, result: Result<Midstate, StoreError>) {
        let Some(Op::Hash(digest, wanted)) = self.finish_op(op) else { return };
        let Some(download) = self.flights.get_mut(&digest).and_then(|flight| flight.download.as_mut()) else { return };
        match result {
            Ok(after) => {
                download.hashed(op, wanted, after);
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
    }

    fn release(&mut self, digest: Digest, bytes: u64) {
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        // After a mismatch the prefix starts again; what was given away cannot be taken back.
        if bytes <= flight.released {
            return;
        }
        flight.released = bytes;
        self.cx.emit(Output::Release { digest, bytes });
        self.answer_waiters(digest);
        self.bodies_move(digest);
    }

    /// All pieces are here and they are not the blob. Whoever reads it is cut short, and everything that peers delivered
    /// is fetched again from the origin, which shows who lied.
    fn mismatch(&mut self, digest: Digest) {
        let now = self.cx.now;
        let own = self.config.peer.clone();
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        let Some(download) = &mut flight.download else { return };
        let again = download.origin_only;
        let suspects = download.distrust();
        let waiters = core::mem::take(&mut flight.waiters);
        let patience = self.config.body_timeout;
        self.failures.honour(now, digest, patience);
        self.dismiss_waiters(waiters, FailureClass::Transient, &[]);
        if again || !suspects {
            self.cx.emit(Output::Discard { digest });
            if let Some(flight) = self.flights.get_mut(&digest) {
                flight.download = None;
            }
            let detail = "the origin's bytes do not have this digest";
            return self.fail_flight(digest, FailureClass::Transient, detail, Vec::new(), None);
        }
        // Nobody else's pieces count now: this node fetches for itself. Its tracker must not think any more that it has what
        // it has thrown away.
        if let Some(flight) = self.flights.get(&digest)
            && let Role::Following(tracker) = &flight.role
        {
            self.cx.emit(Output::Notify { peer: tracker.clone(), notice: Notice::Leave { digest }.into() });
        }
        self.end_tracking(digest);
        // Whatever it was about to find out about others changes nothing now.
        self.calls.cancel(&mut self.cx, |call| call.digest == digest);
        self.cx.timers.clear(Deadline::Probe(digest));
        self.cx.timers.clear(Deadline::Enrol(digest));
        if let Some(flight) = self.flights.get_mut(&digest) {
            flight.role = Role::Leading;
            flight.stage = Stage::Moving;
            let stall = stall_window(flight.source.kind, flight.size);
            self.cx.wake(Deadline::NoProgress(digest), stall);
        }
        let tracker = self.trackers.entry(digest).or_default();
        let flight = self.flights.get(&digest);
        if let Some(download) = flight.and_then(|flight| flight.download.as_ref()) {
            tracker.learn(download.geometry(), false);
            let introduction = crate::swarm::tracker::Introduction {
                pieces: download.have().to_bytes(),
                can_fetch: true,
                addresses: Vec::new(),
                zone: None,
            };
            tracker.enrol(now, &own, introduction);
        }
        self.track(digest);
    }

    pub(super) fn convict_culprits(&mut self, digest: Digest) {
        let download = self.flights.get_mut(&digest).and_then(|flight| flight.download.as_mut());
        for (peer, is_author) in download.map(Download::culprits).unwrap_or_default() {
            if is_author {
                self.convict(digest, &peer, "delivered bytes that the origin does not send");
            } else if self.failures.may_ask(self.cx.now, digest, &peer) {
                self.failures.spoiled(self.cx.now, digest, &peer);
            }
        }
    }
}

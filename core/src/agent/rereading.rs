//! Blobs that containerd has read and asks for again: hashed before it gets them once more.
//!
//! containerd hashes what it gets. If it asks for all of a blob again, it may have found that what is here is not the blob any
//! more: a disk forgets, and somebody may have written to the file. Served as it is, it would fail the pull each time, for ever.
//!
//! Where one blob has rotted others may have: each of them would fail a pull that the kubelet begins again after longer and longer pauses.
//! So all that is here is hashed first for a while. A disk that spoils what it is given is given nothing more for as long: containerd gets
//! what is not here from the next host.

use super::Agent;
use super::mirroring::{Request, State};
use crate::digest::Digest;
use crate::input::{Method, StoreError};
use crate::message::FailureClass;
use crate::names::RequestId;
use crate::output::{Explanation, Output};
use crate::timers::Deadline;

impl Agent {
    /// Whether a request for a blob that is here has to wait until that is hashed. It waits for headers no longer than others do.
    pub(super) fn hashes_first(&mut self, id: RequestId) -> bool {
        let Some(request) = self.requests.get_mut(&id) else { return false };
        let digest = request.digest;
        let forgot = self.failures.disk_forgot(self.cx.now);
        let is_doubtful = self.cache.was_read(&digest) || forgot.is_some_and(|at| !self.cache.was_right(at, &digest));
        if request.method != Method::Get || !is_doubtful || mutant!("rotten-blob-served-for-ever") {
            return false;
        }
        request.state = State::Verifying;
        if !core::mem::replace(&mut request.holds, true) {
            self.cache.hold(&digest);
        }
        self.cx.timers.set(Deadline::Headers(id), request.due);
        if self.cache.begin_verifying(&digest) {
            self.cx.emit(Output::Verify { digest });
        }
        true
    }

    /// A blob was hashed again: whether it has its digest, or why that could not be found out.
    pub(super) fn verified(&mut self, digest: Digest, result: Result<bool, StoreError>) {
        if !self.cache.end_verifying(&digest) {
            // It has gone meanwhile, or gone and come again. (If it has come and is being hashed once more, this word is taken for that
            // one's: at worst what is right is fetched again.)
            return;
        }
        let waits = |(id, request): (&RequestId, &Request)| {
            (request.digest == digest && request.state == State::Verifying).then_some(*id)
        };
        let waiting: Vec<_> = self.requests.iter().filter_map(waits).collect();
        match result {
            Ok(true) => {
                self.cache.is_right(self.cx.now, &digest);
                return waiting.into_iter().for_each(|id| self.serve_stored(id));
            }
            Ok(false) | Err(StoreError::Missing) => {}
            // It could not be looked at (no file descriptors, say): that says nothing of the blob.
            Err(_) => return waiting.into_iter().for_each(|id| self.serve_stored(id)),
        }
        self.drop_rotten(digest);
        // What somebody has deleted says nothing of the disk.
        if result == Ok(false) && self.failures.rotted(self.cx.now, digest) {
            self.cx.explain(Explanation::DiskSpoils { digest });
            self.stop_fetching_ahead();
        }
        for id in waiting {
            self.serve_missing(id);
        }
    }

    /// The disk should get nothing that nobody waits for.
    fn stop_fetching_ahead(&mut self) {
        let ahead: Vec<_> =
            self.flights.values().filter(|flight| flight.is_asked_by_nobody()).map(|flight| flight.digest).collect();
        for digest in ahead {
            let detail = "the disk spoils what it is given";
            self.fail_flight(digest, FailureClass::Transient, detail, Some(core::time::Duration::ZERO));
        }
    }

    /// What is here is not the blob: nobody gets anything of it any more, and it is deleted.
    fn drop_rotten(&mut self, digest: Digest) {
        self.cx.counters.blobs_rotten += 1;
        self.cx.explain(Explanation::Rotten { digest });
        let mut serving = Vec::new();
        for (id, request) in self.requests.iter_mut().filter(|(_, request)| request.digest == digest) {
            request.holds = false;
            if request.state == State::Serving {
                serving.push(*id);
            }
        }
        serving.into_iter().for_each(|id| self.abort(id));
        self.stop_uploads(digest);
        self.presence.unavailable(&mut self.cx, &[digest]);
        self.end_tracking(digest);
        self.spines.remove(&digest);
        self.recent.remove(&digest);
        self.cache.remove(&digest);
        self.cx.emit(Output::Evict { digest });
        self.unchoke();
    }
}

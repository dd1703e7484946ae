//! Complete blobs: recover them, commit them, announce them, evict them, and fetch what a manifest names.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Agent, MAX_KNOWN_SIZES, MAX_RECENT, MAX_SPINES, Named};
use crate::digest::Digest;
use crate::flight::{Flight, Role, Stage};
use crate::input::{Child, PartialBlob, Proof, RecordedPiece, StoreError, StoredBlob};
use crate::message::{Have, Notice};
use crate::names::{Kind, Source};
use crate::output::Output;
use crate::swarm::download::Prefix;
use crate::timers::Deadline;

/// Incomplete blobs on disk that no flight works on: as many as flights can be admitted, and some. The ones beyond are
/// discarded.
pub(super) const MAX_PARTIALS: usize = 256;

impl Agent {
    pub(super) fn recover(&mut self, blobs: Vec<StoredBlob>, partials: Vec<PartialBlob>) {
        if self.recovered {
            return;
        }
        self.recovered = true;
        for blob in blobs {
            self.presence.available(&mut self.cx, blob.digest);
            self.cache.insert(blob);
        }
        for partial in partials {
            self.keep_partial(partial);
        }
        self.keep_under_cap();
    }

    fn keep_partial(&mut self, partial: PartialBlob) {
        let digest = partial.digest;
        if self.partials.len() >= MAX_PARTIALS || self.cache.is_stored(&digest) {
            self.cx.emit(Output::Discard { digest });
        } else {
            self.partials.insert(digest, partial);
        }
    }

    /// A flight ended without its blob: what it has on disk waits for the next one.
    pub(super) fn park(&mut self, flight: &Flight) {
        let Some(download) = &flight.download else { return };
        if !flight.size_vouched || download.is_doubtful() {
            // It may be a liar's: the next flight would start with it, and fail by it, for ever. So with pieces: what is here
            // and what others have do not fit together.
            return self.cx.emit(Output::Discard { digest: flight.digest });
        }
        if matches!(download.prefix(), Prefix::Bytes(bytes) if bytes < flight.released.max(flight.withdrawn)) {
            // What was given to readers does not count any more, and will be written again: whoever reads the same file for
            // the next flight would be given it before it is hashed.
            return self.cx.emit(Output::Discard { digest: flight.digest });
        }
        let pieces: Vec<_> = download
            .have()
            .iter()
            .filter_map(|piece| {
                let recorded = match download.sum(piece) {
                    Some(sum) => RecordedPiece { piece, proof: Proof::Alone(sum.sum), author: sum.author.clone() },
                    None => {
                        let (from, to) = (download.chain().before(piece)?, download.chain().before(piece + 1)?);
                        let author = self.config.peer.clone();
                        RecordedPiece { piece, proof: Proof::Between(from, to), author }
                    }
                };
                Some(recorded)
            })
            .collect();
        let partial = PartialBlob {
            digest: flight.digest,
            size: download.geometry().size(),
            source: flight.source.clone(),
            private: flight.private,
            pieces,
        };
        self.keep_partial(partial);
    }

    pub(super) fn commit(&mut self, digest: Digest) {
        self.convict_culprits(digest);
        let Some(flight) = self.flights.get_mut(&digest) else { return };
        flight.stage = Stage::Committing;
        let facts = super::arriving::facts(flight);
        self.cx.timers.clear(Deadline::Fetch(digest));
        if mutant!("announced-before-commit") {
            self.cx.emit(Output::Announce { digests: vec![digest] });
        }
        self.cx.emit(Output::Commit { digest, facts });
        // What others still owe us is not needed any more.
        let ops: Vec<_> = flight.download.iter().flat_map(|download| download.ops()).collect();
        for op in ops {
            self.finish_op(op);
            self.cx.emit(Output::CancelTransfer { op });
        }
    }

    pub(super) fn committed(&mut self, digest: Digest, result: Result<(), StoreError>) {
        let committing = self.flights.get(&digest).is_some_and(|flight| matches!(flight.stage, Stage::Committing));
        if !committing {
            // The flight that asked for it has ended. What the store has now is counted nowhere, so it must not stay.
            if result.is_ok() && !self.cache.is_stored(&digest) {
                self.cx.emit(Output::Evict { digest });
            }
            return;
        }
        if let Err(error) = result
            && !mutant!("failed-commit-announced")
        {
            return self.store_failed(digest, &error);
        }
        let Some(mut flight) = self.close_flight(digest) else { return };
        let (Some(size), Some(download)) = (flight.size, flight.download.take()) else {
            return self.release_credential(flight.credential);
        };
        let facts = super::arriving::facts(&flight);
        let kind = facts.source.kind;
        self.failures.succeeded(&digest);
        self.cx.counters.blobs_completed += 1;
        self.explain_completed(digest, flight.origin_bytes, flight.peer_bytes);
        self.cache.insert(StoredBlob { digest, size, facts });
        if !mutant!("upload-not-held-at-commit") {
            self.hold_for_uploads(digest);
        }
        let states: Vec<_> = download.chain().computed(0, usize::MAX).into_iter().map(|(_, state)| state).collect();
        if download.geometry().pieces() > 1 {
            self.cx.emit(Output::KeepSpine { digest, states: states.clone() });
            self.remember_spine(digest, states);
        }
        self.presence.available(&mut self.cx, digest);
        let private = flight.is_private();
        let spine = download.spine(crate::spine::MAX_SPINE);
        let sums = Vec::new();
        let all = Arc::new(Notice::Have { digest, size: Some(size), pieces: Have::All, sums, spine, private });
        if self.recent.len() >= MAX_RECENT {
            self.recent.pop_first();
        }
        self.recent.insert(digest, download);
        let mut told = BTreeSet::new();
        for (peer, neighbour) in flight.neighbours.iter() {
            if !neighbour.complete {
                told.insert(peer.clone());
            }
        }
        if let Role::Following(tracker) = &flight.role {
            told.insert(tracker.clone());
        }
        for peer in told {
            self.cx.emit(Output::Notify { peer, notice: all.clone() });
        }
        if let Some(tracker) = self.trackers.get_mut(&digest) {
            tracker.heard(self.cx.now, &self.config.peer, &Have::All);
        }
        self.settle_waiters(digest, flight.waiters.iter().copied());
        // Those who have waited get what was verified just now; whoever asks next may have found that it is not right any more.
        self.cache.sent(&digest, flight.sent);
        self.release_credential(flight.credential);
        if kind == Kind::Manifest && flight.wanted_here {
            // The whole image is wanted here. A manifest that only a peer asked for brings nothing else.
            self.cx.emit(Output::ReadManifest { digest });
        }
        self.track(digest);
        self.keep_under_cap();
        self.promote();
    }

    pub(super) fn remember_spine(&mut self, digest: Digest, states: Vec<crate::spine::Midstate>) {
        if self.cache.is_stored(&digest) || self.flights.contains_key(&digest) {
            self.spines.insert(digest, states);
            if self.spines.len() > MAX_SPINES {
                // Which one goes hardly matters: it is read again when somebody needs it.
                let victim = self.cx.below(MAX_SPINES as u32) as usize;
                if let Some(digest) = self.spines.keys().nth(victim).copied() {
                    self.spines.remove(&digest);
                }
            }
        }
    }

    /// Condemns what is over the cap: withdrawn first, deleted when nobody reads it.
    pub(super) fn keep_under_cap(&mut self) {
        let Some(cap) = self.config.store_cap_bytes.filter(|cap| self.cache.bytes() > *cap) else { return };
        let condemned = self.cache.condemn_over(cap);
        if mutant!("withdrawn-after-deletion") {
            condemned.iter().for_each(|digest| self.cx.emit(Output::Evict { digest: *digest }));
        }
        self.presence.unavailable(&mut self.cx, &condemned);
        for digest in condemned {
            self.end_tracking(digest);
            self.spines.remove(&digest);
            self.recent.remove(&digest);
            self.cx.emit(Output::Evict { digest });
        }
    }

    /// A body or a piece of a complete blob was sent. What could not go while it was read may go now.
    pub(super) fn done_reading(&mut self, digest: Digest) {
        if !mutant!("reader-never-released") && self.cache.release(&digest) {
            self.cx.emit(Output::Evict { digest });
        }
        self.keep_under_cap();
    }

    pub(super) fn evicted(&mut self, digest: Digest) {
        if self.cache.is_stored(&digest) && self.cache.get(&digest).is_none() {
            self.cache.remove(&digest);
            self.cx.counters.blobs_evicted += 1;
        }
    }

    pub(super) fn reconcile(&mut self) {
        let interval = self.cx.jitter(self.config.reconcile_interval);
        if !mutant!("reconcile-happens-once") {
            self.cx.wake(Deadline::Reconcile, interval);
        }
        if self.draining {
            return;
        }
        let servable: BTreeSet<_> = self.cache.servable().map(|(digest, _)| *digest).collect();
        self.presence.reconcile(&mut self.cx, &servable);
    }

    /// A manifest names the rest of its image: all of that is wanted, in its order, which is that of containerd.
    pub(super) fn manifest_read(&mut self, digest: Digest, media_type: Option<Arc<str>>, children: Vec<Child>) {
        let Some(blob) = self.cache.get(&digest) else {
            // Evicted meanwhile: whoever waited for it has to get it otherwise.
            return self.serve_read(digest);
        };
        let parent = blob.facts.source.clone();
        let private = blob.facts.private;
        // What is no manifest by its content was asked for as one all the same: it has no better name than bytes.
        let media_type = media_type.unwrap_or_else(|| "application/octet-stream".into());
        self.cache.set_media_type(&digest, media_type);
        self.serve_read(digest);
        let mut missing: Vec<_> = Vec::new();
        for child in children.into_iter().filter(|child| child.size <= crate::piece::MAX_BLOB_BYTES) {
            while self.sizes.len() >= MAX_KNOWN_SIZES {
                self.sizes.pop_first();
            }
            self.sizes.insert(child.digest, Named { size: child.size, private });
            let here = self.cache.get(&child.digest).is_some();
            if let Some(flight) = self.flights.get(&child.digest) {
                if flight.size.is_none() {
                    self.learn_size(child.digest, child.size, None);
                }
            } else if !here {
                missing.push(child);
            }
        }
        if !self.config.prefetch || !self.takes_on_more() {
            return;
        }
        let now = self.cx.now;
        // The blob's own source may be the word of a peer that had it pulled: no credential goes there.
        let (parent, credential) = self.requester(&digest).unwrap_or((parent, None));
        for child in missing {
            let failed = self.failures.recent(now, &child.digest).is_some()
                || self.failures.honoured(now, &child.digest).is_some();
            // A private image's layers need a credential: that of whoever asked for the manifest, or that which comes with
            // the request for the layer.
            if failed
                || (private && credential.is_none())
                || self.flights.len() >= self.config.max_admitted_flights as usize
            {
                continue;
            }
            let source = Source { kind: child.kind, ..parent.clone() };
            // These flights are new: nothing was closed that a credential could open.
            self.want(child.digest, &source, credential);
            if let Some(flight) = self.flights.get_mut(&child.digest) {
                flight.ahead = true;
            }
            if credential.is_some() {
                self.can_fetch_after_all(child.digest);
            }
        }
        self.promote();
    }
}

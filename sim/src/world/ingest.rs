//! The bodies that containerd reads: how far, what it writes of them, and what comes of it in the end.

use std::time::Duration;

use longshore_core::digest::Digest;
use longshore_core::input::Input;
use longshore_core::names::RequestId;
use longshore_core::piece::Geometry;

use super::client::ClientEvent;
use super::store::Disk;
use super::{Blob, NodeIndex, World};
use crate::flows::{transfer_time, within};
use crate::invariants;

/// Bytes per second that containerd reads, hashes and writes of a blob that is here whole: a little less than one core hashes.
const READ_RATE: u64 = 1_000_000_000;

/// What was written of a blob in one attempt to pull. The garbage collector removes it when the attempt has failed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ingest {
    /// Bytes.
    pub(super) read: u64,
    /// Some of them were not the blob's.
    is_wrong: bool,
}

impl Ingest {
    /// More is read, up to byte `end` of a body of `size` bytes.
    fn read_on(&mut self, disk: &Disk, (digest, blob): (&Digest, Option<&Blob>), size: u64, end: u64) {
        if end <= self.read {
            return;
        }
        let geometry = Geometry::of_blob(size);
        let from = (self.read / geometry.piece_bytes().max(1)) as u32;
        let right = blob.filter(|blob| blob.size == size).map(|blob| blob.label);
        let mut read = (from..geometry.pieces()).take_while(|piece| geometry.range(*piece).start < end);
        self.is_wrong |= right.is_none() || read.any(|piece| disk.content(digest, piece) != right);
        self.read = end;
    }
}

impl World {
    /// The headers of a body have come: it is read.
    pub(super) fn body_begins(&mut self, node: NodeIndex, request: RequestId, size: u64) {
        let now = self.now;
        let state = &mut self.nodes[node];
        let Some(active) = state.client.active.get_mut(&request) else { return };
        active.size = Some(size);
        if state.disk.complete.contains_key(&active.digest) {
            active.stored_since = Some(now);
            let takes = transfer_time(size.saturating_sub(active.begins), READ_RATE);
            self.client_later(node, takes, ClientEvent::HasRead(request));
        } else {
            self.bodies_progress(node);
        }
    }

    /// Bodies that grow are read as far as they are released, and end when everything of them is.
    pub(super) fn bodies_progress(&mut self, node: NodeIndex) {
        let state = &mut self.nodes[node];
        let mut finished = Vec::new();
        for (request, active) in &mut state.client.active {
            let (digest, Some(size), None) = (active.digest, active.size, active.stored_since) else { continue };
            let is_whole = state.disk.complete.contains_key(&digest);
            let released = state.released.get(&digest).copied().unwrap_or(0);
            let readable = if is_whole { size } else { released.min(size) };
            active.ingest.read_on(&state.disk, (&digest, self.blobs.get(&digest)), size, readable);
            if readable >= size {
                finished.push(*request);
            }
        }
        finished.into_iter().for_each(|request| self.body_is_read(node, request));
    }

    /// What is here whole was read to its end.
    pub(super) fn has_read(&mut self, node: NodeIndex, request: RequestId) {
        let paused_until = self.nodes[node].paused_until;
        if paused_until > self.now {
            // Who sends it stands still, and goes on there.
            return self.client_later(node, paused_until - self.now, ClientEvent::HasRead(request));
        }
        let state = &mut self.nodes[node];
        if let Some(active) = state.client.active.get_mut(&request)
            && let Some(size) = active.size
        {
            let blob = self.blobs.get(&active.digest);
            active.ingest.read_on(&state.disk, (&active.digest, blob), size, size);
        }
        self.body_is_read(node, request);
    }

    fn body_is_read(&mut self, node: NodeIndex, request: RequestId) {
        // Another one may have failed the pull meanwhile.
        let Some(active) = self.nodes[node].client.active.remove(&request) else { return };
        let sent_bytes = active.ingest.read - active.begins;
        self.later(node, Duration::ZERO, Input::MirrorClosed { request, sent_bytes });
        self.commit_ingest(node, active.digest, active.ingest);
    }

    /// A body was cut, or nobody reads it any more. Returns how much of it was sent; what was read of it stays.
    pub(super) fn body_ends(&mut self, node: NodeIndex, request: RequestId) -> u64 {
        let now = self.now;
        let state = &mut self.nodes[node];
        let Some(active) = state.client.active.get_mut(&request) else { return 0 };
        if let (Some(since), Some(size)) = (active.stored_since, active.size) {
            let position = (active.begins + within(READ_RATE, now - since)).min(size);
            active.ingest.read_on(&state.disk, (&active.digest, self.blobs.get(&active.digest)), size, position);
        }
        active.ingest.read - active.begins
    }

    /// A blob was written to its end, and is hashed now.
    pub(super) fn commit_ingest(&mut self, node: NodeIndex, digest: Digest, ingest: Ingest) {
        if ingest.is_wrong {
            if !self.is_lied_to() && !self.nodes[node].disk.has_rotted {
                let detail = format!("containerd read what is not {digest} from its mirror");
                self.violate(&invariants::right_bytes::RULE, node, &detail);
            }
            self.pull_fails(node);
        } else {
            self.got(node, digest);
        }
    }
}

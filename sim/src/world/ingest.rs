//! What containerd writes of what it reads, and what comes of it in the end.

use std::time::Duration;

use longshore_core::digest::Digest;
use longshore_core::input::Input;
use longshore_core::piece::Geometry;

use super::{NodeIndex, World};

/// What was written of a blob in one attempt to pull. The garbage collector removes it when the attempt has failed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ingest {
    /// Bytes.
    read: u64,
    /// Some of them were not the blob's.
    is_wrong: bool,
}

impl World {
    /// Bodies are read as far as they are released, and end when everything of them is.
    pub(super) fn bodies_progress(&mut self, node: NodeIndex) {
        let may_be_wrong = self.is_lied_to() || self.has_rotted;
        let state = &mut self.nodes[node];
        let mut finished = Vec::new();
        for (request, active) in &mut state.client.active {
            let (digest, Some(size)) = (active.digest, active.size) else { continue };
            let is_whole = state.disk.complete.contains_key(&digest);
            let released = state.released.get(&digest).copied().unwrap_or(0);
            let readable = if is_whole { size } else { released.min(size) };
            let ingest = &mut active.ingest;
            if readable > ingest.read {
                let geometry = Geometry::of_blob(size);
                let from = (ingest.read / geometry.piece_bytes().max(1)) as u32;
                let blob = self.blobs.get(&digest);
                let right = blob.map(|blob| blob.label);
                ingest.is_wrong |= blob.is_some_and(|blob| blob.size != size);
                let mut read = (from..geometry.pieces()).take_while(|piece| geometry.range(*piece).start < readable);
                ingest.is_wrong |= may_be_wrong && read.any(|piece| state.disk.content(&digest, piece) != right);
                ingest.read = readable;
            }
            if readable >= size {
                finished.push((*request, digest, size));
            }
        }
        for (request, digest, size) in finished {
            // Another one may have failed the pull meanwhile.
            let Some(active) = self.nodes[node].client.active.remove(&request) else { continue };
            self.later(node, Duration::ZERO, Input::MirrorClosed { request, sent_bytes: size });
            self.commit_ingest(node, digest, active.ingest);
        }
    }

    /// A blob was written to its end, and is hashed now.
    pub(super) fn commit_ingest(&mut self, node: NodeIndex, digest: Digest, ingest: Ingest) {
        if ingest.is_wrong {
            self.pull_fails(node);
        } else {
            self.got(node, digest);
        }
    }
}

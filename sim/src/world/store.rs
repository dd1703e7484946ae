//! A node's disk: staging files, blobs, and what goes wrong with them.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_core::digest::Digest;
use longshore_core::input::{BlobFacts, Hashed, Input, RecordedPiece, StoreError};
use longshore_core::names::OpId;
use longshore_core::output::Check;
use longshore_core::piece::Geometry;
use longshore_core::spine::Midstate;
use longshore_core::time::Time;

use super::{Blob, Event, NodeIndex, World};
use crate::content::{self, Content};
use crate::flows::transfer_time;
use crate::invariants;

/// Bytes hashed per second from the page cache.
const HASH_RATE: u64 = 1_200_000_000;
/// From the order to commit until the blob has its name, synced.
const COMMIT_TIME: Duration = Duration::from_millis(2);

/// Whether one of two numbers of [`World::order`] that are not too far apart is the later one.
fn is_after(one: u32, other: u32) -> bool {
    one.wrapping_sub(other).cast_signed() > 0
}

/// What is left of a piece that has rotted.
const ROTTEN: Content = 0x707;

/// What is at the place of each piece; nothing was written where it is absent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contents(Vec<Content>);

/// Stands for what nothing was written to.
const NOTHING: Content = Content::MAX;

impl Contents {
    pub(crate) fn get(&self, piece: u32) -> Option<Content> {
        self.0.get(piece as usize).copied().filter(|content| *content != NOTHING)
    }

    pub(crate) fn set(&mut self, piece: u32, content: Content) {
        let index = piece as usize;
        if self.0.len() <= index {
            self.0.resize(index + 1, NOTHING);
        }
        self.0[index] = content;
    }

    pub(crate) fn remove(&mut self, piece: u32) {
        if let Some(place) = self.0.get_mut(piece as usize) {
            *place = NOTHING;
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Staged {
    pub(crate) size: u64,
    pub(crate) contents: Contents,
    /// When each piece was last finished: see [`World::order`].
    finished: Vec<u32>,
    pub(crate) records: BTreeMap<u32, Box<RecordedPiece>>,
    pub(crate) facts: Option<BlobFacts>,
}

#[derive(Clone, Debug)]
pub(crate) struct Complete {
    pub(crate) size: u64,
    pub(crate) contents: Contents,
    pub(crate) facts: BlobFacts,
    pub(crate) spine: Spine,
}

/// The spine beside a blob: a thousand nodes need not all keep a copy of the right one.
#[derive(Clone, Debug)]
pub(crate) enum Spine {
    Absent,
    Right,
    Other(Vec<Midstate>),
}

#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) staged: BTreeMap<Digest, Staged>,
    pub(crate) complete: BTreeMap<Digest, Complete>,
    pub(crate) full: bool,
    /// Of what is read, written and committed, so much in a million fails.
    pub(crate) errors: u32,
    /// Bytes per second that it writes, and what each write and commit takes besides. `None`: in no time.
    pub(crate) slowness: Option<(u64, Duration)>,
    /// Of the pieces that it commits, so many in a million are not what was written.
    pub(crate) spoils: u32,
    /// Something on it is, or was, not what was written.
    pub(crate) has_rotted: bool,
    /// When it has written what it was given so far.
    free: Time,
}

impl Disk {
    pub(crate) fn has(&self, blob: &Blob) -> bool {
        let Some(complete) = self.complete.get(&blob.digest) else { return false };
        let pieces = content::pieces(blob.size);
        complete.size == blob.size && (0..pieces).all(|piece| complete.contents.get(piece) == Some(blob.label))
    }

    pub(crate) fn content(&self, digest: &Digest, piece: u32) -> Option<Content> {
        let complete = self.complete.get(digest).map(|blob| &blob.contents);
        complete.or_else(|| self.staged.get(digest).map(|blob| &blob.contents))?.get(piece)
    }
}

impl World {
    fn disk_fails(&mut self, node: NodeIndex) -> bool {
        let errors = self.options.disk_errors.max(self.nodes[node].disk.errors);
        self.chance.happens(errors)
    }

    /// When a slow disk has written so many bytes more; `None` if it is not slow.
    pub(super) fn disk_takes(&mut self, node: NodeIndex, bytes: u64) -> Option<Time> {
        let disk = &mut self.nodes[node].disk;
        let (rate, latency) = disk.slowness?;
        disk.free = disk.free.max(self.now) + transfer_time(bytes, rate) + latency;
        Some(disk.free)
    }

    /// The disk of a node writes at `rate` bytes per second from now on, and takes `latency` for each write and commit;
    /// `None`: as fast as it is asked to.
    pub fn set_disk(&mut self, node: NodeIndex, slowness: Option<(u64, Duration)>) {
        let disk = &mut self.nodes[node].disk;
        disk.slowness = slowness;
        disk.free = Time::ZERO;
    }

    /// Of the pieces of whole blobs on a node, so many in a million are not what was written any more. Only of blobs that its
    /// containerd has read: it would find out by itself, and pull again.
    pub fn rot(&mut self, node: NodeIndex, per_million: u32) {
        let chance = &mut self.chance;
        let state = &mut self.nodes[node];
        for (digest, blob) in &mut state.disk.complete {
            if state.client.has(digest) {
                for piece in 0..Geometry::of_blob(blob.size).pieces() {
                    if chance.happens(per_million) {
                        blob.contents.set(piece, ROTTEN);
                        state.disk.has_rotted = true;
                    }
                }
            }
        }
    }

    /// Of the pieces that a node commits from now on, so many in a million are not what was written.
    pub fn spoil_disk(&mut self, node: NodeIndex, per_million: u32) {
        self.nodes[node].disk.spoils = per_million;
    }

    /// What was committed just now is what the disk makes of it.
    fn spoil(&mut self, node: NodeIndex, digest: &Digest) {
        let disk = &mut self.nodes[node].disk;
        let Some(blob) = disk.complete.get_mut(digest).filter(|_| disk.spoils > 0) else { return };
        for piece in 0..Geometry::of_blob(blob.size).pieces() {
            if self.chance.happens(disk.spoils) {
                blob.contents.set(piece, ROTTEN);
                disk.has_rotted = true;
            }
        }
    }

    pub(super) fn stage(&mut self, node: NodeIndex, digest: Digest, size: u64, facts: BlobFacts) {
        let disk = &mut self.nodes[node].disk;
        if disk.full && !disk.staged.contains_key(&digest) {
            return self.later(node, Duration::ZERO, Input::StoreFailed { digest, error: StoreError::Full });
        }
        let staged = disk.staged.entry(digest).or_default();
        staged.size = size;
        staged.facts = Some(facts);
    }

    /// A number for what happens now: what happens later has a greater one, as [`is_after`] says.
    pub(super) fn order(&self) -> u32 {
        self.events as u32
    }

    /// Writes a piece that a transfer brings, which began at `opened` (see [`order`](Self::order)), and hashes it on the
    /// way. `None`: another transfer has finished this piece meanwhile, with other bytes. These stay, as they do in the agent's
    /// store, and the piece is not reported a second time.
    pub(super) fn store_piece(
        &mut self,
        node: NodeIndex,
        digest: Digest,
        (piece, opened): (u32, u32),
        content: Content,
        check: Check,
    ) -> Result<Option<Hashed>, StoreError> {
        if self.nodes[node].disk.full {
            return Err(StoreError::Full);
        }
        if self.disk_fails(node) {
            return Err(StoreError::Io("simulated".into()));
        }
        let released = self.nodes[node].released.get(&digest).copied().unwrap_or(0);
        let order = self.order();
        let staged = self.nodes[node].disk.staged.get_mut(&digest).ok_or(StoreError::Missing)?;
        let before = staged.contents.get(piece);
        let place = piece as usize;
        if before.is_some() && staged.finished.get(place).is_some_and(|finished| is_after(*finished, opened)) {
            if before != Some(content) {
                return Ok(None);
            }
        } else {
            staged.contents.set(piece, content);
            if staged.finished.len() <= place {
                staged.finished.resize(place + 1, order);
            }
            staged.finished[place] = order;
        }
        let range = Geometry::of_blob(staged.size).range(piece);
        let right = self.blobs.get(&digest).map(|blob| blob.label);
        // Whoever fetches again from the origin after a mismatch writes over all it has: what the origin sends wrong may replace
        // what was right. It hashes all of it again before it commits.
        let is_of_origin = self.origin.was_corrupt && content == content::WRONG;
        // Who was lied to begins again with what it fetched itself, and whoever vouches for lies may be believed again.
        let is_excused = is_of_origin || self.lies_are_vouched_for;
        if before == right && Some(content) != right && range.end <= released && !is_excused {
            let detail =
                format!("{digest}, piece {piece} of {released} released bytes was overwritten with wrong ones");
            self.violate(&invariants::right_bytes::RULE, node, &detail);
        }
        Ok(Some(match check {
            Check::From(from) => Hashed::Chained(content::hash(from, piece, content)),
            Check::Alone => Hashed::Alone(content::hash(Midstate::INITIAL, piece, content).to_bytes()),
        }))
    }

    pub(super) fn hash_piece(
        &mut self,
        node: NodeIndex,
        op: OpId,
        digest: Digest,
        size: u64,
        piece: u32,
        from: Midstate,
    ) {
        let content = self.nodes[node].disk.staged.get(&digest).and_then(|staged| staged.contents.get(piece));
        let state = content.filter(|_| !self.disk_fails(node)).map(|content| content::hash(from, piece, content));
        let after = transfer_time(Geometry::of_blob(size).len(piece), HASH_RATE);
        let life = self.nodes[node].life;
        let result = state.ok_or(StoreError::Missing);
        self.queue.push(self.now + after, Event::Input(node, life, Box::new(Input::PieceHashed { op, result })));
    }

    pub(super) fn commit(&mut self, node: NodeIndex, digest: Digest, facts: BlobFacts) {
        let result = if self.disk_fails(node) {
            Err(StoreError::Io("simulated".into()))
        } else {
            self.nodes[node].disk.staged.remove(&digest).ok_or(StoreError::Missing)
        };
        let result = result.map(|Staged { size, contents, .. }| {
            self.nodes[node].released.remove(&digest);
            let complete = Complete { size, contents, facts, spine: Spine::Absent };
            self.nodes[node].disk.complete.insert(digest, complete);
            if !self.has(node, &digest) {
                self.violate(&invariants::right_bytes::RULE, node, &format!("{digest} was committed with wrong bytes"));
            }
            self.spoil(node, &digest);
        });
        let slow = self.nodes[node].disk.slowness.map_or(Duration::ZERO, |(_, latency)| latency);
        self.later(node, COMMIT_TIME + slow, Input::Committed { digest, result });
        self.bodies_progress(node);
    }

    pub(super) fn evict(&mut self, node: NodeIndex, digest: Digest) {
        let announced = self.index.get(&digest).is_some_and(|holders| holders.contains(&node));
        if announced && self.options.index_staleness.is_zero() {
            self.violate(&invariants::announced::RULE, node, &format!("{digest} was deleted while it was announced"));
        }
        self.nodes[node].disk.complete.remove(&digest);
        self.later(node, Duration::ZERO, Input::Evicted { digest });
    }

    /// Hashes a whole blob again.
    pub(super) fn verify(&mut self, node: NodeIndex, digest: Digest) {
        let is_right = self.has(node, &digest);
        let result = match self.nodes[node].disk.complete.get(&digest).map(|complete| complete.size) {
            None => Err(StoreError::Missing),
            Some(_) if self.disk_fails(node) => Err(StoreError::Io("simulated".into())),
            Some(size) => {
                let life = self.nodes[node].life;
                let input = Input::Verified { digest, result: Ok(is_right) };
                let rate = self.nodes[node].disk.slowness.map_or(HASH_RATE, |(rate, _)| rate.min(HASH_RATE));
                let at = self.now + transfer_time(size, rate);
                return self.queue.push(at, Event::Input(node, life, Box::new(input)));
            }
        };
        self.later(node, Duration::ZERO, Input::Verified { digest, result });
    }

    pub(super) fn keep_spine(&mut self, node: NodeIndex, digest: Digest, states: Vec<Midstate>) {
        let right = self.blobs.get(&digest).is_some_and(|blob| blob.spine == states);
        if let Some(complete) = self.nodes[node].disk.complete.get_mut(&digest) {
            complete.spine = if right { Spine::Right } else { Spine::Other(states) };
        }
    }

    pub(super) fn read_spine(&mut self, node: NodeIndex, digest: Digest) {
        let states = match self.nodes[node].disk.complete.get(&digest).map(|complete| &complete.spine) {
            None | Some(Spine::Absent) => Vec::new(),
            Some(Spine::Other(states)) => states.clone(),
            Some(Spine::Right) => self.blobs.get(&digest).map(|blob| blob.spine.clone()).unwrap_or_default(),
        };
        self.later(node, Duration::from_micros(200), Input::Spine { digest, states });
    }

    /// The verified prefix has grown: what containerd reads from now on has to be right.
    pub(super) fn release(&mut self, node: NodeIndex, digest: Digest, bytes: u64) {
        let state = &mut self.nodes[node];
        let before = state.released.get(&digest).copied().unwrap_or(0);
        // As the store does: less than before changes nothing, and nothing takes everything back.
        state.released.insert(digest, if bytes == 0 { 0 } else { bytes.max(before) });
        let mut wrong = None;
        if let (Some(staged), Some(blob)) = (state.disk.staged.get(&digest), self.blobs.get(&digest)) {
            let geometry = Geometry::of_blob(blob.size);
            let before = if self.origin.was_corrupt { 0 } else { before };
            let first = (before / geometry.piece_bytes().max(1)) as u32;
            wrong = (first..geometry.pieces())
                .take_while(|piece| geometry.range(*piece).end <= bytes)
                .find(|piece| blob.size > 0 && staged.contents.get(*piece) != Some(blob.label));
        }
        // Where somebody vouches for lies, or the origin itself sends what is wrong, the prefix may be wrong: then the end, which
        // shows it, is never given away.
        let whole = self.blobs.get(&digest).is_some_and(|blob| bytes >= blob.size);
        if let Some(piece) = wrong
            && (whole || !self.is_lied_to())
        {
            let content = self.nodes[node].disk.staged.get(&digest).and_then(|staged| staged.contents.get(piece));
            let detail = format!("{digest}, piece {piece} was released with wrong bytes ({content:?})");
            self.violate(&invariants::right_bytes::RULE, node, &detail);
        }
        if bytes > before {
            self.nodes[node].client.last_byte = self.now;
        }
        self.bodies_progress(node);
    }
}

//! What a run looked like over time: what each node had, what moved, what was begun and done. Its size depends on the nodes
//! and not on the length of the run.

use std::collections::BTreeMap;

use longshore_core::piece::{Geometry, PieceSet};
use longshore_core::time::Time;

use crate::world::NodeIndex;

/// Steps between nothing and everything of an image.
pub const FULL: u8 = 32;
/// The node is down.
pub const DOWN: u8 = 255;
/// The node has pulled nothing yet.
pub const IDLE: u8 = 254;
/// Most changes of one lane that are kept: thirty pulls.
const MAX_CHANGES: usize = 1000;
/// Buckets of a series; a screen shows fewer.
const BUCKETS: usize = 4096;
/// Width of a bucket at first, in microseconds; it doubles whenever the run gets longer than the buckets.
const FIRST_WIDTH: u64 = 256;

/// Sums in buckets of equal width.
#[derive(Clone, Debug)]
pub struct Series {
    /// Width of a bucket in microseconds.
    pub width: u64,
    /// The sums.
    pub sums: Vec<u64>,
}

impl Default for Series {
    fn default() -> Self {
        Self { width: FIRST_WIDTH, sums: Vec::new() }
    }
}

impl Series {
    fn add(&mut self, at: Time, value: u64) {
        while at.as_micros() / self.width >= BUCKETS as u64 {
            self.sums = self.sums.chunks(2).map(|pair| pair.iter().sum()).collect();
            self.width *= 2;
        }
        let bucket = (at.as_micros() / self.width) as usize;
        if self.sums.len() <= bucket {
            self.sums.resize(bucket + 1, 0);
        }
        self.sums[bucket] += value;
    }
}

/// What one node had over time.
#[derive(Clone, Debug, Default)]
pub struct Lane {
    /// From then on, so many of [`FULL`] parts of what it pulls, or [`DOWN`], or [`IDLE`].
    pub changes: Vec<(Time, u8)>,
    have: BTreeMap<u16, PieceSet>,
    /// Blobs of the present pull, sorted.
    wanted: Vec<u16>,
    wanted_bytes: u64,
    bytes: u64,
    is_done: bool,
    is_down: bool,
}

impl Lane {
    fn show(&mut self, now: Time) {
        let level = match () {
            () if self.is_down => DOWN,
            () if self.wanted.is_empty() => IDLE,
            () if self.is_done => FULL,
            // All of it is there only when the pull is done.
            () => (self.bytes * u64::from(FULL) / self.wanted_bytes.max(1)).min(u64::from(FULL) - 1) as u8,
        };
        let is_full = self.changes.len() >= MAX_CHANGES;
        match self.changes.last_mut() {
            Some((_, last)) if *last == level => {}
            Some((at, last)) if *at == now => *last = level,
            _ if is_full => {}
            _ => self.changes.push((now, level)),
        }
    }
}

/// A run over time.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// Nothing is added any more.
    pub(super) is_over: bool,
    /// One for each node.
    pub lanes: Vec<Lane>,
    /// Bytes that left the registry.
    pub origin: Series,
    /// Bytes that nodes sent each other.
    pub peers: Series,
    /// Calls, notices and requests for pieces.
    pub messages: Series,
    /// Pulls that began.
    pub begun: Vec<(Time, NodeIndex)>,
    /// Pulls that were done.
    pub finished: Vec<(Time, NodeIndex)>,
    /// Pulls that failed.
    pub failed: Vec<(Time, NodeIndex)>,
    /// Blobs for which containerd went to the registry.
    pub fallbacks: Vec<(Time, NodeIndex)>,
    sizes: Vec<u64>,
}

impl Timeline {
    pub(super) fn new(nodes: usize) -> Self {
        let mut lanes = vec![Lane::default(); nodes];
        lanes.iter_mut().for_each(|lane| lane.show(Time::ZERO));
        Self { lanes, ..Self::default() }
    }

    pub(super) fn blob(&mut self, size: u64) {
        self.sizes.push(size);
    }

    pub(super) fn message(&mut self, now: Time) {
        if !self.is_over {
            self.messages.add(now, 1);
        }
    }

    pub(super) fn bytes(&mut self, now: Time, bytes: u64, from_origin: bool) {
        if !self.is_over {
            if from_origin { &mut self.origin } else { &mut self.peers }.add(now, bytes);
        }
    }

    /// A node has these pieces of a blob as well; all of them, if `pieces` is `None`.
    pub(super) fn has(&mut self, now: Time, node: NodeIndex, blob: u16, pieces: Option<&[u32]>) {
        if self.is_over {
            return;
        }
        let geometry = Geometry::of_blob(self.sizes[usize::from(blob)]);
        let lane = &mut self.lanes[node];
        let have = lane.have.entry(blob).or_insert_with(|| PieceSet::none(geometry.pieces()));
        let is_wanted = lane.wanted.binary_search(&blob).is_ok();
        match pieces {
            Some(pieces) => {
                for piece in pieces {
                    if have.insert(*piece) && is_wanted {
                        lane.bytes += geometry.len(*piece);
                    }
                }
            }
            None => {
                *have = PieceSet::all(geometry.pieces());
                self.count(node);
            }
        }
        self.lanes[node].show(now);
    }

    /// It has nothing of a blob any more.
    pub(super) fn forgets(&mut self, now: Time, node: NodeIndex, blob: u16) {
        if !self.is_over && self.lanes[node].have.remove(&blob).is_some() {
            self.count(node);
            self.lanes[node].show(now);
        }
    }

    fn count(&mut self, node: NodeIndex) {
        let lane = &mut self.lanes[node];
        lane.bytes = 0;
        for blob in &lane.wanted {
            let geometry = Geometry::of_blob(self.sizes[usize::from(*blob)]);
            let pieces = lane.have.get(blob).into_iter().flat_map(PieceSet::iter);
            lane.bytes += pieces.map(|piece| geometry.len(piece)).sum::<u64>();
        }
    }

    pub(super) fn pull_begins(&mut self, now: Time, node: NodeIndex, mut blobs: Vec<u16>) {
        if self.is_over {
            return;
        }
        self.begun.push((now, node));
        blobs.sort_unstable();
        blobs.dedup();
        let lane = &mut self.lanes[node];
        lane.wanted_bytes = blobs.iter().map(|blob| self.sizes[usize::from(*blob)]).sum();
        lane.wanted = blobs;
        lane.is_done = false;
        self.count(node);
        self.lanes[node].show(now);
    }

    pub(super) fn pull_finishes(&mut self, now: Time, node: NodeIndex) {
        if !self.is_over {
            self.finished.push((now, node));
            self.lanes[node].is_done = true;
            self.lanes[node].show(now);
        }
    }

    pub(super) fn pull_fails(&mut self, now: Time, node: NodeIndex) {
        if !self.is_over {
            self.failed.push((now, node));
        }
    }

    pub(super) fn falls_back(&mut self, now: Time, node: NodeIndex) {
        if !self.is_over {
            self.fallbacks.push((now, node));
        }
    }

    /// A node goes down, or starts with this on its disk.
    pub(super) fn is_down(&mut self, now: Time, node: NodeIndex, is_down: bool) {
        if !self.is_over {
            let lane = &mut self.lanes[node];
            lane.is_down = is_down;
            if !is_down {
                // What it recovers is told next.
                lane.have.clear();
                lane.bytes = 0;
            }
            lane.show(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_keeps_its_sum_when_its_buckets_double() {
        let mut series = Series::default();
        for step in 0..1000 {
            series.add(Time::from_micros(step * 7919), 3);
        }
        assert_eq!(series.sums.iter().sum::<u64>(), 3000);
        assert!(series.sums.len() <= BUCKETS && series.width > FIRST_WIDTH);
    }

    #[test]
    fn a_lane_is_full_only_when_its_pull_is_done() {
        let mut timeline = Timeline::new(1);
        timeline.blob(1 << 20);
        let at = Time::from_micros;
        timeline.pull_begins(at(1), 0, vec![0]);
        timeline.has(at(2), 0, 0, Some(&[0, 1]));
        timeline.has(at(3), 0, 0, Some(&[1]));
        timeline.has(at(4), 0, 0, None);
        timeline.pull_finishes(at(5), 0);
        timeline.is_down(at(6), 0, true);
        let expected = [(0, IDLE), (1, 0), (2, FULL / 2), (4, FULL - 1), (5, FULL), (6, DOWN)];
        assert_eq!(timeline.lanes[0].changes, expected.map(|(time, level)| (at(time), level)));
    }
}

//! What the world tells beside inputs and outputs: what is lost or waits, pulls, deaths, broken rules.

use longshore_core::digest::Digest;

use super::{Cause, Event, PullRecord, Record, What};
use crate::replay::causes::Thread;
use crate::world::{Image, NodeIndex};

impl Record {
    /// A message from one node to another is lost; `waits` is whose number it had. `cut` is the cut that it met.
    pub(crate) fn lost(
        &mut self,
        (from, to): (NodeIndex, NodeIndex),
        waits: Option<(NodeIndex, Thread)>,
        cut: Option<u32>,
    ) {
        let because = match cut {
            Some(cut) => self.fault_of_cut(cut, [Some(from), Some(to)]),
            None => self.loss([Some(from), Some(to)]),
        };
        let before = self.blame.current;
        let event = Event::new(self.now, Some(to), What::Lost).with_peer(Some(from)).with_fault(because);
        let id = self.note(event, || format!("lost on the way from node {from}"));
        self.blame.current = before;
        if let Some((node, thread)) = waits {
            self.nodes[node].stalled.insert(thread, id);
        }
    }

    /// A node wants something from one that is down.
    pub(crate) fn nobody_there(&mut self, from: NodeIndex, to: NodeIndex) {
        let down = self.nodes[to].down;
        let event = Event::new(self.now, Some(to), What::NobodyThere).with_peer(Some(from)).with_fault(down);
        self.note(event, || format!("is down: node {from} cannot reach it"));
    }

    /// Something has to wait until a process goes on.
    pub(crate) fn held(&mut self, node: NodeIndex) {
        let because = self.fault("pause", self.now, [Some(node), None]);
        let event = Event::new(self.now, Some(node), What::Held).with_fault(because);
        self.note(event, || "stands still; what comes waits".to_owned());
    }

    pub(crate) fn pull_begins(&mut self, node: NodeIndex, image: &Image) {
        let mut blobs: Vec<_> = image.children.iter().filter_map(|child| self.blob_of(Some(&child.digest))).collect();
        let manifest = self.blob_of(Some(&image.manifest));
        blobs.extend(manifest);
        let event = Event::new(self.now, Some(node), What::PullBegins).with_blob(manifest);
        let id = self.note(event, || format!("the pull of {} begins", image.manifest.short()));
        self.nodes[node].pull = Some(self.pulls.len());
        self.pulls.push(PullRecord {
            node,
            manifest: manifest.unwrap_or(u16::MAX),
            bytes: image.bytes(),
            pieces: image.pieces(),
            begun: (self.now, id),
            finished: None,
        });
        if self.wanted.timeline {
            self.timeline.pull_begins(self.now, node, blobs);
        }
    }

    pub(crate) fn pull_finishes(&mut self, node: NodeIndex) {
        let pull = self.nodes[node].pull.and_then(|pull| self.pulls.get(pull)).copied();
        let manifest = pull.map(|pull| pull.manifest);
        let now = self.now;
        let event = Event::new(now, Some(node), What::PullFinishes).with_blob(manifest);
        let id = self.note(event, || {
            let took = pull.map_or(0.0, |pull| now.since(pull.begun.0).as_secs_f64());
            format!("the pull is done after {took:.3} s")
        });
        if let Some(pull) = self.nodes[node].pull.and_then(|pull| self.pulls.get_mut(pull)) {
            pull.finished = Some((now, id));
        }
        if self.wanted.timeline {
            self.timeline.pull_finishes(now, node);
        }
    }

    pub(crate) fn pull_fails(&mut self, node: NodeIndex) {
        let because = self.fault("origin", self.now, [None, None]);
        let event = Event::new(self.now, Some(node), What::PullFails).with_fault(because);
        let id = self.note(event, || "the pull fails; the kubelet tries again later".to_owned());
        self.failures.push(id);
        if self.wanted.timeline {
            self.timeline.pull_fails(self.now, node);
        }
    }

    /// containerd goes to the registry for a blob.
    pub(crate) fn falls_back(&mut self, node: NodeIndex, digest: &Digest) {
        let blob = self.blob_of(Some(digest));
        let event = Event::new(self.now, Some(node), What::FallsBack).with_blob(blob);
        let id = self.note(event, || format!("containerd goes to the registry for {}", digest.short()));
        self.fallbacks.push(id);
        if let Some(blob) = blob {
            self.nodes[node].direct.insert(blob, id);
        }
        if self.wanted.timeline {
            self.timeline.falls_back(self.now, node);
        }
    }

    /// Bytes leave a node, or the origin.
    pub(crate) fn leaves(&mut self, bytes: u64, from_origin: bool) {
        if self.wanted.timeline {
            self.timeline.bytes(self.now, bytes, from_origin);
        }
    }

    /// A containerd has a blob from the registry.
    pub(crate) fn fetched_directly(&mut self, node: NodeIndex, digest: &Digest) {
        let Some(blob) = self.blob_of(Some(digest)) else { return };
        let asked = self.nodes[node].direct.remove(&blob).map(|event| Cause { event, output: None });
        let because = self.fault("origin-slow", self.now, [None, None]);
        let event = Event::new(self.now, Some(node), What::FetchedDirectly).with_blob(Some(blob));
        self.note(event.with_cause(asked).with_fault(because), || {
            format!("containerd has {} from the registry", digest.short())
        });
        if self.wanted.timeline {
            self.timeline.has(self.now, node, blob, None);
        }
    }

    pub(crate) fn dies(&mut self, node: NodeIndex) {
        let id = self.note(Event::new(self.now, Some(node), What::Dies), || "goes down".to_owned());
        self.falls_to_fault(node);
        let state = &mut self.nodes[node];
        state.down = Some(id);
        state.threads.clear();
        state.stalled.clear();
        if self.wanted.timeline {
            self.timeline.is_down(self.now, node, true);
        }
    }

    pub(crate) fn starts(&mut self, node: NodeIndex) {
        self.note(Event::new(self.now, Some(node), What::Starts), || "starts".to_owned());
        let state = &mut self.nodes[node];
        state.down = None;
        state.threads.clear();
        state.stalled.clear();
        if self.wanted.timeline {
            self.timeline.is_down(self.now, node, false);
        }
    }

    /// A rule is broken: on a node, or in the whole cluster.
    pub(crate) fn violation(&mut self, node: Option<NodeIndex>, words: &str) {
        // What is found out when everything is over follows from the last that happened there.
        let last = node.and_then(|node| self.nodes[node].last);
        let cause = self.blame.current.or(last.map(|event| Cause { event, output: None }));
        let before = self.blame.current;
        let cause = if node.is_none() { self.twice.map(|event| Cause { event, output: None }) } else { cause };
        let number = self.violations.len() as u32;
        let event = Event::new(self.now, node, What::Violation).with_number(number).with_cause(cause);
        let id = self.note(event, || format!("BROKEN {words}"));
        self.violations.push(id);
        self.blame.current = before;
    }
}

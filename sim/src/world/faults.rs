//! What befalls nodes: starts, crashes, pauses, lies.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_core::Agent;
use longshore_core::config::Config;
use longshore_core::input::{Input, PartialBlob, StoredBlob};

use super::network::Cut;
use super::store::Disk;
use super::{Event, NodeIndex, World, name, peer};
use crate::content;

/// The number of the cut that [`World::partition`] makes.
const PARTITION: u32 = u32::MAX;

impl World {
    /// Starts (or restarts) the agent of a node with what is on its disk.
    pub fn start(&mut self, node: NodeIndex) {
        let mut config = Config::new(&name(node), peer(node));
        config.peer = self.peer(node);
        config.zone = self.zone_name(node);
        (self.options.configure)(node, &mut config);
        self.options.knobs.apply(&mut config);
        if let Some(others) = self.options.others.as_ref().filter(|_| self.nodes[node].is_other) {
            others.knobs.apply(&mut config);
        }
        self.watch_start(node, &config);
        let seed = self.chance.number();
        let now = self.now;
        self.record(|record| record.starts(node));
        let state = &mut self.nodes[node];
        if let Some(recorder) = &mut self.recorder {
            recorder.born(node, &config, seed, state.clock.read(now));
        }
        state.life += 1;
        state.released.clear();
        state.streams.clear();
        state.cancelled.clear();
        state.fetching.clear();
        state.armed = None;
        state.agent = Some(Box::new(Agent::new(config, seed, state.clock.read(now))));
        let blobs = state
            .disk
            .complete
            .iter()
            .map(|(digest, blob)| StoredBlob { digest: *digest, size: blob.size, facts: blob.facts.clone() })
            .collect();
        let partials = state
            .disk
            .staged
            .iter()
            .filter_map(|(digest, staged)| {
                let facts = staged.facts.clone()?;
                Some(PartialBlob {
                    digest: *digest,
                    size: staged.size,
                    source: facts.source,
                    private: facts.private,
                    pieces: staged.records.values().map(|record| (**record).clone()).collect(),
                })
            })
            .collect();
        let members = state.members.clone();
        self.input(node, Input::Members(members));
        self.input(node, Input::Recovered { blobs, partials });
        if state_changes_matter(self.now) {
            self.membership_changed(node);
        }
    }

    /// Kills a node: agent, containerd and connections are gone, the disk stays.
    pub fn kill(&mut self, node: NodeIndex) {
        let now = self.now;
        self.record(|record| record.dies(node));
        let state = &mut self.nodes[node];
        state.agent = None;
        if let Some(recorder) = &mut self.recorder {
            recorder.died(node);
        }
        state.life += 1;
        state.paused_until = now;
        state.client.stop();
        let staleness = self.options.index_staleness;
        let held: Vec<_> =
            self.index.iter().filter(|(_, holders)| holders.contains(&node)).map(|(digest, _)| *digest).collect();
        for digest in held {
            self.queue.push(now + staleness, Event::Forgotten(node, Box::new(digest)));
        }
        self.flows_break(node);
        self.hang_up(node);
        self.membership_changed(node);
    }

    /// Cuts the power of a node: as [`World::kill`], but what was not synced is lost, and nobody hears of it before
    /// its pings are in vain.
    pub fn cut_power(&mut self, node: NodeIndex) {
        let state = &mut self.nodes[node];
        let mut kept: Vec<_> = Vec::new();
        for (digest, staged) in &state.disk.staged {
            for piece in staged.records.keys() {
                kept.push((*digest, *piece));
            }
        }
        for (digest, piece) in kept {
            if self.chance.below(2) == 0
                && let Some(staged) = self.nodes[node].disk.staged.get_mut(&digest)
            {
                staged.records.remove(&piece);
                staged.contents.remove(piece);
            }
        }
        // Nobody is told: this comes before the process ends.
        self.fall_silent(node);
        self.kill(node);
    }

    /// As [`World::cut_power`], and the machine comes back with an empty disk.
    pub fn wipe(&mut self, node: NodeIndex) {
        self.cut_power(node);
        let state = &mut self.nodes[node];
        state.disk = Disk::default();
        state.client.forget();
    }

    /// The process of a node stands still for this long: nothing that reaches it is handled before.
    pub fn pause(&mut self, node: NodeIndex, length: Duration) {
        let now = self.now;
        let state = &mut self.nodes[node];
        // Who stands still already goes on when it would have: what waits for that would be overtaken at a later end by what
        // comes from now on, and an agent would hear that a request was given up before it hears of the request.
        if state.paused_until <= now {
            state.paused_until = now + length;
        }
        state.was_paused = true;
    }

    /// From now on the node serves wrong bytes to its peers.
    pub fn corrupt(&mut self, node: NodeIndex) {
        self.nodes[node].corrupt = Some(content::WRONG);
    }

    /// From now on the node serves wrong bytes and vouches for them, and for midstates that are none.
    pub fn lie(&mut self, node: NodeIndex) {
        self.corrupt(node);
        self.nodes[node].lies = true;
        self.lies_are_vouched_for = true;
        self.liars.insert(node);
    }

    /// From now on it serves what it has.
    pub fn reform(&mut self, node: NodeIndex) {
        self.nodes[node].corrupt = None;
        self.nodes[node].lies = false;
    }

    /// Bytes per second that a node can send, and receive, from now on.
    pub fn set_rate(&mut self, node: NodeIndex, rate: u64) {
        let (up, down) = (self.nodes[node].up, self.nodes[node].down);
        self.flows.set_rate(up, rate);
        self.flows.set_rate(down, rate);
    }

    /// Whether a node's disk is full from now on.
    pub fn fill_disk(&mut self, node: NodeIndex, full: bool) {
        self.nodes[node].disk.full = full;
    }

    /// Of what a node's disk is told to read, write and commit, so much in a million fails from now on.
    pub fn set_disk_errors(&mut self, node: NodeIndex, per_million: u32) {
        self.nodes[node].disk.errors = per_million;
    }

    /// Puts nodes on sides that cannot talk to each other (the origin can be reached from everywhere). Nodes that are not
    /// named are on side 0; an empty map heals.
    pub fn partition(&mut self, sides: BTreeMap<NodeIndex, u32>) {
        if sides.is_empty() {
            self.network.mend(PARTITION);
        } else {
            self.network.cut(PARTITION, Cut::Sides(sides));
        }
    }

    /// Everything that is wrong with network, disks, processes and origin ends now; who is down stays down.
    pub fn heal(&mut self) {
        self.network = super::Network::default();
        let held = std::mem::take(&mut self.held);
        held.into_iter().for_each(|(_, _, event)| self.queue.push(self.now, event));
        self.informers = super::InformerFaults::default();
        self.origin.heal();
        self.set_origin_rate(self.options.origin_rate);
        self.options.disk_errors = 0;
        self.index_faults = super::IndexFaults::default();
        for node in 0..self.nodes.len() {
            self.set_rate(node, self.options.node_rate);
            let state = &mut self.nodes[node];
            state.disk.full = false;
            state.disk.errors = 0;
            state.disk.spoils = 0;
            state.corrupt = None;
            state.lies = false;
            state.lie = None;
            self.set_disk(node, None);
            self.set_drift(node, 0);
        }
    }
}

/// At the beginning everybody knows everybody.
fn state_changes_matter(now: longshore_core::time::Time) -> bool {
    now > longshore_core::time::Time::ZERO
}

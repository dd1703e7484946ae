//! Who is connected to whom: those notice when a connection breaks, nobody else does.

use std::time::Duration;

use longshore_core::input::{Input, StreamError};

use super::{NodeIndex, World};

/// A connection that nothing was said on closes (the shell's default). Looked at in steps of this, so it lives for one to two
/// of them.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections are tested this often, and an answer may take as long: a peer that lost its power is noticed between the one
/// and the sum (the shell's constants).
const PING: Duration = Duration::from_secs(10);

/// The peers that a node has a connection to, as bits: in the present period, and in the one before.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    period: u64,
    recent: Vec<u64>,
    older: Vec<u64>,
}

impl Connections {
    fn turn(&mut self, period: u64) {
        if period != self.period {
            self.older = if period == self.period + 1 { std::mem::take(&mut self.recent) } else { Vec::new() };
            self.recent.clear();
            self.period = period;
        }
    }

    /// Returns whether it is new in this period.
    fn add(&mut self, peer: NodeIndex) -> bool {
        let (word, bit) = (peer / 64, 1 << (peer % 64));
        if self.recent.len() <= word {
            self.recent.resize(word + 1, 0);
        }
        let is_new = self.recent[word] & bit == 0;
        self.recent[word] |= bit;
        is_new
    }

    fn remove(&mut self, peer: NodeIndex) {
        for words in [&mut self.recent, &mut self.older] {
            if let Some(word) = words.get_mut(peer / 64) {
                *word &= !(1 << (peer % 64));
            }
        }
    }

    fn peers(&self) -> Vec<NodeIndex> {
        let words = self.recent.len().max(self.older.len());
        let at = |words: &[u64], word: usize| words.get(word).copied().unwrap_or(0);
        (0..words)
            .flat_map(|word| {
                let bits = at(&self.recent, word) | at(&self.older, word);
                (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| word * 64 + bit)
            })
            .collect()
    }
}

impl World {
    /// Something from one node comes to another: they are connected. Whoever knows that of the other one is known to it.
    pub(super) fn connect(&mut self, from: NodeIndex, to: NodeIndex) {
        let period = self.now.as_micros() / IDLE_TIMEOUT.as_micros() as u64;
        for (node, peer) in [(to, from), (from, to)] {
            let connections = &mut self.nodes[node].connections;
            connections.turn(period);
            if !connections.add(peer) {
                return;
            }
        }
    }

    /// The nodes that `node` is connected to.
    #[must_use]
    pub fn connected_to(&mut self, node: NodeIndex) -> Vec<NodeIndex> {
        let period = self.now.as_micros() / IDLE_TIMEOUT.as_micros() as u64;
        self.nodes[node].connections.turn(period);
        self.nodes[node].connections.peers()
    }

    fn disconnect(&mut self, node: NodeIndex) -> Vec<NodeIndex> {
        let peers = self.connected_to(node);
        for peer in &peers {
            self.nodes[*peer].connections.remove(node);
            self.nodes[node].connections.remove(*peer);
        }
        peers
    }

    /// The process of `node` has ended. Whoever is connected hears of it, if the network lets it.
    pub(super) fn hang_up(&mut self, node: NodeIndex) {
        let (gone, latency) = (self.peer(node), self.options.latency);
        for peer in self.disconnect(node) {
            // Who cannot hear of it finds out by waiting.
            if self.is_up(peer) && self.network.passes(node, peer, self.nodes.len()) {
                self.later(peer, latency, Input::Disconnected { peer: gone.clone() });
            }
        }
    }

    /// The machine of `node` is off. Whoever is connected finds out by its pings.
    pub(super) fn fall_silent(&mut self, node: NodeIndex) {
        let gone = self.peer(node);
        for peer in self.disconnect(node) {
            if self.is_up(peer) {
                let after = PING + self.chance.up_to(PING);
                self.later(peer, after, Input::Disconnected { peer: gone.clone() });
            }
        }
    }

    /// All connections of a node break, and both ends see it: calls and streams that nobody has answered yet fail. Bytes
    /// that have left arrive.
    pub fn reset_connections(&mut self, node: NodeIndex) {
        let latency = self.options.latency;
        for peer in self.disconnect(node) {
            for (here, there) in [(node, peer), (peer, node)] {
                if self.is_up(here) {
                    let peer = self.peer(there);
                    self.later(here, latency, Input::Disconnected { peer });
                }
            }
        }
        for server in 0..self.nodes.len() {
            let broken: Vec<_> = self.nodes[server]
                .streams
                .iter()
                .filter(|(_, inbound)| server == node || inbound.opener() == node)
                .map(|(stream, _)| *stream)
                .collect();
            for stream in broken {
                self.stream_breaks(server, stream, StreamError::Broken);
            }
        }
    }
}

//! What a world is made of.

use std::time::Duration;

use longshore_core::config::Config;

use super::{ClientOptions, NodeIndex};
use crate::audit;
use crate::record::Wanted;

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Number of nodes.
    pub nodes: usize,
    /// Number of zones; node `i` is in zone `i % zones`.
    pub zones: usize,
    /// Racks of each zone; 0: none.
    pub racks: usize,
    /// Added to the latency between racks of a zone.
    pub cross_rack_latency: Duration,
    /// Agents are told their zones, and those of others.
    pub zone_names: bool,
    /// One-way latency between nodes; each pair has its own, between this and twice this.
    pub latency: Duration,
    /// Added to it between zones.
    pub cross_zone_latency: Duration,
    /// Bytes per second that all nodes of one zone together can send to another zone. `None`: no limit.
    pub cross_zone_rate: Option<u64>,
    /// Added to the latency to and from the origin.
    pub origin_latency: Duration,
    /// Bytes per second that a node can send, and receive.
    pub node_rate: u64,
    /// Bytes per second that the origin can send.
    pub origin_rate: u64,
    /// Bytes per second that the origin sends on one connection. `None`: no limit but the total.
    pub origin_connection_rate: Option<u64>,
    /// Requests per second that the origin answers before it says 429. `None`: no limit.
    pub origin_requests_per_second: Option<u32>,
    /// The same for each node by itself.
    pub origin_requests_per_node_second: Option<u32>,
    /// How containerd behaves.
    pub client: ClientOptions,
    /// A change of membership becomes known to each node within this time. `None`: never (nodes find out by themselves).
    pub membership_lag: Option<Duration>,
    /// What is announced can be found after this.
    pub index_delay: Duration,
    /// The index forgets nodes that died, and what was withdrawn, only after this.
    pub index_staleness: Duration,
    /// Reads and writes that fail, in a million.
    pub disk_errors: u32,
    /// Most that a node's clock is ahead of the first one's.
    pub clock_offset: Duration,
    /// Most that a clock is too fast, or too slow, in millionths.
    pub clock_drift: u32,
    /// Changes the settings of every node.
    pub configure: fn(NodeIndex, &mut Config),
    /// Nodes of another version, if there are any.
    pub others: Option<crate::scenario::OtherVersion>,
    /// Settings that a scenario changes, after `configure`.
    pub knobs: crate::scenario::Knobs,
    /// Added to the latency of each message to this node. Nothing, but in tests of the audit.
    pub noise: fn(NodeIndex) -> Duration,
    /// What the audit wants recorded.
    pub record: Option<audit::Settings>,
    /// What to keep of what happened.
    pub story: Option<Wanted>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            nodes: 3,
            zones: 1,
            zone_names: false,
            racks: 0,
            cross_rack_latency: Duration::ZERO,
            latency: Duration::from_micros(300),
            cross_zone_latency: Duration::ZERO,
            cross_zone_rate: None,
            origin_latency: Duration::ZERO,
            node_rate: 125_000_000,
            origin_rate: 125_000_000,
            origin_connection_rate: None,
            origin_requests_per_second: None,
            origin_requests_per_node_second: None,
            client: ClientOptions::default(),
            membership_lag: None,
            index_delay: Duration::ZERO,
            index_staleness: Duration::ZERO,
            disk_errors: 0,
            clock_offset: Duration::ZERO,
            clock_drift: 0,
            configure: |_, _| {},
            others: None,
            knobs: crate::scenario::Knobs::default(),
            noise: |_| Duration::ZERO,
            record: None,
            story: None,
        }
    }
}

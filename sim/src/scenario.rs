//! A scenario: a cluster, what it pulls, what befalls it, and what is expected. `scenarios/README.md` documents the file.

pub mod faults;
pub(crate) mod schedule;
pub mod units;
pub mod versions;

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_core::config::{AuthCheck, Config, Scope};
use serde::{Deserialize, Serialize};

pub use faults::{FaultKind, FaultSpec};
use units::{Bytes, Rate, Span};
pub use versions::OtherVersion;

use crate::world::{ClientOptions, MAX_DRIFT, Options};

/// Nodes of the largest scenario: what a machine with 16 GiB can hold.
const MAX_NODES: usize = 20_000;

/// A scenario as its file says it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scenario {
    /// Its name; the file's name without `.toml`.
    pub name: String,
    /// What it shows, in a sentence or two.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// The seed when none is given.
    #[serde(default = "one")]
    pub seed: u64,
    /// After this much virtual time the run ends, done or not.
    #[serde(default = "ten_minutes")]
    pub limit: Span,
    /// Faults end and dead nodes come back at this time, whatever the timeline says: the liveness phase begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heal_at: Option<Span>,
    /// The cluster.
    #[serde(default)]
    pub cluster: Cluster,
    /// Nodes of another version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_version: Option<OtherVersion>,
    /// The registry.
    #[serde(default)]
    pub origin: OriginSpec,
    /// containerd.
    #[serde(default)]
    pub client: ClientSpec,
    /// Settings of the agents that differ from the defaults.
    #[serde(default)]
    pub knobs: Knobs,
    /// What is pulled.
    pub images: Vec<ImageSpec>,
    /// What befalls the cluster.
    #[serde(default)]
    pub faults: Vec<FaultSpec>,
    /// What is expected.
    #[serde(default)]
    pub expect: Expectations,
}

const fn one() -> u64 {
    1
}

const fn ten_minutes() -> Span {
    Span(Duration::from_secs(600))
}

/// Nodes and links.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Cluster {
    /// Number of nodes.
    pub nodes: usize,
    /// Number of zones; node `i` is in zone `i` modulo this.
    pub zones: usize,
    /// Agents know the zones.
    pub zones_known: bool,
    /// Racks of each zone: of the nodes of a zone, one after the other is in the next one. 0: none.
    pub racks: usize,
    /// Added between racks of a zone.
    pub cross_rack_latency: Span,
    /// One-way latency; each pair of nodes has its own, between this and twice this.
    pub latency: Span,
    /// Added between zones.
    pub cross_zone_latency: Span,
    /// What a node can send, and receive.
    pub node_rate: Rate,
    /// What one zone can send to another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_zone_rate: Option<Rate>,
    /// Deaths and returns become known within this time; absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub membership_lag: Option<Span>,
    /// What is announced is found after this.
    pub index_delay: Span,
    /// What is withdrawn, or dead, is found for so much longer.
    pub index_staleness: Span,
    /// Clocks differ by up to this.
    pub clock_offset: Span,
    /// Clocks are up to so many millionths too fast or too slow.
    pub clock_drift_per_million: u32,
}

impl Cluster {
    /// The rack of a node; those of the first zone are counted first.
    #[must_use]
    pub fn rack(&self, node: usize) -> usize {
        node % self.zones * self.racks + (node / self.zones) % self.racks.max(1)
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            nodes: 3,
            zones: 1,
            zones_known: false,
            racks: 0,
            cross_rack_latency: Span::default(),
            latency: Span(Duration::from_micros(300)),
            cross_zone_latency: Span::default(),
            node_rate: Rate(125_000_000),
            cross_zone_rate: None,
            membership_lag: None,
            index_delay: Span::default(),
            index_staleness: Span::default(),
            clock_offset: Span::default(),
            clock_drift_per_million: 0,
        }
    }
}

/// The registry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct OriginSpec {
    /// What it can send in all.
    pub rate: Rate,
    /// What it sends on one connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_rate: Option<Rate>,
    /// Added to the latency of the cluster.
    pub latency: Span,
    /// More requests in one second get a 429.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
    /// More requests of one node in one second get a 429.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_node_second: Option<u32>,
    /// It wants a credential.
    pub private: bool,
    /// Share of the nodes that have one, in a million.
    pub credentials_per_million: u32,
}

impl Default for OriginSpec {
    fn default() -> Self {
        Self {
            rate: Rate(125_000_000),
            connection_rate: None,
            latency: Span::default(),
            requests_per_second: None,
            requests_per_node_second: None,
            private: false,
            credentials_per_million: 1_000_000,
        }
    }
}

/// containerd.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ClientSpec {
    /// Headers that take longer send it to the registry.
    pub header_timeout: Span,
    /// A pull without a new byte for this long fails.
    pub progress_timeout: Span,
    /// Layers are unpacked at this rate, one after the other; absent: in no time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unpack_rate: Option<Rate>,
}

impl Default for ClientSpec {
    fn default() -> Self {
        let usual = ClientOptions::default();
        Self {
            header_timeout: Span(usual.header_timeout),
            progress_timeout: Span(usual.progress_timeout),
            unpack_rate: None,
        }
    }
}

/// Settings of all agents that differ from their defaults; see `longshore config --explain`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[allow(missing_docs)]
pub struct Knobs {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe_width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_timeout: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_streams: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_running_flights: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_admitted_flights: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_progress_timeout: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header_timeout: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_timeout: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefetch: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_uploads: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_downloads: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_origin_fetches: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_assignments: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_cap: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone_scope: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_check: Option<bool>,
}

impl Knobs {
    pub(crate) fn apply(&self, config: &mut Config) {
        fn set<T: Copy>(setting: &mut T, knob: Option<T>) {
            if let Some(value) = knob {
                *setting = value;
            }
        }
        let span = |knob: Option<Span>| knob.map(|span| span.0);
        set(&mut config.probe_width, self.probe_width);
        set(&mut config.call_timeout, span(self.call_timeout));
        set(&mut config.max_streams, self.max_streams);
        set(&mut config.max_running_flights, self.max_running_flights);
        set(&mut config.max_admitted_flights, self.max_admitted_flights);
        set(&mut config.no_progress_timeout, span(self.no_progress_timeout));
        set(&mut config.header_timeout, span(self.header_timeout));
        set(&mut config.body_timeout, span(self.body_timeout));
        set(&mut config.prefetch, self.prefetch);
        set(&mut config.max_uploads, self.max_uploads);
        set(&mut config.max_downloads, self.max_downloads);
        set(&mut config.max_origin_fetches, self.max_origin_fetches);
        set(&mut config.max_assignments, self.max_assignments);
        set(&mut config.store_cap_bytes, self.store_cap.map(|cap| Some(cap.0)));
        set(
            &mut config.auth_check,
            self.auth_check.map(|check| if check { AuthCheck::Origin } else { AuthCheck::Off }),
        );
        set(&mut config.scope, self.zone_scope.map(|zone| if zone { Scope::Zone } else { Scope::Cluster }));
    }
}

/// An image, and when nodes begin to pull it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ImageSpec {
    /// Sizes of its layers.
    pub layers: Vec<Bytes>,
    /// So many layers of the image before it come first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub shared_layers: usize,
    /// When the first node begins.
    #[serde(default)]
    pub at: Span,
    /// How the others follow.
    #[serde(default)]
    pub arrivals: Arrivals,
    /// When the last one begins (Poisson: about then).
    #[serde(default)]
    pub over: Span,
    /// Nodes that pull it; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<usize>,
    /// containerd has deleted all it had: it asks for shared layers again.
    #[serde(default, skip_serializing_if = "is_false")]
    pub fresh: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// How nodes follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    /// All at once.
    #[default]
    AtOnce,
    /// One after the other, evenly.
    Rolling,
    /// At random times.
    Poisson,
}

/// What is expected. Of what is absent, only pulls that do not finish and broken rules count (none of either).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Expectations {
    /// Slowest pull against the optimum, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slowest_ratio: Option<f64>,
    /// Median pull against the optimum, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median_ratio: Option<f64>,
    /// Seconds that the slowest pull takes with unpacking, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slowest_seconds: Option<f64>,
    /// Bytes out of the registry in copies of what was pulled, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin_copies: Option<f64>,
    /// Blobs that containerds got from the registry themselves, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallbacks: Option<u64>,
    /// Pulls that failed and were tried again by the kubelet, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_pulls: Option<u64>,
}

/// Why a file is no scenario.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScenarioError(String);

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// Whatever is not understood, with line and, for an unknown key, the nearest one that exists.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text).map_err(|error| ScenarioError(with_nearest(&error.to_string())))?;
        scenario.check()?;
        Ok(scenario)
    }

    /// The file of this scenario.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_else(|error| format!("# cannot be written: {error}\n"))
    }

    fn check(&self) -> Result<(), ScenarioError> {
        let refuse = |text: String| Err(ScenarioError(text));
        if self.cluster.nodes == 0 || self.cluster.nodes > MAX_NODES {
            return refuse(format!("cluster.nodes is {}; expected 1 to {MAX_NODES}", self.cluster.nodes));
        }
        if self.cluster.zones == 0 {
            return refuse("cluster.zones is 0; expected at least 1".into());
        }
        if self.cluster.clock_drift_per_million > MAX_DRIFT as u32 {
            let drift = self.cluster.clock_drift_per_million;
            return refuse(format!("cluster.clock-drift-per-million is {drift}; expected at most {MAX_DRIFT}"));
        }
        if let Some(problem) = self.other_version.as_ref().and_then(|others| others.check().err()) {
            return refuse(format!("other-version: {problem}"));
        }
        if self.images.is_empty() {
            return refuse("there is no image to pull; add an [[images]] table".into());
        }
        for (number, fault) in self.faults.iter().enumerate() {
            if let Err(problem) = fault.check(&self.cluster) {
                return refuse(format!("faults[{number}] ({}): {problem}", fault.what.name()));
            }
        }
        Ok(())
    }

    /// The world that it describes.
    #[must_use]
    pub fn options(&self, seed: u64) -> Options {
        let (cluster, origin, client) = (&self.cluster, &self.origin, &self.client);
        Options {
            seed,
            nodes: cluster.nodes,
            zones: cluster.zones,
            zone_names: cluster.zones_known,
            racks: cluster.racks,
            cross_rack_latency: cluster.cross_rack_latency.0,
            latency: cluster.latency.0,
            cross_zone_latency: cluster.cross_zone_latency.0,
            cross_zone_rate: cluster.cross_zone_rate.map(|rate| rate.0),
            origin_latency: origin.latency.0,
            node_rate: cluster.node_rate.0,
            origin_rate: origin.rate.0,
            origin_connection_rate: origin.connection_rate.map(|rate| rate.0),
            origin_requests_per_second: origin.requests_per_second,
            origin_requests_per_node_second: origin.requests_per_node_second,
            others: self.other_version.clone(),
            client: ClientOptions {
                header_timeout: client.header_timeout.0,
                progress_timeout: client.progress_timeout.0,
                unpack_rate: client.unpack_rate.map(|rate| rate.0),
            },
            membership_lag: cluster.membership_lag.map(|lag| lag.0),
            index_delay: cluster.index_delay.0,
            index_staleness: cluster.index_staleness.0,
            clock_offset: cluster.clock_offset.0,
            clock_drift: cluster.clock_drift_per_million,
            knobs: self.knobs.clone(),
            ..Options::default()
        }
    }
}

/// Adds the nearest known key to serde's words about an unknown one.
fn with_nearest(message: &str) -> String {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let is_unknown = message.contains("unknown field") || message.contains("unknown variant");
    let nearest = quoted.split_first().filter(|_| is_unknown).and_then(|(found, known)| {
        let distances: BTreeMap<usize, &str> =
            known.iter().map(|known| (strsim::damerau_levenshtein(found, known), *known)).collect();
        distances.into_iter().next().filter(|(distance, _)| *distance <= 3.max(found.len() / 2))
    });
    match nearest {
        Some((_, known)) => format!("{}\ndid you mean '{known}'?", message.trim_end()),
        None => message.trim_end().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "name = 'x'\n[[images]]\nlayers = ['1MiB']\n";

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known_one() {
        let error = Scenario::parse(&format!("{SMALL}[cluster]\nnode-rte = '1Gbit/s'\n")).expect_err("a typo");
        assert!(error.to_string().contains("did you mean 'node-rate'?"), "{error}");
        let error = Scenario::parse(&format!("{SMALL}[[faults]]\nat = '1s'\nwhat = 'kil'\n")).expect_err("a typo");
        assert!(error.to_string().contains("did you mean 'kill'?"), "{error}");
    }

    #[test]
    fn what_cannot_happen_is_refused() {
        for (more, expected) in [
            ("[cluster]\nnodes = 0\n", "expected 1 to"),
            ("[[faults]]\nat = '1s'\nwhat = 'kill'\nnodes = [3]\n", "there is no node 3"),
            ("[[faults]]\nat = '1s'\nwhat = 'slow'\ncount = 1\n", "needs 'rate'"),
        ] {
            let error = Scenario::parse(&format!("{SMALL}{more}")).expect_err(more);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn a_scenario_that_is_written_is_read_as_the_same() {
        let text = format!(
            "{SMALL}[[faults]]\nat = '1s'\nfor = '2s'\nwhat = 'loss'\nper-million = 5\n[expect]\norigin-copies = 1.5\n"
        );
        let scenario = Scenario::parse(&text).expect("a scenario");
        assert_eq!(Scenario::parse(&scenario.to_toml()), Ok(scenario));
    }
}

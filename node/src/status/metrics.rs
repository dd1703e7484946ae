//! `/metrics`: counters and gauges in the text form that Prometheus reads.

use std::fmt;

use longshore_core::metrics::Counters;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// The content type of [`encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is measured at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Counters since the start.
    pub counters: Counters,
    /// Whether the agent is ready.
    pub ready: bool,
    /// Bytes of memory in use.
    pub memory_resident_bytes: u64,
    /// Committed blobs.
    pub blobs: u64,
    /// Bytes of committed blobs.
    pub stored_bytes: u64,
    /// Blobs that are being fetched.
    pub flights: u64,
    /// Requests of containerd that are open.
    pub mirror_requests: u64,
    /// Fetches from registries that are under way.
    pub origin_fetches: u64,
    /// How many there may be at a time.
    pub origin_fetches_limit: u64,
    /// Registries that have answered that this node asks too often.
    pub limiting_registries: u64,
    /// Agents in this node's view of the cluster, itself included.
    pub members: u64,
    /// Peers with a connection.
    pub peers_connected: u64,
    /// Inputs in the journal, of this agent.
    pub journal_inputs: u64,
    /// Bytes of them.
    pub journal_bytes: u64,
    /// The journal has stopped although the agent goes on.
    pub journal_stopped: bool,
    /// Seconds since the start.
    pub uptime_seconds: u64,
}

impl Sample {
    fn gauges(&self) -> [(&'static str, &'static str, u64); 15] {
        [
            ("ready", "Whether the agent takes work", u64::from(self.ready)),
            ("memory_resident_bytes", "Bytes of memory in use", self.memory_resident_bytes),
            ("blobs", "Complete blobs in the store", self.blobs),
            ("stored_bytes", "Bytes of complete blobs in the store", self.stored_bytes),
            ("flights", "Blobs that are being fetched", self.flights),
            ("mirror_requests", "Requests of containerd that are open", self.mirror_requests),
            ("origin_fetches_running", "Fetches from registries that are under way", self.origin_fetches),
            (
                "origin_fetches_limit",
                "Fetches from registries that there may be at a time for now: halved where they are slow",
                self.origin_fetches_limit,
            ),
            (
                "limiting_registries",
                "Registries that limit requests (429) and are asked for one thing at a time",
                self.limiting_registries,
            ),
            ("members", "Agents in this node's view of the cluster, itself included", self.members),
            ("peers_connected", "Other agents with a connection", self.peers_connected),
            ("journal_inputs", "Inputs that this agent has recorded", self.journal_inputs),
            ("journal_bytes", "Bytes of journal that this agent has written", self.journal_bytes),
            (
                "journal_stopped",
                "Whether recording stopped although the agent goes on",
                u64::from(self.journal_stopped),
            ),
            ("uptime_seconds", "Seconds since the agent started", self.uptime_seconds),
        ]
    }
}

impl Collector for Sample {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, help, value) in self.counters.list() {
            let counter = ConstCounter::new(value);
            let help = help.trim_end_matches('.');
            counter.encode(encoder.encode_descriptor(name, &format!("{help}."), None, counter.metric_type())?)?;
        }
        for (name, help, value) in self.gauges() {
            // Gauges are signed in the format; a node with 8 EiB of anything would saturate.
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, &format!("{help}."), None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

/// The sample as text.
#[must_use]
pub fn encode(sample: Sample) -> String {
    let mut registry = Registry::with_prefix("longshore");
    let version = env!("CARGO_PKG_VERSION").to_owned();
    registry.register("build", "The program", Info::new(vec![("version".to_owned(), version)]));
    registry.register_collector(Box::new(sample));
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    text
}

/// The values in a text of this form that have no labels, by their names. What is not understood is left out.
#[must_use]
pub fn parse(text: &str) -> std::collections::BTreeMap<String, u64> {
    let line = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        (!name.starts_with('#') && !name.contains('{')).then_some(())?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_have_these_names_types_and_descriptions() {
        let sample =
            Sample { counters: Counters { origin_bytes: 7, ..Counters::default() }, blobs: 3, ..Sample::default() };
        insta::assert_snapshot!(encode(sample));
    }

    #[test]
    fn what_is_encoded_can_be_read_back() {
        let sample =
            Sample { counters: Counters { origin_bytes: 7, ..Counters::default() }, blobs: 3, ..Sample::default() };
        let values = parse(&encode(sample));
        assert_eq!(values.get("longshore_origin_bytes_total"), Some(&7));
        assert_eq!(values.get("longshore_blobs"), Some(&3));
        assert_eq!(values.get("longshore_peer_bytes_total"), Some(&0));
    }

    #[test]
    fn a_text_that_is_no_metrics_gives_no_values_instead_of_an_error() {
        assert!(parse("<html>\n404 not here\n# HELP x\n").len() <= 1);
        assert!(parse("").is_empty());
    }
}

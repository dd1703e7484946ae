//! How it went: a table for people, an object for programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::status::page::human_bytes;

/// How one node's pull ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything is there, and every byte was checked.
    Pulled {
        /// From the common start to the last byte.
        time: Duration,
        /// Bytes of the image.
        bytes: u64,
    },
    /// The demo killed the agent.
    Killed,
    /// It failed, with the reason.
    Failed(String),
}

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Body bytes that the registry sent.
    pub origin_bytes: u64,
    /// Bytes that agents had from each other.
    pub peer_bytes: u64,
    /// Bytes that the pulls received.
    pub delivered_bytes: u64,
    /// CPU time of all agents together.
    pub cpu: Duration,
    /// The largest peak memory of an agent.
    pub peak_memory_bytes: u64,
    /// Requests that the registry answered because the mirror did not.
    pub fallbacks: u64,
}

/// The result. Its fields are the JSON's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Agents.
    pub nodes: usize,
    /// Bytes of the image.
    pub image_bytes: u64,
    /// Seconds until half of the surviving nodes had it.
    pub median_seconds: f64,
    /// Seconds until the last of them had it.
    pub slowest_seconds: f64,
    /// Body bytes that the registry sent.
    pub origin_bytes: u64,
    /// The same in copies of the image.
    pub origin_copies: f64,
    /// Bytes that agents had from each other.
    pub peer_bytes: u64,
    /// Every surviving node has the whole image, and every digest and size matched.
    pub verified: bool,
    /// Nodes whose pull failed.
    pub failed_nodes: usize,
    /// Nodes that the demo killed.
    pub killed_nodes: usize,
    /// Requests that the registry answered because the mirror did not, as containerd's fall-back would have.
    pub fallbacks: u64,
    /// CPU seconds of all agents for each 10^9 bytes that the pulls received.
    pub cpu_seconds_per_gb: f64,
    /// The largest peak memory of an agent.
    pub peak_memory_bytes: u64,
}

impl Report {
    /// The result of these pulls.
    #[must_use]
    pub fn new(outcomes: &[Outcome], measured: &Measured) -> Self {
        let mut times = Vec::new();
        let mut image_bytes = 0;
        for outcome in outcomes {
            if let Outcome::Pulled { time, bytes } = outcome {
                times.push(time.as_secs_f64());
                image_bytes = *bytes;
            }
        }
        times.sort_by(f64::total_cmp);
        let count = |wanted: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| wanted(outcome)).count();
        let failed_nodes = count(|outcome| matches!(outcome, Outcome::Failed(_)));
        Self {
            nodes: outcomes.len(),
            image_bytes,
            median_seconds: median(&times),
            slowest_seconds: times.last().copied().unwrap_or(0.0),
            origin_bytes: measured.origin_bytes,
            origin_copies: ratio(measured.origin_bytes as f64, image_bytes as f64),
            peer_bytes: measured.peer_bytes,
            verified: failed_nodes == 0 && !times.is_empty(),
            failed_nodes,
            killed_nodes: count(|outcome| matches!(outcome, Outcome::Killed)),
            fallbacks: measured.fallbacks,
            cpu_seconds_per_gb: ratio(measured.cpu.as_secs_f64(), measured.delivered_bytes as f64 / 1e9),
            peak_memory_bytes: measured.peak_memory_bytes,
        }
    }

    /// The table.
    #[must_use]
    pub fn table(&self) -> String {
        let survivors = self.nodes - self.killed_nodes;
        let mut page = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(page, "  {name:<28} {value}");
        };
        let killed =
            if self.killed_nodes > 0 { format!(", {} killed on the way", self.killed_nodes) } else { String::new() };
        line("nodes", format!("{}{killed}", self.nodes));
        line("image", human_bytes(self.image_bytes));
        line("median node", format!("{:.2} s", self.median_seconds));
        line("slowest node", format!("{:.2} s", self.slowest_seconds));
        line(
            "out of the registry",
            format!("{}, {:.3} copies of the image", human_bytes(self.origin_bytes), self.origin_copies),
        );
        line("between peers", human_bytes(self.peer_bytes));
        line("CPU of all agents", format!("{:.2} s for each GB delivered", self.cpu_seconds_per_gb));
        line("peak memory of an agent", human_bytes(self.peak_memory_bytes));
        if self.fallbacks > 0 {
            line("asked the registry directly", format!("{} times, because the mirror did not answer", self.fallbacks));
        }
        let verdict = if self.verified {
            format!("all {survivors} nodes have every byte, every digest matches")
        } else {
            format!("{} of {survivors} nodes FAILED", self.failed_nodes)
        };
        line("verified", verdict);
        page
    }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// The median; of an even number, the mean of the two in the middle.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted {
        [] => 0.0,
        _ if sorted.len() % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pulled(seconds: u64) -> Outcome {
        Outcome::Pulled { time: Duration::from_secs(seconds), bytes: 1000 }
    }

    fn measured() -> Measured {
        Measured {
            origin_bytes: 1040,
            peer_bytes: 3000,
            delivered_bytes: 2_000_000_000,
            cpu: Duration::from_secs(3),
            peak_memory_bytes: 64 << 20,
            fallbacks: 0,
        }
    }

    #[test]
    fn the_report_measures_survivors_and_counts_the_killed_apart() {
        let report = Report::new(&[pulled(4), Outcome::Killed, pulled(1), pulled(2), pulled(3)], &measured());
        assert_eq!((report.median_seconds, report.slowest_seconds), (2.5, 4.0));
        assert_eq!((report.failed_nodes, report.killed_nodes, report.verified), (0, 1, true));
        assert_eq!((report.origin_copies, report.cpu_seconds_per_gb), (1.04, 1.5));
    }

    #[test]
    fn one_failure_or_nobody_left_is_not_verified() {
        assert!(!Report::new(&[pulled(1), Outcome::Failed("x".to_owned())], &measured()).verified);
        let nobody = Report::new(&[Outcome::Killed], &measured());
        assert!(!nobody.verified && nobody.origin_copies == 0.0, "{nobody:?}");
    }

    #[test]
    fn the_table_is_this() {
        let report = Report::new(&[pulled(4), Outcome::Killed, pulled(1)], &Measured { fallbacks: 2, ..measured() });
        insta::assert_snapshot!(report.table());
    }

    #[test]
    fn the_object_has_the_promised_fields() {
        let report = Report::new(&[pulled(1)], &measured());
        insta::assert_json_snapshot!(report);
    }
}

//! How long containerd waits: for what is here, and for what nobody has yet.

use std::time::{Duration, Instant};

use crate::harness::agent::{Agent, Cluster, Settings};
use crate::harness::http;
use crate::harness::lab::Lab;
use crate::harness::registry::{Access, Registry};
use crate::harness::upload::upload;

/// Distinct blobs, each of which is missed once on each side.
const BLOBS: u32 = 400;
/// Small: what is measured is the way to the first byte.
const BLOB_BYTES: usize = 4096;
/// Requests for warm blobs.
const HITS: usize = 4000;
const REPOSITORY: &str = "bench/latency";

/// The table.
pub(crate) fn measure(lab: &Lab) -> String {
    let registry = Registry::start(lab, Access::Anonymous);
    let blobs = |from: u32| {
        (from..from + BLOBS).map(|number| {
            let content: Vec<u8> = number.to_be_bytes().into_iter().cycle().take(BLOB_BYTES).collect();
            upload(registry.port, REPOSITORY, &content)
        })
    };
    let (cold, direct): (Vec<String>, Vec<String>) = (blobs(0).collect(), blobs(BLOBS).collect());
    let cluster = Cluster::start(lab, 3, &Settings::with_registry(registry.port));
    let mirror = cluster.agents[0].mirror_port;
    let through_mirror = |digest: &String| time(mirror, &Agent::blob_path(registry.port, REPOSITORY, digest));
    let from_registry = |digest: &String| time(registry.port, &format!("/v2/{REPOSITORY}/blobs/{digest}"));

    // Both sides are equally cold at the registry; interleaved, so that a disturbance meets both.
    let (mut missed, mut asked) = (Vec::new(), Vec::new());
    for (cold, direct) in cold.iter().zip(&direct) {
        asked.push(from_registry(direct));
        missed.push(through_mirror(cold));
    }
    let hits: Vec<Duration> = cold.iter().cycle().take(HITS).map(through_mirror).collect();

    let (direct, miss) = (Percentiles::of(asked), Percentiles::of(missed));
    let hit = Percentiles::of(hits);
    let row = |name: &str, figures: &Percentiles| format!("| {name} | {} |\n", figures.columns());
    format!(
        "## A blob of 4 KiB through one of three idle agents, one request at a time, new connections\n\n\
         | request | p50 ms | p99 ms | max ms |\n|---|---|---|---|\n{}{}{}\n\
         Added by a miss: {:.2} ms at p50, {:.2} ms at p99.\n",
        row("warm hit at the mirror", &hit),
        row("miss at the mirror (nobody has it)", &miss),
        row("the registry itself", &direct),
        miss.p50 - direct.p50,
        miss.p99 - direct.p99,
    )
}

fn time(port: u16, path: &str) -> Duration {
    let started = Instant::now();
    let response = http::get(port, path, &[]).unwrap();
    let took = started.elapsed();
    assert_eq!((response.status, response.body.len()), (200, BLOB_BYTES), "{}", response.text());
    took
}

struct Percentiles {
    p50: f64,
    p99: f64,
    max: f64,
}

impl Percentiles {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1e3;
        Self { p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }

    fn columns(&self) -> String {
        format!("{:.2} | {:.2} | {:.2}", self.p50, self.p99, self.max)
    }
}

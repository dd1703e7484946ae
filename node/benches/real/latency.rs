//! How long containerd waits: for what is here, and for what nobody has yet.

use std::time::{Duration, Instant};

use crate::harness::agent::{Agent, Cluster, Settings};
use crate::harness::http;
use crate::harness::lab::Lab;
use crate::harness::registry::{Access, Registry};
use crate::harness::upload::upload;
use crate::spread::Spread;

/// Distinct blobs of a round, each of which is missed once on each side.
const BLOBS: u32 = 300;
/// Each with blobs of its own.
const ROUNDS: u32 = 3;
/// Small: what is measured is the way to the first byte.
const BLOB_BYTES: usize = 4096;
/// Requests for warm blobs in a round.
const HITS: usize = 3000;
const REPOSITORY: &str = "bench/latency";

/// The table.
pub(crate) fn measure(lab: &Lab) -> String {
    let registry = Registry::start(lab, Access::Anonymous);
    let cluster = Cluster::start(lab, 3, &Settings::with_registry(registry.port));
    let rounds: Vec<Round> = (0..ROUNDS).map(|number| Round::run(&registry, &cluster, number)).collect();
    let row = |name: &str, times: fn(&Round) -> &Percentiles| {
        let spread = |figure: fn(&Percentiles) -> f64| Spread::of(rounds.iter().map(|round| figure(times(round))));
        format!(
            "| {name} | {} | {} | {} |\n",
            spread(|times| times.p50).show(2),
            spread(|times| times.p99).show(2),
            spread(|times| times.max).show(1),
        )
    };
    let added = |figure: fn(&Percentiles) -> f64| {
        Spread::of(rounds.iter().map(|round| figure(&round.miss) - figure(&round.direct)))
    };
    format!(
        "## A blob of 4 KiB through one of three idle agents, one request at a time, new connections\n\n\
         | request | p50 ms | p99 ms | max ms |\n|---|---|---|---|\n{}{}{}\n\
         Added by a miss: {} ms at p50, {} ms at p99.\n",
        row("warm hit at the mirror", |round| &round.hit),
        row("miss at the mirror (nobody has it)", |round| &round.miss),
        row("the registry itself", |round| &round.direct),
        added(|times| times.p50).show(2),
        added(|times| times.p99).show(2),
    )
}

struct Round {
    hit: Percentiles,
    miss: Percentiles,
    direct: Percentiles,
}

impl Round {
    fn run(registry: &Registry, cluster: &Cluster, number: u32) -> Self {
        let first = number * 2 * BLOBS;
        let blobs = |first: u32| -> Vec<String> {
            (first..first + BLOBS)
                .map(|number| {
                    let content: Vec<u8> = number.to_be_bytes().into_iter().cycle().take(BLOB_BYTES).collect();
                    upload(registry.port, REPOSITORY, &content)
                })
                .collect()
        };
        let (cold, direct) = (blobs(first), blobs(first + BLOBS));
        let mirror = cluster.agents[0].mirror_port;
        let through_mirror = |digest: &String| time(mirror, &Agent::blob_path(registry.port, REPOSITORY, digest));
        let from_registry = |digest: &String| time(registry.port, &format!("/v2/{REPOSITORY}/blobs/{digest}"));
        // Both sides are equally cold at the registry; interleaved, so that a disturbance meets both.
        let (mut missed, mut asked) = (Vec::new(), Vec::new());
        for (cold, direct) in cold.iter().zip(&direct) {
            asked.push(from_registry(direct));
            missed.push(through_mirror(cold));
        }
        let hits = cold.iter().cycle().take(HITS).map(through_mirror).collect();
        Self { hit: Percentiles::of(hits), miss: Percentiles::of(missed), direct: Percentiles::of(asked) }
    }
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
}

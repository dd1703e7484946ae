//! How long a node alone takes for a blob from a registry that is far away, with and without the mirror.

use std::time::{Duration, Instant};

use crate::harness::agent::{Agent, Settings};
use crate::harness::faulty::{Fault, FaultyRegistry, Rule};
use crate::harness::http;
use crate::harness::lab::Lab;
use crate::harness::registry::{Access, Registry};
use crate::harness::upload::upload;
use crate::random_bytes;
use crate::spread::Spread;

/// How much later the registry answers, in milliseconds: one on the same site, in the same region, on another continent.
const DELAYS: [u64; 4] = [0, 20, 100, 250];
const BLOB_BYTES: usize = 256 << 20;
const ROUNDS: u64 = 3;
const REPOSITORY: &str = "bench/far";

/// The table.
pub(crate) fn measure(lab: &Lab) -> String {
    let registry = Registry::start(lab, Access::Anonymous);
    let rows: String = DELAYS.iter().map(|delay| row(lab, &registry, *delay)).collect();
    format!(
        "## A blob of {} MiB to one node alone, from a registry that answers so much later\n\n\
         | answers after | through the mirror, s | without it, s | ratio | requests |\n|---|---|---|---|---|\n{rows}",
        BLOB_BYTES >> 20,
    )
}

fn row(lab: &Lab, registry: &Registry, delay: u64) -> String {
    let front = FaultyRegistry::start(registry.port);
    if delay > 0 {
        front.add(Rule::always("/blobs/", Fault::Late(Duration::from_millis(delay))).any_method());
    }
    // Kept until the last round: a room takes the agent's directory with it.
    let room = lab.room(&format!("far-{delay}"));
    let agent = Agent::alone(&room, &Settings::with_registry(front.port));
    let (mut through, mut without, mut ratios, mut requests) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // Nobody has seen it before.
        let digest = upload(registry.port, REPOSITORY, &random_bytes(delay << 8 | round, BLOB_BYTES));
        let direct = time(front.port, &format!("/v2/{REPOSITORY}/blobs/{digest}"));
        let before = front.requests(&digest);
        let mirrored = time(agent.mirror_port, &Agent::blob_path(front.port, REPOSITORY, &digest));
        requests.push((front.requests(&digest) - before) as f64);
        through.push(mirrored.as_secs_f64());
        without.push(direct.as_secs_f64());
        ratios.push(mirrored.as_secs_f64() / direct.as_secs_f64());
    }
    let [through, without, ratios, requests] = [through, without, ratios, requests].map(Spread::of);
    format!("| {delay} ms | {} | {} | {} | {} |\n", through.show(2), without.show(2), ratios.show(2), requests.show(0))
}

fn time(port: u16, path: &str) -> Duration {
    let started = Instant::now();
    let response = http::get(port, path, &[]).unwrap();
    assert_eq!((response.status, response.body.len()), (200, BLOB_BYTES), "{}", response.text());
    started.elapsed()
}

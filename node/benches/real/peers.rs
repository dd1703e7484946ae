//! A blob from one agent to another: what it costs, with each encryption, on each end.

use crate::cpu::Cost;
use crate::harness::agent::{Agent, Cluster, Settings};
use crate::harness::lab::Lab;
use crate::harness::registry::{Access, Registry};
use crate::harness::upload::upload;
use crate::random_bytes;
use crate::spread::Spread;
use crate::warm::download;

/// Long enough for a second of CPU, against a clock of hundredths.
const BLOB_BYTES: usize = 512 * 1024 * 1024;
/// Each with both encryptions in turn.
const ROUNDS: usize = 3;
const REPOSITORY: &str = "bench/peers";

/// The table.
pub(crate) fn measure(lab: &Lab) -> String {
    let registry = Registry::start(lab, Access::Anonymous);
    let content = random_bytes(2, BLOB_BYTES);
    let digest = upload(registry.port, REPOSITORY, &content);
    drop(content);
    let mut table = "## A blob of 512 MiB from one agent to another, and on to one client\n\n\
         | encryption | CPU seconds per GB, sender | CPU seconds per GB, receiver | MB per second | peak memory, MB |\n\
         |---|---|---|---|---|\n"
        .to_owned();
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        for encryption in ["noise", "tls"] {
            let room = lab.room(&format!("{encryption}-{round}"));
            rounds.push((encryption, Round::run(&room, registry.port, &digest, encryption)));
        }
    }
    for encryption in ["noise", "tls"] {
        let spread = |figure: fn(&Round) -> f64| {
            Spread::of(rounds.iter().filter(|(name, _)| *name == encryption).map(|(_, round)| figure(round)))
        };
        table.push_str(&format!(
            "| {encryption} | {} | {} | {} | {} |\n",
            spread(|round| round.sending.cpu_seconds_per_gigabyte()).show(2),
            spread(|round| round.receiving.cpu_seconds_per_gigabyte()).show(2),
            spread(|round| round.receiving.megabytes_per_second()).show(0),
            spread(|round| round.peak_memory_bytes as f64 / 1e6).show(0),
        ));
    }
    table
}

struct Round {
    sending: Cost,
    receiving: Cost,
    /// The larger of the two.
    peak_memory_bytes: u64,
}

impl Round {
    fn run(lab: &Lab, registry_port: u16, digest: &str, encryption: &str) -> Self {
        let settings = Settings::with_registry(registry_port).and(&format!("peer_encryption = \"{encryption}\""));
        let mut cluster = Cluster::start(lab, 2, &settings);
        // The designated puller has it, and the other one is away meanwhile: it would take part, and have half of it.
        let sender = cluster.designated(digest);
        let receiver = 1 - sender;
        assert!(cluster.agents[receiver].terminate(), "an idle agent stops in time");
        let path = Agent::blob_path(registry_port, REPOSITORY, digest);
        download(cluster.agents[sender].mirror_port, &path);
        cluster.agents[receiver].restart();
        cluster.agents[receiver].wait_until_ready();
        let fetched = cluster.counter("origin_bytes");

        let [sender, receiver] = [sender, receiver].map(|number| &cluster.agents[number]);
        let mut receiving = None;
        let bytes = BLOB_BYTES as u64;
        let sending = Cost::of(&[sender.pid()], bytes, || {
            receiving = Some(Cost::of(&[receiver.pid()], bytes, || download(receiver.mirror_port, &path)));
        });
        assert_eq!(cluster.counter("origin_bytes"), fetched, "nothing came from the registry");
        assert_eq!(receiver.counter("peer_bytes"), bytes, "all of it came from the peer, and in this time");
        Self {
            sending,
            receiving: receiving.expect("the work was done"),
            peak_memory_bytes: sender.peak_memory_bytes().max(receiver.peak_memory_bytes()),
        }
    }
}

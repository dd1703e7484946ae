//! A blob from one agent to another: what encryption costs, on both ends together.

use crate::cpu::Cost;
use crate::harness::agent::{Agent, Cluster, Settings};
use crate::harness::lab::Lab;
use crate::harness::registry::{Access, Registry};
use crate::harness::upload::upload;
use crate::warm::download;

/// Long enough for some seconds of CPU, against a clock of hundredths.
const BLOB_BYTES: usize = 512 * 1024 * 1024;
const REPOSITORY: &str = "bench/peers";

/// The table.
pub(crate) fn measure(lab: &Lab) -> String {
    let registry = Registry::start(lab, Access::Anonymous);
    let mut content = vec![0; BLOB_BYTES];
    rand_core::RngCore::fill_bytes(
        &mut <rand_chacha::ChaCha8Rng as rand_core::SeedableRng>::seed_from_u64(2),
        &mut content,
    );
    let digest = upload(registry.port, REPOSITORY, &content);
    let mut table = "## A blob of 512 MiB from one agent to another, and on to one client\n\n\
         | encryption | CPU seconds per GB, sender | CPU seconds per GB, receiver | MB per second | peak memory of the two, MB |\n\
         |---|---|---|---|---|\n"
        .to_owned();
    for encryption in ["noise", "tls"] {
        let room = lab.room(encryption);
        let settings = Settings::with_registry(registry.port).and(&format!("peer_encryption = \"{encryption}\""));
        let cluster = Cluster::start(&room, 2, &settings);
        let [sender, receiver] = cluster.agents.as_slice() else { unreachable!("a cluster of two") };
        let path = Agent::blob_path(registry.port, REPOSITORY, &digest);
        download(sender.mirror_port, &path);
        let fetched = cluster.counter("origin_bytes");
        let mut receiving = None;
        let bytes = BLOB_BYTES as u64;
        let sending = Cost::of(&[sender.pid()], bytes, || {
            receiving = Some(Cost::of(&[receiver.pid()], bytes, || download(receiver.mirror_port, &path)));
        });
        let receiving = receiving.expect("the work was done");
        assert_eq!(cluster.counter("origin_bytes"), fetched, "the blob came from the peer");
        let peak = [sender, receiver].map(|agent| agent.peak_memory_bytes() as f64 / 1e6);
        table.push_str(&format!(
            "| {encryption} | {:.2} | {:.2} | {:.0} | {:.0}, {:.0} |\n",
            sending.cpu_seconds_per_gigabyte(),
            receiving.cpu_seconds_per_gigabyte(),
            receiving.megabytes_per_second(),
            peak[0],
            peak[1],
        ));
    }
    table
}

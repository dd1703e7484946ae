//! Agents on links of a known width: each in a network namespace of its own, behind a token bucket in both directions.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::PATIENCE;
use crate::harness::agent::{Identity, PROGRAM};
use crate::harness::lab::{BUSYBOX, Lab, find_program};
use crate::harness::netns::{Network, RATE_BYTES_PER_SECOND};
use crate::harness::process::Process;
use crate::harness::registry::{Access, Registry};
use crate::harness::upload::upload;
use crate::harness::wait_for;
use crate::harness::world::MIB;

const NODES: usize = 3;
const BLOB_BYTES: u64 = 24 * MIB;
const REPOSITORY: &str = "demo/links";
const PEER_PORT: u16 = 4001;
const MIRROR_PORT: u16 = 5000;
const STATUS_PORT: u16 = 9095;
const REGISTRY_PORT: u16 = 5000;

#[test]
fn on_narrow_links_all_pull_and_the_registry_sends_one_copy() {
    let Some(lab) = Lab::open() else { return };
    // One host more than nodes: the registry's.
    let Some(network) = Network::open(NODES + 1) else { return };
    let content: Vec<u8> =
        (0..BLOB_BYTES / 4).flat_map(|word| (word as u32).wrapping_mul(0x9e37_79b1).to_le_bytes()).collect();
    let mut seed = Registry::start(&lab, Access::Anonymous);
    let digest = upload(seed.port, REPOSITORY, &content);
    seed.stop();
    let registry = format!("{}:{REGISTRY_PORT}", network.address(NODES));
    let log = lab.directory("registry").join("log");
    let _registry =
        start_registry(&lab, &network, &lab.directory(&format!("registry-{}", seed.port)).join("data"), &log);

    let identities: Vec<Identity> =
        (0..NODES).map(|node| Identity::make(&lab.directory(&format!("agent-{node}")))).collect();
    let members: Vec<String> = identities
        .iter()
        .enumerate()
        .map(|(node, identity)| format!("/ip4/{}/tcp/{PEER_PORT}/p2p/{}", network.address(node), identity.peer_id))
        .collect();
    let agents: Vec<Process> = (0..NODES).map(|node| start_agent(&lab, &network, node, &members, &registry)).collect();

    let url = format!("http://127.0.0.1:{MIRROR_PORT}/v2/{REPOSITORY}/blobs/{digest}?ns={registry}");
    let started = Instant::now();
    let pulls: Vec<_> = (0..NODES)
        .map(|node| {
            let file = lab.directory("pulled").join(node.to_string());
            let arguments = ["wget", "-q", "-O", text(&file), &url];
            let pull =
                network.spawn(node, "wget", Path::new(BUSYBOX), &arguments, &lab.directory("pulled").join("log"));
            (pull, file)
        })
        .collect();
    for (mut pull, file) in pulls {
        assert!(pull.wait(2 * PATIENCE).success(), "a pull failed: {}", pull.output());
        let found = std::fs::read(&file).unwrap();
        assert!(found == content, "the bytes are the blob's");
    }
    let took = started.elapsed();
    drop(agents);

    let sent = bytes_sent(&log, &digest);
    assert!(sent >= BLOB_BYTES && sent * 100 <= BLOB_BYTES * 105, "{sent} bytes of {BLOB_BYTES} left the registry");
    let optimum = Duration::from_secs_f64(BLOB_BYTES as f64 / RATE_BYTES_PER_SECOND as f64);
    // If it were faster, the links would not be what this test is about.
    assert!(took >= optimum.mul_f64(0.8), "{took:?}, but nothing moves {BLOB_BYTES} bytes in less than {optimum:?}");
    println!("three nodes took {took:?}; one link's time for one copy is {optimum:?}");
}

/// docker-registry in the last host, with the blobs that another one stored.
fn start_registry(lab: &Lab, network: &Network, data: &Path, log: &Path) -> Process {
    let config = lab.directory("registry").join("config.yml");
    let yaml = format!(
        "version: 0.1\nlog: {{level: info, formatter: json, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: ':{REGISTRY_PORT}'}}\n",
        data.display()
    );
    std::fs::write(&config, yaml).unwrap();
    let program = find_program("docker-registry").expect("the lab has checked the parts");
    let mut process = network.spawn(NODES, "docker-registry", &program, &["serve", text(&config)], log);
    wait_for("the registry to answer", PATIENCE, || {
        process.assert_running();
        answers(lab, network, NODES, &format!("http://127.0.0.1:{REGISTRY_PORT}/v2/"))
    });
    process
}

fn start_agent(lab: &Lab, network: &Network, node: usize, members: &[String], registry: &str) -> Process {
    let home = lab.directory(&format!("agent-{node}"));
    let config = home.join("agent.toml");
    let toml = format!(
        "data_dir = {data:?}\nidentity_file = {identity:?}\nmirror_listen = \"127.0.0.1:{MIRROR_PORT}\"\n\
         peer_listen = [\"/ip4/{address}/tcp/{PEER_PORT}\"]\nstatus_listen = \"127.0.0.1:{STATUS_PORT}\"\n\
         members = {members:?}\n[registries.{registry:?}]\nplain_http = true\n",
        data = home.join("data"),
        identity = home.join("identity"),
        address = network.address(node),
    );
    std::fs::write(&config, toml).unwrap();
    let arguments = ["agent", "--config", text(&config)];
    let mut process =
        network.spawn(node, &format!("longshore {node}"), Path::new(PROGRAM), &arguments, &home.join("log"));
    wait_for("the agent to be ready", PATIENCE, || {
        process.assert_running();
        answers(lab, network, node, &format!("http://127.0.0.1:{STATUS_PORT}/readyz"))
    });
    process
}

/// Whether a GET within a host succeeds.
fn answers(lab: &Lab, network: &Network, host: usize, url: &str) -> Option<()> {
    let arguments = ["wget", "-q", "-O", "/dev/null", url];
    let mut probe = network.spawn(host, "wget", Path::new(BUSYBOX), &arguments, &lab.directory("probes").join("log"));
    probe.wait(PATIENCE).success().then_some(())
}

/// Body bytes of a blob that docker-registry says it has sent.
fn bytes_sent(log: &Path, digest: &str) -> u64 {
    let text = std::fs::read_to_string(log).unwrap();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines
        .filter(|line| line["http.request.method"] == "GET" && line["msg"] == "response completed")
        .filter(|line| line["http.request.uri"].as_str().is_some_and(|uri| uri.contains(digest)))
        .filter_map(|line| line["http.response.written"].as_u64())
        .sum()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

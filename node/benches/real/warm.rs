//! A warm blob through the mirror, against nginx serving the same file.

use std::io::Read as _;
use std::path::Path;

use crate::cpu::Cost;
use crate::harness::agent::{Agent, Settings};
use crate::harness::http::Exchange;
use crate::harness::lab::{Lab, find_program, free_port};
use crate::harness::process::Process;
use crate::harness::registry::{Access, Registry};
use crate::harness::upload::upload;
use crate::harness::{PATIENCE, wait_for};
use crate::random_bytes;
use crate::spread::Spread;

/// Large enough that a request's own cost does not show, small enough to stay in the page cache.
const BLOB_BYTES: usize = 256 * 1024 * 1024;
/// 2 GiB in a round: several tenths of a CPU second, against a clock of hundredths.
const DOWNLOADS: u64 = 8;
/// Each with all servers in turn, so that a disturbance meets all of them.
const ROUNDS: usize = 5;

/// The table.
pub(crate) fn measure(lab: &Lab) -> String {
    let registry = Registry::start(lab, Access::Anonymous);
    let content = random_bytes(1, BLOB_BYTES);
    let digest = upload(registry.port, "bench/warm", &content);
    let agent = Agent::alone(lab, &Settings::with_registry(registry.port));
    let path = Agent::blob_path(registry.port, "bench/warm", &digest);
    download(agent.mirror_port, &path);
    let sendfile = Nginx::start(lab, "nginx-sendfile", "on", &content);
    let copying = Nginx::start(lab, "nginx-read", "off", &content);

    let fetched = agent.counter("origin_bytes");
    let servers = [
        ("longshore mirror", agent.pid(), agent.mirror_port, path.as_str()),
        ("nginx, `sendfile off`", copying.process.pid(), copying.port, "/blob"),
        ("nginx, `sendfile on`", sendfile.process.pid(), sendfile.port, "/blob"),
    ];
    let mut costs: [Vec<Cost>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (costs, (_, pid, port, path)) in costs.iter_mut().zip(servers) {
            costs.push(cost(pid, port, path));
        }
    }
    assert_eq!(agent.counter("origin_bytes"), fetched, "the blob was warm");

    let mut table = "## A warm blob of 256 MiB, one client\n\n\
         | server | MB per CPU second | MB per second |\n|---|---|---|\n"
        .to_owned();
    for ((name, ..), costs) in servers.iter().zip(&costs) {
        let per_cpu_second = Spread::of(costs.iter().map(|cost| cost.megabytes_per_cpu_second()));
        let per_second = Spread::of(costs.iter().map(|cost| cost.megabytes_per_second()));
        table.push_str(&format!("| {name} | {} | {} |\n", per_cpu_second.show(0), per_second.show(0)));
    }
    table
}

fn cost(pid: u32, port: u16, path: &str) -> Cost {
    Cost::of(&[pid], DOWNLOADS * BLOB_BYTES as u64, || (0..DOWNLOADS).for_each(|_| download(port, path)))
}

/// Reads the whole body and throws it away.
pub(crate) fn download(port: u16, path: &str) {
    let mut exchange = Exchange::start(port, "GET", path, &[]).unwrap();
    let head = exchange.read_head().unwrap();
    assert_eq!(head.second_word(), "200", "{head:?}");
    let length = head.content_length().expect("a blob has a length");
    let mut buffer = vec![0; 256 * 1024];
    let mut left = length;
    while left > 0 {
        let read = exchange.body().read(&mut buffer).unwrap() as u64;
        assert!(read > 0, "{left} of {length} bytes are missing");
        left -= read;
    }
}

struct Nginx {
    process: Process,
    port: u16,
}

impl Nginx {
    fn start(lab: &Lab, name: &str, sendfile: &str, content: &[u8]) -> Self {
        let (directory, port) = (lab.directory(name), free_port());
        std::fs::write(directory.join("blob"), content).unwrap();
        let config = directory.join("nginx.conf");
        let text = format!(
            "daemon off; master_process off; pid {root}/pid; error_log {root}/error.log;\n\
             events {{}}\n\
             http {{ access_log off; sendfile {sendfile}; client_body_temp_path {root}/body; proxy_temp_path {root}/proxy;\n\
             fastcgi_temp_path {root}/fastcgi; uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;\n\
             output_buffers 2 256k; server {{ listen 127.0.0.1:{port}; root {root}; }} }}\n",
            root = directory.display()
        );
        std::fs::write(&config, text).unwrap();
        let program = find_program("nginx").expect("scripts/install-parts.sh --bench installs nginx-light");
        let arguments = ["-c", path_text(&config), "-e", "stderr"];
        let mut process = Process::spawn(name, &program, &arguments, &directory.join("log"));
        wait_for("nginx to answer", PATIENCE, || {
            process.assert_running();
            crate::harness::http::head(port, "/blob", &[]).ok().filter(|response| response.status == 200)
        });
        Self { process, port }
    }
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

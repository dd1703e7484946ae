//! Hosts on one switch: network namespaces, veth pairs, a bridge, and a token bucket at both ends of each link.

use std::path::Path;
use std::process::{Command, Stdio};

use super::lab::find_program;
use super::process::Process;

/// What a link carries in each direction: 100 Mbit/s.
pub(crate) const RATE_BYTES_PER_SECOND: u64 = 12_500_000;
/// Bytes that may go at once: above one segment as the kernel hands it over (64 KiB), so that it is not cut up.
const BURST_BYTES: u32 = 128 * 1024;
/// Longest that a packet may wait in the bucket.
const QUEUE_MILLIS: u32 = 50;

/// Some hosts, the addresses of which nobody outside can reach. Declare it before what runs in it: it goes last.
pub(crate) struct Network {
    /// Names of the namespaces; the last one holds the switch.
    namespaces: Vec<String>,
}

impl Network {
    /// `hosts` hosts on links of [`RATE_BYTES_PER_SECOND`]; `None` after saying why if this machine cannot do that.
    ///
    /// # Panics
    /// If it cannot and `CI=true`: there, a skipped proof is a failure.
    pub(crate) fn open(hosts: usize) -> Option<Self> {
        match Self::build(hosts) {
            Ok(network) => Some(network),
            Err(reason) => {
                assert!(std::env::var("CI").as_deref() != Ok("true"), "in CI nothing may be skipped: {reason}");
                eprintln!("SKIPPED: this test needs network namespaces and limited links: {reason}");
                None
            }
        }
    }

    fn build(hosts: usize) -> Result<Self, String> {
        for program in ["ip", "tc"] {
            find_program(program)
                .ok_or(format!("{program} is not installed; scripts/install-parts.sh installs iproute2"))?;
        }
        let mut network = Self { namespaces: Vec::new() };
        for number in 0..=hosts {
            let name = format!("longshore-{}-{number}", std::process::id());
            run("ip", &["netns", "add", &name])?;
            network.namespaces.push(name);
        }
        let switch = network.namespaces[hosts].clone();
        run("ip", &["-n", &switch, "link", "add", "switch", "type", "bridge"])?;
        run("ip", &["-n", &switch, "link", "set", "switch", "up"])?;
        for host in 0..hosts {
            let (name, port) = (network.namespaces[host].clone(), format!("port{host}"));
            run("ip", &["-n", &switch, "link", "add", &port, "type", "veth", "peer", "name", "net", "netns", &name])?;
            run("ip", &["-n", &switch, "link", "set", &port, "master", "switch", "up"])?;
            let address = format!("{}/24", network.address(host));
            run("ip", &["-n", &name, "address", "add", &address, "dev", "net"])?;
            run("ip", &["-n", &name, "link", "set", "net", "up"])?;
            run("ip", &["-n", &name, "link", "set", "lo", "up"])?;
            limit(&switch, &port)?;
            limit(&name, "net")?;
        }
        Ok(network)
    }

    /// A host's address.
    pub(crate) fn address(&self, host: usize) -> String {
        format!("10.77.0.{}", host + 1)
    }

    /// As [`Process::spawn`], within a host.
    pub(crate) fn spawn(&self, host: usize, name: &str, program: &Path, arguments: &[&str], log: &Path) -> Process {
        let ip = find_program("ip").expect("the network was built with it");
        let program = program.to_str().expect("paths of programs are text");
        let mut all = vec!["netns", "exec", &self.namespaces[host], program];
        all.extend(arguments);
        Process::spawn(name, &ip, &all, log)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.namespaces {
            if let Err(error) = run("ip", &["netns", "del", name]) {
                eprintln!("{error}");
            }
        }
    }
}

fn limit(namespace: &str, device: &str) -> Result<(), String> {
    let (rate, burst, latency) =
        (format!("{}bit", RATE_BYTES_PER_SECOND * 8), BURST_BYTES.to_string(), format!("{QUEUE_MILLIS}ms"));
    let bucket = ["root", "tbf", "rate", &rate, "burst", &burst, "latency", &latency];
    run("tc", &[["-n", namespace, "qdisc", "add", "dev", device].as_slice(), &bucket].concat())
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let path = find_program(program).ok_or(format!("{program} is not installed"))?;
    let output = Command::new(path).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot run {program}: {error}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    output.status.success().then_some(()).ok_or(format!("{program} {}: {}", arguments.join(" "), complaint.trim()))
}

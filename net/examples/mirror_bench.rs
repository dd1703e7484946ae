//! How much a warm blob costs: bytes per CPU second through the mirror, and through nginx serving the same file.
//!
//! `cargo run --release -p longshore-net --example mirror_bench -- [--mib 256] [--seconds 5] [--connections 4]`
//!
//! The client is a process of its own, so that the CPU time of a server is that server's alone. Prints one JSON object.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use longshore_core::digest::Digest;
use longshore_core::input::{BlobFacts, Input};
use longshore_core::names::{Kind, Source};
use longshore_core::output::Check;
use longshore_core::piece::Geometry;
use longshore_core::spine::Midstate;
use longshore_net::driver::{BlobStore, Inputs, Mirror};
use longshore_net::mirror::{MirrorConfig, MirrorServer};
use longshore_net::store::Store;
use longshore_net::store::intake::Intake;
use longshore_net::vault::Vault;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc::UnboundedReceiver;

type Failure = Box<dyn Error + Send + Sync>;

struct Settings {
    mib: usize,
    seconds: u64,
    connections: usize,
}

/// What one client run saw.
struct Run {
    bytes: u64,
    requests: u64,
    p50_micros: u64,
    p99_micros: u64,
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, address, path, seconds, connections] = &arguments[..]
        && mode == "--client"
    {
        return client(address.parse()?, path, Duration::from_secs(seconds.parse()?), connections.parse()?);
    }
    let mut settings = Settings { mib: 256, seconds: 5, connections: 4 };
    for pair in arguments.chunks(2) {
        match pair {
            [key, value] if key == "--mib" => settings.mib = value.parse()?,
            [key, value] if key == "--seconds" => settings.seconds = value.parse()?,
            [key, value] if key == "--connections" => settings.connections = value.parse()?,
            _ => return Err(format!("unknown argument {pair:?}; known: --mib, --seconds, --connections").into()),
        }
    }
    let directory = tempfile::tempdir()?;
    let bench = bench_mirror(directory.path(), &settings)?;
    let mirror = bench.large;
    let nginx = bench_nginx(directory.path(), &bench.file, &settings)?;
    let ratio = |ours: f64, theirs: f64| (ours / theirs * 1000.0).round() / 1000.0;
    println!(
        "{}",
        serde_json::json!({
            "blob_mib": settings.mib,
            "connections": settings.connections,
            "mirror_gb_per_cpu_second": mirror.0,
            "mirror_gb_per_second": mirror.1,
            "nginx_gb_per_cpu_second": nginx.0,
            "nginx_gb_per_second": nginx.1,
            "mirror_to_nginx_per_cpu_second": ratio(mirror.0, nginx.0),
            "warm_hit_4kib_p50_micros": bench.small.p50_micros,
            "warm_hit_4kib_p99_micros": bench.small.p99_micros,
            "warm_hits_4kib": bench.small.requests,
            "mirror_peak_memory_mib": bench.peak_memory_mib,
        })
    );
    Ok(())
}

/// What was measured of the mirror.
struct Mirrored {
    /// GB per CPU second, and per second, of a large blob.
    large: (f64, f64),
    /// Requests for a blob of 4 KiB.
    small: Run,
    /// While it was serving, in MiB; runtime, store and all.
    peak_memory_mib: u64,
    /// Where the large blob is.
    file: PathBuf,
}

fn bench_mirror(directory: &Path, settings: &Settings) -> Result<Mirrored, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (large, small, address) = runtime.block_on(async {
        let (sender, mut inputs) = Inputs::channel();
        let mut store = Store::open(directory, sender.clone())?;
        let bytes = noise(settings.mib << 20);
        let size = bytes.len() as u64;
        let large = put(&mut store, &mut inputs, &bytes).await?;
        let small = put(&mut store, &mut inputs, &bytes[..4096]).await?;
        let config = MirrorConfig {
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            default_registry: Some("registry.test".into()),
            ..MirrorConfig::default()
        };
        let (mut driver, address) = MirrorServer::start(config, store, Vault::new(), sender)?;
        // Plays the core.
        tokio::spawn(async move {
            while let Some(input) = inputs.recv().await {
                if let Input::Mirror { request, digest, .. } = input {
                    driver.serve(request, digest, if digest == small { 4096 } else { size }, None);
                }
            }
        });
        Ok::<_, Failure>((large, small, address))
    })?;
    // The peak counts from here on.
    std::fs::write("/proc/self/clear_refs", "5")?;
    let path = |digest| format!("/v2/app/blobs/{digest}");
    let pid = std::process::id();
    Ok(Mirrored {
        large: measured(&[pid], address, &path(large), settings.seconds, settings.connections)?,
        small: run_client(address, &path(small), settings.seconds.min(3), 1)?,
        peak_memory_mib: peak_memory_mib()?,
        file: directory.join("blobs/sha256").join(large.hex()),
    })
}

async fn put(store: &mut Store, inputs: &mut UnboundedReceiver<Input>, bytes: &[u8]) -> Result<Digest, Failure> {
    let digest = Digest::from_bytes(Sha256::digest(bytes).into());
    let source = Source { registry: "registry.test".into(), repository: "app".into(), kind: Kind::Blob };
    let facts = BlobFacts { media_type: None, source, private: false };
    let failed = |error| format!("cannot store the blob: {error:?}");
    store.stage_now(digest, bytes.len() as u64, facts.clone()).map_err(failed)?;
    let geometry = Geometry::of_blob(bytes.len() as u64);
    let mut intake = Intake::open(store, digest, geometry, 0, Check::From(Midstate::INITIAL)).map_err(failed)?;
    intake.write(bytes, |_| ()).map_err(failed)?;
    intake.finish(|_| ());
    store.commit(digest, facts);
    loop {
        match inputs.recv().await.ok_or("the store is gone")? {
            Input::Committed { result, .. } => return result.map(|()| digest).map_err(|error| failed(error).into()),
            _ => continue,
        }
    }
}

/// nginx in the foreground, with one worker, as Debian configures it (sendfile, tcp_nopush).
struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGQUIT would be nicer; nothing of value is lost in a benchmark. Its worker ends with it.
        let _ = Command::new("kill").arg("-TERM").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

fn bench_nginx(directory: &Path, file: &Path, settings: &Settings) -> Result<(f64, f64), Failure> {
    let root = directory.join("nginx");
    std::fs::create_dir_all(&root)?;
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let (configuration, at, file) = (root.join("nginx.conf"), root.display(), file.display());
    std::fs::write(
        &configuration,
        format!(
            "daemon off; user root; worker_processes 1; pid {at}/pid; error_log {at}/error.log;\n\
             events {{ worker_connections 512; }}\n\
             http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;\n\
             client_body_temp_path {at}/a; proxy_temp_path {at}/b; fastcgi_temp_path {at}/c; uwsgi_temp_path {at}/d;\n\
             scgi_temp_path {at}/e; server {{ listen {address}; location = /blob {{ alias {file}; }} }} }}\n"
        ),
    )?;
    let child =
        Command::new("nginx").arg("-p").arg(&root).arg("-c").arg(&configuration).stderr(Stdio::null()).spawn()?;
    let nginx = Nginx(child);
    let (master, started) = (nginx.0.id(), Instant::now());
    // The master listens before it has a worker.
    let pids: Vec<u32> = loop {
        let children = std::fs::read_to_string(format!("/proc/{master}/task/{master}/children"))?;
        if !children.is_empty() && TcpStream::connect(address).is_ok() {
            break children.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        }
        if started.elapsed() > Duration::from_secs(10) {
            return Err(format!("nginx does not listen on {address}; see {at}/error.log").into());
        }
        std::thread::yield_now();
    };
    measured(&pids, address, "/blob", settings.seconds, settings.connections)
}

fn measured(
    pids: &[u32],
    address: SocketAddr,
    path: &str,
    seconds: u64,
    connections: usize,
) -> Result<(f64, f64), Failure> {
    run_client(address, path, 1, connections)?;
    let before = cpu_seconds(pids)?;
    let started = Instant::now();
    let run = run_client(address, path, seconds, connections)?;
    let (spent, passed) = (cpu_seconds(pids)? - before, started.elapsed().as_secs_f64());
    let gigabytes = run.bytes as f64 / 1e9;
    let round = |value: f64| (value * 1000.0).round() / 1000.0;
    Ok((round(gigabytes / spent), round(gigabytes / passed)))
}

/// User and system time of processes, all their threads included. The unit of /proc is 10 ms on every Linux.
fn cpu_seconds(pids: &[u32]) -> Result<f64, Failure> {
    let mut ticks = 0;
    for pid in pids {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields: Vec<&str> = stat.rsplit_once(')').ok_or("no command in stat")?.1.split_whitespace().collect();
        ticks += fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    }
    Ok(ticks as f64 / 100.0)
}

fn peak_memory_mib() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.split_whitespace().nth(1).ok_or("no value")?.parse::<u64>()? / 1024)
}

fn run_client(address: SocketAddr, path: &str, seconds: u64, connections: usize) -> Result<Run, Failure> {
    let own: PathBuf = std::env::current_exe()?;
    let arguments = ["--client", &address.to_string(), path, &seconds.to_string(), &connections.to_string()];
    let output = Command::new(own).args(arguments).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err("the client failed".into());
    }
    let text = String::from_utf8(output.stdout)?;
    let figures: Vec<u64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let [bytes, requests, p50_micros, p99_micros] = figures[..] else { return Err("the client says nothing".into()) };
    Ok(Run { bytes, requests, p50_micros, p99_micros })
}

/// Gets `path` again and again on kept connections, and prints bytes, requests, and the latencies of whole requests.
fn client(address: SocketAddr, path: &str, time: Duration, connections: usize) -> Result<(), Failure> {
    let workers: Vec<_> = (0..connections)
        .map(|_| {
            let path = path.to_owned();
            std::thread::spawn(move || drain(address, &path, time))
        })
        .collect();
    let (mut bytes, mut latencies) = (0, Vec::new());
    for worker in workers {
        let (read, mut micros) = worker.join().map_err(|_| "a client thread panicked")??;
        bytes += read;
        latencies.append(&mut micros);
    }
    latencies.sort_unstable();
    let at = |percent: usize| latencies.get(latencies.len() * percent / 100).or(latencies.last()).copied().unwrap_or(0);
    println!("{bytes} {} {} {}", latencies.len(), at(50), at(99));
    Ok(())
}

fn drain(address: SocketAddr, path: &str, time: Duration) -> Result<(u64, Vec<u64>), Failure> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n");
    let mut buffer = vec![0; 256 * 1024];
    let (mut total, mut latencies, started) = (0, Vec::new(), Instant::now());
    while started.elapsed() < time {
        let asked = Instant::now();
        stream.write_all(request.as_bytes())?;
        let mut filled = 0;
        let head = loop {
            let read = stream.read(&mut buffer[filled..])?;
            if read == 0 {
                return Err("the server closed the connection".into());
            }
            filled += read;
            if let Some(end) = buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let text = std::str::from_utf8(&buffer[..head])?.to_ascii_lowercase();
        let len = text.lines().find_map(|line| line.strip_prefix("content-length: ")).ok_or("no length")?;
        let mut remaining = len.parse::<u64>()? - (filled - head) as u64;
        total += (filled - head) as u64;
        while remaining > 0 {
            let read = stream.read(&mut buffer)? as u64;
            if read == 0 {
                return Err("the body ended early".into());
            }
            remaining -= read;
            total += read;
        }
        latencies.push(u64::try_from(asked.elapsed().as_micros())?);
    }
    Ok((total, latencies))
}

/// Bytes that nothing can compress; the same in every run.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

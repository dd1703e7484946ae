//! Measures what pieces cost between two nodes on loopback: with noise and with TLS, everything included (encryption,
//! multiplexing, hashing, reading and writing files).
//!
//! `cargo run --release -p longshore-net --example piece_bench [BLOB_MIB] [PARALLEL]`

use std::error::Error;
use std::time::{Duration, Instant};

use longshore_core::digest::Digest;
use longshore_core::input::{BlobFacts, Input, TransferEvent};
use longshore_core::message::{PullIntent, Request, Response};
use longshore_core::names::{CallId, Kind, OpId, Source};
use longshore_core::output::Check;
use longshore_core::piece::Geometry;
use longshore_net::driver::{Inputs, Peers as _};
use longshore_net::peers::{Config, Encryption, Identity, PeersDriver};
use longshore_net::store::Store;
use longshore_net::store::intake::Intake;
use tokio::sync::mpsc::UnboundedReceiver;

const CALLS: u64 = 2_000;

struct Node {
    driver: PeersDriver,
    store: Store,
    inputs: UnboundedReceiver<Input>,
    _directory: tempfile::TempDir,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mib: u64 = arguments.next().map_or(Ok(1024), |text| text.parse())?;
    let parallel: usize = arguments.next().map_or(Ok(8), |text| text.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!("channel  pieces of  MB/s   MB per CPU second  calls: mean  CPU each   peak memory of both nodes");
    for encryption in [Encryption::Noise, Encryption::Tls, Encryption::Noise, Encryption::Tls] {
        runtime.block_on(measure(encryption, mib * 1024 * 1024, parallel))?;
    }
    Ok(())
}

async fn measure(encryption: Encryption, size: u64, parallel: usize) -> Result<(), Box<dyn Error>> {
    let config = Config { listen: vec!["/ip4/127.0.0.1/tcp/0".into()], encryption, ..Config::default() };
    let (mut server, address) = start(&config).await?;
    let (mut client, _) = start(&config).await?;
    client.driver.learn(address.peer_id.clone(), address.reachable.clone());

    let digest = Digest::from_bytes([7; 32]);
    let geometry = Geometry::of_blob(size);
    for node in [&server, &client] {
        node.store.stage_now(digest, size, facts()).map_err(|error| format!("{error:?}"))?;
    }
    let block: Vec<u8> = (0..1_048_573_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut intake =
        Intake::open(&server.store, digest, geometry, 0, Check::Alone).map_err(|error| format!("{error:?}"))?;
    while intake.position() < size {
        let left = usize::try_from(size - intake.position())?.min(block.len());
        intake.write(&block[..left], |_| ()).map_err(|error| format!("{error:?}"))?;
    }
    let serving = tokio::spawn(async move {
        while let Some(input) = server.inputs.recv().await {
            match input {
                Input::StreamOpened { stream, .. } => server.driver.admit(stream, 1 << 20),
                Input::StreamRequest { stream, .. } => {
                    server.driver.reply(stream, Response::PullIntent(PullIntent::default()));
                }
                Input::PieceRequested { stream, request } => {
                    let range = Geometry::of_blob(request.size).range(request.piece);
                    server.driver.serve_piece(stream, request.digest, range.start, range.end - range.start, None);
                }
                _ => {}
            }
        }
    });

    // Connects, so that no handshake is measured.
    call(&mut client, &address.peer_id, 0).await;
    let (wall, cpu) = (Instant::now(), cpu_time()?);
    let mut next = 0;
    let mut running = 0;
    while next < geometry.pieces() || running > 0 {
        while running < parallel && next < geometry.pieces() {
            let peer = address.peer_id.clone();
            client.driver.fetch_piece(OpId(next.into()), peer, digest, size, next, Check::Alone);
            next += 1;
            running += 1;
        }
        match client.inputs.recv().await.ok_or("the driver has ended")? {
            Input::Transfer { event: TransferEvent::Done, .. } => running -= 1,
            Input::Transfer { event: TransferEvent::Failed(failure), .. } => return Err(format!("{failure:?}").into()),
            _ => {}
        }
    }
    let (wall, cpu) = (wall.elapsed(), cpu_time()? - cpu);
    let megabytes = size as f64 / 1e6;

    let (calls_wall, calls_cpu) = (Instant::now(), cpu_time()?);
    for number in 1..=CALLS {
        call(&mut client, &address.peer_id, number).await;
    }
    let (calls_wall, calls_cpu) = (calls_wall.elapsed(), cpu_time()? - calls_cpu);
    println!(
        "{:7}  {:5} KiB  {:5.0}  {:17.0}  {:8.0} us  {:5.0} us   {}",
        format!("{encryption:?}"),
        geometry.piece_bytes() / 1024,
        megabytes / wall.as_secs_f64(),
        megabytes / cpu.as_secs_f64(),
        calls_wall.as_secs_f64() / CALLS as f64 * 1e6,
        calls_cpu.as_secs_f64() / CALLS as f64 * 1e6,
        peak_memory()?,
    );
    client.driver.stop().await;
    serving.abort();
    Ok(())
}

async fn call(client: &mut Node, peer: &longshore_core::names::PeerId, number: u64) {
    let request = Request::PullIntent { digest: Digest::from_bytes([7; 32]), leads: false };
    client.driver.call(CallId(number), peer.clone(), request, Duration::from_secs(2));
    while let Some(input) = client.inputs.recv().await {
        match input {
            Input::Reply { .. } => return,
            Input::CallFailed { error, .. } => panic!("the call failed: {error:?}"),
            _ => {}
        }
    }
}

async fn start(config: &Config) -> Result<(Node, longshore_net::peers::LocalPeer), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let (sender, inputs) = Inputs::channel();
    let store = Store::open(directory.path(), sender.clone())?;
    let (driver, local) = PeersDriver::start(config, &Identity::generate(), store.clone(), sender).await?;
    Ok((Node { driver, store, inputs, _directory: directory }, local))
}

fn facts() -> BlobFacts {
    let source = Source { registry: "registry.test".into(), repository: "app".into(), kind: Kind::Blob };
    BlobFacts { media_type: None, source, private: false }
}

/// User and system time of this process so far (`/proc/self/stat`, fields 14 and 15, in hundredths of a second).
fn cpu_time() -> Result<Duration, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').ok_or("no command name")?.1.split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(str::parse::<u64>).sum::<Result<_, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}

fn peak_memory() -> Result<String, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().to_owned())
}

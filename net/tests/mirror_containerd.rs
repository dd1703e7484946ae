//! A real containerd in front of the mirror, a real registry behind it: what happens when a body is cut short.
//!
//! Needs containerd, runc, docker-registry, umoci and skopeo, and root; without them it says so and passes.

#![expect(clippy::unwrap_used, reason = "a test: a part that fails fails it")]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use longshore_core::digest::Digest;
use longshore_core::input::{BlobFacts, Input, Method};
use longshore_core::names::{Kind, Source};
use longshore_core::output::{Check, Refusal};
use longshore_core::piece::Geometry;
use longshore_core::spine::Midstate;
use longshore_net::driver::{BlobStore, Inputs, Mirror};
use longshore_net::mirror::{MirrorConfig, MirrorServer};
use longshore_net::store::Store;
use longshore_net::store::intake::Intake;
use longshore_net::vault::Vault;

const PATIENCE: Duration = Duration::from_secs(60);

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // containerd has no containers here, and the registry no state that matters.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(directory: &Path, program: &str, arguments: &[&str]) -> Running {
    let log = std::fs::File::create(directory.join(format!("{program}.log"))).unwrap();
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Running(command.spawn().unwrap_or_else(|error| panic!("{program} does not start: {error}")))
}

fn run(directory: &Path, program: &str, arguments: &[&str]) -> String {
    // A pull that hangs fails the test instead of hanging it.
    let output = Command::new("timeout").args(["60", program]).args(arguments).current_dir(directory).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    text
}

fn wait_for(what: &str, mut check: impl FnMut() -> bool) {
    let started = Instant::now();
    while !check() {
        assert!(started.elapsed() < PATIENCE, "{what} does not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A registry with an image of one layer; gives the layer's digest and file.
fn registry(directory: &Path, address: SocketAddr) -> (Running, Digest, PathBuf) {
    let config = format!(
        "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
        directory.join("registry").display()
    );
    std::fs::write(directory.join("registry.yml"), config).unwrap();
    let registry = start(directory, "docker-registry", &["serve", directory.join("registry.yml").to_str().unwrap()]);
    let mut state = 1_u64;
    let noise: Vec<u8> = (0..4 << 20)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect();
    std::fs::write(directory.join("noise"), noise).unwrap();
    run(directory, "umoci", &["init", "--layout", "layout"]);
    run(directory, "umoci", &["new", "--image", "layout:v1"]);
    run(directory, "umoci", &["insert", "--image", "layout:v1", "noise", "/noise"]);
    wait_for("the registry", || TcpStream::connect(address).is_ok());
    let target = format!("docker://{address}/app:v1");
    run(directory, "skopeo", &["copy", "--dest-tls-verify=false", "oci:layout:v1", &target]);
    let blobs = std::fs::read_dir(directory.join("layout/blobs/sha256")).unwrap();
    let layer = blobs.map(|blob| blob.unwrap().path()).max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let digest = format!("sha256:{}", layer.file_name().unwrap().to_str().unwrap()).parse().unwrap();
    (registry, digest, layer)
}

fn containerd(directory: &Path) -> (Running, String) {
    let (at, socket) = (directory.display(), directory.join("containerd.sock").display().to_string());
    let config = format!(
        "version = 2\nroot = '{at}/root'\nstate = '{at}/state'\ndisabled_plugins = ['io.containerd.grpc.v1.cri']\n\
         [grpc]\naddress = '{socket}'\n[plugins.'io.containerd.internal.v1.opt']\npath = '{at}/opt'\n"
    );
    std::fs::write(directory.join("containerd.toml"), config).unwrap();
    let containerd = start(directory, "containerd", &["-c", directory.join("containerd.toml").to_str().unwrap()]);
    let answers = || Command::new("ctr").args(["-a", &socket, "version"]).output().is_ok_and(|o| o.status.success());
    wait_for("containerd", answers);
    (containerd, socket)
}

#[test]
fn a_layer_that_is_cut_short_is_finished_by_containerd_from_the_registry() {
    let parts = ["containerd", "ctr", "docker-registry", "umoci", "skopeo"];
    let has = |part: &&str| Command::new(part).arg("--version").output().is_ok();
    if let Some(missing) = parts.iter().find(|part| !has(part)) {
        eprintln!("skipped: {missing} is not installed");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let registry_address = free_address();
    let (_registry, layer, file) = registry(directory, registry_address);
    let (_containerd, socket) = containerd(directory);
    let bytes = std::fs::read(file).unwrap();
    // Half of it; whole MiB, because that is how containerd writes.
    let half = 2 << 20;

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let (sender, mut inputs) = Inputs::channel();
    let mut store = Store::open(&directory.join("store"), sender.clone()).unwrap();
    let config = MirrorConfig { bind: SocketAddr::from(([127, 0, 0, 1], 0)), ..MirrorConfig::default() };
    let (mut driver, mirror) = MirrorServer::start(config, store.clone(), Vault::new(), sender).unwrap();
    stage(&mut store, layer, &bytes);

    let ingests = directory.join("root/io.containerd.content.v1.content/ingest");
    // Plays a core that has half of the layer, and loses the rest.
    let player = runtime.spawn(async move {
        let (mut gets, mut sent) = (0, Vec::new());
        while let Some(input) = inputs.recv().await {
            match input {
                Input::Mirror { request, method, digest, .. } if digest == layer => {
                    gets += u64::from(method == Method::Get);
                    if gets <= 1 {
                        driver.serve(request, digest, bytes.len() as u64, None);
                        store.release(digest, half);
                        if method == Method::Get {
                            while ingested(&ingests) < half {
                                tokio::time::sleep(Duration::from_millis(20)).await;
                            }
                            driver.abort(request);
                        }
                    } else {
                        driver.refuse(request, Refusal::NotHere);
                    }
                }
                Input::Mirror { request, .. } => driver.refuse(request, Refusal::NotHere),
                Input::MirrorClosed { sent_bytes, .. } if sent_bytes > 0 => sent.push(sent_bytes),
                _ => {}
            }
            if gets >= 2 {
                break;
            }
        }
        sent
    });

    let hosts = directory.join("hosts").join(registry_address.to_string());
    std::fs::create_dir_all(&hosts).unwrap();
    let hosts_toml = format!(
        "server = 'http://{registry_address}'\n[host.'http://{mirror}']\ncapabilities = ['pull']\ndial_timeout = '200ms'\n"
    );
    std::fs::write(hosts.join("hosts.toml"), hosts_toml).unwrap();
    let image = format!("{registry_address}/app:v1");
    let hosts = directory.join("hosts");
    run(directory, "ctr", &["-a", &socket, "images", "pull", "--hosts-dir", hosts.to_str().unwrap(), &image]);
    let content = run(directory, "ctr", &["-a", &socket, "content", "ls", "-q"]);
    assert!(content.contains(&layer.to_string()), "{content}");
    let sent = runtime.block_on(async { tokio::time::timeout(PATIENCE, player).await }).expect("a second try").unwrap();
    assert_eq!(sent, [half], "containerd got half from us, and asked again");
    let log = std::fs::read_to_string(directory.join("docker-registry.log")).unwrap();
    assert!(log.contains("http.response.status=206"), "the registry sent the other half only:\n{log}");
}

/// Bytes of the largest blob that containerd is writing.
fn ingested(ingests: &Path) -> u64 {
    let entries = std::fs::read_dir(ingests).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.path().join("data").metadata().ok()?.len())).max().unwrap_or(0)
}

fn stage(store: &mut Store, digest: Digest, bytes: &[u8]) {
    let source = Source { registry: "registry.test".into(), repository: "app".into(), kind: Kind::Blob };
    store.stage_now(digest, bytes.len() as u64, BlobFacts { media_type: None, source, private: false }).unwrap();
    let geometry = Geometry::of_blob(bytes.len() as u64);
    let mut intake = Intake::open(store, digest, geometry, 0, Check::From(Midstate::INITIAL)).unwrap();
    intake.write(bytes, |_| ()).unwrap();
    intake.finish(|_| ());
}

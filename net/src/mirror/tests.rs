//! A mirror on a free port with a real store, a raw client before it and a player of the core behind it.

mod bodies;
mod connections;
mod heads;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::digest::Digest;
use longshore_core::input::{BlobFacts, Input};
use longshore_core::names::{Kind, RequestId, Source};
use longshore_core::output::{Check, Refusal};
use longshore_core::piece::Geometry;
use longshore_core::spine::Midstate;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;

use super::{MirrorConfig, MirrorDriver, MirrorServer};
use crate::driver::{BlobStore, Inputs, Mirror};
use crate::store::Store;
use crate::store::intake::Intake;
use crate::vault::Vault;

/// Longer than anything here takes, shorter than patience.
const LIMIT: Duration = Duration::from_secs(30);

async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("{what} does not happen"))
}

struct Rig {
    _directory: TempDir,
    store: Store,
    driver: MirrorDriver,
    inputs: UnboundedReceiver<Input>,
    address: SocketAddr,
}

fn loopback() -> MirrorConfig {
    MirrorConfig {
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        default_registry: Some("registry.test:5000".into()),
        ..MirrorConfig::default()
    }
}

impl Rig {
    async fn start() -> Self {
        Self::with(loopback()).await
    }

    async fn with(config: MirrorConfig) -> Self {
        let directory = TempDir::new().unwrap();
        let (sender, inputs) = Inputs::channel();
        let store = Store::open(directory.path(), sender.clone()).unwrap();
        let (driver, address) = MirrorServer::start(config, store.clone(), Vault::new(), sender).unwrap();
        let mut rig = Self { _directory: directory, store, driver, inputs, address };
        assert!(matches!(rig.input().await, Input::Recovered { .. }));
        rig
    }

    async fn input(&mut self) -> Input {
        soon("an input", self.inputs.recv()).await.unwrap()
    }

    /// The next input, which has to be a mirror request.
    async fn asked(&mut self) -> RequestId {
        match self.input().await {
            Input::Mirror { request, .. } => request,
            other => panic!("expected a mirror request, found {other:?}"),
        }
    }

    /// The next input, which has to be the end of `request`; gives the bytes sent.
    async fn closed(&mut self, request: RequestId) -> u64 {
        match self.input().await {
            Input::MirrorClosed { request: closed, sent_bytes } if closed == request => sent_bytes,
            other => panic!("expected the end of {request:?}, found {other:?}"),
        }
    }

    fn stage(&mut self, bytes: &[u8]) -> Digest {
        let digest = digest_of(bytes);
        self.store.stage_now(digest, bytes.len() as u64, facts()).unwrap();
        let geometry = Geometry::of_blob(bytes.len() as u64);
        let mut intake = Intake::open(&self.store, digest, geometry, 0, Check::From(Midstate::INITIAL)).unwrap();
        intake.write(bytes, |_| ()).unwrap();
        intake.finish(|_| ());
        digest
    }

    async fn commit(&mut self, bytes: &[u8]) -> Digest {
        let digest = self.stage(bytes);
        self.store.commit(digest, facts());
        assert_eq!(self.input().await, Input::Committed { digest, result: Ok(()) });
        digest
    }

    async fn connect(&self) -> Client {
        Client(soon("a connection", TcpStream::connect(self.address)).await.unwrap())
    }

    /// Sends a request that the core is not asked about, on a connection of its own; gives all that comes back.
    async fn exchange(&self, request: &str) -> Answer {
        let mut client = self.connect().await;
        client.send(request).await;
        client.answer_and_end().await
    }

    /// Sends a request for a digest, lets the core serve it, and gives all that comes back.
    async fn served(&mut self, request: &str, digest: Digest, size: u64, media_type: Option<&str>) -> Answer {
        let mut client = self.connect().await;
        client.send(request).await;
        let id = self.asked().await;
        self.driver.serve(id, digest, size, media_type.map(Into::into));
        let answer = client.answer_and_end().await;
        assert_eq!(self.closed(id).await, answer.body.len() as u64 * u64::from(answer.status < 400));
        answer
    }

    async fn refused(&mut self, request: &str, refusal: Refusal) -> Answer {
        let mut client = self.connect().await;
        client.send(request).await;
        let id = self.asked().await;
        self.driver.refuse(id, refusal);
        let answer = client.answer_and_end().await;
        assert_eq!(self.closed(id).await, 0);
        answer
    }
}

/// A client that sees every byte, and tells FIN from RST.
struct Client(TcpStream);

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn of(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Self { status, head, body: bytes[end..].to_vec() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// The head without what changes from day to day.
    fn block(&self) -> String {
        let lines = self.head.lines().filter(|line| !line.starts_with("date: ") && !line.is_empty());
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Head and body.
    fn text(&self) -> String {
        format!("{}\n\n{}", self.block(), String::from_utf8_lossy(&self.body))
    }
}

impl Client {
    async fn send(&mut self, request: &str) {
        soon("a write", self.0.write_all(request.as_bytes())).await.unwrap();
    }

    /// Everything until FIN. Fails on RST.
    async fn all(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        soon("the end of the connection", self.0.read_to_end(&mut bytes)).await.expect("FIN, not RST");
        bytes
    }

    async fn answer_and_end(&mut self) -> Answer {
        Answer::of(&self.all().await)
    }

    async fn head(&mut self) -> Answer {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            bytes.push(soon("a head", self.0.read_u8()).await.unwrap());
        }
        Answer::of(&bytes)
    }

    async fn exactly(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        soon("the bytes", self.0.read_exact(&mut bytes)).await.unwrap();
        bytes
    }

    /// An answer on a connection that stays open.
    async fn answer(&mut self) -> Answer {
        let mut answer = self.head().await;
        let len = answer.header("content-length").expect("a length").parse().unwrap();
        answer.body = self.exactly(len).await;
        answer
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: mirror\r\nConnection: close\r\n\r\n")
}

fn get_blob(digest: Digest) -> String {
    get(&format!("/v2/app/blobs/{digest}"))
}

fn with_header(request: &str, header: &str) -> String {
    request.replacen("\r\n\r\n", &format!("\r\n{header}\r\n\r\n"), 1)
}

fn facts() -> BlobFacts {
    let source = Source { registry: "registry.test".into(), repository: "app".into(), kind: Kind::Blob };
    BlobFacts { media_type: None, source, private: false }
}

fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(bytes).into())
}

/// Bytes that are different at every offset of interest.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| ((at * 131 + at / 997) % 251) as u8).collect()
}

/// The name of nothing in particular.
fn some_digest() -> Digest {
    Digest::from_bytes([0x5a; 32])
}

fn challenges(texts: &[&str]) -> Refusal {
    Refusal::Unauthorized { challenge: texts.iter().map(|text| Arc::from(*text)).collect() }
}

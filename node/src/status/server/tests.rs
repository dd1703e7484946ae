use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use longshore_core::metrics::Counters;

use super::*;
use crate::http::client::Client;

/// The status of an agent that has nothing to do.
fn idle_status(name: &str, peer: &str) -> longshore_core::agent::status::Status {
    longshore_core::agent::status::Status {
        name: name.to_owned(),
        peer: longshore_core::names::PeerId::new(peer),
        ready: true,
        reason: None,
        members: 1,
        blobs: 0,
        blob_bytes: 0,
        partial_blobs: 0,
        announced: 0,
        failures: 0,
        mirror_requests: 0,
        streams: 0,
        calls: 0,
        deadlines: 0,
        origin_fetches: 0,
        origin_fetches_limit: 4,
        limiting: Vec::new(),
        flights: Vec::new(),
        peers: Vec::new(),
    }
}

/// Whether it is ready by its own word.
struct Fake(Arc<AtomicBool>);

impl Running for Fake {
    fn peer_id(&self) -> String {
        "12D3KooWFake".to_owned()
    }
    fn mirror_address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 5000))
    }
    fn peer_addresses(&self) -> Vec<String> {
        vec!["/ip4/127.0.0.1/tcp/4001".to_owned()]
    }
    fn look(&self) -> BoxFuture<'_, Option<Look>> {
        let ready = self.0.load(Ordering::Relaxed);
        Box::pin(async move {
            let mut status = idle_status("n1", "12D3KooWFake");
            status.ready = ready;
            status.reason = (!ready).then(|| "the blob store is being read".to_owned());
            (status.blobs, status.blob_bytes, status.members) = (2, 5, 3);
            let connected = [longshore_core::names::PeerId::new("12D3KooWOther")].into();
            Some(Look {
                counters: Counters { peer_bytes: 11, ..Counters::default() },
                status,
                connected,
                journal: None,
            })
        })
    }
    fn drain(&self, _timeout: Duration) -> BoxFuture<'_, bool> {
        Box::pin(async { true })
    }
}

async fn started() -> (StatusServer, Client) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let settings = Settings { status_listen: Some(address), node_name: Some("n1".to_owned()), ..Settings::default() };
    (StatusServer::start(&settings).await.unwrap(), Client::new().unwrap())
}

async fn get(server: &StatusServer, client: &Client, path: &str) -> (u16, String) {
    let url = format!("http://{}{path}", server.address().unwrap());
    let (status, body) = client.get(&url, 1 << 20, Duration::from_secs(5)).await.unwrap();
    (status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn an_agent_is_alive_always_and_ready_between_start_and_drain() {
    let (server, client) = started().await;
    assert_eq!(get(&server, &client, "/livez").await.0, 200);
    let (status, body) = get(&server, &client, "/readyz").await;
    assert!(status == 503 && body.starts_with("starting"), "{status} {body}");
    let ready = Arc::new(AtomicBool::new(false));
    server.attach(Arc::new(Fake(Arc::clone(&ready))));
    server.enter(Phase::Ready);
    let (status, body) = get(&server, &client, "/readyz").await;
    assert!(status == 503 && body.starts_with("the blob store is being read"), "{status} {body}");
    ready.store(true, Ordering::Relaxed);
    assert_eq!(get(&server, &client, "/readyz").await, (200, "ok\n".to_owned()));
    server.enter(Phase::Draining);
    let (status, body) = get(&server, &client, "/readyz").await;
    assert!(status == 503 && body.starts_with("draining"), "{status} {body}");
    assert_eq!(get(&server, &client, "/livez").await.0, 200);
}

#[tokio::test]
async fn metrics_and_status_say_what_the_agent_says() {
    let (server, client) = started().await;
    server.attach(Arc::new(Fake(Arc::new(AtomicBool::new(true)))));
    server.enter(Phase::Ready);
    let values = metrics::parse(&get(&server, &client, "/metrics").await.1);
    let value = |name: &str| values.get(name).copied();
    assert_eq!(value("longshore_peer_bytes_total"), Some(11));
    assert_eq!(value("longshore_stored_bytes"), Some(5));
    assert_eq!(value("longshore_members"), Some(3));
    assert_eq!(value("longshore_peers_connected"), Some(1));
    assert_eq!(value("longshore_ready"), Some(1));
    let status: Status = serde_json::from_str(&get(&server, &client, "/status").await.1).unwrap();
    assert_eq!((status.node.as_str(), status.peer.as_str()), ("n1", "12D3KooWFake"));
    assert_eq!(status.counters.get("peer_bytes"), Some(&11));
}

#[tokio::test]
async fn unknown_paths_say_which_paths_there_are() {
    let (server, client) = started().await;
    let (status, body) = get(&server, &client, "/").await;
    assert!(status == 404 && body.contains("/status"), "{status} {body}");
}

#[tokio::test]
async fn a_taken_port_is_reported_with_its_key_and_what_to_do() {
    let (server, _) = started().await;
    let settings = Settings { status_listen: server.address(), ..Settings::default() };
    let error = StatusServer::start(&settings).await.err().unwrap().to_string();
    assert!(error.contains("status_listen") && error.contains("another program has this port"), "{error}");
}

//! The mirror as containerd's contract wants it, over real sockets and with a real registry behind it.

use crate::harness::PATIENCE;
use crate::harness::faulty::Door;
use crate::harness::http::{self, Ending, Exchange, Response};
use crate::harness::image::Blob;
use crate::harness::lab::Lab;
use crate::harness::wait_for;
use crate::harness::world::{MIB, REPOSITORY, World};

/// A node whose agent has nothing yet.
struct Bench {
    world: World,
    _lab: Lab,
}

impl Bench {
    fn new(extra: &str) -> Option<Self> {
        let lab = Lab::open()?;
        let world = World::guarded(&lab, 1, &[2 * MIB], extra, Door::Open);
        Some(Self { world, _lab: lab })
    }

    fn port(&self) -> u16 {
        self.world.cluster.agents[0].mirror_port
    }

    fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        http::get(self.port(), path, headers).unwrap()
    }

    fn layer(&self) -> (Blob, String, Vec<u8>) {
        let layer = self.world.image.largest_layer().clone();
        let (path, content) = (self.world.blob_path(&layer), self.world.image.read(&layer));
        (layer, path, content)
    }
}

/// An error as the OCI specification wants it, with a length, naming the agent.
fn assert_oci_error(response: &Response, what: &str) {
    assert_eq!(response.ending, Ending::Complete, "{what}");
    response.header("content-length");
    let body: serde_json::Value =
        serde_json::from_slice(&response.body).unwrap_or_else(|error| panic!("{what}: {error} in {}", response.text()));
    assert!(body["errors"][0]["code"].is_string(), "{what}: {body}");
    assert!(body["errors"][0]["message"].as_str().is_some_and(|text| text.contains("longshore")), "{what}: {body}");
}

#[test]
fn ranges_are_answered_to_the_byte_cold_and_warm() {
    let Some(bench) = Bench::new("") else { return };
    let (layer, path, content) = bench.layer();
    let (size, len) = (layer.size, content.len());
    let beyond = format!("bytes=2000-{}", size + 5000);
    let outside = format!("bytes={}-{}", size + 5000, size + 10000);
    let from_the_end = format!("bytes={}-", size - 1);
    let cases: &[(&str, Option<std::ops::Range<usize>>)] = &[
        ("bytes=1000000-", Some(1_000_000..len)),
        ("bytes=0-", Some(0..len)),
        ("bytes=500-1499", Some(500..1500)),
        ("bytes=500-", Some(500..len)),
        ("bytes=-500", Some(len - 500..len)),
        ("bytes=0-0", Some(0..1)),
        (&from_the_end, Some(len - 1..len)),
        (&beyond, Some(2000..len)),
        ("bytes=500-0", None),
        (&outside, None),
    ];
    for round in ["cold", "warm"] {
        for (range, expected) in cases {
            let response = bench.get(&path, &[("range", range)]);
            let what = format!("{round} {range}: {:?}", response.head);
            match expected {
                Some(expected) => {
                    assert_eq!((response.status, response.ending), (206, Ending::Complete), "{what}");
                    let content_range = format!("bytes {}-{}/{size}", expected.start, expected.end - 1);
                    assert_eq!(response.header("content-range"), content_range, "{what}");
                    assert!(response.body == content[expected.clone()], "{what}: other bytes");
                }
                None => {
                    assert_eq!(response.status, 416, "{what}");
                    assert_eq!(response.header("content-range"), format!("bytes */{size}"), "{what}");
                }
            }
        }
    }
    for ignored in ["bytes=0-1,5-6", "lines=1-2", "bytes=x-"] {
        let response = bench.get(&path, &[("range", ignored)]);
        assert!(response.status == 200 && response.body == content, "{ignored}: {:?}", response.head);
    }
    assert_eq!(bench.world.bytes_to_agents(&layer), size, "all of this took one copy");
}

#[test]
fn head_says_the_same_as_get_without_a_body_and_without_a_pull() {
    let Some(bench) = Bench::new("") else { return };
    let (layer, path, _) = bench.layer();
    let image = &bench.world.image;
    let cold = http::head(bench.port(), &path, &[]).unwrap();
    assert_eq!(cold.status, 200, "{:?}", cold.head);
    assert_eq!(cold.header("content-length"), layer.size.to_string());
    assert_eq!(cold.header("docker-content-digest"), layer.digest);
    assert_eq!(bench.world.bytes_to_agents(&layer), 0, "HEAD fetches no body");

    let manifest_path = bench.world.manifest_path();
    let headers = [("accept", http::MANIFEST_TYPES)];
    let head = http::head(bench.port(), &manifest_path, &headers).unwrap();
    let get = bench.get(&manifest_path, &headers);
    for response in [&head, &get] {
        assert_eq!(response.status, 200, "{:?}", response.head);
        assert_eq!(response.header("content-type"), "application/vnd.oci.image.manifest.v1+json");
        assert_eq!(response.header("content-length"), image.manifest.size.to_string());
        assert_eq!(response.header("docker-content-digest"), image.manifest.digest);
    }
    assert!(head.body.is_empty() && get.body == image.read(&image.manifest));
}

#[test]
fn bytes_are_never_encoded() {
    let Some(bench) = Bench::new("") else { return };
    let (_, path, content) = bench.layer();
    let response = bench.get(&path, &[("accept-encoding", "zstd, gzip, deflate")]);
    assert_eq!(response.head.header("content-encoding"), None);
    assert_eq!(response.head.header("transfer-encoding"), None);
    assert!(response.body == content);
}

#[test]
fn ping_says_registry_and_writes_are_not_allowed() {
    let Some(bench) = Bench::new("") else { return };
    let ping = bench.get("/v2/", &[]);
    assert_eq!((ping.status, ping.header("docker-distribution-api-version")), (200, "registry/2.0"));
    let (_, path, _) = bench.layer();
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let response =
            Exchange::start(bench.port(), method, &path, &[("content-length", "0")]).unwrap().finish().unwrap();
        assert_eq!(response.status, 405, "{method}");
        assert!(response.header("allow").contains("GET"), "{method}");
    }
}

#[test]
fn tags_unknown_registries_and_requests_without_one_are_404_at_once() {
    let Some(bench) = Bench::new("") else { return };
    let digest = bench.world.image.largest_layer().digest.clone();
    let ns = format!("127.0.0.1:{}", bench.world.front.port);
    for path in [
        format!("/v2/{REPOSITORY}/manifests/v1?ns={ns}"),
        format!("/v2/{REPOSITORY}/blobs/{digest}"),
        format!("/v2/{REPOSITORY}/blobs/{digest}?ns="),
        format!("/v2/{REPOSITORY}/blobs/{digest}?ns=../../etc"),
        format!("/v2/{REPOSITORY}/blobs/{digest}?ns=user@evil"),
        format!("/v2/{REPOSITORY}/referrers/{digest}?ns={ns}"),
        format!("/v2/{REPOSITORY}/tags/list?ns={ns}"),
        "/v2/_catalog".to_owned(),
        "/".to_owned(),
    ] {
        let response = bench.get(&path, &[]);
        assert_eq!(response.status, 404, "{path}");
        assert_oci_error(&response, &path);
    }
    assert_eq!(bench.world.front.requests(""), 0, "none of these is worth a request to the registry");
}

#[test]
fn a_registry_outside_the_allowlist_is_404() {
    let Some(bench) = Bench::new("registry_allowlist = [\"registry.example\"]") else { return };
    let (_, path, _) = bench.layer();
    assert_eq!(bench.get(&path, &[]).status, 404);
    assert_eq!(bench.world.front.requests(""), 0);
}

#[test]
fn malformed_digests_and_names_are_refused_and_never_reach_the_registry() {
    let Some(bench) = Bench::new("") else { return };
    let digest = bench.world.image.largest_layer().digest.clone();
    let ns = format!("127.0.0.1:{}", bench.world.front.port);
    let zeros = "0".repeat(63);
    let long = "a/".repeat(200);
    for path in [
        format!("/v2/{REPOSITORY}/blobs/sha256:{zeros}?ns={ns}"),
        format!("/v2/{REPOSITORY}/blobs/sha256:{zeros}00?ns={ns}"),
        format!("/v2/{REPOSITORY}/blobs/sha256:{zeros}g?ns={ns}"),
        format!("/v2/{REPOSITORY}/blobs/SHA256:{zeros}0?ns={ns}"),
        format!("/v2/{REPOSITORY}/blobs/md5:d41d8cd98f00b204e9800998ecf8427e?ns={ns}"),
        format!("/v2/{REPOSITORY}/blobs/sha256:..%2f..%2f..%2fetc%2fpasswd?ns={ns}"),
        format!("/v2/{REPOSITORY}/blobs/?ns={ns}"),
        format!("/v2/UPPER/blobs/{digest}?ns={ns}"),
        format!("/v2/../secret/blobs/{digest}?ns={ns}"),
        format!("/v2/a//b/blobs/{digest}?ns={ns}"),
        format!("/v2/-a/blobs/{digest}?ns={ns}"),
        format!("/v2/%00/blobs/{digest}?ns={ns}"),
        format!("/v2/{long}a/blobs/{digest}?ns={ns}"),
    ] {
        let response = bench.get(&path, &[]);
        // Both lead containerd to the next host; 400 says that no host will like it.
        assert!(matches!(response.status, 400 | 404), "{path}: {}", response.status);
        assert_oci_error(&response, &path);
    }
    assert_eq!(bench.world.front.requests(""), 0, "none of these is worth a request to the registry");
}

#[test]
fn headers_of_64_kib_are_refused_and_hurt_nobody() {
    let Some(bench) = Bench::new("") else { return };
    let (_, path, content) = bench.layer();
    let huge = "x".repeat(64 * 1024);
    match http::get(bench.port(), &path, &[("x-huge", &huge)]) {
        Ok(response) => assert!(matches!(response.status, 400 | 431 | 200), "{}", response.status),
        // Refused while we were still writing: the connection may be gone before the answer is read.
        Err(error) => eprintln!("refused without an answer: {error}"),
    }
    for garbage in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01"[..], b"GET\r\n\r\n", b"GET /v2/ HTTP/9.9\r\n\r\n", b"\r\n\r\n\r\n"]
    {
        let _ = Exchange::start_raw(bench.port(), garbage).unwrap();
    }
    let response = bench.get(&path, &[]);
    assert!(response.status == 200 && response.body == content, "{:?}", response.head);
    assert!(bench.world.cluster.agents[0].is_ready());
}

#[test]
fn a_client_that_hangs_up_early_disturbs_nobody_and_wastes_nothing() {
    let Some(bench) = Bench::new("max_origin_fetches = 1") else { return };
    let (layer, path, content) = bench.layer();
    // One request at a time, so that the bytes up to there are the blob's first.
    bench.world.front.hold_at(600 * 1024);
    let mut leaver = Exchange::start(bench.port(), "GET", &path, &[]).unwrap();
    let mut stayer = Exchange::start(bench.port(), "GET", &path, &[]).unwrap();
    assert_eq!(stayer.read_head().unwrap().second_word(), "200");
    assert_eq!(leaver.read_head().unwrap().second_word(), "200");
    assert!(leaver.read_exactly(1000).unwrap() == content[..1000]);
    drop(leaver);
    bench.world.front.wait_until_held(PATIENCE);
    bench.world.front.release();
    assert!(stayer.read_exactly(content.len()).unwrap() == content);
    assert_eq!(bench.world.bytes_to_agents(&layer), layer.size);

    // Parallel layer fetches of containerd 2 read a chunk of an open-ended range and close: no failure, no noise.
    for start in [0, 500_000, 1_000_000] {
        let mut chunk = Exchange::start(bench.port(), "GET", &path, &[("range", &format!("bytes={start}-"))]).unwrap();
        assert_eq!(chunk.read_head().unwrap().second_word(), "206");
        assert!(chunk.read_exactly(100_000).unwrap() == content[start..start + 100_000]);
    }
    let agent = &bench.world.cluster.agents[0];
    assert_eq!(agent.counter("flights_failed"), 0);
    wait_for("the agent to be idle and well", PATIENCE, || agent.is_ready().then_some(()));
}

#[test]
fn the_manifest_brings_the_layers_before_they_are_asked_for() {
    let Some(bench) = Bench::new("") else { return };
    let (layer, path, content) = bench.layer();
    bench.get(&bench.world.manifest_path(), &[("accept", http::MANIFEST_TYPES)]);
    wait_for("the layer to be prefetched", PATIENCE, || {
        (bench.world.bytes_to_agents(&layer) == layer.size).then_some(())
    });
    assert!(bench.get(&path, &[]).body == content);
    assert_eq!(bench.world.bytes_to_agents(&layer), layer.size);
}

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;

use super::*;
use crate::demo::{media_types, synthetic};
use crate::http::client::Client;

struct Fixture {
    registry: Registry,
    client: Client,
    layer: Digest,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Fixture {
    async fn new() -> Self {
        let image = synthetic::image(1, 300 << 10, 1);
        let layer = image.blobs.iter().find(|(_, blob)| &*blob.media_type == media_types::LAYER).unwrap().0;
        let layer = *layer;
        Self { registry: Registry::start(image).await.unwrap(), client: Client::new().unwrap(), layer }
    }

    async fn ask(&self, method: Method, path: &str, range: Option<&str>) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.registry.address()));
        if let Some(range) = range {
            request = request.header(header::RANGE, range);
        }
        let response = self.client.send(request.body(Empty::new()).unwrap(), Duration::from_secs(5)).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    fn blob_path(&self) -> String {
        format!("/v2/longshore/demo/blobs/{}", self.layer)
    }

    fn expected(&self, offset: u64, len: u64) -> Bytes {
        self.registry.image().blobs[&self.layer].read(offset, len as usize).unwrap()
    }

    fn size(&self) -> u64 {
        self.registry.image().blobs[&self.layer].size
    }
}

#[tokio::test]
async fn a_blob_is_served_whole_and_its_bytes_are_counted() {
    let fixture = Fixture::new().await;
    let answer = fixture.ask(Method::GET, &fixture.blob_path(), None).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("docker-content-digest"), fixture.layer.to_string());
    assert_eq!(answer.header("content-length"), fixture.size().to_string());
    assert_eq!(crate::demo::image::digest_of(&answer.body), fixture.layer);
    assert_eq!(fixture.registry.sent_bytes_of(fixture.layer), fixture.size());
    assert_eq!(fixture.registry.sent_bytes(), fixture.size());
    fixture.ask(Method::GET, &fixture.blob_path(), None).await;
    assert_eq!(fixture.registry.sent_bytes_of(fixture.layer), 2 * fixture.size());
}

#[tokio::test]
async fn ranges_are_served_clipped_or_refused_as_the_distribution_tests_want() {
    let fixture = Fixture::new().await;
    let size = fixture.size();
    let past = format!("bytes={}-{}", size - 10, size + 1000);
    let beyond = format!("bytes={size}-");
    for (range, offset, len) in [
        ("bytes=500-1499", 500, 1000),
        ("bytes=0-0", 0, 1),
        ("bytes=500-", 500, size - 500),
        ("bytes=-500", size - 500, 500),
        ("bytes=-99999999", 0, size),
        (&past, size - 10, 10),
    ] {
        let answer = fixture.ask(Method::GET, &fixture.blob_path(), Some(range)).await;
        assert_eq!(answer.status, 206, "{range}");
        assert_eq!(answer.header("content-range"), format!("bytes {offset}-{}/{size}", offset + len - 1), "{range}");
        assert_eq!(answer.body, fixture.expected(offset, len), "{range}");
    }
    for range in ["bytes=500-0", &beyond, "bytes=-0"] {
        let answer = fixture.ask(Method::GET, &fixture.blob_path(), Some(range)).await;
        assert_eq!((answer.status, answer.header("content-range")), (416, &*format!("bytes */{size}")), "{range}");
    }
    for range in ["pages=1-2", "bytes=0-1,5-6", "bytes=x-y", "nonsense"] {
        assert_eq!(fixture.ask(Method::GET, &fixture.blob_path(), Some(range)).await.status, 200, "{range}");
    }
}

#[tokio::test]
async fn only_bytes_that_were_sent_are_counted() {
    let fixture = Fixture::new().await;
    fixture.ask(Method::GET, &fixture.blob_path(), Some("bytes=500-1499")).await;
    fixture.ask(Method::HEAD, &fixture.blob_path(), None).await;
    fixture.ask(Method::GET, "/v2/", None).await;
    fixture.ask(Method::GET, "/v2/longshore/demo/manifests/nothing", None).await;
    assert_eq!(fixture.registry.sent_bytes(), 1000);
    let log = fixture.registry.log();
    let lines: Vec<_> = log.iter().map(|access| (access.status, access.body_bytes)).collect();
    assert_eq!(lines, [(206, 1000), (200, 0), (200, 0), (404, 0)]);
    assert_eq!(log[0].range.as_deref(), Some("bytes=500-1499"));
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_get_the_rest_counted() {
    let fixture =
        Fixture { registry: Registry::start(synthetic::image(1, 64 << 20, 1)).await.unwrap(), ..Fixture::new().await };
    let layer =
        fixture.registry.image().blobs.iter().max_by_key(|(_, blob)| blob.size).map(|(digest, _)| *digest).unwrap();
    let url = format!("http://{}/v2/longshore/demo/blobs/{layer}", fixture.registry.address());
    let request = Request::get(url).body(Empty::new()).unwrap();
    let mut response = fixture.client.send(request, Duration::from_secs(5)).await.unwrap();
    response.frame().await.unwrap().unwrap();
    drop(response);
    // The line of the log is written when the server has noticed.
    let ended = async {
        while fixture.registry.log().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap();
    let sent = fixture.registry.sent_bytes();
    assert!(sent > 0 && sent < 64 << 20, "{sent}");
    assert_eq!(fixture.registry.log()[0].body_bytes, sent);
}

#[tokio::test]
async fn a_tag_and_a_digest_lead_to_the_same_manifest_with_its_type() {
    let fixture = Fixture::new().await;
    let root = fixture.registry.image().root;
    let by_tag = fixture.ask(Method::GET, "/v2/longshore/demo/manifests/seed-1", None).await;
    let by_digest = fixture.ask(Method::GET, &format!("/v2/longshore/demo/manifests/{root}"), None).await;
    assert_eq!((by_tag.status, by_digest.status), (200, 200));
    assert_eq!(by_tag.body, by_digest.body);
    assert_eq!(by_tag.header("content-type"), media_types::MANIFEST);
    let head = fixture.ask(Method::HEAD, "/v2/longshore/demo/manifests/seed-1", None).await;
    assert_eq!(head.header("docker-content-digest"), root.to_string());
    assert_eq!(head.header("content-length"), by_tag.body.len().to_string());
    assert!(head.body.is_empty());
}

#[tokio::test]
async fn what_is_not_there_gets_the_specifications_error() {
    let fixture = Fixture::new().await;
    let absent = format!("sha256:{}", "0".repeat(64));
    for (path, status, code) in [
        (format!("/v2/longshore/demo/blobs/{absent}"), 404, "BLOB_UNKNOWN"),
        (format!("/v2/longshore/demo/manifests/{absent}"), 404, "MANIFEST_UNKNOWN"),
        // A layer is no manifest.
        (format!("/v2/longshore/demo/manifests/{}", fixture.layer), 404, "MANIFEST_UNKNOWN"),
        (format!("/v2/other/blobs/{}", fixture.layer), 404, "NAME_UNKNOWN"),
        ("/v2/longshore/demo/blobs/sha256:xyz".to_owned(), 400, "DIGEST_INVALID"),
        ("/v2/longshore/demo/tags/list".to_owned(), 404, "UNSUPPORTED"),
        ("/".to_owned(), 404, "UNSUPPORTED"),
    ] {
        let answer = fixture.ask(Method::GET, &path, None).await;
        let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, json["errors"][0]["code"].as_str()), (status, Some(code)), "{path}");
    }
    assert_eq!(fixture.ask(Method::PUT, &fixture.blob_path(), None).await.status, 405);
}

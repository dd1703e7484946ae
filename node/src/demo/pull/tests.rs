use std::net::SocketAddr;
use std::sync::Mutex;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::demo::registry::Registry;
use crate::demo::synthetic;

/// What a mirror does with one request for a layer.
enum Act {
    /// Relays what the registry says.
    Relay,
    /// This status and no body.
    Status(u16),
    /// Declares everything, sends so many bytes of what was asked for, and closes cleanly.
    Short(usize),
    /// The same, and resets the connection.
    Reset(usize),
    /// Sends everything with one bit turned.
    Corrupt,
    /// Answers 200 with the whole blob, whatever the range.
    Whole,
}

/// A mirror that follows a script for layers, and relays manifests and configurations.
struct Mirror {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Fixture {
    registry: Registry,
    layer: Digest,
}

impl Fixture {
    async fn new() -> Self {
        let image = synthetic::image(1, 200_000, 1);
        let layer = *image.blobs.iter().max_by_key(|(_, blob)| blob.size).unwrap().0;
        Self { registry: Registry::start(image).await.unwrap(), layer }
    }

    fn blob(&self, digest: Digest) -> Bytes {
        let blob = &self.registry.image().blobs[&digest];
        blob.read(0, blob.size as usize).unwrap()
    }

    /// A mirror that does `script(n)` with the n-th request for the layer.
    async fn mirror(&self, script: impl Fn(usize) -> Act + Send + 'static) -> Mirror {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let blobs: Vec<_> = self.registry.image().blobs.keys().map(|digest| (*digest, self.blob(*digest))).collect();
        let (layer, log) = (self.layer, Arc::clone(&asked));
        let task = tokio::spawn(async move {
            let mut requests = 0;
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let (digest, blob) = blobs.iter().find(|(digest, _)| head.contains(&digest.to_string())).unwrap();
                log.lock().unwrap().push(head.clone());
                let act = if *digest == layer {
                    requests += 1;
                    script(requests - 1)
                } else {
                    Act::Relay
                };
                let range =
                    head.lines().find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
                let start: usize = range.map_or(0, |range| range.trim_end_matches('-').parse().unwrap());
                let (reply, reset) = reply(&act, blob, start);
                stream.write_all(&reply).await.unwrap();
                stream.flush().await.unwrap();
                if reset {
                    // The client has to have read what was sent before the reset overtakes it.
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    stream.set_zero_linger().unwrap();
                } else {
                    stream.shutdown().await.unwrap();
                }
            }
        });
        Mirror { address, asked, task }
    }

    fn puller(&self, mirror: SocketAddr) -> Puller {
        Puller {
            client: Client::new().unwrap(),
            mirror: format!("http://{mirror}"),
            registry: format!("http://{}", self.registry.address()),
            namespace: self.registry.address().to_string(),
            repository: self.registry.image().repository.clone(),
            progress: Arc::default(),
        }
    }

    /// Pulls through a mirror with this script: result, puller, and what the mirror was asked for the layer.
    async fn pull(
        &self,
        script: impl Fn(usize) -> Act + Send + 'static,
    ) -> (Result<u64, PullError>, Puller, Vec<String>) {
        let mirror = self.mirror(script).await;
        let puller = self.puller(mirror.address);
        let result = puller.image(self.registry.image().root).await;
        let asked = mirror.asked.lock().unwrap();
        let asked = asked.iter().filter(|head| head.contains(&self.layer.to_string())).cloned().collect();
        (result, puller, asked)
    }

    fn total(&self) -> u64 {
        self.registry.image().blobs.values().map(|blob| blob.size).sum()
    }
}

fn reply(act: &Act, blob: &Bytes, start: usize) -> (Vec<u8>, bool) {
    let size = blob.len();
    let whole = start == 0 || matches!(act, Act::Whole);
    let mut body = if whole { blob.to_vec() } else { blob[start..].to_vec() };
    let head = match act {
        Act::Status(status) => format!("HTTP/1.1 {status} Mirror\r\nContent-Length: 0\r\n"),
        _ if whole => format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n"),
        _ => format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {start}-{}/{size}\r\n",
            size - start,
            size - 1
        ),
    };
    match act {
        Act::Relay | Act::Whole => {}
        Act::Status(_) => body.clear(),
        Act::Short(bytes) | Act::Reset(bytes) => body.truncate(*bytes),
        Act::Corrupt => body[size / 2] ^= 1,
    }
    let mut reply = format!("{head}Connection: close\r\n\r\n").into_bytes();
    reply.extend(body);
    (reply, matches!(act, Act::Reset(_)))
}

#[tokio::test]
async fn everything_comes_through_the_mirror_if_the_mirror_has_it() {
    let fixture = Fixture::new().await;
    let (result, puller, asked) = fixture.pull(|_| Act::Relay).await;
    assert_eq!(result.unwrap(), fixture.total());
    assert_eq!((puller.progress.total(), puller.progress.delivered()), (fixture.total(), fixture.total()));
    assert_eq!((puller.progress.fallbacks(), fixture.registry.sent_bytes()), (0, 0));
    assert!(asked[0].contains(&format!("?ns={}", fixture.registry.address())), "{asked:?}");
}

#[tokio::test]
async fn a_404_of_the_mirror_sends_the_pull_to_the_registry_and_is_counted() {
    let fixture = Fixture::new().await;
    let (result, puller, asked) = fixture.pull(|_| Act::Status(404)).await;
    assert_eq!(result.unwrap(), fixture.total());
    assert_eq!(asked.len(), 1);
    assert_eq!(puller.progress.fallbacks(), 1);
    assert_eq!(puller.progress.fallback_bytes(), fixture.registry.sent_bytes_of(fixture.layer));
}

#[tokio::test]
async fn a_body_that_ends_short_is_continued_where_it_ended() {
    let fixture = Fixture::new().await;
    let (result, puller, asked) = fixture.pull(|n| if n < 4 { Act::Short(1000) } else { Act::Relay }).await;
    assert_eq!(result.unwrap(), fixture.total());
    assert_eq!(asked.len(), 5, "progress in between: more than three tries are fine");
    assert!(asked[3].to_lowercase().contains("range: bytes=3000-"), "{}", asked[3]);
    assert_eq!((puller.progress.fallbacks(), puller.progress.delivered()), (0, fixture.total()));
}

#[tokio::test]
async fn a_short_body_and_then_a_404_lets_the_registry_finish() {
    let fixture = Fixture::new().await;
    let (result, puller, _) = fixture.pull(|n| if n == 0 { Act::Short(1000) } else { Act::Status(404) }).await;
    assert_eq!(result.unwrap(), fixture.total());
    let layer = fixture.blob(fixture.layer).len() as u64;
    assert_eq!((puller.progress.fallbacks(), fixture.registry.sent_bytes_of(fixture.layer)), (1, layer - 1000));
}

#[tokio::test]
async fn three_bodies_without_a_byte_fail_the_pull() {
    let fixture = Fixture::new().await;
    let (result, _, asked) = fixture.pull(|_| Act::Short(0)).await;
    assert!(matches!(result, Err(PullError::Short { times: 3, offset: 0, .. })), "{result:?}");
    assert_eq!(asked.len(), 3);
}

#[tokio::test]
async fn a_reset_fails_the_pull_as_in_containerd() {
    let fixture = Fixture::new().await;
    let (result, _, asked) = fixture.pull(|_| Act::Reset(1000)).await;
    assert!(matches!(result, Err(PullError::Broken { .. })), "{result:?}");
    assert_eq!(asked.len(), 1);
}

#[tokio::test]
async fn one_wrong_bit_fails_the_pull() {
    let fixture = Fixture::new().await;
    let (result, ..) = fixture.pull(|_| Act::Corrupt).await;
    assert!(matches!(result, Err(PullError::Wrong { .. })), "{result:?}");
}

#[tokio::test]
async fn a_mirror_that_says_429_is_asked_five_times_and_then_left() {
    let fixture = Fixture::new().await;
    let (result, puller, asked) = fixture.pull(|_| Act::Status(429)).await;
    assert_eq!(result.unwrap(), fixture.total());
    assert_eq!((asked.len(), puller.progress.fallbacks()), (5, 1));
}

#[tokio::test]
async fn a_whole_body_for_a_range_is_read_from_the_wanted_byte_on() {
    let fixture = Fixture::new().await;
    let (result, puller, _) = fixture.pull(|n| if n == 0 { Act::Short(1000) } else { Act::Whole }).await;
    assert_eq!(result.unwrap(), fixture.total());
    assert_eq!(puller.progress.delivered(), fixture.total());
}

#[tokio::test]
async fn without_a_mirror_the_registry_serves_everything() {
    let fixture = Fixture::new().await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let puller = fixture.puller(closed);
    assert_eq!(puller.image(fixture.registry.image().root).await.unwrap(), fixture.total());
    assert_eq!((puller.progress.fallbacks(), fixture.registry.sent_bytes()), (3, fixture.total()));
}

#[tokio::test]
async fn a_blob_that_nobody_has_names_everybody_who_was_asked() {
    let fixture = Fixture::new().await;
    let mirror = fixture.mirror(|_| Act::Status(404)).await;
    let puller = Puller { repository: "other".to_owned(), ..fixture.puller(mirror.address) };
    let error = puller.fetch("blobs", fixture.layer, None, None).await.unwrap_err().to_string();
    assert!(
        error.contains(&mirror.address.to_string()) && error.contains(&fixture.registry.address().to_string()),
        "{error}"
    );
    assert_eq!(error.matches("404").count(), 2, "{error}");
}

#[tokio::test]
async fn progress_tells_when_a_share_of_the_image_is_there() {
    let progress = Progress::default();
    progress.add(400);
    let reached = progress.reached(500);
    tokio::pin!(reached);
    assert!(futures::poll!(&mut reached).is_pending(), "the size is not known");
    progress.expect(1000);
    progress.add(99);
    assert!(futures::poll!(&mut reached).is_pending(), "499 of 1000");
    progress.add(1);
    assert!(futures::poll!(&mut reached).is_ready());
}

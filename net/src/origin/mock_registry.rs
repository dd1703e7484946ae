//! A registry for tests that says exactly what it is told to say, down to the bytes of the body: for faults that a real
//! registry does not produce.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    headers: Vec<(String, String)>,
}

/// What to answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Bytes(Vec<u8>),
    Pause(Duration),
    Close,
}

/// A running mock; stops when dropped.
#[derive(Debug)]
pub(crate) struct MockRegistry {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Accepted until now, and open now.
    connections: watch::Receiver<(usize, usize)>,
    task: AbortHandle,
}

type Script = Arc<dyn Fn(&Seen) -> Reply + Send + Sync>;

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Path without query.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    /// Values of a query parameter, decoded.
    pub(crate) fn query(&self, name: &str) -> Vec<String> {
        let url = url::Url::parse(&format!("http://x{}", self.target)).unwrap();
        url.query_pairs().filter(|(found, _)| found == name).map(|(_, value)| value.into_owned()).collect()
    }
}

impl Reply {
    /// A reply without a body.
    pub(crate) fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }.header("Content-Length", "0")
    }

    /// Not a word: the connection is closed.
    pub(crate) fn hang_up() -> Self {
        Self::status(0)
    }

    /// 200 with a body.
    pub(crate) fn ok(body: &[u8]) -> Self {
        Self::status(200).body(body)
    }

    /// 206 with a part of a blob.
    pub(crate) fn part(blob: &[u8], first: usize, end: usize) -> Self {
        let range = format!("bytes {first}-{}/{}", end - 1, blob.len());
        Self::status(206).body(&blob[first..end]).header("Content-Range", &range)
    }

    /// 200 or 206 by the request's `Range` header, as a good registry does it.
    pub(crate) fn blob(seen: &Seen, blob: &[u8]) -> Self {
        let Some(range) = seen.header("range") else { return Self::ok(blob) };
        let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        Self::part(blob, first.parse().unwrap(), last.parse::<usize>().unwrap() + 1)
    }

    /// 401 with challenges.
    pub(crate) fn challenge(challenges: &[&str]) -> Self {
        challenges.iter().fold(Self::status(401), |reply, challenge| reply.and_header("WWW-Authenticate", challenge))
    }

    /// Sets a header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(found, _)| !found.eq_ignore_ascii_case(name));
        self.and_header(name, value)
    }

    /// Adds a header.
    pub(crate) fn and_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Removes a header.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(found, _)| !found.eq_ignore_ascii_case(name));
        self
    }

    /// Sets the body and its Content-Length.
    pub(crate) fn body(self, body: &[u8]) -> Self {
        let mut reply = self.header("Content-Length", &body.len().to_string());
        reply.body = vec![Part::Bytes(body.to_vec())];
        reply
    }

    /// Sends the body in chunks of `size` bytes, without a Content-Length.
    pub(crate) fn chunked(mut self, body: &[u8], size: usize) -> Self {
        let mut bytes = Vec::new();
        for chunk in body.chunks(size) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        self.body = vec![Part::Bytes(bytes)];
        self.without("Content-Length").header("Transfer-Encoding", "chunked")
    }

    /// Sends more bytes as they are, without changing headers.
    pub(crate) fn then(mut self, bytes: &[u8]) -> Self {
        self.body.push(Part::Bytes(bytes.to_vec()));
        self
    }

    /// Sends nothing for a while.
    pub(crate) fn then_pause(mut self, pause: Duration) -> Self {
        self.body.push(Part::Pause(pause));
        self
    }

    /// Closes the connection.
    pub(crate) fn then_close(mut self) -> Self {
        self.body.push(Part::Close);
        self
    }
}

impl MockRegistry {
    pub(crate) async fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(None, Arc::new(script)).await
    }

    pub(crate) async fn start_tls(
        acceptor: TlsAcceptor,
        script: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Some(acceptor), Arc::new(script)).await
    }

    async fn listen(acceptor: Option<TlsAcceptor>, script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let log = seen.clone();
        let (counter, connections) = watch::channel((0, 0));
        let task = tokio::spawn(async move {
            // Owned by this task: when it is aborted, all connections are dropped.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, script, log) = (acceptor.clone(), script.clone(), log.clone());
                counter.send_modify(|(accepted, open)| (*accepted, *open) = (*accepted + 1, *open + 1));
                let counter = counter.clone();
                connections.spawn(async move {
                    match acceptor {
                        None => serve(stream, script, log).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(stream, script, log).await;
                            }
                        }
                    }
                    counter.send_modify(|(_, open)| *open -= 1);
                });
            }
        });
        Self { address, seen, connections, task: task.abort_handle() }
    }

    /// `127.0.0.1:PORT`, which is also the name of the registry.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// How many connections were accepted until now.
    pub(crate) fn connections(&self) -> usize {
        self.connections.borrow().0
    }

    /// Waits until the client has closed all connections.
    pub(crate) async fn all_connections_closed(&self) {
        let closed = async |mut connections: watch::Receiver<(usize, usize)>| {
            connections.wait_for(|(_, open)| *open == 0).await.map(drop)
        };
        tokio::time::timeout(Duration::from_secs(10), closed(self.connections.clone())).await.unwrap().unwrap();
    }

    /// All requests until now.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for MockRegistry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, script: Script, log: Arc<Mutex<Vec<Seen>>>) {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            match stream.read_buf(&mut buffer).await {
                Ok(count) if count > 0 => {}
                _ => return,
            }
        };
        let seen = parse(&String::from_utf8(buffer.drain(..end).collect()).unwrap());
        let reply = script(&seen);
        let is_head = seen.method == "HEAD";
        log.lock().unwrap().push(seen);
        if reply.status == 0 {
            let _ = stream.shutdown().await;
            return;
        }
        let mut head = format!("HTTP/1.1 {} Reply\r\n", reply.status);
        for (name, value) in &reply.headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        head.push_str("\r\n");
        if stream.write_all(head.as_bytes()).await.is_err() {
            return;
        }
        for part in reply.body {
            match part {
                Part::Bytes(_) if is_head => {}
                Part::Bytes(bytes) => {
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Part::Pause(pause) => {
                    let _ = stream.flush().await;
                    // A client that hangs up meanwhile is noticed.
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        Ok(0) | Err(_) = stream.read_buf(&mut buffer) => return,
                    }
                }
                Part::Close => {
                    let _ = stream.shutdown().await;
                    return;
                }
            }
        }
        if stream.flush().await.is_err() {
            return;
        }
    }
}

fn parse(head: &str) -> Seen {
    let mut lines = head.lines();
    let mut words = lines.next().unwrap().split(' ');
    let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    Seen { method, target, headers }
}

//! A server in front of a registry that does what registries and networks do on bad days, when it is told to.
//!
//! It also counts, to the byte, what left the registry and how requests were authorised, and it can hold all blob bodies
//! at a given byte: "in mid-pull" is then a state that a test waits for, not a matter of timing.

mod door;
mod pace;
mod serve;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) use door::{Door, TOKEN_PATH, basic};
use pace::Pace;

use super::lab::free_port;
use super::token::Issuer;

/// What goes wrong with a request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// An answer of this status, with these headers, and no body from the registry.
    Status(u16, Vec<(String, String)>),
    /// The answer comes so much later: the registry is far away.
    Late(Duration),
    /// The body stops after this many bytes; the connection stays open.
    Stall(u64),
    /// The body ends after this many bytes with a clean FIN, short of the declared length.
    Short(u64),
    /// The byte at this place of the body is changed.
    Corrupt(u64),
    /// 307 to the same path at this place (`http://host:port`).
    Redirect(String),
}

/// Which requests a fault meets, and how often.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// Part of the path that has to occur.
    pub(crate) path: String,
    /// The method, if only one is meant.
    pub(crate) method: Option<&'static str>,
    /// Whether only agents are met: containerd's own fall-back to the registry works then.
    pub(crate) agents_only: bool,
    /// How many requests are met before the fault is over.
    pub(crate) times: u32,
    /// The fault.
    pub(crate) fault: Fault,
}

impl Rule {
    /// Every GET whose path contains `path`.
    pub(crate) fn always(path: &str, fault: Fault) -> Self {
        Self { path: path.to_owned(), method: Some("GET"), agents_only: false, times: u32::MAX, fault }
    }

    /// The first `times` GETs whose path contains `path`.
    pub(crate) fn times(times: u32, path: &str, fault: Fault) -> Self {
        Self { times, ..Self::always(path, fault) }
    }

    /// Agents only.
    pub(crate) fn for_agents(self) -> Self {
        Self { agents_only: true, ..self }
    }

    /// HEAD as well as GET.
    pub(crate) fn any_method(self) -> Self {
        Self { method: None, ..self }
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Method.
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    /// `Authorization`, as sent.
    pub(crate) authorization: Option<String>,
    /// `User-Agent`.
    pub(crate) user_agent: String,
    /// `Range`.
    pub(crate) range: Option<String>,
    /// The status it got; 0 while it is being answered.
    pub(crate) status: u16,
    /// Body bytes sent so far.
    pub(crate) bytes: u64,
}

impl Seen {
    /// Whether containerd asked, not an agent.
    pub(crate) fn is_from_containerd(&self) -> bool {
        is_containerd(&self.user_agent)
    }
}

fn is_containerd(user_agent: &str) -> bool {
    user_agent.starts_with("containerd/")
}

struct Shared {
    upstream: u16,
    door: Door,
    /// The last octet of 127.0.0.x that it listens on, and its port.
    port: u16,
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<Seen>>,
    pace: Pace,
    stopping: AtomicBool,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().expect("no test panics while it holds the log")
    }

    /// The fault for a request, if one is due; a counted rule is one used up.
    fn fault_for(&self, method: &str, path: &str, user_agent: &str) -> Option<Fault> {
        let mut rules = self.rules.lock().expect("no test panics while it holds the rules");
        let rule = rules.iter_mut().find(|rule| {
            let met = path.contains(&rule.path) && rule.method.is_none_or(|wanted| wanted == method);
            met && rule.times > 0 && !(rule.agents_only && is_containerd(user_agent))
        })?;
        rule.times = if rule.times == u32::MAX { u32::MAX } else { rule.times - 1 };
        Some(rule.fault.clone())
    }
}

/// The server. Stops when dropped, and lets go of everything it holds.
pub(crate) struct FaultyRegistry {
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
    address: Ipv4Addr,
    /// Its port.
    pub(crate) port: u16,
}

impl FaultyRegistry {
    /// In front of the registry at `upstream` (a port on 127.0.0.1), open to everybody.
    pub(crate) fn start(upstream: u16) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST, upstream, Door::Open)
    }

    /// In front of the registry, with its own idea of who may come in.
    pub(crate) fn guarded(upstream: u16, door: Door) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST, upstream, door)
    }

    /// Only a token service: there is no registry behind it.
    pub(crate) fn token_service(issuer: Arc<Issuer>, user: &str) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST, 0, Door::Issuer { issuer, user: user.to_owned() })
    }

    /// As another host (127.0.0.2, say): where redirects lead.
    pub(crate) fn start_at(address: Ipv4Addr, upstream: u16, door: Door) -> Self {
        let port = free_port();
        let listener = TcpListener::bind((address, port)).expect("a port that was free a moment ago");
        let shared = Arc::new(Shared {
            upstream,
            door,
            port,
            rules: Mutex::default(),
            seen: Mutex::default(),
            pace: Pace::default(),
            stopping: AtomicBool::new(false),
        });
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { shared, acceptor: Some(acceptor), address, port }
    }

    /// `http://host:port`
    pub(crate) fn base(&self) -> String {
        format!("http://{}:{}", self.address, self.port)
    }

    /// Adds a fault. The first rule that fits a request is applied.
    pub(crate) fn add(&self, rule: Rule) {
        self.shared.rules.lock().expect("no test panics while it holds the rules").push(rule);
    }

    /// From now on everything goes well.
    pub(crate) fn heal(&self) {
        self.shared.rules.lock().expect("no test panics while it holds the rules").clear();
    }

    /// Once `bytes` bytes of blobs have been sent in all, sends no further one before [`Self::release`].
    pub(crate) fn hold_at(&self, bytes: u64) {
        self.shared.pace.hold_at(bytes);
    }

    /// Waits until the held byte is reached.
    pub(crate) fn wait_until_held(&self, patience: Duration) {
        self.shared.pace.wait_until_held(patience);
    }

    /// Lets everything flow again.
    pub(crate) fn release(&self) {
        self.shared.pace.release();
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen().clone()
    }

    /// Body bytes sent so far for GETs whose path contains `part`: all that went out, whoever asked.
    pub(crate) fn bytes_sent(&self, part: &str) -> u64 {
        self.shared
            .seen()
            .iter()
            .filter(|seen| seen.method == "GET" && seen.path.contains(part))
            .map(|seen| seen.bytes)
            .sum()
    }

    /// Requests so far whose path contains `part`.
    pub(crate) fn requests(&self, part: &str) -> usize {
        self.shared.seen().iter().filter(|seen| seen.path.contains(part)).count()
    }
}

impl Drop for FaultyRegistry {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.pace.stop();
        // Wakes the acceptor; fails only if it is gone.
        let _ = TcpStream::connect((self.address, self.port));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        if std::thread::panicking() {
            eprintln!("--- requests at {}:", self.base());
            for seen in self.seen().iter().rev().take(40).rev() {
                let Seen { method, path, range, status, bytes, user_agent, .. } = seen;
                eprintln!("{method} {path} {range:?} -> {status}, {bytes} bytes, {user_agent}");
            }
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        std::thread::spawn(move || serve::connection(&shared, stream));
    }
}

//! Follows what the agents count, and shows it while they work.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::pull::Progress;
use crate::http::client::Client;
use crate::status::metrics;
use crate::status::page::human_bytes;

/// How often agents are asked.
const INTERVAL: Duration = Duration::from_millis(200);
/// Longest to wait for an agent's metrics.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer of `/metrics`, in bytes.
const MOST_BYTES: usize = 1 << 20;

/// What one agent had counted when it last answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Bytes from the registry.
    pub origin_bytes: u64,
    /// Bytes from peers.
    pub peer_bytes: u64,
}

/// One node that is watched.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Its name.
    pub name: String,
    /// Where it shows its status.
    pub status: SocketAddr,
    /// Its pull.
    pub progress: Arc<Progress>,
    counted: Arc<Mutex<Counted>>,
}

impl Watched {
    /// A node that nobody has asked yet.
    #[must_use]
    pub fn new(name: String, status: SocketAddr, progress: Arc<Progress>) -> Self {
        Self { name, status, progress, counted: Arc::default() }
    }

    /// What it had counted when it last answered; a killed node keeps what it had.
    #[must_use]
    pub fn counted(&self) -> Counted {
        *self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the agent. One that does not answer keeps what it had.
    pub async fn ask(&self, client: &Client) {
        let url = format!("http://{}/metrics", self.status);
        let Ok((status, body)) = client.get(&url, MOST_BYTES, TIMEOUT).await else { return };
        if status.is_success() {
            let counted = read(&String::from_utf8_lossy(&body));
            *self.counted.lock().unwrap_or_else(PoisonError::into_inner) = counted;
        }
    }
}

fn read(text: &str) -> Counted {
    let values: BTreeMap<String, u64> = metrics::parse(text);
    let value = |name: &str| values.get(name).copied().unwrap_or(0);
    Counted { origin_bytes: value("longshore_origin_bytes_total"), peer_bytes: value("longshore_peer_bytes_total") }
}

/// Asks every node once.
pub async fn ask_all(nodes: &[Watched], client: &Client) {
    join_all(nodes.iter().map(|node| node.ask(client))).await;
}

/// One bar for each node, on standard error if that is a terminal.
pub struct Bars {
    bars: Vec<ProgressBar>,
    // Draws as long as it lives.
    _all: MultiProgress,
}

impl Bars {
    /// Bars for these nodes.
    #[must_use]
    pub fn new(nodes: &[Watched]) -> Self {
        let target =
            if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let all = MultiProgress::with_draw_target(target);
        let style = ProgressStyle::with_template("{prefix:>9} [{bar:32}] {percent:>3} %  {msg}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("#>.");
        let bars = nodes.iter().map(|node| {
            let bar = all.add(ProgressBar::new(1)).with_style(style.clone());
            bar.set_prefix(node.name.clone());
            bar
        });
        Self { bars: bars.collect(), _all: all }
    }

    fn show(&self, number: usize, node: &Watched, word: &str) {
        let Some(bar) = self.bars.get(number).filter(|bar| !bar.is_finished()) else { return };
        let counted = node.counted();
        bar.set_length(node.progress.total().max(1));
        bar.set_position(node.progress.delivered());
        let (origin, peers) = (human_bytes(counted.origin_bytes), human_bytes(counted.peer_bytes));
        bar.set_message(format!("registry {origin:>10}   peers {peers:>10}   {word}"));
    }

    /// Ends a node's bar with a word about how it went.
    pub fn finish(&self, number: usize, node: &Watched, word: &str) {
        self.show(number, node, word);
        if let Some(bar) = self.bars.get(number) {
            bar.abandon();
        }
    }

    /// Asks and draws until it is dropped.
    pub async fn follow(&self, nodes: &[Watched], client: &Client) {
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            ask_all(nodes, client).await;
            for (number, node) in nodes.iter().enumerate() {
                self.show(number, node, "");
            }
        }
    }
}

//! `longshore status`: what an agent says about itself, for people.

use std::fmt::Write as _;

use super::view::{Flight, LimitingRegistry, Phase, Status};

/// Most flights and peers that are listed; the page should fit on a screen.
const MOST_LINES: usize = 20;
/// Characters of a progress bar.
const BAR_CHARS: u64 = 20;

/// Bytes in the unit that people read, for example `1.4 GiB`.
#[must_use]
pub fn human_bytes(bytes: u64) -> String {
    let units = [("TiB", 1_u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}

/// The page.
#[must_use]
pub fn render(status: &Status) -> String {
    let mut page = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut page, status);
    page
}

fn write(page: &mut String, status: &Status) -> std::fmt::Result {
    let phase = match status.phase {
        Phase::Starting => "starting",
        Phase::Ready => "ready",
        Phase::Draining => "draining",
    };
    let zone = status.zone.as_ref().map(|zone| format!(" in zone {zone}")).unwrap_or_default();
    let up = uptime(status.uptime_seconds);
    writeln!(page, "{}{zone}: {phase}, up {up}, longshore {}", status.node, status.version)?;
    if let Some(reason) = &status.reason {
        writeln!(page, "  not ready {reason}")?;
    }
    writeln!(page, "  peer      {}", or_dash(&status.peer))?;
    writeln!(page, "  mirror    {}", status.mirror_address.as_deref().unwrap_or("-"))?;
    for address in &status.peer_addresses {
        writeln!(page, "  peers at  {address}")?;
    }
    let cap = status.store_cap_bytes.map(|cap| format!(" of at most {}", human_bytes(cap))).unwrap_or_default();
    writeln!(page, "  store     {} blobs, {}{cap}", status.blobs, human_bytes(status.stored_bytes))?;
    writeln!(page, "  memory    {}", human_bytes(status.memory_resident_bytes))?;

    let counter = |name: &str| status.counters.get(name).copied().unwrap_or(0);
    let (origin, peers) = (counter("origin_bytes"), counter("peer_bytes"));
    writeln!(page, "\nbytes")?;
    writeln!(page, "  from registries   {:>12}", human_bytes(origin))?;
    writeln!(page, "  from peers        {:>12}{}", human_bytes(peers), share(peers, origin + peers))?;
    writeln!(page, "  to peers          {:>12}", human_bytes(counter("peer_sent_bytes")))?;
    writeln!(page, "  to containerd     {:>12}", human_bytes(counter("mirror_bytes")))?;

    writeln!(
        page,
        "\nfetches from registries: {} under way, for now {} at a time",
        status.origin_fetches, status.origin_fetches_limit
    )?;
    for limiting in &status.limiting {
        writeln!(page, "  {}", limiting_line(limiting))?;
    }

    writeln!(page, "\nin flight: {}", status.flights.len())?;
    for flight in status.flights.iter().take(MOST_LINES) {
        writeln!(page, "  {}", flight_line(flight))?;
    }
    more(page, status.flights.len())?;

    let connected = status.peers.iter().filter(|peer| peer.connected).count();
    writeln!(page, "\npeers: {} members with this node, {connected} connected", status.members)?;
    for peer in status.peers.iter().take(MOST_LINES) {
        let zone = peer.zone.as_ref().map(|zone| format!(" ({zone})")).unwrap_or_default();
        let connected = if peer.connected { "connected" } else { "not connected" };
        writeln!(page, "  {}{zone}  {}  {connected}", or_dash(&peer.name), peer.peer)?;
    }
    more(page, status.peers.len())?;

    writeln!(page, "\ncounters (those that are not zero)")?;
    for (name, value) in status.counters.iter().filter(|(_, value)| **value != 0) {
        writeln!(page, "  {name:<36} {value}")?;
    }
    Ok(())
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

fn share(part: u64, whole: u64) -> String {
    if whole == 0 { String::new() } else { format!("  {:.0} % of what arrived", 100.0 * part as f64 / whole as f64) }
}

fn more(page: &mut String, count: usize) -> std::fmt::Result {
    if count > MOST_LINES { writeln!(page, "  ... and {} more", count - MOST_LINES) } else { Ok(()) }
}

/// Seconds in the largest unit that leaves no nonsense, for example `3m 1s` or `2d 4h`.
fn uptime(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A registry that limits requests, in a line.
pub(crate) fn limiting_line(LimitingRegistry { registry, gap_millis }: &LimitingRegistry) -> String {
    let gap = std::time::Duration::from_millis(*gap_millis);
    format!("{registry} limits requests (429): one fetch every {gap:?}")
}

/// How far a blob is, who works on it and for whom, in a line.
pub(crate) fn flight_line(flight: &Flight) -> String {
    let digest: String = flight.digest.chars().take("sha256:".len() + 12).collect();
    let progress = match flight.size_bytes {
        Some(size) if flight.pieces_total > 0 => {
            let (here, all) = (u64::from(flight.pieces.min(flight.pieces_total)), u64::from(flight.pieces_total));
            let filled = (here * BAR_CHARS / all) as usize;
            let empty = BAR_CHARS as usize - filled;
            let bar = format!("{}{}", "#".repeat(filled), ".".repeat(empty));
            format!("[{bar}] {:>3} % of {}", 100 * here / all, human_bytes(size))
        }
        _ => "of unknown size".to_owned(),
    };
    let idle = if flight.idle_seconds > 1 { format!(", silent for {} s", flight.idle_seconds) } else { String::new() };
    format!(
        "{digest}  {progress}  {}, {}, {} waiting, {} neighbours, {} s{idle}  {}",
        flight.stage, flight.role, flight.waiters, flight.neighbours, flight.age_seconds, flight.source
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::view::Peer;

    #[test]
    fn the_page_shows_flights_peers_and_counters() {
        let status = Status {
            version: "0.1.0".to_owned(),
            phase: Phase::Ready,
            uptime_seconds: 181,
            node: "node-7".to_owned(),
            zone: Some("a".to_owned()),
            peer: "12D3KooWExample".to_owned(),
            mirror_address: Some("127.0.0.1:5000".to_owned()),
            peer_addresses: vec!["/ip4/10.0.0.7/tcp/4001".to_owned()],
            memory_resident_bytes: 40 << 20,
            blobs: 12,
            stored_bytes: 3 << 30,
            store_cap_bytes: Some(20 << 30),
            members: 3,
            flights: vec![
                Flight {
                    digest: format!("sha256:{}", "ab".repeat(32)),
                    source: "quay.io/team/app".to_owned(),
                    stage: "moving".to_owned(),
                    role: "following".to_owned(),
                    tracker: Some("12D3KooWA".to_owned()),
                    size_bytes: Some(256 << 20),
                    pieces: 64,
                    pieces_total: 256,
                    waiters: 1,
                    neighbours: 10,
                    age_seconds: 12,
                    idle_seconds: 7,
                    ..Flight::default()
                },
                Flight { digest: "sha256:00".to_owned(), stage: "resolving".to_owned(), ..Flight::default() },
            ],
            peers: vec![
                Peer { peer: "12D3KooWA".to_owned(), name: "node-1".to_owned(), connected: true, ..Peer::default() },
                Peer { peer: "12D3KooWB".to_owned(), ..Peer::default() },
            ],
            reason: None,
            partial_blobs: 1,
            mirror_requests: 1,
            origin_fetches: 1,
            origin_fetches_limit: 3,
            limiting: vec![LimitingRegistry { registry: "quay.io".to_owned(), gap_millis: 2500 }],
            counters: [("origin_bytes", 25_u64 << 20), ("peer_bytes", 75 << 20), ("mirror_hits", 0)]
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
        };
        insta::assert_snapshot!(render(&status));
    }

    #[test]
    fn an_empty_answer_is_shown_instead_of_refused() {
        let status: Status = serde_json::from_str("{}").unwrap();
        assert!(render(&status).contains("in flight: 0"));
    }
}

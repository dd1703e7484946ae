//! What a joined history says in figures, for people and for programs.

use std::fmt::Write as _;
use std::time::Duration;

use longshore_sim::history::History;
use longshore_sim::history::links::Link;

/// Links and nodes that are listed one by one; of more, the worst.
const MOST_LISTED: usize = 1000;

fn span(history: &History<'_>) -> f64 {
    history.order.iter().map(|event| history.time(*event)).max().unwrap_or(0) as f64 / 1e6
}

fn median(sorted: &[i64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(0) as f64 / 1000.0
}

/// Differences of the clocks to the first one, in microseconds, ascending.
fn clocks(history: &History<'_>) -> Vec<i64> {
    let mut ahead: Vec<_> = (0..history.lives.len()).map(|life| history.clocks.ahead(life)).collect();
    ahead.sort_unstable();
    ahead
}

/// The links with the most losses, then with the longest ways, first.
fn worst<'a>(history: &'a History<'_>) -> Vec<(&'a (u32, u32), &'a Link)> {
    let mut links: Vec<_> = history.links.links.iter().collect();
    links.sort_by_key(|(ends, link)| (std::cmp::Reverse((link.lost, link.fastest)), **ends));
    links
}

fn digest(history: &History<'_>) -> String {
    let mut hash = longshore_core::journal::running::Fnv::default();
    history.outcomes.iter().for_each(|outcome| hash.bytes(&outcome.digest.to_le_bytes()));
    format!("{:016x}", hash.value())
}

fn problems(history: &History<'_>) -> Vec<String> {
    let mut problems = Vec::new();
    for (life, outcome) in history.lives.iter().zip(&history.outcomes) {
        problems.extend(life.damages());
        if let Some(divergence) = &outcome.divergence {
            problems.push(format!("{}: DIFFERENT {divergence}; the rest of it is left out", life.label));
        }
        if let Some(broken) = &outcome.broken {
            problems.push(format!("{}: {broken}; the rest of it is left out", life.label));
        }
    }
    problems
}

/// For people.
pub(super) fn text(history: &History<'_>, wall: Duration) -> String {
    let mut text = String::new();
    let mut say = |label: &str, what: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{label:<12}{what}");
    };
    let inputs: u64 = history.outcomes.iter().map(|outcome| outcome.inputs).sum();
    let mut nodes: Vec<_> = history.lives.iter().map(|life| &life.peer).collect();
    nodes.dedup();
    say("nodes", format!("{} with a journal, {} starts", nodes.len(), history.lives.len()));
    let missing: Vec<_> = history.missing().into_iter().map(longshore_core::names::PeerId::as_str).collect();
    if !missing.is_empty() {
        let more = if missing.len() > 10 { " ..." } else { "" };
        let names = missing.iter().take(10).copied().collect::<Vec<_>>().join(", ");
        say("missing", format!("no journal of {} peers that took part: {names}{more}", missing.len()));
    }
    say("inputs", inputs.to_string());
    say("span", format!("{:.3} s, replayed and joined in {:.3} s", span(history), wall.as_secs_f64()));
    let (sent, arrived, lost) = history.links.totals();
    let doubled = history.matched.doubled;
    say(
        "messages",
        format!("{sent} between nodes with a journal: {arrived} found at both ends, {lost} lost, {doubled} came twice"),
    );
    let latencies = history.links.latencies();
    if let (Some(least), Some(most)) = (latencies.first(), latencies.last()) {
        let (least, most) = (*least as f64 / 1000.0, *most as f64 / 1000.0);
        say("links", format!("{}, {least:.3} to {most:.3} ms, median {:.3} ms", latencies.len(), median(&latencies)));
    }
    for ((from, to), link) in worst(history).into_iter().take(3).filter(|(_, link)| link.lost > 0) {
        let (from, to) = (history.peers.peer(*from), history.peers.peer(*to));
        say("", format!("{from} to {to}: {} of {} lost", link.lost, link.sent));
    }
    let clocks = clocks(history);
    if let (Some(least), Some(most)) = (clocks.first(), clocks.last()) {
        let unconnected = match history.clocks.unconnected {
            0 => String::new(),
            some => format!("; {some} starts exchanged nothing with the others, their own clocks are taken"),
        };
        say(
            "clocks",
            format!(
                "{:.3} to {:.3} s ahead of the first one, to within {:.3} ms{unconnected}",
                *least as f64 / 1e6,
                *most as f64 / 1e6,
                history.clocks.uncertainty as f64 / 1000.0
            ),
        );
    }
    if history.contradictions > 0 {
        say("order", format!("{} messages contradict each other and were passed over", history.contradictions));
    }
    say("digest", digest(history));
    let problems = problems(history);
    problems.iter().for_each(|problem| say("note", problem.clone()));
    let different = history.outcomes.iter().filter(|outcome| outcome.divergence.is_some()).count();
    let result = match different {
        0 => "the same, input by input, on every node".to_owned(),
        some => format!("DIFFERENT on {some} of {}", history.lives.len()),
    };
    say("replay", result);
    text
}

/// For programs.
pub(super) fn json(history: &History<'_>, notes: &[String], story: &[String], wall: Duration) -> String {
    let starts: Vec<_> = history
        .lives
        .iter()
        .zip(&history.outcomes)
        .enumerate()
        .map(|(index, (life, outcome))| {
            serde_json::json!({
                "label": life.label, "peer": life.peer, "inputs": outcome.inputs, "outputs": outcome.outputs,
                "clock_ahead_seconds": history.clocks.ahead(index) as f64 / 1e6,
                "digest": format!("{:016x}", outcome.digest), "panicked": outcome.died,
                "divergence": outcome.divergence.as_ref().map(ToString::to_string),
            })
        })
        .collect();
    let links: Vec<_> = worst(history)
        .into_iter()
        .take(MOST_LISTED)
        .map(|((from, to), link)| {
            let milliseconds = |micros: i64| micros as f64 / 1000.0;
            serde_json::json!({
                "from": history.peers.peer(*from), "to": history.peers.peer(*to),
                "sent": link.sent, "arrived": link.arrived, "lost": link.lost,
                "fastest_ms": (link.arrived > 0).then(|| milliseconds(link.fastest)),
                "mean_ms": (link.arrived > 0).then(|| milliseconds(link.together) / link.arrived as f64),
            })
        })
        .collect();
    let (sent, arrived, lost) = history.links.totals();
    let latencies = history.links.latencies();
    let object = serde_json::json!({
        "starts": starts,
        "missing": history.missing(),
        "inputs": history.outcomes.iter().map(|outcome| outcome.inputs).sum::<u64>(),
        "virtual_seconds": span(history),
        "wall_seconds": wall.as_secs_f64(),
        "messages": { "sent": sent, "arrived": arrived, "lost": lost, "doubled": history.matched.doubled },
        "links": links,
        "links_left_out": history.links.links.len().saturating_sub(MOST_LISTED),
        "median_latency_ms": median(&latencies),
        "clock_uncertainty_ms": history.clocks.uncertainty as f64 / 1000.0,
        "contradictions": history.contradictions,
        "digest": digest(history),
        "notes": notes.iter().cloned().chain(problems(history)).collect::<Vec<_>>(),
        "story": story,
    });
    object.to_string()
}

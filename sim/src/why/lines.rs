//! Events as lines, in columns.

use super::{Link, Share};
use crate::record::{EventId, FaultRecord, Record, What};

/// Widest that the column of what happened gets before the next one moves.
const HAPPENED: usize = 54;
/// Longest that a line tells of what an agent did.
const DID: usize = 160;

/// The columns' headings.
#[must_use]
pub fn heading() -> String {
    format!(
        "{:>9} {:>13} {:>11}  {:>5}  {:<HAPPENED$}  what the agent did\n",
        "event", "seconds", "waited", "node", "what happened"
    )
}

/// What happened, and what the agent did; of a link only the output that led on.
#[must_use]
pub fn words(record: &Record, said: &Record, id: EventId, link: Option<Link>) -> (String, String) {
    let Some(event) = record.event(id) else { return Default::default() };
    let words = said.words(id).cloned().unwrap_or_default();
    let mut happened = words.happened;
    if let Some(digest) = event.blob().and_then(|blob| record.digest(blob))
        && !happened.contains(&digest.short())
    {
        happened.push_str(&format!(" [{}]", digest.short()));
    }
    if let Some(peer) = event.peer()
        && matches!(event.what, What::Piece | What::Answer | What::CallFails | What::TransferFails)
    {
        happened.push_str(&format!(" from node {peer}"));
    }
    let led_on = link.and_then(|link| link.output).and_then(|output| words.did.get(usize::from(output)).cloned());
    let mut did = led_on.unwrap_or_else(|| words.did.join("; "));
    if did.chars().count() > DID {
        did = did.chars().take(DID).chain("...".chars()).collect();
    }
    (happened, did)
}

/// An event as a line; `mark` is set before it.
#[must_use]
pub fn line(record: &Record, said: &Record, id: EventId, link: Option<Link>, mark: &str) -> String {
    let Some(event) = record.event(id) else { return String::new() };
    let (happened, did) = words(record, said, id, link);
    let waited = link.map_or(String::new(), |link| format!("+{:.6}", link.waited.as_secs_f64()));
    let node = event.node().map_or("-".to_owned(), |node| node.to_string());
    let seconds = event.at.as_micros() as f64 / 1e6;
    let text = format!("{mark:<1}{id:>8} {seconds:>13.6} {waited:>11}  {node:>5}  {happened:<HAPPENED$}  {did}");
    format!("{}\n", text.trim_end())
}

/// Where the time went, in lines.
pub(super) fn shares(record: &Record, shares: &[Share]) -> String {
    let all: f64 = shares.iter().map(|share| share.took.as_secs_f64()).sum();
    if all == 0.0 {
        return String::new();
    }
    let mut text = String::from("where the time went\n");
    for share in shares.iter().take(8) {
        let (took, (longest, id)) = (share.took.as_secs_f64(), share.longest);
        let peer =
            record.event(id).and_then(|event| event.peer()).map_or(String::new(), |peer| format!(" from node {peer}"));
        let often = match share.times {
            1 => String::new(),
            times => format!(", {times} times, {:.6} s at most{peer}", longest.as_secs_f64()),
        };
        text.push_str(&format!("{took:>11.6} s {:>3.0} %  {}{often}\n", took / all * 100.0, share.what));
    }
    text.push('\n');
    text
}

/// A fault as a line.
pub(super) fn fault(fault: &FaultRecord) -> String {
    let from = fault.at.as_micros() as f64 / 1e6;
    let to = fault.ended.map_or("the end".to_owned(), |ended| format!("{:.6}", ended.as_micros() as f64 / 1e6));
    let whom = if fault.nodes.is_empty() { String::new() } else { format!(", {}", crate::record::these(&fault.nodes)) };
    format!("{:>9} {from:>13.6} to {to}  fault: {}{whom}\n", fault.event, fault.words)
}

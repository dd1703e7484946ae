//! What a replay found, for people and for programs.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use longshore_core::agent::status::Status;
use longshore_core::journal::JournalError;
use longshore_core::journal::file::End;
use longshore_sim::replay::{Journal, Replayed};

use crate::status::page;
use crate::status::view::Flight;

/// The end of a replay.
pub(super) struct Summary<'a> {
    pub(super) journals: &'a [Journal],
    pub(super) replayed: &'a Replayed,
    pub(super) wall: Duration,
}

impl Summary<'_> {
    /// For people.
    pub(super) fn text(&self) -> String {
        let Replayed { inputs, outputs, kinds, died, divergence, digest, .. } = self.replayed;
        let mut text = String::new();
        let mut say = |label: &str, what: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{label:<12}{what}");
        };
        if let Some(Journal { header, .. }) = self.journals.first() {
            let since = SystemTime::UNIX_EPOCH + Duration::from_micros(header.epoch_unix_micros);
            let disguise = if header.redacted { ", redacted" } else { "" };
            let peer = &header.config.peer;
            say("agent", format!("{} ({peer}), {}{disguise}", header.config.name, header.program));
            say("started", httpdate::fmt_http_date(since));
        }
        say("inputs", format!("{inputs}, which led to {outputs} outputs"));
        let mut sorted: Vec<_> = kinds.iter().collect();
        sorted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let sorted: Vec<_> = sorted.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        say("kinds", sorted.join(", "));
        let span = self.span();
        say("span", format!("{:.3} s, replayed in {:.3} s", span.as_secs_f64(), self.wall.as_secs_f64()));
        say("end", self.end());
        say("digest", format!("{digest:016x}"));
        let result = match divergence {
            Some(divergence) => format!("DIFFERENT {divergence}"),
            None if *died => "the same: the agent panicked in the last input, and does so again".to_owned(),
            None => "the same, input by input".to_owned(),
        };
        say("replay", result);
        text
    }

    fn span(&self) -> Duration {
        match (self.replayed.first, self.replayed.last) {
            (Some(first), Some(last)) => last.since(first),
            _ => Duration::ZERO,
        }
    }

    fn end(&self) -> String {
        match self.journals.last() {
            Some(Journal { damage: Some(JournalError::Truncated { .. }), .. }) => {
                "cut off within a frame, as when an agent is killed; everything before it was replayed".to_owned()
            }
            Some(Journal { damage: Some(damage), .. }) => damage.to_string(),
            Some(Journal { end: Some(End::Closed), .. }) => "the agent ended".to_owned(),
            Some(Journal { end: Some(End::Rotated), .. }) => "the next file goes on".to_owned(),
            Some(Journal { end: Some(End::Stopped(why)), .. }) => format!("recording stopped: {why}"),
            Some(Journal { end: None, .. }) | None => {
                "nothing says that the agent ended: it was killed, or runs still".to_owned()
            }
        }
    }

    /// For programs.
    pub(super) fn json(&self, story: &[String]) -> String {
        let divergence = self.replayed.divergence.as_ref().map(|divergence| {
            serde_json::json!({
                "input": divergence.number,
                "seconds": divergence.time.as_micros() as f64 / 1e6,
                "kind": divergence.kind,
                "what": divergence.to_string(),
            })
        });
        let header = self.journals.first().map(|journal| &journal.header);
        let object = serde_json::json!({
            "program": header.map(|header| &header.program),
            "node": header.map(|header| &*header.config.name),
            "redacted": header.is_some_and(|header| header.redacted),
            "inputs": self.replayed.inputs,
            "outputs": self.replayed.outputs,
            "kinds": self.replayed.kinds,
            "virtual_seconds": self.span().as_secs_f64(),
            "wall_seconds": self.wall.as_secs_f64(),
            "digest": format!("{:016x}", self.replayed.digest),
            "end": self.end(),
            "complete": self.journals.last().is_some_and(|journal| journal.damage.is_none()),
            "panicked": self.replayed.died,
            "divergence": divergence,
            "story": story,
        });
        object.to_string()
    }
}

/// The agent at one moment.
pub(super) fn status(status: &Status) -> String {
    let mut text = format!(
        "  {}, {} members, {} blobs ({} B), {} incomplete, {} requests of containerd, {} streams, {} calls, {} deadlines\n",
        if status.ready { "ready" } else { status.reason.as_deref().unwrap_or("not ready") },
        status.members,
        status.blobs,
        status.blob_bytes,
        status.partial_blobs,
        status.mirror_requests,
        status.streams,
        status.calls,
        status.deadlines,
    );
    // Writing to a string cannot fail.
    for limiting in &status.limiting {
        let _ = writeln!(text, "  {}", page::limiting_line(&limiting.clone().into()));
    }
    for flight in status.flights.iter().cloned().map(Flight::from) {
        let _ = writeln!(text, "  {}", page::flight_line(&flight));
        let _ = writeln!(
            text,
            "      tracker {}; {} of {} pieces; containerd may have {} B; {} B from the registry, {} B from peers",
            flight.tracker.as_deref().unwrap_or("-"),
            flight.pieces,
            flight.pieces_total,
            flight.released_bytes,
            flight.origin_bytes,
            flight.peer_bytes,
        );
    }
    text
}

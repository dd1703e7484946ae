//! `longshore replay`: executes a recorded agent again, and tells what it did and why.

mod cluster;
mod load;
mod print;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use longshore_core::digest::Digest;
use longshore_core::journal::JournalError;
use longshore_core::names::PeerId;
use longshore_core::time::Time;
use longshore_net::journal::EXTENSION;
use longshore_sim::history::lives::Life;
use longshore_sim::replay::causes::{Cause, Subject, Threads};
use longshore_sim::replay::redacted::{RedactError, redact_all};
use longshore_sim::replay::{Journal, Replayed, Step, replay, story};

/// Exit code when the replay did something else than the agent, or when the file is damaged.
const EXIT_DIFFERENT: u8 = 1;
/// How much of the story `--at` shows, before and after.
const AROUND: Duration = Duration::from_secs(1);
/// Longest chain of causes: real ones are a tenth of it.
const MOST_CAUSES: usize = 200;

/// The flags of `longshore replay`.
#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    /// Journals, or directories of journals; those of several nodes are joined into one history
    ///
    /// Of a directory into which one agent has written, the last start counts.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Tell the story: one line for each input
    #[arg(long)]
    story: bool,
    /// Tell the story within a second of this time, and show the agent as it was then; in seconds since the
    /// agent's start, or since the first agent's
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    at: Option<Time>,
    /// Tell only what is about this digest; some of its first hex digits are enough
    #[arg(long, value_name = "DIGEST")]
    digest: Option<String>,
    /// Tell only what is about this peer; some of its last characters are enough. Of several nodes, also what happened on the
    /// one with this name or peer ID
    #[arg(long, value_name = "PEER")]
    peer: Option<String>,
    /// Tell what led to the input of this number, and back to where it began; of several nodes, NODE:NUMBER
    #[arg(long, value_name = "EVENT", conflicts_with_all = ["at", "digest", "peer", "story"])]
    why: Option<String>,
    /// Print the result as one JSON object; what is told comes as its 'story'
    #[arg(long)]
    json: bool,
    /// Write a scenario for 'longshore sim run' in which happens what the journals tell of
    ///
    /// Comments in the file say what was estimated from what.
    #[arg(long, value_name = "FILE.toml", conflicts_with_all = ["story", "at", "digest", "peer", "why", "export_redacted"])]
    export_scenario: Option<PathBuf>,
    /// Write a journal without names of registries, repositories and zones, addresses and challenges, for giving away
    ///
    /// Of several, a directory of journals with the same pseudonyms in all of them, so that they still join.
    /// It is proven first that the agent decides the same with it. Digests, peer IDs and names of nodes stay: rendezvous
    /// hashing depends on them.
    #[arg(long, value_name = "OUT", conflicts_with_all = ["story", "at", "digest", "peer", "why"])]
    export_redacted: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<Time, String> {
    let number: f64 =
        text.trim_end_matches('s').parse().map_err(|_| format!("expected seconds such as 83.5, got {text}"))?;
    let duration =
        Duration::try_from_secs_f64(number).map_err(|_| format!("expected seconds such as 83.5, got {text}"))?;
    Ok(Time::ZERO + duration)
}

/// Why a journal cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A file or directory cannot be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: String,
        /// What was found.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path}: {source}")]
    Journal {
        /// Which.
        path: String,
        /// What is wrong.
        source: JournalError,
    },
    /// The files are.
    #[error("the files: {0}")]
    Files(#[from] JournalError),
    /// It cannot be redacted.
    #[error("{path} cannot be redacted: {source}")]
    Redact {
        /// Which.
        path: String,
        /// Why.
        source: RedactError,
    },
    /// The arguments ask for something that is not there.
    #[error("{0}")]
    Nothing(String),
}

/// Does what the flags say; prints to `out`.
///
/// # Errors
/// When the files cannot be read, or are no journal.
pub fn run(args: &ReplayArgs, out: &mut dyn std::io::Write) -> Result<ExitCode, ReplayError> {
    let load::Loaded { mut lives, notes } = load::load(&args.files)?;
    if let Some(path) = &args.export_redacted {
        return export(&lives, path, out);
    }
    if lives.len() != 1 || args.export_scenario.is_some() {
        return cluster::run(args, &lives, &notes, out);
    }
    let journals = lives.remove(0).journals;
    let started = Instant::now();
    let mut story = Vec::new();
    let mut show = |line: &str| {
        if args.json {
            story.push(line.to_owned());
        } else {
            // A reader that has enough (`| head`) is no error.
            let _ = writeln!(out, "{line}");
        }
    };
    notes.iter().for_each(|note| show(&format!("note: {note}")));
    let replayed = match &args.why {
        Some(event) => explain(&journals, number(event)?, &mut show)?,
        None => tell(&journals, args, &mut show)?,
    };
    let summary = print::Summary { journals: &journals, replayed: &replayed, wall: started.elapsed() };
    let text = if args.json { summary.json(&story) } else { summary.text() };
    // The same.
    let _ = writeln!(out, "{}", text.trim_end());
    let damaged =
        journals.iter().any(|journal| !matches!(&journal.damage, None | Some(JournalError::Truncated { .. })));
    let good = replayed.divergence.is_none() && !damaged;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(EXIT_DIFFERENT) })
}

/// The number of an input of one agent; with or without the node's name before it.
fn number(event: &str) -> Result<u64, ReplayError> {
    let number = event.rsplit_once(':').map_or(event, |(_, number)| number);
    number
        .parse()
        .map_err(|_| ReplayError::Nothing(format!("'{event}' names no input; expected a number, such as 1384")))
}

/// What part of the story is told.
struct Filter {
    digest: Option<String>,
    peer: Option<String>,
    from: Time,
    to: Time,
}

impl Filter {
    fn new(args: &ReplayArgs) -> Self {
        let digest = args.digest.as_ref().map(|text| text.trim_start_matches("sha256:").to_ascii_lowercase());
        let (from, to) = match args.at {
            Some(at) => {
                let around = u64::try_from(AROUND.as_micros()).unwrap_or(u64::MAX);
                (Time::from_micros(at.as_micros().saturating_sub(around)), at + AROUND)
            }
            None => (Time::ZERO, Time::from_micros(u64::MAX)),
        };
        Self { digest, peer: args.peer.clone(), from, to }
    }

    fn digest<'a>(&self, subject: &'a Subject) -> Option<&'a Digest> {
        match &self.digest {
            Some(prefix) => subject.digests.iter().find(|digest| digest.hex().starts_with(prefix)),
            None => subject.digests.first(),
        }
    }

    fn tells(&self, step: &Step<'_>, subject: &Subject) -> bool {
        let peer = |wanted: &String| subject.peers.iter().any(|peer: &PeerId| peer.as_str().ends_with(wanted.as_str()));
        (self.from..=self.to).contains(&step.time)
            && (self.digest.is_none() || self.digest(subject).is_some())
            && self.peer.as_ref().is_none_or(peer)
    }
}

fn tell(journals: &[Journal], args: &ReplayArgs, show: &mut dyn FnMut(&str)) -> Result<Replayed, ReplayError> {
    let telling = args.story || args.at.is_some() || args.digest.is_some() || args.peer.is_some();
    if !telling {
        return Ok(replay(journals, |_| {})?);
    }
    let filter = Filter::new(args);
    let mut threads = Threads::default();
    let mut lines: u64 = 0;
    let mut then = None;
    let replayed = replay(journals, |step| {
        if let Some(at) = args.at
            && step.time <= at
        {
            then = Some((step.number, step.agent.status()));
        }
        let (subject, _) = threads.follow(step);
        if filter.tells(step, &subject) {
            if lines == 0 {
                show(&story::heading());
            }
            lines += 1;
            show(&story::line(step, filter.digest(&subject)));
        }
    })?;
    if lines == 0 {
        show("nothing in this journal is about that");
    }
    if let Some((number, status)) = then {
        show(&format!("\nThe agent after input {number}:\n{}", print::status(&status)));
    }
    show("");
    Ok(replayed)
}

/// Shows the chain of causes of an input.
fn explain(journals: &[Journal], wanted: u64, show: &mut dyn FnMut(&str)) -> Result<Replayed, ReplayError> {
    let first = journals.first().map_or(0, |journal| journal.header.inputs_before);
    let mut causes: Vec<Option<Cause>> = Vec::new();
    let mut threads = Threads::default();
    let replayed = replay(journals, |step| {
        if step.number <= wanted {
            causes.push(threads.follow(step).1);
        }
    })?;
    let cause = |number: u64| causes.get(usize::try_from(number.checked_sub(first)?).ok()?)?.as_ref();
    if wanted < first || wanted >= first + replayed.inputs {
        let last = (first + replayed.inputs).saturating_sub(1);
        return Err(ReplayError::Nothing(format!("there is no input {wanted}; these files have {first} to {last}")));
    }
    let mut chain = vec![wanted];
    while let Some(cause) = chain.last().and_then(|number| cause(*number))
        && chain.len() < MOST_CAUSES
    {
        chain.push(cause.number);
    }
    let members: BTreeSet<u64> = chain.iter().copied().collect();
    let mut threads = Threads::default();
    show(&story::heading());
    replay(journals, |step| {
        let (subject, cause) = threads.follow(step);
        if members.contains(&step.number) {
            if let Some(Cause { number, why }) = cause {
                show(&format!("{:>8} {:>13}  ^ {why} {number}", "", ""));
            }
            show(&story::line(step, subject.digests.first()));
        }
    })?;
    show("");
    Ok(replayed)
}

fn export(lives: &[Life], path: &Path, out: &mut dyn std::io::Write) -> Result<ExitCode, ReplayError> {
    let shown = path.display().to_string();
    let journals: Vec<&Journal> = lives.iter().flat_map(|life| &life.journals).collect();
    let failed = |source| ReplayError::Redact { path: shown.clone(), source };
    let redacted = redact_all(&journals).map_err(failed)?;
    let writing = |source| ReplayError::Io { action: "write", path: shown.clone(), source };
    let one = redacted.journals.len() == 1;
    if !one {
        std::fs::create_dir_all(path).map_err(writing)?;
    }
    for (number, journal) in redacted.journals.iter().enumerate() {
        let bytes = journal.write().map_err(|error| failed(error.into()))?;
        let file = if one { path.to_owned() } else { path.join(format!("{number:05}.{EXTENSION}")) };
        std::fs::write(file, bytes).map_err(writing)?;
    }
    let line = format!(
        "{shown}: {} inputs, {} names replaced; the agent decides the same with them, input by input",
        redacted.journals.iter().map(Journal::inputs).sum::<u64>(),
        redacted.key.len()
    );
    // A reader that has enough is no error.
    let _ = writeln!(out, "{line}");
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests;

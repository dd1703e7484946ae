//! `longshore replay`: executes a recorded agent again, and tells what it did and why.

mod load;
mod print;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use longshore_core::digest::Digest;
use longshore_core::journal::JournalError;
use longshore_core::names::PeerId;
use longshore_core::time::Time;
use longshore_sim::replay::causes::{Cause, Subject, Threads};
use longshore_sim::replay::redacted::{RedactError, redact};
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
    /// Files of one agent's journal in their order, or the directory (then: the last agent's that wrote there)
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Tell the story: one line for each input
    #[arg(long)]
    story: bool,
    /// Tell the story within a second of this time, and show the agent as it was then; in seconds since the agent's start
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    at: Option<Time>,
    /// Tell only what is about this digest; some of its first hex digits are enough
    #[arg(long, value_name = "DIGEST")]
    digest: Option<String>,
    /// Tell only what is about this peer; some of its last characters are enough
    #[arg(long, value_name = "PEER")]
    peer: Option<String>,
    /// Tell what led to the input of this number, and back to where it began
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["at", "digest", "peer", "story"])]
    why: Option<u64>,
    /// Print the result as one JSON object
    #[arg(long, conflicts_with_all = ["story", "at", "digest", "peer", "why"])]
    json: bool,
    /// Write a journal without names of registries, repositories and zones, addresses and challenges, for giving away
    ///
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
    let journals = load::load(&args.files)?;
    if let Some(path) = &args.export_redacted {
        return export(&journals, path, out);
    }
    let started = Instant::now();
    let mut show = |line: &str| {
        // A reader that has enough (`| head`) is no error.
        let _ = writeln!(out, "{line}");
    };
    let replayed = match args.why {
        Some(number) => explain(&journals, number, &mut show)?,
        None => tell(&journals, args, &mut show)?,
    };
    let summary = print::Summary { journals: &journals, replayed: &replayed, wall: started.elapsed() };
    show(if args.json { summary.json() } else { summary.text() }.trim_end());
    let damaged =
        journals.iter().any(|journal| !matches!(&journal.damage, None | Some(JournalError::Truncated { .. })));
    let good = replayed.divergence.is_none() && !damaged;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(EXIT_DIFFERENT) })
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

fn export(journals: &[Journal], path: &std::path::Path, out: &mut dyn std::io::Write) -> Result<ExitCode, ReplayError> {
    let shown = path.display().to_string();
    let [journal] = journals else {
        return Err(ReplayError::Nothing(format!(
            "one file at a time can be redacted, so that names keep their order within it; {} were given",
            journals.len()
        )));
    };
    let failed = |source| ReplayError::Redact { path: shown.clone(), source };
    let redacted = redact(journal).map_err(failed)?;
    let bytes = redacted.journal.write().map_err(|error| failed(error.into()))?;
    std::fs::write(path, bytes).map_err(|source| ReplayError::Io { action: "write", path: shown.clone(), source })?;
    let line = format!(
        "{shown}: {} inputs, {} names replaced; the agent decides the same with them, input by input",
        redacted.journal.inputs(),
        redacted.key.len()
    );
    // A reader that has enough is no error.
    let _ = writeln!(out, "{line}");
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests;

//! `longshore replay` of several nodes: one history.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use longshore_sim::history::export::export;
use longshore_sim::history::lives::Life;
use longshore_sim::history::why::{Because, Causes};
use longshore_sim::history::{Event, History};
use longshore_sim::replay::causes::Threads;
use longshore_sim::replay::{Stepper, story};

use super::{EXIT_DIFFERENT, Filter, ReplayArgs, ReplayError};

mod figures;

/// Agents whose state `--at` shows.
const MOST_STATES: usize = 20;

/// Does what the flags say with the journals of several agents.
pub(super) fn run(
    args: &ReplayArgs,
    lives: &[Life],
    notes: &[String],
    out: &mut dyn std::io::Write,
) -> Result<ExitCode, ReplayError> {
    let started = Instant::now();
    if let Some(path) = &args.export_scenario {
        return scenario(path, lives, notes, out);
    }
    let filter = Filter::new(args);
    let mut wanted = Vec::new();
    let picky = args.digest.is_some() || args.peer.is_some();
    let history = History::join(lives, |life, step, subject| {
        if picky && told(args, &filter, &lives[life], subject) {
            wanted.push(Event { life: life as u32, index: (step.number - lives[life].first_number()) as u32 });
        }
    });
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
    if let Some(label) = &args.why {
        let event = history.find(label).map_err(ReplayError::Nothing)?;
        let chain = Causes::of(&history).chain(&history, event);
        let because = chain.iter().filter_map(|(event, because)| Some((*event, (*because)?))).collect();
        let events: Vec<_> = chain.into_iter().map(|(event, _)| event).collect();
        tell(&history, &events, None, &because, &mut show)?;
    } else if args.story || args.at.is_some() || picky {
        let selected: BTreeSet<Event> = wanted.into_iter().collect();
        let within = |event: &&Event| {
            let time = u64::try_from(history.time(**event)).unwrap_or(0);
            (filter.from.as_micros()..=filter.to.as_micros()).contains(&time) && (!picky || selected.contains(event))
        };
        let events: Vec<Event> = history.order.iter().filter(within).copied().collect();
        tell(&history, &events, Some(&filter), &BTreeMap::new(), &mut show)?;
        if events.is_empty() {
            show("nothing in these journals is about that");
        }
        if let Some(at) = args.at {
            states(&history, at.as_micros(), &mut show)?;
        }
    }
    if !args.json && (args.why.is_some() || args.story || args.at.is_some() || picky) {
        show("");
    }
    let text = if args.json {
        figures::json(&history, notes, &story, started.elapsed())
    } else {
        figures::text(&history, started.elapsed())
    };
    // The same.
    let _ = writeln!(out, "{}", text.trim_end());
    let good = history.outcomes.iter().all(|outcome| outcome.divergence.is_none() && outcome.broken.is_none());
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(EXIT_DIFFERENT) })
}

fn told(args: &ReplayArgs, filter: &Filter, life: &Life, subject: &longshore_sim::replay::causes::Subject) -> bool {
    let own = |wanted: &String| life.name == *wanted || life.peer.as_str().ends_with(wanted.as_str());
    let other = |wanted: &String| subject.peers.iter().any(|peer| peer.as_str().ends_with(wanted.as_str()));
    (args.digest.is_none() || filter.digest(subject).is_some())
        && args.peer.as_ref().is_none_or(|wanted| own(wanted) || other(wanted))
}

/// Executes the agents side by side, as far as needed, and shows these inputs in this order.
fn tell(
    history: &History<'_>,
    events: &[Event],
    filter: Option<&Filter>,
    because: &BTreeMap<Event, Because>,
    show: &mut dyn FnMut(&str),
) -> Result<(), ReplayError> {
    if !events.is_empty() {
        show(&format!("{:>13}  {:<24} {:<56}  what the agent did", "seconds", "input", "what happened"));
    }
    let involved: BTreeSet<u32> = events.iter().map(|event| event.life).collect();
    let mut agents = BTreeMap::new();
    for life in involved {
        agents.insert(life, (Stepper::new(&history.lives[life as usize].journals)?, Threads::default(), 0_u32));
    }
    for event in events {
        let Some((stepper, threads, next)) = agents.get_mut(&event.life) else { continue };
        while *next <= event.index {
            let Some(step) = stepper.advance()? else { break };
            let (subject, _) = threads.follow(&step);
            if *next == event.index {
                let about = filter.map_or(subject.digests.first(), |filter| filter.digest(&subject));
                let (happened, did) = story::words(&step, about);
                if let Some(because) = because.get(event) {
                    show(&format!("{:>13}  ^ {}", "", because.words()));
                }
                let (seconds, label) = (history.time(*event) as f64 / 1e6, history.label(*event));
                show(format!("{seconds:>13.6}  {label:<24} {happened:<56}  {did}").trim_end());
            }
            *next += 1;
        }
    }
    Ok(())
}

/// The agents as they were at a time, those with something on its way first.
fn states(history: &History<'_>, at: u64, show: &mut dyn FnMut(&str)) -> Result<(), ReplayError> {
    let mut states = Vec::new();
    for (life, found) in history.lives.iter().enumerate() {
        let before = |time: &u64| history.clocks.common(life, *time) <= at.cast_signed();
        let count = history.facts[life].times.partition_point(before);
        if count == 0 || count == history.facts[life].times.len() {
            continue;
        }
        let mut stepper = Stepper::new(&found.journals)?;
        let mut last = None;
        for _ in 0..count {
            match stepper.advance()? {
                Some(step) => last = Some(step.number),
                None => break,
            }
        }
        if let Some(number) = last {
            states.push((format!("{}:{number}", found.label), stepper.finish().agent.status()));
        }
    }
    states.sort_by_key(|(_, status)| std::cmp::Reverse(status.flights.len()));
    show(&format!("\n{} agents were alive then", states.len()));
    for (label, status) in states.iter().take(MOST_STATES) {
        show(&format!("after {label}:\n{}", super::print::status(status).trim_end()));
    }
    Ok(())
}

fn scenario(
    path: &Path,
    lives: &[Life],
    notes: &[String],
    out: &mut dyn std::io::Write,
) -> Result<ExitCode, ReplayError> {
    let exported = export(lives).map_err(ReplayError::Nothing)?;
    let shown = path.display().to_string();
    std::fs::write(path, &exported.text).map_err(|source| ReplayError::Io {
        action: "write",
        path: shown.clone(),
        source,
    })?;
    for note in notes {
        // A reader that has enough is no error.
        let _ = writeln!(out, "note: {note}");
    }
    let scenario = &exported.scenario;
    // The same.
    let _ = writeln!(
        out,
        "{shown}: {} nodes, {} images, {} faults; run it with: longshore sim run {shown}",
        scenario.cluster.nodes,
        scenario.images.len(),
        scenario.faults.len()
    );
    Ok(ExitCode::SUCCESS)
}

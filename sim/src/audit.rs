//! The determinism audit: the same scenario and seed, run twice, has to be the same run.
//!
//! A run's digest is taken after every so many events, and an event is everything that goes into an agent or comes out of
//! it, in full: much more than the trace hash takes in, which has to be cheap. The two runs have little in common but
//! scenario and seed: each has a thread of its own, at the same time as the other one, and in the second's thread another
//! scenario has run before. What depends on hash order, on addresses, on a clock, or on what ran before differs between
//! them. Where they differ is found by running them again, this time keeping the events of the first window that differed.

pub mod pins;
mod record;

use std::time::Duration;

use serde::Serialize;

pub(crate) use record::Recorder;
pub use record::Settings;

use crate::chance::Chance;
use crate::fuzz::{Limits, draw};
use crate::run::run_in;
use crate::scenario::Scenario;
use crate::world::{NodeIndex, World};

/// Events between two digests: a run of a million events has a thousand of them.
const WINDOW: u64 = 1024;
/// Pairs of runs to name the event. A leak need not show at the same place each time.
const TRIES: u32 = 8;
/// Most characters of an event that are shown.
const SHOWN: usize = 240;
/// What runs in the second run's thread before it: any scenario, and a quick one.
const BEFORE: Limits = Limits { nodes: 6, layer_bytes: 8 << 20 };

/// What came of an audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Audited {
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// Events of the first run: inputs and outputs of all agents.
    pub events: u64,
    /// The digest of all of them, in hex.
    pub digest: String,
    /// Where the second run was another one.
    pub difference: Option<Difference>,
}

/// Where two runs part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Number of the first event of the first window that differs.
    pub window_start: u64,
    /// Events in a window.
    pub window_events: u64,
    /// The first event that differs; `None` if the runs did not part at the same place again.
    pub event: Option<DifferentEvent>,
}

/// The first event that two runs do not share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DifferentEvent {
    /// Its number; the first event of a run is 0.
    pub number: u64,
    /// What happened in the first run: time, node, and what went into its agent (`<-`) or came out (`->`).
    pub first: String,
    /// What happened in the second run.
    pub second: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = self.window_start + self.window_events;
        writeln!(formatter, "two runs part among events {} to {end}", self.window_start)?;
        match &self.event {
            Some(event) => {
                writeln!(formatter, "first different event: {}", event.number)?;
                writeln!(formatter, "    one run:   {}", event.first)?;
                write!(formatter, "    the other: {}", event.second)
            }
            None => write!(formatter, "they did not part at the same place again; audit the seed once more"),
        }
    }
}

/// Whether `seed` is among the share of seeds that is audited.
#[must_use]
pub fn is_in_share(seed: u64, percent: u32) -> bool {
    Chance::new(seed ^ 0xa0d1).below(100) < u64::from(percent)
}

/// Runs `scenario` with `seed` twice and compares.
///
/// # Panics
/// If a run does.
#[must_use]
pub fn audit(scenario: &Scenario, seed: u64) -> Audited {
    audit_with_noise(scenario, seed, |_| Duration::ZERO)
}

/// The same, with something added to the latency of every message: this is where tests of the audit plant leaks.
///
/// # Panics
/// If a run does.
#[must_use]
pub fn audit_with_noise(scenario: &Scenario, seed: u64, noise: fn(NodeIndex) -> Duration) -> Audited {
    let pair = |lines: std::ops::Range<u64>| run_pair(scenario, seed, noise, &Settings { window: WINDOW, lines });
    let (first, second) = pair(0..0);
    let mut difference = None;
    let mut found = first.first_difference(&second);
    for _ in 0..TRIES {
        let Some(window) = found else { break };
        let start = window as u64 * WINDOW;
        difference = Some(Difference { window_start: start, window_events: WINDOW, event: None });
        let (first, second) = pair(start..start + WINDOW);
        let again = first.first_difference(&second);
        if again == found {
            let number = first.lines.iter().zip(&second.lines).take_while(|(one, other)| one == other).count();
            let (first, second) = shown(first.lines.get(number), second.lines.get(number));
            let event = Some(DifferentEvent { number: start + number as u64, first, second });
            difference = Some(Difference { window_start: start, window_events: WINDOW, event });
            break;
        }
        found = again.or(found);
    }
    Audited {
        scenario: scenario.name.clone(),
        seed,
        events: first.events,
        digest: format!("{:016x}", first.digest()),
        difference,
    }
}

fn run_pair(
    scenario: &Scenario,
    seed: u64,
    noise: fn(NodeIndex) -> Duration,
    settings: &Settings,
) -> (Recorder, Recorder) {
    let record = || {
        let mut options = scenario.options(seed);
        options.noise = noise;
        options.record = Some(settings.clone());
        let mut world = World::new(options);
        run_in(scenario, seed, &mut world);
        world.take_auditor().expect("a world with record settings has a recorder")
    };
    std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            let before = draw(seed.wrapping_add(1), BEFORE);
            let mut options = before.options(before.seed);
            options.noise = noise;
            run_in(&before, before.seed, &mut World::new(options));
            record()
        });
        let first = scope.spawn(record);
        let finished = |run: std::thread::ScopedJoinHandle<'_, Recorder>| {
            run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        (finished(first), finished(second))
    })
}

/// Both events, from shortly before where they part.
fn shown(first: Option<&String>, second: Option<&String>) -> (String, String) {
    let none = String::from("(the run was over)");
    let (first, second) = (first.unwrap_or(&none), second.unwrap_or(&none));
    let same = first.chars().zip(second.chars()).take_while(|(one, other)| one == other).count();
    let skipped = same.saturating_sub(SHOWN / 2);
    let part = |text: &str| {
        let part: String = text.chars().skip(skipped).take(SHOWN).collect();
        let (head, tail) =
            (if skipped > 0 { "..." } else { "" }, if part.len() + skipped < text.len() { "..." } else { "" });
        format!("{head}{part}{tail}")
    };
    (part(first), part(second))
}

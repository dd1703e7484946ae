//! Hunts the planted bugs: each in a process of its own, seeds from a fixed start, until a rule is broken or the budget is
//! used up; what breaks is made smaller. What no seed finds is tried on what is written down in
//! `scenarios`. Writes the table of `sim/MUTANTS.md`. See `make mutants`.
//!
//! `--budget SECONDS` of CPU for each (60), `--shrink SECONDS` of CPU (60), `--jobs N` at a time (2), `--control SECONDS`
//! without any bug (120), `--from SEED` (1), `--only NAME,NAME`: these only, and what is left of them is printed;
//! `--run FILE`: this scenario is run with each of them instead, and if no rule is broken its figures are printed;
//! `--without RULE,RULE`: who breaks these is not found by it (rules that are known to be broken without a bug as well).

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use longshore_core::mutants::{ENABLED, Mutant, TABLE, select};
use longshore_sim::fuzz::{Found, Limits, shrink::shrink_while, try_scenario, try_seed};
use longshore_sim::run::Summary;
use longshore_sim::scenario::Scenario;
use rustix::time::{ClockId, clock_gettime};

/// What is drawn: small enough to be fast, large enough for a swarm with neighbours to choose from.
const LIMITS: Limits = Limits { nodes: 24, layer_bytes: 48 << 20 };
/// The name of the run without a bug.
const CONTROL: &str = "none";
/// What was once found: scenarios that broke a rule before something was mended, and what is expected of them now. And those that
/// show how it should be.
const CORPUS: [&str; 2] = ["scenarios/found", "scenarios"];
/// Of those, such as have no more nodes.
const CORPUS_NODES: usize = 100;
/// With so many seeds: its own, and the next ones.
const CORPUS_SEEDS: u64 = 4;
/// And with so many seeds those that are fast: what was found with one seed is found with another one when the order of things has
/// changed.
const CORPUS_MORE_SEEDS: u64 = 64;
/// For so long in CPU time, each of them.
const CORPUS_EACH: Duration = Duration::from_secs(1);
/// The most CPU time for all of it, in seconds: it is given up then.
const CORPUS_LIMIT: Duration = Duration::from_secs(300);
/// And so much more for the last of them: who takes longer is without an end.
const RUN_LIMIT: Duration = Duration::from_secs(120);
/// Where the table goes.
const TABLE_FILE: &str = "sim/MUTANTS.md";

struct Options {
    budget: u64,
    shrink: u64,
    jobs: usize,
    control: u64,
    from: u64,
    only: Vec<String>,
    without: Vec<String>,
    run: Option<String>,
    hunt: Option<String>,
}

/// What came of one hunt, as its process prints it.
#[derive(Clone, Debug, Default)]
struct Hunt(BTreeMap<String, String>);

impl Hunt {
    fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    fn number(&self, key: &str) -> f64 {
        self.get(key).parse().unwrap_or(0.0)
    }

    fn is_found(&self) -> bool {
        !self.get("rule").is_empty()
    }

    /// The scenario of the [`CORPUS`] that found it, if no seed did.
    fn in_corpus(&self) -> Option<&str> {
        Some(self.get("corpus")).filter(|file| !file.is_empty())
    }

    fn is_small(&self) -> bool {
        self.is_found() && self.number("faults") <= 10.0 && self.number("nodes") <= 10.0
    }
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        budget: 60,
        shrink: 60,
        jobs: 2,
        control: 120,
        from: 1,
        only: Vec::new(),
        without: Vec::new(),
        run: None,
        hunt: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or(format!("'{name}' needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("'{name} {value}' is no number"));
        match name.as_str() {
            "--budget" => options.budget = number()?,
            "--shrink" => options.shrink = number()?,
            "--jobs" => options.jobs = number()?.max(1) as usize,
            "--control" => options.control = number()?,
            "--from" => options.from = number()?,
            "--only" => options.only = value.split(',').map(str::to_owned).collect(),
            "--without" => options.without = value.split(',').map(str::to_owned).collect(),
            "--run" => options.run = Some(value),
            "--hunt" => options.hunt = Some(value),
            _ => {
                return Err(format!(
                    "'{name}' is no option; there are --budget, --shrink, --jobs, --control, --from, --only, --without, --run"
                ));
            }
        }
    }
    for name in &options.only {
        if name != CONTROL && !TABLE.iter().any(|mutant| mutant.name == name) {
            return Err(format!("'{name}' is no mutant; core/src/mutants.rs has the table"));
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(words) => {
            eprintln!("mutants: {words}");
            return ExitCode::from(2);
        }
    };
    if !ENABLED {
        eprintln!("mutants: this build has no bugs planted in it; run `make mutants`");
        return ExitCode::from(2);
    }
    match &options.hunt {
        Some(name) => hunt(name, &options),
        None => return hunt_all(&options),
    }
    ExitCode::SUCCESS
}

/// CPU time of this process so far.
fn cpu() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}

/// The hunt for one, in this process.
fn hunt(name: &str, options: &Options) {
    std::panic::set_hook(Box::new(|_| {}));
    let budget = Duration::from_secs(if name == CONTROL { options.control } else { options.budget });
    // A bug may well be an endless loop, or one that fills the memory.
    let limit = |resource, most| {
        let limits = rustix::process::Rlimit { current: Some(most), maximum: Some(most) };
        let _ = rustix::process::setrlimit(resource, limits);
    };
    limit(rustix::process::Resource::Cpu, budget.as_secs() + options.shrink + (CORPUS_LIMIT + RUN_LIMIT).as_secs());
    limit(rustix::process::Resource::As, 4 << 30);
    select(name);
    if let Some(file) = &options.run {
        return run_file(file, options.shrink);
    }
    if name == CONTROL {
        return control(budget, options);
    }
    let mut seed = options.from;
    let found = loop {
        if cpu() >= budget {
            break None;
        }
        if let Err(found) = try_seed(seed, LIMITS)
            && !options.without.iter().any(|rule| rule == found.rule())
        {
            // What breaks a rule without the bug as well was not found because of it; the control tells of that.
            select(CONTROL);
            let is_its_fault = try_seed(seed, LIMITS).is_ok();
            select(name);
            if is_its_fault {
                break Some(*found);
            }
        }
        seed += 1;
    };
    println!("seeds={}", seed - options.from + u64::from(found.is_some()));
    println!("cpu={:.2}", cpu().as_secs_f64());
    match found {
        Some(found) => make_smaller(found, options.shrink),
        None => hunt_in_corpus(name),
    }
}

/// The scenarios in a directory, in the order of their names.
fn files_of(directory: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let is_scenario =
        |file: &PathBuf| file.extension().is_some_and(|extension| extension == "toml") && !file.ends_with("Cargo.toml");
    let mut files: Vec<_> = entries.filter(is_scenario).collect();
    files.sort();
    files
}

/// A bug that was here is guarded against by what found it, however rarely that is drawn. What leads there with one seed may
/// not do so any more when something else has changed, so there are several.
fn hunt_in_corpus(name: &str) {
    let start = cpu();
    let mut corpus = Vec::new();
    for file in CORPUS.into_iter().flat_map(files_of) {
        match std::fs::read_to_string(&file).ok().and_then(|text| Scenario::parse(&text).ok()) {
            Some(scenario) => corpus.push((file, scenario)),
            None => return println!("said={} is no scenario", file.display()),
        }
    }
    corpus.retain(|(_, scenario)| scenario.cluster.nodes <= CORPUS_NODES);
    let mut took = vec![Duration::ZERO; corpus.len()];
    let runs = (0..CORPUS_MORE_SEEDS).flat_map(|round| corpus.iter().enumerate().map(move |of| (round, of)));
    for (round, (index, (file, scenario))) in runs {
        let begun = cpu();
        if begun - start > CORPUS_LIMIT {
            return println!("corpus=\nsaid=given up before {} with its seed + {round}", file.display());
        }
        if round >= CORPUS_SEEDS && took[index] > CORPUS_EACH {
            continue;
        }
        // If it never ends, that is what it was found by.
        println!("corpus={}\nbroken=a run ends", file.display());
        let broken = || match try_scenario(scenario.clone(), scenario.seed + round) {
            Err(found) => found.violations.into_iter().next(),
            // What is expected is expected of its own seed.
            Ok(report) => {
                let disappointment = report.disappointments.into_iter().next().filter(|_| round == 0);
                disappointment.map(|words| format!("an expectation: {words}"))
            }
        };
        let said = broken();
        took[index] += cpu() - begun;
        let Some(said) = said else { continue };
        select(CONTROL);
        let is_its_fault = broken().is_none();
        select(name);
        if is_its_fault {
            println!("broken={}", said.split(':').next().unwrap_or_default());
            return println!("said={}", said.replace('\n', " "));
        }
        eprintln!("{} with its seed + {round}, without a bug as well: {said}", file.display());
    }
    println!("corpus=");
}

/// A scenario that somebody has written down.
fn run_file(file: &str, shrink: u64) {
    let scenario = std::fs::read_to_string(file).map_err(|error| error.to_string()).and_then(|text| {
        let scenario = Scenario::parse(&text);
        scenario.map_err(|error| error.to_string())
    });
    match scenario {
        Ok(scenario) => {
            let seed = scenario.seed;
            println!("seeds=1\ncpu={:.2}", cpu().as_secs_f64());
            match try_scenario(scenario, seed) {
                Err(found) => make_smaller(*found, shrink),
                // What could be expected of it, if without the bug it is better.
                Ok(report) => {
                    let Summary { median_ratio, slowest_ratio, origin_copies, fallbacks, messages, .. } =
                        &report.summary;
                    println!(
                        "said=median {median_ratio:.3}, slowest {slowest_ratio:.3}, {origin_copies:.3} copies, {fallbacks} fall-backs, \
                         {messages} messages; {}",
                        report.disappointments.join("; ")
                    );
                }
            }
        }
        Err(words) => println!("said={file}: {words}"),
    }
}

/// What breaks a rule without any bug.
fn control(budget: Duration, options: &Options) {
    let (mut seed, mut broken, mut first) = (options.from, 0, None);
    while cpu() < budget {
        if let Err(found) = try_seed(seed, LIMITS) {
            let mut faults: Vec<_> = found.scenario.faults.iter().map(|fault| fault.what.name()).collect();
            faults.dedup();
            eprintln!("{CONTROL}: seed {seed} ({}): {}", faults.join(", "), found.violations[0]);
            broken += 1;
            first.get_or_insert(found);
        }
        seed += 1;
    }
    println!("seeds={}", seed - options.from);
    println!("broken={broken}");
    println!("cpu={:.2}", cpu().as_secs_f64());
    if let Some(found) = first {
        make_smaller(*found, options.shrink);
    }
}

/// Says what was found, and what is left of it when it is made smaller.
fn make_smaller(found: Found, shrink: u64) {
    println!("rule={}", found.rule());
    println!("said=seed {}: {}", found.seed, found.violations[0].replace('\n', " "));
    println!("nodes_before={}", found.scenario.cluster.nodes);
    println!("faults_before={}", found.scenario.faults.len());
    let start = cpu();
    let until = start + Duration::from_secs(shrink);
    let small = shrink_while(found, || cpu() < until);
    println!("shrinking={:.1}", (cpu() - start).as_secs_f64());
    println!("nodes={}", small.scenario.cluster.nodes);
    println!("faults={}", small.scenario.faults.len());
    println!("scenario={:?}", small.scenario.to_toml());
}

/// The hunt for one, in a process of its own.
fn send_out(name: &str, options: &Options) -> Hunt {
    let mut hunt = Hunt::default();
    let number = |value: u64| value.to_string();
    let child = std::env::current_exe().and_then(|program| {
        Command::new(program)
            .args(["--hunt", name, "--budget", &number(options.budget), "--shrink", &number(options.shrink)])
            .args(["--control", &number(options.control), "--from", &number(options.from)])
            .args(["--without", &options.without.join(",")])
            .args(options.run.iter().flat_map(|file| ["--run", file]))
            .stdout(Stdio::piped())
            .spawn()
    });
    let mut text = String::new();
    match child {
        Ok(mut child) => {
            if let Some(mut output) = child.stdout.take() {
                let _ = output.read_to_string(&mut text);
            }
            let status = child.wait();
            hunt.0 = text
                .lines()
                .filter_map(|line| line.split_once('='))
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect();
            let was_stopped = !status.as_ref().is_ok_and(|status| status.success());
            if was_stopped && hunt.in_corpus().is_some() {
                hunt.0.insert("said".into(), format!("the process was stopped: {status:?}"));
            } else if was_stopped && !hunt.is_found() {
                // It was stopped by its limits: a run without an end is a broken rule as well.
                hunt.0.insert("rule".into(), "a run ends".into());
                hunt.0.insert("said".into(), format!("the process was stopped: {status:?}"));
            }
        }
        Err(error) => {
            hunt.0.insert("said".into(), format!("no process for the hunt: {error}"));
        }
    }
    hunt
}

fn hunt_all(options: &Options) -> ExitCode {
    let mut names = vec![CONTROL];
    names.extend(TABLE.iter().map(|mutant| mutant.name));
    if !options.only.is_empty() {
        names.retain(|name| options.only.iter().any(|only| only == name));
    }
    let hunts: Mutex<BTreeMap<&str, Hunt>> = Mutex::default();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let hunt = send_out(name, options);
                    eprintln!(
                        "{name}: {} {} seeds, {} s of CPU; {} nodes, {} faults after {} s; {}",
                        if hunt.is_found() { hunt.get("rule") } else { hunt.in_corpus().unwrap_or("not found") },
                        hunt.get("seeds"),
                        hunt.get("cpu"),
                        hunt.get("nodes"),
                        hunt.get("faults"),
                        hunt.get("shrinking"),
                        hunt.get("said"),
                    );
                    if let Ok(mut hunts) = hunts.lock() {
                        hunts.insert(name, hunt);
                    }
                }
            });
        }
    });
    let hunts = hunts.into_inner().unwrap_or_default();
    if !options.only.is_empty() {
        for (name, hunt) in &hunts {
            println!("# {name}: {}\n{}", hunt.get("said"), hunt.get("scenario").replace("\\n", "\n").replace('\\', ""));
        }
        return ExitCode::SUCCESS;
    }
    let text = table(&hunts, options);
    if let Err(error) = std::fs::write(TABLE_FILE, &text) {
        eprintln!(
            "mutants: cannot write {TABLE_FILE} ({error}); run it from the root of the repository. The table:\n{text}"
        );
        return ExitCode::FAILURE;
    }
    let control_is_clean = hunts.get(CONTROL).is_some_and(|hunt| !hunt.is_found());
    if control_is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(0.0)
}

fn table(hunts: &BTreeMap<&str, Hunt>, options: &Options) -> String {
    let none = Hunt::default();
    let of = |mutant: &Mutant| hunts.get(mutant.name).unwrap_or(&none);
    let found: Vec<_> = TABLE.iter().map(of).filter(|hunt| hunt.is_found()).collect();
    let small = found.iter().filter(|hunt| hunt.is_small()).count();
    let control = hunts.get(CONTROL).unwrap_or(&none);
    let share = |part: usize, all: usize| 100.0 * part as f64 / all.max(1) as f64;
    let mut text = String::from(
        "# Planted bugs\n\nWritten by `make mutants`; `core/src/mutants.rs` has the bugs, `longshore sim rules` the rules. For each, the\n\
         fuzzer draws scenarios from a fixed start until a rule is broken, and makes the first failure smaller.\n\n",
    );
    let in_corpus = TABLE.iter().filter(|mutant| of(mutant).in_corpus().is_some()).count();
    text += &format!(
        "- Found: {} of {} ({:.1} %; the goal is 95 %): {} by what is drawn, each within {} s of CPU time, and {in_corpus} that\n  \
         are drawn too rarely by what is written down (`{}`).\n",
        found.len() + in_corpus,
        TABLE.len(),
        share(found.len() + in_corpus, TABLE.len()),
        found.len(),
        options.budget,
        CORPUS.join("`, `")
    );
    let seconds = median(found.iter().map(|hunt| hunt.number("cpu")).collect());
    let seeds = median(found.iter().map(|hunt| hunt.number("seeds")).collect());
    text += &format!("- Median until found: {seconds:.1} s of CPU time (the goal is 10), {seeds} seeds.\n");
    text += &format!(
        "- Shrunk to at most 10 faults and 10 nodes within {} s of CPU time: {small} of {} ({:.1} %; the goal is 90 %).\n",
        options.shrink,
        found.len(),
        share(small, found.len())
    );
    text += &match control.is_found() {
        true => {
            let (broken, seeds) = (control.get("broken"), control.get("seeds"));
            format!("- Without a bug, {broken} of {seeds} seeds break a rule: {}.\n", control.get("said"))
        }
        false => format!(
            "- Without a bug, no rule is broken in {} seeds from the same start ({} s of CPU time).\n",
            control.get("seeds"),
            control.get("cpu")
        ),
    };
    text += "\n| bug | what it does | source | found by | seeds | CPU s | nodes | faults | shrunk in s |\n|---|---|---|---|---|---|---|---|---|\n";
    for mutant in TABLE {
        let hunt = of(mutant);
        let rule = match hunt.in_corpus() {
            _ if hunt.is_found() => hunt.get("rule").to_owned(),
            Some(file) => format!("{}, by `{file}`", hunt.get("broken")),
            None => "**not found**".to_owned(),
        };
        let cells = ["seeds", "cpu", "nodes", "faults", "shrinking"].map(|key| hunt.get(key));
        let Mutant { name, breaks, source } = mutant;
        text += &format!("| `{name}` | {breaks} | {source} | {rule} | {} |\n", cells.join(" | "));
    }
    text
}

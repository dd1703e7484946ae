//! `longshore sim`: clusters in a box.

mod audit;
mod compare;
mod diff;
mod journals;
mod view;
mod why;

use std::ops::Range;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use longshore_sim::failure;
use longshore_sim::fuzz::shrink::shrink;
use longshore_sim::fuzz::{Found, Limits, draw, try_seed};
use longshore_sim::invariants::TABLE;
use longshore_sim::run::{Report, Summary, run, run_strictly};
use longshore_sim::scenario::Scenario;
use longshore_sim::scenario::units::Span;
use longshore_sim::stopwatch::Stopwatch;

/// Largest scenario file, in bytes.
const MOST_SCENARIO_BYTES: u64 = 1 << 20;

/// Arguments of `longshore sim`.
#[derive(Debug, Args)]
pub struct SimArgs {
    #[command(subcommand)]
    command: SimCommand,
}

#[derive(Debug, Subcommand)]
enum SimCommand {
    /// Run a scenario file and say what came of it
    ///
    /// Exit code 1 if a rule is broken or an expectation is not met; then it tells what, when and where, the command that does
    /// it again, the last that happened there, and the chain of causes. The same file and seed give the same trace hash, on
    /// every machine. See scenarios/README.md for the file.
    Run(RunArgs),
    /// Run a scenario with other policies, too, side by side
    ///
    /// The same cluster, pulls, limits and deaths with what others do, and with what nobody can beat.
    Compare(compare::CompareArgs),
    /// Try random scenarios until a rule is broken
    ///
    /// Tells what broke, the command that does it again, what was drawn, the last that happened, the chain of causes, and a
    /// smaller scenario that breaks the same rule, to be kept in scenarios/found. Exit code 1 if anything was found.
    Fuzz(FuzzArgs),
    /// Run scenarios twice and compare everything that happened
    ///
    /// The same scenario and seed have to give the same run: each is run in two threads, one of which has run another
    /// scenario before. Where two runs part, the first different event is named. Exit code 1 if any do.
    Audit(audit::AuditArgs),
    /// Tell why something happened in a run: its chain of causes
    ///
    /// A message follows from what its sender was told, a timer from what armed it; faults that had a hand in it stand beside
    /// the chain. Without an event: the first broken rule, else the slowest pull. Events have the same numbers in every run of
    /// a file and seed.
    Why(why::WhyArgs),
    /// Compare two runs, event by event
    ///
    /// Names the first event at which they part, with what came before and after, and sets the figures side by side. Exit
    /// code 1 if they differ.
    Diff(diff::DiffArgs),
    /// Draw a run: one page without anything from elsewhere
    ///
    /// What each node had over time, pulls done against the optimum, what moved, faults, broken rules, and why the slowest
    /// pull was slow.
    View(view::ViewArgs),
    /// List the rules that have to hold in every run
    Rules,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Scenario file (TOML)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Random seed, instead of the file's
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Which simulated world; there is one: core, agents' decisions on a modelled network
    #[arg(long, value_name = "WORLD", default_value = "core", value_parser = parse_world)]
    world: World,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    /// Look at all rules, as 'sim fuzz' does; the first one that is broken ends the run
    ///
    /// Without: what every flight does is not looked at all the time, nor what is left a quarter of an hour later.
    #[arg(long)]
    strict: bool,
    /// Write a journal of each agent into this directory, for 'longshore replay'; made if it is missing
    ///
    /// node-00003.journal is the node's first life, node-00003-2.journal the one after its first restart. The run is the
    /// same as without.
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("how_many").required(true).args(["seeds", "length"]))]
struct FuzzArgs {
    /// Try these seeds, the last one not included
    #[arg(long, value_name = "A..B", value_parser = parse_seeds)]
    seeds: Option<Range<u64>>,
    /// Try seeds from 0 on for this long, such as 60s
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time)]
    length: Option<Duration>,
    /// Most nodes of a cluster
    #[arg(long, value_name = "N", default_value_t = Limits::default().nodes, value_parser = parse_nodes)]
    nodes: usize,
    /// Most MiB of a layer; what a seed draws depends on this and on the number of nodes
    #[arg(long, value_name = "MIB", default_value_t = Limits::default().layer_bytes >> 20, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    layer: u64,
    /// Longest to spend on making what was found smaller
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_time)]
    shrink: Duration,
    /// Write what was made smaller into this directory, such as scenarios/found
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// Print what one seed draws, and run nothing
    #[arg(long)]
    draw: bool,
}

/// The worlds that `longshore sim run` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum World {
    Core,
}

fn parse_world(text: &str) -> Result<World, String> {
    match text {
        "core" => Ok(World::Core),
        "turmoil" | "real" => {
            Err(format!("the world '{text}' runs drivers as well and is not in this program; expected 'core'"))
        }
        _ => Err("there is no such world; expected 'core'".into()),
    }
}

fn parse_nodes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(nodes) if (1..=10_000).contains(&nodes) => Ok(nodes),
        _ => Err("expected a number from 1 to 10000".into()),
    }
}

fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    let range = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.filter(|range| !range.is_empty()).ok_or_else(|| "expected two numbers, the first one smaller: 0..100".into())
}

fn parse_time(text: &str) -> Result<Duration, String> {
    Span::try_from(text.to_owned()).map(|span| span.0).map_err(|error| error.to_string())
}

/// Runs `longshore sim`; what is printed goes to `print`.
///
/// # Errors
/// In words, if a file is no scenario.
pub fn main(args: &SimArgs, print: impl Fn(&str)) -> Result<ExitCode, String> {
    match &args.command {
        SimCommand::Run(args) => run_file(args, print),
        SimCommand::Compare(args) => compare::run(args, print).map(|()| ExitCode::SUCCESS),
        SimCommand::Fuzz(args) => Ok(fuzz(args, print)),
        SimCommand::Audit(args) => audit::main(args, print),
        SimCommand::Why(args) => why::run(args, print).map(|()| ExitCode::SUCCESS),
        SimCommand::Diff(args) => diff::run(args, print),
        SimCommand::View(args) => view::run(args, print).map(|()| ExitCode::SUCCESS),
        SimCommand::Rules => {
            for rule in TABLE {
                print(&format!("{}\n    {}\n    ({})\n", rule.name, rule.sentence, rule.source));
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn read(file: &Path) -> Result<Scenario, String> {
    let refuse = |problem: String| format!("cannot read the scenario {}: {problem}", file.display());
    let size = std::fs::metadata(file).map_err(|error| refuse(error.to_string()))?.len();
    if size > MOST_SCENARIO_BYTES {
        return Err(refuse(format!("it has {size} bytes; expected at most {MOST_SCENARIO_BYTES}")));
    }
    let text = std::fs::read_to_string(file).map_err(|error| refuse(error.to_string()))?;
    Scenario::parse(&text).map_err(|error| refuse(error.to_string()))
}

fn run_file(args: &RunArgs, print: impl Fn(&str)) -> Result<ExitCode, String> {
    let scenario = read(&args.file)?;
    let seed = args.seed.unwrap_or(scenario.seed);
    let World::Core = args.world;
    let result = match &args.journal {
        Some(directory) => Some(journals::run(&scenario, seed, directory, args.strict)?),
        // What panicked is told below, from a second run that is recorded.
        None if args.strict => catch_unwind(|| run_strictly(&scenario, seed, u64::MAX)).ok(),
        None => catch_unwind(|| run(&scenario, seed)).ok(),
    };
    let is_good = result.as_ref().is_some_and(Report::is_good);
    if !is_good {
        let strict = if args.strict { " --strict" } else { "" };
        let again = format!("longshore sim run {} --seed {seed}{strict}", args.file.display());
        let text = failure::report(&scenario, seed, &again, "");
        // Whoever reads JSON gets nothing else on standard output.
        if args.json { eprintln!("{text}") } else { print(&format!("{text}\n")) }
    }
    match result {
        Some(report) if args.json => {
            let text = serde_json::to_string_pretty(&report.summary).map_err(|error| error.to_string())?;
            print(&format!("{text}\n"));
        }
        Some(report) => print(&figures(&report.summary)),
        None => {}
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn figures(summary: &Summary) -> String {
    let Summary { scenario, seed, nodes, trace_hash, .. } = summary;
    let mut text = format!("{scenario}, seed {seed}: {nodes} nodes, trace {trace_hash}\n");
    let mut line = |name: &str, value: String| text.push_str(&format!("  {name:<18} {value}\n"));
    line("pulls", format!("{} done, {} not", summary.finished, summary.unfinished));
    line("optimum", format!("{:.3} s", summary.optimum_seconds));
    line("median, slowest", format!("{:.3}, {:.3} times the optimum", summary.median_ratio, summary.slowest_ratio));
    line("from the registry", format!("{:.3} copies, {} requests", summary.origin_copies, summary.origin_requests));
    line("between zones", format!("{:.3} copies", summary.cross_zone_copies));
    line("fall-backs", format!("{} blobs; {} pulls tried again", summary.fallbacks, summary.failed_pulls));
    line("messages", format!("{}, {} events", summary.messages, summary.events));
    let speed = format!("{:.1} node-hours in each", summary.node_hours_per_wall_second);
    line("time", format!("{:.1} s in {:.1} s; {speed}", summary.virtual_seconds, summary.wall_seconds));
    line("broken rules", summary.violations.to_string());
    text
}

fn fuzz(args: &FuzzArgs, print: impl Fn(&str)) -> ExitCode {
    let limits = Limits { nodes: args.nodes, layer_bytes: args.layer << 20 };
    let seeds = args.seeds.clone().unwrap_or(0..u64::MAX);
    let watch = Stopwatch::start();
    // A panic is a finding, told with its seed below.
    std::panic::set_hook(Box::new(|_| {}));
    let (mut tried, mut found) = (0_u64, 0_u64);
    for seed in seeds {
        if args.length.is_some_and(|length| watch.wall() >= length) {
            break;
        }
        if args.draw {
            print(&draw(seed, limits).to_toml());
            continue;
        }
        tried += 1;
        if let Err(broken) = try_seed(seed, limits) {
            found += 1;
            print(&tell(*broken, args));
        }
    }
    let (wall, processor) = (watch.wall().as_secs_f64(), watch.processor().as_secs_f64());
    let rate = tried as f64 * 60.0 / processor.max(f64::MIN_POSITIVE);
    print(&format!("{tried} scenarios tried in {wall:.1} s, {found} broke a rule\n"));
    if tried > 0 {
        print(&format!("{rate:.0} scenarios in a minute of one processor, which worked for {processor:.1} s\n"));
    }
    if found == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(broken: Found, args: &FuzzArgs) -> String {
    let seed = broken.seed;
    let FuzzArgs { nodes, layer, .. } = args;
    let again = format!("longshore sim fuzz --seeds {seed}..{} --nodes {nodes} --layer {layer}", seed + 1);
    let mut text = failure::report(&broken.scenario, seed, &again, &indented(&broken.scenario.to_toml()));
    let mut small = shrink(broken, args.shrink);
    small.scenario.name = format!("{}-{seed}", small.rule());
    let file = format!("{}.toml", small.scenario.name);
    let first = small.violations.first().map_or("", String::as_str);
    let place = match &args.save {
        Some(directory) => {
            let path = directory.join(&file);
            let written = std::fs::create_dir_all(directory)
                .and_then(|()| std::fs::write(&path, small.scenario.to_toml()))
                .map_err(|error| format!("cannot be written to {}: {error}", path.display()));
            written.map_or_else(|problem| problem, |()| format!("is in {}", path.display()))
        }
        None => format!("to be kept as scenarios/found/{file}"),
    };
    text.push_str(&format!("\nsmaller, {place}: {first}\n\n{}\n", small.scenario.to_toml()));
    text
}

fn indented(text: &str) -> String {
    text.lines().filter(|line| !line.is_empty()).map(|line| format!("    {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_two_numbers_of_which_the_first_is_smaller() {
        assert_eq!(parse_seeds("3..7"), Ok(3..7));
        for wrong in ["7..3", "3..3", "3", "a..b", "..", "-1..2"] {
            assert!(parse_seeds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn there_is_one_world() {
        assert_eq!(parse_world("core"), Ok(World::Core));
        for other in ["turmoil", "real", "Core", ""] {
            assert!(parse_world(other).is_err_and(|error| error.contains("expected 'core'")), "{other}");
        }
    }

    #[test]
    fn a_file_that_is_no_scenario_is_told_with_its_path() {
        let error = read(Path::new("/does/not/exist.toml")).expect_err("there is no such file");
        assert!(error.contains("/does/not/exist.toml"), "{error}");
    }
}

//! `longshore sim view`: a run as a page.

use std::path::PathBuf;

use clap::Args;
use longshore_sim::view::page;

use super::read;

#[derive(Debug, Args)]
pub(super) struct ViewArgs {
    /// Scenario file (TOML)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Random seed, instead of the file's
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Where to write the page; else SCENARIO-SEED.html in this directory
    #[arg(short, long, value_name = "PAGE.html")]
    output: Option<PathBuf>,
}

pub(super) fn run(args: &ViewArgs, print: impl Fn(&str)) -> Result<(), String> {
    let scenario = read(&args.file)?;
    let seed = args.seed.unwrap_or(scenario.seed);
    let again = format!("longshore sim view {} --seed {seed}", args.file.display());
    let page = page(&scenario, seed, &again)?;
    let output = args.output.clone().unwrap_or_else(|| format!("{}-{seed}.html", scenario.name).into());
    std::fs::write(&output, &page.html).map_err(|error| {
        format!("cannot write the page to {}: {error}; give another place with --output", output.display())
    })?;
    let hash = page.run.report.as_ref().map_or("none: it panicked", |report| &report.summary.trace_hash);
    print(&format!("{}: {} kB, trace {hash}\n", output.display(), page.html.len() / 1000));
    Ok(())
}

//! `longshore sim why`: the causes of what happened in a run.

use std::path::PathBuf;

use clap::Args;
use longshore_sim::why::{Target, why};

use super::read;

#[derive(Debug, Args)]
pub(super) struct WhyArgs {
    /// Scenario file (TOML)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Number of an event, as other lines tell it, or 'violation' (or 'violation:2') for a broken rule
    #[arg(value_name = "EVENT|violation", value_parser = parse_target, conflicts_with_all = ["node", "digest"])]
    what: Option<Target>,
    /// Random seed, instead of the file's
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Why the last pull of this node took so long
    #[arg(long, value_name = "N")]
    node: Option<usize>,
    /// How that node came by this blob, or why it did not; some of its first hex digits are enough
    #[arg(long, value_name = "DIGEST", requires = "node")]
    digest: Option<String>,
    /// Look at all rules, as 'sim fuzz' does; the first one that is broken ends the run
    #[arg(long)]
    strict: bool,
}

fn parse_target(text: &str) -> Result<Target, String> {
    let expected = || format!("expected the number of an event, or 'violation', or 'violation:2'; got '{text}'");
    match text.strip_prefix("violation") {
        Some("") => Ok(Target::Violation(1)),
        Some(number) => {
            let number = number.strip_prefix(':').and_then(|number| number.parse().ok()).filter(|number| *number > 0);
            number.map(Target::Violation).ok_or_else(expected)
        }
        None => text.parse().map(Target::Event).map_err(|_| expected()),
    }
}

pub(super) fn run(args: &WhyArgs, print: impl Fn(&str)) -> Result<(), String> {
    let scenario = read(&args.file)?;
    let seed = args.seed.unwrap_or(scenario.seed);
    let target = match (&args.what, args.node, &args.digest) {
        (Some(target), ..) => target.clone(),
        (None, Some(node), Some(digest)) => Target::Blob(node, digest.clone()),
        (None, Some(node), None) => Target::Node(node),
        (None, None, _) => Target::Anything,
    };
    let told = why(&scenario, seed, &target, args.strict);
    print(&told.map_err(|error| format!("{}, seed {seed}: {error}", args.file.display()))?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_about_is_a_number_or_a_violation() {
        assert_eq!(parse_target("17"), Ok(Target::Event(17)));
        assert_eq!(parse_target("violation"), Ok(Target::Violation(1)));
        assert_eq!(parse_target("violation:3"), Ok(Target::Violation(3)));
        for wrong in ["", "violation:0", "violation:", "violations", "-1", "node"] {
            assert!(parse_target(wrong).is_err(), "{wrong}");
        }
    }
}

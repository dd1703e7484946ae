//! `longshore sim compare`: one scenario with several policies.

use std::path::PathBuf;

use clap::Args;
use longshore_sim::rivals::{Way, compare};

use super::read;

#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    /// Scenario file (TOML)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Random seed, instead of the file's
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Only these policies, with commas between them [default: all]
    ///
    /// direct: every node pulls from the registry; pull-through: one cache with one network card; whole-layer: Spegel's way;
    /// gantry: eight nodes pull each layer, the others get it from them and from each other; longshore: the agents as they
    /// are; optimum: the formula.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    policies: Vec<Way>,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the scenario and prints one table.
///
/// # Errors
/// In words, if the file is no scenario.
pub(super) fn run(args: &CompareArgs, print: impl Fn(&str)) -> Result<(), String> {
    let scenario = read(&args.file)?;
    let ways: &[Way] = if args.policies.is_empty() { &Way::ALL[..] } else { &args.policies };
    let comparison = compare(&scenario, args.seed.unwrap_or(scenario.seed), ways);
    if args.json {
        let text = serde_json::to_string_pretty(&comparison).map_err(|error| error.to_string())?;
        print(&format!("{text}\n"));
    } else {
        print(&comparison.table());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: CompareArgs,
    }

    fn parse(more: &[&str]) -> Result<CompareArgs, String> {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/small-cluster-3.toml");
        let line = ["compare", file].into_iter().chain(more.iter().copied());
        Line::try_parse_from(line).map(|line| line.args).map_err(|error| error.to_string())
    }

    fn printed(more: &[&str]) -> String {
        let text = RefCell::new(String::new());
        run(&parse(more).expect("arguments"), |part| text.borrow_mut().push_str(part)).expect("a scenario");
        text.into_inner()
    }

    #[test]
    fn an_unknown_policy_is_refused_with_the_known_ones() {
        let error = parse(&["--policies", "direct,gantri"]).expect_err("a typo");
        assert!(error.contains("there is no policy 'gantri'"), "{error}");
        assert!(error.contains("whole-layer") && error.contains("did you mean 'gantry'?"), "{error}");
    }

    #[test]
    fn json_has_an_outcome_for_each_policy_in_the_order_asked_for() {
        let text = printed(&["--json", "--seed", "3", "--policies", "optimum,direct"]);
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(json["seed"], 3);
        assert_eq!(json["outcomes"][0]["policy"], "optimum");
        assert_eq!(json["outcomes"][1]["policy"], "direct");
        assert_eq!(json["outcomes"][1]["origin_copies"], 3.0);
        assert!(json["outcomes"][2].is_null());
    }

    #[test]
    fn without_a_choice_all_policies_run() {
        let text = printed(&[]);
        for way in Way::ALL {
            assert!(text.lines().any(|line| line.trim_start().starts_with(way.name())), "no {way} in\n{text}");
        }
    }
}

//! `longshore sim diff`: where two runs part.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use longshore_sim::diff::{Side, diff};

use super::read;

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// Scenario files (TOML): two of them, or one and two seeds
    #[arg(value_name = "FILE", required = true, num_args = 1..=2)]
    files: Vec<PathBuf>,
    /// Random seed: two of them, or one for both files instead of their own
    #[arg(long, value_name = "N")]
    seed: Vec<u64>,
}

impl DiffArgs {
    fn sides(&self) -> Result<[Side; 2], String> {
        let (one, other) = match (self.files.as_slice(), self.seed.as_slice()) {
            ([file], [one, other]) => ((file, Some(one)), (file, Some(other))),
            ([one, other], []) => ((one, None), (other, None)),
            ([one, other], [seed]) => ((one, Some(seed)), (other, Some(seed))),
            ([one, other], [first, second]) => ((one, Some(first)), (other, Some(second))),
            (files, seeds) => {
                return Err(format!(
                    "cannot compare {} file(s) with {} seed(s); give one file and '--seed A --seed B', or two files",
                    files.len(),
                    seeds.len()
                ));
            }
        };
        let side = |(file, seed): (&PathBuf, Option<&u64>)| {
            let scenario = read(file)?;
            let seed = seed.copied().unwrap_or(scenario.seed);
            Ok::<_, String>(Side { name: file.display().to_string(), scenario, seed })
        };
        Ok([side(one)?, side(other)?])
    }
}

pub(super) fn run(args: &DiffArgs, print: impl Fn(&str)) -> Result<ExitCode, String> {
    let [one, other] = &args.sides()?;
    let difference = diff([one, other]);
    print(&difference.text);
    Ok(if difference.is_none { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_runs_are_two_files_or_two_seeds() {
        let file = PathBuf::from("x.toml");
        for (files, seed) in [(vec![file.clone()], vec![]), (vec![file.clone()], vec![1]), (vec![file], vec![1, 2, 3])]
        {
            let error = DiffArgs { files, seed }.sides().expect_err("not two runs");
            assert!(error.contains("--seed A --seed B"), "{error}");
        }
    }
}

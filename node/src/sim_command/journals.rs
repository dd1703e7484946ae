//! Journals of simulated agents, as files.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use longshore_net::journal::EXTENSION;
use longshore_sim::run::{Report, run_recorded};
use longshore_sim::scenario::Scenario;
use longshore_sim::world::recorder::Recorder;

/// Runs a scenario with a journal of each agent in `directory`; `strictly`, as the hunt does.
///
/// # Errors
/// In words, when a journal is there already or cannot be written.
pub(super) fn run(scenario: &Scenario, seed: u64, directory: &Path, strictly: bool) -> Result<Report, String> {
    let refuse = |error| format!("cannot write journals into {}: {error}", directory.display());
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(refuse)?;
    let directory_of_sink = directory.to_owned();
    // A thousand files are more than a process may have open: each is opened for what is written to it.
    let mut begun = BTreeSet::new();
    let sink = move |name: &str, bytes: &[u8]| {
        let path: PathBuf = directory_of_sink.join(format!("{name}.{EXTENSION}"));
        let mut file = if begun.insert(name.to_owned()) {
            File::create_new(path)?
        } else {
            File::options().append(true).open(path)?
        };
        file.write_all(bytes)
    };
    run_recorded(scenario, seed, Recorder::new(Box::new(sink)), strictly)
        .map_err(|problem| format!("the journals in {} are not complete: {problem}", directory.display()))
}

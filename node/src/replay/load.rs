//! Journal files from disk.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use longshore_net::journal::EXTENSION;
use longshore_sim::history::lives::{self, Life};
use longshore_sim::replay::Journal;

use super::ReplayError;

/// Largest file in bytes: the largest that is recorded, with a state before it and a batch after it, and room.
const MOST_BYTES: u64 = 256 << 20;
/// Most files at once: those of a large simulated cluster (20,000 nodes), each started anew once.
const MOST_FILES: usize = 40_000;
/// Most bytes of all files; all of them are in memory, unpacked.
const MOST_BYTES_IN_ALL: u64 = 4 << 30;

/// What was found under the given paths.
pub(super) struct Loaded {
    /// The journals, by node and time.
    pub(super) lives: Vec<Life>,
    /// What is odd about the files, in words.
    pub(super) notes: Vec<String>,
}

/// Reads the files; a directory stands for all journals in it. Of several, one that cannot be read is left out, with a note.
pub(super) fn load(paths: &[PathBuf]) -> Result<Loaded, ReplayError> {
    let (mut files, mut directories) = (Vec::new(), 0);
    for path in paths {
        if path.is_dir() {
            directories += 1;
            files.extend(list(path)?);
        } else {
            files.push(path.clone());
        }
    }
    if files.len() > MOST_FILES {
        return Err(ReplayError::Nothing(format!(
            "{} files are too many at once; name at most {MOST_FILES}",
            files.len()
        )));
    }
    let (mut journals, mut notes, mut bytes) = (Vec::new(), Vec::new(), 0);
    let mut first_problem = None;
    for path in &files {
        match read(path, &mut bytes) {
            Ok(journal) => journals.push((path.display().to_string(), journal)),
            // Too much is too much, whatever comes next.
            Err(problem @ ReplayError::Nothing(_)) => return Err(problem),
            Err(problem) => {
                notes.push(format!("{problem}; it is left out"));
                first_problem.get_or_insert(problem);
            }
        }
    }
    if let Some(problem) = first_problem.filter(|_| journals.is_empty() || files.len() == 1) {
        return Err(problem);
    }
    let (mut lives, more) = lives::sort(journals);
    notes.extend(more);
    let one_node = lives.iter().all(|life| Some(&life.peer) == lives.first().map(|first| &first.peer));
    if one_node && directories > 0 && lives.len() > 1 {
        // One agent's directory: what it did last is what is asked about.
        let last = lives.split_off(lives.len() - 1);
        notes.push(format!("{} earlier starts of this agent are left out; name their files to see them", lives.len()));
        lives = last;
    }
    Ok(Loaded { lives, notes })
}

fn read(path: &Path, in_all: &mut u64) -> Result<Journal, ReplayError> {
    let shown = path.display().to_string();
    let failed = |source| ReplayError::Io { action: "read", path: shown.clone(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(failed(std::io::Error::other(format!("it is longer than {MOST_BYTES} bytes"))));
    }
    *in_all += bytes.len() as u64;
    if *in_all > MOST_BYTES_IN_ALL {
        return Err(ReplayError::Nothing(format!(
            "the files have more than {MOST_BYTES_IN_ALL} bytes together; take fewer nodes, or the files of a shorter time"
        )));
    }
    Journal::read(&bytes).map_err(|source| ReplayError::Journal { path: shown.clone(), source })
}

/// The journals in a directory.
fn list(directory: &Path) -> Result<Vec<PathBuf>, ReplayError> {
    let shown = directory.display().to_string();
    let failed = |source| ReplayError::Io { action: "list", path: shown.clone(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(ReplayError::Nothing(format!("{shown} has no files that end in .{EXTENSION}")));
    }
    Ok(files)
}

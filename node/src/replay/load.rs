//! Journal files from disk.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use longshore_net::journal::EXTENSION;
use longshore_sim::replay::Journal;

use super::ReplayError;

/// Largest file in bytes: the largest that is recorded, with a state before it and a batch after it, and room.
const MOST_BYTES: u64 = 256 << 20;
/// Most files at once; all of them are in memory.
const MOST_FILES: usize = 64;

/// Reads the files; a directory stands for the files of the last agent that wrote there.
pub(super) fn load(paths: &[PathBuf]) -> Result<Vec<Journal>, ReplayError> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            files.extend(last_life(path)?);
        } else {
            files.push(path.clone());
        }
    }
    if files.len() > MOST_FILES {
        let found =
            format!("{} files are too many at once; name at most {MOST_FILES} that follow each other", files.len());
        return Err(ReplayError::Nothing(found));
    }
    files.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Result<Journal, ReplayError> {
    let shown = path.display().to_string();
    let failed = |source| ReplayError::Io { action: "read", path: shown.clone(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(failed(std::io::Error::other(format!("it is longer than {MOST_BYTES} bytes"))));
    }
    Journal::read(&bytes).map_err(|source| ReplayError::Journal { path: shown.clone(), source })
}

/// The files that the last agent wrote into a directory, in their order. Their names begin with the agent's start.
fn last_life(directory: &Path) -> Result<Vec<PathBuf>, ReplayError> {
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
    let life = |path: &PathBuf| Some(path.file_name()?.to_str()?.split_once('-')?.0.to_owned());
    let last = files.last().and_then(life);
    files.retain(|path| life(path) == last);
    if files.is_empty() {
        return Err(ReplayError::Nothing(format!("{shown} has no files that end in .{EXTENSION}")));
    }
    Ok(files)
}

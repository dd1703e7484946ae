//! What is in the directory when the store opens.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::SystemTime;

use longshore_core::digest::Digest;
use longshore_core::input::{Hashed, PartialBlob, Proof, RecordedPiece, StoredBlob};
use longshore_core::output::Check;
use longshore_core::piece::Geometry;
use tracing::{info, warn};

use super::failure::{explained, words};
use super::hash::PieceHasher;
use super::layout::Layout;
use super::log::{self, Header};
use super::staging::Staged;

/// How much is read at a time when stored bytes are hashed.
pub(super) const READ_BYTES: usize = 256 * 1024;

/// How many threads hash what is staged when the store opens: more would only compete for the disk.
const MAX_RECHECK_THREADS: usize = 4;

/// Everything that a directory holds.
#[derive(Debug)]
pub(super) struct Inventory {
    /// Complete blobs, least recently used first.
    pub(super) blobs: Vec<StoredBlob>,
    /// Incomplete ones.
    pub(super) partials: Vec<Partial>,
}

/// An incomplete blob that was not checked yet.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) staged: Arc<Staged>,
    /// What its log says.
    recorded: Vec<RecordedPiece>,
    /// Whether its log has lines that cannot be read.
    torn: bool,
}

/// Lists the directory and removes what a crash left behind.
pub(super) fn scan(layout: &Layout) -> io::Result<Inventory> {
    clear(&layout.trash())?;
    let blobs = committed(layout)?;
    let partials = staged(layout)?;
    Ok(Inventory { blobs, partials })
}

/// Names in a directory, with their digest if the stem is one.
fn names(directory: &Path) -> io::Result<Vec<(String, Option<Digest>)>> {
    let explain = |error: io::Error| explained("list", directory, &error);
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(explain)? {
        let name = entry.map_err(explain)?.file_name().to_string_lossy().into_owned();
        let stem = name.split('.').next().unwrap_or_default();
        let digest = format!("sha256:{stem}").parse().ok();
        names.push((name, digest));
    }
    Ok(names)
}

fn clear(directory: &Path) -> io::Result<()> {
    for (name, _) in names(directory)? {
        remove(&directory.join(name))?;
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(explained("remove the leftover", path, &error)),
        _ => Ok(()),
    }
}

fn committed(layout: &Layout) -> io::Result<Vec<StoredBlob>> {
    let mut found: Vec<(SystemTime, StoredBlob)> = Vec::new();
    for (name, digest) in names(&layout.blobs())? {
        let path = layout.blobs().join(&name);
        let Some(digest) = digest else {
            warn!(path = %path.display(), "not a blob of this store; left alone");
            continue;
        };
        if name == digest.hex() {
            match complete(layout, digest) {
                Ok((used, header)) => {
                    found.push((used, StoredBlob { digest, size: header.size, facts: header.facts }));
                }
                Err(reason) => {
                    warn!(%digest, reason, "removing a blob that is not what its sidecar says");
                    remove(&path)?;
                    remove(&layout.sidecar(digest))?;
                }
            }
        } else if !layout.blob(digest).exists() || (path != layout.sidecar(digest) && path != layout.spine(digest)) {
            // A crash between writing the sidecar and giving the blob its name.
            remove(&path)?;
        }
    }
    found.sort_by_key(|(used, blob)| (*used, blob.digest));
    Ok(found.into_iter().map(|(_, blob)| blob).collect())
}

/// When the blob was last used, and its sidecar; or why it cannot be served.
fn complete(layout: &Layout, digest: Digest) -> Result<(SystemTime, Header), String> {
    let sidecar = fs::read(layout.sidecar(digest)).map_err(|error| format!("no sidecar: {error}"))?;
    let header: Header = serde_json::from_slice(&sidecar).map_err(|error| format!("bad sidecar: {error}"))?;
    let metadata = fs::metadata(layout.blob(digest)).map_err(|error| error.to_string())?;
    if metadata.len() != header.size {
        return Err(format!("it has {} bytes, its sidecar says {}", metadata.len(), header.size));
    }
    Ok((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), header))
}

fn staged(layout: &Layout) -> io::Result<Vec<Partial>> {
    let mut partials = BTreeMap::new();
    let names = names(&layout.staging())?;
    for (name, digest) in &names {
        if let Some(digest) = *digest
            && *name == digest.hex()
            && let Some(partial) = resumable(layout, digest)
        {
            partials.insert(digest, partial);
        }
    }
    for (name, digest) in names {
        let path = layout.staging().join(name);
        let kept = digest.is_some_and(|digest| {
            partials.contains_key(&digest) && (path == layout.staged(digest) || path == layout.log(digest))
        });
        if !kept {
            info!(path = %path.display(), "removing what an earlier run left behind");
            remove(&path)?;
        }
    }
    Ok(partials.into_values().collect())
}

/// The staged blob, if its log and its file belong together and it is not committed already.
fn resumable(layout: &Layout, digest: Digest) -> Option<Partial> {
    let log = log::read(&layout.log(digest)).ok().flatten()?;
    let len = fs::metadata(layout.staged(digest)).ok()?.len();
    (len == log.header.size && !layout.blob(digest).exists()).then(|| Partial {
        staged: Arc::new(Staged::adopt(layout, digest, log.header)),
        recorded: log.pieces.into_values().collect(),
        torn: log.damaged > 0,
    })
}

/// Reads every recorded piece of every blob again, on a few threads, and keeps those that are what their record says.
pub(super) fn recheck(partials: Vec<Partial>) -> Vec<PartialBlob> {
    let tasks: Vec<(&Partial, &RecordedPiece)> =
        partials.iter().flat_map(|partial| partial.recorded.iter().map(move |record| (partial, record))).collect();
    let next = AtomicUsize::new(0);
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MAX_RECHECK_THREADS);
    let check = || {
        let mut bad = Vec::new();
        while let Some((partial, record)) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(reason) = recheck_piece(&partial.staged, record) {
                warn!(digest = %partial.staged.digest, piece = record.piece, reason, "a staged piece is lost");
                bad.push((partial.staged.digest, record.piece));
            }
        }
        bad
    };
    let bad: BTreeSet<(Digest, u32)> = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(check)).collect();
        let mut bad = check();
        for other in others {
            bad.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        bad.into_iter().collect()
    });
    partials.into_iter().map(|partial| conclude(partial, &bad)).collect()
}

fn recheck_piece(staged: &Staged, record: &RecordedPiece) -> Result<(), String> {
    let geometry = Geometry::of_blob(staged.header.size);
    if record.piece >= geometry.pieces() {
        return Err(format!("the blob has {} pieces", geometry.pieces()));
    }
    let file = staged.open_data().map_err(|error| words(&error).to_owned())?;
    let (check, expected) = match record.proof {
        Proof::Alone(sum) => (Check::Alone, Hashed::Alone(sum)),
        Proof::Between(from, to) => (Check::From(from), Hashed::Chained(to)),
    };
    match hash_stored(&file, geometry, record.piece, PieceHasher::new(geometry, check)) {
        Ok(found) if found == expected => Ok(()),
        Ok(_) => Err("its bytes are not those that were recorded".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn conclude(partial: Partial, bad: &BTreeSet<(Digest, u32)>) -> PartialBlob {
    let Partial { staged, recorded, torn } = partial;
    let (lost, pieces): (Vec<_>, Vec<_>) =
        recorded.into_iter().partition(|record| bad.contains(&(staged.digest, record.piece)));
    if (torn || !lost.is_empty())
        && let Err(error) = staged.tidy_log(&lost)
    {
        warn!(digest = %staged.digest, error = words(&error), "cannot tidy a record log");
    }
    PartialBlob {
        digest: staged.digest,
        size: staged.header.size,
        source: staged.header.facts.source.clone(),
        private: staged.header.facts.private,
        pieces,
    }
}

/// Reads one piece and hashes it with `hasher`, which stands at its start.
pub(super) fn hash_stored(file: &File, geometry: Geometry, piece: u32, mut hasher: PieceHasher) -> io::Result<Hashed> {
    let mut buffer = vec![0; READ_BYTES];
    let mut range = geometry.range(piece);
    while range.start < range.end {
        let len = usize::try_from(range.end - range.start).unwrap_or(READ_BYTES).min(READ_BYTES);
        file.read_exact_at(&mut buffer[..len], range.start)?;
        hasher.update(&buffer[..len]);
        range.start += len as u64;
    }
    Ok(hasher.end_piece(piece))
}

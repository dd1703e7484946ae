//! What is in the directory when the store opens.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use longshore_core::digest::Digest;
use longshore_core::input::{Hashed, PartialBlob, StoredBlob};
use longshore_core::message::PieceSum;
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

/// Everything that a directory holds.
#[derive(Debug)]
pub(super) struct Inventory {
    /// Complete blobs, least recently used first.
    pub(super) blobs: Vec<StoredBlob>,
    /// Incomplete ones, with the pieces that their logs name (not checked yet).
    pub(super) partials: Vec<(Arc<Staged>, BTreeMap<u32, PieceSum>)>,
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
        } else if !layout.blob(digest).exists() || path != layout.sidecar(digest) {
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

type Partial = (Arc<Staged>, BTreeMap<u32, PieceSum>);

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
    (len == log.header.size && !layout.blob(digest).exists())
        .then(|| (Arc::new(Staged::adopt(layout, digest, log.header)), log.pieces))
}

/// Reads every recorded piece again and keeps those that are what the record says.
pub(super) fn recheck(staged: &Staged, recorded: BTreeMap<u32, PieceSum>) -> PartialBlob {
    let geometry = Geometry::of_blob(staged.header.size);
    let total = recorded.len();
    let pieces: Vec<PieceSum> = match staged.open_data() {
        Ok(file) => recorded.into_values().filter(|sum| holds(&file, geometry, sum)).collect(),
        Err(error) => {
            warn!(digest = %staged.digest, error = words(&error), "cannot check a staged blob again");
            Vec::new()
        }
    };
    if pieces.len() < total {
        warn!(digest = %staged.digest, good = pieces.len(), recorded = total, "some staged pieces are damaged");
    }
    // Also drops lines that a crash tore.
    if let Err(error) = staged.rewrite_log(&pieces) {
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

fn holds(file: &File, geometry: Geometry, sum: &PieceSum) -> bool {
    sum.piece < geometry.pieces()
        && hash_stored(file, geometry, sum.piece, Check::Alone).is_ok_and(|hashed| hashed == Hashed::Alone(sum.sum))
}

/// Reads one piece and hashes it.
pub(super) fn hash_stored(file: &File, geometry: Geometry, piece: u32, check: Check) -> io::Result<Hashed> {
    let mut hasher = PieceHasher::new(geometry, check);
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

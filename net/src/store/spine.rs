//! The midstates of a committed blob in a file beside it: what a peer needs to check our pieces one by one.

use std::fs::{self, File};
use std::io::{self, Write as _};

use longshore_core::digest::Digest;
use longshore_core::input::Hashed;
use longshore_core::output::Check;
use longshore_core::piece::Geometry;
use longshore_core::spine::Midstate;
use tracing::warn;

use super::hash::PieceHasher;
use super::layout::Layout;
use super::recover::hash_stored;

/// Bytes of one midstate.
const STATE_BYTES: usize = 32;

/// Writes the spine; the file gets its name when it is whole and on disk.
pub(super) fn write(layout: &Layout, digest: Digest, states: &[Midstate]) -> io::Result<()> {
    let path = layout.spine(digest);
    let fresh = path.with_extension("spine.fresh");
    let bytes: Vec<u8> = states.iter().flat_map(|state| state.to_bytes()).collect();
    let mut file = File::create(&fresh)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    if layout.blob(digest).exists() { fs::rename(&fresh, path) } else { fs::remove_file(&fresh) }
}

/// Reads the spine of a blob of `size` bytes; `None` if there is none, or none that leads from SHA-256's initial value to
/// the digest in as many steps as the blob has pieces.
pub(super) fn read(layout: &Layout, digest: Digest, size: u64) -> Option<Vec<Midstate>> {
    let bytes = fs::read(layout.spine(digest)).ok()?;
    let (chunks, rest) = bytes.as_chunks::<STATE_BYTES>();
    let states: Vec<_> = chunks.iter().map(|chunk| Midstate::from_bytes(*chunk)).collect();
    let fits = rest.is_empty() && states.len() == Geometry::of_blob(size).pieces() as usize + 1;
    let leads = states.first() == Some(&Midstate::INITIAL)
        && states.last().is_some_and(|last| last.to_bytes() == *digest.as_bytes());
    (fits && leads).then_some(states)
}

/// Reads the spine, or hashes the blob again if there is none; empty if the blob is not what its name says any more.
pub(super) fn read_or_make(layout: &Layout, digest: Digest, size: u64, file: &File) -> Vec<Midstate> {
    if let Some(states) = read(layout, digest, size) {
        return states;
    }
    let states = make(file, Geometry::of_blob(size)).unwrap_or_else(|error| {
        warn!(%digest, %error, "cannot read a blob to make its spine");
        Vec::new()
    });
    if states.last().map(|last| last.to_bytes()) != Some(*digest.as_bytes()) {
        warn!(%digest, "a stored blob does not have its digest any more; peers will not take it from here");
        return Vec::new();
    }
    if let Err(error) = write(layout, digest, &states) {
        warn!(%digest, %error, "cannot keep the spine of a blob");
    }
    states
}

/// Whether the first `size` bytes of a blob have its digest.
pub(super) fn has_digest(file: &File, digest: Digest, size: u64) -> io::Result<bool> {
    let states = make(file, Geometry::of_blob(size))?;
    Ok(states.last().is_some_and(|last| last.to_bytes() == *digest.as_bytes()))
}

fn make(file: &File, geometry: Geometry) -> io::Result<Vec<Midstate>> {
    let mut states = vec![Midstate::INITIAL];
    for piece in 0..geometry.pieces() {
        let from = states[states.len() - 1];
        match hash_stored(file, geometry, piece, PieceHasher::new(geometry, Check::From(from)))? {
            Hashed::Chained(state) => states.push(state),
            Hashed::Alone(_) => return Err(io::Error::other("a chained check gave no midstate")),
        }
    }
    Ok(states)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spine_that_does_not_fit_its_blob_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        fs::create_dir_all(layout.blobs()).unwrap();
        let last = Midstate([7; 8]);
        let digest = Digest::from_bytes(last.to_bytes());
        fs::write(layout.blob(digest), b"x").unwrap();
        let states = [Midstate::INITIAL, last];
        write(&layout, digest, &states).unwrap();
        assert_eq!(read(&layout, digest, 1).as_deref(), Some(states.as_slice()));
        assert_eq!(read(&layout, digest, 300 * 1024), None, "another number of pieces");
        fs::write(layout.spine(digest), [0; 64]).unwrap();
        assert_eq!(read(&layout, digest, 1), None, "another content");
        fs::write(layout.spine(digest), [0; 63]).unwrap();
        assert_eq!(read(&layout, digest, 1), None, "torn");
    }

    #[test]
    fn a_missing_spine_is_made_again_and_a_rotten_blob_has_none() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        fs::create_dir_all(layout.blobs()).unwrap();
        let mut bytes = vec![7; 600 * 1024];
        let digest = Digest::from_bytes(<sha2::Sha256 as sha2::Digest>::digest(&bytes).into());
        fs::write(layout.blob(digest), &bytes).unwrap();
        let file = || File::open(layout.blob(digest)).unwrap();
        let states = read_or_make(&layout, digest, bytes.len() as u64, &file());
        assert_eq!(states.len(), 4);
        assert_eq!(read(&layout, digest, bytes.len() as u64), Some(states));
        fs::remove_file(layout.spine(digest)).unwrap();
        bytes[300_000] ^= 1;
        fs::write(layout.blob(digest), &bytes).unwrap();
        assert_eq!(read_or_make(&layout, digest, bytes.len() as u64, &file()), []);
    }

    #[test]
    fn the_spine_of_a_blob_that_is_gone_is_not_kept() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        fs::create_dir_all(layout.blobs()).unwrap();
        let digest = Digest::from_bytes([1; 32]);
        write(&layout, digest, &[Midstate::INITIAL]).unwrap();
        assert_eq!(fs::read_dir(layout.blobs()).unwrap().count(), 0);
    }
}

//! Gives a staged blob its name, so that a crash at any point leaves it complete, or staged, or gone.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use longshore_core::input::{BlobFacts, StoreError};

use super::failure::failure;
use super::layout::Layout;
use super::log::Header;
use super::staging::Staged;

/// Makes the blob durable under its name. On an error it is still staged.
///
/// The order is the point: bytes, then sidecar, then the sidecar's name, then the blob's name, each on disk before the next
/// has a meaning. A sidecar without a blob is removed when the store opens, and so is a blob without a sidecar.
pub(super) fn commit(layout: &Layout, staged: &Staged, facts: BlobFacts) -> Result<(), StoreError> {
    let digest = staged.digest;
    let (sidecar, blob, blobs) = (layout.sidecar(digest), layout.blob(digest), layout.blobs());
    let data = staged.open_data()?;
    // The kernel's own time stamps are coarse; the order of use is kept in this one.
    data.set_modified(SystemTime::now())
        .and_then(|()| data.sync_all())
        .map_err(|error| failure("flush the staging file", staged.data_path(), &error))?;
    let named = write_sidecar(&sidecar, &Header { size: staged.header.size, facts })
        .map_err(|error| failure("write the sidecar", &sidecar, &error))
        .and_then(|()| {
            fs::rename(staged.data_path(), &blob).map_err(|error| failure("give the blob its name", &blob, &error))
        });
    if let Err(error) = named {
        // What cannot be removed is removed when the store opens.
        let _leftovers = (fs::remove_file(fresh(&sidecar)), fs::remove_file(&sidecar));
        return Err(error);
    }
    if let Err(error) = sync_directory(&blobs) {
        // The name may not survive a power failure: back to what the log describes.
        let _stays_complete_if_this_fails_too = fs::rename(&blob, staged.data_path());
        return Err(failure("flush the directory", &blobs, &error));
    }
    staged.end_log();
    // If this fails, it is removed when the store opens.
    let _leftover = fs::remove_file(staged.log_path());
    Ok(())
}

fn fresh(path: &Path) -> PathBuf {
    path.with_extension("json.fresh")
}

fn write_sidecar(path: &Path, header: &Header) -> io::Result<()> {
    let fresh = fresh(path);
    let mut file = File::create(&fresh)?;
    file.write_all(&serde_json::to_vec(header).map_err(io::Error::other)?)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

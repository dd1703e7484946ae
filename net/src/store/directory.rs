//! Makes the store's directory and takes it for one agent.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;

use super::commit::sync_directory;
use super::failure::explained;
use super::layout::Layout;

/// Makes what is not there, for this user only: blobs may be of private images.
pub(super) fn make(layout: &Layout) -> io::Result<()> {
    for path in [layout.blobs(), layout.staging(), layout.trash()] {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| explained("make the directory", &path, &error))?;
        // The name of a blob is durable only if those of the directories above it are.
        for above in path.ancestors().skip(1).take_while(|above| above.starts_with(layout.root())) {
            sync_directory(above).map_err(|error| explained("flush the directory", above, &error))?;
        }
    }
    Ok(())
}

/// Takes the directory for this agent alone, until the file is closed (by the kernel, if the agent is killed).
pub(super) fn lock(layout: &Layout) -> io::Result<File> {
    let path = layout.lock();
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| explained("open the lock file", &path, &error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The number only helps to find the other agent; without it the message is still right.
            let _unreadable = file.read_to_string(&mut holder);
            let directory = layout.root().display();
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                format!(
                    "the store {directory} is in use by another agent (process {}); stop it or choose another directory",
                    holder.trim()
                ),
            ));
        }
        Err(TryLockError::Error(error)) => return Err(explained("lock", &path, &error)),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(|error| explained("write", &path, &error))?;
    Ok(file)
}

//! Follows a file: looks at it once a second, reads it when it is another one or has changed.

use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use longshore_core::input::Input;
use longshore_core::members::{Member, Roster};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::parse::{MembershipError, parse};
use crate::driver::Inputs;

/// How often the file is looked at. Polling works on every file system, through atomic renames and through the symbolic
/// links of mounted ConfigMaps; one `stat` a second costs nothing.
const INTERVAL: Duration = Duration::from_secs(1);

/// Largest file that is read, in bytes: `MEMBER_LIMIT` members of some 300 bytes.
const FILE_LIMIT_BYTES: u64 = 32 * 1024 * 1024;

/// What tells one state of a file from the next: device and inode (renames), length, and both times in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// What a look at the file found.
#[derive(Debug)]
pub(super) enum Look {
    /// Nothing that was not known already.
    Same,
    /// Other members than before.
    Changed,
    /// The file is bad, and was not bad in the same way before.
    Bad(MembershipError),
}

/// A file and what it said last.
#[derive(Debug)]
pub(super) struct Follower {
    path: PathBuf,
    /// The state of the file that was read last, good or bad. `None`: it could not even be looked at.
    stamp: Option<Stamp>,
    /// Another state, seen at the last look. Outer `None`: there was no other.
    settling: Option<Option<Stamp>>,
    members: Vec<Member>,
}

impl Follower {
    /// Reads the file for the first time.
    pub(super) fn open(path: PathBuf) -> Result<Self, MembershipError> {
        let (stamp, members) = read(&path)?;
        Ok(Self { path, stamp: Some(stamp), settling: None, members: members? })
    }

    /// The last good view.
    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// Looks at the file, and reads it if that may say something new. Blocks.
    ///
    /// A new state is read when it has stayed the same from one look to the next: a file that is being written in place
    /// would otherwise be taken for a smaller cluster.
    pub(super) fn look(&mut self) -> Look {
        let stamp = std::fs::metadata(&self.path).map(|metadata| Stamp::of(&metadata)).ok();
        if stamp == self.stamp {
            self.settling = None;
            return Look::Same;
        }
        if self.settling != Some(stamp) {
            self.settling = Some(stamp);
            return Look::Same;
        }
        self.settling = None;
        let (stamp, members) = match read(&self.path) {
            Ok((stamp, members)) => (Some(stamp), members),
            Err(error) => (stamp, Err(error)),
        };
        self.stamp = stamp;
        match members {
            Ok(members) if members == self.members => Look::Same,
            Ok(members) => {
                self.members = members;
                Look::Changed
            }
            Err(error) => Look::Bad(error),
        }
    }

    /// Looks once a second and reports what is new.
    pub(super) async fn run(mut self, inputs: Inputs, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            // The file may lie on a slow disk, or on one that hangs.
            let looked = tokio::task::spawn_blocking(move || {
                let look = self.look();
                (self, look)
            });
            let look;
            (self, look) = match looked.await {
                Ok(looked) => looked,
                // The runtime is shutting down.
                Err(_) => return,
            };
            match look {
                Look::Same => {}
                Look::Changed => {
                    tracing::info!(path = %self.path.display(), members = self.members.len(), "the members changed");
                    inputs.send(Input::Members(Roster::new(self.members.clone())));
                }
                Look::Bad(error) => tracing::error!(
                    %error,
                    members = self.members.len(),
                    "keeping the members known before; correct the file, it is read again as soon as it changes"
                ),
            }
        }
    }
}

/// The state of the file and what it says. The outer error: there is nothing to read.
fn read(path: &Path) -> Result<(Stamp, Result<Vec<Member>, MembershipError>), MembershipError> {
    let failed = |source| MembershipError::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    // Of the open file: a rename between two looks cannot mix two states. Taken before reading: a write that comes
    // meanwhile changes it, so that the next look reads again.
    let stamp = Stamp::of(&file.metadata().map_err(failed)?);
    let too_large = |bytes| MembershipError::TooLarge { path: path.to_owned(), bytes, limit: FILE_LIMIT_BYTES };
    if stamp.len > FILE_LIMIT_BYTES {
        return Ok((stamp, Err(too_large(stamp.len))));
    }
    let mut text = String::new();
    let read = file.take(FILE_LIMIT_BYTES + 1).read_to_string(&mut text);
    let members = match read {
        Err(error) => Err(failed(error)),
        Ok(_) if text.len() as u64 > FILE_LIMIT_BYTES => Err(too_large(text.len() as u64)),
        Ok(_) => parse(path, &text),
    };
    Ok((stamp, members))
}

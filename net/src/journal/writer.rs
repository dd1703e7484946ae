//! The thread that writes journal files, and deletes the oldest.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use longshore_core::journal::Header;
use longshore_core::journal::file::{End, Frame, MAGIC};

use super::{EXTENSION, JournalConfig, JournalState};

/// Writes frames until there are no more.
pub(super) struct Writer {
    directory: PathBuf,
    cap_bytes: u64,
    file_bytes: u64,
    file: File,
    path: PathBuf,
    written: u64,
    state: JournalState,
}

impl Writer {
    /// Makes the directory and the first file.
    pub(super) fn start(journal: &JournalConfig, header: &Header, state: JournalState) -> io::Result<Self> {
        let directory = journal.directory.clone();
        // Names of images and addresses of peers are in there: for this user only.
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let (file, path) = create(&directory, header)?;
        let mut writer = Self {
            directory,
            cap_bytes: journal.cap_bytes,
            file_bytes: journal.file_bytes(),
            file,
            path,
            written: 0,
            state,
        };
        writer.begin(header)?;
        Ok(writer)
    }

    /// Runs until the other end is gone, or something fails.
    pub(super) fn run(mut self, frames: &Receiver<Frame>) {
        let result = frames.iter().try_for_each(|frame| self.write(&frame));
        if let Err(error) = result {
            self.state.stop(format!("{} cannot be written: {error}", self.path.display()));
        }
        if let Some(reason) = self.state.reason() {
            // If it cannot be said in the file, the file ends like after a crash, which is true, too.
            let _ = self.put(&Frame::End(End::Stopped(reason)));
        }
    }

    fn write(&mut self, frame: &Frame) -> io::Result<()> {
        if let Frame::Header(header) = frame {
            self.put(&Frame::End(End::Rotated))?;
            (self.file, self.path) = create(&self.directory, header)?;
            self.written = 0;
            return self.begin(header);
        }
        self.put(frame)?;
        if let Frame::Batch(batch) = frame {
            self.state.0.inputs.fetch_add(u64::from(batch.count), Ordering::Relaxed);
        }
        if self.written >= self.file_bytes {
            self.state.0.full.store(true, Ordering::Relaxed);
            // The next one comes with the agent's next input; until then this file must not ask again.
            self.written = 0;
        }
        Ok(())
    }

    fn begin(&mut self, header: &Header) -> io::Result<()> {
        self.file.write_all(MAGIC)?;
        self.put(&Frame::Header(Box::new(header.clone())))?;
        // A state is not counted: a file that is full of it alone would be followed by another one at once.
        self.written = 0;
        self.make_room()
    }

    fn put(&mut self, frame: &Frame) -> io::Result<()> {
        let bytes = frame.encode().map_err(io::Error::other)?;
        // In one piece, so that a crash leaves whole frames and at most one torn one.
        self.file.write_all(&bytes)?;
        self.written += bytes.len() as u64;
        self.state.0.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Deletes the oldest journals until those that are left, and one full file, are below the cap.
    fn make_room(&self) -> io::Result<()> {
        let mut files = journals(&self.directory)?;
        let mut total: u64 = files.iter().map(|(_, bytes)| *bytes).sum::<u64>() + self.file_bytes;
        files.retain(|(path, _)| *path != self.path);
        for (path, bytes) in files {
            if total <= self.cap_bytes {
                break;
            }
            std::fs::remove_file(&path)?;
            total -= bytes;
        }
        Ok(())
    }
}

/// The journal files in a directory with their sizes in bytes, oldest first.
fn journals(directory: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(is_journal_name);
        if ours && entry.file_type()?.is_file() {
            files.push((entry.path(), entry.metadata()?.len()));
        }
    }
    // Their names begin with the time in a fixed width.
    files.sort();
    Ok(files)
}

/// `<start of the agent, microseconds since 1970, 16 digits>-<file, 6 digits>.journal`
fn journal_name(header: &Header) -> String {
    format!("{:016}-{:06}.{EXTENSION}", header.epoch_unix_micros, header.number)
}

fn is_journal_name(name: &str) -> bool {
    let digits = |text: &str, len| text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts = name.strip_suffix(EXTENSION).and_then(|rest| rest.strip_suffix('.')?.split_once('-'));
    parts.is_some_and(|(start, number)| digits(start, 16) && digits(number, 6))
}

fn create(directory: &Path, header: &Header) -> io::Result<(File, PathBuf)> {
    let path = directory.join(journal_name(header));
    let file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
    Ok((file, path))
}

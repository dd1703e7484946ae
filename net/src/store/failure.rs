//! Words for what the file system refused.

use std::io;
use std::path::Path;

use longshore_core::input::StoreError;

/// `error` came when `tried` (a verb, as in "write") was done to `path`.
pub(super) fn failure(tried: &str, path: &Path, error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full,
        _ => StoreError::Io(format!("cannot {tried} {}: {error}", path.display()).into()),
    }
}

/// The same for [`Store::open`](super::Store::open), which speaks `io::Error`.
pub(super) fn explained(tried: &str, path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {tried} {}: {error}", path.display()))
}

/// For logs.
pub(super) fn words(error: &StoreError) -> &str {
    match error {
        StoreError::Full => "no space left",
        StoreError::Missing => "no such blob",
        StoreError::Io(words) => words,
    }
}

//! The node's identity: an Ed25519 key in a file, and the peer ID that it proves.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use libp2p::PeerId;
use libp2p::identity::Keypair;

/// Longest identity file that is read, in bytes; an Ed25519 key in libp2p's encoding has 68.
const LONGEST_FILE: u64 = 4096;

/// An identity could not be loaded or made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file system did not do it.
    #[error("cannot {action} the identity file {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What was found.
        source: io::Error,
    },
    /// The file is there and holds no key.
    #[error(
        "the identity file {path} does not hold a libp2p private key; restore it, or remove it to get a new identity (every other agent's member list then needs the new peer ID)"
    )]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
}

/// Reads the identity in `path`.
///
/// # Errors
/// When the file cannot be read or holds no key.
pub fn load(path: &Path) -> Result<Keypair, IdentityError> {
    let failed = |source| IdentityError::Io { action: "read", path: path.to_owned(), source };
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(failed)?.take(LONGEST_FILE).read_to_end(&mut bytes).map_err(failed)?;
    Keypair::from_protobuf_encoding(&bytes).map_err(|_| IdentityError::NotAKey { path: path.to_owned() })
}

/// Reads the identity in `path`, or makes one there, readable by its owner only.
///
/// # Errors
/// When the file cannot be read or made, or holds no key.
pub fn load_or_create(path: &Path) -> Result<Keypair, IdentityError> {
    match load(path) {
        Err(IdentityError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => create(path),
        result => result,
    }
}

fn create(path: &Path) -> Result<Keypair, IdentityError> {
    let failed = |source| IdentityError::Io { action: "make", path: path.to_owned(), source };
    let keypair = Keypair::generate_ed25519();
    let bytes = keypair.to_protobuf_encoding().map_err(|error| failed(io::Error::other(error)))?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory).map_err(failed)?;
    // A temporary file (mode 0600) that is linked into place: never half a key, never one over another.
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
    file.write_all(&bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(keypair),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => load(path),
        Err(error) => Err(failed(error.error)),
    }
}

/// The peer ID of an identity.
#[must_use]
pub fn peer_id(keypair: &Keypair) -> PeerId {
    keypair.public().to_peer_id()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn an_identity_stays_the_same_and_is_readable_by_its_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/identity");
        let first = load_or_create(&path).unwrap();
        let second = load_or_create(&path).unwrap();
        assert_eq!(peer_id(&first), peer_id(&second));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_holds_no_key_is_refused_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity");
        std::fs::write(&path, "hello").unwrap();
        let error = load_or_create(&path).unwrap_err();
        assert!(error.to_string().contains("does not hold a libp2p private key"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"hello");
    }
}

//! Who this agent is: an Ed25519 key in a file that only its owner may read.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use libp2p::identity::Keypair;
use longshore_core::names::PeerId;

/// Length of an Ed25519 key in libp2p's protobuf form (the one that every libp2p implementation reads and writes):
/// four bytes of field headers, the secret and the public half.
const KEY_BYTES: usize = 68;

/// An agent's key pair. Its `Debug` form shows the public half only.
#[derive(Clone)]
pub struct Identity {
    keypair: Keypair,
}

/// Why a file gives no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file system refused.
    #[error("cannot {action} the identity file '{path}': {error}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What was found.
        error: io::Error,
    },
    /// Others may read the key.
    #[error("the identity file '{path}' has mode {mode:04o}, which lets others read the key; run: chmod 600 '{path}'")]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds something else.
    #[error(
        "the identity file '{path}' holds {problem}; expected an Ed25519 key pair in libp2p's protobuf form \
         ({KEY_BYTES} bytes). Restore the file, or delete it and let the agent make a new identity"
    )]
    NoKey {
        /// The file.
        path: PathBuf,
        /// What was found.
        problem: String,
    },
}

impl Identity {
    /// A fresh identity that is in no file.
    #[must_use]
    pub fn generate() -> Self {
        Self { keypair: Keypair::generate_ed25519() }
    }

    /// The identity in the file at `path`; a fresh one is written there if there is no such file.
    ///
    /// # Errors
    /// When the file cannot be read or made, can be read by others, or holds no key.
    pub fn load_or_create(path: &Path) -> Result<Self, IdentityError> {
        match Self::load(path) {
            Err(IdentityError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => Self::create(path),
            result => result,
        }
    }

    /// The identity in the file at `path`.
    ///
    /// # Errors
    /// When the file cannot be read, can be read by others, or holds no key.
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        let failed = |error| IdentityError::Io { action: "read", path: path.to_owned(), error };
        let file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(IdentityError::TooOpen { path: path.to_owned(), mode });
        }
        let mut bytes = Vec::new();
        file.take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        let no_key = |problem| IdentityError::NoKey { path: path.to_owned(), problem };
        if bytes.len() > KEY_BYTES {
            return Err(no_key(format!("more than {KEY_BYTES} bytes")));
        }
        if bytes.len() < KEY_BYTES {
            return Err(no_key(format!("{} bytes", bytes.len())));
        }
        let keypair = Keypair::from_protobuf_encoding(&bytes).map_err(|error| no_key(format!("no key ({error})")))?;
        Ok(Self { keypair })
    }

    /// Writes beside `path` first: a crash leaves no half of a key, and of two agents that start at once one wins and
    /// the other takes the winner's.
    fn create(path: &Path) -> Result<Self, IdentityError> {
        let failed = |error| IdentityError::Io { action: "create", path: path.to_owned(), error };
        let identity = Self::generate();
        let bytes = identity.keypair.to_protobuf_encoding().map_err(|error| failed(io::Error::other(error)))?;
        let mut draft_name = path.as_os_str().to_owned();
        draft_name.push(format!(".{}.new", identity.peer_id()));
        let draft_path = PathBuf::from(draft_name);
        let mut draft =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft_path).map_err(failed)?;
        let linked =
            draft.write_all(&bytes).and_then(|()| draft.sync_all()).and_then(|()| fs::hard_link(&draft_path, path));
        let removed = fs::remove_file(&draft_path);
        match linked {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Self::load(path),
            Err(error) => return Err(failed(error)),
        }
        removed.map_err(failed)?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
        Ok(identity)
    }

    /// The name that peers authenticate this agent by.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        PeerId::new(&self.keypair.public().to_peer_id().to_base58())
    }

    pub(super) fn keypair(&self) -> &Keypair {
        &self.keypair
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Identity").field(&self.peer_id()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn an_identity_is_made_once_and_survives_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity");
        let made = Identity::load_or_create(&path).unwrap();
        assert_eq!(Identity::load_or_create(&path).unwrap().peer_id(), made.peer_id());
        assert_eq!(Identity::load(&path).unwrap().peer_id(), made.peer_id());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no draft is left");
        assert_ne!(Identity::generate().peer_id(), made.peer_id());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity");
        Identity::load_or_create(&path).unwrap();
        for mode in [0o644, 0o640, 0o604] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = Identity::load_or_create(&path).unwrap_err();
            assert!(matches!(error, IdentityError::TooOpen { mode: found, .. } if found == mode), "{error}");
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn a_file_that_holds_no_key_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity");
        for (bytes, found) in [(vec![1; 32], "32 bytes"), (vec![1; 69], "more than 68 bytes"), (vec![1; 68], "no key")]
        {
            fs::write(&path, &bytes).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            let error = Identity::load_or_create(&path).unwrap_err();
            assert!(matches!(error, IdentityError::NoKey { .. }) && error.to_string().contains(found), "{error}");
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
    }

    #[test]
    fn a_missing_directory_is_named_in_the_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("absent").join("identity");
        let error = Identity::load_or_create(&path).unwrap_err();
        assert!(error.to_string().contains("absent/identity"), "{error}");
    }

    #[test]
    fn printing_an_identity_shows_no_secret() {
        let identity = Identity::generate();
        assert_eq!(format!("{identity:?}"), format!("Identity({})", identity.peer_id()));
    }
}

//! Keeps the credentials of containerd's requests, in memory only, and names them by numbers that say nothing.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderValue;
use longshore_core::names::CredentialId;

#[cfg(test)]
mod tests;

/// Longest `Authorization` value that is kept, in bytes (reference, section 2.5).
pub const MAX_SECRET_BYTES: usize = 64 * 1024;
/// Most credentials kept at a time: several for every pod that a node can hold.
const MAX_CREDENTIALS: usize = 1024;
/// Most bytes of credentials kept at a time; typical ones have one to four KiB.
const MAX_TOTAL_BYTES: usize = 8 * 1024 * 1024;
/// How long a forgotten credential can still be had. The mirror may hand an identifier to a new request in the moment in
/// which the core, which has not seen that request yet, forgets it.
const GRACE: Duration = Duration::from_secs(60);

/// The scheme of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// User name and password.
    Basic,
    /// A token that the registry's token service issued.
    Bearer,
}

/// The verbatim value of an `Authorization` header. Never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    scheme: Scheme,
    header: HeaderValue,
}

/// Why a header value is not kept. Never contains the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// Longer than [`MAX_SECRET_BYTES`].
    #[error("Authorization header of {bytes} bytes; at most {MAX_SECRET_BYTES} are accepted")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not `Basic ...` or `Bearer ...`.
    #[error("Authorization header is neither of scheme Basic nor Bearer; the mirror can use no other")]
    UnknownScheme,
    /// It has bytes that no header may have.
    #[error("Authorization header contains bytes that are not allowed in a header")]
    NotAHeader,
}

/// Credentials by number. Cheap to clone; all clones share the same secrets.
#[derive(Clone)]
pub struct Vault {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    entries: BTreeMap<CredentialId, Entry>,
    identifiers: HashMap<Arc<[u8]>, CredentialId>,
    total_bytes: usize,
    /// The last identifier given.
    last_id: u64,
    /// Counts uses, to order them.
    uses: u64,
}

struct Entry {
    secret: Secret,
    last_used: u64,
    forgotten: Option<Instant>,
}

impl Vault {
    /// A vault with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        let inner =
            Inner { entries: BTreeMap::new(), identifiers: HashMap::new(), total_bytes: 0, last_id: 0, uses: 0 };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Keeps the value of an `Authorization` header. The same value has the same identifier as long as it is kept; an
    /// identifier is never given to another value. When the vault is full, the least recently used credential goes.
    ///
    /// # Errors
    /// When the value is too long, or is no Basic or Bearer credential.
    pub fn insert(&self, authorization: &[u8]) -> Result<CredentialId, VaultError> {
        self.insert_at(Instant::now(), authorization)
    }

    fn insert_at(&self, now: Instant, authorization: &[u8]) -> Result<CredentialId, VaultError> {
        let secret = Secret::new(authorization)?;
        let mut inner = self.lock();
        inner.sweep(now);
        let last_used = inner.tick();
        if let Some(&id) = inner.identifiers.get(authorization)
            && let Some(entry) = inner.entries.get_mut(&id)
        {
            entry.forgotten = None;
            entry.last_used = last_used;
            return Ok(id);
        }
        while inner.entries.len() >= MAX_CREDENTIALS || inner.total_bytes + authorization.len() > MAX_TOTAL_BYTES {
            inner.remove_least_useful();
        }
        inner.last_id += 1;
        let id = CredentialId(inner.last_id);
        inner.total_bytes += authorization.len();
        inner.identifiers.insert(authorization.into(), id);
        inner.entries.insert(id, Entry { secret, last_used, forgotten: None });
        Ok(id)
    }

    /// The secret of this number, if it is still kept. Asking for it counts as a use.
    #[must_use]
    pub fn secret(&self, id: CredentialId) -> Option<Secret> {
        self.secret_at(Instant::now(), id)
    }

    fn secret_at(&self, now: Instant, id: CredentialId) -> Option<Secret> {
        let mut inner = self.lock();
        inner.sweep(now);
        let last_used = inner.tick();
        let entry = inner.entries.get_mut(&id)?;
        entry.last_used = last_used;
        entry.forgotten = None;
        Some(entry.secret.clone())
    }

    /// Drops a credential, unless it is inserted or asked for again within a minute.
    pub fn forget(&self, id: CredentialId) {
        self.forget_at(Instant::now(), id);
    }

    fn forget_at(&self, now: Instant, id: CredentialId) {
        let mut inner = self.lock();
        inner.sweep(now);
        if let Some(entry) = inner.entries.get_mut(&id) {
            entry.forgotten.get_or_insert(now);
        }
    }

    /// Number of credentials kept.
    #[must_use]
    pub fn len(&self) -> usize {
        let mut inner = self.lock();
        inner.sweep(Instant::now());
        inner.entries.len()
    }

    /// Whether no credential is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code panics while it holds the lock, and the maps are consistent after every statement that could.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Vault {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Vault({} credentials)", self.lock().entries.len())
    }
}

impl Inner {
    fn tick(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }

    fn remove(&mut self, id: CredentialId) {
        if let Some(entry) = self.entries.remove(&id) {
            self.identifiers.remove(entry.secret.header.as_bytes());
            self.total_bytes -= entry.secret.header.len();
        }
    }

    /// Drops what was forgotten longer than [`GRACE`] ago.
    fn sweep(&mut self, now: Instant) {
        let expired: Vec<CredentialId> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.forgotten.is_some_and(|since| now.saturating_duration_since(since) >= GRACE))
            .map(|(id, _)| *id)
            .collect();
        for id in expired {
            self.remove(id);
        }
    }

    /// Makes room: forgotten ones go first, then the least recently used.
    fn remove_least_useful(&mut self) {
        let least = self.entries.iter().min_by_key(|(_, entry)| (entry.forgotten.is_none(), entry.last_used));
        if let Some((&id, _)) = least {
            self.remove(id);
        }
    }
}

impl Secret {
    /// Reads the value of an `Authorization` header.
    ///
    /// # Errors
    /// When the value is too long, or is no Basic or Bearer credential.
    pub fn new(authorization: &[u8]) -> Result<Self, VaultError> {
        if authorization.len() > MAX_SECRET_BYTES {
            return Err(VaultError::TooLong { bytes: authorization.len() });
        }
        let mut words = authorization.splitn(2, |byte| *byte == b' ');
        let scheme = match words.next() {
            Some(word) if word.eq_ignore_ascii_case(b"basic") => Scheme::Basic,
            Some(word) if word.eq_ignore_ascii_case(b"bearer") => Scheme::Bearer,
            _ => return Err(VaultError::UnknownScheme),
        };
        if words.next().is_none_or(|rest| rest.trim_ascii().is_empty()) {
            return Err(VaultError::UnknownScheme);
        }
        let mut header = HeaderValue::from_bytes(authorization).map_err(|_| VaultError::NotAHeader)?;
        header.set_sensitive(true);
        Ok(Self { scheme, header })
    }

    /// Basic or Bearer.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The header value, marked as sensitive: its `Debug` shows nothing.
    #[must_use]
    pub fn header(&self) -> &HeaderValue {
        &self.header
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Secret({:?}, hidden)", self.scheme)
    }
}

//! Where credentials stay: the core knows only their numbers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use longshore_core::names::CredentialId;

/// Longest `Authorization` header that is kept, in bytes. Registry tokens with many scopes reach some 10 KiB.
pub const HEADER_LIMIT: usize = 64 * 1024;

/// Credentials in memory. Cheap to clone.
#[derive(Clone, Default)]
pub struct Vault {
    next: Arc<AtomicU64>,
    secrets: Arc<Mutex<BTreeMap<CredentialId, Arc<str>>>>,
}

impl Vault {
    /// A vault with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps an `Authorization` header of scheme Basic or Bearer. `None` for any other, and for one that is too long.
    pub fn insert(&self, header: &str) -> Option<CredentialId> {
        let (scheme, _) = header.split_once(' ')?;
        let known = scheme.eq_ignore_ascii_case("basic") || scheme.eq_ignore_ascii_case("bearer");
        if !known || header.len() > HEADER_LIMIT {
            return None;
        }
        let id = CredentialId(self.next.fetch_add(1, Ordering::Relaxed));
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner).insert(id, header.into());
        Some(id)
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Vault")
    }
}

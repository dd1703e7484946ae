//! What every connection of one mirror shares.

use std::sync::Arc;

use super::MirrorConfig;
use super::problem::{Problem, quote};
use super::requests::Requests;
use crate::store::Store;
use crate::vault::Vault;

/// What every connection of one mirror shares.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) config: MirrorConfig,
    pub(crate) store: Store,
    pub(crate) vault: Vault,
    pub(crate) requests: Arc<Requests>,
}

impl MirrorConfig {
    /// The registry that a request means.
    ///
    /// # Errors
    /// 404 when it names none and there is no default, or names one that is not mirrored.
    pub(crate) fn registry(&self, named: Option<Arc<str>>) -> Result<Arc<str>, Problem> {
        let Some(registry) = named else {
            return self.default().ok_or_else(|| {
                Problem::not_found("NAME_UNKNOWN", "no ns= in the request and no default registry in the configuration")
            });
        };
        let default = self.default_registry.as_ref();
        let listed = |list: &Vec<Arc<str>>| list.iter().chain(default).any(|one| one.eq_ignore_ascii_case(&registry));
        if self.registries.as_ref().is_none_or(listed) {
            Ok(registry)
        } else {
            let message = format!("registry {} is not one that this mirror is configured for", quote(&registry));
            Err(Problem::not_found("NAME_UNKNOWN", message))
        }
    }

    /// The registry of requests without `ns`: the configured default, or the only one there is.
    fn default(&self) -> Option<Arc<str>> {
        let only = || match self.registries.as_deref() {
            Some([only]) => Some(Arc::clone(only)),
            _ => None,
        };
        self.default_registry.clone().or_else(only)
    }
}

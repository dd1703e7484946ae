//! What is remembered of authentication: which challenge a repository makes, and the tokens got for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use http::HeaderValue;
use longshore_core::names::CredentialId;
use serde::Deserialize;

use super::challenge::Challenge;

#[cfg(test)]
mod tests;

/// Largest answer of a token service, in bytes (reference, section 7.5).
pub(super) const MAX_TOKEN_BODY_BYTES: usize = 64 * 1024;
/// How long before its end a token is not used any more (reference, section 7.5).
const EXPIRY_MARGIN: Duration = Duration::from_secs(30);
/// A token is used at least this long, whatever its service says (the token specification's own minimum).
const MIN_LIFETIME: Duration = Duration::from_secs(60);
/// How long a token is used when its service does not say (reference, section 7.5).
const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);
/// A token is used at most this long, so that a changed password is noticed.
const MAX_LIFETIME: Duration = Duration::from_secs(3600);
/// Most tokens and most challenges remembered: one of each for every repository that a busy node uses in an hour.
const MAX_REMEMBERED: usize = 1024;

/// Whom a token was issued to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holder {
    /// Nobody in particular.
    Anonymous,
    /// The node, with its own credential.
    Node,
    /// The requester with this credential.
    Requester(CredentialId),
}

/// What a token is for. Two tokens of different holders, registries, services or scopes never stand in for each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TokenKey {
    pub(super) registry: Arc<str>,
    pub(super) realm: String,
    pub(super) service: Option<String>,
    pub(super) scope: String,
    pub(super) holder: Holder,
}

/// A repository of a registry.
pub(super) type Repository = (Arc<str>, Arc<str>);

/// Challenges and tokens. In memory only.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    tokens: BTreeMap<TokenKey, Token>,
    challenges: BTreeMap<Repository, (Challenge, u64)>,
    gates: BTreeMap<TokenKey, Weak<tokio::sync::Mutex<()>>>,
    challenges_seen: u64,
}

#[derive(Debug)]
struct Token {
    /// Marked as sensitive.
    authorization: HeaderValue,
    expires: Instant,
}

impl Tokens {
    /// The challenge that a repository made last.
    pub(super) fn challenge(&self, repository: &Repository) -> Option<Challenge> {
        self.lock().challenges.get(repository).map(|(challenge, _)| challenge.clone())
    }

    /// Remembers the challenge of a repository.
    pub(super) fn remember(&self, repository: Repository, challenge: Challenge) {
        let mut inner = self.lock();
        inner.challenges_seen += 1;
        let number = inner.challenges_seen;
        inner.challenges.insert(repository, (challenge, number));
        if inner.challenges.len() > MAX_REMEMBERED {
            let oldest = inner.challenges.iter().min_by_key(|(_, (_, number))| *number).map(|(key, _)| key.clone());
            oldest.and_then(|key| inner.challenges.remove(&key));
        }
    }

    /// The header value with a token that is still good.
    pub(super) fn get(&self, key: &TokenKey, now: Instant) -> Option<HeaderValue> {
        self.lock().tokens.get(key).filter(|token| token.expires > now).map(|token| token.authorization.clone())
    }

    /// Keeps a token.
    pub(super) fn put(&self, key: TokenKey, issued: &Issued, now: Instant) {
        let mut inner = self.lock();
        inner.tokens.insert(key, Token { authorization: issued.authorization.clone(), expires: now + issued.lifetime });
        if inner.tokens.len() > MAX_REMEMBERED {
            let first = inner.tokens.iter().min_by_key(|(_, token)| token.expires).map(|(key, _)| key.clone());
            first.and_then(|key| inner.tokens.remove(&key));
        }
    }

    /// Drops a token that the registry rejected, unless there is a newer one already.
    pub(super) fn invalidate(&self, key: &TokenKey, rejected: &HeaderValue) {
        let mut inner = self.lock();
        if inner.tokens.get(key).is_some_and(|token| token.authorization == *rejected) {
            inner.tokens.remove(key);
        }
    }

    /// Drops every token of a requester.
    pub(super) fn forget(&self, credential: CredentialId) {
        self.lock().tokens.retain(|key, _| key.holder != Holder::Requester(credential));
    }

    /// Whoever holds this gate asks the token service; others wait and find the token in the cache.
    pub(super) fn gate(&self, key: &TokenKey) -> Arc<tokio::sync::Mutex<()>> {
        let mut inner = self.lock();
        if let Some(gate) = inner.gates.get(key).and_then(Weak::upgrade) {
            return gate;
        }
        inner.gates.retain(|_, gate| gate.strong_count() > 0);
        let gate = Arc::default();
        inner.gates.insert(key.clone(), Arc::downgrade(&gate));
        gate
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Each change under the lock is complete in itself.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a token service answered.
#[derive(Debug)]
pub(super) struct Issued {
    /// `Bearer ...`, marked as sensitive.
    pub(super) authorization: HeaderValue,
    /// How long to use it.
    pub(super) lifetime: Duration,
}

impl Issued {
    /// Reads the answer of a token service.
    ///
    /// # Errors
    /// In words, without the token.
    pub(super) fn read(body: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            token: Option<String>,
            #[serde(default)]
            access_token: Option<String>,
            #[serde(default)]
            expires_in: Option<f64>,
        }
        // The parser's error may quote what it found, which may be a token.
        let answer: Answer = serde_json::from_slice(body).map_err(|error| {
            format!("the answer is not the expected JSON (line {}, column {})", error.line(), error.column())
        })?;
        let token = answer.token.filter(|token| !token.is_empty()).or(answer.access_token).unwrap_or_default();
        if token.is_empty() {
            return Err("the answer has no token".to_owned());
        }
        let mut authorization = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| "the answer's token has characters that no header may have".to_owned())?;
        authorization.set_sensitive(true);
        Ok(Self { authorization, lifetime: lifetime(answer.expires_in) })
    }
}

fn lifetime(expires_in_seconds: Option<f64>) -> Duration {
    let Some(seconds) = expires_in_seconds.filter(|seconds| *seconds > 0.0) else { return DEFAULT_LIFETIME };
    let stated = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    stated.saturating_sub(EXPIRY_MARGIN).clamp(MIN_LIFETIME, MAX_LIFETIME)
}

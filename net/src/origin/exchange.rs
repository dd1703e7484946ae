//! One question to a registry: redirects, and one round of authentication if the registry asks for it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RANGE, USER_AGENT};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use longshore_core::digest::Digest;
use longshore_core::input::OriginFailure;
use longshore_core::message::FailureClass;
use longshore_core::names::{CredentialId, Kind, Source};
use url::Url;

use super::challenge::{self, Challenge};
use super::config::OriginConfig;
use super::endpoint::{Endpoint, same_party};
use super::failure::{self, Tried};
use super::token::{Holder, Issued, MAX_TOKEN_BODY_BYTES, TokenKey, Tokens};
use super::transport::Transport;
use crate::vault::{Scheme, Secret, Vault};

/// Most redirects that are followed (as containerd and Gantry; reference, section 7.5).
const MAX_REDIRECTS: u32 = 10;
/// What a manifest may be; the last one lets registries send what else they have under that digest.
const MANIFEST_TYPES: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, */*";
const PRODUCT: &str = concat!("longshore/", env!("CARGO_PKG_VERSION"));

/// A question about one digest.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) method: Method,
    pub(super) source: Source,
    pub(super) digest: Digest,
    /// Bytes to ask for; never empty. `None`: everything.
    pub(super) range: Option<Range<u64>>,
    pub(super) credential: Option<CredentialId>,
}

/// Headers of a response, with the body still to come. Of any status but 401.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    pub(super) tried: Tried,
    /// A credential, or a token that was got with one, was sent.
    pub(super) is_private: bool,
}

/// Asks registries.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) config: OriginConfig,
    pub(super) transport: Transport,
    pub(super) tokens: Tokens,
    pub(super) vault: Vault,
}

/// On whose behalf a question is asked. One never stands in for another.
#[derive(Clone, Debug)]
struct Identity {
    holder: Holder,
    secret: Option<Secret>,
}

/// The `Authorization` of one request.
#[derive(Clone, Debug)]
struct Authorization {
    header: HeaderValue,
    /// Where the token in it came from, if it is one that we got.
    token: Option<TokenKey>,
}

impl Exchange {
    /// Asks, authenticates once if the registry wants it, and asks again.
    ///
    /// # Errors
    /// When no answer came, or when it is 401 after all.
    pub(super) async fn ask(&self, question: &Question) -> Result<Answer, OriginFailure> {
        let source = &question.source;
        let endpoint = Endpoint::of_registry(&self.config, &source.registry).map_err(failure::without_response)?;
        let url = endpoint.url(source, question.digest).map_err(failure::without_response)?;
        let identity = self.identity(question, &url)?;

        let first = self.prepared(source, &identity);
        let answer = self.send(&endpoint, &url, question, &identity, first.as_ref()).await?;
        if !answer.is_refused() {
            return Ok(answer);
        }
        let refused = failure::of_response(&self.transport, &answer.tried, answer.response).await;
        let second = self.authorize(&endpoint, source, &identity, first, refused).await?;
        let answer = self.send(&endpoint, &url, question, &identity, Some(&second)).await?;
        if !answer.is_refused() {
            return Ok(answer);
        }
        if let Some(key) = &second.token {
            self.tokens.invalidate(key, &second.header);
        }
        Err(failure::of_response(&self.transport, &answer.tried, answer.response).await)
    }

    /// The failure that an answer is, if its status is not one of success.
    pub(super) async fn successful(&self, answer: Answer) -> Result<Answer, OriginFailure> {
        if answer.response.status().is_success() {
            return Ok(answer);
        }
        Err(failure::of_response(&self.transport, &answer.tried, answer.response).await)
    }

    /// Forgets what was got with a credential, and the credential.
    pub(super) fn forget(&self, credential: CredentialId) {
        self.tokens.forget(credential);
        self.vault.forget(credential);
    }

    fn identity(&self, question: &Question, url: &Url) -> Result<Identity, OriginFailure> {
        if let Some(id) = question.credential {
            let Some(secret) = self.vault.secret(id) else {
                let tried = Tried::new(question.method.clone(), url);
                return Err(failure::transient(&tried, "not sent: the requester's credential is not kept any more"));
            };
            return Ok(Identity { holder: Holder::Requester(id), secret: Some(secret) });
        }
        let upstream = self.config.registries.get(&*question.source.registry);
        match upstream.and_then(|upstream| upstream.credential.as_ref()) {
            Some(credential) => Ok(Identity { holder: Holder::Node, secret: Some(credential.secret().clone()) }),
            None => Ok(Identity { holder: Holder::Anonymous, secret: None }),
        }
    }

    /// What the first request is sent with: a requester's token as it is; else what this repository's last challenge
    /// called for, as far as it is at hand; else nothing.
    fn prepared(&self, source: &Source, identity: &Identity) -> Option<Authorization> {
        if let Some(secret) = identity.secret_of(Scheme::Bearer) {
            return Some(Authorization { header: secret.header().clone(), token: None });
        }
        match self.tokens.challenge(&repository_of(source))? {
            Challenge::Basic => {
                let secret = identity.secret_of(Scheme::Basic)?;
                Some(Authorization { header: secret.header().clone(), token: None })
            }
            Challenge::Bearer { realm, service, scope } => {
                let key = token_key(source, identity, realm, service, scope);
                let header = self.tokens.get(&key, Instant::now())?;
                Some(Authorization { header, token: Some(key) })
            }
        }
    }

    /// The answer to a registry's challenge, or its refusal with the reason why it cannot be answered.
    async fn authorize(
        &self,
        endpoint: &Endpoint,
        source: &Source,
        identity: &Identity,
        sent: Option<Authorization>,
        refused: OriginFailure,
    ) -> Result<Authorization, OriginFailure> {
        if identity.secret_of(Scheme::Bearer).is_some() {
            return Err(because(refused, "the requester's token was rejected"));
        }
        let challenges = challenge::parse(refused.challenge.iter().map(|header| &**header));
        // A token says less about its holder than a password, so it is preferred.
        let is_bearer = |challenge: &&Challenge| matches!(challenge, Challenge::Bearer { .. });
        let Some(chosen) = challenges.iter().find(is_bearer).or(challenges.first()).cloned() else {
            return Err(because(refused, "its challenge is neither Basic nor Bearer"));
        };
        self.tokens.remember(repository_of(source), chosen.clone());
        match chosen {
            Challenge::Basic => match identity.secret_of(Scheme::Basic) {
                None => Err(because(refused, "it wants a password and there is none")),
                Some(_) if sent.is_some_and(|sent| sent.token.is_none()) => {
                    Err(because(refused, "the password was rejected"))
                }
                Some(secret) => Ok(Authorization { header: secret.header().clone(), token: None }),
            },
            Challenge::Bearer { realm, service, scope } => {
                let key = token_key(source, identity, realm, service, scope);
                if let Some(sent) = sent {
                    self.tokens.invalidate(&key, &sent.header);
                }
                let header = self.token(endpoint, identity, &key, refused).await?;
                Ok(Authorization { header, token: Some(key) })
            }
        }
    }

    /// A token for `key`: from the cache if somebody else got it meanwhile, else from the token service.
    async fn token(
        &self,
        endpoint: &Endpoint,
        identity: &Identity,
        key: &TokenKey,
        refused: OriginFailure,
    ) -> Result<HeaderValue, OriginFailure> {
        let Ok(realm) = Url::parse(&key.realm) else {
            return Err(because(refused, "the URL of its token service cannot be read"));
        };
        if realm.scheme() != "https" && !(realm.scheme() == "http" && endpoint.is_plain_http()) {
            return Err(because(refused, "its token service is not reached by HTTPS, so nothing was sent there"));
        }
        let gate = self.tokens.gate(key);
        // Whoever is ahead may be stuck; then it is better to ask for a token of one's own.
        let _passed = tokio::time::timeout(self.transport.header_timeout(), gate.lock()).await;
        if let Some(header) = self.tokens.get(key, Instant::now()) {
            return Ok(header);
        }
        let issued = self.issue(endpoint, identity, key, realm).await.map_err(|failed| match failed.class {
            FailureClass::Auth => OriginFailure { challenge: refused.challenge, ..failed },
            // A missing token service says nothing about the blob.
            FailureClass::NotFound => OriginFailure { class: FailureClass::Transient, ..failed },
            FailureClass::RateLimited | FailureClass::Transient => failed,
        })?;
        self.tokens.put(key.clone(), &issued, Instant::now());
        Ok(issued.authorization)
    }

    async fn issue(
        &self,
        endpoint: &Endpoint,
        identity: &Identity,
        key: &TokenKey,
        mut realm: Url,
    ) -> Result<Issued, OriginFailure> {
        {
            let mut query = realm.query_pairs_mut();
            if let Some(service) = &key.service {
                query.append_pair("service", service);
            }
            for scope in key.scope.split_whitespace() {
                query.append_pair("scope", scope);
            }
        }
        let secret = identity.secret_of(Scheme::Basic).map(Secret::header);
        let plain_http = endpoint.is_plain_http();
        let (response, tried) = self.follow(&Method::GET, &realm, &plain_headers(), secret, plain_http).await?;
        let status = response.status();
        if !status.is_success() {
            return Err(failure::of_response(&self.transport, &tried, response).await);
        }
        let body = failure::read_limited(&self.transport, response.into_body(), MAX_TOKEN_BODY_BYTES).await;
        body.and_then(|body| Issued::read(&body)).map_err(|problem| failure::unusable(&tried, status, problem))
    }

    async fn send(
        &self,
        endpoint: &Endpoint,
        url: &Url,
        question: &Question,
        identity: &Identity,
        authorization: Option<&Authorization>,
    ) -> Result<Answer, OriginFailure> {
        let header = authorization.map(|authorization| &authorization.header);
        let plain_http = endpoint.is_plain_http();
        let (response, tried) = self.follow(&question.method, url, &headers_of(question), header, plain_http).await?;
        Ok(Answer { response, tried, is_private: header.is_some() && identity.secret.is_some() })
    }

    /// Sends a request and goes where redirects lead. The authorization stays with the party that it was meant for.
    async fn follow(
        &self,
        method: &Method,
        start: &Url,
        headers: &HeaderMap,
        authorization: Option<&HeaderValue>,
        plain_http: bool,
    ) -> Result<(Response<Incoming>, Tried), OriginFailure> {
        let mut tried = Tried::new(method.clone(), start);
        let mut authorization = authorization;
        for _ in 0..=MAX_REDIRECTS {
            let mut request = Request::new(Empty::<Bytes>::new());
            *request.method_mut() = method.clone();
            *request.uri_mut() =
                tried.at.as_str().parse().map_err(|_| failure::transient(&tried, "this URL cannot be requested"))?;
            *request.headers_mut() = headers.clone();
            if let Some(header) = authorization {
                request.headers_mut().insert(AUTHORIZATION, header.clone());
            }
            let response = self.transport.send(request).await.map_err(|words| failure::transient(&tried, words))?;
            if !is_redirect(response.status()) {
                return Ok((response, tried));
            }
            let unusable = |found: &str| failure::unusable(&tried, response.status(), found);
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let Some(next) = location.and_then(|location| tried.at.join(location).ok()) else {
                return Err(unusable("a redirect without a usable Location"));
            };
            if next.scheme() != "https" && !(next.scheme() == "http" && plain_http) {
                return Err(unusable("a redirect away from HTTPS is not followed"));
            }
            if !same_party(&tried.at, &next) {
                authorization = None;
            }
            tried.at = next;
        }
        Err(failure::transient(&tried, format!("more than {MAX_REDIRECTS} redirects")))
    }
}

impl Answer {
    /// The registry itself wants (other) authentication.
    fn is_refused(&self) -> bool {
        self.response.status() == StatusCode::UNAUTHORIZED && self.tried.is_at_home()
    }
}

impl Identity {
    fn secret_of(&self, scheme: Scheme) -> Option<&Secret> {
        self.secret.as_ref().filter(|secret| secret.scheme() == scheme)
    }
}

/// The failure with a reason added.
fn because(refused: OriginFailure, reason: &str) -> OriginFailure {
    OriginFailure { detail: format!("{} ({reason})", refused.detail).into(), ..refused }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn repository_of(source: &Source) -> (Arc<str>, Arc<str>) {
    (source.registry.clone(), source.repository.clone())
}

fn token_key(
    source: &Source,
    identity: &Identity,
    realm: String,
    service: Option<String>,
    scope: Option<String>,
) -> TokenKey {
    let scope = scope.filter(|scope| !scope.trim().is_empty());
    let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", source.repository));
    TokenKey { registry: source.registry.clone(), realm, service, scope, holder: identity.holder }
}

fn plain_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, HeaderValue::from_static(PRODUCT));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    // The digest is over the bytes as stored: a compressed transfer would change them.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers
}

fn headers_of(question: &Question) -> HeaderMap {
    let mut headers = plain_headers();
    if question.source.kind == Kind::Manifest {
        headers.insert(ACCEPT, HeaderValue::from_static(MANIFEST_TYPES));
    }
    if let Some(range) = &question.range {
        // Digits and two ASCII signs are always a header value.
        if let Ok(value) = HeaderValue::try_from(format!("bytes={}-{}", range.start, range.end.saturating_sub(1))) {
            headers.insert(RANGE, value);
        }
    }
    headers
}

//! Who may come in: nobody is asked, a password, or a token from a token service.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::harness::token::Issuer;

/// Path of the token service, on the same server.
pub(crate) const TOKEN_PATH: &str = "/token";

/// Who may read.
#[derive(Clone, Debug)]
pub(crate) enum Door {
    /// Everybody.
    Open,
    /// `name:password` by HTTP Basic.
    Basic(String),
    /// A Bearer token for the repository, from [`TOKEN_PATH`].
    Bearer {
        /// `name:password` that the token service asks for; `None` gives a token to everybody.
        user: Option<String>,
    },
    /// Only a token service, for a real registry that knows its issuer. `name:password` is asked for.
    Issuer {
        /// Who signs.
        issuer: Arc<Issuer>,
        /// Who may have a token.
        user: String,
    },
}

/// What the door says to a request.
pub(super) enum Verdict {
    /// Come in.
    Enter,
    /// 401 with this `WWW-Authenticate`.
    Challenge(String),
    /// The token service's answer.
    Token(String),
}

impl Door {
    /// Judges a request for `path` at the server on `port`.
    pub(super) fn judge(&self, port: u16, path: &str, authorization: Option<&str>) -> Verdict {
        match self {
            Self::Open => Verdict::Enter,
            Self::Basic(user) if authorization == Some(basic(user).as_str()) => Verdict::Enter,
            Self::Basic(_) => Verdict::Challenge("Basic realm=\"test\"".to_owned()),
            Self::Bearer { user } => judge_bearer(user.as_deref(), port, path, authorization),
            Self::Issuer { user, .. } if authorization != Some(basic(user).as_str()) => {
                Verdict::Challenge("Basic realm=\"token service\"".to_owned())
            }
            Self::Issuer { issuer, .. } => Verdict::Token(issuer.sign(&scope_of(path))),
        }
    }
}

fn judge_bearer(user: Option<&str>, port: u16, path: &str, authorization: Option<&str>) -> Verdict {
    if path.starts_with(TOKEN_PATH) {
        if user.is_some_and(|user| authorization != Some(basic(user).as_str())) {
            return Verdict::Challenge("Basic realm=\"token service\"".to_owned());
        }
        return Verdict::Token(token(&scope_of(path)));
    }
    let repository = repository_of(path);
    let scope = format!("repository:{repository}:pull");
    if authorization == Some(format!("Bearer {}", token(&scope)).as_str()) {
        return Verdict::Enter;
    }
    Verdict::Challenge(format!(
        "Bearer realm=\"http://127.0.0.1:{port}{TOKEN_PATH}\",service=\"test registry\",scope=\"{scope}\""
    ))
}

/// The scope that a token is asked for.
fn scope_of(path: &str) -> String {
    let scope = path.split(['?', '&']).find_map(|pair| pair.strip_prefix("scope=")).unwrap_or_default();
    let codes = [("%3A", ":"), ("%3a", ":"), ("%2F", "/"), ("%2f", "/"), ("%2C", ","), ("%2c", ",")];
    codes.iter().fold(scope.to_owned(), |scope, (code, character)| scope.replace(code, character))
}

/// The `Authorization` value of HTTP Basic for `name:password`.
pub(crate) fn basic(user: &str) -> String {
    format!("Basic {}", STANDARD.encode(user))
}

/// Good for exactly one scope.
fn token(scope: &str) -> String {
    STANDARD.encode(format!("token for {scope}"))
}

fn repository_of(path: &str) -> &str {
    let path = path.strip_prefix("/v2/").unwrap_or_default();
    ["/manifests/", "/blobs/"].iter().find_map(|part| path.split_once(part)).map_or("", |(repository, _)| repository)
}

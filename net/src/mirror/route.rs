//! From a request target to what is asked for. Pure: no registry is chosen and nothing is looked up here.

use std::borrow::Cow;
use std::sync::Arc;

use longshore_core::digest::{Digest, DigestError};
use longshore_core::names::Kind;
use percent_encoding::percent_decode_str;

use super::problem::{Problem, quote};

/// What a request target names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/v2` or `/v2/`: is this a registry?
    Ping,
    /// `/healthz`: is this process alive?
    Health,
    /// Content by digest.
    Content {
        /// The registry that `ns` names, in lower case; `None` without `ns`.
        registry: Option<Arc<str>>,
        /// The repository.
        repository: Arc<str>,
        /// Which URL family.
        kind: Kind,
        /// The digest.
        digest: Digest,
    },
}

/// Longest repository name in characters (the specification's advice: host and name together).
const NAME_LIMIT: usize = 255;
/// Longest registry in characters: a DNS name, a colon and a port.
const REGISTRY_LIMIT: usize = 253 + 6;

/// Reads the target of a GET or HEAD request.
///
/// # Errors
/// The answer to give: 404 for all that another host may know, 400 for what cannot be a digest anywhere.
pub(crate) fn parse(path: &str, query: Option<&str>) -> Result<Route, Problem> {
    let path = decode(path).ok_or_else(|| unknown(path))?;
    match &*path {
        "/healthz" => return Ok(Route::Health),
        "/v2" | "/v2/" => return Ok(Route::Ping),
        _ => {}
    }
    let (name, family, reference) = split(&path).ok_or_else(|| unknown(&path))?;
    if !is_repository(name) {
        let message = format!("{} is not a repository name of the specification", quote(name));
        return Err(Problem::not_found("NAME_INVALID", message));
    }
    let (kind, missing) = match family {
        "manifests" => (Kind::Manifest, "MANIFEST_UNKNOWN"),
        "blobs" => (Kind::Blob, "BLOB_UNKNOWN"),
        "referrers" => {
            return Err(Problem::not_found("UNSUPPORTED", "referrers are the registry's business: ask it"));
        }
        _ => return Err(unknown(&path)),
    };
    // A tag cannot contain a colon, a digest cannot be without one.
    if kind == Kind::Manifest && !reference.contains(':') {
        return Err(Problem::not_found(missing, "tags are the registry's business: ask it"));
    }
    let digest = reference.parse::<Digest>().map_err(|error| match error {
        DigestError::UnsupportedAlgorithm(_) => Problem::not_found(missing, error.to_string()),
        DigestError::Malformed(_) => {
            Problem::bad_digest(format!("{} is not sha256:<64 lower-case hex digits>", quote(reference)))
        }
    })?;
    let registry = namespace(query)?;
    Ok(Route::Content { registry, repository: name.into(), kind, digest })
}

fn unknown(path: &str) -> Problem {
    Problem::not_found("UNSUPPORTED", format!("there is nothing at {}", quote(path)))
}

/// `/v2/<name>/<family>/<reference>`, from the right: a name may contain the words of the families.
fn split(path: &str) -> Option<(&str, &str, &str)> {
    let (rest, reference) = path.strip_prefix("/v2/")?.rsplit_once('/')?;
    let (name, family) = rest.rsplit_once('/')?;
    Some((name, family, reference))
}

fn decode(text: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(text).decode_utf8().ok()
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*`
fn is_repository(name: &str) -> bool {
    name.len() <= NAME_LIMIT && name.split('/').all(is_component)
}

fn is_component(component: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut rest = component.as_bytes();
    loop {
        let word = rest.iter().take_while(|byte| alphanumeric(byte)).count();
        if word == 0 {
            return false;
        }
        rest = &rest[word..];
        if rest.is_empty() {
            return true;
        }
        let separator = rest.iter().take_while(|byte| !alphanumeric(byte)).count();
        let (between, after) = rest.split_at(separator);
        let allowed = matches!(between, b"." | b"_" | b"__") || between.iter().all(|byte| *byte == b'-');
        if !allowed {
            return false;
        }
        rest = after;
    }
}

/// The first `ns` of the query.
fn namespace(query: Option<&str>) -> Result<Option<Arc<str>>, Problem> {
    let value = query.unwrap_or("").split('&').find_map(|pair| pair.strip_prefix("ns="));
    let Some(value) = value else { return Ok(None) };
    let refused = || Problem::not_found("NAME_UNKNOWN", format!("ns={} is not a registry", quote(value)));
    let registry = decode(value).ok_or_else(refused)?.to_ascii_lowercase();
    if is_registry(&registry) { Ok(Some(registry.into())) } else { Err(refused()) }
}

/// Whether a text is `host` or `host:port`, where the host is a DNS name, an IPv4 address or an IPv6 address in brackets.
///
/// Strict, because the origin driver makes a URL of it.
pub(crate) fn is_registry(text: &str) -> bool {
    if text.len() > REGISTRY_LIMIT {
        return false;
    }
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((address, after)) = rest.split_once(']') else { return false };
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return false;
        }
        match after.strip_prefix(':') {
            Some(port) => (None, Some(port)),
            None if after.is_empty() => (None, None),
            None => return false,
        }
    } else {
        match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        }
    };
    host.is_none_or(is_host) && port.is_none_or(is_port)
}

fn is_host(host: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let label = |label: &str| {
        let bytes = label.as_bytes();
        // Underscores are no DNS, but names in container networks have them.
        let inner = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        bytes.len() <= 63 && inner && edge(bytes.first()) && edge(bytes.last())
    };
    host.split('.').all(label)
}

fn is_port(port: &str) -> bool {
    let digits = (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    digits && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests;

//! Which URL a digest has at a registry.

use longshore_core::digest::Digest;
use longshore_core::names::{Kind, Source};
use url::Url;

use super::config::{OriginConfig, Upstream};

#[cfg(test)]
mod tests;

/// Longest repository name, as the distribution specification has it with a host name in front.
const MAX_REPOSITORY_BYTES: usize = 255;

/// Where a registry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    base: Url,
}

impl Endpoint {
    /// Finds the endpoint of a registry. The name may come from another node, so it is checked.
    pub(super) fn of_registry(config: &OriginConfig, registry: &str) -> Result<Self, String> {
        let upstream = config.registries.get(registry);
        if let Some(base) = upstream.and_then(|upstream| upstream.base_url.clone()) {
            return Ok(Self { base });
        }
        let host = match registry {
            // Docker Hub's name in image references is not the name of its host.
            "docker.io" | "index.docker.io" => "registry-1.docker.io",
            other => other,
        };
        let plain = upstream.is_some_and(|Upstream { plain_http, .. }| *plain_http) || is_this_machine(host);
        let scheme = if plain { "http" } else { "https" };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        let base = if host.bytes().all(allowed) { Url::parse(&format!("{scheme}://{host}")).ok() } else { None };
        match base {
            Some(base) if base.path() == "/" => Ok(Self { base }),
            _ => Err(format!("'{registry}' is not the name of a registry; expected HOST or HOST:PORT")),
        }
    }

    /// Whether the registry itself is reached without encryption.
    pub(super) fn is_plain_http(&self) -> bool {
        self.base.scheme() == "http"
    }

    /// The URL of a digest. The repository's name may come from another node, so it is checked.
    pub(super) fn url(&self, source: &Source, digest: Digest) -> Result<Url, String> {
        let repository = &*source.repository;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_component = |part: &str| !part.is_empty() && part.bytes().all(allowed) && part != "." && part != "..";
        if repository.len() > MAX_REPOSITORY_BYTES || !repository.split('/').all(is_component) {
            return Err(format!("'{repository}' is not the name of a repository"));
        }
        let family = match source.kind {
            Kind::Manifest => "manifests",
            Kind::Config | Kind::Blob => "blobs",
        };
        let mut url = self.base.clone();
        let prefix = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{prefix}/v2/{repository}/{family}/{digest}"));
        Ok(url)
    }
}

/// Whether two URLs are served by the same party: scheme, host and port are equal.
pub(super) fn same_party(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host_str() == other.host_str()
        && one.port_or_known_default() == other.port_or_known_default()
}

/// A URL for logs: without user name, password, query (which may be a signature) and fragment.
pub(super) fn redacted(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or("?"), url.path())
}

/// Registries on this machine speak HTTP by default, as for containerd and Docker.
fn is_this_machine(host: &str) -> bool {
    let name = if let Some(rest) = host.strip_prefix('[') {
        rest.split(']').next().unwrap_or(rest)
    } else {
        host.rsplit_once(':').map_or(host, |(name, _)| name)
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

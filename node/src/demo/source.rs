//! Where the demo's image comes from: the embedded registry or a real one.

use std::time::Duration;

use http::{Request, StatusCode, header};
use http_body_util::Empty;
use longshore_core::digest::Digest;

use super::cluster::Upstream;
use super::image::Image;
use super::options::{Options, Origin, Reference};
use super::registry::Registry;
use super::{DemoError, layout, media_types, synthetic};
use crate::http::client::Client;
use crate::status::page::human_bytes;

/// Longest that a registry may take to resolve a tag.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(30);

/// An image that can be pulled.
pub(super) struct Source {
    embedded: Option<Registry>,
    upstream: Upstream,
    repository: String,
    tag: String,
    root: Digest,
}

impl Source {
    /// Makes or finds the image.
    pub(super) async fn open(options: &Options, client: &Client) -> Result<Self, DemoError> {
        let image = match options.origin.clone() {
            Origin::Registry(reference) => return Self::resolve(reference, client).await,
            Origin::Layout { directory, tag } => {
                let image = blocking(move || layout::image(&directory, tag.as_deref())).await??;
                check_space(options, image.blobs.values().map(|blob| blob.size).sum())?;
                image
            }
            Origin::Synthetic { bytes, layers } => {
                check_space(options, bytes)?;
                let seed = options.seed;
                blocking(move || synthetic::image(seed, bytes, layers)).await?
            }
        };
        let Image { repository, tag, root, .. } = image.clone();
        let registry = Registry::start(image)
            .await
            .map_err(|error| DemoError::Other(format!("cannot start the embedded registry on 127.0.0.1: {error}")))?;
        let host = registry.address().to_string();
        let upstream = Upstream { base_url: format!("http://{host}"), host };
        Ok(Self { embedded: Some(registry), upstream, repository, tag, root })
    }

    /// Asks a real registry what a tag means.
    async fn resolve(reference: Reference, client: &Client) -> Result<Self, DemoError> {
        let Reference { base_url, host, repository, reference } = reference;
        let url = format!("{base_url}/v2/{repository}/manifests/{reference}");
        let refused = |what: String| DemoError::Other(format!("cannot resolve the image at {url}: {what}"));
        let root = match reference.parse() {
            Ok(digest) => digest,
            Err(_) => {
                let request = Request::head(&url).header(header::ACCEPT, media_types::ACCEPT).body(Empty::new());
                let request = request.map_err(|error| refused(error.to_string()))?;
                let response =
                    client.send(request, RESOLVE_TIMEOUT).await.map_err(|error| refused(error.to_string()))?;
                let status = response.status();
                if status == StatusCode::UNAUTHORIZED {
                    return Err(refused("it wants a login, and the demo pulls without one".to_owned()));
                }
                if !status.is_success() {
                    return Err(refused(format!("it answers {status}")));
                }
                let digest = response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
                let digest = digest.ok_or_else(|| refused("its answer has no Docker-Content-Digest".to_owned()))?;
                digest.parse().map_err(|error| refused(format!("{error}")))?
            }
        };
        Ok(Self { embedded: None, upstream: Upstream { host, base_url }, repository, tag: reference, root })
    }

    pub(super) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    pub(super) fn repository(&self) -> &str {
        &self.repository
    }

    pub(super) fn root(&self) -> Digest {
        self.root
    }

    /// The image's name, for people.
    pub(super) fn name(&self) -> String {
        let separator = if self.tag.contains(':') { '@' } else { ':' };
        format!("{}/{}{separator}{}", self.upstream.host, self.repository, self.tag)
    }

    /// Body bytes that the embedded registry sent; `None` for a real one.
    pub(super) fn sent_bytes(&self) -> Option<u64> {
        self.embedded.as_ref().map(Registry::sent_bytes)
    }
}

/// Makes sure that every node has room for an image of this size.
fn check_space(options: &Options, image_bytes: u64) -> Result<(), DemoError> {
    let needed = image_bytes.saturating_mul(options.nodes as u64);
    // A file system that does not say how much is left gets the benefit of the doubt.
    let Ok(space) = rustix::fs::statvfs(&options.directory) else { return Ok(()) };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if free >= needed {
        return Ok(());
    }
    Err(DemoError::Other(format!(
        "{} nodes with {} each need {} and {} has {} left; take fewer nodes or a smaller image, or name another place with --directory",
        options.nodes,
        human_bytes(image_bytes),
        human_bytes(needed),
        options.directory.display(),
        human_bytes(free)
    )))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, DemoError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| DemoError::Other(format!("making the image ended early: {error}")))
}

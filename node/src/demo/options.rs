//! What `longshore demo` is asked to do, checked before anything starts.

use std::path::PathBuf;

use clap::Args;

use crate::config;
use crate::config::kinds::{ByteSize, parse_size};

/// Most agents: each is a process with a connection to about every other.
const MOST_NODES: usize = 200;
/// File descriptors that the demo has open for each agent: its pipe and log, up to four pull connections with both ends in
/// the registry, and the polling of its metrics.
const DESCRIPTORS_PER_NODE: u64 = 16;
/// File descriptors of the demo itself.
const DESCRIPTORS: u64 = 64;
/// Most layers: containerd allows far more, images have fewer than 128 (overlayfs).
const MOST_LAYERS: usize = 127;
/// Largest synthetic image: making its digests takes minutes.
const LARGEST_IMAGE: ByteSize = ByteSize(256 << 30);
/// Smallest layer: a tar archive with one small file.
pub const SMALLEST_LAYER_BYTES: u64 = 4096;

/// The flags of `longshore demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// How many agents pull
    #[arg(long, value_name = "COUNT", default_value_t = 8)]
    nodes: usize,
    /// Size of the synthetic image; its bytes cannot be compressed
    #[arg(long, value_name = "SIZE", default_value = "256MiB", conflicts_with_all = ["image", "registry"])]
    image_size: String,
    /// Layers of the synthetic image
    #[arg(long, value_name = "COUNT", default_value_t = 4, conflicts_with_all = ["image", "registry"])]
    layers: usize,
    /// Random seed of the image's bytes and of what is killed when; the same seed gives the same
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Pull this image instead, out of an OCI layout directory (as 'skopeo copy' and 'umoci' write them)
    #[arg(long, value_name = "OCI-LAYOUT[:TAG]", conflicts_with = "registry")]
    image: Option<String>,
    /// Pull this image instead, from this registry; http:// or https:// in front, https if neither
    #[arg(long, value_name = "URL/REPO:TAG")]
    registry: Option<String>,
    /// Kill this many agents (SIGKILL) while they pull
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    kill: usize,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Where the agents keep their data while the demo runs; it needs COUNT times the image's size
    #[arg(long, value_name = "DIRECTORY", default_value_os_t = std::env::temp_dir())]
    directory: PathBuf,
    /// Record a journal of each agent into this directory, for 'longshore replay DIR'
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// Give every agent this setting, as KEY=VALUE; can be given more than once
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

/// What the demo pulls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A synthetic image from the embedded registry.
    Synthetic {
        /// Bytes of all layers together.
        bytes: u64,
        /// Number of layers.
        layers: usize,
    },
    /// An image from an OCI layout directory, from the embedded registry.
    Layout {
        /// The directory.
        directory: PathBuf,
        /// The tag, if one was named.
        tag: Option<String>,
    },
    /// An image from a real registry.
    Registry(Reference),
}

/// An image at a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The registry's URL, without path.
    pub base_url: String,
    /// Its host and port, as an image reference names it.
    pub host: String,
    /// The repository.
    pub repository: String,
    /// Tag or digest.
    pub reference: String,
}

/// A demo that can be run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many agents pull.
    pub nodes: usize,
    /// What they pull.
    pub origin: Origin,
    /// Random seed of the image's bytes and of what is killed when.
    pub seed: u64,
    /// How many agents are killed.
    pub kill: usize,
    /// Print JSON.
    pub json: bool,
    /// Where the agents keep their data.
    pub directory: PathBuf,
    /// Settings for every agent, by key.
    pub settings: Vec<(String, String)>,
}

/// The flags ask for something that cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OptionsError(String);

impl DemoArgs {
    /// Checks the flags.
    ///
    /// # Errors
    /// The first thing that cannot be, with what can.
    pub fn check(self) -> Result<Options, OptionsError> {
        let origin = self.origin()?;
        check_nodes(self.nodes, self.kill)?;
        check_descriptors(self.nodes, rustix::process::getrlimit(rustix::process::Resource::Nofile).current)?;
        let mut settings = check_settings(&self.settings)?;
        if let Some(directory) = &self.journal {
            let absolute = std::path::absolute(directory)
                .map_err(|error| OptionsError(format!("--journal {}: {error}", directory.display())))?;
            settings.push(("journal_dir".to_owned(), absolute.display().to_string()));
        }
        Ok(Options {
            nodes: self.nodes,
            origin,
            seed: self.seed,
            kill: self.kill,
            json: self.json,
            directory: self.directory.clone(),
            settings,
        })
    }

    fn origin(&self) -> Result<Origin, OptionsError> {
        match (&self.image, &self.registry) {
            (Some(layout), _) => Ok(parse_layout(layout)),
            (None, Some(reference)) => parse_reference(reference).map(Origin::Registry),
            (None, None) => check_image(&self.image_size, self.layers),
        }
    }
}

/// Splits settings, and makes sure that agents will accept them.
fn check_settings(settings: &[String]) -> Result<Vec<(String, String)>, OptionsError> {
    let pairs = settings.iter().map(|setting| match setting.split_once('=') {
        Some((key, value)) => Ok((key.trim().replace('-', "_"), value.to_owned())),
        None => Err(OptionsError(format!("--set {setting:?}: expected KEY=VALUE, such as prefetch=false"))),
    });
    let flags = pairs.collect::<Result<Vec<_>, _>>()?;
    let layers = config::Layers { flags: flags.clone(), ..config::Layers::default() };
    config::load(&layers).map_err(|problems| OptionsError(format!("--set: {problems}")))?;
    Ok(flags)
}

fn check_nodes(nodes: usize, kill: usize) -> Result<(), OptionsError> {
    if nodes == 0 || nodes > MOST_NODES {
        return Err(OptionsError(format!("--nodes {nodes}: expected 1 to {MOST_NODES}")));
    }
    if kill >= nodes {
        return Err(OptionsError(format!("--kill {kill} of --nodes {nodes}: at least one has to survive")));
    }
    Ok(())
}

fn check_descriptors(nodes: usize, limit: Option<u64>) -> Result<(), OptionsError> {
    let needed = nodes as u64 * DESCRIPTORS_PER_NODE + DESCRIPTORS;
    match limit {
        Some(limit) if limit < needed => {
            let possible = limit.saturating_sub(DESCRIPTORS) / DESCRIPTORS_PER_NODE;
            Err(OptionsError(format!(
                "--nodes {nodes} needs about {needed} file descriptors and the limit is {limit}; run 'ulimit -n {needed}' first, or take at most {possible} nodes"
            )))
        }
        _ => Ok(()),
    }
}

fn check_image(size: &str, layers: usize) -> Result<Origin, OptionsError> {
    let bytes = parse_size(size)
        .ok_or_else(|| OptionsError(format!("--image-size {size:?}: expected a size such as 256MiB or 2GB")))?;
    if layers == 0 || layers > MOST_LAYERS {
        return Err(OptionsError(format!("--layers {layers}: expected 1 to {MOST_LAYERS}")));
    }
    if bytes > LARGEST_IMAGE.0 {
        return Err(OptionsError(format!("--image-size {size}: expected at most {LARGEST_IMAGE}")));
    }
    let smallest = layers as u64 * SMALLEST_LAYER_BYTES;
    if bytes < smallest {
        let smallest = ByteSize(smallest);
        return Err(OptionsError(format!(
            "--image-size {size}: {layers} layers have at least {smallest} together; take a larger size or fewer layers"
        )));
    }
    Ok(Origin::Synthetic { bytes, layers })
}

/// `DIR` or `DIR:TAG`; a directory whose name has a colon is taken as it is.
fn parse_layout(text: &str) -> Origin {
    match text.rsplit_once(':') {
        Some((directory, tag)) if !tag.is_empty() && !tag.contains('/') && !PathBuf::from(text).exists() => {
            Origin::Layout { directory: directory.into(), tag: Some(tag.to_owned()) }
        }
        _ => Origin::Layout { directory: text.into(), tag: None },
    }
}

fn parse_reference(text: &str) -> Result<Reference, OptionsError> {
    let complain = |what: &str| {
        OptionsError(format!("--registry {text:?}: {what}; expected such as http://127.0.0.1:5000/team/app:1.2"))
    };
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
        Some((scheme, _)) => return Err(complain(&format!("the scheme {scheme:?} is unknown"))),
        None => ("https", text),
    };
    let (host, path) = rest.split_once('/').ok_or_else(|| complain("the repository is missing"))?;
    if crate::config::kinds::RegistryHost::parse(host).is_none() {
        return Err(complain("there is no host"));
    }
    let (repository, reference) = match path.split_once('@') {
        Some((name, digest)) => (name.rsplit_once(':').map_or(name, |(name, _)| name), digest),
        None => path.rsplit_once(':').unwrap_or((path, "latest")),
    };
    let allowed = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "._-/".contains(letter);
    if repository.is_empty() || !repository.chars().all(allowed) {
        return Err(complain("the repository is no repository's name"));
    }
    if reference.is_empty() || reference.contains(['/', '?', '#', ' ']) {
        return Err(complain("the tag is no tag"));
    }
    Ok(Reference {
        base_url: format!("{scheme}://{host}"),
        host: host.to_owned(),
        repository: repository.to_owned(),
        reference: reference.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(result: Result<impl std::fmt::Debug, OptionsError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn impossible_images_are_refused_with_what_is_possible() {
        assert!(message(check_image("1KiB", 4)).contains("4 layers have at least 16KiB"));
        assert!(message(check_image("much", 4)).contains("256MiB"));
        assert!(message(check_image("1GiB", 0)).contains("1 to 127"));
        assert_eq!(check_image("16KiB", 4).unwrap(), Origin::Synthetic { bytes: 16384, layers: 4 });
    }

    #[test]
    fn somebody_has_to_survive_and_descriptors_have_to_suffice() {
        assert!(message(check_nodes(3, 3)).contains("survive"));
        assert!(message(check_nodes(0, 0)).contains("1 to 200"));
        assert!(check_nodes(3, 2).is_ok());
        let refused = message(check_descriptors(100, Some(1024)));
        assert!(refused.contains("ulimit -n 1664") && refused.contains("at most 60 nodes"), "{refused}");
        assert!(check_descriptors(60, Some(1024)).is_ok() && check_descriptors(60, None).is_ok());
    }

    #[test]
    fn references_have_a_registry_a_repository_and_a_tag_or_digest() {
        let reference = parse_reference("http://127.0.0.1:5000/team/app:1.2").unwrap();
        assert_eq!(reference.base_url, "http://127.0.0.1:5000");
        assert_eq!((reference.host.as_str(), reference.repository.as_str()), ("127.0.0.1:5000", "team/app"));
        assert_eq!(reference.reference, "1.2");
        assert_eq!(parse_reference("quay.io/a/b").unwrap().reference, "latest");
        assert_eq!(parse_reference("quay.io/a/b").unwrap().base_url, "https://quay.io");
        assert_eq!(parse_reference("quay.io/a/b:x@sha256:ab").unwrap().reference, "sha256:ab");
        assert_eq!(parse_reference("quay.io/a/b:x@sha256:ab").unwrap().repository, "a/b");
        for text in ["", "quay.io", "ftp://a/b:c", "http:///b:c", "quay.io/UPPER:x", "quay.io/a:"] {
            assert!(parse_reference(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_layout_may_name_a_tag() {
        let layout = |directory: &str, tag: Option<&str>| Origin::Layout {
            directory: directory.into(),
            tag: tag.map(Into::into),
        };
        assert_eq!(parse_layout("/tmp/image:v1"), layout("/tmp/image", Some("v1")));
        assert_eq!(parse_layout("/tmp/image"), layout("/tmp/image", None));
        assert_eq!(parse_layout("/a:b/image"), layout("/a:b/image", None));
    }
}

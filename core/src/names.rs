//! The names that inputs and outputs refer to each other by.

use core::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The authenticated identity of an agent: the text form of its libp2p peer ID.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PeerId(Arc<str>);

impl PeerId {
    /// The peer ID with this text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text of the peer ID.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

macro_rules! numbers {
    ($($(#[$docs:meta])* $name:ident),* $(,)?) => {$(
        $(#[$docs])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u64);
    )*};
}

numbers! {
    /// One request that containerd made of the mirror; numbered by the driver.
    RequestId,
    /// One inbound stream that a peer opened; numbered by the driver.
    StreamId,
    /// One outbound call to a peer; numbered by the core.
    CallId,
    /// One transfer, origin request or disk task; numbered by the core. Never used twice.
    OpId,
    /// A secret that the driver keeps in its vault. The number says nothing about it.
    CredentialId,
}

/// Where a digest can be had from the origin: which registry, which repository, under which URL family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Source {
    /// Registry as the image reference names it: host, and port if any.
    pub registry: Arc<str>,
    /// Repository in that registry.
    pub repository: Arc<str>,
    /// Whether the digest is asked for under `/manifests/` or `/blobs/`.
    pub kind: Kind,
}

/// What a digest names, as far as the URL says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A manifest or an index: fetched whole, under `/manifests/`.
    Manifest,
    /// An image configuration: fetched under `/blobs/`, told apart for metrics only.
    Config,
    /// A layer or anything else under `/blobs/`.
    Blob,
}

//! The names that inputs and outputs refer to each other by.

use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The authenticated identity of an agent: the text form of its libp2p peer ID.
///
/// Identities are the keys of most maps here, so that comparing them is most of the work of a busy node. Their texts begin
/// alike (that of an Ed25519 key with `12D3KooW`) and end in what tells them apart: the end lies here, ready to be compared
/// as a number, and the text is looked at only where two of them end alike. The order follows from the texts alone.
#[derive(Clone)]
pub struct PeerId {
    end: u64,
    text: Arc<str>,
}

impl PeerId {
    /// The peer ID with this text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self::from_text(text.into())
    }

    fn from_text(text: Arc<str>) -> Self {
        let end =
            text.bytes().rev().take(8).enumerate().fold(0, |end, (place, byte)| end | u64::from(byte) << (8 * place));
        Self { end, text }
    }

    /// What most peers are told apart by; the order of peers is the order of these where they differ.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Four bytes of [`end`](Self::end), stirred so that each of them differs between most peers: to look through many.
    pub(crate) fn mark(&self) -> u32 {
        (self.end.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
    }

    /// The text of the peer ID.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl PartialEq for PeerId {
    fn eq(&self, other: &Self) -> bool {
        self.end == other.end && (Arc::ptr_eq(&self.text, &other.text) || self.text == other.text)
    }
}

impl Eq for PeerId {}

impl Ord for PeerId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.end.cmp(&other.end).then_with(|| {
            if Arc::ptr_eq(&self.text, &other.text) { Ordering::Equal } else { self.text.cmp(&other.text) }
        })
    }
}

impl PartialOrd for PeerId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for PeerId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl Serialize for PeerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // As a type of this name: redaction tells texts apart by their types.
        serializer.serialize_newtype_struct("PeerId", &self.text)
    }
}

impl<'de> Deserialize<'de> for PeerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Arc::deserialize(deserializer).map(Self::from_text)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equal_texts_and_no_others_are_one_peer(texts in proptest::collection::vec("[ab]{0,12}", 0..40)) {
            let peers: Vec<_> = texts.iter().map(|text| PeerId::new(text)).collect();
            for (peer, text) in peers.iter().zip(&texts) {
                for (other, other_text) in peers.iter().zip(&texts) {
                    prop_assert_eq!(peer == other, text == other_text);
                    prop_assert_eq!(peer.cmp(other).is_eq(), text == other_text);
                    prop_assert_eq!(peer.cmp(other), other.cmp(peer).reverse());
                }
            }
        }

        #[test]
        fn texts_that_differ_in_their_ends_only_are_ordered_as_texts(start in "[a-z]{3}", left in "[0-9]{5}", right in "[0-9]{5}") {
            let peer = |end: &str| PeerId::new(&format!("{start}-{end}"));
            prop_assert_eq!(peer(&left).cmp(&peer(&right)), left.cmp(&right));
        }
    }
}

//! Content digests: the names of blobs.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The SHA-256 digest of a blob; prints as `sha256:<64 hex digits>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Why a text is not a digest that this agent can work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// The text is not of the form `algorithm:hex`.
    #[error("'{0}' is not a digest; expected sha256:<64 lower-case hex digits>")]
    Malformed(String),
    /// A well-formed digest of an algorithm that the swarm cannot verify piece by piece.
    #[error("digest algorithm '{0}' is not supported; expected sha256")]
    UnsupportedAlgorithm(String),
}

impl Digest {
    /// The digest with these 32 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 8 bytes as a number.
    pub(crate) fn head(&self) -> u64 {
        self.0.iter().take(8).fold(0, |head, byte| head << 8 | u64::from(*byte))
    }

    /// The 64 hex digits without the algorithm.
    #[must_use]
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// The first 12 hex digits, for logs and progress lines.
    #[must_use]
    pub fn short(&self) -> String {
        hex(&self.0[..6])
    }
}

/// Lower-case hex digits of `bytes`.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
    text
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        // The longest registered digest (sha512) has 135 characters; errors quote no more than that.
        let malformed = || DigestError::Malformed(text.chars().take(136).collect());
        let (algorithm, digits) = text.split_once(':').ok_or_else(malformed)?;
        let digits = digits.as_bytes();
        let hex_only = !digits.is_empty() && digits.iter().all(|digit| nibble(*digit).is_some());
        match algorithm {
            "sha256" if hex_only && digits.len() == 64 => {
                let mut bytes = [0; 32];
                for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
                    *byte = nibble(pair[0]).unwrap_or(0) << 4 | nibble(pair[1]).unwrap_or(0);
                }
                Ok(Self(bytes))
            }
            "sha512" if hex_only && digits.len() == 128 => Err(DigestError::UnsupportedAlgorithm(algorithm.to_owned())),
            _ => Err(malformed()),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return <[u8; 32]>::deserialize(deserializer).map(Self);
        }
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_sha512_digest_is_understood_and_declined() {
        let text = format!("sha512:{}", "ab".repeat(64));
        assert_eq!(text.parse::<Digest>(), Err(DigestError::UnsupportedAlgorithm("sha512".into())));
    }

    #[test]
    fn upper_case_short_and_foreign_texts_are_malformed() {
        for text in ["", "sha256", "sha256:", "sha256:ABCD", "latest", "md5:abcd"] {
            assert!(matches!(text.parse::<Digest>(), Err(DigestError::Malformed(_))), "{text}");
        }
        let upper = format!("sha256:{}", "AB".repeat(32));
        assert!(matches!(upper.parse::<Digest>(), Err(DigestError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn printing_and_parsing_a_digest_gives_the_same_digest(bytes: [u8; 32]) {
            let digest = Digest::from_bytes(bytes);
            prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text: String) {
            let _ = text.parse::<Digest>();
        }
    }
}

//! Words with a meaning: choices, addresses of peers, registry hosts, log filters.

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use super::Setting;
use super::listing::Item;
use crate::config::raw::{Complaint, Raw};

macro_rules! choices {
    ($($(#[$docs:meta])* $name:ident, $expected:literal, $placeholder:literal { $($(#[$variant_docs:meta])* $variant:ident = $word:literal,)+ })+) => {$(
        $(#[$docs])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_docs])* $variant,)+ }

        impl Setting for $name {
            const EXPECTED: &'static str = $expected;
            const PLACEHOLDER: &'static str = $placeholder;

            fn read(raw: &Raw) -> Result<Self, Vec<Complaint>> {
                match raw.text() {
                    $(Some($word) => Ok(Self::$variant),)+
                    _ => Err(vec![raw.complain(Self::EXPECTED)]),
                }
            }

            fn show(&self) -> Option<toml::Value> {
                let word = match self { $(Self::$variant => $word,)+ };
                Some(toml::Value::String(word.to_owned()))
            }
        }
    )+};
}

choices! {
    /// How bytes between peers are encrypted. Both ends have to agree.
    Encryption, "noise or tls", "noise|tls" {
        /// libp2p's Noise.
        Noise = "noise",
        /// libp2p's TLS 1.3.
        Tls = "tls",
    }
    /// Whether private blobs are checked at the registry before they are served.
    AuthCheck, "off or origin", "off|origin" {
        /// What a node has, its containerd may have.
        Off = "off",
        /// Ask the registry with the requester's credential.
        Origin = "origin",
    }
    /// What to do with peers that the membership does not know.
    Authorization, "observe or enforce", "observe|enforce" {
        /// Count and serve them.
        Observe = "observe",
        /// Reject them.
        Enforce = "enforce",
    }
    /// Whom the rendezvous ranking covers.
    Scope, "cluster or zone", "cluster|zone" {
        /// All members.
        Cluster = "cluster",
        /// Members of this node's zone.
        Zone = "zone",
    }
    /// Form of the log.
    LogFormat, "text or json", "text|json" {
        /// One readable line for each event.
        Text = "text",
        /// One JSON object for each event.
        Json = "json",
    }
}

impl Setting for Multiaddr {
    const EXPECTED: &'static str = "a multiaddr such as /ip4/0.0.0.0/tcp/4001";
    const PLACEHOLDER: &'static str = "MULTIADDR";

    fn read(raw: &Raw) -> Result<Self, Vec<Complaint>> {
        let address: Option<Self> = raw.text().and_then(|text| text.trim().parse().ok());
        address
            .filter(|address| address.iter().any(|part| matches!(part, Protocol::Tcp(_))))
            .ok_or_else(|| vec![raw.complain(Self::EXPECTED)])
    }

    fn show(&self) -> Option<toml::Value> {
        Some(toml::Value::String(self.to_string()))
    }
}

impl Item for Multiaddr {
    const LIST_EXPECTED: &'static str = "a list of multiaddrs such as /ip4/0.0.0.0/tcp/4001";
}

/// Where a member is reached, and which identity it must prove there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member(pub Multiaddr);

impl Member {
    /// The identity at the end of the address.
    #[must_use]
    pub fn peer_id(&self) -> Option<libp2p::PeerId> {
        match self.0.iter().last() {
            Some(Protocol::P2p(peer)) => Some(peer),
            _ => None,
        }
    }
}

impl Setting for Member {
    const EXPECTED: &'static str = "a multiaddr that ends in the peer's ID, such as /ip4/10.0.0.7/tcp/4001/p2p/12D3KooW... ('longshore identity' prints it)";
    const PLACEHOLDER: &'static str = "MULTIADDR";

    fn read(raw: &Raw) -> Result<Self, Vec<Complaint>> {
        let complain = || vec![raw.complain(Self::EXPECTED)];
        let member = Self(Multiaddr::read(raw).map_err(|_| complain())?);
        if member.peer_id().is_some() { Ok(member) } else { Err(complain()) }
    }

    fn show(&self) -> Option<toml::Value> {
        self.0.show()
    }
}

impl Item for Member {
    const LIST_EXPECTED: &'static str =
        "a list of multiaddrs that end in the peer's ID, such as /ip4/10.0.0.7/tcp/4001/p2p/12D3KooW...";
}

/// A registry as image references name it: host, and port if any.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RegistryHost(pub String);

impl RegistryHost {
    /// The host, if `text` is one: letters, digits, dots, hyphens, brackets of an IPv6 address, and a port.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let authority: http::uri::Authority = text.parse().ok()?;
        (!text.contains('@') && !authority.host().is_empty()).then(|| Self(text.to_owned()))
    }
}

impl Setting for RegistryHost {
    const EXPECTED: &'static str =
        "a registry's host as image references name it, such as quay.io or registry.example:5000";
    const PLACEHOLDER: &'static str = "HOST[:PORT]";

    fn read(raw: &Raw) -> Result<Self, Vec<Complaint>> {
        raw.text().and_then(Self::parse).ok_or_else(|| vec![raw.complain(Self::EXPECTED)])
    }

    fn show(&self) -> Option<toml::Value> {
        Some(toml::Value::String(self.0.clone()))
    }
}

impl Item for RegistryHost {
    const LIST_EXPECTED: &'static str = "a list of registry hosts such as quay.io or registry.example:5000";
}

/// What the log shows: a level, and levels for parts of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(pub String);

impl Setting for LogFilter {
    const EXPECTED: &'static str =
        "error, warn, info, debug or trace; for parts of the program: info,longshore_net=debug";
    const PLACEHOLDER: &'static str = "LEVEL";

    fn read(raw: &Raw) -> Result<Self, Vec<Complaint>> {
        let level = |word: &str| matches!(word, "error" | "warn" | "info" | "debug" | "trace" | "off");
        let part = |text: &str| match text.trim().split_once('=') {
            Some((target, word)) => !target.is_empty() && level(word),
            None => level(text.trim()),
        };
        let text = raw.text().filter(|text| text.split(',').all(part));
        text.map(|text| Self(text.to_owned())).ok_or_else(|| vec![raw.complain(Self::EXPECTED)])
    }

    fn show(&self) -> Option<toml::Value> {
        Some(toml::Value::String(self.0.clone()))
    }
}

//! The file format: `[[member]]` tables. Strict, because a misspelt key would silently split the cluster.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId as Identity};
use longshore_core::members::Member;
use longshore_core::names::PeerId;
use toml::{Table, Value};

/// Most members of a view: ten times the largest cluster that was simulated.
const MEMBER_LIMIT: usize = 100_000;
/// Most addresses of one member.
const ADDRESS_LIMIT: usize = 32;
/// Longest name or zone in bytes: a DNS name, as Kubernetes allows for nodes.
const NAME_LIMIT: usize = 253;

const TOP_KEYS: &[&str] = &["member"];
const MEMBER_KEYS: &[&str] = &["name", "peer", "addresses", "zone", "ready"];

/// The members cannot be taken from a file.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// The file cannot be read.
    #[error("cannot read the members from {path}: {source}; the file has to exist and be readable for the agent")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is too large to be a list of members.
    #[error(
        "cannot read the members from {path}: it has {bytes} bytes, at most {limit} are read; is it the right file?"
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        bytes: u64,
        /// The largest size in bytes.
        limit: u64,
    },
    /// The file is not what it should be.
    #[error("the members in {path} are wrong: {problem}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong where, and what would be right.
        problem: String,
    },
}

/// Reads the contents of a file of members.
///
/// # Errors
/// `Invalid`, with what is wrong and where: TOML errors, unknown keys (with the nearest valid one), missing names, bad
/// identities and addresses, duplicates.
pub fn parse(path: &Path, text: &str) -> Result<Vec<Member>, MembershipError> {
    members(text).map_err(|problem| MembershipError::Invalid { path: path.to_owned(), problem })
}

fn members(text: &str) -> Result<Vec<Member>, String> {
    let file = Table::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
    known(&file, TOP_KEYS, "the top of the file")?;
    let entries = match file.get("member") {
        None => &[][..],
        Some(Value::Array(entries)) => entries,
        Some(_) => return Err("'member' is not a list; start each member with [[member]]".into()),
    };
    if entries.len() > MEMBER_LIMIT {
        return Err(format!("it lists {} members, at most {MEMBER_LIMIT} are supported", entries.len()));
    }
    let mut members = Vec::with_capacity(entries.len());
    let (mut names, mut peers) = (BTreeSet::new(), BTreeSet::new());
    for (index, entry) in entries.iter().enumerate() {
        let place = place(index, entry);
        let Value::Table(entry) = entry else { return Err(format!("{place} is not a table; write [[member]]")) };
        let member = member(entry).map_err(|problem| format!("{place}: {problem}"))?;
        if !names.insert(Arc::clone(&member.name)) {
            return Err(format!("{place}: another member has the name '{}', too; names are unique", member.name));
        }
        if let Some(peer) = &member.peer
            && !peers.insert(peer.clone())
        {
            return Err(format!(
                "{place}: another member has the peer {peer}, too; each agent has an identity of its own \
                 (was its data directory copied?)"
            ));
        }
        members.push(member);
    }
    Ok(members)
}

/// How messages refer to an entry.
fn place(index: usize, entry: &Value) -> String {
    match entry.get("name").and_then(Value::as_str) {
        Some(name) => {
            format!("member {} ('{}')", index + 1, name.chars().take(64).collect::<String>().escape_default())
        }
        None => format!("member {}", index + 1),
    }
}

fn member(entry: &Table) -> Result<Member, String> {
    known(entry, MEMBER_KEYS, "a member")?;
    let named = text(entry, "name")?;
    let zone = text(entry, "zone")?;
    let stated = text(entry, "peer")?.map(identity).transpose()?;
    let (addresses, addressed) = addresses(entry)?;
    let identity = match (stated, addressed) {
        (Some(stated), Some(addressed)) if stated != addressed => {
            return Err(format!("peer is {stated}, but the addresses end in /p2p/{addressed}; one of them is wrong"));
        }
        (stated, addressed) => stated.or(addressed),
    };
    let peer = identity.map(|identity| PeerId::new(&identity.to_base58()));
    let name = match (named, &peer) {
        (Some(name), _) => name.into(),
        (None, Some(peer)) => peer.as_str().into(),
        (None, None) => return Err("it has neither name nor peer; give it a name".into()),
    };
    let ready = match entry.get("ready") {
        None => true,
        Some(Value::Boolean(ready)) => *ready,
        Some(other) => return Err(format!("ready has the type {}; write true or false", other.type_str())),
    };
    Ok(Member { name, peer, addresses, zone: zone.map(Into::into), ready })
}

/// A text that is there and fit for a name.
fn text<'a>(entry: &'a Table, key: &str) -> Result<Option<&'a str>, String> {
    match entry.get(key) {
        None => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Err(format!("{key} is empty; leave it out or fill it in")),
        Some(Value::String(text)) if text.len() > NAME_LIMIT || text.chars().any(char::is_control) => {
            Err(format!("{key} is longer than {NAME_LIMIT} bytes or contains control characters"))
        }
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(format!("{key} has the type {}; write a text in quotes", other.type_str())),
    }
}

fn identity(text: &str) -> Result<Identity, String> {
    text.parse().map_err(|error| {
        format!(
            "peer '{}' is not a libp2p peer ID ({error}); `longshore status` of that node shows it",
            text.escape_default()
        )
    })
}

/// The addresses, without their `/p2p/` ends, and the identity that those name.
fn addresses(entry: &Table) -> Result<(Vec<Arc<str>>, Option<Identity>), String> {
    let listed = match entry.get("addresses") {
        None => return Ok((Vec::new(), None)),
        Some(Value::Array(listed)) if listed.len() <= ADDRESS_LIMIT => listed,
        Some(Value::Array(listed)) => {
            return Err(format!("it has {} addresses, at most {ADDRESS_LIMIT} are supported", listed.len()));
        }
        Some(other) => {
            return Err(format!(
                "addresses has the type {}; write a list: [\"/ip4/10.0.0.1/tcp/4001\"]",
                other.type_str()
            ));
        }
    };
    let (mut addresses, mut identity) = (Vec::with_capacity(listed.len()), None);
    for value in listed {
        let Some(text) = value.as_str() else {
            return Err(format!("an address has the type {}; write a text in quotes", value.type_str()));
        };
        let wrong = |found: &str| {
            format!("address '{}' {found}; write /ip4/10.0.0.1/tcp/4001 or /dns/HOST/tcp/4001", text.escape_default())
        };
        let mut address = Multiaddr::from_str(text).map_err(|error| wrong(&format!("is no multiaddr ({error})")))?;
        if let Some(Protocol::P2p(named)) = address.iter().last() {
            address.pop();
            if *identity.get_or_insert(named) != named {
                return Err(wrong("names another peer than the address before it"));
            }
        }
        if !is_dialable(&address) {
            return Err(wrong("cannot be dialled"));
        }
        let address: Arc<str> = address.to_string().into();
        if addresses.contains(&address) {
            return Err(format!("the address {address} is there twice"));
        }
        addresses.push(address);
    }
    Ok((addresses, identity))
}

/// A host and a TCP port: what the peers driver can dial.
fn is_dialable(address: &Multiaddr) -> bool {
    let mut parts = address.iter();
    let host = matches!(
        parts.next(),
        Some(Protocol::Ip4(_) | Protocol::Ip6(_) | Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_))
    );
    host && matches!(parts.next(), Some(Protocol::Tcp(port)) if port > 0) && parts.next().is_none()
}

fn known(table: &Table, valid: &[&str], place: &str) -> Result<(), String> {
    let Some(unknown) = table.keys().find(|key| !valid.contains(&key.as_str())) else { return Ok(()) };
    let nearest = valid.iter().min_by_key(|valid| strsim::damerau_levenshtein(valid, unknown));
    let hint = nearest.map_or_else(String::new, |nearest| format!("; did you mean '{nearest}'?"));
    Err(format!("unknown key '{}' at {place}{hint}", unknown.escape_default()))
}

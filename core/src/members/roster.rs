//! What a source of membership says: who is there, and how they rank for a digest.

use std::collections::BTreeMap;
#[expect(clippy::disallowed_types, reason = "a memo, see below")]
use std::sync::Mutex;
use std::sync::{Arc, PoisonError};

use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::Member;
use crate::digest::Digest;
use crate::names::PeerId;

/// The rendezvous score of a node for a digest: SHA-256 over the node's name and the digest's text, without a separator.
/// The highest score wins; of equal ones, the larger name. (Gantry's function, so that both rank alike.)
#[must_use]
pub fn score(name: &str, digest: &Digest) -> [u8; 32] {
    score_of_text(name, &digest.to_string())
}

fn score_of_text(name: &str, digest: &str) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(name.as_bytes());
    hasher.update(digest.as_bytes());
    hasher.finalize().into()
}

/// The candidates for a digest out of some members, best first: the places of those members.
pub(super) fn rank<'a>(digest: &Digest, candidates: impl Iterator<Item = (usize, &'a Member)>) -> Vec<u32> {
    let text = digest.to_string();
    let mut ranked: Vec<_> = candidates
        .filter_map(|(place, member)| {
            Some((score_of_text(&member.name, &text), &member.name, member.peer.as_ref()?, place as u32))
        })
        .collect();
    ranked.sort_unstable_by(|left, right| right.cmp(left));
    ranked.into_iter().map(|(.., place)| place).collect()
}

/// Rankings that are kept: the blobs of a few images. In a view of a thousand members each takes 4 KB.
const MAX_RANKINGS: usize = 64;

/// Out of whom a ranking is: all, or those in one zone.
type RankingKey = (Digest, Option<Arc<str>>);

/// The members of the cluster, as their source describes them.
///
/// It does not change, so that all who are told the same can share it: a thousand simulated agents have one list of a
/// thousand members between them, and rank them once.
#[derive(Debug, Deserialize)]
#[serde(from = "Vec<Member>")]
pub struct Roster {
    /// By name.
    members: Vec<Member>,
    /// Places in `members` by identity.
    by_peer: Vec<(PeerId, u32)>,
    /// Somebody says where it can be reached.
    has_addresses: bool,
    /// Members of each zone.
    zones: BTreeMap<Arc<str>, u32>,
    /// What [`Roster::ranking`] found: a call in a large cluster costs a thousand hashes otherwise.
    /// Agents of one process share it, in simulations thousands; what is found does not depend on who asked first.
    #[expect(
        clippy::disallowed_types,
        reason = "a list is shared between agents that drivers may run on different threads"
    )]
    rankings: Mutex<BTreeMap<RankingKey, Arc<[u32]>>>,
}

impl Roster {
    /// These members. Of two with one name or one identity, the later one counts.
    #[must_use]
    pub fn new(members: Vec<Member>) -> Arc<Self> {
        Arc::new(members.into())
    }

    /// The members, by name.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Number of members.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether nobody is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The place of the member with this identity.
    pub(super) fn place(&self, peer: &PeerId) -> Option<usize> {
        let found = self.by_peer.binary_search_by(|(other, _)| other.cmp(peer)).ok()?;
        Some(self.by_peer[found].1 as usize)
    }

    /// The place of the member with this name.
    pub(super) fn place_of_name(&self, name: &str) -> Option<usize> {
        self.members.binary_search_by(|member| (*member.name).cmp(name)).ok()
    }

    /// Number of members in `zone`.
    pub(super) fn zone_len(&self, zone: &Arc<str>) -> u32 {
        self.zones.get(zone).copied().unwrap_or(0)
    }

    pub(super) fn has_addresses(&self) -> bool {
        self.has_addresses
    }

    /// All candidates for a digest, best first, as places: ready members with an identity, of `zone` if there is one.
    pub(super) fn ranking(&self, digest: &Digest, zone: Option<&Arc<str>>) -> Arc<[u32]> {
        let key = (*digest, zone.cloned());
        // Nothing panics while it holds the lock; and if it did, the map would still be whole.
        let mut rankings = self.rankings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = rankings.get(&key) {
            return known.clone();
        }
        let candidates = self.members.iter().enumerate();
        let candidates =
            candidates.filter(|(_, member)| member.ready && (zone.is_none() || member.zone.as_ref() == zone));
        let ranking: Arc<[u32]> = rank(digest, candidates).into();
        if rankings.len() >= MAX_RANKINGS {
            rankings.clear();
        }
        rankings.insert(key, ranking.clone());
        ranking
    }
}

impl From<Vec<Member>> for Roster {
    fn from(members: Vec<Member>) -> Self {
        let mut by_name: BTreeMap<Arc<str>, Member> = BTreeMap::new();
        let mut names: BTreeMap<PeerId, Arc<str>> = BTreeMap::new();
        for member in members {
            if let Some(peer) = &member.peer
                && let Some(other) = names.insert(peer.clone(), member.name.clone())
                && other != member.name
            {
                by_name.remove(&other);
            }
            let peer = member.peer.clone();
            if let Some(Member { peer: Some(old), .. }) = by_name.insert(member.name.clone(), member)
                && Some(&old) != peer.as_ref()
            {
                names.remove(&old);
            }
        }
        let members: Vec<_> = by_name.into_values().collect();
        let places = members.iter().enumerate();
        let mut by_peer: Vec<_> =
            places.filter_map(|(place, member)| Some((member.peer.clone()?, place as u32))).collect();
        by_peer.sort_unstable();
        let has_addresses = members.iter().any(|member| !member.addresses.is_empty());
        let mut zones = BTreeMap::new();
        for zone in members.iter().filter_map(|member| member.zone.clone()) {
            *zones.entry(zone).or_default() += 1;
        }
        let rankings = Default::default();
        Self { members, by_peer, has_addresses, zones, rankings }
    }
}

impl Serialize for Roster {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.members.serialize(serializer)
    }
}

impl PartialEq for Roster {
    fn eq(&self, other: &Self) -> bool {
        self.members == other.members
    }
}

//! Who is in the cluster, as this node sees it, and how they rank for a digest.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::config::{Config, Scope};
use crate::digest::Digest;
use crate::names::PeerId;

/// One agent of the cluster, as the source of membership describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The name that rendezvous hashing works on: the node's name, or the peer ID's text where there is none.
    pub name: Arc<str>,
    /// The agent's authenticated identity; `None` while it has not published one.
    pub peer: Option<PeerId>,
    /// Where it can be reached, as multiaddrs.
    pub addresses: Vec<Arc<str>>,
    /// Its zone.
    pub zone: Option<Arc<str>>,
    /// It is ready and not terminating: a candidate.
    pub ready: bool,
}

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

/// Rankings that are kept: the blobs of an image or two. In a view of a thousand members each takes 16 KB.
const MAX_RANKINGS: usize = 32;

/// All candidates for a digest, best first.
#[derive(Debug)]
struct Ranking {
    peers: Arc<[PeerId]>,
    own_rank: Option<u32>,
}

/// Whether a peer may make requests, by the membership view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recognition {
    Member,
    /// No member has this identity.
    Unrecognized,
    /// No member has published an identity yet: nothing to compare with.
    Unevaluable,
}

/// The membership view: what the source of membership said last, and this node itself.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Members {
    own: Member,
    scope: Scope,
    /// By name. Holds this node, whatever the source says: it is a participant of every cascade that it runs.
    view: BTreeMap<Arc<str>, Member>,
    by_peer: BTreeMap<PeerId, Arc<str>>,
    /// What [`Members::ranking`] found in this view: a call in a large cluster costs a thousand hashes otherwise.
    #[serde(skip)]
    rankings: RefCell<BTreeMap<Digest, Arc<Ranking>>>,
}

impl Members {
    pub(crate) fn new(config: &Config) -> Self {
        let own = Member {
            name: config.name.clone(),
            peer: Some(config.peer.clone()),
            addresses: config.addresses.clone(),
            zone: config.zone.clone(),
            ready: true,
        };
        let mut members = Self {
            own,
            scope: config.scope,
            view: BTreeMap::new(),
            by_peer: BTreeMap::new(),
            rankings: RefCell::default(),
        };
        members.replace(Vec::new());
        members
    }

    /// Takes over a new view, whole. Of two members with one name or one identity, the later one counts.
    pub(crate) fn replace(&mut self, members: Vec<Member>) {
        self.view.clear();
        self.by_peer.clear();
        if !mutant!("rankings-outlive-view") {
            self.rankings.get_mut().clear();
        }
        // The others rank this node by the name that the source gives it; so it has to be its own name as well.
        if let Some(listed) = members.iter().find(|member| member.peer == self.own.peer) {
            self.own.name = listed.name.clone();
        }
        for member in members.into_iter().chain([self.own.clone()]) {
            if let Some(peer) = &member.peer
                && let Some(other) = self.by_peer.insert(peer.clone(), member.name.clone())
                && other != member.name
            {
                self.view.remove(&other);
            }
            if let Some(Member { peer: Some(old), .. }) = self.view.insert(member.name.clone(), member.clone())
                && Some(&old) != member.peer.as_ref()
            {
                self.by_peer.remove(&old);
            }
        }
    }

    pub(crate) fn others(&self) -> impl Iterator<Item = (&PeerId, &Member)> {
        self.view
            .values()
            .filter_map(|member| Some((member.peer.as_ref()?, member)))
            .filter(|(peer, _)| !self.is_own(peer))
    }

    pub(crate) fn is_own(&self, peer: &PeerId) -> bool {
        self.own.peer.as_ref() == Some(peer)
    }

    pub(crate) fn get(&self, peer: &PeerId) -> Option<&Member> {
        self.view.get(self.by_peer.get(peer)?)
    }

    pub(crate) fn own(&self) -> &Member {
        &self.own
    }

    /// Number of members, this node included.
    pub(crate) fn len(&self) -> usize {
        self.view.len()
    }

    pub(crate) fn recognize(&self, peer: &PeerId) -> Recognition {
        if self.by_peer.contains_key(peer) {
            Recognition::Member
        } else if self.others().next().is_none() {
            Recognition::Unevaluable
        } else {
            Recognition::Unrecognized
        }
    }

    /// The `width` best-ranked candidates for a digest, best first. Candidates are ready members with an identity; with
    /// zone scope those of this node's zone, or all if nobody else is ready there.
    pub(crate) fn top(&self, digest: &Digest, width: usize) -> Vec<PeerId> {
        self.ranking(digest).peers.iter().take(width).cloned().collect()
    }

    fn ranking(&self, digest: &Digest) -> Arc<Ranking> {
        if let Some(known) = self.rankings.borrow().get(digest) {
            return known.clone();
        }
        let ready = || self.view.values().filter(|member| member.ready && member.peer.is_some());
        let in_zone = |member: &&Member| member.zone.is_some() && member.zone == self.own.zone;
        let local = self.scope == Scope::Zone && ready().filter(in_zone).count() > 1;
        let text = digest.to_string();
        let mut ranked: Vec<_> = ready()
            .filter(|member| !local || in_zone(member))
            .filter_map(|member| Some((score_of_text(&member.name, &text), &member.name, member.peer.as_ref()?)))
            .collect();
        ranked.sort_unstable_by(|left, right| right.cmp(left));
        let own_rank = ranked.iter().position(|(_, _, peer)| self.is_own(peer)).map(|rank| rank as u32);
        let peers = ranked.into_iter().map(|(_, _, peer)| peer.clone()).collect();
        let ranking = Arc::new(Ranking { peers, own_rank });
        let mut rankings = self.rankings.borrow_mut();
        if rankings.len() >= MAX_RANKINGS {
            rankings.clear();
        }
        rankings.insert(*digest, ranking.clone());
        ranking
    }

    /// This node's rank for a digest in its own view: 0 is the best.
    pub(crate) fn own_rank(&self, digest: &Digest) -> Option<u32> {
        if !self.view.get(&self.own.name)?.ready {
            return None;
        }
        self.ranking(digest).own_rank.map(|rank| rank + u32::from(mutant!("rank-off-by-one")))
    }
}

#[cfg(test)]
mod tests;

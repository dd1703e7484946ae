//! Who is in the cluster, as this node sees it, and how they rank for a digest.

mod roster;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::{Config, Scope};
use crate::digest::Digest;
use crate::names::PeerId;

pub use roster::{Roster, score};

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
    /// Part of the view, whatever the source says: this node is a participant of every cascade that it runs.
    own: Member,
    scope: Scope,
    roster: Arc<Roster>,
    /// The place in the roster of whom this node stands for: it has its name.
    own_place: Option<usize>,
    /// What [`Members::ranking`] found, where the roster's own ranking lacks this node.
    #[serde(skip)]
    rankings: RefCell<BTreeMap<Digest, Arc<[u32]>>>,
}

/// Rankings that are kept: the blobs of an image or two.
const MAX_RANKINGS: usize = 32;

/// A member of the roster by its place, or this node.
const OWN: u32 = u32::MAX;

impl Members {
    pub(crate) fn new(config: &Config) -> Self {
        let own = Member {
            name: config.name.clone(),
            peer: Some(config.peer.clone()),
            addresses: config.addresses.clone(),
            zone: config.zone.clone(),
            ready: true,
        };
        let (scope, roster) = (config.scope, Roster::new(Vec::new()));
        Self { own, scope, roster, own_place: None, rankings: RefCell::default() }
    }

    /// Takes over a new view, whole.
    pub(crate) fn replace(&mut self, roster: Arc<Roster>) {
        if mutant!("rankings-outlive-view") && !self.roster.members().is_empty() {
            return;
        }
        self.rankings.get_mut().clear();
        // The others rank this node by the name that the source gives it; so it has to be its own name as well.
        if let Some(place) = self.own.peer.as_ref().and_then(|own| roster.place(own)) {
            self.own.name = roster.members()[place].name.clone();
        }
        self.own_place = roster.place_of_name(&self.own.name);
        self.roster = roster;
    }

    pub(crate) fn others(&self) -> impl Iterator<Item = (&PeerId, &Member)> {
        let members = self.roster.members().iter().enumerate();
        let others = members.filter(|(place, _)| Some(*place) != self.own_place);
        others.filter_map(|(_, member)| Some((member.peer.as_ref()?, member)))
    }

    /// The others who say where they can be reached.
    pub(crate) fn reachable(&self) -> impl Iterator<Item = (&PeerId, &Member)> {
        let others = self.roster.has_addresses().then(|| self.others()).into_iter().flatten();
        others.filter(|(_, member)| !member.addresses.is_empty())
    }

    pub(crate) fn is_own(&self, peer: &PeerId) -> bool {
        self.own.peer.as_ref() == Some(peer)
    }

    pub(crate) fn get(&self, peer: &PeerId) -> Option<&Member> {
        if self.is_own(peer) {
            return Some(&self.own);
        }
        let place = self.roster.place(peer).filter(|place| Some(*place) != self.own_place)?;
        self.roster.members().get(place)
    }

    pub(crate) fn own(&self) -> &Member {
        &self.own
    }

    /// Number of members, this node included.
    pub(crate) fn len(&self) -> usize {
        self.roster.len() + usize::from(self.own_place.is_none())
    }

    /// Number of members in this node's zone; 1 if it has none, or nobody else is known there.
    pub(crate) fn zone_len(&self) -> u32 {
        self.own.zone.as_ref().map_or(1, |zone| self.roster.zone_len(zone).max(1))
    }

    pub(crate) fn recognize(&self, peer: &PeerId) -> Recognition {
        if self.get(peer).is_some() {
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
        let ranking = self.ranking(digest);
        ranking.iter().take(width).filter_map(|place| self.at(*place).peer.clone()).collect()
    }

    /// All that can be ranked for a digest, the best first.
    pub(crate) fn ranked(&self, digest: &Digest) -> impl Iterator<Item = &PeerId> {
        let ranking = self.ranking(digest);
        (0..ranking.len()).filter_map(move |rank| self.at(ranking[rank]).peer.as_ref())
    }

    fn at(&self, place: u32) -> &Member {
        self.roster
            .members()
            .get(place as usize)
            .filter(|_| Some(place as usize) != self.own_place)
            .unwrap_or(&self.own)
    }

    /// Places in the roster, or [`OWN`], which is also the place that the roster has for this node.
    fn ranking(&self, digest: &Digest) -> Arc<[u32]> {
        let zone = self.own.zone.as_ref().filter(|_| self.scope == Scope::Zone);
        let listed = self.own_place.map(|place| &self.roster.members()[place]);
        if listed.is_some_and(|listed| listed.ready && listed.peer == self.own.peer && listed.zone == self.own.zone) {
            let local = self.roster.ranking(digest, zone);
            return if local.len() > 1 || zone.is_none() { local } else { self.roster.ranking(digest, None) };
        }
        if let Some(known) = self.rankings.borrow().get(digest) {
            return known.clone();
        }
        let others = || {
            let members = self.roster.members().iter().enumerate();
            members.filter(|(place, member)| Some(*place) != self.own_place && member.ready && member.peer.is_some())
        };
        let in_zone = |(_, member): &(usize, &Member)| zone.is_some() && member.zone.as_ref() == zone;
        let local = others().any(|other| in_zone(&other));
        let candidates = others().filter(|other| !local || in_zone(other)).chain([(OWN as usize, &self.own)]);
        let ranking: Arc<[u32]> = roster::rank(digest, candidates).into();
        let mut rankings = self.rankings.borrow_mut();
        if rankings.len() >= MAX_RANKINGS {
            rankings.clear();
        }
        rankings.insert(*digest, ranking.clone());
        ranking
    }

    /// This node's rank for a digest in its own view: 0 is the best.
    pub(crate) fn own_rank(&self, digest: &Digest) -> Option<u32> {
        let own = |place: &u32| *place == OWN || Some(*place as usize) == self.own_place;
        let rank = self.ranking(digest).iter().position(own)?;
        Some(rank as u32 + u32::from(mutant!("rank-off-by-one")))
    }
}

#[cfg(test)]
mod tests;

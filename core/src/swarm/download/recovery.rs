//! What to do with pieces that are not the blob: which of them to keep, and who is to blame for the others.
//!
//! A mismatch says that something is wrong, and not what. Most of it is right. Somebody has to fetch all of it again by its own
//! hand, and then knows every midstate; by those, everybody else finds what is wrong on its own disk and fetches only that.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Download, Stored, Via};
use crate::message::PieceSum;
use crate::names::PeerId;
use crate::output::Check;
use crate::piece::PieceSet;
use crate::spine::{Midstate, Wanted};
use crate::time::Time;

/// What a piece was when it came.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Evidence {
    /// It had this sum.
    Alone(PieceSum),
    /// From one midstate it led to another one.
    Between(Midstate, Midstate),
}

/// Who delivered a piece, and what it was.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Suspect {
    peer: PeerId,
    /// It said that it had the piece from the origin itself: it cannot have been deceived.
    is_author: bool,
    evidence: Evidence,
}

/// A download after a mismatch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Recovery {
    /// Nothing counts but what this node fetches from the origin itself.
    by_hand: bool,
    /// What it had fetched from the origin before that began, and counts. If the blob is wrong all the same, the origin was
    /// wrong then.
    before: PieceSet,
    /// That is to begin when what is on its way from peers has come: nobody is asked for more.
    is_closing: bool,
    /// Pieces whose bytes are here and count for nothing until they fit between the midstates of somebody who has it whole.
    kept: PieceSet,
    /// Those of them that this node has from the origin: they count again, if everything has to be fetched by hand.
    own: BTreeMap<u32, Stored>,
    /// Those of them that do not fit.
    unfit: PieceSet,
    /// How many did.
    fits: u32,
    /// The last piece is asked for again, to see whether it leads to the digest from where somebody says that it does.
    asks_for_end: bool,
    suspects: BTreeMap<u32, Suspect>,
    since: Time,
    /// When it last came nearer to its end.
    moved: Time,
    /// The length of the spine that its tracker has told last.
    told: usize,
}

/// What came of checking the pieces that were kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weighed {
    /// Nothing yet.
    Nothing,
    /// Some are wrong and can be fetched again.
    Wrong,
    /// Whoever claimed the midstates is not believed: others may tell.
    Refuted,
}

impl Download {
    /// The blob is not what its digest says: nothing counts any more. All of it is kept until somebody knows which of it is
    /// right; what came from the origin by our own hand may be wrong as well. If everything is being fetched by hand, what was
    /// fetched before that does not count any more.
    pub(crate) fn distrust(&mut self, now: Time) {
        let mut recovery = self.recovery.take().unwrap_or_else(|| {
            Box::new(Recovery {
                by_hand: false,
                before: PieceSet::none(self.geometry.pieces()),
                own: BTreeMap::new(),
                is_closing: false,
                kept: PieceSet::none(self.geometry.pieces()),
                unfit: PieceSet::none(self.geometry.pieces()),
                fits: 0,
                asks_for_end: false,
                suspects: BTreeMap::new(),
                since: now,
                moved: now,
                told: 0,
            })
        });
        let before = core::mem::replace(&mut recovery.before, PieceSet::none(self.geometry.pieces()));
        let by_hand = recovery.by_hand;
        let doubtful: Vec<_> = self
            .have
            .iter()
            .filter_map(|piece| Some((piece, self.stored(piece)?)))
            .filter(|(piece, stored)| !by_hand || stored.via != Via::Origin || before.contains(*piece))
            .map(|(piece, stored)| (piece, stored.clone()))
            .collect();
        for (piece, stored) in &doubtful {
            let around = || Some((self.chain.before(*piece)?, self.chain.before(piece + 1)?));
            let between = || self.chain.link(*piece).or_else(around).map(|(from, to)| Evidence::Between(from, to));
            let is_author = |sum: &PieceSum, peer: &PeerId| sum.author == *peer;
            if let Via::Peer(peer) = &stored.via {
                let is_author = stored.sum.as_ref().is_some_and(|sum| is_author(sum, peer));
                let evidence = stored.sum.clone().map(Evidence::Alone).or_else(between);
                let suspect = evidence.map(|evidence| Suspect { peer: peer.clone(), is_author, evidence });
                recovery.suspects.extend(suspect.map(|suspect| (*piece, suspect)));
            }
            if stored.via == Via::Origin && !by_hand {
                recovery.own.insert(*piece, stored.clone());
            }
            recovery.kept.insert(*piece);
            self.lose(*piece);
        }
        self.forget_claims();
        // They were judged by a chain that ran through a lie.
        self.unbelieved.clear();
        self.contradicted = false;
        self.believed = None;
        self.doubts.clear();
        self.tracker_news.clear();
        self.recovery = Some(recovery);
    }

    /// Whether there is anybody to suspect: if we fetched everything ourselves, the origin is wrong, and nothing can be saved.
    pub(crate) fn has_of_others(&self) -> bool {
        self.have.iter().any(|piece| self.stored(piece).is_none_or(|stored| stored.via != Via::Origin))
    }

    /// Whether something is here that was fetched from the origin before everything else was fetched by hand.
    pub(crate) fn has_of_before(&self) -> bool {
        self.recovery.as_ref().is_some_and(|recovery| !recovery.before.is_empty())
    }

    /// Nobody's word is left.
    fn forget_claims(&mut self) {
        self.chain = Self::new(self.digest, self.geometry).chain;
        self.known = PieceSet::none(self.geometry.pieces());
        self.claimants.clear();
        self.compared = 0;
        self.hashing = None;
    }

    /// From now on only what this node fetches from the origin itself counts.
    pub(crate) fn rely_on_origin(&mut self) {
        if let Some(mut recovery) = self.recovery.take() {
            if !core::mem::replace(&mut recovery.by_hand, true) {
                let own = core::mem::take(&mut recovery.own);
                for (piece, stored) in own.into_iter().filter(|(piece, _)| recovery.kept.contains(*piece)) {
                    recovery.before.insert(piece);
                    // Nobody is told of it: nobody can use it before the whole is here.
                    self.have.insert(piece);
                    self.store(piece, stored);
                }
            }
            self.recovery = Some(recovery);
        }
        // What is being hashed may be thrown away here.
        self.hashing = None;
        self.keep_nothing();
    }

    /// Nothing more is asked of peers: as soon as nothing is on its way from them any more, everything is fetched by hand.
    pub(crate) fn close(&mut self) {
        if let Some(recovery) = &mut self.recovery {
            recovery.is_closing = true;
        }
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.recovery.as_ref().is_some_and(|recovery| recovery.is_closing && !recovery.by_hand)
    }

    pub(crate) fn is_recovering(&self) -> bool {
        self.recovery.is_some()
    }

    /// Whether it fetches everything from the origin itself.
    pub(crate) fn is_by_hand(&self) -> bool {
        self.recovery.as_ref().is_some_and(|recovery| recovery.by_hand)
    }

    /// Whether it waits for somebody who has it whole; since when, and when that last came nearer.
    pub(crate) fn waits_since(&self) -> Option<(Time, Time)> {
        self.recovery.as_ref().filter(|recovery| !recovery.by_hand).map(|recovery| (recovery.since, recovery.moved))
    }

    /// A tracker has told a spine of this length. If that is more than before, it is on its way to the whole; if it is less, it
    /// has begun anew, by hand. How often it can do that does not matter: there is an end to waiting for it.
    pub(crate) fn tracker_moves(&mut self, now: Time, told: usize) {
        if let Some(recovery) = self.recovery.as_mut().filter(|recovery| told != recovery.told) {
            recovery.told = told;
            recovery.moved = now;
        }
    }

    /// Somebody who has the whole tells all of its midstates. If they are not those that our own chain runs through, one of us
    /// was deceived. If they are, they go on where we do not know yet: what others say, who do not have the whole, stands back.
    /// Returns whether something else counted until now: those whose pieces did not fit that may have been right.
    pub(crate) fn compare_whole(&mut self, claimant: &PeerId, spine: &[(u32, Midstate)]) -> bool {
        let tip = self.chain.tip();
        let is_late = tip == 0 && mutant!("whole-unheard-before-the-first-piece");
        if spine.len() < self.geometry.pieces() as usize || is_late || self.recovery.is_some() {
            return false;
        }
        let differs = |(piece, state): &(u32, Midstate)| *piece <= tip && self.chain.before(*piece) != Some(*state);
        if spine.iter().any(differs) {
            self.contradicted = true;
        } else if self.believed.is_none() && !self.unbelieved.contains(claimant) {
            self.believed = Some(claimant.clone());
            let is_other =
                |(piece, state): &(u32, Midstate)| self.chain.before(*piece).is_some_and(|known| known != *state);
            let is_news = spine.iter().any(is_other);
            for (piece, _) in spine {
                self.known.remove(*piece);
            }
            return is_news;
        }
        false
    }

    /// Whether somebody who has the whole says that what is here is not part of it.
    pub(crate) fn is_contradicted(&self) -> bool {
        self.contradicted
    }

    /// Whether what somebody says of midstates can be used. After a mismatch only what reaches the digest, from somebody who
    /// has the whole: others may still go by the lie.
    pub(crate) fn takes_claims(&self, is_whole: bool, spine: &[(u32, Midstate)]) -> bool {
        let end = (self.geometry.pieces(), Midstate::from_bytes(*self.digest.as_bytes()));
        match &self.recovery {
            None => true,
            Some(recovery) => !recovery.by_hand && (is_whole || spine.contains(&end)),
        }
    }

    /// Whether a missing piece may be fetched from peers. After a mismatch only what can be checked on its way, and what is
    /// not here already.
    pub(super) fn may_come_from_peers(&self, piece: u32) -> bool {
        let can_be_checked = || matches!(self.check(piece), Check::From(_));
        let recovery = self.recovery.as_ref();
        let waiting = |recovery: &Recovery| !recovery.is_closing && !recovery.kept.contains(piece) && can_be_checked();
        recovery.is_none_or(|recovery| recovery.by_hand || waiting(recovery))
    }

    /// Something is about to be written where a piece was kept.
    pub(super) fn overwrites(&mut self, piece: u32) {
        if let Some(recovery) = &mut self.recovery {
            if recovery.kept.remove(piece) {
                // It may be the one that is being hashed: what comes of that says nothing of the new bytes.
                self.hashing = None;
            }
            recovery.own.remove(&piece);
            recovery.before.remove(piece);
            recovery.unfit.remove(piece);
        }
    }

    pub(super) fn keep_nothing(&mut self) {
        if let Some(recovery) = &mut self.recovery {
            recovery.kept = PieceSet::none(self.geometry.pieces());
            recovery.own.clear();
            recovery.unfit = recovery.kept.clone();
        }
    }

    /// The next kept piece that can be told to be right or wrong; or the last one, if it has come from the origin since and
    /// somebody says what leads to it.
    pub(super) fn next_to_check(&self) -> Option<Wanted> {
        let recovery = self.recovery.as_ref()?;
        let last = self.geometry.pieces() - 1;
        let is_new = |from: Midstate| self.chain.link(last).is_none_or(|(before, _)| before != from);
        let waits = !recovery.by_hand && self.have.contains(last) && self.chain.tip() < last;
        if let Some(from) = self.chain.before(last).filter(|from| waits && is_new(*from)) {
            return Some(Wanted { piece: last, from });
        }
        let mut unchecked = recovery.kept.without(&recovery.unfit, 0);
        unchecked.find_map(|piece| match self.check(piece) {
            Check::From(from) => Some(Wanted { piece, from }),
            Check::Alone => None,
        })
    }

    /// A kept piece was hashed. Returns whether it was one.
    pub(super) fn checked(&mut self, wanted: Wanted, after: Midstate) -> bool {
        let Wanted { piece, from } = wanted;
        let next = self.chain.before(piece + 1);
        let still = self.chain.before(piece) == Some(from);
        let Some(recovery) = self.recovery.as_mut().filter(|recovery| recovery.kept.contains(piece)) else {
            return false;
        };
        if !still {
            // Somebody else's word stands by now.
            return true;
        }
        if next == Some(after) {
            recovery.kept.remove(piece);
            recovery.fits += 1;
            let via = recovery.suspects.remove(&piece).map_or(Via::Disk, |suspect| Via::Peer(suspect.peer));
            let stored = recovery.own.remove(&piece).unwrap_or(Stored { sum: None, via });
            self.have.insert(piece);
            self.store(piece, stored);
            self.chain.hashed(piece, from, after);
            self.gained.push(piece);
            self.tracker_news.push(piece);
        } else {
            recovery.unfit.insert(piece);
            if let Some(suspect) = recovery.suspects.get_mut(&piece) {
                suspect.evidence = Evidence::Between(from, after);
            }
        }
        true
    }

    /// Whether the last piece is here and leads to the digest from the midstate that stands before it. Nobody can make up a
    /// midstate and a piece that do, so it is the blob's, whoever has claimed it.
    fn end_fits(&self) -> bool {
        let last = self.geometry.pieces() - 1;
        let link = self.chain.link(last).filter(|_| self.have.contains(last));
        link.is_some_and(|(from, to)| self.chain.before(last) == Some(from) && to.to_bytes() == *self.digest.as_bytes())
    }

    /// Whether the last piece can still be fetched from somebody who says what leads to it.
    fn end_may_come(&self) -> bool {
        let last = self.geometry.pieces() - 1;
        let from = self.chain.before(last);
        // What somebody else sends, who was deceived, says nothing of who claimed the midstate.
        let claims = |sender| self.claimants.get(&last).is_none_or(|(claimant, _)| claimant == sender);
        let doubts = self.doubts.get(&last).into_iter().flatten();
        let refuted = doubts.into_iter().any(|doubt| Some(doubt.from) == from && claims(&doubt.sender));
        let may_come = !refuted && !self.have.contains(last) && matches!(self.check(last), Check::From(_));
        may_come && !mutant!("truth-disbelieved-where-most-is-wrong")
    }

    /// Once everything was checked that can be: what does not fit is fetched again. If that is most of what is here, either the
    /// registry has sent something else all the time, or somebody has made up a spine. The last piece tells: what is kept stays until
    /// it has come and leads to the digest. If it does not, whoever claimed the midstates is not believed.
    pub(crate) fn weigh(&mut self, now: Time) -> Weighed {
        if self.hashing.is_some() || self.next_to_check().is_some() {
            return Weighed::Nothing;
        }
        let is_quiet = |recovery: &Recovery| recovery.unfit.is_empty() && !recovery.asks_for_end;
        if self.recovery.as_deref().is_none_or(is_quiet) {
            return Weighed::Nothing;
        }
        let (end_fits, end_may_come) = (self.end_fits(), self.end_may_come());
        let last = self.geometry.pieces() - 1;
        let Some(recovery) = self.recovery.as_mut() else { return Weighed::Nothing };
        // What lies between the beginning, what this node has from the origin since, and the digest: nobody had to claim that. To
        // disbelieve nobody would be to find the same again, for ever.
        let is_certain = self.claimants.is_empty() && !mutant!("unclaimed-pieces-weighed-for-ever");
        let is_credible = is_certain || end_fits || recovery.fits >= recovery.unfit.count();
        if !is_credible && end_may_come {
            if core::mem::replace(&mut recovery.asks_for_end, true) {
                return Weighed::Nothing;
            }
            recovery.moved = now;
            recovery.unfit.remove(last);
            recovery.kept.remove(last);
            recovery.own.remove(&last);
            return Weighed::Wrong;
        }
        recovery.moved = now;
        recovery.asks_for_end = false;
        let unfit = core::mem::replace(&mut recovery.unfit, PieceSet::none(self.geometry.pieces()));
        if is_credible {
            for piece in unfit.iter() {
                recovery.kept.remove(piece);
                recovery.own.remove(&piece);
            }
            Weighed::Wrong
        } else {
            let claimants: Vec<_> = self.claimants.values().map(|(claimant, _)| claimant.clone()).collect();
            for claimant in claimants {
                self.disown(&claimant);
            }
            self.forget_claims();
            Weighed::Refuted
        }
    }

    /// A piece has come from a peer that fits between its midstates: it is worth while to wait for more.
    pub(crate) fn piece_fits(&mut self, now: Time) {
        if let Some(recovery) = &mut self.recovery {
            recovery.moved = now;
        }
    }

    /// The origin itself sends this.
    pub(super) fn origin_says(&mut self, sum: &PieceSum) {
        let Some(recovery) = &mut self.recovery else { return };
        let is_same = |suspect: &Suspect| matches!(&suspect.evidence, Evidence::Alone(was) if was.sum == sum.sum);
        if recovery.suspects.get(&sum.piece).is_some_and(is_same) {
            // Whoever delivered it is cleared.
            recovery.suspects.remove(&sum.piece);
        }
    }

    /// Once the whole blob is verified: who delivered other bytes, and whether it vouched for them itself. Who passed on what
    /// somebody else vouched for may have been deceived as this node was.
    pub(crate) fn culprits(&mut self) -> Vec<(PeerId, bool)> {
        let Some(recovery) = &mut self.recovery else { return Vec::new() };
        let by_hand = recovery.by_hand;
        let suspects = core::mem::take(&mut recovery.suspects);
        let is_wrong = |piece: u32, evidence: &Evidence| match evidence {
            // What did not come from the origin again was checked by its midstates.
            Evidence::Alone(_) => by_hand,
            Evidence::Between(from, gave) => {
                self.chain.before(piece) == Some(*from) && self.chain.before(piece + 1) != Some(*gave)
            }
        };
        let mut culprits: Vec<_> = suspects
            .into_iter()
            .filter(|(piece, suspect)| is_wrong(*piece, &suspect.evidence))
            .map(|(_, suspect)| (suspect.peer, suspect.is_author))
            .collect();
        culprits.sort();
        culprits.dedup();
        culprits
    }
}

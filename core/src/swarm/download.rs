//! A participant's own progress with one blob: which pieces it has, which it is fetching from where, and how far the
//! verified prefix reaches.
//!
//! A piece is accepted (and served on) when its hash fits what its origin fetcher vouched for; it is given to containerd
//! when the chain of midstates has passed it; the last one only when the chain has arrived at the blob's digest.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::input::{Hashed, PartialBlob, Proof, RecordedPiece};
use crate::message::{MAX_FETCHING, PieceSum};
use crate::names::{OpId, PeerId};
use crate::output::Check;
use crate::piece::{Geometry, PieceSet};
use crate::spine::{Chain, Midstate, Wanted};
use crate::swarm::download::doubts::Doubt;
use crate::swarm::download::recovery::Recovery;
use crate::swarm::download::runs::Run;
use crate::time::Time;

/// Where a piece came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Via {
    /// This node fetched it from the origin.
    Origin,
    /// A peer delivered it.
    Peer(PeerId),
    /// It was on disk when the agent started.
    Disk,
}

/// What is known of a stored piece.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Stored {
    sum: Option<PieceSum>,
    via: Via,
}

/// A transfer that is under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Fetch {
    Piece {
        peer: PeerId,
        piece: u32,
        check: Check,
        since: Time,
        /// When it was answered, after being asked; zero for one that is near.
        way: Duration,
    },
    /// `first` moves on as pieces arrive.
    Origin { start: u32, first: u32, end: u32, check: Check },
}

/// What became of a piece that arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verdict {
    /// It is new and good as far as can be known now; this is to be recorded.
    Accepted(RecordedPiece),
    /// We had it already.
    Known,
    /// It does not fit what its sender claimed of it: the sender is to blame.
    Wrong,
    /// Nobody vouches for it, the sender neither: there is nothing to compare it with.
    Unvouched,
    /// It does not fit between two midstates. Whether its sender is wrong is known when the blob is whole; until then this
    /// one is not asked for this piece again for a while.
    Doubtful,
}

/// How the prefix stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Prefix {
    /// So many bytes are verified and may be released.
    Bytes(u64),
    /// Every piece was hashed and the result is the blob's digest.
    Whole,
    /// Every piece was hashed and the result is another digest.
    Mismatch,
}

/// In the order of memory: what is looked at for every notice and every piece comes first.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[repr(C)]
pub(crate) struct Download {
    geometry: Geometry,
    have: PieceSet,
    /// Pieces that the midstate before is known of, computed or claimed: most of what neighbours claim is.
    known: PieceSet,
    fetches: BTreeMap<OpId, Fetch>,
    /// How many of them are of single pieces, from peers.
    piece_fetches: usize,
    /// How often each piece is being fetched now.
    fetched: BTreeMap<u32, u32>,
    /// After a mismatch: how it is being made good.
    recovery: Option<Box<Recovery>>,
    /// Somebody who has the whole says that what is here is not part of it.
    contradicted: bool,
    /// The origin has refused to send a part: it is asked for the whole blob when that is given to us.
    pub(crate) no_ranges: bool,
    runs: VecDeque<Run>,
    /// Accepted pieces in the order in which they came, also such as were lost again since: each neighbour was told of those
    /// up to some place.
    gained: Vec<u32>,
    /// By piece.
    stored: Vec<Option<Box<Stored>>>,
    chain: Chain,
    hashing: Option<OpId>,
    /// Claims about midstates up to here were compared with what was computed.
    compared: u32,
    /// Who claimed which midstate before a piece, also when it is computed by now.
    claimants: BTreeMap<u32, (PeerId, Midstate)>,
    /// Peers whose claims turned out wrong: no more of theirs are taken.
    unbelieved: Vec<PeerId>,
    /// Pieces that did not fit between midstates. The whole will tell who is wrong.
    doubts: BTreeMap<u32, Vec<Doubt>>,
    /// Accepted pieces that the tracker has not been told of.
    pub(crate) tracker_news: Vec<u32>,
    digest: Digest,
    /// Who has the whole and says what fits to what is here.
    believed: Option<PeerId>,
}

impl Download {
    pub(crate) fn new(digest: Digest, geometry: Geometry) -> Self {
        let mut chain = Chain::default();
        // What comes after the last piece needs nobody's word: it is the digest.
        chain.claim(geometry.pieces(), Midstate::from_bytes(*digest.as_bytes()));
        Self {
            digest,
            geometry,
            have: PieceSet::none(geometry.pieces()),
            stored: Vec::new(),
            chain,
            known: PieceSet::none(geometry.pieces()),
            claimants: BTreeMap::new(),
            compared: 0,
            unbelieved: Vec::new(),
            doubts: BTreeMap::new(),
            hashing: None,
            fetches: BTreeMap::new(),
            piece_fetches: 0,
            fetched: BTreeMap::new(),
            runs: VecDeque::new(),
            gained: Vec::new(),
            tracker_news: Vec::new(),
            recovery: None,
            contradicted: false,
            believed: None,
            no_ranges: false,
        }
    }

    /// Goes on with what was found on disk.
    pub(crate) fn resume(partial: &PartialBlob) -> Self {
        let mut download = Self::new(partial.digest, Geometry::of_blob(partial.size));
        for RecordedPiece { piece, proof, author } in &partial.pieces {
            if download.have.insert(*piece) {
                download.gained.push(*piece);
                let sum = match *proof {
                    Proof::Alone(sum) => Some(PieceSum { piece: *piece, sum, author: author.clone() }),
                    Proof::Between(from, to) => {
                        // Hashed again by the store when it opened: it counts as hashed here.
                        download.chain.hashed(*piece, from, to);
                        None
                    }
                };
                download.store(*piece, Stored { sum, via: Via::Disk });
            }
        }
        download
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    pub(crate) fn have(&self) -> &PieceSet {
        &self.have
    }

    pub(crate) fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Who vouches for a stored piece, for those whom we send it to.
    pub(crate) fn sum(&self, piece: u32) -> Option<&PieceSum> {
        self.stored(piece)?.sum.as_ref()
    }

    fn stored(&self, piece: u32) -> Option<&Stored> {
        self.stored.get(piece as usize)?.as_deref()
    }

    fn store(&mut self, piece: u32, stored: Stored) {
        if self.stored.is_empty() {
            self.stored.resize_with(self.geometry.pieces() as usize, || None);
        }
        self.stored[piece as usize] = Some(Box::new(stored));
    }

    pub(crate) fn is_fetching(&self) -> bool {
        !self.fetches.is_empty()
    }

    pub(crate) fn piece_fetches(&self) -> usize {
        self.piece_fetches
    }

    /// Fetches from peers that have taken longer than `patience`.
    pub(crate) fn stuck(&self, now: Time, patience: Duration) -> usize {
        // In the order in which they began: after the first one that is not, none is.
        let began = self.fetches.values().filter_map(|fetch| match fetch {
            Fetch::Piece { since, .. } => Some(*since),
            Fetch::Origin { .. } => None,
        });
        began.take_while(|since| now - *since >= patience).count()
    }

    pub(crate) fn origin_fetches(&self) -> usize {
        self.fetches.len() - self.piece_fetches
    }

    pub(crate) fn fetch(&self, op: OpId) -> Option<&Fetch> {
        self.fetches.get(&op)
    }

    pub(crate) fn ops(&self) -> impl Iterator<Item = OpId> + '_ {
        self.fetches.keys().copied().chain(self.hashing)
    }

    /// The next `window` missing pieces that nobody has been asked for, out of those that can be had. Pieces that are
    /// still on their way out of the origin do not count: they would fill the window and nothing would move.
    pub(crate) fn wanted(&self, window: u32, available: &PieceSet) -> Vec<u32> {
        let mut wanted = Vec::with_capacity(window as usize);
        let free = |piece: u32| !self.fetched.contains_key(&piece) || mutant!("piece-asked-twice");
        let missing = available.without(&self.have, self.chain.tip());
        wanted.extend(
            missing
                .filter(|piece| free(*piece) && !self.is_queued(*piece) && self.may_come_from_peers(*piece))
                .take(window as usize),
        );
        wanted
    }

    /// The first missing pieces that nobody has been asked for, or whether somebody has been `or_not`, at most `limit`.
    pub(crate) fn missing(&self, limit: usize, or_not: bool) -> Vec<u32> {
        self.have
            .missing_from(self.chain.tip())
            .filter(|piece| (or_not || !self.fetched.contains_key(piece)) && self.may_come_from_peers(*piece))
            .take(limit)
            .collect()
    }

    /// Missing pieces that one peer is slow to deliver, oldest first: in the end game somebody else may be asked as well.
    pub(crate) fn late(&self, now: Time, patience: Duration) -> Vec<(u32, PeerId)> {
        let mut late: Vec<_> = self
            .fetches
            .values()
            .filter_map(|fetch| match fetch {
                Fetch::Piece { peer, piece, since, .. }
                    if now - *since >= patience
                        && self.fetched.get(piece) == Some(&1)
                        && (!self.have.contains(*piece) || mutant!("late-piece-asked-for-although-it-is-here")) =>
                {
                    Some((*since, *piece, peer.clone()))
                }
                _ => None,
            })
            .collect();
        late.sort_unstable();
        late.into_iter().map(|(_, piece, peer)| (piece, peer)).collect()
    }

    /// How a piece from a peer should be hashed on its way in: between two midstates if both are known, which makes
    /// hashing it again for the chain unnecessary; else alone, to be compared with what its fetcher vouched for.
    pub(crate) fn check(&self, piece: u32) -> Check {
        match self.chain.before(piece) {
            Some(from) if self.chain.before(piece + 1).is_some() => Check::From(from),
            _ => Check::Alone,
        }
    }

    pub(crate) fn started(&mut self, op: OpId, fetch: Fetch) {
        for piece in pieces_of(&fetch) {
            *self.fetched.entry(piece).or_default() += 1;
            self.overwrites(piece);
        }
        self.piece_fetches += usize::from(matches!(fetch, Fetch::Piece { .. }));
        self.fetches.insert(op, fetch);
    }

    /// A fetch from the origin that was begun before the size was known brings all of it.
    pub(crate) fn fetches_whole_by(&mut self, op: OpId) {
        if !self.fetches.contains_key(&op) {
            let end = self.geometry.pieces();
            self.started(op, Fetch::Origin { start: 0, first: 0, end, check: Check::Alone });
        }
    }

    /// A peer has answered this long after it was asked.
    pub(crate) fn answered(&mut self, op: OpId, after: Duration) {
        if let Some(Fetch::Piece { way, .. }) = self.fetches.get_mut(&op) {
            *way = after;
        }
    }

    /// A transfer is over, however it ended.
    pub(crate) fn ended(&mut self, op: OpId) -> Option<Fetch> {
        let fetch = self.fetches.remove(&op)?;
        self.piece_fetches -= usize::from(matches!(fetch, Fetch::Piece { .. }));
        for piece in pieces_of(&fetch) {
            self.unfetch(piece);
        }
        Some(fetch)
    }

    /// The runs that come from the origin now: the first piece that is not here yet, and how many. `comes`: which fetches count.
    pub(crate) fn origin_runs(&self, comes: impl Fn(OpId) -> bool) -> Vec<(u32, u32)> {
        let runs = self.fetches.iter().filter_map(|(op, fetch)| match fetch {
            Fetch::Origin { first, end, .. } if first < end && comes(*op) => Some((*first, end - first)),
            _ => None,
        });
        runs.take(MAX_FETCHING).collect()
    }

    fn unfetch(&mut self, piece: u32) {
        if let Some(count) = self.fetched.get_mut(&piece) {
            *count -= 1;
            if *count == 0 {
                self.fetched.remove(&piece);
            }
        }
    }

    /// Transfers of `piece` other than `op` that only fetch this piece: nobody needs them any more.
    pub(crate) fn rivals(&self, op: OpId, piece: u32) -> Vec<OpId> {
        let same = |fetch: &Fetch| matches!(fetch, Fetch::Piece { piece: other, .. } if *other == piece);
        self.fetches.iter().filter(|(other, fetch)| **other != op && same(fetch)).map(|(other, _)| *other).collect()
    }

    /// A piece is stored. Says what that means; for an accepted piece the caller asks [`prefix`](Self::prefix) next.
    pub(crate) fn arrived(
        &mut self,
        op: OpId,
        piece: u32,
        hashed: Hashed,
        claim: Option<PieceSum>,
        own: &PeerId,
    ) -> Verdict {
        let Some(fetch) = self.fetches.get_mut(&op) else { return Verdict::Known };
        let mut skipped = 0..0;
        let mut asked = Time::ZERO;
        let (via, check) = match fetch {
            Fetch::Piece { peer, piece: expected, check, since, .. } => {
                if *expected != piece {
                    return Verdict::Wrong;
                }
                asked = *since;
                (Via::Peer(peer.clone()), *check)
            }
            Fetch::Origin { first, end, check, .. } => {
                if piece < *first || piece >= *end {
                    return Verdict::Known;
                }
                // A piece that the store kept from a rival transfer is not reported by this one.
                skipped = *first..piece;
                *first = piece + 1;
                let now = *check;
                if let Hashed::Chained(after) = hashed {
                    *check = Check::From(after);
                }
                (Via::Origin, now)
            }
        };
        if via == Via::Origin {
            for piece in skipped.chain([piece]) {
                self.unfetch(piece);
            }
        }
        if self.have.contains(piece) {
            return Verdict::Known;
        }
        let (sum, proof, author) = match (hashed, check) {
            (Hashed::Alone(sum), _) => {
                let claim = claim.filter(|claim| claim.piece == piece);
                let author = match (&via, claim) {
                    (_, Some(claim)) if claim.sum != sum => return Verdict::Wrong,
                    (_, Some(claim)) => claim.author,
                    // Nothing to compare with: a rotten disk would go unnoticed.
                    (Via::Peer(_), None) => return Verdict::Unvouched,
                    (Via::Origin | Via::Disk, None) => own.clone(),
                };
                (Some(PieceSum { piece, sum, author: author.clone() }), Proof::Alone(sum), author)
            }
            (Hashed::Chained(_), Check::From(from)) if matches!(via, Via::Peer(_)) && !self.stood(piece, from) => {
                // Whoever claimed the midstates was found out while it was on its way.
                return Verdict::Unvouched;
            }
            (Hashed::Chained(after), Check::From(from)) => {
                if self.chain.before(piece + 1).is_some_and(|claimed| claimed != after) {
                    return self.doubt(piece, from, after, &via, asked);
                }
                self.chain.hashed(piece, from, after);
                // What the sender claims of the piece alone was not checked here, so it is not passed on.
                let author = if let Via::Peer(peer) = &via { peer.clone() } else { own.clone() };
                (None, Proof::Between(from, after), author)
            }
            (Hashed::Chained(_), Check::Alone) => return Verdict::Wrong,
        };
        if let (Via::Origin, Some(sum)) = (&via, &sum) {
            self.origin_says(sum);
        }
        self.have.insert(piece);
        self.store(piece, Stored { sum, via });
        self.gained.push(piece);
        self.tracker_news.push(piece);
        Verdict::Accepted(RecordedPiece { piece, proof, author })
    }

    /// The next stored piece to hash in order to extend the verified prefix, if none is being hashed.
    pub(crate) fn next_to_hash(&self) -> Option<Wanted> {
        if self.hashing.is_some() || self.chain.tip() >= self.geometry.pieces() {
            return None;
        }
        self.chain.next(|piece| self.have.contains(piece)).or_else(|| self.next_to_check())
    }

    /// Whether it could hash on and does not. After a mismatch it waits for what it has to fetch again.
    pub(crate) fn idles(&self) -> bool {
        self.recovery.is_none() && self.next_to_hash().is_some()
    }

    pub(crate) fn hashing(&mut self, op: OpId) {
        self.hashing = Some(op);
    }

    /// A stored piece was hashed for the chain.
    pub(crate) fn hashed(&mut self, op: OpId, wanted: Wanted, after: Midstate) {
        if self.hashing == Some(op) {
            self.hashing = None;
            // What is not here any more, or not yet, is not part of the prefix, whatever it was.
            if !self.checked(wanted, after) && self.have.contains(wanted.piece) {
                self.chain.hashed(wanted.piece, wanted.from, after);
            }
        }
    }

    /// A stored piece could not be read: it has to be fetched again.
    pub(crate) fn unreadable(&mut self, op: OpId, piece: u32) {
        if self.hashing == Some(op) {
            self.hashing = None;
            self.overwrites(piece);
            if !mutant!("unreadable-piece-kept") {
                self.lose(piece);
            }
        }
    }

    fn lose(&mut self, piece: u32) {
        self.have.remove(piece);
        if let Some(place) = self.stored.get_mut(piece as usize) {
            *place = None;
        }
        self.chain.forget(piece);
    }

    pub(crate) fn prefix(&self) -> Prefix {
        let tip = self.chain.tip();
        let pieces = self.geometry.pieces();
        if self.end_is_refuted() {
            return Prefix::Mismatch;
        }
        if tip < pieces {
            let range = self.geometry.range(tip);
            return Prefix::Bytes(if mutant!("prefix-released-early") { range.end } else { range.start });
        }
        let fits = self.chain.state().to_bytes() == *self.digest.as_bytes();
        if fits || mutant!("digest-not-compared") { Prefix::Whole } else { Prefix::Mismatch }
    }

    /// How many pieces have come so far, as neighbours are told of them.
    pub(crate) fn gained(&self) -> u32 {
        self.gained.len() as u32
    }

    /// What is new to somebody who has `theirs` and knows of the first `told` of [`gained`](Self::gained). Whoever has told us
    /// of a piece does not ask us for it.
    pub(crate) fn news_since(&self, told: u32, theirs: &PieceSet) -> Vec<u32> {
        let news = self.gained.get(told as usize..).unwrap_or_default().iter().copied();
        let mut news: Vec<_> = news.filter(|piece| self.have.contains(*piece) && !theirs.contains(*piece)).collect();
        if self.gained.len() > self.have.count() as usize {
            // What was lost meanwhile and came again has come twice.
            news.sort_unstable();
            news.dedup();
        }
        news
    }

    /// What is here of the first `told` of [`gained`](Self::gained), and not among `theirs`. What has come again since is news.
    pub(crate) fn told_until(&self, told: u32, theirs: &PieceSet) -> Vec<u32> {
        let (before, news) = self.gained.split_at((told as usize).min(self.gained.len()));
        let counts = |piece: &u32| self.have.contains(*piece) && !theirs.contains(*piece) && !news.contains(piece);
        before.iter().copied().filter(counts).collect()
    }

    /// The sums of those of these pieces which this node has fetched from the origin.
    pub(crate) fn sums_of(&self, pieces: &[u32]) -> Vec<PieceSum> {
        let from_origin = |piece: &&u32| self.stored(**piece).is_some_and(|stored| stored.via == Via::Origin);
        pieces.iter().filter(from_origin).filter_map(|piece| self.sum(*piece).cloned()).collect()
    }
}

fn pieces_of(fetch: &Fetch) -> core::ops::Range<u32> {
    match fetch {
        Fetch::Piece { piece, .. } => *piece..piece + 1,
        Fetch::Origin { first, end, .. } => *first..*end,
    }
}

mod claims;
mod doubts;
pub(crate) mod recovery;
mod runs;
#[cfg(test)]
mod tests;

//! Pieces that did not fit to what is here: nobody knows who is wrong before the blob is whole.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Download, Prefix, Verdict, Via};
use crate::names::PeerId;
use crate::spine::Midstate;
use crate::time::Time;

/// Most doubts about one piece that are remembered: one for each neighbour, and some.
pub(super) const MAX_DOUBTS: usize = 64;
/// Who sent a piece that did not fit may be asked for it again this long after that was asked for: it may have been damaged on
/// its way, and whoever sent wrong bytes may have got right ones since. As long as a node without a byte follows one tracker.
pub(super) const DOUBT_PAUSE: Duration = Duration::from_secs(30);
/// Each time that it did not fit again, the pause is this many times as long: nobody is asked for the same over and over.
const DOUBT_FACTOR: u32 = 4;
/// The pause does not grow for ever: 8 h in the end.
const MAX_DOUBT_STEPS: u32 = 5;

/// A piece that does not fit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Doubt {
    pub(super) sender: PeerId,
    /// From this midstate
    pub(super) from: Midstate,
    /// the piece led to this one, and not to the one that was known or claimed.
    pub(super) gave: Midstate,
    /// When it was asked for last.
    pub(super) asked: Time,
    /// How often the same has come again.
    pub(super) again: u32,
    /// The chain has passed and agrees with whoever doubted.
    pub(super) is_confirmed: bool,
}

impl Doubt {
    /// Whether it is too early to ask for it again.
    fn stands(&self, now: Time) -> bool {
        let pause = DOUBT_PAUSE * DOUBT_FACTOR.pow(self.again.min(MAX_DOUBT_STEPS));
        now - self.asked < pause || mutant!("doubted-for-ever")
    }
}

impl Download {
    /// A piece that somebody sent did not fit to what is here, and nobody knows yet who is wrong.
    pub(crate) fn is_doubtful(&self) -> bool {
        !self.doubts.is_empty()
    }

    /// Whether a peer has sent a piece that did not fit between the midstates that it would have to fit between now. What it
    /// says it has makes no other one of it; after a while it is given another chance.
    pub(crate) fn has_doubted(&self, peer: &PeerId, piece: u32, now: Time) -> bool {
        // There are hardly ever any.
        let Some(doubts) = self.doubts.get(&piece) else { return false };
        let (before, after) = (self.chain.before(piece), self.chain.before(piece + 1));
        let would_not_fit = |doubt: &Doubt| {
            !mutant!("doubted-piece-asked-again")
                && doubt.sender == *peer
                && doubt.stands(now)
                && Some(doubt.from) == before
                && after.is_some_and(|after| after != doubt.gave)
        };
        doubts.iter().any(would_not_fit)
    }

    /// After the chain has grown: who sent something else than what it runs through. That is no proof, see
    /// [`settle_doubts`](Self::settle_doubts), but a reason to ask others first. Each piece is told of once.
    pub(crate) fn confirm_doubts(&mut self) -> Vec<PeerId> {
        let (tip, chain) = (self.chain.tip(), &self.chain);
        let mut senders = Vec::new();
        for (piece, doubts) in self.doubts.range_mut(..tip) {
            let (before, after) = (chain.before(*piece), chain.before(piece + 1));
            for doubt in doubts.iter_mut().filter(|doubt| !doubt.is_confirmed) {
                if Some(doubt.from) == before && Some(doubt.gave) != after {
                    doubt.is_confirmed = true;
                    senders.push(doubt.sender.clone());
                }
            }
        }
        senders
    }

    /// Once the whole blob is verified: who sent bytes that are not in it.
    ///
    /// Not before: a chain that grows may run through pieces that somebody vouched for and that are lies, or that rotted on
    /// the disk, and then what is right does not fit. Nor are those to blame who claimed a wrong midstate: they may have
    /// hashed what a liar sent them.
    pub(crate) fn settle_doubts(&mut self) -> Vec<PeerId> {
        if self.doubts.is_empty() || self.prefix() != Prefix::Whole {
            return Vec::new();
        }
        let mut culprits = Vec::new();
        for (piece, doubts) in core::mem::take(&mut self.doubts) {
            let (before, after) = (self.chain.before(piece), self.chain.before(piece + 1));
            // Right bytes from a wrong start lead nowhere: that says nothing about the sender.
            let wrong = doubts.into_iter().filter(|doubt| Some(doubt.from) == before && Some(doubt.gave) != after);
            culprits.extend(wrong.map(|doubt| doubt.sender));
        }
        culprits.sort();
        culprits.dedup();
        culprits
    }

    /// Whether this is the midstate before `piece`, or was until the chain came there.
    pub(super) fn stood(&self, piece: u32, from: Midstate) -> bool {
        self.chain.before(piece) == Some(from)
            || self.claimants.get(&piece).is_some_and(|(_, claimed)| *claimed == from)
    }

    /// A piece leads from one midstate to another than the one that was claimed to follow. `asked`: when it was asked for.
    pub(super) fn doubt(&mut self, piece: u32, from: Midstate, gave: Midstate, via: &Via, asked: Time) -> Verdict {
        let Via::Peer(sender) = via else { return Verdict::Wrong };
        let doubts = self.doubts.entry(piece).or_default();
        let is_same = |doubt: &&mut Doubt| doubt.sender == *sender && doubt.from == from && doubt.gave == gave;
        if let Some(doubt) = doubts.iter_mut().find(is_same) {
            doubt.asked = asked;
            doubt.again += 1;
        } else {
            if doubts.len() >= MAX_DOUBTS {
                doubts.remove(0);
            }
            doubts.push(Doubt { sender: sender.clone(), from, gave, asked, again: 0, is_confirmed: false });
        }
        Verdict::Doubtful
    }

    /// The last piece, if only it is missing and somebody has sent one that does not fit. Either it is wrong, or something that
    /// is here: if nobody else has it, it is fetched again, to be compared with what its fetcher vouches for.
    pub(crate) fn doubtful_end(&self) -> Option<u32> {
        let last = self.geometry.pieces() - 1;
        let is_the_only_one = self.chain.tip() == last && !self.have.contains(last) && self.recovery.is_none();
        (is_the_only_one && self.doubts.contains_key(&last)).then_some(last)
    }

    /// Whether two have sent the same last piece, and it does not lead from what is here to the digest. Something before it is
    /// wrong then: others have it, too, and will not find a last piece that fits either.
    pub(super) fn end_is_refuted(&self) -> bool {
        let Some(doubts) = self.doubtful_end().and_then(|last| self.doubts.get(&last)) else { return false };
        let from = self.chain.state();
        let here: Vec<_> = doubts.iter().filter(|doubt| doubt.from == from).collect();
        let agree = |one: &Doubt, other: &Doubt| one.gave == other.gave && one.sender != other.sender;
        let two_agree = here.iter().any(|one| here.iter().any(|other| agree(one, other)));
        two_agree && self.has_of_others() && !mutant!("last-piece-waited-for-in-vain")
    }
}

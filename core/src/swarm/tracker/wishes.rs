//! Who could get which pieces from nobody, although others have them, and may fetch them from the origin: in which order.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::names::PeerId;
use crate::time::Time;

/// A complaint that is repeated after this long is heard; one enrolment fits in between.
pub(crate) const COMPLAINT_AGE: Duration = Duration::from_millis(900);
/// Most complaints that are remembered; what is forgotten is complained of again.
pub(crate) const MAX_COMPLAINTS: usize = 4096;
/// Most pieces that one participant wishes for: what it complains of at a time.
const MAX_WISHES: usize = 64;

/// All that one participant wishes for.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Wish {
    since: Time,
    pieces: BTreeSet<u32>,
}

/// Complaints, and the wishes that they become.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Wishes {
    /// Who could not get which piece from anybody, since when.
    complaints: BTreeMap<(PeerId, u32), Time>,
    wishes: BTreeMap<PeerId, Wish>,
}

impl Wishes {
    /// A participant can get `piece` from nobody. If it still cannot after it has been told who has it, it wishes for it.
    pub(super) fn complain(&mut self, now: Time, peer: &PeerId, piece: u32) {
        if self.complaints.len() >= MAX_COMPLAINTS {
            self.complaints.clear();
        }
        let first = *self.complaints.entry((peer.clone(), piece)).or_insert(now);
        let has_room = self.wishes.get(peer).is_none_or(|wish| wish.pieces.len() < MAX_WISHES);
        if now - first >= COMPLAINT_AGE && has_room {
            self.complaints.remove(&(peer.clone(), piece));
            self.keep(peer.clone(), now, [piece]);
        }
    }

    /// Everybody who wishes for something, who has wished for the longest first: everybody has a turn, whatever the others wish
    /// for and however often they say so.
    pub(super) fn turns(&self) -> Vec<PeerId> {
        let mut turns: Vec<_> = self.wishes.iter().map(|(peer, wish)| (wish.since, peer)).collect();
        turns.sort();
        turns.into_iter().map(|(_, peer)| peer.clone()).collect()
    }

    /// A participant has its turn: what it wishes for, and since when.
    pub(super) fn take(&mut self, peer: &PeerId) -> (Time, BTreeSet<u32>) {
        self.wishes.remove(peer).map(|wish| (wish.since, wish.pieces)).unwrap_or_default()
    }

    /// What [`take`](Self::take) gave has to wait: the participant's place among the [`turns`](Self::turns) is still that of `since`.
    pub(super) fn keep(&mut self, peer: PeerId, since: Time, pieces: impl IntoIterator<Item = u32>) {
        let mut pieces = pieces.into_iter().peekable();
        if pieces.peek().is_some() {
            let wish = self.wishes.entry(peer).or_insert(Wish { since, pieces: BTreeSet::new() });
            wish.pieces.extend(pieces);
        }
    }

    /// A participant has gone.
    pub(super) fn gone(&mut self, peer: &PeerId) {
        self.wishes.remove(peer);
        self.complaints.retain(|(by, _), _| by != peer);
    }
}

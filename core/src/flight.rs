//! One flight per digest, for all who want it: containerd's requests, peers that asked for a pull, and prefetching.

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::failures::Challenge;
use crate::names::{CredentialId, OpId, PeerId, RequestId, Source};
use crate::resolve::{Cascade, stall_window};
use crate::swarm::download::Download;
use crate::swarm::neighbours::Neighbours;
use crate::swarm::way::Way;
use crate::time::Time;

/// What is known of the registry of a flight whose bodies stand still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Asked {
    /// Nothing: they move.
    #[default]
    Not,
    /// It is asked, and did not answer so many times before.
    Pending(u32),
    /// It is about to be asked, and did not answer so many times in a row.
    InVain(u32),
    /// It has said then that it has it, or that containerd has to hear its own answer. The swarm has a moment to go on.
    Said(Time),
}

/// How far a flight has come.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// It waits for one of the running flights to end.
    Queued,
    /// The cascade looks for a tracker.
    Resolving(Box<Cascade>),
    /// Bytes move, or are about to.
    Moving,
    /// Everything is verified; the store makes it durable.
    Committing,
}

impl Stage {
    pub(crate) fn is_moving(&self) -> bool {
        matches!(self, Self::Moving)
    }
}

/// This node's part in the swarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    /// The cascade has not decided.
    Undecided,
    /// It tracks the swarm.
    Leading,
    /// It enrols with this tracker.
    Following(PeerId),
}

/// A blob on its way. In the order of memory: what is looked at for every notice and every piece comes first.
#[derive(Debug, Serialize, Deserialize)]
#[repr(C)]
pub(crate) struct Flight {
    pub(crate) digest: Digest,
    /// Size of the blob in bytes, once known.
    pub(crate) size: Option<u64>,
    /// What a piece from a peer takes lately. Zero before the first one.
    pub(crate) piece_time: Duration,
    pub(crate) way: Way,
    /// So many pieces have come from peers.
    pub(crate) come_from_peers: u32,
    /// When the last piece came from the own zone; the start, if none did.
    pub(crate) last_near: Time,
    /// When the last byte arrived that may be of use; the start, if none did.
    pub(crate) last_byte: Time,
    /// When the last piece was taken in; the start, if none was.
    pub(crate) last_piece: Time,
    /// When it last stood behind the node's other flights and nobody waited for it; the start, if never. That nothing came until then says nothing
    /// about those who could give it.
    pub(crate) stood_behind: Time,
    /// Until when whoever has what is missing has said to be busy: it will come, only not yet.
    pub(crate) busy_until: Time,
    /// Bytes of the prefix that containerd may have.
    pub(crate) released: u64,
    /// How much of it those may have begun to read who were cut short when it turned out to be wrong.
    pub(crate) withdrawn: u64,
    /// Bytes that readers were sent who have gone.
    pub(crate) sent: u64,
    /// When that last grew; if it has not, when the flight began to move.
    pub(crate) last_release: Time,
    pub(crate) peer_bytes: u64,
    pub(crate) stage: Stage,
    /// Something of it was fetched with a credential.
    pub(crate) private: bool,
    /// It could fetch more from peers, and waits until the node's other flights leave it something.
    pub(crate) held_back: bool,
    /// The origin or a verified manifest has said the same size.
    pub(crate) size_vouched: bool,
    /// A requester on this node has asked for it, and may be gone before the blob is durable; `source` is its.
    pub(crate) wanted_here: bool,
    /// A fetch of the whole blob, whose size is not known yet, was given to us.
    pub(crate) whole_assigned: bool,
    /// Its tracker has answered an enrolment.
    pub(crate) introduced: bool,
    /// The provider index has been asked and has not answered.
    pub(crate) asking_index: bool,
    /// It was begun for somebody who enrolled here, or asked this node to pull, because nobody else leads: this node cannot ask the
    /// origin, they can.
    pub(crate) led_for_others: bool,
    /// It was begun because a manifest names it, and containerd has not asked for it yet.
    pub(crate) ahead: bool,
    /// They have waited for long. It runs besides those that may run at a time: if each of several nodes kept the flight
    /// queued that others wait for, all would wait for ever.
    pub(crate) others_wait: bool,
    /// A failure of this node's own has not cooled down: until then only others ask the origin.
    pub(crate) cools_down_until: Option<Time>,
    /// The origin has told this node to ask for it again then, and not before.
    pub(crate) comes_back_at: Time,
    /// The origin has been asked whether a failure that others tell of is still so, and it is not.
    pub(crate) origin_has_it: bool,
    /// Whether the origin was asked why bodies stand still.
    pub(crate) asked: Asked,
    /// The origin gives it to nobody without a credential, or not to the one that this node has. A new credential clears it.
    pub(crate) turned_away: bool,
    /// The words in which the origin has asked for a credential, if it has.
    pub(crate) challenge: Option<Challenge>,
    /// Whoever waited here has been told, and may come back with a credential until then.
    pub(crate) awaits_credential_until: Time,
    /// Mirror requests that wait for it or are being served from it.
    pub(crate) waiters: BTreeSet<RequestId>,
    pub(crate) role: Role,
    pub(crate) neighbours: Neighbours,
    /// Convicted ones that have been told what is here, and may come for it.
    pub(crate) estranged: BTreeSet<PeerId>,
    /// Progress, once the size is known.
    pub(crate) download: Option<Download>,
    /// Tells this flight from an earlier one of the same digest.
    pub(crate) generation: u64,
    /// Where it comes from. A credential goes there, so a peer's word counts only while nobody here has asked for it.
    pub(crate) source: Source,
    pub(crate) media_type: Option<Arc<str>>,
    /// The credential of the latest waiter that had one.
    pub(crate) credential: Option<CredentialId>,
    /// What was asked of the origin before it came, or before a requester on this node had named another origin: that it wants a
    /// credential, or another one, says nothing then.
    pub(crate) asked_before_credential: BTreeSet<OpId>,
    pub(crate) started: Time,
    /// When the tracker was last told that nobody gives us what we miss; the start, if it was not.
    pub(crate) last_complaint: Time,
    /// How often in a row to this tracker, while nothing came.
    pub(crate) complaints: u32,
    pub(crate) origin_bytes: u64,
    /// Since when somebody has been enrolling with us for it while it was queued.
    pub(crate) others_since: Option<Time>,
    /// A neighbour has a size for it, and the tracker has not been asked since.
    pub(crate) asks_for_size: bool,
    /// How many had.
    pub(crate) size_hints: u32,
    /// With whom it enrolled last, and when.
    pub(crate) enrolled: Option<(PeerId, Time)>,
    /// When bytes last came to somebody in its swarm, as its tracker says.
    pub(crate) swarm_moved: Option<Time>,
    /// How many midstates its tracker told last, and when that was more or fewer than before, and nothing that was not here.
    pub(crate) tracker_told: (usize, Option<Time>),
    /// Referrals followed since the last enrolment that worked.
    pub(crate) referrals: u32,
    /// When it was last looked whether somebody better leads.
    pub(crate) looked_for_better: Option<Time>,
    /// How often it was.
    pub(crate) looks: u32,
    /// Somebody else whom one of the best follows: it is asked when it is looked again.
    pub(crate) may_lead: Option<PeerId>,
}

impl Flight {
    pub(crate) fn new(digest: Digest, generation: u64, source: Source, now: Time) -> Self {
        Self {
            digest,
            generation,
            source,
            wanted_here: false,
            size: None,
            size_vouched: false,
            media_type: None,
            private: false,
            waiters: BTreeSet::new(),
            credential: None,
            asked_before_credential: BTreeSet::new(),
            started: now,
            last_byte: now,
            last_piece: now,
            stood_behind: now,
            last_complaint: now,
            complaints: 0,
            origin_bytes: 0,
            peer_bytes: 0,
            stage: Stage::Queued,
            role: Role::Undecided,
            neighbours: Neighbours::default(),
            estranged: BTreeSet::new(),
            download: None,
            whole_assigned: false,
            turned_away: false,
            challenge: None,
            awaits_credential_until: Time::ZERO,
            led_for_others: false,
            ahead: false,
            origin_has_it: false,
            asked: Asked::Not,
            cools_down_until: None,
            comes_back_at: Time::ZERO,
            others_since: None,
            asks_for_size: false,
            size_hints: 0,
            others_wait: false,
            busy_until: Time::ZERO,
            enrolled: None,
            introduced: false,
            swarm_moved: None,
            tracker_told: (0, None),
            referrals: 0,
            piece_time: Duration::ZERO,
            way: Way::default(),
            come_from_peers: 0,
            last_near: now,
            released: 0,
            withdrawn: 0,
            sent: 0,
            last_release: now,
            looked_for_better: None,
            looks: 0,
            may_lead: None,
            held_back: false,
            asking_index: false,
        }
    }

    /// Whether the origin gives it only to those who have a credential, as far as is known here.
    pub(crate) fn is_private(&self) -> bool {
        self.private || self.credential.is_some()
    }

    /// It comes from there. Returns whether that is another registry or repository than before.
    pub(crate) fn comes_from(&mut self, source: &Source) -> bool {
        let old = core::mem::replace(&mut self.source, source.clone());
        let is_elsewhere = (&old.registry, &old.repository) != (&self.source.registry, &self.source.repository);
        if is_elsewhere {
            self.comes_back_at = Time::ZERO;
        }
        is_elsewhere
    }

    /// The origin says that the blob has this size.
    pub(crate) fn vouch_for_size(&mut self, size: u64) {
        self.size_vouched |= self.size == Some(size);
    }

    pub(crate) fn is_running(&self) -> bool {
        !matches!(self.stage, Stage::Queued)
    }

    /// Whether this node may be given pieces to fetch from the origin.
    pub(crate) fn can_fetch_origin(&self) -> bool {
        !self.turned_away && self.cools_down_until.is_none()
    }

    /// It leads, and the origin has turned this node away for want of a credential: whoever asks here without one is told so.
    pub(crate) fn wants_credential(&self) -> bool {
        let is_asked = self.challenge.as_ref().is_some_and(|challenge| !challenge.words.is_empty());
        self.role == Role::Leading && self.turned_away && self.credential.is_none() && is_asked
    }

    /// Whoever waited here was asked for a credential just now, and may be back with it in a moment.
    pub(crate) fn awaits_credential(&self, now: Time) -> bool {
        self.turned_away && now < self.awaits_credential_until
    }

    /// After a mismatch it fetches everything from the origin by itself. It follows nobody; whoever follows it gets nothing to
    /// fetch.
    pub(crate) fn is_alone(&self) -> bool {
        self.download.as_ref().is_some_and(Download::is_by_hand)
    }

    /// It is fetched ahead, and no peer waits for it to be led either.
    pub(crate) fn is_asked_by_nobody(&self) -> bool {
        self.ahead && (self.others_since.is_none() || mutant!("asked-for-and-still-ahead"))
    }

    /// After a mismatch: what was here is being made good.
    pub(crate) fn is_recovering(&self) -> bool {
        self.download.as_ref().is_some_and(Download::is_recovering)
    }

    /// What it has, as it travels; empty before the size is known.
    pub(crate) fn pieces_bytes(&self) -> Vec<u8> {
        self.download.as_ref().map(|download| download.have().to_bytes()).unwrap_or_default()
    }

    pub(crate) fn has_pieces(&self) -> bool {
        self.download.as_ref().is_some_and(|download| !download.have().is_empty())
    }

    /// A piece from a peer was for nothing: its bytes were no progress. A flight that gets nothing else has to complain to
    /// its tracker, and to end when its time is up.
    pub(crate) fn wasted(&mut self) {
        let origin_sends = self.download.as_ref().is_some_and(|download| download.origin_fetches() > 0);
        if !origin_sends {
            self.last_byte = self.last_piece;
        }
    }

    /// Since when it has tried to get a byte and has got none.
    pub(crate) fn idle_since(&self) -> Time {
        self.last_byte.max(self.stood_behind)
    }

    /// For how long it has tried to get a byte and has got none.
    pub(crate) fn idle(&self, now: Time) -> Duration {
        now - self.idle_since().max(self.started)
    }

    /// It has had no byte for so long that others would not count on it any more: for so long.
    pub(crate) fn stands_still(&self, now: Time) -> Option<Duration> {
        let patience = stall_window(self.source.kind, self.size);
        (self.stage.is_moving() && now - self.idle_since() >= patience).then_some(patience)
    }

    /// Its tracker has told so many midstates, and for how long (`quiet`) bytes have come to nobody, if it knows.
    pub(crate) fn tracker_tells(&mut self, now: Time, told: usize, quiet: Option<Duration>) {
        if let Some(quiet) = quiet.filter(|_| !mutant!("quiet-although-others-get-bytes")) {
            self.swarm_moved = self.swarm_moved.max(Some(now.earlier(quiet)));
        }
        let has_as_many = self.download.as_ref().is_some_and(|download| download.have().count() as usize >= told);
        if self.tracker_told.0 != told {
            let at = if has_as_many { Some(now) } else { self.tracker_told.1 };
            self.tracker_told = (told, at);
        }
    }

    /// For how long its tracker has done nothing that this node waits for. After a mismatch a tracker may fetch everything again by
    /// its own hand: it gives out nothing and moves all the same, and to look for another one before it has everything is wrong.
    /// One that has more than this node moves as well, and this node does not.
    pub(crate) fn tracker_is_quiet(&self, now: Time) -> Duration {
        let moved = self.tracker_told.1.filter(|_| !mutant!("tracker-that-moves-is-lost"));
        moved.map_or(Duration::MAX, |moved| now - moved)
    }

    pub(crate) fn follows(&self, peer: &PeerId) -> bool {
        matches!(&self.role, Role::Following(tracker) if tracker == peer)
    }
}

//! The leader's side of a swarm: who takes part, and who fetches which piece from the origin.
//!
//! Each piece is assigned to exactly one participant at a time. It is assigned again only when that participant has said
//! that it failed, has missed its deadline, or has gone; and when everybody who had the piece has gone.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::message::{FailureClass, Have};
use crate::names::PeerId;
use crate::piece::{Geometry, PieceSet};
use crate::swarm::outage::{MAX_RESTS, Outage};
use crate::swarm::pace::Pace;
pub(crate) use crate::swarm::tracker::assignments::Assignment;
use crate::swarm::tracker::wishes::Wishes;
use crate::time::Time;

/// A participant that has not been heard of for this long has gone. Participants enrol again every
/// [`ENROL_INTERVAL`](crate::agent::ENROL_INTERVAL).
pub(crate) const PARTICIPANT_TTL: Duration = Duration::from_secs(8);
/// A participant that has everything does not enrol any more, and is recommended for this long.
pub(crate) const SEED_TTL: Duration = Duration::from_secs(600);
/// The most runs that are out at a time, whatever the settings say; enough for an origin with 64 slow connections.
pub(crate) const MAX_WIDTH: u32 = 64;
/// A participant that has complained is thought to starve for this long; it complains once a second.
const STARVING: Duration = Duration::from_secs(2);
/// Most participants in one swarm: ten thousand nodes, and some.
pub(crate) const MAX_PARTICIPANTS: usize = 16_384;
/// So many runs does one participant fetch from the origin at a time, if the registry is not far away.
pub(crate) const RUNS_EACH: usize = 2;
/// So many at most: what a node fetches at a time unless it is told otherwise (`max_origin_fetches`).
pub(crate) const MOST_RUNS_EACH: usize = 6;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Participant {
    pieces: PieceSet,
    can_fetch: bool,
    has_credential: bool,
    paused_until: Time,
    /// It has let a run wait for too long, and is given none until then as long as there are others.
    late_until: Time,
    /// When it last said that it can get nothing: it has nothing better to do than to fetch.
    starved: Option<Time>,
    last_heard: Time,
    addresses: Vec<Arc<str>>,
    zone: Option<Arc<str>>,
    /// How often others were named to it, and it to others. Somewhat more than the neighbours that it has.
    links: usize,
    /// It was answered before.
    introduced: bool,
}

impl Participant {
    fn is_seed(&self) -> bool {
        self.pieces.universe() > 0 && self.pieces.is_full()
    }

    /// It may ask the registry, and was not told to wait.
    fn is_able(&self, now: Time) -> bool {
        self.can_fetch && self.paused_until <= now
    }

    fn starves(&self, now: Time) -> bool {
        self.starved.is_some_and(|at| now - at <= STARVING)
    }

    fn time_to_live(&self) -> Duration {
        if self.is_seed() { SEED_TTL } else { PARTICIPANT_TTL }
    }
}

/// What an origin failure means for the swarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verdict {
    /// Others will try.
    GoOn,
    /// Nobody here can get it now.
    Fail(FailureClass, Duration),
}

/// A participant as it introduces itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Introduction {
    pub(crate) pieces: Vec<u8>,
    pub(crate) can_fetch: bool,
    pub(crate) has_credential: bool,
    /// What it is fetching from the origin, whoever gave it to it: the first piece and how many.
    pub(crate) fetching: Vec<(u32, u32)>,
    pub(crate) addresses: Vec<Arc<str>>,
    pub(crate) zone: Option<Arc<str>>,
}

impl Introduction {
    /// The node of this configuration, which has the blob and needs nothing from the origin.
    pub(crate) fn of_seed(config: &Config) -> Self {
        Self { addresses: config.addresses.clone(), zone: config.zone.clone(), ..Self::default() }
    }
}

/// What the leader of one swarm knows. Also kept by a node that has the blob, for those who enrol there.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tracker {
    geometry: Option<Geometry>,
    participants: BTreeMap<PeerId, Participant>,
    /// For each piece, how many participants have it.
    holders: Vec<u16>,
    assignments: Vec<Assignment>,
    collecting_until: Time,
    /// Somebody was turned away by the origin, or says so: whoever has no credential may be as well.
    wants_credential: bool,
    outage: Outage,
    no_ranges: bool,
    pace: Pace,
    finished_runs: u64,
    /// Who has said what it was fetching when it came; also those who have gone.
    brought: BTreeSet<PeerId>,
    wishes: Wishes,
    /// Pieces that nobody has since somebody has gone who had them, or was fetching them.
    deserted: BTreeSet<u32>,
    /// When somebody last had a piece that it did not have before.
    last_news: Time,
    /// When somebody last said that bytes come of what it is to fetch.
    last_fetching: Time,
    /// Until then nobody has been silent for too long.
    all_heard_until: Time,
    /// Nobody is given nothing for longer than until then.
    all_paused_until: Time,
}

impl Tracker {
    /// The blob's size is known. Whoever was asked for the whole blob is fetching all of it (`whole_is_fetched`), or has
    /// only found out its size.
    pub(crate) fn learn(&mut self, geometry: Geometry, whole_is_fetched: bool) {
        if self.geometry.is_some() {
            return;
        }
        self.geometry = Some(geometry);
        self.holders = vec![0; geometry.pieces() as usize];
        if whole_is_fetched {
            for assignment in &mut self.assignments {
                assignment.is_of_whole(geometry.pieces());
            }
        } else {
            self.assignments.clear();
        }
        for participant in self.participants.values_mut() {
            participant.pieces = PieceSet::none(geometry.pieces());
        }
    }

    /// Waits with assignments until then: participants of an earlier leader say what they hold, the provider index
    /// answers.
    pub(crate) fn collect_until(&mut self, until: Time) {
        self.collecting_until = self.collecting_until.max(until);
    }

    /// There is nobody to wait for after all.
    pub(crate) fn collected(&mut self) {
        self.collecting_until = Time::ZERO;
    }

    /// Somebody takes part, or says that it still does. Returns whether it is a participant.
    pub(crate) fn enrol(&mut self, now: Time, peer: &PeerId, introduction: Introduction) -> bool {
        if !self.participants.contains_key(peer) && self.participants.len() >= MAX_PARTICIPANTS {
            return false;
        }
        let universe = self.geometry.map_or(0, |geometry| geometry.pieces());
        let participant = self.participants.entry(peer.clone()).or_insert_with(|| Participant {
            pieces: PieceSet::none(universe),
            can_fetch: introduction.can_fetch,
            has_credential: introduction.has_credential,
            paused_until: Time::ZERO,
            late_until: Time::ZERO,
            starved: None,
            last_heard: now,
            addresses: Vec::new(),
            zone: None,
            links: 0,
            introduced: false,
        });
        participant.last_heard = now;
        participant.can_fetch = introduction.can_fetch;
        participant.has_credential = introduction.has_credential;
        participant.addresses = introduction.addresses;
        participant.zone = introduction.zone;
        let pieces = PieceSet::from_bytes(universe, &introduction.pieces);
        self.holds(now, peer, &pieces);
        self.brings_runs(now, peer, &introduction.fetching);
        self.says_what_comes(now, peer, &introduction.fetching);
        true
    }

    /// A participant has these pieces, besides what it had.
    fn holds(&mut self, now: Time, peer: &PeerId, pieces: &PieceSet) {
        let Some(participant) = self.participants.get_mut(peer) else { return };
        participant.last_heard = now;
        for piece in pieces.iter() {
            if participant.pieces.insert(piece) {
                self.last_news = now;
                self.deserted.remove(&piece);
                self.holders[piece as usize] = self.holders[piece as usize].saturating_add(1);
            }
        }
        self.runs_move(now, peer);
    }

    /// When bytes last came to somebody, as far as is known: new pieces, or more of what somebody was given to fetch. `None`: never.
    pub(crate) fn moved(&self) -> Option<Time> {
        Some(self.last_news.max(self.last_fetching)).filter(|moved| *moved > Time::ZERO)
    }

    /// A participant says what it has. Returns whether it is a participant.
    pub(crate) fn heard(&mut self, now: Time, peer: &PeerId, have: &Have) -> bool {
        if !self.participants.contains_key(peer) {
            return false;
        }
        let universe = self.geometry.map_or(0, |geometry| geometry.pieces());
        let pieces = match have {
            Have::All => PieceSet::all(universe),
            Have::Exactly(bytes) => PieceSet::from_bytes(universe, bytes),
            Have::Also(list) => {
                let mut set = PieceSet::none(universe);
                for piece in list {
                    set.insert(*piece);
                }
                set
            }
        };
        self.holds(now, peer, &pieces);
        true
    }

    /// A participant has gone: what it was fetching is free again, and what only it had is wanted again.
    pub(crate) fn gone(&mut self, peer: &PeerId) {
        if let Some(participant) = self.participants.remove(peer) {
            // What it was fetching it may have got: whoever finds that the whole is wrong finds it with the last piece, and goes
            // before it tells of that.
            let fetched = self.assignments.iter().filter(|run| run.peer == *peer).flat_map(|run| run.first..run.end());
            let fetched: Vec<_> = fetched.filter(|piece| self.holders.get(*piece as usize) == Some(&0)).collect();
            self.deserted.extend(fetched);
            for piece in participant.pieces.iter() {
                let holders = &mut self.holders[piece as usize];
                *holders = holders.saturating_sub(1);
                if *holders == 0 {
                    self.deserted.insert(piece);
                }
            }
        }
        self.assignments.retain(|assignment| assignment.peer != *peer);
        self.wishes.gone(peer);
    }

    /// A participant can get `piece` from nobody. If it still cannot after it has been told who has it, it may fetch it
    /// itself.
    pub(crate) fn starving(&mut self, now: Time, peer: &PeerId, piece: u32) {
        if let Some(participant) = self.participants.get_mut(peer) {
            participant.starved = Some(now);
        }
        // What nobody has is given out in its turn, to one of them.
        let is_there = self.holders.get(piece as usize).is_some_and(|holders| *holders > 0);
        if !is_there || !self.participants.contains_key(peer) || self.is_assigned(piece) {
            return;
        }
        self.wishes.complain(now, peer, piece);
    }

    /// A fetch from the origin failed at `peer`: so many pieces from the first on, of one run or of several in a row.
    /// `origin_answers`: the origin is known to be there, so that a passing failure passes.
    pub(crate) fn unassigned(
        &mut self,
        now: Time,
        peer: &PeerId,
        (first, count): (u32, u32),
        (class, cooldown): (FailureClass, Duration),
        no_ranges: bool,
        origin_answers: bool,
    ) -> Verdict {
        let before = self.assignments.len();
        let failed = |run: &Assignment| run.count == 0 || run.has_had(first) || run.overlaps(first, count);
        self.assignments.retain(|run| run.peer != *peer || !failed(run));
        let is_paused = self.participants.get(peer).is_some_and(|participant| participant.paused_until > now);
        if matches!(class, FailureClass::RateLimited | FailureClass::Transient) {
            // The origin means the node and not the run: also when who led before gave it out, and when it said less of
            // another one.
            self.pause(peer, now + Outage::asked_for(cooldown));
        }
        if before == self.assignments.len() {
            // Not (any more) its run: late news change nothing else.
            return Verdict::GoOn;
        }
        if class == FailureClass::Transient {
            self.pace.failed();
        }
        if no_ranges {
            self.no_ranges = true;
            return Verdict::GoOn;
        }
        match class {
            FailureClass::Auth => {
                self.turned_away(peer);
                if self.participants.values().any(|participant| participant.can_fetch) {
                    Verdict::GoOn
                } else {
                    Verdict::Fail(class, cooldown)
                }
            }
            FailureClass::NotFound => Verdict::Fail(class, cooldown),
            FailureClass::RateLimited | FailureClass::Transient => {
                if is_paused {
                    // Another run of the same failure.
                    return Verdict::GoOn;
                }
                let able = |(other, it): (&PeerId, &Participant)| other != peer && it.can_fetch;
                let alone = !self.participants.iter().any(able);
                let pause = self.outage.failed(now, peer, alone, class, cooldown);
                self.pause(peer, now + pause);
                let has_answered = origin_answers || class == FailureClass::RateLimited || self.finished_runs > 0;
                if has_answered || self.outage.rests() < MAX_RESTS {
                    Verdict::GoOn
                } else {
                    Verdict::Fail(class, cooldown)
                }
            }
        }
    }

    /// The origin gives a participant nothing: what it was to fetch is free for others.
    pub(crate) fn turned_away(&mut self, peer: &PeerId) {
        self.wants_credential = true;
        self.set_can_fetch(peer, false);
        self.assignments.retain(|run| run.peer != *peer);
    }

    /// A participant is given nothing until then. What it was told before to wait for still holds.
    pub(crate) fn pause(&mut self, peer: &PeerId, until: Time) {
        if let Some(participant) = self.participants.get_mut(peer) {
            self.all_paused_until = self.all_paused_until.max(until);
            participant.paused_until = participant.paused_until.max(until);
        }
    }

    /// The origin has answered a question of this node: it asks for more now, and need not rest.
    pub(crate) fn origin_is_back(&mut self, now: Time, own: &PeerId) {
        self.outage.is_back(now);
        if let Some(participant) = self.participants.get_mut(own) {
            participant.paused_until = participant.paused_until.min(now);
        }
    }

    /// Drops participants that are silent (never `own`), and runs that are late: for how long this node waits for a piece from the
    /// same registry (`takes`), others may as well.
    pub(crate) fn expire(&mut self, now: Time, own: &PeerId, takes: Option<Duration>) {
        if now > self.all_heard_until {
            self.expire_participants(now, own);
        }
        self.expire_runs(now, own, takes);
    }

    /// There may be thousands: they are looked through when the first of them can have been silent for too long, and not
    /// before.
    fn expire_participants(&mut self, now: Time, own: &PeerId) {
        let is_silent = |participant: &Participant| now - participant.last_heard > participant.time_to_live();
        let others = self.participants.iter().filter(|(peer, _)| *peer != own);
        let silent: Vec<_> = others
            .filter(|(_, participant)| is_silent(participant) && !mutant!("silent-participant-kept"))
            .map(|(peer, _)| peer.clone())
            .collect();
        for peer in silent {
            self.gone(&peer);
        }
        let heard = self.participants.iter().filter(|(peer, _)| *peer != own).map(|(_, it)| it.last_heard);
        self.all_heard_until = heard.min().unwrap_or(now) + PARTICIPANT_TTL.min(SEED_TTL);
    }

    /// Whether a participant was sent to the origin to find out the size.
    pub(crate) fn has_sent_for_size(&self, peer: &PeerId) -> bool {
        self.geometry.is_none() && self.assignments.iter().any(|run| run.count == 0 && run.peer == *peer)
    }

    /// Runs that were fetched so far: when this grows, somebody is free for the next one.
    pub(crate) fn finished_runs(&self) -> u64 {
        self.finished_runs
    }

    /// Participants that still miss something.
    pub(crate) fn incomplete(&self) -> impl Iterator<Item = &PeerId> {
        self.participants.iter().filter(|(_, participant)| !participant.is_seed()).map(|(peer, _)| peer)
    }

    /// Whether somebody else who takes part and misses something may ask the origin.
    pub(crate) fn others_can_fetch(&self, own: &PeerId) -> bool {
        self.participants.iter().any(|(peer, it)| peer != own && it.can_fetch && !it.is_seed())
    }

    /// This node can ask the origin after all, or cannot.
    pub(crate) fn set_can_fetch(&mut self, peer: &PeerId, can_fetch: bool) {
        if let Some(participant) = self.participants.get_mut(peer) {
            participant.can_fetch = can_fetch;
        }
    }

    /// This node's requester has brought a credential, or has none.
    pub(crate) fn set_credential(&mut self, peer: &PeerId, has_credential: bool) {
        if let Some(participant) = self.participants.get_mut(peer) {
            participant.has_credential = has_credential;
        }
    }

    /// Whether somebody else who takes part may ask the origin, and has a credential for it.
    pub(crate) fn others_have_credential(&self, own: &PeerId) -> bool {
        self.participants.iter().any(|(peer, it)| peer != own && it.can_fetch && it.has_credential)
    }

    /// Whether something has come to those who take part, and the rest can: somebody else may ask the origin, or they have it.
    pub(crate) fn is_served_by_others(&self, own: &PeerId) -> bool {
        let has_come = self.finished_runs > 0 || self.holders.iter().any(|holders| *holders > 0);
        has_come && (self.others_can_fetch(own) || self.geometry.is_some() && self.next_run().is_none())
    }

    pub(crate) fn participants(&self) -> impl Iterator<Item = &PeerId> {
        self.participants.keys()
    }

    pub(crate) fn contains(&self, peer: &PeerId) -> bool {
        self.participants.contains_key(peer)
    }

    /// Something is missing, and nobody who takes part may ask the origin for it.
    pub(crate) fn is_stuck(&self, now: Time) -> bool {
        now >= self.collecting_until
            && self.assignments.is_empty()
            && !self.participants.values().any(|participant| participant.can_fetch)
            && self.next_run().is_some()
    }

    /// Something that `peer` misses is with others, and nobody who misses anything may ask the origin: what those others do
    /// not give it, it will not get. And for `patience` nobody has got anything that it could be given yet.
    pub(crate) fn depends_on_others(&self, now: Time, peer: &PeerId, patience: Duration) -> bool {
        self.geometry.is_some()
            && now - self.last_news >= patience
            && self.assignments.is_empty()
            && self.next_run().is_none()
            && !self.participants.values().any(|participant| participant.can_fetch && !participant.is_seed())
            && self.participants.get(peer).is_some_and(|participant| !participant.is_seed())
    }

    /// When something here is due: a late run, the end of collecting or of a pause.
    pub(crate) fn next_due(&self, now: Time) -> Option<Time> {
        let paused = if self.all_paused_until > now { Some(&self.participants) } else { None };
        let pauses = paused.into_iter().flat_map(BTreeMap::values).map(|participant| participant.paused_until);
        self.assignments
            .iter()
            .map(|run| run.until)
            .chain(pauses)
            .chain([self.collecting_until, self.outage.until()])
            .filter(|at| *at > now)
            .min()
    }
}

mod assignments;
mod handing_out;
pub(crate) mod introductions;
#[cfg(test)]
mod tests;
mod wishes;

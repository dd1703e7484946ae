//! What failed lately: for how long a digest is not tried again, and which peers are not asked.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::message::{FailureClass, RecentFailure};
use crate::names::{PeerId, Source};
use crate::time::Time;

/// The first cool-down (Gantry: 10 s).
pub const FIRST_COOLDOWN: Duration = Duration::from_secs(10);
/// Each failure in a row makes the cool-down this many times as long (Gantry: 3).
pub const LADDER_FACTOR: u32 = 3;
/// The longest cool-down (Gantry: 10 min).
pub const LONGEST_COOLDOWN: Duration = Duration::from_secs(600);
/// A digest that did not fail for this long after its cool-down starts again at the bottom of the ladder.
pub const LADDER_MEMORY: Duration = Duration::from_secs(1200);
/// The longest that another node's transient failure is honoured without asking again (Gantry: 30 s).
pub const LONGEST_HONOUR: Duration = Duration::from_secs(30);
/// What the registry did not have, or did not send, it is asked for again, by one question, when containerd asks for it this long
/// afterwards, whatever is left of the cool-down: containerd asks the registry itself otherwise, and takes all of it from there if it
/// is well by then. Shorter than the kubelet's first back-off (10 s); longer than what containerd takes to ask again for the rest of a
/// body that was cut.
pub const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// After more failures in a row than this, though each time the registry had said that it has the digest or the cool-down was over,
/// that of the last one is kept: what goes wrong here may go right for containerd.
pub const LOOKS_IN_VAIN: u32 = 2;
/// A peer that sent wrong bytes is not asked for that blob again for this long: longer than any pull. (Gantry: 5 min,
/// which a large layer outlives.)
pub const CONVICTION: Duration = Duration::from_secs(3600);
/// A peer that sent what cannot be read, or does not fit as far as can be known yet, is not asked for that blob again for this
/// long: the line may have spoiled it, or somebody else may have lied. Each time in a row makes it [`LADDER_FACTOR`] times as long, up to that of a conviction.
pub const FIRST_SPOILED: Duration = Duration::from_secs(5);
/// A peer that cannot be reached is not asked for anything for this long.
pub const UNREACHABLE_SUPPRESSION: Duration = Duration::from_secs(3);
/// An origin that has answered at all within this time is there: that it fails now is an outage, and passes.
pub const ORIGIN_MEMORY: Duration = Duration::from_secs(3600);
/// A blob that was not what it was, and was fetched again, and is not what it was again within this time: the disk spoils what it
/// is given. Longer than the kubelet's longest back-off (5 min) and a fetch from a slow registry, so that the next try of a pull counts.
pub const ROTTEN_MEMORY: Duration = Duration::from_secs(3600);
/// What comes from a disk that has forgotten something is doubted for this long, and one that spoils what it is given gets nothing more
/// for as long: disks do not heal, memory and cables are replaced.
pub const DISK_DISTRUST: Duration = Duration::from_secs(3600);
/// Most entries in each memory; the oldest knowledge is the first to go.
pub const MAX_ENTRIES: usize = 4096;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    class: FailureClass,
    /// Failures in a row.
    strikes: u32,
    since: Time,
    until: Time,
    challenge: Option<Challenge>,
    remedy: Remedy,
}

/// Who may still give a digest to this node in the cool-down of its failure, when containerd asks for it again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Remedy {
    /// Whoever has it, and the registry, if it answers a question about it.
    #[default]
    Anybody,
    /// Whoever has it: what the registry sent was wrong.
    Peers,
    /// Nobody: it could not be kept here.
    Nobody,
}

/// In which words a registry has asked for a credential for a repository. They say where containerd takes its secret: they are not
/// for whoever asks another registry for the same blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Challenge {
    pub(crate) source: Source,
    /// Empty: it gave none.
    pub(crate) words: Vec<Arc<str>>,
}

impl Challenge {
    /// Whether this is what whoever asks for a blob of `source` would be answered.
    pub(crate) fn is_of(&self, source: &Source) -> bool {
        self.source.registry == source.registry && self.source.repository == source.repository
    }
}

/// Why a peer is not asked for a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Suppression {
    /// It led a swarm that did not move.
    Stalled,
    /// It sent what cannot be read, or does not seem to fit.
    Spoiled,
    /// It sent wrong bytes.
    Convicted,
}

/// A digest that is left alone for another node's sake, or so that containerd goes on to the next host.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Honour {
    until: Time,
    /// Somebody has said, then, that there is nothing to be had. That is worth another look soon.
    said: Option<Time>,
}

/// The failure memories of one node. Instants are this node's own; only durations leave it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Failures {
    digests: BTreeMap<Digest, Entry>,
    honoured: BTreeMap<Digest, Honour>,
    /// What was stored and is not what it was, until when that counts.
    rotten: BTreeMap<Digest, Time>,
    /// When it was last found that the disk has forgotten something.
    disk_forgot: Option<Time>,
    /// The disk spoils what it is given; until when that counts.
    disk_spoils: Option<Time>,
    suppressed: BTreeMap<(Digest, PeerId), (Suppression, Time)>,
    /// Pieces in a row that could not be read or did not fit, and since when they do not count any more.
    spoiled: BTreeMap<(Digest, PeerId), (u32, Time)>,
    unreachable: BTreeMap<PeerId, Time>,
    /// Registries that answered, until when that counts.
    answering: BTreeMap<Arc<str>, Time>,
    /// When something of what a registry has last came, from itself or from peers.
    moving: BTreeMap<Arc<str>, Time>,
}

impl Failures {
    /// Notes a failed pull and returns how long to leave the digest alone. A failure climbs the ladder unless the last
    /// one is forgotten; looking an entry up does not make it forget.
    pub(crate) fn failed(
        &mut self,
        now: Time,
        digest: Digest,
        class: FailureClass,
        retry_after: Option<Duration>,
        challenge: Option<Challenge>,
    ) -> Duration {
        let strikes = match self.digests.get(&digest) {
            Some(entry) if entry.until + LADDER_MEMORY > now => {
                entry.strikes + u32::from(!mutant!("cooldown-never-climbs"))
            }
            _ => 1,
        };
        let ladder =
            FIRST_COOLDOWN.saturating_mul(LADDER_FACTOR.saturating_pow(strikes.min(8) - 1)).min(LONGEST_COOLDOWN);
        // The origin's word counts, up to the longest cool-down: a server must not be able to park an image for a day.
        let cooldown = ladder.max(retry_after.unwrap_or_default().min(LONGEST_COOLDOWN));
        self.digests.insert(
            digest,
            Entry { class, strikes, since: now, until: now + cooldown, challenge, remedy: Remedy::Anybody },
        );
        bound(&mut self.digests, |entry| entry.until);
        cooldown
    }

    /// Notes who may still give a digest that has just failed to this node.
    pub(crate) fn leave_to(&mut self, digest: &Digest, remedy: Remedy) {
        if let Some(entry) = self.digests.get_mut(digest) {
            entry.remedy = remedy;
        }
    }

    /// Who may still give a digest to this node that it could not get lately.
    pub(crate) fn remedy(&self, now: Time, digest: &Digest) -> Remedy {
        self.digests.get(digest).filter(|entry| entry.until > now).map(|entry| entry.remedy).unwrap_or_default()
    }

    /// Forgets the failures of a digest: it worked.
    pub(crate) fn succeeded(&mut self, digest: &Digest) {
        if !mutant!("ladder-never-reset") {
            self.digests.remove(digest);
        }
        self.honoured.remove(digest);
    }

    /// The failure that has not cooled down yet.
    pub(crate) fn recent(&self, now: Time, digest: &Digest) -> Option<RecentFailure> {
        let entry = self.digests.get(digest).filter(|entry| entry.until > now || mutant!("failure-never-expires"))?;
        let from = if mutant!("cooldown-told-as-instant") { Time::ZERO } else { now };
        Some(RecentFailure { class: entry.class, cooldown: entry.until - from })
    }

    /// The challenge that came with the last failure of class `auth`.
    pub(crate) fn challenge(&self, digest: &Digest) -> Option<&Challenge> {
        self.digests.get(digest)?.challenge.as_ref()
    }

    /// Leaves a digest alone because another node failed, or the registry has said so to this one: at most [`LONGEST_HONOUR`], and for
    /// containerd only [`LOOK_AGAIN`].
    pub(crate) fn honour(&mut self, now: Time, digest: Digest, cooldown: Duration) {
        let is_sent_on = self.honoured.get(&digest).is_some_and(|it| it.until > now && it.said.is_none());
        if !is_sent_on {
            self.leave_alone(now, digest, cooldown, Some(now));
        }
    }

    /// Whoever asks for a digest is to go on to the next host for so long: at most [`LONGEST_HONOUR`].
    pub(crate) fn send_on(&mut self, now: Time, digest: Digest, length: Duration) {
        self.leave_alone(now, digest, length, None);
    }

    fn leave_alone(&mut self, now: Time, digest: Digest, cooldown: Duration, said: Option<Time>) {
        let longest = if mutant!("honour-without-limit") { LONGEST_COOLDOWN } else { LONGEST_HONOUR };
        self.honoured.insert(digest, Honour { until: now + cooldown.min(longest), said });
        bound(&mut self.honoured, |it| it.until);
    }

    /// How long a digest is still left alone for another node's sake.
    pub(crate) fn honoured(&self, now: Time, digest: &Digest) -> Option<Duration> {
        self.honoured.get(digest).filter(|it| it.until > now).map(|it| it.until - now)
    }

    /// Whether containerd is to go on to the next host with a digest, whatever its own failure was. Because of another
    /// node's it does so only for [`LOOK_AGAIN`], and not if `is_coming` says that somebody fetches it all the same.
    pub(crate) fn is_left_alone(&self, now: Time, digest: &Digest, is_coming: bool) -> bool {
        let Some(honour) = self.honoured.get(digest).filter(|it| it.until > now) else { return false };
        honour.said.is_none_or(|said| !is_coming && !is_old(now, said))
    }

    /// Whether a digest that failed may be looked for again on behalf of containerd, which would ask the registry itself. `is_coming`:
    /// somebody fetches it all the same.
    pub(crate) fn may_look_again(&self, now: Time, digest: &Digest, is_coming: bool) -> bool {
        let Some(entry) = self.digests.get(digest).filter(|entry| entry.remedy != Remedy::Nobody) else { return false };
        match entry.class {
            FailureClass::Auth => false,
            FailureClass::NotFound => is_coming || is_old(now, entry.since),
            FailureClass::RateLimited | FailureClass::Transient => {
                let is_worth_it = entry.strikes <= LOOKS_IN_VAIN && !mutant!("out-of-order-for-the-whole-cool-down");
                is_coming || is_worth_it && is_old(now, entry.since)
            }
        }
    }

    /// The registry says that it has it: nobody need be told any more that it failed. How often it did is not forgotten.
    pub(crate) fn found(&mut self, now: Time, digest: &Digest) {
        let is_over = |entry: &&mut Entry| entry.class != FailureClass::Auth && entry.remedy == Remedy::Anybody;
        if let Some(entry) = self.digests.get_mut(digest).filter(is_over) {
            entry.until = entry.until.min(now);
        }
        if self.honoured.get(digest).is_some_and(|it| it.said.is_some()) {
            self.honoured.remove(digest);
        }
    }

    /// Notes that a stored blob is not what it was. Returns whether that shows that the disk spoils what it is given: it was so
    /// within [`ROTTEN_MEMORY`] already, and the blob was fetched again.
    pub(crate) fn rotted(&mut self, now: Time, digest: Digest) -> bool {
        let before = self.rotten.insert(digest, now + ROTTEN_MEMORY);
        bound(&mut self.rotten, |until| *until);
        self.disk_forgot = Some(now);
        let again = before.is_some_and(|until| until > now) && !mutant!("spoiling-disk-asked-for-ever");
        if again {
            self.disk_spoils = Some(now + DISK_DISTRUST);
        }
        again
    }

    /// Since when something that is stored here and was not hashed since may not be what it was.
    pub(crate) fn disk_forgot(&self, now: Time) -> Option<Time> {
        let at = self.disk_forgot.filter(|at| now - *at < DISK_DISTRUST)?;
        (!mutant!("rot-of-others-unsuspected")).then_some(at)
    }

    /// Whether nothing should be given to the disk.
    pub(crate) fn disk_spoils(&self, now: Time) -> bool {
        self.disk_spoils.is_some_and(|until| until > now)
    }

    pub(crate) fn suppress(&mut self, now: Time, digest: Digest, peer: PeerId, why: Suppression, length: Duration) {
        let entry = (why, now + length);
        let slot = self.suppressed.entry((digest, peer)).or_insert(entry);
        // A conviction is not shortened by a lesser reason.
        if slot.1 <= now || entry.0 >= slot.0 {
            *slot = entry;
        }
        bound(&mut self.suppressed, |entry| entry.1);
    }

    /// A piece from a peer could not be read or does not seem to fit: it is not asked for a while.
    pub(crate) fn spoiled(&mut self, now: Time, digest: Digest, peer: &PeerId) {
        let (times, until) = self.spoiled.entry((digest, peer.clone())).or_insert((0, now));
        *times = if *until + LADDER_MEMORY > now { *times + 1 } else { 1 };
        let pause = FIRST_SPOILED.saturating_mul(LADDER_FACTOR.saturating_pow((*times).min(8) - 1)).min(CONVICTION);
        *until = now + pause;
        bound(&mut self.spoiled, |(_, until)| *until);
        self.suppress(now, digest, peer.clone(), Suppression::Spoiled, pause);
    }

    /// What spoke against those who sent pieces of a blob that do not fit was itself wrong. Convictions stand.
    pub(crate) fn pardon(&mut self, digest: Digest) {
        self.spoiled.retain(|(of, _), _| *of != digest);
        self.suppressed.retain(|(of, _), (why, _)| *of != digest || *why != Suppression::Spoiled);
    }

    /// A piece from a peer was as it should be.
    pub(crate) fn readable(&mut self, digest: Digest, peer: &PeerId) {
        if !self.spoiled.is_empty() {
            self.spoiled.remove(&(digest, peer.clone()));
        }
    }

    pub(crate) fn suppressed(&self, now: Time, digest: Digest, peer: &PeerId) -> Option<Suppression> {
        if self.suppressed.is_empty() {
            return None;
        }
        self.suppressed.get(&(digest, peer.clone())).filter(|(_, until)| *until > now).map(|(why, _)| *why)
    }

    /// Whether a peer is convicted for any blob.
    pub(crate) fn is_convicted(&self, now: Time, peer: &PeerId) -> bool {
        let convicted = |((_, of), (why, until)): (&(Digest, PeerId), &(Suppression, Time))| {
            of == peer && *why == Suppression::Convicted && *until > now
        };
        self.suppressed.iter().any(convicted)
    }

    pub(crate) fn unreachable(&mut self, now: Time, peer: PeerId) {
        if mutant!("unreachable-asked-at-once") {
            return;
        }
        self.unreachable.insert(peer, now + UNREACHABLE_SUPPRESSION);
        bound(&mut self.unreachable, |until| *until);
    }

    pub(crate) fn reached(&mut self, peer: &PeerId) {
        self.unreachable.remove(peer);
    }

    pub(crate) fn is_unreachable(&self, now: Time, peer: &PeerId) -> bool {
        self.unreachable.get(peer).is_some_and(|until| *until > now)
    }

    /// A registry has answered, with whatever status.
    pub(crate) fn origin_answered(&mut self, now: Time, registry: &Arc<str>) {
        self.answering.insert(registry.clone(), now + ORIGIN_MEMORY);
        bound(&mut self.answering, |until| *until);
    }

    /// Whether a registry has answered lately.
    pub(crate) fn origin_answers(&self, now: Time, registry: &Arc<str>) -> bool {
        self.answering.get(registry).is_some_and(|until| *until > now)
    }

    /// Bytes of a blob came that is this registry's: from itself, or pieces of it from peers.
    pub(crate) fn bytes_came(&mut self, now: Time, registry: &Arc<str>) {
        match self.moving.get_mut(registry) {
            Some(last) => *last = now,
            None => {
                self.moving.insert(registry.clone(), now);
                bound(&mut self.moving, |last| *last);
            }
        }
    }

    /// How long ago bytes of a blob of this registry last came, of whichever. `None`: not within an hour.
    pub(crate) fn nothing_came_for(&self, now: Time, registry: &Arc<str>) -> Option<Duration> {
        self.moving.get(registry).map(|last| now - *last)
    }

    /// Whether a peer may be asked for a blob now.
    pub(crate) fn may_ask(&self, now: Time, digest: Digest, peer: &PeerId) -> bool {
        !self.is_unreachable(now, peer)
            && (self.suppressed(now, digest, peer).is_none() || mutant!("convicted-asked-again"))
    }

    /// Drops what has faded.
    pub(crate) fn sweep(&mut self, now: Time) {
        self.digests.retain(|_, entry| entry.until + LADDER_MEMORY > now);
        self.honoured.retain(|_, it| it.until > now);
        self.rotten.retain(|_, until| *until > now);
        self.suppressed.retain(|_, (_, until)| *until > now);
        self.spoiled.retain(|_, (_, until)| *until + LADDER_MEMORY > now);
        self.unreachable.retain(|_, until| *until > now);
        self.answering.retain(|_, until| *until > now);
        self.moving.retain(|_, last| *last + ORIGIN_MEMORY > now);
    }

    /// The digests with a failure in memory.
    pub(crate) fn digests(&self) -> impl Iterator<Item = &Digest> {
        self.digests.keys()
    }

    /// Number of digests with a failure in memory.
    pub(crate) fn len(&self) -> usize {
        self.digests.len()
    }
}

/// Whether the registry said so long enough ago to be asked again.
fn is_old(now: Time, said: Time) -> bool {
    now - said >= LOOK_AGAIN && !mutant!("not-looked-for-again")
}

/// Keeps a memory at its bound by dropping the entry that fades first.
fn bound<K: Ord + Clone, V>(memory: &mut BTreeMap<K, V>, until: impl Fn(&V) -> Time) {
    while memory.len() > MAX_ENTRIES {
        let Some(first) = memory.iter().min_by_key(|(_, value)| until(value)).map(|(key, _)| key.clone()) else {
            return;
        };
        memory.remove(&first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: Digest = Digest::from_bytes([1; 32]);

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_blob_that_rots_again_soon_shows_that_the_disk_spoils_what_it_gets() {
        let mut failures = Failures::default();
        assert!(!failures.rotted(at(0), DIGEST), "a disk forgets now and then");
        failures.sweep(at(3599));
        assert!(!failures.rotted(at(3599), Digest::from_bytes([2; 32])), "that may have been at the same time");
        assert!(failures.disk_forgot(at(3599)) == Some(at(3599)) && !failures.disk_spoils(at(3599)));
        assert!(failures.rotted(at(3599), DIGEST));
        assert!(failures.disk_spoils(at(3599 + 3599)) && !failures.disk_spoils(at(3599 + 3600)));
        assert_eq!(failures.disk_forgot(at(3599 + 3600)), None);
        failures.sweep(at(3599 + 3600));
        assert!(!failures.rotted(at(3599 + 3600), DIGEST), "the last time is too long ago");
    }

    #[test]
    fn the_ladder_climbs_although_expired_entries_are_looked_up() {
        let mut failures = Failures::default();
        let mut now = at(0);
        let mut cooldowns = Vec::new();
        for _ in 0..6 {
            let cooldown = failures.failed(now, DIGEST, FailureClass::Transient, None, None);
            cooldowns.push(cooldown.as_secs());
            assert!(failures.recent(now, &DIGEST).is_some());
            now = now + cooldown;
            assert_eq!(failures.recent(now, &DIGEST), None);
            failures.sweep(now);
        }
        assert_eq!(cooldowns, [10, 30, 90, 270, 600, 600]);
    }

    #[test]
    fn success_and_long_quiet_start_the_ladder_again() {
        let mut failures = Failures::default();
        failures.failed(at(0), DIGEST, FailureClass::Transient, None, None);
        failures.failed(at(0), DIGEST, FailureClass::Transient, None, None);
        failures.succeeded(&DIGEST);
        assert_eq!(failures.failed(at(0), DIGEST, FailureClass::Transient, None, None).as_secs(), 10);
        let later = at(10) + LADDER_MEMORY;
        assert_eq!(failures.failed(later, DIGEST, FailureClass::Transient, None, None).as_secs(), 10);
    }

    #[test]
    fn retry_after_lengthens_a_cooldown_within_reason() {
        let mut failures = Failures::default();
        let hour = Some(Duration::from_secs(3600));
        assert_eq!(failures.failed(at(0), DIGEST, FailureClass::RateLimited, hour, None), LONGEST_COOLDOWN);
    }

    #[test]
    fn what_failed_is_looked_for_again_but_not_after_three_failures_in_a_row() {
        let mut failures = Failures::default();
        let mut fail = |remedy| {
            failures.failed(at(0), DIGEST, FailureClass::Transient, None, None);
            failures.leave_to(&DIGEST, remedy);
            [at(4), at(5)].map(|now| failures.may_look_again(now, &DIGEST, false))
        };
        assert_eq!(fail(Remedy::Anybody), [false, true]);
        assert_eq!(fail(Remedy::Peers), [false, true]);
        assert_eq!(fail(Remedy::Anybody), [false, false], "the registry has said twice that it has it");
        assert!(failures.may_look_again(at(4), &DIGEST, true), "somebody fetches it");
        failures.succeeded(&DIGEST);
        failures.failed(at(0), DIGEST, FailureClass::Transient, None, None);
        failures.leave_to(&DIGEST, Remedy::Nobody);
        assert!(!failures.may_look_again(at(9), &DIGEST, true), "it cannot be kept here");
        failures.found(at(9), &DIGEST);
        assert!(failures.recent(at(9), &DIGEST).is_some(), "that the registry has it does not help");
    }

    #[test]
    fn another_nodes_failure_is_honoured_for_thirty_seconds_at_most() {
        let mut failures = Failures::default();
        failures.honour(at(0), DIGEST, Duration::from_secs(500));
        assert_eq!(failures.honoured(at(0), &DIGEST), Some(LONGEST_HONOUR));
        assert_eq!(failures.honoured(at(30), &DIGEST), None);
    }

    #[test]
    fn a_conviction_outlives_lesser_reasons() {
        let mut failures = Failures::default();
        let peer = PeerId::new("p");
        failures.suppress(at(0), DIGEST, peer.clone(), Suppression::Convicted, CONVICTION);
        failures.suppress(at(1), DIGEST, peer.clone(), Suppression::Stalled, LONGEST_HONOUR);
        assert_eq!(failures.suppressed(at(1000), DIGEST, &peer), Some(Suppression::Convicted));
        assert!(!failures.may_ask(at(1000), DIGEST, &peer));
        assert!(failures.may_ask(at(1000), Digest::from_bytes([2; 32]), &peer));
    }

    #[test]
    fn what_cannot_be_read_costs_little_at_first_and_an_hour_when_nothing_else_comes() {
        let mut failures = Failures::default();
        let (peer, mut now) = (PeerId::new("p"), at(0));
        let mut pauses = Vec::new();
        for _ in 0..8 {
            failures.spoiled(now, DIGEST, &peer);
            assert!(!failures.is_convicted(now, &peer));
            let start = now;
            while !failures.may_ask(now, DIGEST, &peer) {
                now = now + Duration::from_secs(5);
            }
            pauses.push((now - start).as_secs());
            failures.sweep(now);
        }
        assert_eq!(pauses, [5, 15, 45, 135, 405, 1215, 3600, 3600]);
        failures.readable(DIGEST, &peer);
        failures.spoiled(now, DIGEST, &peer);
        assert!(failures.may_ask(now + FIRST_SPOILED, DIGEST, &peer));
    }

    #[test]
    fn the_memories_are_bounded() {
        let mut failures = Failures::default();
        for index in 0..MAX_ENTRIES as u64 + 10 {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&index.to_be_bytes());
            failures.failed(at(index), Digest::from_bytes(bytes), FailureClass::Transient, None, None);
        }
        assert_eq!(failures.len(), MAX_ENTRIES);
    }
}

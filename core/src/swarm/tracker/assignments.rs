//! Runs that are out: who fetches what from the origin, how far that is, and when it is somebody else's.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::names::PeerId;
use crate::piece::Geometry;
use crate::swarm::most_of_run;
use crate::swarm::pace::Took;
use crate::swarm::tracker::{MAX_PARTICIPANTS, MAX_WIDTH, PARTICIPANT_TTL, RUNS_EACH, Tracker};
use crate::time::Time;

/// A run has about this many bytes, and at least one piece: enough to make a request worth while, little enough that the
/// first pieces are soon with many participants, and that a fetcher that dies loses no more.
const RUN_BYTES: u64 = 1024 * 1024;
/// The shortest time that a fetcher gets for a run.
const MIN_DEADLINE: Duration = Duration::from_secs(10);
/// A fetcher gets this many times what runs have taken so far.
const DEADLINE_FACTOR: u32 = 4;
/// Nobody is late with a first piece before this many times what one takes here, on this node, from the same registry; but for no
/// more than so many deadlines.
const SLOW_FACTOR: (u32, u32) = (2, 4);

/// A run of pieces that somebody is fetching from the origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Assignment {
    pub(crate) peer: PeerId,
    pub(crate) first: u32,
    /// 0: the whole blob, whose size is not known.
    pub(crate) count: u32,
    pub(crate) deadline: Duration,
    /// Others have it, and this participant could get it from none of them.
    pub(super) is_wish: bool,
    /// When it was handed out, if this node has done so.
    since: Option<Time>,
    /// When its first piece was known to be there, and how many it had.
    began: Option<Time>,
    pieces: u32,
    pub(super) until: Time,
    /// Bytes of it come, as its fetcher said when it was last heard.
    comes: bool,
    /// It has been given more time, because the registry is slow.
    is_excused: bool,
}

impl Assignment {
    /// The whole blob was asked for, and this is how many pieces it has.
    pub(super) fn is_of_whole(&mut self, pieces: u32) {
        (self.count, self.pieces) = (pieces, pieces);
    }

    pub(super) fn end(&self) -> u32 {
        self.first + self.count
    }

    /// Whether a piece was part of it when it was handed out. (Others may have given its fetcher what it was to begin with.)
    pub(super) fn has_had(&self, piece: u32) -> bool {
        (self.end().saturating_sub(self.pieces)..self.end()).contains(&piece)
    }

    pub(super) fn has(&self, piece: u32) -> bool {
        (self.first..self.end()).contains(&piece)
    }

    pub(super) fn overlaps(&self, first: u32, count: u32) -> bool {
        first < self.end() && self.first < first.saturating_add(count)
    }
}

impl Tracker {
    pub(super) fn hand_out(&mut self, now: Time, peer: PeerId, first: u32, count: u32, is_wish: bool) -> Assignment {
        let deadline = self.deadline(first, count);
        let (since, until) = (Some(now), now + deadline);
        let (began, pieces) = (None, count);
        let assignment = Assignment {
            peer,
            first,
            count,
            deadline,
            is_wish,
            since,
            began,
            pieces,
            until,
            comes: false,
            is_excused: false,
        };
        self.assignments.push(assignment.clone());
        assignment
    }

    /// How long a run may take until its first piece is here, as far as is known now.
    fn deadline(&self, first: u32, count: u32) -> Duration {
        MIN_DEADLINE.max(self.pace.typical() * DEADLINE_FACTOR) + self.allowance(first, count)
    }

    /// What a run gets for its size. One byte a microsecond is 1 MB/s: slower origins teach us by what runs take. Longer ones than
    /// usual get no more: it is for the first piece, and then for each of the others.
    fn allowance(&self, first: u32, count: u32) -> Duration {
        let Some(geometry) = self.geometry.filter(|_| count > 0) else { return Duration::ZERO };
        let is_whole = count == geometry.pieces();
        let count = if is_whole { count } else { count.min(self.usual_run(geometry) as u32) };
        let bytes = geometry.range(first + count - 1).end.saturating_sub(geometry.range(first).start);
        Duration::from_micros(bytes)
    }

    /// The longest run that is handed out, in pieces.
    pub(super) fn longest_run(&self, geometry: Geometry) -> usize {
        let usual = self.usual_run(geometry);
        let length = self.pace.length(usual);
        // A registry that limits requests gets few of them, however slow it is.
        let length = if self.outage.run_factor() > 1 { length.max(usual) } else { length };
        length.min(most_of_run(geometry).max(usual)) as usize
    }

    /// How many times as long as usual runs are the longest ones may be.
    pub(super) fn most_doubled(&self) -> u64 {
        self.geometry.map_or(1, |geometry| most_of_run(geometry) / self.usual_run(geometry))
    }

    /// A usual run if the registry is neither slow nor far away, in pieces.
    fn usual_run(&self, geometry: Geometry) -> u64 {
        (RUN_BYTES * self.outage.run_factor() / geometry.piece_bytes()).max(1)
    }

    /// A participant that comes from another leader says that it is fetching these runs, and that bytes of them come: they are not
    /// given out once more. It is a participant's word, so it counts once, and for no more than would be given out here: what is
    /// left of a longer run is given out again. What it says later changes nothing: a run that is late is late.
    pub(super) fn brings_runs(&mut self, now: Time, peer: &PeerId, runs: &[(u32, u32)]) {
        let Some(geometry) = self.geometry else { return };
        if self.brought.len() >= MAX_PARTICIPANTS || !self.brought.insert(peer.clone()) || self.no_ranges {
            return;
        }
        let mut left = RUNS_EACH;
        for (first, count) in runs {
            if left == 0 {
                break;
            }
            let end = first.saturating_add(*count).min(geometry.pieces());
            let is_missing = |piece: &u32| self.holders.get(*piece as usize).is_some_and(|holders| *holders == 0);
            let is_free = |piece: &u32| is_missing(piece) && !self.is_assigned(*piece);
            let most = self.longest_run(geometry).max(self.usual_run(geometry) as usize);
            let count = (*first..end).take(most).take_while(is_free).count();
            if count > 0 && !mutant!("what-is-on-its-way-given-out-again") {
                left -= 1;
                self.hand_out(now, peer.clone(), *first, count as u32, false);
                if let Some(run) = self.assignments.last_mut() {
                    run.since = None;
                }
            }
        }
    }

    /// A participant says of which runs bytes come (or may: it has begun with them just now, and that says nothing).
    pub(super) fn says_what_comes(&mut self, now: Time, peer: &PeerId, fetching: &[(u32, u32)]) {
        for run in self.assignments.iter_mut().filter(|run| run.peer == *peer) {
            let is_old = run.since.is_none_or(|since| now - since >= PARTICIPANT_TTL / 2);
            // What goes on in the next run may be one request with it.
            run.comes = is_old && fetching.iter().any(|(first, count)| run.overlaps(*first, *count));
            if run.comes {
                self.last_fetching = now;
            }
        }
    }

    /// Takes off what `peer` has of the runs that it was given.
    pub(super) fn runs_move(&mut self, now: Time, peer: &PeerId) {
        let Some(participant) = self.participants.get(peer) else { return };
        let usual = self.geometry.map_or(1, |geometry| self.usual_run(geometry)) as u32;
        let (mut finished, mut comes) = (Vec::new(), false);
        self.assignments.retain_mut(|run| {
            if run.peer != *peer || run.count == 0 {
                return true;
            }
            let (end, before) = (run.end(), run.first);
            while run.first < end && participant.pieces.contains(run.first) {
                run.first += 1;
            }
            run.count = end - run.first;
            if run.first > before {
                run.began = run.began.or(Some(now));
                // Of a long run, as much as a usual one has.
                comes |=
                    run.since.is_some() && (run.pieces - run.count) / usual > (run.pieces - (end - before)) / usual;
                // The rest gets a deadline of its own.
                run.until = now + run.deadline;
                run.is_excused = false;
            }
            if run.count == 0 {
                let began = run.began.unwrap_or(now);
                finished.push(run.since.map(|since| Took::of(now - since, began - since, run.pieces)));
            }
            run.count > 0
        });
        // Somebody is free for the next one, whoever gave it this one; and its pieces come from the origin.
        self.finished_runs += finished.len() as u64;
        // How long it took, and that the origin is over its outage, only those tell that this node has handed out.
        if comes || finished.iter().any(Option::is_some) {
            self.outage.succeeded();
        }
        for took in finished.into_iter().flatten() {
            self.pace.finished(took, MAX_WIDTH);
        }
    }

    /// Drops runs that are late: somebody else is to fetch them. `takes`: for how long this node waits for a piece from the same
    /// registry, as it looks now. Whoever has not begun a run, or has dropped it, is late all the same; this node gives back what it
    /// drops.
    pub(super) fn expire_runs(&mut self, now: Time, own: &PeerId, takes: Option<Duration>) {
        let takes = takes.filter(|_| !mutant!("slow-registry-is-late"));
        if let Some(takes) = takes.map(|takes| takes * SLOW_FACTOR.0) {
            for run in self
                .assignments
                .iter_mut()
                .filter(|run| run.until <= now && !run.is_excused && (run.comes || run.peer == *own))
            {
                run.is_excused = true;
                run.until = run.until + takes.min(run.deadline * SLOW_FACTOR.1).saturating_sub(run.deadline);
            }
        }
        let mut late = Vec::new();
        let holders = &self.holders;
        let is_held = |piece: u32| holders.get(piece as usize).is_some_and(|holders| *holders > 0);
        self.assignments.retain(|run| {
            let keep = run.until > now || mutant!("late-run-never-reassigned");
            // What others have got meanwhile nobody had to fetch, and wishes wait for the one who wishes.
            let is_missed = run.count == 0 || (run.first..run.end()).any(|piece| !is_held(piece));
            if !keep && is_missed && !run.is_wish {
                late.push((run.peer.clone(), run.deadline, run.since.is_some()));
            }
            keep
        });
        if let Some(longest) = late.iter().filter(|(_, _, is_ours)| *is_ours).map(|(_, deadline, _)| *deadline).max() {
            self.pace.late(longest);
        }
        for (peer, deadline, _) in late {
            if let Some(participant) = self.participants.get_mut(&peer) {
                participant.late_until = now + deadline * 2;
            }
        }
    }

    /// A participant has not started these runs and will not.
    pub(crate) fn release(&mut self, peer: &PeerId, runs: &[(u32, u32)]) {
        let overlaps = |run: &Assignment| runs.iter().any(|(first, count)| run.overlaps(*first, *count));
        self.assignments.retain(|run| run.peer != *peer || !overlaps(run));
    }

    /// Whether a run should have been given to somebody else for `patience` at least.
    pub(crate) fn is_overdue(&self, now: Time, patience: Duration) -> bool {
        self.assignments.iter().any(|run| run.until + patience <= now)
    }

    pub(super) fn is_assigned(&self, piece: u32) -> bool {
        self.assignments.iter().any(|run| run.has(piece))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::pace::Pace;
    use crate::swarm::tracker::Introduction;
    use crate::swarm::tracker::tests::{context, have, introduction, peer, tracker};

    fn comes(tracker: &mut Tracker, name: &str, fetching: &[(u32, u32)]) {
        let introduction = Introduction { fetching: fetching.to_vec(), ..introduction(true) };
        tracker.enrol(Time::ZERO, &PeerId::new(name), introduction);
    }

    fn out(tracker: &Tracker) -> Vec<u32> {
        (0..40).filter(|piece| tracker.is_assigned(*piece)).collect()
    }

    #[test]
    fn what_another_leader_gave_out_is_not_given_out_again_while_it_comes() {
        let mut tracker = tracker(12, 3);
        let mut cx = context();
        comes(&mut tracker, "new", &[(4, 4)]);
        let given: Vec<_> = tracker.assign(&mut cx, &peer(0), 9).iter().map(|run| (run.first, run.count)).collect();
        assert_eq!(given, [(0, 4), (8, 4)]);
        tracker.heard(cx.now, &PeerId::new("new"), &have(4, 4));
        assert!(!tracker.is_assigned(4));
        // What this node did not hand out says nothing of how long a run takes.
        assert!(tracker.pace.typical().is_zero());
    }

    #[test]
    fn what_does_not_come_in_time_is_given_to_somebody_else_whoever_gave_it_out() {
        let mut tracker = tracker(4, 3);
        comes(&mut tracker, "new", &[(0, 4)]);
        let late = Time::ZERO + MIN_DEADLINE * 2;
        tracker.expire_runs(late, &peer(0), None);
        // What this node did not give out does not make it slower.
        assert_eq!(tracker.pace.width(MAX_WIDTH), Pace::default().width(MAX_WIDTH));
        // It says so still.
        tracker.enrol(late, &PeerId::new("new"), Introduction { fetching: vec![(0, 4)], ..introduction(true) });
        assert_eq!(out(&tracker), []);
    }

    #[test]
    fn what_comes_as_slowly_as_here_is_not_late_but_not_for_ever() {
        let takes = Some(MIN_DEADLINE * 3);
        for (says_so, whole_deadlines) in [(false, 1), (true, SLOW_FACTOR.1)] {
            let mut tracker = tracker(4, 1);
            let mut cx = context();
            tracker.enrol(Time::ZERO, &peer(7), introduction(true));
            tracker.set_can_fetch(&peer(0), false);
            let run = tracker.assign(&mut cx, &peer(0), 1).remove(0);
            assert_eq!(run.peer, peer(7));
            let after = |deadlines: u32| Time::ZERO + run.deadline * deadlines;
            let fetching = if says_so { vec![(0, 4)] } else { Vec::new() };
            tracker.enrol(after(1), &peer(7), Introduction { fetching, ..introduction(true) });
            for deadlines in 1..whole_deadlines {
                tracker.expire_runs(after(deadlines), &peer(0), takes);
                assert_eq!(out(&tracker), [0, 1, 2, 3], "after {deadlines}");
            }
            tracker.expire_runs(after(whole_deadlines), &peer(0), takes);
            assert_eq!(out(&tracker), [], "it says so: {says_so}");
        }
    }

    #[test]
    fn nobody_blocks_more_than_it_would_be_given_by_saying_that_it_fetches_it() {
        let mut tracker = tracker(40, 3);
        comes(&mut tracker, "new", &[(u32::MAX, 9), (0, u32::MAX), (16, 2), (20, 4)]);
        assert_eq!(out(&tracker), [0, 1, 2, 3, 16, 17]);
        comes(&mut tracker, "newer", &[(0, 4), (8, 0), (39, 4)]);
        assert_eq!(out(&tracker), [0, 1, 2, 3, 16, 17, 39]);
        // Nor by leaving and coming again.
        tracker.gone(&PeerId::new("new"));
        comes(&mut tracker, "new", &[(0, 4)]);
        assert_eq!(out(&tracker), [39]);
    }

    #[test]
    fn a_whole_that_was_asked_for_before_its_size_was_known_moves_piece_by_piece() {
        let mut tracker = Tracker::default();
        comes(&mut tracker, "new", &[]);
        let mut cx = context();
        let run = tracker.assign(&mut cx, &PeerId::new("new"), 9).remove(0);
        assert_eq!((run.first, run.count, run.pieces), (0, 0, 0));
        tracker.learn(Geometry::of_blob(3 * crate::piece::MIN_PIECE_BYTES), true);
        for piece in 0..3 {
            cx.now = cx.now + Duration::from_secs(1);
            tracker.heard(cx.now, &PeerId::new("new"), &have(piece, 1));
            assert_eq!(out(&tracker), (piece + 1..3).collect::<Vec<_>>());
        }
        assert_eq!(tracker.pace.typical(), Duration::from_secs(3));
    }

    #[test]
    fn a_run_that_fails_is_free_although_its_fetcher_has_got_its_beginning_from_others() {
        let mut tracker = tracker(4, 1);
        let mut cx = context();
        let run = tracker.assign(&mut cx, &peer(0), 1).remove(0);
        tracker.heard(cx.now, &run.peer, &have(0, 2));
        let failure = (crate::message::FailureClass::Transient, Duration::ZERO);
        tracker.unassigned(cx.now, &run.peer, (run.first, 1), failure, true, false);
        assert_eq!(out(&tracker), []);
    }

    #[test]
    fn what_comes_in_one_request_comes_for_each_of_its_runs() {
        let (mut tracker, mut cx) = (tracker(16, 1), context());
        tracker.assign(&mut cx, &peer(0), 16);
        let late = cx.now + PARTICIPANT_TTL;
        let comes = |tracker: &mut Tracker, fetching: &[(u32, u32)]| {
            tracker.says_what_comes(late, &peer(0), fetching);
            tracker.assignments.iter().map(|run| (run.first, run.comes)).collect::<Vec<_>>()
        };
        assert_eq!(comes(&mut tracker, &[(0, 4)]), [(0, true), (4, false)]);
        assert_eq!(comes(&mut tracker, &[(2, 6)]), [(0, true), (4, true)]);
    }

    #[test]
    fn who_comes_before_the_size_is_known_is_heard_when_it_is() {
        let mut tracker = Tracker::default();
        comes(&mut tracker, "new", &[(4, 4)]);
        tracker.learn(Geometry::of_blob(12 * crate::piece::MIN_PIECE_BYTES), false);
        comes(&mut tracker, "new", &[(4, 4)]);
        assert_eq!(out(&tracker), [4, 5, 6, 7]);
    }
}

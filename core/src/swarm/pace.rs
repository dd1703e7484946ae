//! How many runs are fetched from the origin at a time, and how long they are.
//!
//! A run that waits in the origin's queue could be somebody's already: with sixteen at a time on a link that carries one, the
//! first pieces arrive sixteen times later than they could, and the swarm starts that much later. With too few the origin is
//! idle between them. So the width follows what runs take, as TCP Vegas does with packets: if runs take no longer than the
//! fastest one did, the origin (or a limit that it has for each connection) carries more; if they take longer, they queue.
//!
//! Where there are as many as can be and the origin carries more, what takes the time is the way to it: a registry far away
//! answers after 100 ms, in which a link of 1 Gbit/s carries twelve runs of 1 MiB, and whoever pulls alone has two. Then runs get
//! longer, until they take several times as long as the way.

use core::time::Duration;

use serde::{Deserialize, Serialize};

/// The first width, and the least: each fetcher's link is also used by pieces from peers, so that one run alone does not
/// keep the origin busy.
pub(crate) const LEAST_WIDTH: u32 = 4;
/// With fewer runs than this in the origin's queue there is room for one more. (Vegas: 1; a fetcher's own downlink queues as
/// well, which looks the same from here.)
const LEAST_QUEUED: u64 = 2;
/// With more than this, one less.
const MOST_QUEUED: u64 = 5;

/// What comes from the origin within the first is brisk, what takes longer than the second is slow: a leader judges runs by it, and
/// a node its own fetches (`agent/origin_slots.rs`), both without what the way takes. Slow runs make the next ones half as long,
/// brisk ones twice as long again: the first pieces of a long run are passed on only after all that it waits behind, and nobody
/// knows how many others a slow registry sends to at the same time. (Without the way, shorter than anybody's deadline.)
pub(crate) const BRISK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(4));
/// Runs are halved so many times at most: usual ones have four of the smallest pieces.
const MOST_HALVINGS: u32 = 2;

/// Runs are doubled so many times at most.
pub(crate) const MOST_DOUBLINGS: u32 = 6;
/// Runs of one piece do not tell what of their time is the way. The next ones are doubled so many times to find out, and not again for
/// so many rounds.
const TRIAL: (u32, u32) = (2, 16);
/// If even the fastest run has taken this long, that others take longer need not be a queue: fetchers may be on different ways. (Four
/// runs of 1 MiB at a time on a link of 340 Mbit/s.)
const DIFFERENT_WAYS: Duration = Duration::from_millis(100);
/// The same among nodes that are far from each other if at least this part of it was spent on the way, as far as is known here.
const MOSTLY_ON_THE_WAY: (u32, u32) = (3, 4);
/// At most so many doublings at a time: what is known of runs that are much shorter is a guess.
const DOUBLINGS_AT_ONCE: u32 = 3;
/// If the way is more than the first part of what runs take, they get longer; if it is less than the second part, shorter again.
/// (Whoever pulls alone has two runs: if each waits a quarter of its time, both of them do a sixteenth of it.)
const PART_ON_THE_WAY: (u32, u32) = (4, 8);

/// However late runs are, others are not given more time than if they took this long.
const MOST_TYPICAL: Duration = Duration::from_secs(10);

/// What a run has taken from when it was handed out until all of it was known to be there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took {
    whole: Duration,
    /// The way: what the first piece has taken longer than each of the others. `None`: there were no others.
    way: Option<Duration>,
    pieces: u32,
}

impl Took {
    /// A run of so many `pieces`, the first of which was known to be there after `first`.
    pub(crate) fn of(whole: Duration, first: Duration, pieces: u32) -> Self {
        let others = pieces.saturating_sub(1);
        let way = (others > 0).then(|| first.saturating_sub(whole.saturating_sub(first) / others));
        Self { whole: whole.max(Duration::from_micros(1)), way, pieces }
    }
}

/// Runs of several pieces, together.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Several {
    whole: Duration,
    way: Duration,
    pieces: u32,
}

/// The width and the length of runs, and what they are derived from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Pace {
    width: u32,
    /// No more runs than this are out, because no more may be, or nobody is there to fetch them.
    room: u32,
    /// Runs until width and length are looked at again: each width is tried for as long as it lasts.
    until: u32,
    fastest: Duration,
    typical: Duration,
    /// What the way to the registry takes at least, from here.
    way: Duration,
    /// Fetchers may be as far from here as from the registry.
    peers_are_far: bool,
    halvings: u32,
    doublings: u32,
    /// The longest runs are usual ones, doubled so many times.
    most_doublings: u32,
    /// So many rounds until runs of one piece are made longer once more, to find out what the way is.
    next_trial: u32,
    /// Runs of several pieces that are done since width and length were looked at.
    several: Several,
    /// The least that a piece of such runs has taken, without the way, since they have this length.
    least: Duration,
    /// So many of the next runs were handed out with the length of before.
    of_before: u32,
}

impl Default for Pace {
    fn default() -> Self {
        let (width, unknown) = (LEAST_WIDTH, Duration::ZERO);
        Self {
            width,
            room: u32::MAX,
            until: width,
            fastest: unknown,
            typical: unknown,
            way: unknown,
            peers_are_far: false,
            halvings: 0,
            doublings: 0,
            most_doublings: u32::MAX,
            next_trial: 0,
            several: Several::default(),
            least: unknown,
            of_before: 0,
        }
    }
}

impl Pace {
    /// How many runs may be out, of at most `most`.
    pub(crate) fn width(&self, most: u32) -> u32 {
        self.width.min(most)
    }

    /// No more than `room` runs can be out for now, whatever the width: that is the limit, or nobody is left who could fetch.
    pub(crate) fn set_room(&mut self, room: u32) {
        self.room = room.max(1);
        self.until = self.until.min(self.room);
    }

    /// The registry has answered this node after so long at best: to be on the way for so long is not to be slow.
    pub(crate) fn set_way(&mut self, way: Duration) {
        self.way = way;
    }

    /// Fetchers are far from here, or are not.
    pub(crate) fn set_peers_are_far(&mut self, far: bool) {
        self.peers_are_far = far;
    }

    /// The longest runs are so many times as long as usual ones.
    pub(crate) fn set_longest(&mut self, times: u64) {
        self.most_doublings = times.checked_ilog2().unwrap_or(0);
        self.doublings = self.doublings.min(self.most_doublings);
    }

    /// A run has failed, what came of it aside: what is cut off is less if runs are shorter.
    pub(crate) fn failed(&mut self) {
        if self.doublings > 0 {
            self.shorten();
        }
    }

    /// How many runs are out at a time when there is enough to fetch.
    pub(crate) fn abreast(&self) -> u32 {
        self.width.min(self.room)
    }

    /// What a run takes lately. Zero before the first one.
    pub(crate) fn typical(&self) -> Duration {
        self.typical
    }

    /// How long a run may be that usually has so many pieces.
    pub(crate) fn length(&self, usual: u64) -> u64 {
        let halvings = if mutant!("long-runs-of-slow-registries") { 0 } else { self.halvings };
        (usual >> halvings).max(1) << self.doublings
    }

    /// How many runs one fetcher may have, of at most `most`: `usual`, and more where the way to the origin is long.
    pub(crate) fn runs_each(&self, usual: usize, most: usize) -> usize {
        (usual + self.doublings as usize).min(most)
    }

    /// Runs whose fetchers are there have missed their deadline: the registry has more to do than this swarm knows of. As TCP does
    /// when a packet is lost, fewer are out from now on, and they get more time.
    pub(crate) fn late(&mut self, deadline: Duration) {
        self.width = (self.width / 2).max(1);
        self.until = self.abreast();
        self.shorten();
        self.typical = (self.typical * 2).max(deadline / 2).min(MOST_TYPICAL.max(self.typical));
    }

    /// A run is done and took this long; `most` is the limit of the width.
    pub(crate) fn finished(&mut self, took: Took, most: u32) {
        let Took { whole, way, pieces } = took;
        self.typical = if self.typical.is_zero() { whole } else { (self.typical * 3 + whole) / 4 };
        if self.of_before > 0 {
            self.of_before -= 1;
        } else {
            if let Some(way) = way {
                let Several { whole: wholes, way: ways, pieces: all } = self.several;
                self.several = Several { whole: wholes + whole, way: ways + way, pieces: all + pieces };
                let each = whole.saturating_sub(way) / pieces.max(1);
                self.least = if self.least.is_zero() { each } else { self.least.min(each) };
            }
            // A run of one piece does not tell what of it was the way.
            let sending = whole.saturating_sub(way.map_or(self.way, |way| way.min(self.way)));
            if sending > BRISK.1 {
                self.shorten();
            } else if sending <= BRISK.0 && self.halvings > 0 {
                self.lengthen(1);
            }
        }
        self.fastest = if self.fastest.is_zero() { whole } else { self.fastest.min(whole) };
        self.until = self.until.saturating_sub(1);
        if self.until > 0 {
            return;
        }
        self.next_trial = self.next_trial.saturating_sub(1);
        let queued = self.queued();
        if queued < LEAST_QUEUED {
            let most = most.max(LEAST_WIDTH).min(self.room);
            if self.width < most {
                let more = if queued == 0 { self.width } else { 1 };
                self.width = (self.width + more).min(most);
            }
            if self.width >= most {
                self.follow_the_way();
            }
        } else if self.doublings == 0 && self.is_on_different_ways() && self.follow_the_way() {
            // Fetchers are on different ways, maybe, and nothing queues.
        } else if queued > MOST_QUEUED {
            self.width = (self.width - 1).max(LEAST_WIDTH.min(self.width));
        }
        self.until = self.abreast();
        self.several = Several::default();
    }

    /// That some runs take longer than others need not be a queue.
    fn is_on_different_ways(&self) -> bool {
        let is_on_the_way = self.way * MOSTLY_ON_THE_WAY.1 >= self.fastest * MOSTLY_ON_THE_WAY.0;
        self.fastest >= DIFFERENT_WAYS || self.peers_are_far && is_on_the_way && !mutant!("far-fetchers-queue")
    }

    /// How many of the runs that are out are more than what the way to the origin holds.
    fn queued(&self) -> u64 {
        let abreast = u64::from(self.abreast());
        let Several { whole, way, pieces } = self.several;
        let (held, all) = if self.doublings > 0 && pieces > 0 {
            // Ways differ from fetcher to fetcher: only the rest can have been in a queue.
            (way + self.least * pieces, whole)
        } else {
            (self.fastest, self.typical)
        };
        let held = (u128::from(abreast) * held.as_micros()).div_ceil(all.as_micros().max(1));
        abreast.saturating_sub(u64::try_from(held).unwrap_or(u64::MAX))
    }

    /// The origin carries more than what is out: longer runs, where the way takes much of their time. Returns whether they are longer.
    fn follow_the_way(&mut self) -> bool {
        if mutant!("runs-as-short-far-away") {
            return false;
        }
        let Several { whole, way, .. } = self.several;
        let is_brisk = self.typical.saturating_sub(self.way) <= BRISK.0;
        let doublings = if whole.is_zero() && is_brisk && self.next_trial == 0 {
            self.next_trial = TRIAL.1;
            TRIAL.0
        } else if is_brisk && way * PART_ON_THE_WAY.0 > whole {
            // As many as it takes until the rest takes as long as the way.
            let times = way.as_micros() / whole.saturating_sub(way).as_micros().max(1);
            times.checked_ilog2().unwrap_or(0).clamp(1, DOUBLINGS_AT_ONCE)
        } else {
            if way * PART_ON_THE_WAY.1 < whole && self.doublings > 0 {
                self.shorten();
            }
            return false;
        };
        let before = (self.doublings, self.halvings);
        self.lengthen(doublings);
        before != (self.doublings, self.halvings)
    }

    /// Runs are twice as long from now on, so many times.
    fn lengthen(&mut self, times: u32) {
        let before = (self.doublings, self.halvings);
        for _ in 0..times {
            match self.halvings {
                0 => self.doublings = (self.doublings + 1).min(MOST_DOUBLINGS).min(self.most_doublings),
                halvings => self.halvings = halvings - 1,
            }
        }
        if before != (self.doublings, self.halvings) {
            // Longer ones may take longer, and that is no queue.
            self.fastest = Duration::ZERO;
            self.begins_anew();
        }
    }

    /// Runs are half as long from now on.
    fn shorten(&mut self) {
        match self.doublings {
            0 if self.halvings == MOST_HALVINGS => return,
            0 => self.halvings += 1,
            doublings => self.doublings = doublings - 1,
        }
        self.begins_anew();
    }

    /// Runs have another length.
    fn begins_anew(&mut self) {
        self.of_before = self.abreast();
        self.least = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of one piece.
    fn whole(took: Duration) -> Took {
        Took::of(took, took, 1)
    }

    /// The width after `rounds` rounds with an origin whose runs take `runs(width)` ms.
    fn settles(rounds: u32, runs: impl Fn(u32) -> u64) -> u32 {
        let mut pace = Pace::default();
        for _ in 0..rounds {
            let width = pace.width(16);
            for _ in 0..width {
                pace.finished(whole(Duration::from_millis(runs(width))), 16);
            }
        }
        pace.width(16)
    }

    #[test]
    fn a_link_that_is_full_gets_no_more_runs() {
        let width = settles(100, |width| 10 * u64::from(width));
        assert!((4..=9).contains(&width), "{width}");
    }

    #[test]
    fn an_origin_that_limits_each_connection_gets_as_many_as_may_be() {
        assert_eq!(settles(5, |_| 100), 16);
    }

    #[test]
    fn a_long_way_holds_more() {
        // 10 ms each on the link, and 60 ms on the way: seven fill it.
        let width = settles(100, |width| 60 + 10 * u64::from(width.saturating_sub(6).max(1)));
        assert!((8..=16).contains(&width), "{width}");
    }

    #[test]
    fn runs_of_a_registry_that_takes_seconds_to_answer_get_longer_and_those_of_a_slow_one_shorter() {
        let doublings = |way: u64| {
            let mut pace = Pace::default();
            pace.set_way(Duration::from_secs(way));
            for _ in 0..40 {
                let (first, whole) = (Duration::from_millis(5010), Duration::from_millis(5040));
                pace.finished(Took::of(whole, first, 4), LEAST_WIDTH);
            }
            (pace.doublings, pace.halvings)
        };
        assert_eq!(doublings(5), (MOST_DOUBLINGS, 0));
        assert_eq!(doublings(0), (0, MOST_HALVINGS));
    }

    #[test]
    fn slow_runs_get_shorter_and_brisk_ones_longer_again() {
        let mut pace = Pace::default();
        // The runs that are out were handed out before it was known.
        let mut divisors = |milliseconds, runs: usize| {
            let mut finish = || {
                pace.finished(whole(Duration::from_millis(milliseconds)), LEAST_WIDTH);
                4 / pace.length(4)
            };
            (0..runs).map(|_| finish()).collect::<Vec<_>>()
        };
        assert_eq!(divisors(25_000, 7), [2, 2, 2, 2, 2, 4, 4]);
        assert_eq!(divisors(12_000, 5), [4; 5]);
        assert_eq!(divisors(4_000, 5), [4; 5]);
        assert_eq!(divisors(1_000, 8), [2, 2, 2, 2, 2, 1, 1, 1]);
    }

    #[test]
    fn late_runs_make_it_slower_and_more_patient_until_others_are_in_time() {
        let mut pace = Pace::default();
        let seconds = Duration::from_secs;
        pace.late(seconds(10));
        assert_eq!((pace.width(16), pace.typical()), (2, seconds(5)));
        pace.late(seconds(10));
        pace.late(seconds(20));
        assert_eq!((pace.width(16), pace.typical()), (1, MOST_TYPICAL));
        for _ in 0..60 {
            pace.finished(whole(seconds(1)), 16);
        }
        assert_eq!(pace.width(16), 16);
        assert!(pace.typical() < seconds(2));
    }

    /// The length of runs, in pieces, after each of `rounds` rounds of `room` runs: `way` and `piece` in ms.
    fn lengths(room: u32, rounds: usize, way: u64, piece: u64) -> Vec<u64> {
        let mut pace = Pace::default();
        pace.set_room(room);
        let mut length = 1;
        let mut out = vec![1; room as usize];
        let mut round = || {
            for pieces in &mut out {
                let first = Duration::from_millis(way + piece);
                let rest = Duration::from_millis(piece * (*pieces - 1));
                pace.finished(Took::of(first + rest, first, *pieces as u32), 64);
                length = pace.length(1);
                *pieces = length;
            }
            length
        };
        (0..rounds).map(|_| round()).collect()
    }

    #[test]
    fn who_is_alone_and_far_away_fetches_longer_runs() {
        assert_eq!(lengths(2, 10, 100, 8), [4, 4, 8, 8, 16, 16, 32, 32, 64, 64]);
    }

    #[test]
    fn where_the_way_is_short_runs_are_as_short_as_before() {
        assert_eq!(lengths(2, 7, 1, 8), [4, 4, 2, 2, 1, 1, 1]);
    }

    #[test]
    fn many_runs_that_queue_are_not_made_longer() {
        let mut pace = Pace::default();
        pace.set_room(16);
        for _ in 0..100 {
            pace.finished(whole(Duration::from_millis(40 + 10 * u64::from(pace.abreast()))), 64);
        }
        assert_eq!((pace.length(1), pace.next_trial), (1, 0));
    }

    #[test]
    fn different_ways_are_no_queue() {
        let mut pace = Pace::default();
        pace.set_room(16);
        for number in 0..100 {
            // Fetchers 100 and 300 ms away, and a link that carries all that is asked for.
            let pieces = pace.length(1) as u32;
            let first = Duration::from_millis(if number % 2 == 0 { 110 } else { 310 });
            let rest = Duration::from_millis(10) * (pieces - 1);
            pace.finished(Took::of(first + rest, first, pieces), 64);
        }
        assert_eq!(pace.abreast(), 16);
        assert!(pace.length(1) >= 32, "{}", pace.length(1));
    }

    #[test]
    fn runs_are_tried_again_after_a_slow_time() {
        let mut pace = Pace::default();
        pace.set_room(2);
        pace.next_trial = TRIAL.1;
        pace.late(Duration::from_secs(10));
        let mut lengths = (0..100).map(|_| {
            let pieces = pace.length(1) as u32;
            let first = Duration::from_millis(110);
            pace.finished(Took::of(first + Duration::from_millis(10) * (pieces - 1), first, pieces), 64);
            pace.length(1)
        });
        assert_eq!(lengths.find(|length| *length >= 16), Some(16));
    }

    #[test]
    fn far_away_what_queues_has_less_out_at_a_time() {
        let mut pace = Pace::default();
        (pace.width, pace.next_trial) = (16, u32::MAX);
        pace.set_room(16);
        for number in 0..200 {
            pace.finished(whole(Duration::from_millis(if number < 16 { 110 } else { 1100 })), 64);
        }
        assert!(pace.abreast() < 16, "{}", pace.abreast());
    }

    #[test]
    fn no_run_is_longer_than_it_may_be() {
        let mut pace = Pace::default();
        pace.lengthen(MOST_DOUBLINGS + 1);
        assert_eq!([1, 4].map(|usual| pace.length(usual)), [64, 256]);
        pace.late(Duration::from_secs(10));
        assert_eq!(pace.length(1), 32);
        pace.failed();
        assert_eq!(pace.length(1), 16);
        pace.set_longest(9);
        pace.lengthen(2);
        assert_eq!(pace.length(1), 8);
    }
}

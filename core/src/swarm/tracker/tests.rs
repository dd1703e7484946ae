mod outages;

use super::wishes::COMPLAINT_AGE;
use super::*;
use crate::context::Context;
use crate::swarm::tracker::introductions::{DEGREE, FIRST, FOREIGN, FRESH, FULL};
use proptest::prelude::*;

pub(super) fn peer(number: u8) -> PeerId {
    PeerId::new(&format!("p{number}"))
}

pub(super) fn introduction(can_fetch: bool) -> Introduction {
    Introduction { can_fetch, ..Introduction::default() }
}

/// A tracker (node 0) for a blob of `pieces` pieces with `peers` participants.
pub(super) fn tracker(pieces: u64, peers: u8) -> Tracker {
    let mut tracker = Tracker::default();
    tracker.learn(Geometry::of_blob(pieces * crate::piece::MIN_PIECE_BYTES), false);
    for number in 0..peers {
        tracker.enrol(Time::ZERO, &peer(number), introduction(true));
    }
    tracker
}

pub(super) fn context() -> Context {
    Context::new(1, Time::ZERO)
}

pub(super) fn have(first: u32, count: u32) -> Have {
    Have::Also((first..first + count).collect())
}

#[test]
fn each_piece_is_given_to_exactly_one_participant() {
    let mut tracker = tracker(40, 3);
    let mut cx = context();
    let mut given = PieceSet::none(40);
    loop {
        let runs = tracker.assign(&mut cx, &peer(0), 16);
        if runs.is_empty() {
            break;
        }
        for run in runs {
            for piece in run.first..run.first + run.count {
                assert!(given.insert(piece), "piece {piece} was given twice");
            }
            tracker.heard(Time::ZERO, &run.peer, &have(run.first, run.count));
        }
    }
    assert!(given.is_full());
}

#[test]
fn a_run_that_is_late_is_given_to_somebody_else() {
    let mut tracker = tracker(1, 2);
    let mut cx = context();
    let run = tracker.assign(&mut cx, &peer(0), 16).remove(0);
    cx.now = cx.now + run.deadline + Duration::from_micros(1);
    for number in 0..2 {
        tracker.enrol(cx.now, &peer(number), introduction(true));
    }
    tracker.expire(cx.now, &peer(0), None);
    let again = tracker.assign(&mut cx, &peer(0), 16).remove(0);
    assert_ne!(again.peer, run.peer);
}

#[test]
fn what_only_a_gone_participant_had_is_fetched_again() {
    let mut tracker = tracker(1, 2);
    let mut cx = context();
    let run = tracker.assign(&mut cx, &peer(0), 16).remove(0);
    tracker.heard(Time::ZERO, &run.peer, &have(0, 1));
    assert!(tracker.assign(&mut cx, &peer(0), 16).is_empty());
    tracker.gone(&run.peer);
    assert_eq!(tracker.assign(&mut cx, &peer(0), 16).len(), 1);
}

#[test]
fn a_swarm_has_not_moved_before_anything_has_come() {
    let mut tracker = tracker(4, 3);
    let mut cx = context();
    let run = tracker.assign(&mut cx, &peer(0), 1).remove(0);
    assert_eq!(tracker.moved(), None, "it is only to be fetched");
    let fetching = |at: Time| (at, Introduction { fetching: vec![(run.first, 1)], ..introduction(true) });
    let (at, says) = fetching(Time::ZERO + Duration::from_secs(1));
    tracker.enrol(at, &run.peer, says);
    assert_eq!(tracker.moved(), None, "it has begun just now");
    let (at, says) = fetching(Time::ZERO + PARTICIPANT_TTL / 2);
    tracker.enrol(at, &run.peer, says);
    assert_eq!(tracker.moved(), Some(at));
}

#[test]
fn what_nobody_has_since_somebody_has_gone_is_fetched_here() {
    for seed in 0..20 {
        for was_heard in [false, true] {
            let mut tracker = tracker(2, 9);
            tracker.heard(Time::ZERO, &peer(8), &have(1, 1));
            let mut cx = Context::new(seed, Time::ZERO);
            let run = tracker.assign(&mut cx, &peer(0), 16).remove(0);
            if run.peer == peer(8) || run.peer == peer(0) {
                continue;
            }
            if was_heard {
                tracker.heard(Time::ZERO, &run.peer, &have(0, 1));
            }
            tracker.gone(&run.peer);
            assert_eq!(tracker.assign(&mut cx, &peer(0), 16).remove(0).peer, peer(0), "it was heard: {was_heard}");
        }
    }
}

#[test]
fn a_participant_without_a_credential_is_given_nothing() {
    let mut tracker = tracker(8, 2);
    tracker.set_can_fetch(&peer(0), false);
    let runs = tracker.assign(&mut context(), &peer(0), 16);
    assert!(!runs.is_empty() && runs.iter().all(|run| run.peer == peer(1)));
    let verdict = tracker.unassigned(
        Time::ZERO,
        &peer(1),
        (runs[0].first, 1),
        (FailureClass::Auth, Duration::ZERO),
        false,
        false,
    );
    assert_eq!(verdict, Verdict::Fail(FailureClass::Auth, Duration::ZERO));
    assert!(tracker.is_stuck(Time::ZERO));
}

#[test]
fn what_the_leader_has_not_begun_is_for_who_may_fetch_it_and_is_not_late() {
    let pass_on = |tracker: &mut Tracker| {
        let run = tracker.assign(&mut context(), &peer(0), 16).into_iter().find(|run| run.peer == peer(0));
        let run = run.expect("this node is given a run as well");
        tracker.pass_on(Time::ZERO, &peer(0), &peer(1), (run.first, run.count)).map(|passed| (run, passed))
    };
    let mut tracker_of_two = tracker(16, 2);
    let (run, passed) = pass_on(&mut tracker_of_two).expect("it may");
    assert_eq!((passed.peer, passed.first, passed.count), (peer(1), run.first, run.count));
    let fetchers: Vec<_> = tracker_of_two.assignments.iter().filter(|it| it.first == run.first).collect();
    assert_eq!(fetchers.len(), 1);
    assert_eq!(fetchers[0].peer, peer(1));

    let refuses = |prepare: fn(&mut Tracker)| {
        let mut tracker = tracker(16, 2);
        prepare(&mut tracker);
        pass_on(&mut tracker).is_none()
    };
    assert!(refuses(|tracker| tracker.pause(&peer(1), Time::from_micros(1))));
    assert!(refuses(|tracker| tracker.set_can_fetch(&peer(1), false)));
    assert!(refuses(|tracker| tracker.wants_credential = true));
    assert!(!refuses(|tracker| {
        tracker.wants_credential = true;
        tracker.set_credential(&peer(0), true);
        tracker.set_credential(&peer(1), true);
    }));
}

#[test]
fn an_origin_without_ranges_is_asked_for_everything_by_one_participant() {
    let mut tracker = tracker(30, 3);
    let mut cx = context();
    for run in tracker.assign(&mut cx, &peer(0), 16) {
        tracker.unassigned(
            Time::ZERO,
            &run.peer,
            (run.first, 1),
            (FailureClass::Transient, Duration::ZERO),
            true,
            false,
        );
    }
    let runs = tracker.assign(&mut cx, &peer(0), 16);
    assert_eq!(runs.iter().map(|run| (run.first, run.count)).collect::<Vec<_>>(), [(0, 30)]);
}

#[test]
fn a_blob_of_unknown_size_is_fetched_by_the_leader_itself() {
    let mut tracker = Tracker::default();
    for number in 0..5 {
        tracker.enrol(Time::ZERO, &peer(number), introduction(true));
    }
    let runs = tracker.assign(&mut context(), &peer(3), 16);
    assert_eq!(runs.iter().map(|run| (&run.peer, run.count)).collect::<Vec<_>>(), [(&peer(3), 0)]);
    tracker.learn(Geometry::of_blob(1000), true);
    assert!(tracker.assign(&mut context(), &peer(3), 16).is_empty(), "it is being fetched");
}

#[test]
fn neighbours_come_from_the_own_zone_with_a_few_from_elsewhere() {
    let mut tracker = tracker(4, 0);
    for number in 0..60 {
        let zone = if number < 30 { "a" } else { "b" };
        tracker.enrol(Time::ZERO, &peer(number), Introduction { zone: Some(zone.into()), ..introduction(true) });
    }
    for expected in [FIRST, DEGREE + FRESH - FIRST, FRESH] {
        let neighbours = tracker.neighbours(&mut context(), &peer(0));
        let foreign = neighbours.iter().filter(|neighbour| neighbour.zone.as_deref() == Some("b")).count();
        assert_eq!((neighbours.len(), foreign), (expected, FOREIGN));
        assert!(neighbours.iter().all(|neighbour| neighbour.peer != peer(0)));
    }
}

#[test]
fn a_crowd_is_mixed_so_that_all_have_about_as_many_neighbours() {
    let mut tracker = tracker(4, 0);
    let mut cx = context();
    for number in 0..200 {
        tracker.enrol(Time::ZERO, &peer(number), introduction(true));
        tracker.neighbours(&mut cx, &peer(number));
    }
    for number in 0..200 {
        tracker.neighbours(&mut cx, &peer(number));
    }
    let links: Vec<_> = tracker.participants.values().map(|participant| participant.links).collect();
    assert!(links.iter().all(|links| (DEGREE - FRESH..=FULL + FRESH).contains(links)), "{links:?}");
}

#[test]
fn a_complaint_is_heard_the_second_time() {
    let mut tracker = tracker(1, 3);
    let mut cx = context();
    tracker.heard(Time::ZERO, &peer(0), &Have::All);
    tracker.starving(cx.now, &peer(1), 0);
    assert!(tracker.assign(&mut cx, &peer(0), 16).is_empty());
    cx.now = cx.now + COMPLAINT_AGE;
    tracker.starving(cx.now, &peer(1), 0);
    assert_eq!(tracker.assign(&mut cx, &peer(0), 16).remove(0).peer, peer(1));
}

#[test]
fn who_starves_at_an_origin_without_ranges_is_given_everything() {
    let mut tracker = tracker(4, 2);
    let mut cx = context();
    let run = tracker.assign(&mut cx, &peer(0), 16).remove(0);
    tracker.unassigned(cx.now, &run.peer, (run.first, 1), (FailureClass::Transient, Duration::ZERO), true, true);
    tracker.heard(cx.now, &peer(0), &Have::All);
    for _ in 0..2 {
        tracker.starving(cx.now, &peer(1), 2);
        tracker.starving(cx.now, &peer(1), 3);
        assert_eq!(tracker.assign(&mut cx, &peer(0), 16), []);
        cx.now = cx.now + COMPLAINT_AGE;
        tracker.starving(cx.now, &peer(1), 2);
        tracker.starving(cx.now, &peer(1), 3);
        let runs = tracker.assign(&mut cx, &peer(0), 16);
        let runs: Vec<_> = runs.into_iter().map(|run| (run.peer, run.first, run.count)).collect();
        assert_eq!(runs, [(peer(1), 0, 4)]);
        tracker.release(&peer(1), &[(0, 4)]);
    }
}

/// What can happen to a tracker.
#[derive(Clone, Debug)]
enum Move {
    Enrol(u8, bool),
    Gone(u8),
    Fetched(u8),
    Failed(u8, u8),
    Wait(u32),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        3 => (0_u8..6, any::<bool>()).prop_map(|(peer, able)| Move::Enrol(peer, able)),
        1 => (0_u8..6).prop_map(Move::Gone),
        4 => (0_u8..6).prop_map(Move::Fetched),
        1 => (0_u8..6, 0_u8..4).prop_map(|(peer, class)| Move::Failed(peer, class)),
        1 => (1_u32..9000).prop_map(Move::Wait),
    ];
    proptest::collection::vec(one, 1..80)
}

proptest! {
    /// Two participants never have the same piece to fetch, and a piece that somebody alive has is not given out, unless
    /// its fetcher failed, was late, or has gone in between.
    #[test]
    fn a_piece_has_never_two_origin_fetchers_without_a_death_in_between(moves in moves(), pieces in 1_u64..60) {
        let mut tracker = tracker(pieces, 2);
        let mut cx = context();
        let mut fetching: BTreeMap<u32, PeerId> = BTreeMap::new();
        let mut held: BTreeMap<u32, Vec<PeerId>> = BTreeMap::new();
        for step in moves {
            match step {
                Move::Enrol(number, able) => {
                    tracker.enrol(cx.now, &peer(number), introduction(able));
                }
                Move::Gone(number) => {
                    tracker.gone(&peer(number));
                    fetching.retain(|_, fetcher| *fetcher != peer(number));
                    held.values_mut().for_each(|holders| holders.retain(|holder| *holder != peer(number)));
                }
                Move::Fetched(number) => {
                    if let Some(piece) = fetching.iter().find(|(_, fetcher)| **fetcher == peer(number)).map(|(piece, _)| *piece) {
                        fetching.remove(&piece);
                        held.entry(piece).or_default().push(peer(number));
                        tracker.heard(cx.now, &peer(number), &have(piece, 1));
                    }
                }
                Move::Failed(number, class) => {
                    let class = [FailureClass::Auth, FailureClass::NotFound, FailureClass::RateLimited, FailureClass::Transient][usize::from(class)];
                    if let Some(piece) = fetching.iter().find(|(_, fetcher)| **fetcher == peer(number)).map(|(piece, _)| *piece) {
                        tracker.unassigned(cx.now, &peer(number), (piece, 1), (class, Duration::ZERO), false, false);
                        // The participant gives up everything that it was given.
                        fetching.retain(|_, fetcher| *fetcher != peer(number));
                        let rest: Vec<_> = (0..pieces as u32).map(|piece| (piece, 1)).collect();
                        tracker.release(&peer(number), &rest);
                    }
                }
                Move::Wait(millis) => {
                    cx.now = cx.now + Duration::from_millis(u64::from(millis));
                    let known: Vec<_> = tracker.participants().cloned().collect();
                    let runs = tracker.assignments.clone();
                    tracker.expire(cx.now, &peer(0), None);
                    for gone in known.iter().filter(|known| !tracker.contains(known)) {
                        fetching.retain(|_, fetcher| fetcher != gone);
                        held.values_mut().for_each(|holders| holders.retain(|holder| holder != gone));
                    }
                    for late in runs.iter().filter(|run| run.until <= cx.now) {
                        fetching.retain(|piece, _| !(late.first..late.first + late.count).contains(piece));
                    }
                }
            }
            for run in tracker.assign(&mut cx, &peer(0), 8) {
                prop_assert!(run.count > 0);
                for piece in run.first..run.first + run.count {
                    prop_assert!(u64::from(piece) < pieces);
                    prop_assert!(held.get(&piece).is_none_or(Vec::is_empty), "piece {} is held", piece);
                    let before = fetching.insert(piece, run.peer.clone());
                    prop_assert!(before.is_none(), "piece {} is being fetched by {:?}", piece, before);
                }
            }
        }
    }
}

#[test]
fn who_complains_of_everything_holds_up_one_place() {
    let mut tracker = tracker(256, 6);
    let mut cx = context();
    tracker.heard(cx.now, &peer(0), &have(0, 100));
    // It says that it cannot get any of these, and does not fetch them when it may.
    let complain = |tracker: &mut Tracker, now| (0..64).for_each(|piece| tracker.starving(now, &peer(1), piece));
    complain(&mut tracker, cx.now);
    cx.now = cx.now + COMPLAINT_AGE;
    complain(&mut tracker, cx.now);
    let limit = 8;
    let honest = |runs: &[Assignment]| runs.iter().filter(|run| run.first >= 100).count();
    let width = tracker.pace.width(limit) as usize;
    let runs = tracker.assign(&mut cx, &peer(0), limit);
    assert_eq!(runs.len() - honest(&runs), 64, "a wish for all that it misses is one");
    assert_eq!(honest(&runs), width - 1, "the others go on");
    // Before it has got them it can wish for nothing more.
    for piece in 64..100 {
        tracker.starving(cx.now, &peer(1), piece);
    }
    cx.now = cx.now + COMPLAINT_AGE;
    for piece in 64..100 {
        tracker.starving(cx.now, &peer(1), piece);
    }
    assert_eq!(tracker.assign(&mut cx, &peer(0), limit), []);
}

#[test]
fn wishes_of_all_together_take_half_of_the_width() {
    let mut tracker = tracker(256, 20);
    let mut cx = context();
    tracker.heard(cx.now, &peer(0), &have(0, 100));
    for _ in 0..2 {
        for number in 1..20 {
            tracker.starving(cx.now, &peer(number), u32::from(number));
        }
        cx.now = cx.now + COMPLAINT_AGE;
    }
    let limit = 8;
    let width = tracker.pace.width(limit) as usize;
    let runs = tracker.assign(&mut cx, &peer(0), limit);
    assert_eq!(runs.iter().filter(|run| run.first < 100).count(), (width / 2).max(1));
    assert_eq!(runs.len(), width);
}

#[test]
fn everybody_who_starves_has_a_turn() {
    let mut tracker = tracker(64, 6);
    let mut cx = context();
    tracker.heard(cx.now, &peer(0), &Have::All);
    let mut served = std::collections::BTreeSet::new();
    // The last one misses other pieces than the rest, and those come later in the blob.
    let misses = |number: u8| if number == 5 { 60..64 } else { 0..40 };
    for _ in 0..60 {
        for number in 1..6 {
            misses(number).for_each(|piece| tracker.starving(cx.now, &peer(number), piece));
        }
        for run in tracker.assign(&mut cx, &peer(0), 2) {
            served.insert(run.peer.clone());
            tracker.release(&run.peer, &[(run.first, run.count)]);
        }
        cx.now = cx.now + COMPLAINT_AGE / 2;
    }
    assert_eq!(served.into_iter().collect::<Vec<_>>(), (1..6).map(peer).collect::<Vec<_>>());
}

#[test]
fn a_private_blob_is_fetched_by_those_who_have_a_credential_first() {
    let mut cx = context();
    let mut tracker = Tracker::default();
    let own = peer(0);
    for number in 0..20 {
        let has_credential = number == 13;
        tracker.enrol(Time::ZERO, &peer(number), Introduction { has_credential, ..introduction(true) });
    }
    tracker.turned_away(&own);
    let runs = tracker.assign(&mut cx, &own, 1);
    let peers: Vec<_> = runs.iter().map(|run| run.peer.clone()).collect();
    assert_eq!(peers, [peer(13)]);
    assert!(tracker.others_have_credential(&own) && !tracker.others_have_credential(&peer(13)));
}

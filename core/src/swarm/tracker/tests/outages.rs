//! Origins that fail, and that limit requests.

use super::*;

#[test]
fn runs_that_were_one_request_fail_together() {
    let mut tracker = tracker(8, 1);
    let mut cx = context();
    let runs: Vec<_> = tracker.assign(&mut cx, &peer(0), 16).iter().map(|run| (run.first, run.count)).collect();
    assert_eq!(runs, [(0, 4), (4, 4)]);
    let failure = (FailureClass::RateLimited, Duration::from_secs(1));
    tracker.unassigned(Time::ZERO, &peer(0), (0, 8), failure, false, true);
    cx.now = Time::from_micros(1_000_000);
    let runs: Vec<_> = tracker.assign(&mut cx, &peer(0), 16).iter().map(|run| (run.first, run.count)).collect();
    assert_eq!(runs, [(0, 8)]);
}

#[test]
fn where_requests_are_limited_runs_are_long_from_the_beginning() {
    let mut tracker = tracker(30, 3);
    tracker.registry_limits_requests();
    let runs = tracker.assign(&mut context(), &peer(0), 16);
    assert_eq!(runs.iter().map(|run| (run.first, run.count)).collect::<Vec<_>>(), [(0, 30)]);
}

#[test]
fn passing_failures_of_an_origin_that_never_answered_are_given_up_after_a_few() {
    let mut tracker = tracker(1, 6);
    let mut cx = context();
    let mut failures = 0;
    loop {
        cx.now = tracker.next_due(cx.now).unwrap_or(cx.now);
        let Some(run) = tracker.assign(&mut cx, &peer(0), 16).pop() else { continue };
        failures += 1;
        let verdict = tracker.unassigned(
            cx.now,
            &run.peer,
            (run.first, 1),
            (FailureClass::Transient, Duration::ZERO),
            false,
            false,
        );
        if verdict != Verdict::GoOn {
            break;
        }
    }
    // The first one alone is not believed.
    assert_eq!(failures, 1 + MAX_RESTS);
}

#[test]
fn several_runs_of_one_failing_participant_are_one_failure() {
    let mut tracker = tracker(64, 2);
    let mut cx = context();
    let runs = tracker.assign(&mut cx, &peer(0), 16);
    let failing = &runs[0].peer;
    for run in runs.iter().filter(|run| run.peer == *failing) {
        let verdict = tracker.unassigned(
            cx.now,
            failing,
            (run.first, 1),
            (FailureClass::Transient, Duration::ZERO),
            false,
            false,
        );
        assert_eq!(verdict, Verdict::GoOn);
    }
    assert_eq!(tracker.outage.rests(), 0, "one participant is not everybody");
}

#[test]
fn an_origin_that_is_there_is_waited_for_and_asked_by_one_until_it_works() {
    let mut tracker = tracker(64, 6);
    let mut cx = context();
    let mut tries = Vec::new();
    while cx.now < Time::ZERO + Duration::from_secs(60) {
        let runs = tracker.assign(&mut cx, &peer(0), 16);
        tries.push(runs.len());
        for run in runs {
            let (who, first) = (run.peer, run.first);
            let verdict =
                tracker.unassigned(cx.now, &who, (first, 1), (FailureClass::Transient, Duration::ZERO), false, true);
            assert_eq!(verdict, Verdict::GoOn);
        }
        cx.now = tracker.next_due(cx.now).expect("a rest ends");
    }
    tries.retain(|runs| *runs > 0);
    assert!(tries[0] > 1 && tries[1..].iter().all(|runs| *runs == 1), "{tries:?}");
    assert!(tries.len() > 6, "it is tried now and then: {tries:?}");
    let mut at_a_time = Vec::new();
    for _ in 0..4 {
        cx.now = tracker.next_due(cx.now).unwrap_or(cx.now) + Duration::from_secs(10);
        let runs = tracker.assign(&mut cx, &peer(0), 16);
        at_a_time.push(runs.len());
        for run in runs {
            tracker.heard(cx.now, &run.peer, &have(run.first, run.count));
        }
    }
    assert_eq!(at_a_time, [1, 2, 4, 8]);
}

#[test]
fn a_limit_of_requests_makes_runs_longer() {
    let mut tracker = tracker(64, 6);
    let mut cx = context();
    let usual = tracker.assign(&mut cx, &peer(0), 16);
    for run in &usual {
        let second = Duration::from_secs(1);
        tracker.unassigned(cx.now, &run.peer, (run.first, 1), (FailureClass::RateLimited, second), false, false);
    }
    cx.now = cx.now + Duration::from_secs(60);
    let longer = tracker.assign(&mut cx, &peer(0), 16);
    assert_eq!(longer.iter().map(|run| run.count).collect::<Vec<_>>(), [usual[0].count * 2]);
}

/// A tracker with one participant, which has failed at `now` with its first run and has to wait for `cooldown`.
fn told_to_wait(now: Time, cooldown: Duration) -> (Tracker, Assignment) {
    let mut tracker = tracker(64, 1);
    let mut cx = Context::new(1, now);
    let mut runs = tracker.assign(&mut cx, &peer(0), 16);
    tracker.unassigned(now, &peer(0), (runs[0].first, 1), (FailureClass::RateLimited, cooldown), false, true);
    (tracker, runs.remove(1))
}

#[test]
fn the_latest_time_that_the_origin_names_counts() {
    let (mut tracker, other) = told_to_wait(Time::ZERO, Duration::from_secs(2));
    let class = FailureClass::RateLimited;
    tracker.unassigned(Time::ZERO, &peer(0), (other.first, 1), (class, Duration::from_secs(5)), false, true);
    // Late, and of a run that who led before gave out.
    let late = Time::ZERO + Duration::from_secs(1);
    tracker.unassigned(late, &peer(0), (40, 1), (class, Duration::from_secs(6)), false, true);
    tracker.unassigned(late, &peer(0), (44, 1), (class, Duration::ZERO), false, true);
    assert!(!tracker.is_able(Time::ZERO + Duration::from_millis(6999), &peer(0)));
    assert!(tracker.is_able(Time::ZERO + Duration::from_secs(7), &peer(0)));
    assert_eq!(tracker.outage.rests(), 1, "all that is one failure");
}

#[test]
fn a_late_run_does_not_shorten_what_the_origin_asked_for() {
    let (mut tracker, other) = told_to_wait(Time::ZERO, Duration::from_secs(100));
    tracker.expire(Time::ZERO + other.deadline, &peer(0), None);
    assert!(!tracker.is_able(Time::ZERO + Duration::from_millis(99_999), &peer(0)));
}

#[test]
fn who_starves_waits_as_long_as_the_origin_asked_for_though_others_got_on() {
    let (mut tracker, other) = told_to_wait(Time::ZERO, Duration::from_secs(30));
    let mut cx = context();
    tracker.enrol(cx.now, &peer(1), introduction(true));
    tracker.heard(cx.now, &peer(1), &Have::All);
    tracker.heard(cx.now, &peer(0), &have(other.first, other.count));
    assert_eq!(tracker.outage.rests(), 0, "a run came in");
    for second in 0..40 {
        cx.now = Time::ZERO + Duration::from_secs(second);
        tracker.starving(cx.now, &peer(0), 0);
        if !tracker.assign(&mut cx, &peer(0), 16).is_empty() {
            break;
        }
    }
    assert_eq!(cx.now, Time::ZERO + Duration::from_secs(31));
}

#[test]
fn in_an_outage_those_who_starve_are_heard_one_at_a_time() {
    let mut tracker = tracker(2, 3);
    let mut cx = context();
    let run = tracker.assign(&mut cx, &peer(0), 16).remove(0);
    let failure = (FailureClass::Transient, Duration::ZERO);
    tracker.set_can_fetch(&peer(0), run.peer == peer(0));
    tracker.set_can_fetch(&peer(1), run.peer == peer(1));
    tracker.set_can_fetch(&peer(2), run.peer == peer(2));
    tracker.unassigned(cx.now, &run.peer, (run.first, 1), failure, false, true);
    for number in 0..3 {
        tracker.set_can_fetch(&peer(number), true);
    }
    let other = if run.peer == peer(1) { peer(2) } else { peer(1) };
    tracker.heard(cx.now, &peer(0), &Have::All);
    for _ in 0..2 {
        cx.now = cx.now + 2 * COMPLAINT_AGE;
        tracker.starving(cx.now, &other, 0);
        tracker.starving(cx.now, &other, 1);
    }
    let runs = tracker.assign(&mut cx, &peer(0), 16);
    let runs: Vec<_> = runs.into_iter().map(|run| (run.peer, run.first, run.count)).collect();
    assert_eq!(runs, [(other, 0, 1)]);
}

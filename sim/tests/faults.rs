//! Each fault does something that shows.

use std::time::Duration;

use longshore_sim::run::{Summary, run};
use longshore_sim::scenario::Scenario;
use longshore_sim::world::{Fault, Options, PullState, World};

const MIB: u64 = 1024 * 1024;

/// Eight nodes that pull 64 MiB; the first one has it already when the others begin. What came of it, with these faults.
fn with_faults(faults: &str) -> Summary {
    with("", faults)
}

fn with(cluster: &str, faults: &str) -> Summary {
    let text = format!(
        "name = 'x'\nlimit = '20m'\n[cluster]\nnodes = 8\n{cluster}\n[[images]]\nlayers = ['64MiB']\nnodes = 1\n\
         [[images]]\nlayers = ['64MiB']\nat = '2s'\n{faults}"
    );
    let scenario = Scenario::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let report = run(&scenario, 1);
    assert_eq!(report.violations, Vec::<String>::new(), "{faults}");
    assert_eq!(report.summary.unfinished, 0, "{faults}");
    report.summary
}

/// When containerd gave up waiting for the mirror, with an origin that never answers and whatever is done to its node after
/// a second.
fn patience(befalls: impl FnOnce(&mut World)) -> Duration {
    let mut world = World::new(Options { nodes: 1, ..Options::default() });
    let image = world.publish(&[MIB]);
    world.origin.fault = Some(Fault::Silent);
    world.pull(0, &image, Duration::ZERO);
    world.run_for(Duration::from_secs(1));
    befalls(&mut world);
    assert!(world.run_until(Duration::from_secs(300), |world| world.fallbacks(0) > 0));
    world.run_for(Duration::from_micros(1));
    Duration::from_micros(world.now().as_micros())
}

#[test]
fn an_agent_lives_by_its_own_clock() {
    let usual = patience(|_| {});
    let fast = patience(|world| world.set_drift(0, 500_000));
    let slow = patience(|world| world.set_drift(0, -500_000));
    assert!(fast < usual * 3 / 4, "{fast:?}, usually {usual:?}");
    assert!(slow > usual * 3 / 2, "{slow:?}, usually {usual:?}");
    let leap = patience(|world| world.leap(0, Duration::from_secs(200)));
    assert!(leap < Duration::from_millis(1100), "{leap:?}");
    let stop = patience(|world| world.stop_clock(0, Duration::from_secs(40)));
    assert!(stop > usual + Duration::from_secs(39), "{stop:?}, usually {usual:?}");
    let suspended = patience(|world| world.suspend(0, Duration::from_secs(40)));
    assert!(suspended > usual + Duration::from_secs(39), "{suspended:?}, usually {usual:?}");
    // Where only the agent stands still, containerd goes on by its own clock.
    let paused = patience(|world| world.pause(0, Duration::from_secs(40)));
    assert!(paused > usual && paused < Duration::from_secs(31), "{paused:?}");
}

/// Four nodes whose informers hear of changes within half a second.
fn watching() -> World {
    let lag = Some(Duration::from_millis(500));
    let mut world = World::new(Options { nodes: 4, membership_lag: lag, ..Options::default() });
    world.run_for(Duration::from_secs(10));
    world
}

#[test]
fn informers_see_who_comes_and_goes() {
    let mut world = watching();
    world.kill(3);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.members_seen_by(0), [0, 1, 2]);
    world.start(3);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.members_seen_by(0), [0, 1, 2, 3]);
}

#[test]
fn what_happens_between_a_lost_watch_and_the_next_list_is_missed_until_the_list_comes() {
    let mut world = watching();
    world.lose_watch(0);
    world.kill(3);
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.members_seen_by(0), [0, 1, 2, 3]);
    assert_eq!(world.members_seen_by(1), [0, 1, 2]);
    world.heal_view(0);
    assert_eq!(world.members_seen_by(0), [0, 1, 2]);
}

#[test]
fn a_stale_list_is_older_than_what_was_seen() {
    let mut world = watching();
    world.kill(3);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.members_seen_by(0), [0, 1, 2]);
    world.show_stale_list(0, Duration::from_secs(6));
    assert_eq!(world.members_seen_by(0), [0, 1, 2, 3], "as it was six seconds ago");
    world.start(3);
    world.kill(2);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.members_seen_by(0), [0, 1, 2, 3]);
    world.heal_view(0);
    assert_eq!(world.members_seen_by(0), [0, 1, 3]);
}

#[test]
fn a_lost_event_is_missed_and_an_overtaken_one_counts_in_the_end() {
    let mut world = watching();
    world.informers.loss = 1_000_000;
    world.kill(3);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.members_seen_by(0), [0, 1, 2, 3]);
    world.informers.loss = 0;
    world.informers.reordering = 1_000_000;
    world.kill(2);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.members_seen_by(0), [0, 1, 2, 3], "node 2 went, and then came the word that it was there");
    world.informers.reordering = 0;
    world.heal_view(0);
    assert_eq!(world.members_seen_by(0), [0, 1]);
}

#[test]
fn only_who_is_connected_notices_a_death() {
    let mut world = World::new(Options { nodes: 40, ..Options::default() });
    let image = world.publish(&[MIB]);
    world.pull(0, &image, Duration::ZERO);
    world.run_until(Duration::from_secs(20), World::all_done);
    let connected = world.connected_to(0);
    assert!(!connected.is_empty() && connected.len() < 20, "{connected:?}");
    let events = world.events;
    world.kill(0);
    world.run_for(Duration::from_millis(5));
    assert!(world.events - events < 3 * connected.len() as u64 + 3, "{} events", world.events - events);
    assert!(world.connected_to(connected[0]).iter().all(|peer| *peer != 0));
    // And whoever has said nothing for long is not connected any more.
    world.run_for(Duration::from_secs(150));
    assert!(world.connected_to(1).is_empty());
}

#[test]
fn connections_that_break_are_seen_by_both_ends_and_made_again() {
    let mut world = World::new(Options { nodes: 4, ..Options::default() });
    let image = world.publish(&[64 * MIB]);
    for node in 0..4 {
        world.pull(node, &image, Duration::ZERO);
    }
    world.run_for(Duration::from_millis(200));
    assert!(!world.connected_to(1).is_empty());
    world.reset_connections(1);
    assert!(world.connected_to(1).is_empty());
    world.run_until(Duration::from_secs(60), World::all_done);
    assert!(matches!(world.pull_state(1), PullState::Done(_)));
    assert_eq!(world.violations, Vec::<String>::new());
}

#[test]
fn slow_links_slow_down_who_is_behind_them() {
    let usual = with_faults("").slowest_ratio;
    let slow = with_faults("[[faults]]\nat = '0s'\nwhat = 'slow-links'\nnodes = [3]\nrate = '1MB/s'\ndelay = '50ms'\n");
    assert!(slow.slowest_ratio > usual * 2.0, "{} and {usual}", slow.slowest_ratio);
    let between = "[[faults]]\nat = '0s'\nwhat = 'slow-links'\nnodes = [3]\nothers = [4]\nrate = '1MB/s'\n";
    assert!(with_faults(between).slowest_ratio < usual * 2.0, "there are other ways than this one");
}

#[test]
fn clogged_links_hold_what_they_carry_and_lose_nothing() {
    let mut world = World::new(Options { nodes: 2, ..Options::default() });
    let image = world.publish(&[MIB]);
    world.pull(0, &image, Duration::ZERO);
    world.run_until(Duration::from_secs(20), World::all_done);
    world.clog(1, [1].into());
    world.pull(1, &image, Duration::ZERO);
    world.run_for(Duration::from_millis(300));
    assert_eq!(world.pull_state(1), PullState::Pulling);
    world.unclog(1);
    world.run_for(Duration::from_millis(100));
    assert!(matches!(world.pull_state(1), PullState::Done(_)), "what was held has come");
    assert!(world.origin.sent_bytes() < image.bytes() * 11 / 10);
}

#[test]
fn links_that_clog_one_by_one_are_freed_in_another_order() {
    let clog = "[[faults]]\nat = '2s'\nfor = '3s'\nover = '2s'\nwhat = 'clog'\npercent = 50\n";
    let (usual, clogged) = (with_faults(""), with_faults(clog));
    assert!(clogged.slowest_ratio > usual.slowest_ratio + 1.0, "{} and {}", clogged.slowest_ratio, usual.slowest_ratio);
}

#[test]
fn loss_in_bursts_spikes_and_messages_that_cannot_be_read_cost_time() {
    let usual = with_faults("");
    for what in [
        "'burst-loss'\nper-million = 300000\ndelay = '300ms'",
        "'spikes'\nper-million = 300000\ndelay = '5s'",
        "'garble'\nper-million = 100000",
        "'loss'\nper-million = 700000\nmessage = 'piece'",
    ] {
        let hit = with_faults(&format!("[[faults]]\nat = '0s'\nfor = '60s'\nwhat = {what}\n"));
        let (slowest, usually) = (hit.slowest_ratio, usual.slowest_ratio);
        assert!(slowest > usually * 1.05, "{what}: {slowest}, usually {usually}");
    }
}

#[test]
fn a_partition_that_comes_and_goes_is_not_one_that_stays() {
    let partition = |more: &str| {
        with_faults(&format!("[[faults]]\nat = '2s'\nfor = '40s'\nwhat = 'half-open'\nnodes = [3, 4]\n{more}"))
    };
    let (stays, flaps) = (partition(""), partition("every = '200ms'\n"));
    assert_ne!(stays.trace_hash, flaps.trace_hash);
    assert!(flaps.origin_copies <= stays.origin_copies, "{} and {}", flaps.origin_copies, stays.origin_copies);
}

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
    let between = with_faults(between).slowest_ratio;
    // One piece comes that way at last, and takes a quarter of a second.
    let slow = slow.slowest_ratio;
    assert!(between < slow / 2.0, "there are other ways than this one: {between}, {slow} and {usual}");
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

/// Eight nodes that pull 64 MiB at once while the registry does this.
fn while_the_registry(fault: &str) -> Summary {
    let text = format!(
        "name = 'x'\nlimit = '20m'\n[cluster]\nnodes = 8\n[[images]]\nlayers = ['64MiB']\n[[faults]]\nat = '0s'\n{fault}"
    );
    let scenario = Scenario::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let report = run(&scenario, 1);
    assert_eq!(report.violations, Vec::<String>::new(), "{fault}");
    assert_eq!(report.summary.unfinished, 0, "{fault}");
    report.summary
}

#[test]
fn a_registry_that_fails_for_all_sends_containerds_on_and_one_that_fails_for_some_does_not() {
    for what in ["unauthorized", "forbidden", "unreachable", "errors", "empty"] {
        let all = while_the_registry(&format!("for = '20s'\nwhat = 'origin-{what}'\n"));
        assert!(all.failed_pulls >= 8, "{what}: {} pulls failed", all.failed_pulls);
    }
    for what in ["unreachable", "errors", "silent"] {
        let some = while_the_registry(&format!("for = '20s'\nwhat = 'origin-{what}'\nnodes = [1, 2, 3]\n"));
        assert!(some.failed_pulls <= 6, "{what}: {} pulls failed on three nodes", some.failed_pulls);
    }
}

#[test]
fn a_registry_that_fails_at_times_or_ends_bodies_early_costs_requests_or_copies_or_time() {
    let usual = while_the_registry("what = 'origin-slow'\nrate = '1Gbit/s'\n");
    for what in ["'origin-errors'\nper-million = 300000", "'origin-truncates'\nfor = '20s'"] {
        let hit = while_the_registry(&format!("what = {what}\n"));
        // The agents ask again, or their containerds ask the registry themselves.
        let asked = |summary: &Summary| summary.origin_requests + summary.fallbacks;
        let more = asked(&hit) > asked(&usual)
            || hit.origin_copies > usual.origin_copies + 1.0
            || hit.slowest_seconds > usual.slowest_seconds * 2.0;
        assert!(more, "{what}: {hit:?} {usual:?}");
    }
}

#[test]
fn wrong_bytes_from_the_registry_reach_nobody_and_are_forgotten_when_it_is_well_again() {
    let hit = while_the_registry("for = '3s'\nwhat = 'origin-corrupt'\n");
    assert!(hit.failed_pulls >= 8 && hit.virtual_seconds > 10.0, "the manifest was wrong: {hit:?}");
    let mut world = World::new(Options { nodes: 4, ..Options::default() });
    let image = world.publish(&[64 * MIB]);
    for node in 0..4 {
        world.pull(node, &image, Duration::ZERO);
    }
    world.run_for(Duration::from_millis(200));
    world.origin.fault = Some(Fault::Corrupt);
    world.run_for(Duration::from_millis(200));
    world.origin.fault = None;
    world.run_until(Duration::from_secs(300), World::all_done);
    assert_eq!(world.violations, Vec::<String>::new());
    assert!(world.origin.sent_bytes() > image.bytes() + 5 * MIB, "{}", world.origin.sent_bytes());
    assert!((0..4).all(|node| matches!(world.pull_state(node), PullState::Done(_))));
}

#[test]
fn a_limit_for_each_node_is_met_by_sharing() {
    let text =
        "name = 'x'\n[cluster]\nnodes = 8\n[origin]\nrequests-per-node-second = 2\n[[images]]\nlayers = ['64MiB']\n";
    let scenario = Scenario::parse(text).unwrap_or_else(|error| panic!("{error}"));
    let report = run(&scenario, 1);
    assert_eq!((report.violations.len(), report.summary.unfinished), (0, 0));
    let unlimited = Scenario::parse(&text.replace("requests-per-node-second = 2", "")).expect("a scenario");
    assert_ne!(report.summary.trace_hash, run(&unlimited, 1).summary.trace_hash);
}

#[test]
fn an_index_that_is_wrong_or_slow_sends_nobody_astray() {
    for what in ["'index-wrong'\nper-million = 1000000", "'index-slow'\ndelay = '2s'"] {
        let (usual, hit) = (with_faults(""), with_faults(&format!("[[faults]]\nat = '0s'\nwhat = {what}\n")));
        assert_ne!(hit.trace_hash, usual.trace_hash, "{what}");
        assert!(hit.origin_copies < 1.05, "{what}: {} copies", hit.origin_copies);
    }
}

#[test]
fn a_slow_disk_holds_up_its_own_node_alone() {
    let mut world = World::new(Options { nodes: 4, ..Options::default() });
    let image = world.publish(&[64 * MIB]);
    world.set_disk(3, Some((8_000_000, Duration::from_millis(5))));
    for node in 0..4 {
        world.pull(node, &image, Duration::ZERO);
    }
    world.run_until(Duration::from_secs(60), World::all_done);
    let took = |node| match world.pull_state(node) {
        PullState::Done(took) => took.as_secs_f64(),
        other => panic!("node {node}: {other:?}"),
    };
    assert!(took(3) > 7.0, "64 MiB at 8 MB/s: {}", took(3));
    assert!((0..3).all(|node| took(node) < took(3) / 2.0), "{}, {}, {}", took(0), took(1), took(2));
}

#[test]
fn a_machine_that_lost_its_disk_fetches_everything_again_and_from_its_peers() {
    let wiped = with_faults("[[faults]]\nat = '4s'\nfor = '1s'\nwhat = 'wipe'\nnodes = [3]\n");
    assert!(wiped.origin_copies < 1.1, "{} copies", wiped.origin_copies);
    let mut world = World::new(Options { nodes: 2, ..Options::default() });
    let image = world.publish(&[MIB]);
    world.pull(0, &image, Duration::ZERO);
    world.run_until(Duration::from_secs(20), World::all_done);
    assert!(world.has_image(0, &image));
    world.wipe(0);
    world.start(0);
    world.run_for(Duration::from_secs(1));
    assert!(!world.has_image(0, &image));
}

#[test]
fn what_has_rotted_is_found_by_the_first_peer_that_gets_it() {
    let mut world = World::new(Options { nodes: 3, ..Options::default() });
    let image = world.publish(&[30 * MIB]);
    world.pull(0, &image, Duration::ZERO);
    world.run_until(Duration::from_secs(20), World::all_done);
    world.run_for(Duration::from_secs(20));
    let holders: Vec<_> = world.node_indices().filter(|node| world.has_image(*node, &image)).collect();
    for node in &holders {
        world.rot(*node, 1_000_000);
    }
    // Only what containerd has read can rot here, so some may still be right.
    assert!(!world.has_image(0, &image));
    let others: Vec<_> = world.node_indices().filter(|node| !holders.contains(node)).collect();
    for node in &others {
        world.pull(*node, &image, Duration::ZERO);
    }
    world.run_until(Duration::from_secs(100), World::all_done);
    assert_eq!(world.violations, Vec::<String>::new());
    assert!(others.iter().all(|node| world.has_image(*node, &image)));
}

#[test]
fn a_pull_goes_on_after_a_restart_of_containerd() {
    let mut world = World::new(Options { nodes: 1, ..Options::default() });
    let image = world.publish(&[200 * MIB]);
    world.pull(0, &image, Duration::ZERO);
    world.run_for(Duration::from_millis(500));
    world.restart_containerd(0, Duration::from_secs(15));
    world.run_for(Duration::from_secs(14));
    assert_eq!((world.failed_pulls(0), world.pull_state(0)), (1, PullState::Pulling));
    world.run_until(Duration::from_secs(60), World::all_done);
    assert!(matches!(world.pull_state(0), PullState::Done(_)));
    assert!(world.origin.sent_bytes() < image.bytes() * 12 / 10, "what had come is not fetched again");
}

#[test]
fn peers_that_lie_are_done_without() {
    for what in ["false-claims", "wrong-sums", "half-truth", "mute", "trickle"] {
        let rate = if what == "trickle" { "rate = '100kB/s'\n" } else { "" };
        let text = format!(
            "name = 'x'\nlimit = '10m'\n[cluster]\nnodes = 8\n[[images]]\nlayers = ['64MiB']\n\
             [[faults]]\nat = '0s'\nfor = '120s'\nwhat = '{what}'\nnodes = [2, 5]\n{rate}"
        );
        let scenario = Scenario::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let honest = run(&Scenario { faults: Vec::new(), ..scenario.clone() }, 1).summary;
        let report = run(&scenario, 1);
        assert_eq!((report.violations, report.summary.unfinished), (Vec::new(), 0), "{what}");
        assert_ne!(report.summary.trace_hash, honest.trace_hash, "{what}");
        // Each piece that does not fit a false midstate is fetched from the origin, and when it is found out at the end that all
        // were deceived, one of them fetches everything again.
        assert!(report.summary.origin_copies < 3.0, "{what}: {} copies", report.summary.origin_copies);
    }
}

#[test]
fn two_versions_share_a_cluster() {
    let run_with = |version: &str| {
        let text = format!(
            "name = 'x'\nlimit = '10m'\n[cluster]\nnodes = 10\n{version}[[images]]\nlayers = ['64MiB']\narrivals = 'rolling'\n\
             over = '2s'\n"
        );
        let report = run(&Scenario::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}")), 1);
        assert_eq!((report.violations, report.summary.unfinished), (Vec::new(), 0), "{version}");
        report.summary
    };
    let usual = run_with("");
    let knobs = run_with("[other-version]\npercent = 50\n[other-version.knobs]\nprobe-width = 1\nmax-uploads = 2\n");
    assert!(knobs.origin_copies < 1.05, "{} copies", knobs.origin_copies);
    let spineless = run_with("[other-version]\npercent = 50\nspine = false\n");
    assert!(spineless.origin_copies < 1.2, "{} copies", spineless.origin_copies);
    // Those who know no swarm get theirs from the registry, each its own; the others share.
    let swarmless = run_with("[other-version]\npercent = 30\nswarm = false\n");
    assert!((2.0..6.0).contains(&swarmless.origin_copies), "{} copies", swarmless.origin_copies);
    for other in [&knobs, &spineless, &swarmless] {
        assert_ne!(other.trace_hash, usual.trace_hash);
    }
}

#[test]
fn an_update_is_measured_by_what_it_brings_and_without_unpacking() {
    let text = "name = 'x'\nlimit = '30m'\n[cluster]\nnodes = 4\n[client]\nunpack-rate = '1MB/s'\n[[images]]\nlayers = ['64MiB']\n\
                [[images]]\nlayers = ['16MiB']\nshared-layers = 1\nat = '3m'\n";
    let report = run(&Scenario::parse(text).unwrap_or_else(|error| panic!("{error}")), 1);
    let summary = report.summary;
    assert_eq!((report.violations.len(), summary.finished), (0, 8));
    assert!((1.0..2.5).contains(&summary.median_ratio), "{}", summary.median_ratio);
    assert!(summary.slowest_ratio < 3.0, "{}: unpacking takes a minute", summary.slowest_ratio);
    assert!(summary.slowest_seconds > 60.0, "{}", summary.slowest_seconds);
}

#[test]
fn a_rack_can_fail_as_one() {
    let text = "name = 'x'\n[cluster]\nnodes = 12\nzones = 2\nracks = 3\ncross-rack-latency = '1ms'\n[[images]]\nlayers = ['8MiB']\n\
                [[faults]]\nat = '0s'\nwhat = 'power-cut'\nrack = 4\n";
    let report = run(&Scenario::parse(text).unwrap_or_else(|error| panic!("{error}")), 1);
    // Nodes 3 and 9 are in the second zone's second rack.
    assert_eq!((report.violations.len(), report.summary.finished), (0, 10));
}

//! A cluster pulls an image: what has to hold with and without faults.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_sim::world::{Fault, Image, Options, PullState, World};

const MIB: u64 = 1024 * 1024;
const LIMIT: Duration = Duration::from_secs(120);

fn world(nodes: usize) -> World {
    World::new(Options { nodes, ..Options::default() })
}

fn pull_everywhere(world: &mut World, image: &Image) {
    for node in world.node_indices() {
        world.pull(node, image, Duration::from_millis(node as u64));
    }
}

fn assert_all_have(world: &World, image: &Image, nodes: &[usize]) {
    assert_eq!(world.violations, Vec::<String>::new());
    for node in nodes.iter().copied().filter(|node| world.is_up(*node)) {
        assert!(
            matches!(world.pull_state(node), PullState::Done(_)),
            "node {node} is not done: {:#?}",
            world.agent(node).map(|agent| agent.status())
        );
        assert_eq!(world.fallbacks(node), 0, "node {node} had to ask the registry itself\n{}", story(world));
        assert!(world.has(node, &image.manifest));
    }
}

fn all(world: &World) -> Vec<usize> {
    world.node_indices().collect()
}

/// What happened, one line each.
fn story(world: &World) -> String {
    let line = |(at, node, what): &(longshore_core::time::Time, usize, _)| {
        format!("{:>9.4} {node:>3} {what:?}\n", at.as_micros() as f64 / 1e6)
    };
    world.explanations.iter().map(line).collect()
}

fn copies(world: &World, image: &Image) -> f64 {
    world.origin.sent_bytes() as f64 / (image.bytes() + 1500) as f64
}

#[test]
fn the_origin_sends_one_copy_to_a_cluster_of_any_size() {
    for nodes in [1, 2, 3, 5, 8, 30] {
        let mut world = world(nodes);
        let image = world.publish(&[64 * MIB, 10 * MIB, 3 * MIB, 100_000]);
        pull_everywhere(&mut world, &image);
        world.run_until(LIMIT, World::all_done);
        assert_all_have(&world, &image, &all(&world));
        assert!(copies(&world, &image) < 1.001, "{nodes} nodes: {} copies", copies(&world, &image));
        world.run_for(Duration::from_secs(30));
        for node in world.node_indices() {
            assert!(world.has_image(node, &image));
            let status = world.agent(node).map(|agent| agent.status());
            let status = status.expect("the node is up");
            assert_eq!(
                (status.flights.len(), status.mirror_requests, status.streams, status.calls),
                (0, 0, 0, 0),
                "{status:#?}"
            );
        }
    }
}

#[test]
fn the_slowest_node_is_near_the_optimum() {
    let mut world = world(50);
    let image = world.publish(&[256 * MIB]);
    pull_everywhere(&mut world, &image);
    world.run_until(LIMIT, World::all_done);
    assert_all_have(&world, &image, &all(&world));
    let slowest = world.node_indices().filter_map(|node| match world.pull_state(node) {
        PullState::Done(took) => Some(took),
        _ => None,
    });
    let optimum = image.bytes() as f64 / world.options.node_rate as f64;
    let ratio = slowest.max().unwrap_or_default().as_secs_f64() / optimum;
    assert!(ratio < 1.5, "the slowest node took {ratio:.2} times the optimum");
}

#[test]
fn late_comers_are_served_by_the_cluster_alone() {
    let mut world = world(6);
    let image = world.publish(&[20 * MIB, 5 * MIB]);
    world.pull(0, &image, Duration::ZERO);
    world.run_until(LIMIT, World::all_done);
    world.origin.fault = Some(Fault::Errors);
    for node in 1..6 {
        world.pull(node, &image, Duration::ZERO);
    }
    world.run_until(LIMIT, World::all_done);
    assert_all_have(&world, &image, &all(&world));
}

#[test]
fn any_node_may_die_at_any_time_and_the_others_finish() {
    for seed in 0..40 {
        let mut world = World::new(Options { nodes: 6, seed, ..Options::default() });
        let image = world.publish(&[40 * MIB, 20 * MIB]);
        pull_everywhere(&mut world, &image);
        let victim = (seed % 6) as usize;
        world.run_for(Duration::from_millis(15 + seed * 17));
        world.kill(victim);
        let done = world.run_until(LIMIT, World::all_done);
        assert!(done, "seed {seed}: not done; {:#?}", world.explanations.iter().rev().take(20).collect::<Vec<_>>());
        assert_all_have(&world, &image, &all(&world));
        assert!(copies(&world, &image) < 1.6, "seed {seed}: {} copies", copies(&world, &image));
    }
}

#[test]
fn a_restarted_agent_goes_on_with_what_is_on_its_disk() {
    let mut world = world(1);
    let image = world.publish(&[100 * MIB]);
    world.pull(0, &image, Duration::ZERO);
    world.run_for(Duration::from_millis(600));
    let before = world.origin.sent_bytes();
    assert!(before > 20 * MIB, "{before}: {:#?}", world.explanations);
    world.kill(0);
    world.start(0);
    world.pull(0, &image, Duration::from_millis(10));
    world.run_until(LIMIT, World::all_done);
    assert_all_have(&world, &image, &all(&world));
    assert!(copies(&world, &image) < 1.3, "{} copies", copies(&world, &image));
}

#[test]
fn a_peer_that_serves_wrong_bytes_is_convicted_and_nobody_gets_them() {
    let mut world = world(5);
    let image = world.publish(&[30 * MIB]);
    world.corrupt(2);
    pull_everywhere(&mut world, &image);
    world.run_until(LIMIT, World::all_done);
    assert_all_have(&world, &image, &all(&world));
    assert!(world.total(|counters| counters.peers_convicted) > 0);
    assert!(world.total(|counters| counters.pieces_rejected) < 40, "a convict is asked again and again");
}

#[test]
fn a_disk_that_rots_after_the_pull_is_found_out_by_the_first_piece() {
    for restarted in [false, true] {
        let mut world = world(4);
        let image = world.publish(&[30 * MIB, 5 * MIB]);
        world.pull(0, &image, Duration::ZERO);
        world.run_until(LIMIT, World::all_done);
        world.run_for(Duration::from_secs(20));
        let holders: Vec<_> = world.node_indices().filter(|node| world.has_image(*node, &image)).collect();
        for node in world.node_indices() {
            world.corrupt(node);
            if restarted {
                world.kill(node);
                world.start(node);
            }
        }
        for node in world.node_indices().filter(|node| !holders.contains(node)) {
            world.pull(node, &image, Duration::from_millis(50));
        }
        world.run_until(LIMIT, World::all_done);
        assert_all_have(
            &world,
            &image,
            &world.node_indices().filter(|node| !holders.contains(node)).collect::<Vec<_>>(),
        );
        assert!(world.total(|counters| counters.peers_convicted) > 0);
    }
}

#[test]
fn a_partition_costs_one_copy_for_each_side() {
    let mut world = world(8);
    let image = world.publish(&[30 * MIB]);
    world.partition(BTreeMap::from_iter((4..8).map(|node| (node, 1))));
    pull_everywhere(&mut world, &image);
    world.run_until(LIMIT, World::all_done);
    assert_all_have(&world, &image, &all(&world));
    assert!(copies(&world, &image) < 2.1, "{} copies", copies(&world, &image));
}

#[test]
fn nodes_that_see_different_clusters_still_share() {
    let mut world = world(8);
    for node in 0..8 {
        let visible: Vec<_> = (0..8).filter(|other| (other + node) % 3 != 0).collect();
        world.set_view(node, &visible);
    }
    let image = world.publish(&[30 * MIB]);
    pull_everywhere(&mut world, &image);
    world.run_until(LIMIT, World::all_done);
    assert_all_have(&world, &image, &all(&world));
    assert!(copies(&world, &image) < 2.05, "{} copies", copies(&world, &image));
}

#[test]
fn an_origin_without_ranges_is_asked_by_one_node_only() {
    let mut world = world(4);
    world.origin.fault = Some(Fault::NoRanges);
    let image = world.publish(&[30 * MIB]);
    pull_everywhere(&mut world, &image);
    world.run_until(LIMIT, World::all_done);
    assert_all_have(&world, &image, &all(&world));
    assert!(copies(&world, &image) < 1.1, "{} copies", copies(&world, &image));
}

#[test]
fn an_origin_that_fails_sends_containerd_on_within_the_contract() {
    for fault in [Fault::Errors, Fault::Empty, Fault::RateLimited(Duration::from_secs(60)), Fault::Silent] {
        let mut world = world(3);
        let image = world.publish(&[5 * MIB]);
        world.origin.fault = Some(fault);
        pull_everywhere(&mut world, &image);
        world.run_for(Duration::from_secs(60));
        for node in 0..3 {
            assert!(world.failed_pulls(node) > 0, "{fault:?}: containerd on node {node} was kept waiting");
        }
        world.origin.fault = None;
        let done = world.run_until(Duration::from_secs(200), World::all_done);
        assert!(done, "{fault:?}: {:#?}", world.explanations);
        assert_eq!(world.violations, Vec::<String>::new(), "{fault:?}");
        for node in 0..3 {
            assert!(world.fallbacks(node) > 0, "{fault:?}: node {node} got it from nowhere");
        }
    }
}

#[test]
fn a_private_image_is_fetched_once_with_the_credentials_of_those_who_have_some() {
    use longshore_core::names::CredentialId;
    let mut world = world(5);
    world.origin.private = true;
    let image = world.publish(&[20 * MIB, 2 * MIB]);
    for node in 0..5 {
        // As containerd does: with a credential after the mirror's 401.
        world.pull_with(node, &image, Duration::from_millis(node as u64), Some(CredentialId(7)));
    }
    world.run_until(LIMIT, World::all_done);
    assert_all_have(&world, &image, &all(&world));
    assert!(copies(&world, &image) < 1.01, "{} copies", copies(&world, &image));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut world = World::new(Options { nodes: 7, seed, ..Options::default() });
        let image = world.publish(&[20 * MIB, 7 * MIB]);
        pull_everywhere(&mut world, &image);
        world.run_for(Duration::from_millis(100));
        world.kill(3);
        world.run_for(Duration::from_secs(20));
        (world.events, format!("{:?}", world.explanations))
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5).1, run(6).1);
}

#[test]
fn nodes_without_a_credential_lead_and_nodes_with_one_fetch() {
    use longshore_core::names::CredentialId;
    for seed in 0..30 {
        let mut world = World::new(Options { nodes: 5, seed, ..Options::default() });
        world.origin.private = true;
        let image = world.publish(&[20 * MIB, 2 * MIB, 300_000, 200_000]);
        let pulling: Vec<_> = (0..5).filter(|node| *node as u64 != seed % 5 && *node as u64 != seed / 5 % 5).collect();
        for node in &pulling {
            world.pull_with(*node, &image, Duration::from_millis(*node as u64 * (seed % 7)), Some(CredentialId(7)));
        }
        world.run_until(Duration::from_secs(15), World::all_done);
        assert_all_have(&world, &image, &pulling);
        assert!(copies(&world, &image) < 1.05, "seed {seed}: {} copies\n{}", copies(&world, &image), story(&world));
    }
}

#[test]
fn a_node_that_comes_back_while_others_still_hold_it_for_dead_is_served_by_them() {
    for seed in 0..10 {
        let mut world = World::new(Options { nodes: 2, seed, ..Options::default() });
        let image = world.publish(&[200 * MIB]);
        let (first, second) = ((seed % 2) as usize, 1 - (seed % 2) as usize);
        world.kill(second);
        world.pull(first, &image, Duration::ZERO);
        // It has found out by now that the other one does not answer.
        world.run_for(Duration::from_millis(1500));
        world.start(second);
        world.pull(second, &image, Duration::from_millis(10));
        let events = world.events;
        world.run_until(LIMIT, World::all_done);
        assert_all_have(&world, &image, &all(&world));
        assert!(copies(&world, &image) < 1.01, "seed {seed}: {} copies\n{}", copies(&world, &image), story(&world));
        let events = world.events - events;
        assert!(events < 20_000, "seed {seed}: {events} events for 50 pieces");
    }
}

#[test]
fn an_anonymous_request_for_a_private_image_is_told_so_at_once_on_every_node() {
    let mut world = world(4);
    world.origin.private = true;
    let image = world.publish(&[2 * MIB]);
    for node in 0..4 {
        world.pull(node, &image, Duration::from_millis(node as u64 * 40));
    }
    for node in 0..4 {
        // The simulated containerd has no credential to come back with, and goes on to the registry.
        let told = world.run_until(Duration::from_secs(2), |world| world.fallbacks(node) > 0);
        assert!(told, "node {node}\n{}", story(&world));
    }
}

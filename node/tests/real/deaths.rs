//! Agents die in mid-pull and come back. "Mid-pull" is exact: the registry holds its bodies at a byte.

use crate::harness::PATIENCE;
use crate::harness::http::{self, Ending};
use crate::harness::lab::Lab;
use crate::harness::wait_for;
use crate::harness::world::{MIB, World};

const LAYER: u64 = 32 * MIB;
/// Where the registry holds: half of the layer.
const HELD: u64 = 16 * MIB;
/// Most bytes that can be under way between the registry and one agent when it dies: six requests (`max_origin_fetches`)
/// of 256 KiB pieces, and what the sockets of as many connections buffer.
const IN_FLIGHT: u64 = 4 * MIB;

/// All three pull, the registry holds half-way, the victim is killed, all goes on; every containerd has to finish.
fn kill_in_mid_pull(victim_of: impl Fn(&World) -> usize) {
    let Some(lab) = Lab::open() else { return };
    let mut world = World::build(&lab, 3, &[LAYER], "");
    let layer = world.image.largest_layer().clone();
    let victim = victim_of(&world);
    world.front.hold_at(HELD);
    let pulls = world.start_all();
    world.front.wait_until_held(PATIENCE);
    world.cluster.agents[victim].kill();
    world.front.release();
    for pull in pulls {
        pull.wait().expect_success("a pull");
    }
    (0..3).for_each(|node| world.assert_complete(node));

    // The dead agent took with it what it alone had fetched and was fetching; the rest is not fetched again.
    let (agents, containerds) = (world.bytes_to_agents(&layer), world.bytes_to_containerds(&layer));
    assert!(agents <= layer.size + HELD + IN_FLIGHT, "{agents} bytes went to agents, the layer has {}", layer.size);
    assert!(containerds <= layer.size, "{containerds} bytes went to containerds: more than the orphaned one fell back");
}

#[test]
fn the_designated_puller_is_killed_in_mid_pull_and_all_finish() {
    kill_in_mid_pull(|world| world.cluster.designated(&world.image.largest_layer().digest));
}

#[test]
fn a_participant_is_killed_in_mid_pull_and_all_finish() {
    kill_in_mid_pull(|world| (world.cluster.designated(&world.image.largest_layer().digest) + 1) % 3);
}

/// One agent is stopped in mid-pull and started again; what it had on disk is not fetched again.
fn restart_in_mid_pull(kill: bool) {
    let Some(lab) = Lab::open() else { return };
    let mut world = World::build(&lab, 1, &[LAYER], "drain_timeout = \"1s\"");
    let layer = world.image.largest_layer().clone();
    world.front.hold_at(HELD);
    let pull = world.start_pull(0, &world.by_tag(), None);
    world.front.wait_until_held(PATIENCE);
    let agent = &mut world.cluster.agents[0];
    wait_for("the agent to have what the registry sent", PATIENCE, || {
        (agent.counter("origin_bytes") + IN_FLIGHT >= HELD).then_some(())
    });
    if kill {
        agent.kill();
    } else {
        agent.terminate();
    }
    agent.restart();
    agent.wait_until_ready();
    world.front.release();
    pull.wait().expect_success("the interrupted pull");
    world.assert_complete(0);

    let path = world.blob_path(&layer);
    let agent = &world.cluster.agents[0];
    let response = http::get(agent.mirror_port, &path, &[]).unwrap();
    assert_eq!((response.status, response.ending), (200, Ending::Complete));
    assert!(response.body == world.image.read(&layer));
    let sent = world.bytes_to_agents(&layer);
    assert!(sent <= layer.size + IN_FLIGHT, "{sent} bytes went to the agent, the layer has {}", layer.size);
}

#[test]
fn a_killed_agent_goes_on_with_what_it_had_on_disk() {
    restart_in_mid_pull(true);
}

#[test]
fn a_stopped_agent_goes_on_with_what_it_had_on_disk() {
    restart_in_mid_pull(false);
}

#[test]
fn an_agent_that_is_restarted_in_a_swarm_fetches_little_twice() {
    let Some(lab) = Lab::open() else { return };
    let mut world = World::build(&lab, 3, &[LAYER], "");
    let layer = world.image.largest_layer().clone();
    world.front.hold_at(HELD);
    let pulls = world.start_all();
    world.front.wait_until_held(PATIENCE);
    let agent = &mut world.cluster.agents[1];
    let before = agent.counter("origin_bytes") + agent.counter("peer_bytes");
    agent.kill();
    agent.restart();
    agent.wait_until_ready();
    world.front.release();
    for pull in pulls {
        pull.wait().expect_success("a pull");
    }
    let agent = &world.cluster.agents[1];
    let response = http::get(agent.mirror_port, &world.blob_path(&layer), &[]).unwrap();
    assert!(response.body == world.image.read(&layer));
    let after = agent.counter("origin_bytes") + agent.counter("peer_bytes");
    let total = world.image.total_bytes();
    assert!(before + after <= total + 2 * IN_FLIGHT, "{before} bytes before and {after} after, the image has {total}");
}

#[test]
fn containerd_pulls_from_the_registry_when_its_agent_is_gone() {
    let Some(lab) = Lab::open() else { return };
    let mut world = World::build(&lab, 1, &[MIB], "");
    world.cluster.agents[0].kill();
    world.pull(0, None).expect_success("the pull past a dead agent");
    world.assert_complete(0);
}

#[test]
fn a_stopping_agent_finishes_what_it_serves_and_takes_no_new_work() {
    let Some(lab) = Lab::open() else { return };
    // One fetch at a time: the body has begun when the registry is held up.
    let mut world = World::build(&lab, 1, &[4 * MIB], "max_origin_fetches = 1");
    let layer = world.image.largest_layer().clone();
    let (path, port) = (world.blob_path(&layer), world.cluster.agents[0].mirror_port);
    world.front.hold_at(MIB);
    let mut exchange = http::Exchange::start(port, "GET", &path, &[]).unwrap();
    assert_eq!(exchange.read_head().unwrap().second_word(), "200");
    world.front.wait_until_held(PATIENCE);

    let agent = &mut world.cluster.agents[0];
    agent.ask_to_stop();
    wait_for("the agent to say that it is draining", PATIENCE, || (!agent.is_ready()).then_some(()));
    let refused = http::get(port, &path, &[]).map_or(503, |response| response.status);
    assert!(matches!(refused, 404 | 503), "a new request while draining got {refused}");
    world.front.release();
    let content = exchange.read_exactly(usize::try_from(layer.size).unwrap()).unwrap();
    assert!(content == world.image.read(&layer));
    assert!(world.cluster.agents[0].wait_until_ended(), "everything was finished, and the exit code says otherwise");
}

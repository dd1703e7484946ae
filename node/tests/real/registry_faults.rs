//! Registries on bad days: whatever the agent meets there, containerd gets its image, at worst from the registry itself,
//! and never an answer that makes matters worse.

use std::time::{Duration, Instant};

use crate::harness::agent::{Agent, Settings};
use crate::harness::faulty::{Door, Fault, FaultyRegistry, Rule};
use crate::harness::http::{self, Ending};
use crate::harness::lab::Lab;
use crate::harness::registry::{Access, Registry};
use crate::harness::upload::upload;
use crate::harness::world::{MIB, World};

const REPOSITORY: &str = "demo/far";
/// Short waits, so that a stalled body is given up within the test.
const IMPATIENT: &str = "no_progress_timeout = \"2s\"\nbody_timeout = \"3s\"\nheader_timeout = \"5s\"";

/// One node meets this fault for every blob; its containerd does not. The pull has to succeed.
fn pull_despite(fault: Fault, extra: &str) -> Option<(Lab, World)> {
    let lab = Lab::open()?;
    let world = World::build(&lab, 1, &[4 * MIB], extra);
    world.front.add(Rule::always("/blobs/", fault).for_agents().any_method());
    world.pull(0, None).expect_success("the pull");
    world.assert_complete(0);
    Some((lab, world))
}

/// Every status that a registry gives the agent for a blob becomes a 404, "ask the registry yourself": at once, or when the
/// agent has waited for a registry that answered before, by the header timeout at the latest.
fn status_becomes_404(status: u16, headers: &[(&str, &str)]) {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let Some((_lab, world)) = pull_despite(Fault::Status(status, headers), IMPATIENT) else { return };
    let layer = world.image.largest_layer();
    let (started, port) = (Instant::now(), world.cluster.agents[0].mirror_port);
    let response = http::get(port, &world.blob_path(layer), &[]).unwrap();
    assert_eq!(response.status, 404, "{}", response.text());
    assert_eq!(response.ending, Ending::Complete);
    assert!(started.elapsed() < Duration::from_secs(10), "the 404 took {:?}", started.elapsed());
    assert_eq!(world.bytes_to_containerds(layer), layer.size, "containerd went to the registry itself");
    let requests = world.front.requests(&layer.digest);
    assert!(requests < 20, "the agent hammers the registry: {requests} requests for one blob");
}

#[test]
fn a_blob_that_the_registry_denies_is_a_404_for_containerd() {
    status_becomes_404(404, &[]);
}

#[test]
fn a_rate_limit_is_never_passed_on_and_its_retry_after_is_honoured() {
    status_becomes_404(429, &[("retry-after", "60")]);
}

#[test]
fn a_registry_in_trouble_is_a_404_for_containerd() {
    status_becomes_404(500, &[]);
    status_becomes_404(503, &[("retry-after", "1")]);
}

#[test]
fn a_forbidden_blob_is_never_served_and_containerd_asks_for_itself() {
    let Some((_lab, world)) = pull_despite(Fault::Status(403, Vec::new()), "") else { return };
    let layer = world.image.largest_layer();
    let response = http::get(world.cluster.agents[0].mirror_port, &world.blob_path(layer), &[]).unwrap();
    assert!(matches!(response.status, 401 | 403 | 404), "{}", response.status);
}

#[test]
fn a_stalled_body_is_cut_short_and_containerd_gets_the_rest_elsewhere() {
    let Some((_lab, world)) = pull_despite(Fault::Stall(MIB), IMPATIENT) else { return };
    let printed = world.containerds[0].run(&world.by_tag(), "proof", &["/bin/busybox", "wc", "-c", "/data-0"]);
    assert!(printed.contains(&(4 * MIB).to_string()), "{printed}");
}

#[test]
fn a_stalled_body_ends_in_a_clean_fin_within_the_body_timeout() {
    let Some(lab) = Lab::open() else { return };
    let world = World::build(&lab, 1, &[4 * MIB], IMPATIENT);
    let layer = world.image.largest_layer();
    // Some pieces come through, then every response stalls before its first byte.
    world.front.add(Rule::times(3, "/blobs/", Fault::Stall(MIB)));
    world.front.add(Rule::always("/blobs/", Fault::Stall(0)));
    let started = Instant::now();
    let response = http::get(world.cluster.agents[0].mirror_port, &world.blob_path(layer), &[]).unwrap();
    assert!(started.elapsed() < Duration::from_secs(20), "it took {:?}", started.elapsed());
    match response.status {
        200 => {
            assert_eq!(response.ending, Ending::Short);
            assert_eq!(response.header("content-length"), layer.size.to_string());
            assert!(world.image.read(layer).starts_with(&response.body), "a wrong byte");
        }
        status => assert_eq!(status, 404),
    }
}

#[test]
fn a_registry_far_away_is_asked_for_more_at_a_time() {
    let Some(lab) = Lab::open() else { return };
    let registry = Registry::start(&lab, Access::Anonymous);
    let front = FaultyRegistry::start(registry.port);
    front.add(Rule::always("/blobs/", Fault::Late(Duration::from_millis(250))).any_method());
    let content: Vec<u8> =
        (0..64 * MIB / 4).flat_map(|word| (word as u32).wrapping_mul(0x9e37_79b1).to_le_bytes()).collect();
    let digest = upload(registry.port, REPOSITORY, &content);
    let agent = Agent::alone(&lab, &Settings::with_registry(front.port));
    let response = http::get(agent.mirror_port, &Agent::blob_path(front.port, REPOSITORY, &digest), &[]).unwrap();
    assert_eq!((response.status, response.body == content), (200, true), "{}", agent.log());
    // One of 1 MiB after the other would be 64, two at a time: eight seconds.
    let requests = front.requests(&digest);
    assert!(requests <= 40, "{requests} requests");
}

#[test]
fn a_short_body_is_resumed_where_it_ended() {
    let Some(lab) = Lab::open() else { return };
    let world = World::build(&lab, 1, &[4 * MIB], "");
    let layer = world.image.largest_layer();
    world.front.add(Rule::times(2, &layer.digest, Fault::Short(100_000)));
    world.pull(0, None).expect_success("the pull");
    world.assert_complete(0);
    let sent = world.bytes_to_agents(layer) + world.bytes_to_containerds(layer);
    assert!(sent <= layer.size + 512 * 1024, "{sent} bytes were sent for a layer of {}", layer.size);
}

#[test]
fn a_corrupted_body_is_not_kept_and_not_called_complete() {
    let Some(lab) = Lab::open() else { return };
    let world = World::build(&lab, 1, &[4 * MIB], "");
    let layer = world.image.largest_layer();
    let expected = world.image.read(layer);
    world.front.add(Rule::times(1, &layer.digest, Fault::Corrupt(70_000)));
    let (port, path) = (world.cluster.agents[0].mirror_port, world.blob_path(layer));
    let first = http::get(port, &path, &[]).unwrap();
    let complete = first.status == 200 && first.ending == Ending::Complete;
    assert!(!complete || first.body == expected, "wrong bytes were served as a complete blob");
    world.front.heal();
    world.pull(0, None).expect_success("the pull after the corruption");
    let second = http::get(port, &path, &[]).unwrap();
    assert!(second.status == 404 || second.body == expected, "the corrupted blob was kept");
}

#[test]
fn a_containerd_that_has_read_wrong_bytes_gets_the_image_with_a_later_try() {
    let Some(lab) = Lab::open() else { return };
    let world = World::build(&lab, 1, &[4 * MIB], "");
    let layer = world.image.largest_layer();
    world.front.add(Rule::times(1, &layer.digest, Fault::Corrupt(70_000)).for_agents());
    // What was wrong may have been read before anybody could know: then containerd finds it out, and whoever pulls tries again.
    let tries = (1..=5).find(|_| {
        let pulled = world.pull(0, None);
        if !pulled.success {
            assert!(pulled.output.contains("unexpected commit digest"), "{}", pulled.output);
            std::thread::sleep(Duration::from_secs(1));
        }
        pulled.success
    });
    assert!(tries.is_some_and(|tries| tries <= 2), "{tries:?}");
    world.assert_complete(0);
    assert_eq!(world.cluster.counter("blobs_mismatched"), 1, "people hear of it");
    let printed = world.containerds[0].run(&world.by_tag(), "proof", &["/bin/busybox", "wc", "-c", "/data-0"]);
    assert!(printed.contains(&(4 * MIB).to_string()), "{printed}");
}

#[test]
fn a_redirect_is_followed_and_the_credential_stays_behind() {
    let Some(lab) = Lab::open() else { return };
    let world = World::guarded(&lab, 1, &[4 * MIB], "", Door::Basic("puller:secret".to_owned()));
    let layer = world.image.largest_layer();
    let storage = FaultyRegistry::start_at([127, 0, 0, 2].into(), world.registry.port, Door::Open);
    world.front.add(Rule::always("/blobs/", Fault::Redirect(storage.base())).any_method());
    world.pull(0, Some("puller:secret")).expect_success("the pull");
    world.assert_complete(0);
    let from_agents: u64 = storage
        .seen()
        .iter()
        .filter(|seen| seen.method == "GET" && seen.path.contains(&layer.digest) && !seen.is_from_containerd())
        .map(|seen| seen.bytes)
        .sum();
    assert!(from_agents >= layer.size, "the agent followed the redirect only for {from_agents} bytes");
    let leaked: Vec<_> = storage.seen().into_iter().filter(|seen| seen.authorization.is_some()).collect();
    assert!(leaked.is_empty(), "a credential went to another host: {leaked:?}");
}

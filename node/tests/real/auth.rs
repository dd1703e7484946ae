//! Private images: the requester's credential serves its own node only, and goes nowhere else.

use std::sync::Arc;

use crate::harness::agent::{Agent, Cluster, Settings};
use crate::harness::containerd::{Containerd, HostsDir};
use crate::harness::faulty::{Door, FaultyRegistry, TOKEN_PATH, basic};
use crate::harness::http;
use crate::harness::image::Image;
use crate::harness::lab::Lab;
use crate::harness::registry::{Access, PASSWORD, Registry, USER, user_and_password};
use crate::harness::token::Issuer;
use crate::harness::world::{MIB, REPOSITORY, World};

const USER_AND_SECRET: &str = "puller:open sesame";

/// All three nodes have the right password; each blob leaves the registry once, and only with credentials.
fn three_nodes_behind(door: Door) -> Option<(Lab, World)> {
    let lab = Lab::open()?;
    let world = World::guarded(&lab, 3, &[8 * MIB, 2 * MIB], "", door);
    let pulls: Vec<_> = (0..3).map(|node| world.start_pull(node, &world.by_tag(), Some(USER_AND_SECRET))).collect();
    for pull in pulls {
        pull.wait().expect_success("a pull with the right password");
    }
    (0..3).for_each(|node| world.assert_complete(node));
    world.assert_one_copy();
    assert_nothing_leaks(&world);
    Some((lab, world))
}

fn assert_nothing_leaks(world: &World) {
    let encoded = basic(USER_AND_SECRET);
    let encoded = encoded.strip_prefix("Basic ").expect("the scheme comes first");
    for agent in &world.cluster.agents {
        for secret in ["open sesame", encoded] {
            assert!(!agent.log().contains(secret), "a password in the log of an agent");
            assert!(!any_file_contains(&agent.data, secret), "a password below {}", agent.data.display());
        }
    }
}

fn any_file_contains(directory: &std::path::Path, text: &str) -> bool {
    std::fs::read_dir(directory).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return any_file_contains(&path, text);
        }
        let content = std::fs::read(&path).unwrap_or_default();
        content.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

#[test]
fn with_basic_auth_three_nodes_pull_one_copy() {
    let Some((_lab, world)) = three_nodes_behind(Door::Basic(USER_AND_SECRET.to_owned())) else { return };
    let sent = world.front.seen();
    let allowed = sent.iter().filter(|seen| seen.status == 200 && seen.path.contains("sha256:"));
    assert!(allowed.clone().count() > 0);
    assert!(allowed.clone().all(|seen| seen.authorization.as_deref() == Some(basic(USER_AND_SECRET).as_str())));
}

#[test]
fn with_a_token_service_three_nodes_pull_one_copy() {
    let door = Door::Bearer { user: Some(USER_AND_SECRET.to_owned()) };
    let Some((_lab, world)) = three_nodes_behind(door) else { return };
    let content = world.front.seen().into_iter().filter(|seen| seen.status == 200 && seen.path.contains("sha256:"));
    assert!(content.clone().count() > 0);
    for seen in content {
        let sent = seen.authorization.unwrap_or_default();
        assert!(sent.starts_with("Bearer "), "content was asked for with {sent:?}");
    }
}

#[test]
fn a_token_service_that_asks_nobody_is_answered_without_a_credential() {
    let Some(lab) = Lab::open() else { return };
    let world = World::guarded(&lab, 2, &[4 * MIB], "", Door::Bearer { user: None });
    for node in 0..2 {
        world.pull(node, None).expect_success("an anonymous pull with a token");
        world.assert_complete(node);
    }
    world.assert_one_copy();
}

#[test]
fn a_real_registry_with_a_password_serves_agents_that_know_it() {
    let Some(lab) = Lab::open() else { return };
    let registry = Registry::start(&lab, Access::Basic);
    let image = Image::build(&lab, 3, &[4 * MIB]);
    let user = user_and_password();
    image.push(registry.port, REPOSITORY, Some(&user));
    let agent = Agent::alone(&lab, &Settings::with_registry(registry.port));
    let containerd = Containerd::start(&lab, "containerd");
    let hosts = HostsDir::new(&lab, "hosts", registry.port, agent.mirror_port);
    containerd.pull(&Image::by_tag(registry.port, REPOSITORY), &hosts, Some(&user)).expect_success("the pull");
    let bytes = registry.bytes_of(&image.blobs());
    assert_eq!(bytes[&image.largest_layer().digest], image.largest_layer().size);
    let by_containerd = registry
        .log()
        .iter()
        .any(|served| served.user_agent.starts_with("containerd/") && served.uri.contains("/blobs/"));
    assert!(!by_containerd, "containerd fetched a blob past its agent");
    assert!(!agent.log().contains(PASSWORD) && agent.counter("origin_bytes") >= image.largest_layer().size, "{USER}");
}

#[test]
fn a_real_registry_with_a_token_service_serves_agents_whose_containerd_has_the_password() {
    let Some(lab) = Lab::open() else { return };
    let issuer = Arc::new(Issuer::new());
    let service = FaultyRegistry::token_service(Arc::clone(&issuer), USER_AND_SECRET);
    let registry = Registry::start(&lab, Access::Token(issuer, format!("{}{TOKEN_PATH}", service.base())));
    let image = Image::build(&lab, 4, &[4 * MIB]);
    image.push(registry.port, REPOSITORY, Some(USER_AND_SECRET));
    let cluster = Cluster::start(&lab, 2, &Settings::with_registry(registry.port));
    let reference = Image::by_tag(registry.port, REPOSITORY);
    for (number, agent) in cluster.agents.iter().enumerate() {
        let containerd = Containerd::start(&lab, &format!("containerd-{number}"));
        let hosts = HostsDir::new(&lab, &format!("hosts-{number}"), registry.port, agent.mirror_port);
        containerd.pull(&reference, &hosts, Some(USER_AND_SECRET)).expect_success("the pull with a token");
    }
    let bytes = registry.bytes_of(&image.blobs());
    let layer = image.largest_layer();
    assert!(bytes[&layer.digest] * 100 <= layer.size * 105, "{} bytes left the registry", bytes[&layer.digest]);
    for agent in &cluster.agents {
        assert!(!agent.log().contains("open sesame") && !agent.log().contains("eyJ"), "a secret in a log");
    }
}

#[test]
fn a_wrong_password_fails_the_pull_with_the_registrys_answer() {
    let Some(lab) = Lab::open() else { return };
    let world = World::guarded(&lab, 1, &[MIB], "", Door::Basic(USER_AND_SECRET.to_owned()));
    let output = world.pull(0, Some("puller:wrong")).expect_failure("a pull with a wrong password");
    assert!(output.contains("401"), "the user has to see why:\n{output}");
    // A failed guess is no reason to keep out who knows the password.
    world.pull(0, Some(USER_AND_SECRET)).expect_success("the pull with the right password");
    world.assert_complete(0);
    assert_nothing_leaks(&world);
}

#[test]
fn a_client_without_a_credential_gets_the_registrys_challenge() {
    let Some(lab) = Lab::open() else { return };
    let world = World::guarded(&lab, 1, &[MIB], "", Door::Basic(USER_AND_SECRET.to_owned()));
    let layer = world.image.largest_layer();
    let response = http::get(world.cluster.agents[0].mirror_port, &world.blob_path(layer), &[]).unwrap();
    assert_eq!(response.status, 401, "{}", response.text());
    assert_eq!(response.header("www-authenticate"), "Basic realm=\"test\"");
}

#[test]
fn with_auth_check_a_cached_private_blob_needs_a_credential_that_the_registry_accepts() {
    let Some(lab) = Lab::open() else { return };
    let door = Door::Basic(USER_AND_SECRET.to_owned());
    let world = World::guarded(&lab, 1, &[MIB], "auth_check = \"origin\"", door);
    world.pull(0, Some(USER_AND_SECRET)).expect_success("the pull");
    let (port, layer) = (world.cluster.agents[0].mirror_port, world.image.largest_layer());
    let path = world.blob_path(layer);
    let status = |authorization: &str| http::get(port, &path, &[("authorization", authorization)]).unwrap().status;
    assert_eq!(status(&basic(USER_AND_SECRET)), 200);
    assert!(matches!(status(&basic("puller:wrong")), 401 | 403 | 404));
    assert!(matches!(http::get(port, &path, &[]).unwrap().status, 401 | 403 | 404));
    assert_eq!(world.bytes_to_agents(layer), layer.size, "the check asks, it does not fetch again");
}

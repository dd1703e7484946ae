//! The harness itself: the real parts work together without an agent, and their logs can be trusted.

use std::sync::Arc;

use crate::harness::containerd::{Containerd, HostsDir};
use crate::harness::faulty::{Door, Fault, FaultyRegistry, Rule, TOKEN_PATH};
use crate::harness::http::{self, Ending};
use crate::harness::image::Image;
use crate::harness::lab::{Lab, free_port};
use crate::harness::registry::{Access, PASSWORD, Registry, USER, user_and_password};
use crate::harness::token::Issuer;
use crate::harness::upload::upload;
use crate::harness::{PATIENCE, wait_for};

const MIB: u64 = 1024 * 1024;

#[test]
fn containerd_pulls_from_the_registry_behind_a_dead_mirror_and_a_container_runs() {
    let Some(lab) = Lab::open() else { return };
    let registry = Registry::start(&lab, Access::Anonymous);
    let image = Image::build(&lab, 1, &[3 * MIB, 5 * MIB]);
    image.push(registry.port, "demo/app", None);
    let containerd = Containerd::start(&lab, "containerd");
    let hosts = HostsDir::new(&lab, "hosts", registry.port, free_port());

    let reference = Image::by_tag(registry.port, "demo/app");
    containerd.pull(&reference, &hosts, None).expect_success("the pull");

    let bytes = registry.bytes_of(&image.blobs());
    for blob in image.blobs() {
        assert_eq!(bytes[&blob.digest], blob.size, "{} left the registry exactly once", blob.digest);
        assert!(containerd.content().contains(&blob.digest));
    }
    assert!(registry.log().iter().any(|served| served.user_agent.starts_with("containerd/")));
    let printed = containerd.run(&reference, "proof", &["/bin/busybox", "wc", "-c", "/data-0", "/data-1"]);
    assert!(printed.contains("8388608 total"), "{printed}");
}

#[test]
fn a_registry_with_a_password_lets_in_who_knows_it() {
    let Some(lab) = Lab::open() else { return };
    let registry = Registry::start(&lab, Access::Basic);
    let image = Image::build(&lab, 2, &[MIB]);
    image.push(registry.port, "demo/private", Some(&user_and_password()));
    let containerd = Containerd::start(&lab, "containerd");
    let hosts = HostsDir::direct(&lab, "hosts", registry.port);

    let reference = image.by_digest(registry.port, "demo/private");
    let refused = containerd.pull(&reference, &hosts, Some(&format!("{USER}:not {PASSWORD}")));
    assert!(refused.expect_failure("a pull with a wrong password").contains("401"));
    containerd.pull(&reference, &hosts, Some(&user_and_password())).expect_success("the pull");
}

#[test]
fn a_stopped_registry_keeps_its_images() {
    let Some(lab) = Lab::open() else { return };
    let mut registry = Registry::start(&lab, Access::Anonymous);
    let image = Image::build(&lab, 3, &[MIB]);
    image.push(registry.port, "demo/app", None);
    let path = format!("/v2/demo/app/manifests/{}", image.manifest.digest);
    registry.stop();
    assert!(http::get(registry.port, &path, &[]).is_err());
    registry.restart();
    let manifest = http::get(registry.port, &path, &[("accept", http::MANIFEST_TYPES)]).unwrap();
    assert!(manifest.body == image.read(&image.manifest), "{}", manifest.text());
}

#[test]
fn the_faulty_registry_counts_holds_cuts_and_corrupts_to_the_byte() {
    let Some(lab) = Lab::open() else { return };
    let registry = Registry::start(&lab, Access::Anonymous);
    let image = Image::build(&lab, 4, &[MIB]);
    image.push(registry.port, "demo/app", None);
    let layer = image.largest_layer();
    let path = format!("/v2/demo/app/blobs/{}", layer.digest);
    let faulty = FaultyRegistry::start(registry.port);
    let get = || http::get(faulty.port, &path, &[]).unwrap();
    // The last portion is counted when it has been sent: the client may have it a moment before.
    let sent = |bytes: u64| {
        wait_for("the registry to have counted", PATIENCE, || {
            (faulty.bytes_sent(&layer.digest) == bytes).then_some(())
        });
    };

    let whole = get();
    assert_eq!((whole.status, whole.ending), (200, Ending::Complete));
    assert!(whole.body == image.read(layer));
    sent(layer.size);

    faulty.add(Rule::times(1, "/blobs/", Fault::Short(1000)));
    faulty.add(Rule::times(1, "/blobs/", Fault::Corrupt(70_000)));
    faulty.add(Rule::times(1, "/blobs/", Fault::Status(429, vec![("retry-after".to_owned(), "7".to_owned())])));
    let short = get();
    assert_eq!((short.ending, short.body.len()), (Ending::Short, 1000));
    let corrupt = get();
    let differing = corrupt.body.iter().zip(&whole.body).filter(|(left, right)| left != right).count();
    assert_eq!((corrupt.ending, differing), (Ending::Complete, 1));
    let limited = get();
    assert_eq!((limited.status, limited.header("retry-after")), (429, "7"));
    sent(2 * layer.size + 1000);

    faulty.hold_at(2 * layer.size + 1000 + 4321);
    std::thread::scope(|scope| {
        let held = scope.spawn(get);
        faulty.wait_until_held(PATIENCE);
        assert!(!held.is_finished());
        faulty.release();
        assert!(held.join().unwrap().body == whole.body);
    });
}

#[test]
fn containerd_pulls_through_a_bearer_token_service_and_redirects() {
    let Some(lab) = Lab::open() else { return };
    let registry = Registry::start(&lab, Access::Anonymous);
    let image = Image::build(&lab, 5, &[MIB]);
    image.push(registry.port, "demo/app", None);
    let storage = FaultyRegistry::start_at([127, 0, 0, 2].into(), registry.port, Door::Open);
    let front = FaultyRegistry::guarded(registry.port, Door::Bearer { user: Some("puller:secret".to_owned()) });
    front.add(Rule::always("/blobs/", Fault::Redirect(storage.base())));
    let containerd = Containerd::start(&lab, "containerd");
    let hosts = HostsDir::direct(&lab, "hosts", front.port);

    let reference = Image::by_tag(front.port, "demo/app");
    containerd.pull(&reference, &hosts, Some("puller:wrong")).expect_failure("a pull with a wrong password");
    containerd.pull(&reference, &hosts, Some("puller:secret")).expect_success("the pull");
    assert!(
        front.seen().iter().any(|seen| seen.authorization.as_deref().is_some_and(|sent| sent.starts_with("Bearer")))
    );
    assert_eq!(storage.bytes_sent(&image.largest_layer().digest), image.largest_layer().size);
    assert!(storage.seen().iter().all(|seen| seen.authorization.is_none()));
}

#[test]
fn the_registry_believes_the_token_service() {
    let Some(lab) = Lab::open() else { return };
    let issuer = Arc::new(Issuer::new());
    let service = FaultyRegistry::token_service(Arc::clone(&issuer), "puller:secret");
    let realm = format!("{}{TOKEN_PATH}", service.base());
    let registry = Registry::start(&lab, Access::Token(issuer, realm));
    let image = Image::build(&lab, 6, &[MIB]);
    image.push(registry.port, "demo/app", Some("puller:secret"));
    let containerd = Containerd::start(&lab, "containerd");
    let hosts = HostsDir::direct(&lab, "hosts", registry.port);
    let reference = Image::by_tag(registry.port, "demo/app");
    containerd.pull(&reference, &hosts, None).expect_failure("a pull without a password");
    containerd.pull(&reference, &hosts, Some("puller:secret")).expect_success("the pull with a token");
}

#[test]
fn single_blobs_can_be_uploaded() {
    let Some(lab) = Lab::open() else { return };
    let registry = Registry::start(&lab, Access::Anonymous);
    let digest = upload(registry.port, "demo/blobs", b"hello");
    let response = http::get(registry.port, &format!("/v2/demo/blobs/blobs/{digest}"), &[]).unwrap();
    assert_eq!(response.body, b"hello");
}

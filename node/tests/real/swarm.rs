//! An image moves: out of the registry once, then from node to node.

use crate::harness::PATIENCE;
use crate::harness::agent::{Cluster, Settings};
use crate::harness::containerd::{Containerd, HostsDir};
use crate::harness::faulty::Door;
use crate::harness::http::{self, Ending};
use crate::harness::image::Image;
use crate::harness::lab::Lab;
use crate::harness::registry::{Access, Registry};
use crate::harness::wait_for;
use crate::harness::world::{MIB, REPOSITORY, World};

/// The goal for an agent at full speed, whatever the image's size.
const MEMORY_LIMIT_BYTES: u64 = 100_000_000;

#[test]
fn three_nodes_pull_at_once_and_each_blob_leaves_the_registry_once() {
    let Some(lab) = Lab::open() else { return };
    // Straight to docker-registry: the count is its own, by its own log.
    let registry = Registry::start(&lab, Access::Anonymous);
    let image = Image::build(&lab, 1, &[24 * MIB, 16 * MIB, 8 * MIB, 100]);
    image.push(registry.port, REPOSITORY, None);
    let cluster = Cluster::start(&lab, 3, &Settings::with_registry(registry.port));
    let reference = Image::by_tag(registry.port, REPOSITORY);
    let containerds: Vec<Containerd> =
        (0..3).map(|number| Containerd::start(&lab, &format!("containerd-{number}"))).collect();
    let pulls: Vec<_> = containerds
        .iter()
        .zip(&cluster.agents)
        .enumerate()
        .map(|(number, (containerd, agent))| {
            let hosts = HostsDir::new(&lab, &format!("hosts-{number}"), registry.port, agent.mirror_port);
            containerd.start_pull(&reference, &hosts, None)
        })
        .collect();
    for pull in pulls {
        pull.wait().expect_success("a pull through the mirror");
    }

    let bytes = registry.bytes_of(&image.blobs());
    for blob in image.blobs() {
        let sent = bytes[&blob.digest];
        assert!(sent * 100 <= blob.size * 105, "{sent} bytes of {blob:?} left the registry");
    }
    let past_the_mirror: Vec<_> = registry
        .log()
        .into_iter()
        .filter(|served| served.method == "GET" && served.user_agent.starts_with("containerd/"))
        .collect();
    assert!(past_the_mirror.is_empty(), "containerd fetched content past its agent: {past_the_mirror:?}");
    for (number, containerd) in containerds.iter().enumerate() {
        let printed =
            containerd.run(&reference, &format!("proof-{number}"), &["/bin/busybox", "wc", "-c", "/data-0", "/data-3"]);
        assert!(printed.contains(&(24 * MIB).to_string()) && printed.contains("100 /data-3"), "{printed}");
    }
    assert_eq!(cluster.counter("hrw_rank_mismatch"), 0, "all agents rank alike");
    assert_eq!(cluster.counter("peers_convicted"), 0);
    for agent in &cluster.agents {
        let peak = agent.peak_memory_bytes();
        assert!(peak < MEMORY_LIMIT_BYTES, "an agent had {peak} bytes resident");
    }
}

#[test]
fn after_the_first_node_is_done_the_others_need_no_registry() {
    let Some(lab) = Lab::open() else { return };
    let mut world = World::build(&lab, 3, &[8 * MIB, 4 * MIB], "");
    let reference = world.by_digest();
    world.start_pull(0, &reference, None).wait().expect_success("the first pull");
    world.registry.stop();

    let others = [1, 2].map(|node| world.start_pull(node, &reference, None));
    for pull in others {
        pull.wait().expect_success("a pull without a registry");
    }
    for node in [1, 2] {
        world.assert_complete(node);
        let printed = world.containerds[node].run(&reference, "proof", &["/bin/busybox", "wc", "-c", "/data-0"]);
        assert!(printed.contains(&(8 * MIB).to_string()), "{printed}");
    }
    world.assert_one_copy();
}

#[test]
fn a_later_node_gets_everything_from_its_peers() {
    let Some(lab) = Lab::open() else { return };
    let world = World::build(&lab, 3, &[8 * MIB, 4 * MIB], "");
    for node in 0..3 {
        world.pull(node, None).expect_success("a pull");
        world.assert_complete(node);
    }
    world.assert_one_copy();
}

#[test]
fn two_hundred_clients_of_one_blob_make_one_flight() {
    let Some(lab) = Lab::open() else { return };
    let world = World::build(&lab, 1, &[MIB], "");
    let blob = world.image.largest_layer().clone();
    let (path, port) = (world.blob_path(&blob), world.cluster.agents[0].mirror_port);
    let expected = world.image.read(&blob);
    world.front.hold_at(64 * 1024);

    let attached = std::sync::Barrier::new(201);
    std::thread::scope(|scope| {
        for _ in 0..200 {
            scope.spawn(|| {
                let exchange = http::Exchange::start(port, "GET", &path, &[]).unwrap();
                attached.wait();
                let response = exchange.finish().unwrap();
                assert_eq!((response.status, response.ending), (200, Ending::Complete));
                assert!(response.body == expected, "a client got other bytes");
            });
        }
        // All have asked, and nobody can have been served: the registry holds the body back.
        attached.wait();
        world.front.wait_until_held(PATIENCE);
        world.front.release();
    });
    assert_eq!(world.front.bytes_sent(&blob.digest), blob.size);
    assert!(world.front.requests(&blob.digest) <= 8, "{} requests at the registry", world.front.requests(&blob.digest));
}

#[test]
fn a_peer_with_corrupted_pieces_is_convicted_and_no_wrong_byte_reaches_containerd() {
    let Some(lab) = Lab::open() else { return };
    let world = World::build(&lab, 2, &[8 * MIB], "");
    let layer = world.image.largest_layer().clone();
    // The designated puller gets the layer in any case; the other one is the one that asks it.
    let corrupted = world.cluster.designated(&layer.digest);
    let asking = 1 - corrupted;
    world.pull(corrupted, None).expect_success("the honest pull");

    corrupt_blob_on_disk(&world.cluster.agents[corrupted].data, layer.size);
    world.pull(asking, None).expect_success("the pull beside a corrupted peer");
    world.assert_complete(asking);
    assert!(world.cluster.agents[asking].counter("pieces_rejected") >= 1);
    assert!(world.cluster.agents[asking].counter("peers_convicted") >= 1);
    let printed = world.containerds[asking].run(&world.by_tag(), "proof", &["/bin/busybox", "wc", "-c", "/data-0"]);
    assert!(printed.contains(&(8 * MIB).to_string()), "{printed}");

    let path = world.blob_path(&layer);
    let served = http::get(world.cluster.agents[asking].mirror_port, &path, &[]).unwrap();
    assert!(served.body == world.image.read(&layer), "the second agent keeps what it verified");
}

/// Flips a byte in each 64 KiB of the only file of this size below `data`.
fn corrupt_blob_on_disk(data: &std::path::Path, size: u64) {
    let mut found = Vec::new();
    let mut directories = vec![data.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                directories.push(entry.path());
            } else if metadata.len() == size {
                found.push(entry.path());
            }
        }
    }
    let [file] = found.as_slice() else { panic!("one file of {size} bytes below {}, not {found:?}", data.display()) };
    let mut content = std::fs::read(file).unwrap();
    content.iter_mut().step_by(64 * 1024).for_each(|byte| *byte ^= 0x55);
    // In place: the agent may have the file open.
    let mut permissions = std::fs::metadata(file).unwrap().permissions();
    #[expect(clippy::permissions_set_readonly_false, reason = "a file in the test's own directory")]
    permissions.set_readonly(false);
    std::fs::set_permissions(file, permissions).unwrap();
    let handle = std::fs::File::options().write(true).open(file).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&handle, &content, 0).unwrap();
}

#[test]
fn nodes_without_a_credential_coordinate_and_nodes_with_one_fetch() {
    let Some(lab) = Lab::open() else { return };
    let world = World::guarded(&lab, 2, &[8 * MIB], "", Door::Basic("puller:secret".to_owned()));
    let layer = world.image.largest_layer().clone();
    // The designated puller has no credential: its containerd asks for nothing.
    let with_credential = 1 - world.cluster.designated(&layer.digest);
    world.pull(with_credential, Some("puller:secret")).expect_success("the pull with a credential");
    world.assert_complete(with_credential);
    assert_eq!(world.bytes_to_containerds(&layer), 0, "containerd went past its agent");
    assert!(world.bytes_to_agents(&layer) * 100 <= layer.size * 105);
    let other = &world.cluster.agents[1 - with_credential];
    assert!(!other.log().contains("secret"), "a password in a log");
    wait_for("the counters to settle", PATIENCE, || (other.counter("origin_bytes") == 0).then_some(()));
}

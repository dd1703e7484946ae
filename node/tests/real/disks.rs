//! Disks that forget.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::harness::lab::Lab;
use crate::harness::world::{MIB, World};

/// Where the only agent keeps the largest layer.
fn stored(world: &World) -> PathBuf {
    let hex = world.image.largest_layer().hex().to_owned();
    let mut directories = vec![world.cluster.agents[0].data.clone()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                directories.push(entry.path());
            } else if entry.file_name().to_str() == Some(&hex) && !directory.ends_with("staging") {
                return entry.path();
            }
        }
    }
    panic!("the agent does not keep {hex}")
}

/// containerd forgets the image, with everything that belongs to it.
fn forget(world: &World) {
    let containerd = &world.containerds[0];
    containerd.ctr(&["images", "rm", "--sync", &world.by_tag()]).expect_success("ctr images rm");
    let began = Instant::now();
    while containerd.content().contains(&world.image.largest_layer().digest) {
        assert!(began.elapsed() < Duration::from_secs(20), "containerd keeps what belongs to no image");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Until now containerd would have been given the same wrong bytes each time that it tried, for ever.
#[test]
fn a_stored_blob_that_has_rotted_is_fetched_again_before_containerd_reads_it_again() {
    let Some(lab) = Lab::open() else { return };
    let world = World::build(&lab, 1, &[4 * MIB], "");
    let layer = world.image.largest_layer();
    world.pull(0, None).expect_success("the first pull");
    forget(&world);
    let file = std::fs::OpenOptions::new().write(true).open(stored(&world)).unwrap();
    file.write_all_at(b"what the disk made of it", 1_000_000).unwrap();
    file.sync_all().unwrap();
    world.pull(0, None).expect_success("the pull of what has rotted");
    world.assert_complete(0);
    assert_eq!(world.cluster.counter("blobs_rotten"), 1, "people hear of it");
    assert!(world.cluster.agents[0].log().contains("not what it was when it was committed"));
    assert_eq!(world.bytes_to_containerds(layer), 0, "containerd did not have to go to the registry itself");
    assert_eq!(world.bytes_to_agents(layer), 2 * layer.size, "the agent has it from there once more");
    let printed = world.containerds[0].run(&world.by_tag(), "proof", &["/bin/busybox", "wc", "-c", "/data-0"]);
    assert!(printed.contains(&(4 * MIB).to_string()), "{printed}");
    // What is right stays, and is served from here.
    forget(&world);
    world.pull(0, None).expect_success("the third pull");
    assert_eq!((world.cluster.counter("blobs_rotten"), world.bytes_to_agents(layer)), (1, 2 * layer.size));
}

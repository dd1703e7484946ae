//! From staging to commit to eviction, and who notices.

use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};

use longshore_core::input::StoreError;
use longshore_core::names::OpId;
use longshore_core::spine::Midstate;

use super::super::{Released, Usage};
use super::*;

#[tokio::test]
async fn a_blob_goes_through_staging_to_its_name_and_comes_back_after_a_restart() {
    let directory = TempDir::new().unwrap();
    let bytes = pattern(700_000, 1);
    let mut bench = Bench::fresh(directory.path()).await;
    let digest = digest_of(&bytes);
    bench.store.stage(digest, bytes.len() as u64, facts());
    let stored = take_in(&bench.store, &bytes, Check::From(Midstate::INITIAL));
    assert_eq!(stored.len(), 3);
    assert_eq!(stored[2].hashed, Hashed::Chained(Midstate::from_bytes(*digest.as_bytes())));
    bench.store.commit(digest, facts());
    assert_eq!(bench.next().await, Input::Committed { digest, result: Ok(()) });
    assert_eq!(read_all(&bench.store, digest), bytes);
    assert_eq!(files(&directory.path().join("staging")), Vec::<String>::new());
    bench.close().await;

    let (bench, blobs, partials) = Bench::recovered(directory.path()).await;
    assert_eq!(blobs, vec![StoredBlob { digest, size: 700_000, facts: facts() }]);
    assert_eq!(partials, vec![]);
    assert_eq!(read_all(&bench.store, digest), bytes);
}

#[tokio::test]
async fn a_second_agent_on_the_same_directory_is_refused_and_told_why() {
    let directory = TempDir::new().unwrap();
    let bench = Bench::fresh(directory.path()).await;
    let error = Store::open(directory.path(), Inputs::channel().0).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
    let words = error.to_string();
    assert!(words.contains("in use by another agent"), "{words}");
    assert!(words.contains(&std::process::id().to_string()), "{words}");
    assert!(words.contains(directory.path().to_str().unwrap()), "{words}");
    bench.close().await;
    Bench::fresh(directory.path()).await;
}

#[tokio::test]
async fn a_directory_that_the_store_makes_is_closed_to_other_users() {
    let directory = TempDir::new().unwrap();
    let root = directory.path().join("deep").join("store");
    Bench::fresh(&root).await;
    assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_store_outside_of_a_runtime_is_an_error_and_no_panic() {
    let directory = TempDir::new().unwrap();
    assert!(Store::open(directory.path(), Inputs::channel().0).is_err());
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named_in_the_error() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = Store::open(&file.join("store"), Inputs::channel().0).unwrap_err();
    assert!(error.to_string().contains("cannot make the directory"), "{error}");
    assert!(error.to_string().contains("file/store"), "{error}");
}

#[tokio::test]
async fn a_release_grows_or_begins_anew_and_a_commit_releases_the_whole() {
    let directory = TempDir::new().unwrap();
    let mut bench = Bench::fresh(directory.path()).await;
    let bytes = pattern(600_000, 2);
    let digest = bench.fill(&bytes);
    let reader = bench.store.reader(digest).unwrap();
    let mut released = reader.released();
    assert_eq!(*released.borrow_and_update(), Released::Prefix(0));
    bench.store.release(digest, 262_144);
    released.changed().await.unwrap();
    assert_eq!(*released.borrow_and_update(), Released::Prefix(262_144));
    bench.store.release(digest, 100);
    assert!(!released.has_changed().unwrap());
    // It was wrong.
    bench.store.release(digest, 0);
    released.changed().await.unwrap();
    assert_eq!(*released.borrow_and_update(), Released::Prefix(0));
    bench.store.release(digest, 100);
    released.changed().await.unwrap();
    assert_eq!(*released.borrow_and_update(), Released::Prefix(100));
    bench.store.commit(digest, facts());
    released.changed().await.unwrap();
    assert_eq!(*released.borrow_and_update(), Released::Whole);
    // A late release does not take the whole back.
    bench.store.release(digest, 524_288);
    assert!(!released.has_changed().unwrap());
    // The reader that was opened while the blob was staged reads on.
    let mut tail = vec![0; 100];
    reader.read_at(&mut tail, 599_900).unwrap();
    assert_eq!(tail, bytes[599_900..]);
    assert_eq!(reader.read_at(&mut tail, 599_901).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn readers_of_an_evicted_blob_are_told_and_keep_their_bytes() {
    let directory = TempDir::new().unwrap();
    let mut bench = Bench::fresh(directory.path()).await;
    let bytes = pattern(300_000, 3);
    let digest = bench.put(&bytes).await;
    let (first, second) = (bench.store.reader(digest).unwrap(), bench.store.reader(digest).unwrap());
    let mut released = first.released();
    bench.store.evict(digest);
    assert_eq!(bench.store.reader(digest).unwrap_err(), StoreError::Missing);
    assert_eq!(bench.next().await, Input::Evicted { digest });
    assert_eq!(*released.borrow_and_update(), Released::Gone);
    assert_eq!(*second.released().borrow(), Released::Gone);
    let mut read = vec![0; bytes.len()];
    first.read_at(&mut read, 0).unwrap();
    assert_eq!(read, bytes);
    for place in ["blobs/sha256", "staging", "trash"] {
        assert_eq!(files(&directory.path().join(place)), Vec::<String>::new(), "{place}");
    }
}

#[tokio::test]
async fn a_discarded_blob_is_gone_for_readers_and_can_be_staged_anew() {
    let directory = TempDir::new().unwrap();
    let mut bench = Bench::fresh(directory.path()).await;
    let bytes = pattern(300_000, 4);
    let digest = bench.fill(&bytes);
    let released = bench.store.reader(digest).unwrap().released();
    bench.store.discard(digest);
    assert_eq!(*released.borrow(), Released::Gone);
    assert_eq!(bench.store.reader(digest).unwrap_err(), StoreError::Missing);
    assert_eq!(bench.store.usage(), Usage::default());
    bench.store.stage(digest, 300_000, facts());
    assert_eq!(read_all(&bench.store, digest), vec![0; 300_000], "the new file starts empty");
    bench.put(&bytes).await;
    assert_eq!(read_all(&bench.store, digest), bytes);
}

#[tokio::test]
async fn watches_end_with_their_last_reader_and_blobs_leave_no_entry_behind() {
    let directory = TempDir::new().unwrap();
    let mut bench = Bench::fresh(directory.path()).await;
    let digest = bench.put(&pattern(10, 5)).await;
    let reader = bench.store.reader(digest).unwrap();
    let mut released = reader.released();
    assert!(released.has_changed().is_ok());
    drop(reader);
    // Not at once: the task that committed the blob may still be on its way out.
    let closed = tokio::time::timeout(Duration::from_secs(20), released.changed()).await;
    assert!(closed.expect("the store keeps a watch that nobody reads").is_err());
    let staged = bench.fill(&pattern(20, 5));
    assert_eq!(bench.store.blobs().len(), 2);
    bench.store.discard(staged);
    bench.store.evict(digest);
    assert_eq!(bench.next().await, Input::Evicted { digest });
    assert!(bench.store.blobs().is_empty());
}

#[tokio::test]
async fn orders_about_blobs_that_are_not_there_are_answered() {
    let directory = TempDir::new().unwrap();
    let mut bench = Bench::fresh(directory.path()).await;
    let digest = digest_of(b"nobody has this");
    bench.store.release(digest, 5);
    bench.store.touch(digest);
    bench.store.discard(digest);
    bench.store.commit(digest, facts());
    assert_eq!(bench.next().await, Input::Committed { digest, result: Err(StoreError::Missing) });
    bench.store.evict(digest);
    assert_eq!(bench.next().await, Input::Evicted { digest });
    bench.store.record(digest, record(0, Hashed::Alone([0; 32]), "author"));
    assert_eq!(bench.next().await, Input::StoreFailed { digest, error: StoreError::Missing });
    bench.store.hash_piece(OpId(9), digest, 5, 0, Midstate::INITIAL);
    assert_eq!(bench.next().await, Input::PieceHashed { op: OpId(9), result: Err(StoreError::Missing) });
    bench.store.read_manifest(digest);
    assert_eq!(bench.next().await, Input::Manifest { digest, media_type: None, children: vec![] });
    let refused = Intake::open(&bench.store, digest, Geometry::of_blob(5), 0, Check::Alone).unwrap_err();
    assert_eq!(refused, StoreError::Missing);
}

#[tokio::test]
async fn staging_twice_keeps_the_bytes_and_another_size_is_an_error_in_words() {
    let directory = TempDir::new().unwrap();
    let mut bench = Bench::fresh(directory.path()).await;
    let bytes = pattern(1000, 6);
    let digest = bench.fill(&bytes);
    assert_eq!(bench.store.stage_now(digest, 1000, facts()), Ok(()));
    assert_eq!(read_all(&bench.store, digest), bytes);
    let Err(StoreError::Io(words)) = bench.store.stage_now(digest, 1001, facts()) else { panic!("two sizes") };
    assert!(words.contains("cannot stage") && words.contains("1000 bytes"), "{words}");
    bench.put(&bytes).await;
    bench.store.stage(digest, 1000, facts());
    let Input::StoreFailed { error: StoreError::Io(words), .. } = bench.next().await else { panic!("no failure") };
    assert!(words.contains("committed"), "{words}");
}

#[tokio::test]
async fn an_eviction_during_the_commit_comes_after_it() {
    let directory = TempDir::new().unwrap();
    let mut bench = Bench::fresh(directory.path()).await;
    let digest = bench.fill(&pattern(500_000, 7));
    bench.store.commit(digest, facts());
    bench.store.evict(digest);
    assert_eq!(bench.next().await, Input::Committed { digest, result: Ok(()) });
    assert_eq!(bench.next().await, Input::Evicted { digest });
    assert_eq!(files(&directory.path().join("blobs/sha256")), Vec::<String>::new());
    assert_eq!(bench.store.usage(), Usage::default());
}

#[tokio::test]
async fn a_commit_that_fails_says_on_which_path_and_leaves_the_blob_staged() {
    let directory = TempDir::new().unwrap();
    let mut bench = Bench::fresh(directory.path()).await;
    let bytes = pattern(500_000, 8);
    let digest = bench.fill(&bytes);
    // A directory in the place of the blob cannot be replaced by a file.
    let obstacle = directory.path().join("blobs/sha256").join(digest.hex());
    fs::create_dir(&obstacle).unwrap();
    bench.store.commit(digest, facts());
    let Input::Committed { result: Err(StoreError::Io(words)), .. } = bench.next().await else { panic!("no failure") };
    assert!(words.contains("cannot give the blob its name") && words.contains(&digest.hex()), "{words}");
    assert_eq!(files(&directory.path().join("blobs/sha256")), vec![digest.hex()], "no sidecar stays behind");
    fs::remove_dir(&obstacle).unwrap();
    assert_eq!(take_in(&bench.store, &bytes, Check::Alone).len(), 2, "it takes bytes again");
    bench.store.commit(digest, facts());
    assert_eq!(bench.next().await, Input::Committed { digest, result: Ok(()) });
    assert_eq!(read_all(&bench.store, digest), bytes);
}

#[tokio::test]
async fn a_full_disk_is_told_apart_from_other_failures() {
    let directory = TempDir::new().unwrap();
    let mut bench = Bench::fresh(directory.path()).await;
    let digest = digest_of(b"12345");
    bench.store.stage(digest, 5, facts());
    let staging = directory.path().join("staging");
    // The device that is always full stands for a disk that is.
    for name in [digest.hex(), format!("{}.pieces", digest.hex())] {
        fs::remove_file(staging.join(&name)).unwrap();
        symlink("/dev/full", staging.join(&name)).unwrap();
    }
    let mut intake = Intake::open(&bench.store, digest, Geometry::of_blob(5), 0, Check::Alone).unwrap();
    assert_eq!(intake.write(b"12345", |_| panic!("nothing is stored")), Err(StoreError::Full));
    assert_eq!(intake.position(), 0);
    bench.store.record(digest, record(0, Hashed::Alone([0; 32]), "author"));
    assert_eq!(bench.next().await, Input::StoreFailed { digest, error: StoreError::Full });
    // A size that no file can have is not a full disk.
    let huge = digest_of(b"huge");
    bench.store.stage(huge, u64::MAX / 2 + 1, facts());
    let Input::StoreFailed { error: StoreError::Io(words), .. } = bench.next().await else { panic!("no failure") };
    assert!(words.contains("cannot create the staging file") && words.contains(&huge.hex()), "{words}");
    assert!(!files(&staging).iter().any(|name| name.starts_with(&huge.hex())), "nothing of it stays behind");
}

#[tokio::test]
async fn usage_counts_what_is_there() {
    let directory = TempDir::new().unwrap();
    let mut bench = Bench::fresh(directory.path()).await;
    bench.put(&pattern(1000, 9)).await;
    bench.put(&pattern(500, 9)).await;
    bench.fill(&pattern(77, 9));
    assert_eq!(bench.store.usage(), Usage { blobs: 2, blob_bytes: 1500, staged: 1, staged_bytes: 77 });
}

#[tokio::test]
async fn a_stored_piece_is_hashed_from_a_midstate_staged_and_committed() {
    let directory = TempDir::new().unwrap();
    let mut bench = Bench::fresh(directory.path()).await;
    let bytes = pattern(600_000, 10);
    let digest = bench.fill(&bytes);
    let mut from = Midstate::INITIAL;
    for piece in 0..3 {
        bench.store.hash_piece(OpId(u64::from(piece)), digest, 600_000, piece, from);
        let Input::PieceHashed { op, result: Ok(next) } = bench.next().await else { panic!("no hash") };
        assert_eq!(op, OpId(u64::from(piece)));
        if piece == 1 {
            bench.store.commit(digest, facts());
            assert_eq!(bench.next().await, Input::Committed { digest, result: Ok(()) });
        }
        from = next;
    }
    assert_eq!(from.to_bytes(), *digest.as_bytes());
}

#[tokio::test]
async fn a_manifest_is_read_from_the_store() {
    let directory = TempDir::new().unwrap();
    let mut bench = Bench::fresh(directory.path()).await;
    let (config, layer) = (digest_of(b"config"), digest_of(b"layer"));
    let text = format!(
        r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"digest":"{config}","size":6}},
            "layers":[{{"digest":"{layer}","size":5}}]}}"#
    );
    let digest = bench.put(text.as_bytes()).await;
    bench.store.read_manifest(digest);
    let Input::Manifest { digest: named, media_type, children } = bench.next().await else { panic!("no manifest") };
    assert_eq!(named, digest);
    assert_eq!(media_type.as_deref(), Some("application/vnd.oci.image.manifest.v1+json"));
    let children: Vec<_> = children.iter().map(|child| (child.digest, child.size, child.kind)).collect();
    assert_eq!(children, vec![(config, 6, Kind::Config), (layer, 5, Kind::Blob)]);
}

#[tokio::test]
async fn a_blob_that_is_too_large_for_a_manifest_is_not_read() {
    let directory = TempDir::new().unwrap();
    let mut bench = Bench::fresh(directory.path()).await;
    let digest = digest_of(b"seventeen mebibytes");
    bench.store.stage(digest, 17 << 20, facts());
    bench.store.read_manifest(digest);
    assert_eq!(bench.next().await, Input::Manifest { digest, media_type: None, children: vec![] });
}

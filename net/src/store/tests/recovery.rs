//! What a store finds when it opens.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use longshore_core::names::OpId;
use longshore_core::spine::Midstate;

use super::super::log;
use super::*;

/// A closed store with one staged blob of five pieces, all recorded.
struct Closed {
    directory: TempDir,
    digest: Digest,
    bytes: Vec<u8>,
}

impl Closed {
    async fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let bytes = pattern(1_200_000, 1);
        let mut bench = Bench::fresh(directory.path()).await;
        let digest = bench.fill(&bytes);
        bench.close().await;
        Self { directory, digest, bytes }
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("staging").join(self.digest.hex())
    }

    fn log(&self) -> PathBuf {
        self.data().with_extension("pieces")
    }

    /// Opens and closes the store, and gives the pieces that it found good; `None` if the blob is not staged any more.
    async fn reopen(&self) -> Option<Vec<u32>> {
        let (bench, blobs, partials) = Bench::recovered(self.directory.path()).await;
        assert_eq!(blobs, vec![]);
        bench.close().await;
        partials.first().map(pieces_of)
    }

    fn gone(&self) -> bool {
        files(&self.directory.path().join("staging")).is_empty()
    }
}

#[tokio::test]
async fn a_staged_blob_comes_back_with_all_that_was_recorded() {
    let closed = Closed::new().await;
    let (_bench, blobs, partials) = Bench::recovered(closed.directory.path()).await;
    assert_eq!(blobs, vec![]);
    let [partial] = partials.as_slice() else { panic!("one blob was staged, {} came back", partials.len()) };
    assert_eq!((partial.digest, partial.size, partial.private), (closed.digest, 1_200_000, true));
    assert_eq!(partial.source, facts().source);
    assert_eq!(pieces_of(partial), vec![0, 1, 2, 3, 4]);
    for found in &partial.pieces {
        let range = Geometry::of_blob(partial.size).range(found.piece);
        let part = &closed.bytes[range.start as usize..range.end as usize];
        assert_eq!(*found, record(found.piece, alone(part), "origin-fetcher"));
    }
}

#[tokio::test]
async fn a_recovered_blob_is_completed_and_committed() {
    let closed = Closed::new().await;
    let (mut bench, _, _) = Bench::recovered(closed.directory.path()).await;
    // Nobody has to know that it is staged already.
    bench.store.stage(closed.digest, 1_200_000, facts());
    bench.store.commit(closed.digest, facts());
    assert_eq!(bench.next().await, Input::Committed { digest: closed.digest, result: Ok(()) });
    assert_eq!(read_all(&bench.store, closed.digest), closed.bytes);
}

#[tokio::test]
async fn pieces_that_were_hashed_between_midstates_are_checked_again_between_them() {
    let directory = TempDir::new().unwrap();
    let bytes = pattern(1_200_000, 4);
    let digest = digest_of(&bytes);
    let mut bench = Bench::fresh(directory.path()).await;
    bench.store.stage(digest, 1_200_000, facts());
    let mut from = Midstate::INITIAL;
    let mut recorded = Vec::new();
    for StoredPiece { piece, hashed } in take_in(&bench.store, &bytes, Check::From(from)) {
        let Hashed::Chained(to) = hashed else { panic!("asked for a chain") };
        recorded.push(RecordedPiece { piece, proof: Proof::Between(from, to), author: PeerId::new("author") });
        from = to;
    }
    // One that does not fit: a lie about the midstate before it.
    recorded[1].proof = Proof::Between(Midstate::INITIAL, from);
    for record in &recorded {
        bench.store.record(digest, record.clone());
    }
    bench.close().await;
    let (_bench, _, partials) = Bench::recovered(directory.path()).await;
    recorded.remove(1);
    assert_eq!(partials[0].pieces, recorded);
}

#[tokio::test]
async fn pieces_that_were_written_but_not_recorded_are_not_reported() {
    let directory = TempDir::new().unwrap();
    let bytes = pattern(600_000, 2);
    let mut bench = Bench::fresh(directory.path()).await;
    bench.store.stage(digest_of(&bytes), 600_000, facts());
    take_in(&bench.store, &bytes, Check::Alone);
    bench.close().await;
    let (_bench, _, partials) = Bench::recovered(directory.path()).await;
    assert_eq!(pieces_of(&partials[0]), Vec::<u32>::new());
}

#[tokio::test]
async fn a_piece_with_a_flipped_byte_is_not_reported_now_or_later() {
    let closed = Closed::new().await;
    let file = OpenOptions::new().read(true).write(true).open(closed.data()).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 600_000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 600_000).unwrap();
    assert_eq!(closed.reopen().await, Some(vec![0, 1, 3, 4]));
    // Even if the right bytes came back: the record is gone with the piece.
    file.write_all_at(&byte, 600_000).unwrap();
    assert_eq!(closed.reopen().await, Some(vec![0, 1, 3, 4]));
}

#[tokio::test]
async fn a_log_cut_off_anywhere_loses_no_record_before_the_cut_and_takes_new_ones() {
    let closed = Closed::new().await;
    let whole = fs::read(closed.log()).unwrap();
    let lines: Vec<usize> = (0..whole.len()).filter(|end| whole[*end] == b'\n').collect();
    // Two line feeds a record, the first of them before it.
    let ends: Vec<usize> = lines.iter().skip(1).step_by(2).copied().collect();
    assert_eq!(ends.len(), 6);
    for cut in [ends[0] + 1, ends[1] - 20, ends[2], ends[3] + 5, whole.len() - 1] {
        fs::write(closed.log(), &whole[..cut]).unwrap();
        // A line without its line feed is as good as one with it.
        let complete = ends.iter().filter(|end| **end <= cut).count() as u32 - 1;
        let (mut bench, _, partials) = Bench::recovered(closed.directory.path()).await;
        assert_eq!(pieces_of(&partials[0]), (0..complete).collect::<Vec<_>>(), "cut at {cut}");
        let last = Geometry::of_blob(1_200_000).range(4);
        bench.store.record(closed.digest, record(4, alone(&closed.bytes[last.start as usize..]), "later"));
        bench.close().await;
        let again = closed.reopen().await.unwrap();
        assert_eq!(again, (0..complete.min(4)).chain([4]).collect::<Vec<_>>(), "cut at {cut}");
    }
}

#[tokio::test]
async fn a_record_that_follows_a_torn_one_at_run_time_is_read() {
    let closed = Closed::new().await;
    let mut log = OpenOptions::new().append(true).open(closed.log()).unwrap();
    log.write_all(b"\n0123456789abcdef {\"piece\":").unwrap();
    log::append(&closed.log(), &record(2, Hashed::Alone([7; 32]), "later")).unwrap();
    let read = log::read(&closed.log()).unwrap().unwrap();
    assert_eq!(read.damaged, 1);
    assert_eq!(read.pieces[&2].author, PeerId::new("later"));
}

#[tokio::test]
async fn a_flipped_bit_in_a_record_costs_that_record_only() {
    let closed = Closed::new().await;
    let whole = fs::read_to_string(closed.log()).unwrap();
    let damaged = whole.replacen("\"piece\":1", "\"piece\":3", 1);
    assert_ne!(whole, damaged);
    fs::write(closed.log(), damaged).unwrap();
    assert_eq!(closed.reopen().await, Some(vec![0, 2, 3, 4]));
}

#[tokio::test]
async fn a_record_of_a_piece_that_the_blob_does_not_have_is_dropped() {
    let closed = Closed::new().await;
    log::append(&closed.log(), &record(5, alone(b""), "liar")).unwrap();
    assert_eq!(closed.reopen().await, Some(vec![0, 1, 2, 3, 4]));
}

#[tokio::test]
async fn a_staged_blob_without_a_readable_header_is_removed() {
    let closed = Closed::new().await;
    let whole = fs::read_to_string(closed.log()).unwrap();
    fs::write(closed.log(), whole.replacen("1200000", "1200001", 1)).unwrap();
    assert_eq!(closed.reopen().await, None);
    assert!(closed.gone());
}

#[tokio::test]
async fn a_staging_file_of_another_length_is_removed() {
    let closed = Closed::new().await;
    OpenOptions::new().write(true).open(closed.data()).unwrap().set_len(1_199_999).unwrap();
    assert_eq!(closed.reopen().await, None);
    assert!(closed.gone());
}

#[tokio::test]
async fn half_a_pair_is_removed() {
    for data_stays in [false, true] {
        let closed = Closed::new().await;
        fs::remove_file(if data_stays { closed.log() } else { closed.data() }).unwrap();
        assert_eq!(closed.reopen().await, None);
        assert!(closed.gone());
    }
}

#[tokio::test]
async fn leftovers_are_removed_and_strangers_among_the_blobs_are_left_alone() {
    let closed = Closed::new().await;
    let root = closed.directory.path();
    fs::write(root.join("trash/7"), b"rubbish").unwrap();
    fs::write(closed.data().with_extension("3.aside"), b"half a piece").unwrap();
    fs::write(closed.log().with_extension("fresh"), b"half a log").unwrap();
    fs::write(root.join("staging/notes"), b"not ours").unwrap();
    fs::write(root.join("blobs/sha256/README"), b"an operator's").unwrap();
    assert_eq!(closed.reopen().await, Some(vec![0, 1, 2, 3, 4]));
    assert_eq!(files(&root.join("trash")), Vec::<String>::new());
    assert_eq!(files(&root.join("staging")), vec![closed.digest.hex(), format!("{}.pieces", closed.digest.hex())]);
    assert_eq!(files(&root.join("blobs/sha256")), vec!["README"]);
}

#[tokio::test]
async fn the_order_of_use_survives_a_restart() {
    let directory = TempDir::new().unwrap();
    let mut bench = Bench::fresh(directory.path()).await;
    let mut digests = Vec::new();
    for seed in 0..9 {
        digests.push(bench.put(&pattern(100, seed)).await);
    }
    bench.store.touch(digests[1]);
    bench.store.touch(digests[0]);
    digests.rotate_left(2);
    digests.swap(7, 8);
    bench.close().await;
    let (_bench, blobs, _) = Bench::recovered(directory.path()).await;
    let order: Vec<Digest> = blobs.iter().map(|blob| blob.digest).collect();
    assert_eq!(order, digests);
}

#[tokio::test]
async fn recovered_comes_before_whatever_was_ordered_meanwhile() {
    let directory = TempDir::new().unwrap();
    let mut bench = Bench::fresh(directory.path()).await;
    // Large enough that the check takes longer than the orders below.
    let bytes = pattern(40_000_000, 3);
    let digest = bench.fill(&bytes);
    bench.close().await;
    let mut bench = Bench::open(directory.path());
    let missing = digest_of(b"missing");
    bench.store.evict(missing);
    bench.store.hash_piece(OpId(1), digest, 40_000_000, 0, Midstate::INITIAL);
    assert!(matches!(bench.next().await, Input::Recovered { partials, .. } if partials[0].pieces.len() == 153));
    let mut later = [bench.next().await, bench.next().await];
    later.sort_by_key(|input| matches!(input, Input::PieceHashed { .. }));
    assert_eq!(later[0], Input::Evicted { digest: missing });
    assert!(matches!(later[1], Input::PieceHashed { op: OpId(1), result: Ok(_) }));
}

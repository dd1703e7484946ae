//! Bytes on their way into staging files.

use std::os::unix::fs::{FileExt, MetadataExt};

use longshore_core::input::StoreError;
use longshore_core::spine::Midstate;
use proptest::prelude::*;

use super::super::Released;
use super::*;

fn open(store: &Store, bytes: &[u8], first: u32, check: Check) -> Intake {
    Intake::open(store, digest_of(bytes), Geometry::of_blob(bytes.len() as u64), first, check).unwrap()
}

/// The bytes of one piece.
fn part(bytes: &[u8], piece: u32) -> &[u8] {
    let range = Geometry::of_blob(bytes.len() as u64).range(piece);
    &bytes[range.start as usize..range.end as usize]
}

fn alone(bytes: &[u8], piece: u32) -> StoredPiece {
    StoredPiece { piece, hashed: super::alone(part(bytes, piece)) }
}

/// Writes and gives what was reported.
fn write(intake: &mut Intake, bytes: &[u8]) -> Vec<StoredPiece> {
    let mut stored = Vec::new();
    intake.write(bytes, |piece| stored.push(piece)).unwrap();
    stored
}

async fn staged(bytes: &[u8]) -> (TempDir, Bench) {
    let directory = TempDir::new().unwrap();
    let mut bench = Bench::fresh(directory.path()).await;
    bench.store.stage(digest_of(bytes), bytes.len() as u64, facts());
    (directory, bench)
}

#[tokio::test]
async fn the_piece_of_an_empty_blob_is_reported_once_when_the_body_ends() {
    let (_directory, mut bench) = staged(b"").await;
    let digest = digest_of(b"");
    let mut intake = open(&bench.store, b"", 0, Check::From(Midstate::INITIAL));
    assert_eq!(write(&mut intake, b""), vec![]);
    let mut stored = Vec::new();
    intake.finish(|piece| stored.push(piece));
    intake.finish(|piece| stored.push(piece));
    let hashed = Hashed::Chained(Midstate::from_bytes(*digest.as_bytes()));
    assert_eq!(stored, vec![StoredPiece { piece: 0, hashed }]);
    assert!(matches!(intake.write(b"x", |_| {}), Err(StoreError::Io(_))));
    bench.store.commit(digest, facts());
    assert_eq!(bench.next().await, Input::Committed { digest, result: Ok(()) });
    assert_eq!(read_all(&bench.store, digest), b"");
}

#[tokio::test]
async fn bytes_past_the_end_are_an_error_and_the_last_piece_was_reported() {
    let bytes = pattern(300_000, 1);
    let (_directory, bench) = staged(&bytes).await;
    let mut intake = open(&bench.store, &bytes, 1, Check::Alone);
    let mut longer = part(&bytes, 1).to_vec();
    longer.push(0);
    let mut stored = Vec::new();
    let Err(StoreError::Io(words)) = intake.write(&longer, |piece| stored.push(piece)) else { panic!("took too much") };
    assert!(words.contains("all 300000 are there"), "{words}");
    assert_eq!(stored, vec![alone(&bytes, 1)]);
    assert_eq!(bench.store.reader(digest_of(&bytes)).unwrap().size(), 300_000);
}

#[tokio::test]
async fn an_intake_for_another_size_or_a_piece_too_many_is_refused_in_words() {
    let bytes = pattern(300_000, 2);
    let (_directory, bench) = staged(&bytes).await;
    for (size, first, found) in [(299_999, 0, "staged with 300000 bytes"), (300_000, 2, "has 2 pieces")] {
        let opened = Intake::open(&bench.store, digest_of(&bytes), Geometry::of_blob(size), first, Check::Alone);
        let Err(StoreError::Io(words)) = opened else { panic!("opened for {size} bytes") };
        assert!(words.contains(found), "{words}");
    }
}

#[tokio::test]
async fn a_dropped_intake_leaves_finished_pieces_and_the_next_one_takes_over() {
    let bytes = pattern(900_000, 3);
    let (_directory, bench) = staged(&bytes).await;
    let mut first = open(&bench.store, &bytes, 0, Check::Alone);
    assert_eq!(write(&mut first, &bytes[..300_000]), vec![alone(&bytes, 0)]);
    assert_eq!(first.position(), 300_000);
    drop(first);
    let mut second = open(&bench.store, &bytes, 1, Check::Alone);
    assert_eq!(write(&mut second, &bytes[262_144..]), vec![alone(&bytes, 1), alone(&bytes, 2), alone(&bytes, 3)]);
    assert_eq!(read_all(&bench.store, digest_of(&bytes)), bytes);
}

#[tokio::test]
async fn a_transfer_dropped_in_mid_piece_gives_the_piece_back() {
    let bytes = pattern(300_000, 14);
    let (_directory, bench) = staged(&bytes).await;
    let mut dropped = open(&bench.store, &bytes, 0, Check::Alone);
    write(&mut dropped, &[0xEE; 1000]);
    drop(dropped);
    let mut next = open(&bench.store, &bytes, 0, Check::Alone);
    write(&mut next, &bytes[..500]);
    // In its place at once, not aside: no second copy is needed.
    assert_eq!(read_all(&bench.store, digest_of(&bytes))[..500], bytes[..500]);
    assert_eq!(write(&mut next, &part(&bytes, 0)[500..]), vec![alone(&bytes, 0)]);
    assert_eq!(read_all(&bench.store, digest_of(&bytes))[..262_144], *part(&bytes, 0));
}

#[tokio::test]
async fn late_bytes_of_a_cancelled_transfer_do_not_change_a_committed_blob() {
    let bytes = pattern(300_000, 4);
    let (_directory, mut bench) = staged(&bytes).await;
    let mut late = open(&bench.store, &bytes, 0, Check::Alone);
    write(&mut late, b"wrong");
    take_in(&bench.store, &bytes, Check::Alone);
    bench.store.commit(digest_of(&bytes), facts());
    bench.next().await;
    assert_eq!(late.write(b"more", |_| {}), Err(StoreError::Missing));
    assert_eq!(read_all(&bench.store, digest_of(&bytes)), bytes);
}

#[tokio::test]
async fn what_was_finished_while_the_answer_was_on_its_way_is_not_overwritten() {
    let bytes = pattern(900_000, 9);
    let (_directory, bench) = staged(&bytes).await;
    let geometry = Geometry::of_blob(bytes.len() as u64);
    let ticket = Ticket::take(&bench.store, digest_of(&bytes));
    let mut first = open(&bench.store, &bytes, 1, Check::Alone);
    assert_eq!(write(&mut first, part(&bytes, 1)), [alone(&bytes, 1)]);
    // The origin answers now, with something else.
    let wrong = vec![0xa5; bytes.len()];
    let mut late = Intake::open_in_turn(&bench.store, ticket, digest_of(&bytes), geometry, 1, Check::Alone).unwrap();
    assert_eq!(write(&mut late, part(&wrong, 1)), []);
    let mut later = open(&bench.store, &bytes, 0, Check::Alone);
    assert_eq!(write(&mut later, part(&bytes, 0)), [alone(&bytes, 0)]);
    let range = geometry.range(1);
    let found = read_all(&bench.store, digest_of(&bytes));
    assert!(found[range.start as usize..range.end as usize] == *part(&bytes, 1), "what was reported is still there");
}

#[tokio::test]
async fn of_two_transfers_of_a_piece_the_first_to_finish_counts_and_both_report_the_same_bytes() {
    let bytes = pattern(300_000, 5);
    let (_directory, bench) = staged(&bytes).await;
    let piece = part(&bytes, 0);
    for slow_wins in [false, true] {
        let mut slow = open(&bench.store, &bytes, 0, Check::Alone);
        let mut quick = open(&bench.store, &bytes, 0, Check::Alone);
        write(&mut slow, &piece[..1000]);
        write(&mut quick, &piece[..200_000]);
        let (mut first, mut second) =
            if slow_wins { ((slow, 1000), (quick, 200_000)) } else { ((quick, 200_000), (slow, 1000)) };
        assert_eq!(write(&mut first.0, &piece[first.1..]), vec![alone(&bytes, 0)]);
        assert_eq!(read_all(&bench.store, digest_of(&bytes))[..piece.len()], *piece);
        assert_eq!(write(&mut second.0, &piece[second.1..]), vec![alone(&bytes, 0)]);
        assert_eq!(read_all(&bench.store, digest_of(&bytes))[..piece.len()], *piece);
    }
}

#[tokio::test]
async fn a_liar_that_finishes_second_changes_nothing_and_is_not_believed() {
    let bytes = pattern(300_000, 6);
    let (_directory, bench) = staged(&bytes).await;
    let lies = vec![0xEE; part(&bytes, 0).len()];
    for liar_begins in [false, true] {
        let mut liar = open(&bench.store, &bytes, 0, Check::Alone);
        let mut honest = open(&bench.store, &bytes, 0, Check::Alone);
        if liar_begins {
            write(&mut liar, &lies[..1000]);
        }
        write(&mut honest, &part(&bytes, 0)[..1000]);
        if !liar_begins {
            write(&mut liar, &lies[..1000]);
        }
        assert_eq!(write(&mut honest, &part(&bytes, 0)[1000..]), vec![alone(&bytes, 0)]);
        assert_eq!(write(&mut liar, &lies[1000..]), vec![]);
        assert_eq!(read_all(&bench.store, digest_of(&bytes))[..lies.len()], *part(&bytes, 0));
    }
}

#[tokio::test]
async fn a_piece_that_was_rejected_is_written_anew_by_the_next_transfer() {
    let bytes = pattern(300_000, 7);
    let (_directory, bench) = staged(&bytes).await;
    let mut liar = open(&bench.store, &bytes, 0, Check::Alone);
    let lies = vec![0xEE; part(&bytes, 0).len()];
    assert_ne!(write(&mut liar, &lies), vec![alone(&bytes, 0)]);
    let mut honest = open(&bench.store, &bytes, 0, Check::Alone);
    assert_eq!(write(&mut honest, part(&bytes, 0)), vec![alone(&bytes, 0)]);
    assert_eq!(read_all(&bench.store, digest_of(&bytes))[..lies.len()], *part(&bytes, 0));
}

#[tokio::test]
async fn a_chain_over_bytes_that_are_not_in_the_file_reports_nothing_more() {
    let bytes = pattern(900_000, 8);
    let (_directory, bench) = staged(&bytes).await;
    let mut run = open(&bench.store, &bytes, 0, Check::From(Midstate::INITIAL));
    let mut liar = open(&bench.store, &bytes, 1, Check::Alone);
    write(&mut liar, &vec![0xEE; part(&bytes, 1).len()]);
    let stored: Vec<u32> = write(&mut run, &bytes).iter().map(|stored| stored.piece).collect();
    assert_eq!(stored, vec![0]);
}

#[tokio::test]
async fn a_chain_goes_on_through_pieces_that_others_stored_meanwhile() {
    let bytes = pattern(900_000, 9);
    let (_directory, bench) = staged(&bytes).await;
    let mut run = open(&bench.store, &bytes, 0, Check::From(Midstate::INITIAL));
    write(&mut open(&bench.store, &bytes, 1, Check::Alone), part(&bytes, 1));
    let stored = write(&mut run, &bytes);
    assert_eq!(stored.iter().map(|stored| stored.piece).collect::<Vec<_>>(), vec![0, 1, 2, 3]);
    assert_eq!(stored[3].hashed, Hashed::Chained(Midstate::from_bytes(*digest_of(&bytes).as_bytes())));
}

#[tokio::test]
async fn a_large_blob_takes_only_the_space_of_the_pieces_that_are_there() {
    let directory = TempDir::new().unwrap();
    let mut bench = Bench::fresh(directory.path()).await;
    let (digest, size) = (digest_of(b"forty gibibytes"), 40_u64 << 30);
    let geometry = Geometry::of_blob(size);
    bench.store.stage(digest, size, facts());
    let last = geometry.pieces() - 1;
    let mut intake = Intake::open(&bench.store, digest, geometry, last, Check::Alone).unwrap();
    assert_eq!(intake.position(), size - geometry.len(last));
    let piece = pattern(geometry.len(last) as usize, 11);
    let stored = write(&mut intake, &piece);
    assert_eq!(stored[0].hashed, super::alone(&piece));
    bench.store.record(digest, record(last, stored[0].hashed, "author"));
    let metadata = fs::metadata(directory.path().join("staging").join(digest.hex())).unwrap();
    assert_eq!(metadata.len(), size);
    assert!(metadata.blocks() * 512 < 16 << 20, "{} blocks", metadata.blocks());
    bench.close().await;
    let (_bench, _, partials) = Bench::recovered(directory.path()).await;
    assert_eq!((partials[0].size, pieces_of(&partials[0])), (size, vec![last]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_follow_a_blob_that_is_being_written_and_see_only_its_bytes() {
    let bytes = Arc::new(pattern(3_000_000, 12));
    let (_directory, mut bench) = staged(&bytes).await;
    let digest = digest_of(&bytes);
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (reader, bytes) = (bench.store.reader(digest).unwrap(), Arc::clone(&bytes));
            tokio::spawn(async move {
                let (mut released, mut read) = (reader.released(), 0);
                while read < bytes.len() {
                    let until = match *released.borrow_and_update() {
                        Released::Prefix(until) => until as usize,
                        Released::Whole => bytes.len(),
                        Released::Gone => panic!("nobody discarded it"),
                    };
                    let mut buffer = vec![0; until - read];
                    reader.read_at(&mut buffer, read as u64).unwrap();
                    assert_eq!(buffer, bytes[read..until]);
                    read = until;
                    if read < bytes.len() {
                        released.changed().await.unwrap();
                    }
                }
            })
        })
        .collect();
    let mut intake = open(&bench.store, &bytes, 0, Check::Alone);
    let geometry = Geometry::of_blob(bytes.len() as u64);
    for portion in bytes.chunks(65_536) {
        for stored in write(&mut intake, portion) {
            bench.store.release(digest, geometry.range(stored.piece).end);
        }
        tokio::task::yield_now().await;
    }
    bench.store.commit(digest, facts());
    assert_eq!(bench.next().await, Input::Committed { digest, result: Ok(()) });
    for reader in readers {
        reader.await.unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn pieces_in_any_order_by_any_number_of_transfers_in_any_portions_make_the_blob(
        size in prop_oneof![1_usize..100, 262_143_usize..262_146, 600_000_usize..1_500_000],
        turns in proptest::collection::vec((any::<usize>(), 1_usize..150_000), 20..60),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let bytes = pattern(size, size as u8);
            let (_directory, bench) = staged(&bytes).await;
            let pieces = Geometry::of_blob(size as u64).pieces();
            // Two transfers for each piece, which take turns.
            let mut transfers: Vec<_> =
                (0..pieces * 2).map(|number| (open(&bench.store, &bytes, number / 2, Check::Alone), 0)).collect();
            let mut reported = Vec::new();
            for (transfer, len) in turns.iter().copied().chain(
                (0..transfers.len()).map(|_| (0, size)),
            ).collect::<Vec<_>>() {
                let unfinished: Vec<usize> = (0..transfers.len())
                    .filter(|number| transfers[*number].1 < part(&bytes, *number as u32 / 2).len())
                    .collect();
                if unfinished.is_empty() { break; }
                let number = unfinished[transfer % unfinished.len()];
                let (intake, done) = &mut transfers[number];
                let rest = &part(&bytes, number as u32 / 2)[*done..];
                let portion = &rest[..rest.len().min(len)];
                *done += portion.len();
                for stored in write(intake, portion) {
                    assert_eq!(stored, alone(&bytes, number as u32 / 2));
                    reported.push(stored.piece);
                }
            }
            reported.sort_unstable();
            assert_eq!(reported, (0..pieces * 2).map(|number| number / 2).collect::<Vec<_>>());
            assert_eq!(read_all(&bench.store, digest_of(&bytes)), bytes);
        });
    }
}

#[tokio::test]
async fn what_is_reported_is_on_disk_even_if_a_reader_opened_before() {
    let bytes = pattern(300_000, 13);
    let (directory, bench) = staged(&bytes).await;
    let reader = bench.store.reader(digest_of(&bytes)).unwrap();
    let mut intake = open(&bench.store, &bytes, 0, Check::Alone);
    let file = fs::File::open(directory.path().join("staging").join(digest_of(&bytes).hex())).unwrap();
    let mut seen = 0;
    intake
        .write(&bytes, |stored| {
            let expected = part(&bytes, stored.piece);
            let (mut by_reader, mut by_path) = (vec![0; expected.len()], vec![0; expected.len()]);
            reader.read_at(&mut by_reader, u64::from(stored.piece) * 262_144).unwrap();
            file.read_exact_at(&mut by_path, u64::from(stored.piece) * 262_144).unwrap();
            assert!(by_reader == expected && by_path == expected);
            seen += 1;
        })
        .unwrap();
    assert_eq!(seen, 2);
}

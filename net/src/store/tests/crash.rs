//! A crash at any point leaves a blob complete, or staged, or gone.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::*;

/// Where the child of the kill test works; not set in a normal run.
const DIRECTORY_VARIABLE: &str = "LONGSHORE_STORE_CRASH_DIRECTORY";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// Everything that a directory holds is what it says it is, and nothing is left over.
async fn check(directory: &Path) -> (Vec<Digest>, Vec<PartialBlob>) {
    let (bench, blobs, partials) = Bench::recovered(directory).await;
    let mut expected = Vec::new();
    for blob in &blobs {
        assert_eq!(digest_of(&read_all(&bench.store, blob.digest)), blob.digest);
        assert_eq!(blob.facts, facts());
        expected.extend([blob.digest.hex(), format!("{}.json", blob.digest.hex())]);
    }
    expected.sort();
    assert_eq!(files(&directory.join("blobs/sha256")), expected);
    let mut expected = Vec::new();
    for partial in &partials {
        let bytes = read_all(&bench.store, partial.digest);
        for found in &partial.pieces {
            let range = Geometry::of_blob(partial.size).range(found.piece);
            let hashed = alone(&bytes[range.start as usize..range.end as usize]);
            assert_eq!(*found, record(found.piece, hashed, found.author.as_str()));
        }
        expected.extend([partial.digest.hex(), format!("{}.pieces", partial.digest.hex())]);
    }
    expected.sort();
    assert_eq!(files(&directory.join("staging")), expected);
    assert_eq!(files(&directory.join("trash")), Vec::<String>::new());
    bench.close().await;
    (blobs.iter().map(|blob| blob.digest).collect(), partials)
}

#[tokio::test]
async fn a_crash_between_any_two_steps_of_a_commit_leaves_the_blob_staged_or_complete() {
    let (work, before, after) = (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut bench = Bench::fresh(work.path()).await;
    let digest = bench.fill(&pattern(600_000, 1));
    copy(work.path(), before.path());
    bench.store.commit(digest, facts());
    assert_eq!(bench.next().await, Input::Committed { digest, result: Ok(()) });
    copy(work.path(), after.path());
    let sidecar = format!("blobs/sha256/{}.json", digest.hex());
    let (data, log) = (format!("staging/{}", digest.hex()), format!("staging/{}.pieces", digest.hex()));

    // The steps of `commit`, in its order. The directory is checked after each of them.
    type Step<'a> = (&'a str, bool, Box<dyn Fn(&Path) + 'a>);
    let text = fs::read(after.path().join(&sidecar)).unwrap();
    let steps: [Step<'_>; 6] = [
        ("bytes flushed", false, Box::new(|_| {})),
        (
            "sidecar half written",
            false,
            Box::new(|now| fs::write(now.join(format!("{sidecar}.fresh")), &text[..20]).unwrap()),
        ),
        ("sidecar written", false, Box::new(|now| fs::write(now.join(format!("{sidecar}.fresh")), &text).unwrap())),
        (
            "sidecar named",
            false,
            Box::new(|now| fs::rename(now.join(format!("{sidecar}.fresh")), now.join(&sidecar)).unwrap()),
        ),
        (
            "blob named",
            true,
            Box::new(|now| fs::rename(now.join(&data), now.join("blobs/sha256").join(digest.hex())).unwrap()),
        ),
        ("log removed", true, Box::new(|now| fs::remove_file(now.join(&log)).unwrap())),
    ];
    for reached in 0..steps.len() {
        let crashed = TempDir::new().unwrap();
        copy(before.path(), crashed.path());
        for (_, _, step) in &steps[..=reached] {
            step(crashed.path());
        }
        let (blobs, partials) = check(crashed.path()).await;
        let (name, complete, _) = &steps[reached];
        if *complete {
            assert_eq!((blobs, partials.len()), (vec![digest], 0), "{name}");
        } else {
            assert_eq!((blobs, pieces_of(&partials[0])), (vec![], vec![0, 1, 2]), "{name}");
        }
    }
}

#[tokio::test]
async fn a_crash_between_the_steps_of_an_eviction_leaves_nothing() {
    let directory = TempDir::new().unwrap();
    let mut bench = Bench::fresh(directory.path()).await;
    let digest = bench.put(&pattern(1000, 2)).await;
    bench.close().await;
    fs::rename(directory.path().join("blobs/sha256").join(digest.hex()), directory.path().join("trash/0")).unwrap();
    let (blobs, partials) = check(directory.path()).await;
    assert_eq!((blobs, partials), (vec![], vec![]));
}

#[tokio::test]
async fn a_blob_without_its_sidecar_or_of_another_size_is_not_served() {
    for damage in ["no sidecar", "unreadable sidecar", "short blob"] {
        let directory = TempDir::new().unwrap();
        let mut bench = Bench::fresh(directory.path()).await;
        let digest = bench.put(&pattern(1000, 3)).await;
        bench.close().await;
        let blob = directory.path().join("blobs/sha256").join(digest.hex());
        match damage {
            "no sidecar" => fs::remove_file(blob.with_extension("json")).unwrap(),
            "unreadable sidecar" => fs::write(blob.with_extension("json"), b"{").unwrap(),
            _ => fs::write(&blob, b"short").unwrap(),
        }
        let (blobs, partials) = check(directory.path()).await;
        assert_eq!((blobs, partials), (vec![], vec![]), "{damage}");
    }
}

#[tokio::test]
async fn a_killed_agent_leaves_only_what_it_says_and_loses_nothing_that_it_reported() {
    // How many steps the child reports before it is killed: somewhere in each kind of step.
    for lines_before_the_kill in [1, 2, 7, 23, 41, 64, 90, 131] {
        let directory = TempDir::new().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::crash::child_of_the_kill_test", "--ignored", "--nocapture"])
            .env(DIRECTORY_VARIABLE, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said: Vec<String> = Vec::new();
        while said.len() < lines_before_the_kill {
            let line = lines.next().expect("the child ended early").unwrap();
            if line.starts_with("step ") {
                said.push(line);
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        said.extend(lines.map_while(Result::ok).filter(|line| line.starts_with("step ") && line.ends_with('.')));
        let (blobs, partials) = check(directory.path()).await;
        let mut evicted_or_about_to_be = 0;
        for line in &said {
            let words: Vec<&str> = line.trim_end_matches('.').split(' ').collect();
            let digest: Digest = words[2].parse().unwrap();
            let evicting = said.iter().any(|other| other.contains("evicting") && other.contains(words[2]));
            match words[1] {
                "committed" if !evicting => assert!(blobs.contains(&digest), "{line}"),
                "recorded" if !blobs.contains(&digest) && !evicting => {
                    let partial = partials.iter().find(|partial| partial.digest == digest).expect(line);
                    assert!(pieces_of(partial).contains(&words[3].parse().unwrap()), "{line}");
                }
                "evicting" => evicted_or_about_to_be += 1,
                _ => {}
            }
        }
        assert!(partials.len() <= 1, "the child stages one blob at a time");
        assert!(blobs.len() + evicted_or_about_to_be + partials.len() <= said.len());
    }
}

/// Fills, commits and evicts until it is killed, and says what it has done.
#[tokio::test]
#[ignore = "the killed agent of the test above, which starts it"]
async fn child_of_the_kill_test() {
    let Ok(directory) = std::env::var(DIRECTORY_VARIABLE) else { return };
    let mut bench = Bench::fresh(Path::new(&directory)).await;
    let mut before = None;
    for seed in 0_u8.. {
        let bytes = pattern(400_000 + usize::from(seed) * 9_999, seed);
        let digest = digest_of(&bytes);
        bench.store.stage(digest, bytes.len() as u64, facts());
        println!("step staged {digest}.");
        for StoredPiece { piece, hashed } in take_in(&bench.store, &bytes, Check::Alone) {
            bench.store.record(digest, record(piece, hashed, "child"));
            println!("step recorded {digest} {piece}.");
        }
        bench.store.commit(digest, facts());
        assert_eq!(bench.next().await, Input::Committed { digest, result: Ok(()) });
        println!("step committed {digest}.");
        if seed % 3 == 2
            && let Some(digest) = before
        {
            println!("step evicting {digest}.");
            bench.store.evict(digest);
            assert_eq!(bench.next().await, Input::Evicted { digest });
        }
        before = Some(digest);
    }
}

//! Blobs that containerd asks for again.

use super::*;
use crate::input::StoreError;
use crate::output::Explanation;

impl Bench {
    /// containerd has read a blob of 10 bytes that is here, and asks for it again with request 2.
    fn read_again() -> Self {
        let mut bench = Self::with_blobs(vec![blob(1, 10, false)], |_| {});
        bench.get(1, digest(1), None);
        assert!(is_served(&bench.take()), "nothing speaks against it yet");
        bench.closed(1, 10).get(2, digest(1), None);
        bench
    }

    fn closed(&mut self, request: u64, sent_bytes: u64) -> &mut Self {
        self.input(Input::MirrorClosed { request: RequestId(request), sent_bytes })
    }

    fn verified(&mut self, result: Result<bool, StoreError>) -> Vec<Output> {
        self.take();
        self.input(Input::Verified { digest: digest(1), result });
        self.take()
    }
}

fn is_hashed(outputs: &[Output]) -> bool {
    outputs.contains(&Output::Verify { digest: digest(1) })
}

#[test]
fn what_containerd_has_read_is_hashed_before_it_gets_it_again() {
    let mut bench = Bench::read_again();
    let outputs = bench.take();
    assert!(is_hashed(&outputs) && !is_served(&outputs), "{outputs:?}");
    bench.get(3, digest(1), None);
    let outputs = bench.take();
    assert!(!is_hashed(&outputs) && !is_served(&outputs), "once for all who wait: {outputs:?}");
    let outputs = bench.verified(Ok(true));
    assert_eq!(outputs.iter().filter(|output| matches!(output, Output::MirrorServe { .. })).count(), 2);
    // It is right, and nobody has read it since.
    bench.get(4, digest(1), None);
    assert!(is_served(&bench.take()));
    assert_eq!(bench.agent.counters().blobs_rotten, 0);
}

#[test]
fn a_part_of_it_and_a_head_are_no_reason_to_hash_it() {
    let mut bench = Bench::with_blobs(vec![blob(1, 10, false)], |_| {});
    bench.get(1, digest(1), None).closed(1, 9).get(2, digest(1), None);
    assert!(!is_hashed(&bench.take()));
    bench.closed(2, 1).ask(3, Method::Head, Kind::Blob, digest(1), None);
    assert!(!is_hashed(&bench.take()));
    bench.get(4, digest(1), None);
    assert!(is_hashed(&bench.take()), "both parts are the whole");
}

#[test]
fn a_blob_that_is_not_what_it_was_is_deleted_and_fetched_again() {
    for result in [Ok(false), Err(StoreError::Missing)] {
        let mut bench = Bench::read_again();
        let outputs = bench.verified(result);
        let said = |output: &&Output| matches!(output, Output::Explain(Explanation::Rotten { .. }));
        assert_eq!(outputs.iter().filter(said).count(), 1);
        assert!(outputs.contains(&Output::Evict { digest: digest(1) }) && !is_served(&outputs), "{outputs:?}");
        assert_eq!(bench.agent.status().flights.len(), 1, "the request waits for it");
        assert_eq!((bench.agent.counters().blobs_rotten, bench.agent.counters().mirror_refused), (1, 0));
        bench.input(Input::Evicted { digest: digest(1) });
        assert_eq!(bench.agent.contradiction(), None);
    }
}

#[test]
fn what_cannot_be_looked_at_is_served_and_looked_at_the_next_time() {
    let mut bench = Bench::read_again();
    assert!(is_served(&bench.verified(Err(StoreError::Io("too many open files".into())))));
    bench.closed(2, 10).get(3, digest(1), None);
    assert!(is_hashed(&bench.take()));
}

#[test]
fn hashing_that_takes_longer_than_containerd_waits_is_not_waited_for_and_counts_all_the_same() {
    let mut bench = Bench::read_again();
    bench.take();
    bench.pass(Duration::from_secs(60));
    assert!(is_served(&bench.take()));
    let outputs = bench.verified(Ok(false));
    assert!(outputs.contains(&Output::MirrorAbort { request: RequestId(2) }), "{outputs:?}");
    bench.closed(2, 5).get(3, digest(1), None);
    assert_eq!(bench.agent.status().flights.len(), 1);
    assert_eq!(bench.agent.contradiction(), None);
}

#[test]
fn a_word_on_what_has_gone_means_nothing() {
    let mut bench = Bench::read_again();
    assert_eq!(bench.verified(Ok(false)).iter().filter(|output| matches!(output, Output::Evict { .. })).count(), 1);
    assert_eq!(bench.verified(Ok(false)), []);
}

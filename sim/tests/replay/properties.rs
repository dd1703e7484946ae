use longshore_core::journal::file::Frames;
use longshore_core::journal::{JournalError, redact, restore, snapshot};
use longshore_sim::replay::causes::Threads;
use longshore_sim::replay::redacted::redact as redact_journal;
use longshore_sim::replay::{Journal, replay, story};
use proptest::prelude::*;

use super::{inputs, recorded};

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, max_shrink_iters: 2000, ..ProptestConfig::with_cases(96) }
}

fn all_inputs(journals: &[Journal]) -> Vec<longshore_core::input::Input> {
    let batches = journals.iter().flat_map(|journal| &journal.batches);
    batches.flat_map(|batch| batch.records()).map(|record| record.unwrap().input).collect()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_was_recorded_is_read_back(seed: u64, life in inputs::life(60), batch in 1_u64..20) {
        let journals = recorded(seed, &life, batch, usize::MAX);
        let read = Journal::read(&journals[0].write().unwrap()).unwrap();
        prop_assert_eq!(&read.batches, &journals[0].batches);
        prop_assert_eq!(&read.header, &journals[0].header);
        let expected: Vec<_> = life.into_iter().map(|(_, input)| input).collect();
        prop_assert_eq!(all_inputs(&[read]), expected);
    }

    #[test]
    fn a_journal_replays_the_same_as_a_whole_and_from_every_file(seed: u64, life in inputs::life(150), file in 20_usize..60) {
        let journals = recorded(seed, &life, 7, file);
        let whole = replay(&journals, |_| {}).unwrap();
        prop_assert_eq!(whole.divergence, None);
        prop_assert_eq!(whole.inputs, life.len() as u64);
        for journal in &journals {
            let alone = replay(std::slice::from_ref(journal), |_| {}).unwrap();
            prop_assert_eq!(alone.divergence, None);
            prop_assert_eq!(alone.inputs, journal.inputs());
        }
    }

    #[test]
    fn a_restored_agent_has_the_same_state(seed: u64, life in inputs::life(100)) {
        let journals = recorded(seed, &life, 7, usize::MAX);
        let agent = replay(&journals, |_| {}).unwrap().agent;
        let state = snapshot(&agent).unwrap();
        let restored = restore(&state).unwrap();
        prop_assert_eq!(agent.status(), restored.status());
        prop_assert_eq!(agent.poll_deadline(), restored.poll_deadline());
        prop_assert_eq!(snapshot(&restored).unwrap(), state);
    }

    #[test]
    fn a_redacted_journal_replays_to_the_same_decisions_and_has_no_names(
        seed: u64,
        life in inputs::life(100),
        file in 20_usize..60,
    ) {
        for journal in recorded(seed, &life, 7, file) {
            let redacted = redact_journal(&journal).unwrap();
            // Once more, from the bytes: the same number of outputs of the same shape, at every input.
            let bytes = redacted.journal.write().unwrap();
            let read = Journal::read(&bytes).unwrap();
            let mut shapes = Vec::new();
            replay(std::slice::from_ref(&journal), |step| shapes.push(redact::shape(&step.outputs).unwrap())).unwrap();
            let mut redacted_shapes = Vec::new();
            let again = replay(std::slice::from_ref(&read), |step| redacted_shapes.push(redact::shape(&step.outputs).unwrap()));
            prop_assert_eq!(again.unwrap().divergence, None);
            prop_assert_eq!(shapes, redacted_shapes);
            // Every text of a canary's place begins with this word, wherever it is by now.
            let mut plain = format!("{:?}", read.header.config).into_bytes();
            plain.extend(read.header.state.clone().unwrap_or_default());
            for batch in &read.batches {
                plain.extend(&batch.records);
            }
            prop_assert!(!plain.windows(6).any(|window| window == b"canary"));
        }
    }

    #[test]
    fn every_step_can_be_told_and_has_no_later_cause(seed: u64, life in inputs::life(150)) {
        let mut threads = Threads::default();
        let mut wrong = Vec::new();
        replay(&recorded(seed, &life, 7, usize::MAX), |step| {
            let (subject, cause) = threads.follow(step);
            let line = story::line(step, subject.digests.first());
            if line.contains('\n') || cause.is_some_and(|cause| cause.number >= step.number) {
                wrong.push(line);
            }
        })
        .unwrap();
        prop_assert_eq!(wrong, Vec::<String>::new());
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_good_up_to_there(seed: u64, life in inputs::life(40), cut: prop::sample::Index) {
        let journal = recorded(seed, &life, 5, usize::MAX).remove(0);
        let bytes = journal.write().unwrap();
        let cut = cut.index(bytes.len());
        match Journal::read(&bytes[..cut]) {
            Ok(read) => {
                prop_assert!(journal.batches.starts_with(&read.batches));
                prop_assert!(read.end.is_none());
                prop_assert_eq!(replay(&[read], |_| {}).unwrap().divergence, None);
            }
            Err(error) => {
                prop_assert!(matches!(error, JournalError::NoJournal | JournalError::Truncated { .. }), "{}", error);
            }
        }
    }

    #[test]
    fn a_changed_byte_is_found_and_what_is_before_it_counts(
        seed: u64,
        life in inputs::life(40),
        at: prop::sample::Index,
        change in 1_u8..,
    ) {
        let journal = recorded(seed, &life, 5, usize::MAX).remove(0);
        let mut bytes = journal.write().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        match Journal::read(&bytes) {
            Ok(read) => {
                prop_assert!(read.damage.is_some(), "a changed byte went unnoticed");
                prop_assert!(journal.batches.starts_with(&read.batches));
            }
            Err(error) => prop_assert!(!matches!(error, JournalError::Decode { .. }), "{}", error),
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(junk: Vec<u8>) {
        prop_assert!(Journal::read(&junk).is_err());
        let bytes = [longshore_core::journal::file::MAGIC, &junk].concat();
        prop_assert!(Frames::open(&bytes).is_err());
        let _ = restore(&junk);
        let batch = longshore_core::journal::record::Batch {
            count: 9,
            records: junk,
            ..longshore_core::journal::record::Batch::after(0, longshore_core::time::Time::ZERO)
        };
        prop_assert!(batch.records().count() <= 10);
    }
}

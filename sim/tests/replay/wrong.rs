use longshore_core::digest::Digest;
use longshore_core::input::{CallError, Input, Method};
use longshore_core::journal::JournalError;
use longshore_core::journal::record::Batch;
use longshore_core::journal::scribe::Scribe;
use longshore_core::members::{Member, Roster};
use longshore_core::names::{CallId, Kind, PeerId, RequestId, Source};
use longshore_core::time::Time;
use longshore_sim::replay::{Difference, Journal, replay};

use super::{Recorded, recorded};

/// containerd asks for a blob; one peer is asked for it, does not answer, and the origin is asked.
fn life() -> Vec<(u64, Input)> {
    let member = Member {
        name: "node of 12D3KooWPeer1".into(),
        peer: Some(PeerId::new("12D3KooWPeer1")),
        addresses: Vec::new(),
        zone: None,
        ready: true,
    };
    let source = Source { registry: "r".into(), repository: "n".into(), kind: Kind::Blob };
    let digest = Digest::from_bytes([7; 32]);
    let mut life = vec![
        (5, Input::Recovered { blobs: Vec::new(), partials: Vec::new() }),
        (5, Input::Members(Roster::new(vec![member]))),
        (1_000_000, Input::Mirror { request: RequestId(1), method: Method::Get, source, digest, credential: None }),
    ];
    life.push((1000, Input::CallFailed { call: CallId(2), error: CallError::Unreachable }));
    for _ in 0..40 {
        life.push((2_000_000, Input::Tick));
    }
    life
}

/// The journal with its records changed by `change`, their checks as they were.
fn changed(journal: &Journal, mut change: impl FnMut(u64, &mut Time, &mut Input)) -> Journal {
    let mut batches = Vec::new();
    for batch in &journal.batches {
        // A scribe writes no checks of its own for an agent that it is not shown.
        let mut scribe = Scribe::resume(longshore_core::journal::Header {
            time: batch.start,
            inputs_before: batch.first,
            ..journal.header.clone()
        });
        let mut bytes = Vec::new();
        for (number, record) in (batch.first..).zip(batch.records()) {
            let mut record = record.unwrap();
            change(number, &mut record.time, &mut record.input);
            scribe.input(record.time, &record.input).unwrap();
            bytes.extend(scribe.take().unwrap().records);
            bytes.extend(record.check.unwrap().to_le_bytes());
        }
        batches.push(Batch { records: bytes, ..batch.clone() });
    }
    Journal { batches, ..journal.clone() }
}

#[test]
fn an_unchanged_journal_replays_and_so_does_its_copy() {
    let journal = recorded(1, &life(), 7, usize::MAX).remove(0);
    let copy = changed(&journal, |_, _, _| {});
    assert_eq!(copy.batches, journal.batches);
    assert_eq!(replay(&[copy], |_| {}).unwrap().divergence, None);
}

#[test]
fn a_changed_input_is_named_at_the_input_itself() {
    let journal = recorded(1, &life(), 7, usize::MAX).remove(0);
    let other = changed(&journal, |number, _, input| {
        if number == 3 {
            *input = Input::CallFailed { call: CallId(99), error: CallError::Unreachable };
        }
    });
    let divergence = replay(&[other], |_| {}).unwrap().divergence.unwrap();
    assert_eq!((divergence.number, divergence.kind), (3, "CallFailed"), "{divergence}");
    assert!(matches!(divergence.difference, Difference::Check { expected, found } if expected != found));
}

#[test]
fn a_changed_time_is_named_at_the_first_input_where_it_matters() {
    let journal = recorded(1, &life(), 7, usize::MAX).remove(0);
    // The request sets deadlines: they move with it.
    let other = changed(&journal, |number, time, _| {
        if number == 2 {
            *time = Time::from_micros(time.as_micros() + 1);
        }
    });
    let divergence = replay(&[other], |_| {}).unwrap().divergence.unwrap();
    assert_eq!((divergence.number, divergence.kind), (2, "Mirror"), "{divergence}");
}

#[test]
fn another_seed_is_found_at_the_first_choice_that_is_left_to_chance() {
    let mut journal = recorded(1, &life(), 7, usize::MAX).remove(0);
    journal.header.seed = 2;
    let divergence = replay(&[journal], |_| {}).unwrap().divergence.unwrap();
    // The first deadline of all is the reconciliation's, with its jitter: it differs as soon as it is what comes next.
    assert!(divergence.number < 40, "{divergence}");
    assert!(divergence.to_string().starts_with(&format!("at input {} (", divergence.number)), "{divergence}");
}

#[test]
fn another_configuration_is_found() {
    let mut journal = recorded(1, &life(), 7, usize::MAX).remove(0);
    journal.header.config.header_timeout *= 2;
    let divergence = replay(&[journal], |_| {}).unwrap().divergence.unwrap();
    assert!((2..24).contains(&divergence.number), "{divergence}");
}

#[test]
fn a_state_that_is_not_the_agents_is_found_at_the_border_of_the_files() {
    let mut journals = recorded(1, &life(), 7, 20);
    assert_eq!(replay(&journals, |_| {}).unwrap().divergence, None);
    journals[1].header.state = journals[2].header.state.clone();
    let divergence = replay(&journals, |_| {}).unwrap().divergence.unwrap();
    assert_eq!((divergence.number, divergence.difference), (19, Difference::State));
}

#[test]
fn files_with_a_gap_between_them_are_refused() {
    let mut journals = recorded(1, &life(), 7, 15);
    journals.remove(1);
    assert!(matches!(replay(&journals, |_| {}), Err(JournalError::Misplaced { .. })));
    assert!(replay(&[], |_| {}).is_err());
}

#[test]
fn an_input_without_its_check_at_the_very_end_is_one_that_the_agent_died_of() {
    let mut agent = Recorded::new(1, 100);
    for (_, input) in life().into_iter().take(3) {
        agent.input(Time::from_micros(1000), input);
    }
    let mut journal = agent.close().remove(0);
    let batch = &mut journal.batches[0];
    batch.records.truncate(batch.records.len() - 2);
    batch.digest = None;
    let read = Journal::read(&journal.write().unwrap()).unwrap();
    let replayed = replay(&[read], |_| {}).unwrap();
    assert!(replayed.died && replayed.divergence.is_none() && replayed.inputs == 3);
}

#[test]
fn a_journal_of_another_format_names_the_program_that_can_read_it() {
    let mut journal = recorded(1, &life(), 7, usize::MAX).remove(0);
    journal.header.format += 1;
    let error = Journal::read(&journal.write().unwrap()).unwrap_err();
    assert!(matches!(&error, JournalError::OtherFormat { program, .. } if program == "test 1"), "{error}");
}

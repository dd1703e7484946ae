use longshore_core::input::Input;
use longshore_core::message::{Enrol, Protocol, PullIntent, Request, Response};
use longshore_core::names::{CallId, Kind, PeerId, Source, StreamId};
use longshore_core::time::Time;
use longshore_sim::replay::{Journal, replay};

use super::Recorded;

const HOUR_MICROS: u64 = 3_600_000_000;

/// An hour of a node with ten inputs a second; ten to a batch, as a shell that flushes every second makes them.
fn hour() -> Journal {
    let mut recorded = Recorded::new(7, 10);
    recorded.input(Time::from_micros(10), Input::Recovered { blobs: Vec::new(), partials: Vec::new() });
    let (mut at, mut stream) = (0, 0);
    while at < HOUR_MICROS {
        at += 100_000;
        while let Some((due, _)) = recorded.agent.poll_deadline()
            && due.as_micros() <= at
        {
            recorded.input(due, Input::Tick);
        }
        // A question takes three inputs.
        if at.is_multiple_of(300_000) {
            let id = StreamId(stream);
            stream += 1;
            let peer = PeerId::new(&format!("12D3KooWPeer{}", stream % 50));
            let digest = longshore_core::digest::Digest::from_bytes(std::array::from_fn(|byte| {
                (stream / 3).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(byte as u32 * 5) as u8
            }));
            let now = |offset| Time::from_micros(at + offset);
            recorded.input(now(0), Input::StreamOpened { stream: id, peer, protocol: Protocol::Coord });
            recorded.input(
                now(300),
                Input::StreamRequest { stream: id, request: Request::PullIntent { digest, leads: false } },
            );
            recorded.input(now(700), Input::StreamClosed { stream: id, error: None, sent_bytes: 0 });
        }
    }
    recorded.close().remove(0)
}

#[test]
fn an_hour_of_a_node_takes_less_than_a_megabyte_and_replays_in_seconds() {
    let journal = hour();
    let bytes = journal.write().unwrap();
    let started = std::time::Instant::now();
    let replayed = replay(&[Journal::read(&bytes).unwrap()], |_| {}).unwrap();
    let wall = started.elapsed();
    println!(
        "{} inputs, {} bytes in an hour, {} of them plain, replayed in {wall:?}",
        replayed.inputs,
        bytes.len(),
        journal.batches.iter().map(|batch| batch.records.len()).sum::<usize>(),
    );
    assert_eq!(replayed.divergence, None);
    assert!(replayed.inputs > 36_000);
    assert!(bytes.len() < 1_000_000, "{} bytes", bytes.len());
    // Debug builds take a tenth of this; the bound is for busy machines.
    assert!(wall < std::time::Duration::from_secs(10), "{wall:?}");
}

#[test]
fn what_the_wire_says_is_what_the_journal_says() {
    // A tour of the types with the most in them, by hand: a field that is lost would be lost in a replay.
    let mut recorded = Recorded::new(7, 1);
    let source = Source { registry: "registry.example:5000".into(), repository: "a/b".into(), kind: Kind::Manifest };
    let digest = longshore_core::digest::Digest::from_bytes(*b"0123456789abcdef0123456789abcdef");
    let inputs = [
        Input::Reply { call: CallId(u64::MAX), response: Response::PullIntent(PullIntent::default()) },
        Input::StreamRequest {
            stream: StreamId(3),
            request: Request::Enrol(Enrol {
                digest,
                size: Some(u64::MAX),
                pieces: vec![0xff; 32],
                can_fetch_origin: true,
                private: true,
                has_credential: false,
                fetching: Vec::new(),
                source,
                zone: Some("z\u{e9}".into()),
                addresses: vec!["/ip4/10.0.0.7/tcp/4001".into()],
            }),
        },
    ];
    // A clock that steps back is recorded as it is.
    recorded.input(Time::from_micros(5_000_000), inputs[0].clone());
    recorded.input(Time::from_micros(1_000_000), inputs[1].clone());
    let journal = Journal::read(&recorded.close().remove(0).write().unwrap()).unwrap();
    let records: Vec<_> = journal.batches.iter().flat_map(|batch| batch.records()).map(Result::unwrap).collect();
    let times: Vec<_> = records.iter().map(|record| record.time.as_micros()).collect();
    assert_eq!(times, [5_000_000, 1_000_000]);
    assert!(records.iter().map(|record| &record.input).eq(&inputs));
    assert_eq!(replay(&[journal], |_| {}).unwrap().divergence, None);
}

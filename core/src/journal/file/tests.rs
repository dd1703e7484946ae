use core::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::agent::Agent;
use crate::config::Config;
use crate::digest::{Digest, hex};
use crate::input::{Hashed, Input, Method, TransferEvent};
use crate::journal::scribe::Scribe;
use crate::members::{Member, Roster};
use crate::message::{Enrol, EnrolReply, Have, Notice, PieceSum, Request, Response};
use crate::names::{CallId, CredentialId, Kind, OpId, PeerId, RequestId, Source, StreamId};
use crate::spine::Midstate;
use crate::time::Time;

/// A frame with a right checksum around any contents: what damage cannot make, but a person can.
fn forged(kind: u8, contents: &[u8]) -> Vec<u8> {
    let stored = lz4_flex::block::compress(contents);
    let mut bytes = vec![kind];
    bytes.extend((contents.len() as u32).to_le_bytes());
    bytes.extend((stored.len() as u32).to_le_bytes());
    bytes.extend(checksum(&bytes, &stored).to_le_bytes());
    bytes.extend(stored);
    bytes
}

proptest! {
    #[test]
    fn forged_frames_are_refused_or_read_without_a_panic(kind in 0_u8..5, contents: Vec<u8>, known: bool) {
        let format = if known { postcard::to_allocvec(&FORMAT).unwrap() } else { Vec::new() };
        let bytes = [MAGIC, &forged(kind, &[&format[..], &contents].concat())].concat();
        if let Ok((header, frames)) = Frames::open(&bytes) {
            let _ = header.agent();
            prop_assert!(frames.count() <= 1);
        }
    }
}

#[test]
fn a_frame_that_promises_more_than_there_can_be_is_refused_before_memory_is_taken() {
    let mut bytes = [MAGIC, &forged(1, b"xx")].concat();
    bytes[MAGIC.len() + 1..MAGIC.len() + 5].copy_from_slice(&(MAX_FRAME_BYTES as u32).to_le_bytes());
    assert!(matches!(Frames::open(&bytes), Err(JournalError::Damaged { what: "its size is impossible", .. })));
}

/// Whoever changes what this shows changes the format: then [`FORMAT`] has to change, too.
#[test]
fn the_format_is_this() {
    let config = Config::new("node", PeerId::new("12D3KooWA"));
    let mut agent = Agent::new(config.clone(), 7, Time::ZERO);
    let mut scribe = Scribe::new("test", 1, config.clone(), 7, Time::ZERO);
    let digest = Digest::from_bytes([0xd1; 32]);
    let source = Source { registry: "r".into(), repository: "n".into(), kind: Kind::Blob };
    let peer = PeerId::new("12D3KooWB");
    let member =
        Member { name: "b".into(), peer: Some(peer.clone()), addresses: vec!["/a".into()], zone: None, ready: true };
    let sum = PieceSum { piece: 1, sum: [7; 32], author: peer.clone() };
    let have = Have::Also(vec![1]);
    let inputs = [
        Input::Recovered { blobs: Vec::new(), partials: Vec::new() },
        Input::Members(Roster::new(vec![member])),
        Input::Mirror {
            request: RequestId(1),
            method: Method::Get,
            source,
            digest,
            credential: Some(CredentialId(300)),
        },
        Input::Notice {
            peer,
            notice: Notice::Have {
                digest,
                size: Some(9),
                pieces: have,
                sums: vec![sum],
                spine: vec![],
                private: false,
            }
            .into(),
        },
        Input::Transfer {
            op: OpId(1),
            event: TransferEvent::Piece { piece: 0, bytes: 9, hashed: Hashed::Chained(Midstate::INITIAL), claim: None },
        },
        Input::Transfer { op: OpId(1), event: TransferEvent::Answered { after: core::time::Duration::from_millis(9) } },
        Input::StreamRequest {
            stream: StreamId(1),
            request: Request::Enrol(Enrol {
                digest,
                size: Some(9),
                pieces: vec![1],
                can_fetch_origin: true,
                source: Source { registry: "r".into(), repository: "n".into(), kind: Kind::Blob },
                zone: None,
                addresses: Vec::new(),
                private: false,
                has_credential: true,
                fetching: vec![(0, 300)],
            }),
        },
        Input::Reply {
            call: CallId(1),
            response: Response::Enrol(EnrolReply::Enrolled {
                size: Some(9),
                neighbours: Vec::new(),
                spine: Vec::new(),
                private: true,
                quiet: Some(Duration::from_millis(1500)),
            }),
        },
        Input::Verified { digest, result: Ok(false) },
        Input::Tick,
    ];
    let mut lines = vec![format!("format {FORMAT}, magic {:?}", core::str::from_utf8(MAGIC).unwrap())];
    lines.push(format!("config {}", hex(&postcard::to_allocvec(&config).unwrap())));
    for (number, input) in inputs.into_iter().enumerate() {
        let now = Time::from_micros(number as u64 * 1000);
        scribe.input(now, &input).unwrap();
        agent.handle(now, input);
        while let Some(output) = agent.poll_output() {
            scribe.output(&output);
        }
        scribe.settle(&agent);
        let batch = scribe.take().unwrap();
        // Without the check: what the agent does may change without the format.
        lines.push(hex(&batch.records[..batch.records.len() - 2]));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

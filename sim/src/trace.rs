//! The running hash of a run: time, node and content of every input that an agent was given.
//!
//! Two runs with the same hash handed the same inputs to the same nodes at the same times. FNV-1a over numbers, because it
//! is computed for every input of every run.

use longshore_core::digest::Digest;
use longshore_core::input::{Input, TransferEvent, TransferFailure};
use longshore_core::message::{EnrolReply, Have, Notice, PieceRefusal, Request, Response};
use longshore_core::names::PeerId;
use longshore_core::time::Time;

/// FNV-1a, 64 bits, over words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceHash(u64);

impl Default for TraceHash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl TraceHash {
    /// The hash so far.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }

    /// Takes in a word.
    pub fn add(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        self.0 ^= self.0 >> 29;
    }

    fn text(&mut self, text: &str) {
        for byte in text.bytes() {
            self.add(u64::from(byte));
        }
    }

    fn digest(&mut self, digest: &Digest) {
        let bytes = digest.as_bytes();
        self.add(u64::from_le_bytes(std::array::from_fn(|index| bytes[index])));
    }

    fn peer(&mut self, peer: &PeerId) {
        self.text(peer.as_str());
    }

    fn numbers(&mut self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            self.add(number);
        }
    }

    /// Takes in an input.
    pub fn input(&mut self, at: Time, node: usize, input: &Input) {
        self.add(at.as_micros());
        self.add(node as u64);
        match input {
            Input::Tick => self.add(1),
            Input::Members(members) => self.numbers([2, members.len() as u64]),
            Input::Mirror { request, digest, credential, .. } => {
                self.numbers([3, request.0, credential.map_or(0, |credential| credential.0.wrapping_add(1))]);
                self.digest(digest);
            }
            Input::MirrorClosed { request, sent_bytes } => self.numbers([4, request.0, *sent_bytes]),
            Input::StreamOpened { stream, peer, .. } => {
                self.numbers([5, stream.0]);
                self.peer(peer);
            }
            Input::StreamRequest { stream, request } => {
                self.numbers([6, stream.0]);
                self.request(request);
            }
            Input::PieceRequested { stream, request } => {
                self.numbers([7, stream.0, u64::from(request.piece)]);
                self.digest(&request.digest);
            }
            Input::StreamNotices { stream } => self.numbers([8, stream.0]),
            Input::StreamClosed { stream, sent_bytes, .. } => self.numbers([9, stream.0, *sent_bytes]),
            Input::Notice { peer, notice } => {
                self.add(10);
                self.peer(peer);
                self.notice(notice);
            }
            Input::Reply { call, response } => {
                self.numbers([11, call.0]);
                self.response(response);
            }
            Input::CallFailed { call, error } => self.numbers([12, call.0, error.clone() as u64]),
            Input::Disconnected { peer } => {
                self.add(13);
                self.peer(peer);
            }
            Input::Transfer { op, event } => {
                self.numbers([14, op.0]);
                match event {
                    TransferEvent::Progress { bytes } => self.numbers([1, *bytes]),
                    TransferEvent::Headers { size, .. } => self.numbers([2, *size]),
                    TransferEvent::Piece { piece, bytes, .. } => self.numbers([3, u64::from(*piece), *bytes]),
                    TransferEvent::Done => self.add(4),
                    TransferEvent::Failed(failure) => self.failure(failure),
                    TransferEvent::Answered { after } => self.numbers([6, after.as_micros() as u64]),
                }
            }
            Input::OriginStat { op, result } => {
                self.numbers([15, op.0, result.as_ref().map_or(u64::MAX, |stat| stat.size)]);
            }
            Input::Providers { op, peers } => {
                self.numbers([16, op.0]);
                for found in peers {
                    self.peer(&found.peer);
                }
            }
            Input::Recovered { blobs, partials } => self.numbers([17, blobs.len() as u64, partials.len() as u64]),
            Input::PieceHashed { op, result } => self.numbers([18, op.0, u64::from(result.is_ok())]),
            Input::Committed { digest, result } => {
                self.numbers([19, u64::from(result.is_ok())]);
                self.digest(digest);
            }
            Input::Evicted { digest } | Input::StoreFailed { digest, .. } | Input::Manifest { digest, .. } => {
                self.add(20);
                self.digest(digest);
            }
            other => self.text(&format!("{other:?}")),
        }
    }

    /// Most transfers of a busy hour end with a refusal, so that one is not put into words.
    fn failure(&mut self, failure: &TransferFailure) {
        match failure {
            TransferFailure::Refused(PieceRefusal::Busy(after)) => self.numbers([5, after.as_micros() as u64]),
            TransferFailure::Refused(PieceRefusal::Missing) => self.add(6),
            other => self.text(&format!("{other:?}")),
        }
    }

    fn request(&mut self, request: &Request) {
        match request {
            Request::PullIntent { digest, leads } => {
                self.add(if *leads { 4 } else { 1 });
                self.digest(digest);
            }
            Request::PleasePull(pull) => {
                self.add(2);
                pull.digests.iter().for_each(|digest| self.digest(digest));
            }
            Request::Enrol(enrol) => {
                self.numbers([3, enrol.pieces.iter().map(|byte| u64::from(byte.count_ones())).sum()]);
                self.digest(&enrol.digest);
            }
        }
    }

    fn response(&mut self, response: &Response) {
        match response {
            Response::Enrol(EnrolReply::Enrolled { neighbours, spine, .. }) => {
                self.numbers([1, spine.len() as u64]);
                neighbours.iter().for_each(|neighbour| self.peer(&neighbour.peer));
            }
            other => self.text(&format!("{other:?}")),
        }
    }

    fn notice(&mut self, notice: &Notice) {
        match notice {
            Notice::Have { digest, pieces, spine, .. } => {
                self.digest(digest);
                self.add(spine.len() as u64);
                match pieces {
                    Have::Exactly(bytes) => self.numbers(bytes.iter().map(|byte| u64::from(*byte))),
                    Have::Also(pieces) => self.numbers(pieces.iter().map(|piece| u64::from(*piece))),
                    Have::All => self.add(u64::MAX),
                }
            }
            Notice::Assign { first, count, .. } => self.numbers([2, u64::from(*first), u64::from(*count)]),
            Notice::Starving { piece, .. } => self.numbers([3, u64::from(*piece)]),
            Notice::Unchoke { digest, pieces, spine } => {
                self.digest(digest);
                self.add(spine.len() as u64);
                self.numbers(pieces.iter().map(|piece| u64::from(*piece)));
            }
            other => self.text(&format!("{other:?}")),
        }
    }
}

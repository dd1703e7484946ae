//! Checked at every call and every request for a piece.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_core::digest::Digest;
use longshore_core::failures::{CONVICTION, UNREACHABLE_SUPPRESSION};
use longshore_core::input::{CallError, Input, TransferEvent, TransferFailure};
use longshore_core::message::{Have, Notice, PieceRefusal, Request};
use longshore_core::names::{CallId, OpId, PeerId};
use longshore_core::output::{Explanation, Output};
use longshore_core::time::Time;

use super::Invariant;
use super::limits::LEAST_LATE;
use crate::watch::Scene;

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "asked-politely",
    sentence: "A peer that is busy, gone, dishonest or does not have it is not asked again before its time.",
    source: "design, section 3.2 (nobody polls); gantry reference, sections 10.2 and 10.4 i",
};

/// Calls to one peer about one blob in a second: signs of life, a leader's looks ten times a second, and cascades.
const MAX_CALLS_A_SECOND: u32 = 60;
/// Enrolments in a row that a tracker may leave without an answer.
const MAX_VAIN_ENROLMENTS: u32 = 3;
/// Refusals of one piece by one peer in a row, which has not said meanwhile that it has it: it may have lost what it said it
/// had.
const MAX_VAIN_REQUESTS: u32 = 6;

/// A leader asks the same better-ranked node no sooner than this whether it leads, whatever happens in its swarm.
const LEAST_BETWEEN_LOOKS: Duration = Duration::from_millis(95);

#[derive(Debug)]
struct Called {
    peer: PeerId,
    digest: Digest,
    enrols: bool,
}

/// What one agent knows of its peers.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    calls: BTreeMap<CallId, Called>,
    /// Second, and calls in it: probes, requests to pull, enrolments.
    rate: BTreeMap<(PeerId, Digest), (u64, [u32; 3])>,
    vain_enrolments: BTreeMap<(PeerId, Digest), u32>,
    vain_requests: BTreeMap<(PeerId, Digest, u32), (u32, Time)>,
    busy: BTreeMap<(PeerId, Digest), Time>,
    unreachable: BTreeMap<PeerId, Time>,
    convicted: BTreeMap<(PeerId, Digest), Time>,
    /// Swarms that it leads, and when it last looked whether this one would lead better.
    looks: BTreeMap<Digest, BTreeMap<PeerId, Time>>,
}

impl Memory {
    pub(crate) fn input(&mut self, scene: &Scene<'_>, input: &Input) {
        match input {
            Input::Reply { call, .. } => {
                if let Some(called) = self.calls.remove(call) {
                    self.unreachable.remove(&called.peer);
                    self.vain_enrolments.remove(&(called.peer, called.digest));
                }
            }
            Input::CallFailed { call, error } => {
                if let Some(called) = self.calls.remove(call) {
                    if *error == CallError::Unreachable {
                        self.unreachable.insert(called.peer.clone(), scene.now + UNREACHABLE_SUPPRESSION);
                    } else {
                        self.unreachable.remove(&called.peer);
                    }
                    if called.enrols {
                        *self.vain_enrolments.entry((called.peer, called.digest)).or_default() += 1;
                    }
                }
            }
            Input::StreamOpened { peer, .. } => {
                self.unreachable.remove(peer);
            }
            // Who says that it has it now is believed, whatever it said before.
            Input::Notice { peer, notice } => {
                let (digest, named) = match &**notice {
                    Notice::Unchoke { digest, pieces, .. } => {
                        self.busy.remove(&(peer.clone(), *digest));
                        (digest, Some(pieces))
                    }
                    Notice::Have { digest, pieces: Have::Also(pieces), .. } => (digest, Some(pieces)),
                    Notice::Have { digest, .. } => (digest, None),
                    _ => return,
                };
                self.vain_requests.retain(|(of, blob, piece), _| {
                    let names = named.is_none_or(|pieces| pieces.contains(piece));
                    !(names && of == peer && blob == digest)
                });
            }
            Input::Transfer { event, .. } => {
                let Some(transfer) = scene.over else { return };
                let (Some((peer, piece)), digest) = (&transfer.piece, transfer.digest) else { return };
                match event {
                    TransferEvent::Failed(TransferFailure::Refused(PieceRefusal::Busy(after))) => {
                        self.busy.insert((peer.clone(), digest), scene.now + *after);
                    }
                    TransferEvent::Failed(TransferFailure::Refused(PieceRefusal::Missing)) => {
                        let vain = self.vain_requests.entry((peer.clone(), digest, *piece));
                        let (times, last) = vain.or_insert((0, scene.now));
                        *times = if scene.now - *last > Duration::from_secs(1) { 1 } else { *times + 1 };
                        *last = scene.now;
                    }
                    _ if self.vain_requests.is_empty() => {}
                    _ => {
                        self.vain_requests.remove(&(peer.clone(), digest, *piece));
                    }
                }
            }
            _ => {}
        }
    }

    pub(crate) fn output(&mut self, scene: &mut Scene<'_>, output: &Output) {
        match output {
            Output::Call { call, peer, request, .. } => self.called(scene, *call, peer, request),
            Output::CallCancel { call } => {
                self.calls.remove(call);
            }
            Output::FetchPiece { op, peer, digest, piece, .. } => self.fetched(scene, *op, peer, *digest, *piece),
            Output::Explain(Explanation::Convicted { digest, peer, .. }) => {
                self.convicted.insert((peer.clone(), *digest), scene.now + CONVICTION);
            }
            Output::Explain(Explanation::Leading { digest }) => drop(self.looks.insert(*digest, BTreeMap::new())),
            Output::Explain(Explanation::Following { digest, .. }) => drop(self.looks.remove(digest)),
            Output::Explain(Explanation::TrackerLost { digest, tracker }) => {
                self.vain_enrolments.remove(&(tracker.clone(), *digest));
            }
            Output::Explain(Explanation::Failed { digest, .. } | Explanation::Completed { digest, .. }) => {
                self.busy.retain(|(_, of), _| of != digest);
                self.looks.remove(digest);
                self.vain_enrolments.retain(|(_, of), _| of != digest);
                self.vain_requests.retain(|(_, of, _), _| of != digest);
                self.rate.retain(|(_, of), _| of != digest);
            }
            _ => {}
        }
    }

    /// A pull does not outlast a conviction, so it does not matter for how long it still holds.
    pub(crate) fn has_convicted(&self, peer: &PeerId, digest: &Digest) -> bool {
        self.convicted.contains_key(&(peer.clone(), *digest))
    }

    fn called(&mut self, scene: &mut Scene<'_>, call: CallId, peer: &PeerId, request: &Request) {
        let (digest, kind) = match request {
            Request::PullIntent { digest, .. } => (*digest, 0),
            Request::PleasePull(batch) => match batch.digests.first() {
                Some(digest) => (*digest, 1),
                None => return,
            },
            Request::Enrol(enrol) => (enrol.digest, 2),
        };
        let enrols = kind == 2;
        if kind == 0
            && let Some(looks) = self.looks.get_mut(&digest)
            && let Some(last) = looks.insert(peer.clone(), scene.now)
            && scene.now - last < LEAST_BETWEEN_LOOKS
        {
            scene.violate(
                &RULE,
                format!("{peer} is asked again after {:?} whether it leads {digest}", scene.now - last),
            );
        }
        let key = (peer.clone(), digest);
        let second = scene.world_now.as_micros() / 1_000_000;
        let (of, calls) = self.rate.entry(key.clone()).or_insert((second, [0; 3]));
        if *of != second {
            (*of, *calls) = (second, [0; 3]);
        }
        calls[kind] += 1;
        let all: u32 = calls.iter().sum();
        if all == MAX_CALLS_A_SECOND + 1 {
            let [probes, pulls, enrolments] = *calls;
            let kinds = format!("{probes} probes, {pulls} requests to pull, {enrolments} enrolments");
            scene.violate(&RULE, format!("{peer} is called {all} times in a second about {digest}: {kinds}"));
        }
        let vain = self.vain_enrolments.get(&key).copied().unwrap_or(0);
        if enrols && vain >= MAX_VAIN_ENROLMENTS {
            scene.violate(&RULE, format!("{peer} does not answer and is enrolled with again for {digest}"));
        }
        self.calls.insert(call, Called { peer: peer.clone(), digest, enrols });
    }

    fn fetched(&mut self, scene: &mut Scene<'_>, op: OpId, peer: &PeerId, digest: Digest, piece: u32) {
        let now = scene.now;
        let key = (peer.clone(), digest);
        let early = |until: Option<&Time>| until.is_some_and(|until| *until > now);
        let soon = scene.transfers.iter().find_map(|(other, transfer)| {
            let same = *other != op && transfer.digest == digest && now - transfer.since < LEAST_LATE;
            transfer.piece.as_ref().filter(|(_, of)| same && *of == piece).map(|(peer, _)| peer)
        });
        let vain =
            if self.vain_requests.is_empty() { None } else { self.vain_requests.get(&(peer.clone(), digest, piece)) };
        let vain = vain.map_or(0, |(times, _)| *times);
        let wrong = if early(self.convicted.get(&key)) {
            "was convicted".to_owned()
        } else if early(self.busy.get(&key)) {
            "is busy".to_owned()
        } else if early(self.unreachable.get(peer)) {
            "cannot be reached".to_owned()
        } else if let Some(other) = soon {
            format!("is not the only one: {other} was just asked")
        } else if vain >= MAX_VAIN_REQUESTS {
            format!("has said {vain} times that it does not have it")
        } else {
            return;
        };
        scene.violate(&RULE, format!("{peer} is asked for piece {piece} of {digest} and {wrong}"));
    }
}

//! What is noted of each step for a scenario. Times are those of the agent's clock.

use std::collections::{BTreeMap, BTreeSet};

use longshore_core::digest::Digest;
use longshore_core::input::{Child, Input, OriginFailure, StoreError, TransferEvent, TransferFailure};
use longshore_core::journal::running::Fnv;
use longshore_core::names::{Kind, PeerId};
use longshore_core::output::{Explanation, Output};
use longshore_core::timers::Deadline;

use crate::replay::Step;

/// A tick that is later than this tells that the process stood still, in microseconds: agents that are merely busy are
/// late by milliseconds.
const PAUSE: u128 = 1_000_000;

/// A moment in a life.
pub(super) type Moment = (u32, u64);

/// How the registry answered.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Good,
    Failed(OriginFailure),
    NoRanges,
    /// Not until the agent gave up.
    Silent,
}

/// Bytes that came in or went out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes {
    pub(super) at: Moment,
    pub(super) bytes: u64,
}

/// What was noted.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Manifests and what they refer to.
    pub(super) manifests: BTreeMap<Digest, Vec<Child>>,
    /// When each life was first asked for a digest.
    pub(super) asked: BTreeMap<(Digest, u32), u64>,
    /// Layers that were asked for, and their sizes in bytes (0 if unknown).
    pub(super) blobs: BTreeMap<Digest, u64>,
    /// Lives whose containerd brought a credential.
    pub(super) credentials: BTreeSet<u32>,
    /// From peers.
    pub(super) from_peers: Vec<Bytes>,
    /// From the registry.
    pub(super) from_origin: Vec<Bytes>,
    /// To peers.
    pub(super) to_peers: Vec<Bytes>,
    /// What the registry did: when it was asked (or, in the middle of a body, when it happened), and what.
    pub(super) answers: Vec<(Moment, Answer)>,
    /// How long the first answers of the registry took, in microseconds.
    pub(super) waits: Vec<u64>,
    /// Processes that stood still: since when, and for how long in microseconds.
    pub(super) pauses: Vec<(Moment, u64)>,
    /// Who was caught with wrong bytes.
    pub(super) convicted: BTreeMap<PeerId, Moment>,
    /// Disks that were full.
    pub(super) full: Vec<Moment>,
    /// Membership views: a hash over the names, whenever one came.
    pub(super) views: Vec<(Moment, u64)>,
    /// Everybody's name and zone.
    pub(super) members: BTreeMap<PeerId, (String, Option<String>)>,
    /// Operations that are open: when they were begun, whether they are the registry's, and whether anything came.
    open: BTreeMap<(u32, u64), (u64, bool, bool)>,
}

impl Watch {
    pub(super) fn see(&mut self, life: u32, step: &Step<'_>) {
        let at = (life, step.time.as_micros());
        match step.input {
            Input::Mirror { digest, credential, source, .. } => {
                if source.kind == Kind::Blob {
                    self.blobs.entry(*digest).or_default();
                }
                self.asked.entry((*digest, life)).or_insert(at.1);
                if credential.is_some() {
                    self.credentials.insert(life);
                }
            }
            Input::Manifest { digest, children, .. } if !children.is_empty() => {
                self.manifests.entry(*digest).or_insert_with(|| children.clone());
            }
            Input::Members(members) => {
                let mut names: Vec<&str> = members.members().iter().map(|member| &*member.name).collect();
                names.sort_unstable();
                let mut hash = Fnv::default();
                names.iter().for_each(|name| hash.bytes(name.as_bytes()));
                self.views.push((at, hash.value()));
                for member in members.members() {
                    if let Some(peer) = &member.peer {
                        let zone = member.zone.as_deref().map(str::to_owned);
                        self.members.entry(peer.clone()).or_insert_with(|| (member.name.to_string(), zone));
                    }
                }
            }
            Input::StreamClosed { sent_bytes, .. } if *sent_bytes > 0 => {
                self.to_peers.push(Bytes { at, bytes: *sent_bytes });
            }
            Input::OriginStat { op, result } => {
                let answer = result.as_ref().map_or_else(|failure| Answer::Failed(failure.clone()), |_| Answer::Good);
                self.answered(at, op.0, answer);
                self.open.remove(&(life, op.0));
            }
            Input::Transfer { op, event } => self.transfer(at, op.0, event),
            Input::StoreFailed { error, .. }
            | Input::PieceHashed { result: Err(error), .. }
            | Input::Committed { result: Err(error), .. } => self.disk(at, error),
            _ => {}
        }
        if let Some(Deadline::Transfer(op)) = step.due
            && let Some((begun, true, false)) = self.open.remove(&(life, op.0))
        {
            self.answers.push(((life, begun), Answer::Silent));
        }
        if step.late.as_micros() >= PAUSE {
            let late = step.late.as_micros() as u64;
            self.pauses.push(((life, at.1 - late), late));
        }
        for output in step.outputs {
            match output {
                Output::FetchOrigin { op, .. } | Output::StatOrigin { op, .. } => {
                    self.open.insert((life, op.0), (at.1, true, false));
                }
                Output::FetchPiece { op, .. } => {
                    self.open.insert((life, op.0), (at.1, false, false));
                }
                Output::Stage { digest, size, .. } | Output::MirrorServe { digest, size, .. } => {
                    if let Some(known) = self.blobs.get_mut(digest) {
                        *known = *size;
                    }
                }
                Output::CancelTransfer { op } => {
                    self.open.remove(&(life, op.0));
                }
                Output::Explain(Explanation::Convicted { peer, .. }) => {
                    self.convicted.entry(peer.clone()).or_insert(at);
                }
                _ => {}
            }
        }
    }

    fn transfer(&mut self, at: Moment, op: u64, event: &TransferEvent) {
        let from_origin = self.open.get(&(at.0, op)).is_some_and(|(_, origin, _)| *origin);
        match event {
            TransferEvent::Progress { bytes } | TransferEvent::Piece { bytes, .. } => {
                let bytes = Bytes { at, bytes: *bytes };
                if from_origin { self.from_origin.push(bytes) } else { self.from_peers.push(bytes) }
            }
            TransferEvent::Failed(TransferFailure::Store(error)) => self.disk(at, error),
            _ => {}
        }
        if from_origin {
            match event {
                TransferEvent::Failed(TransferFailure::Origin(failure)) => {
                    self.answered(at, op, Answer::Failed(failure.clone()));
                }
                TransferEvent::Failed(TransferFailure::NoRanges) => self.answered(at, op, Answer::NoRanges),
                TransferEvent::Failed(_) => {}
                _ => self.answered(at, op, Answer::Good),
            }
        }
        if matches!(event, TransferEvent::Done | TransferEvent::Failed(_)) {
            self.open.remove(&(at.0, op));
        }
    }

    fn answered(&mut self, at: Moment, op: u64, answer: Answer) {
        let Some((begun, _, any)) = self.open.get_mut(&(at.0, op)) else { return };
        let first = !std::mem::replace(any, true);
        if first {
            self.waits.push(at.1.saturating_sub(*begun));
        }
        // A request is refused when it is made; what brought something already, or broke, did so now.
        let broke =
            matches!(&answer, Answer::Good) || matches!(&answer, Answer::Failed(failure) if failure.status.is_none());
        let when = if first && !broke { (at.0, *begun) } else { at };
        self.answers.push((when, answer));
    }

    fn disk(&mut self, at: Moment, error: &StoreError) {
        if *error == StoreError::Full {
            self.full.push(at);
        }
    }
}

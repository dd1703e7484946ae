//! The agent: one machine out of many small ones.
//!
//! This file owns the state and hands every input to the room that decides about it:
//!
//! | room | file |
//! |---|---|
//! | containerd's requests | `agent/mirroring.rs` |
//! | what they ask of the origin, and when | `agent/asking.rs` |
//! | peers' streams: admission, coordination, pieces | `agent/serving.rs` |
//! | a flight's beginning: wanted, queued, started | `agent/queueing.rs` |
//! | its course: cascade, lead or follow | `agent/flying.rs` |
//! | its end without the blob | `agent/ending.rs` |
//! | a credential that is missing | `agent/challenging.rs` |
//! | a participant's talk with tracker and neighbours | `agent/participating.rs` |
//! | what peers tell, and spines | `agent/hearing.rs` |
//! | work at the origin, and its failures | `agent/assigning.rs` |
//! | how much of it at a time, and how often | `agent/origin_slots.rs`, `agent/pacing.rs` |
//! | a tracker's work | `agent/tracking.rs` |
//! | which bytes to fetch next, and from whom | `agent/fetching.rs` |
//! | what arrived, and what did not | `agent/arriving.rs` |
//! | whether what is here is the blob | `agent/verifying.rs` |
//! | after it was not: how that is made good | `agent/recovering.rs` |
//! | complete blobs: recover, commit, announce, evict, prefetch | `agent/keeping.rs` |
//! | blobs that containerd asks for again: are they still what they were | `agent/rereading.rs` |
//! | what to show to people | `agent/status.rs` |
//! | what contradicts itself | `agent/audit.rs` |

mod arriving;
mod asking;
mod assigning;
pub mod audit;
mod bodies;
mod challenging;
mod choking;
mod ending;
mod fetching;
mod flying;
mod hearing;
mod keeping;
mod mirroring;
mod origin_slots;
mod pacing;
mod participating;
mod queueing;
mod recovering;
mod rereading;
mod serving;
mod sharing;
pub mod status;
mod tracking;
mod verifying;

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cache::Cache;
use crate::calls::Calls;
use crate::config::Config;
use crate::context::Context;
use crate::digest::Digest;
use crate::failures::Failures;
use crate::flight::Flight;
use crate::input::{Input, PartialBlob};
use crate::members::{Members, Roster};
use crate::metrics::Counters;
use crate::names::{CredentialId, OpId, PeerId, RequestId, StreamId};
use crate::output::Output;
use crate::presence::Presence;
use crate::spine::{Midstate, Wanted};
use crate::swarm::choked::Choked;
use crate::swarm::download::Download;
use crate::swarm::tracker::Tracker;
use crate::swarm::way::{Uploads, Way};
use crate::time::Time;
use crate::timers::Deadline;

/// How often a participant tells its tracker that it lives and what it has.
pub const ENROL_INTERVAL: Duration = Duration::from_secs(2);
/// How often faded memories are dropped (Gantry: 1 min).
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// Sizes of blobs that manifests named, kept for requests to come; a few hundred images' worth.
pub const MAX_KNOWN_SIZES: usize = 16_384;
/// Downloads of blobs that are complete, kept while peers may still be asking for their pieces.
pub const MAX_RECENT: usize = 32;
/// Spines of complete blobs, kept for peers to come: 8 KiB each for a blob of 256 pieces.
pub const MAX_SPINES: usize = 64;

/// What a verified manifest says about a blob.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Named {
    /// Size in bytes.
    size: u64,
    /// The manifest is private, so this is as well.
    private: bool,
}

/// What an operation that a driver runs for us is for.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Op {
    /// A transfer of a flight.
    Fetch(Digest),
    /// A fetch of a whole blob of unknown size, for a flight.
    FetchWhole(Digest),
    /// A flight wants to know the size of its blob.
    Size(Digest),
    /// A flight failed for want of a credential; what is the origin's challenge?
    Challenge(Digest),
    /// Another node says that the origin has nothing for anybody; does it? With the tracker that said so, if it was one.
    Confirm(Digest, Option<PeerId>),
    /// Bodies of a flight stand still; is the origin well?
    Late(Digest),
    /// A HEAD of a blob that is not here.
    Head(RequestId),
    /// May this requester have a private blob?
    Authorize(RequestId),
    /// Hashing of a stored piece for the chain.
    Hash(Digest, Wanted),
    /// A query of the provider index.
    Providers(Digest),
}

/// What one node decides. See the [crate documentation](crate) for the contract.
///
/// The order of the fields is that of memory: a simulator of a thousand agents waits for each line of it that it looks at,
/// and what most inputs look at lies together.
#[derive(Debug, Serialize, Deserialize)]
#[repr(C)]
pub struct Agent {
    config: Config,
    cx: Context,
    members: Members,
    failures: Failures,
    cache: Cache,
    presence: Presence,
    calls: Calls,
    flights: BTreeMap<Digest, Box<Flight>>,
    /// Swarms that are led from here, and those of complete blobs that somebody enrolled for.
    trackers: BTreeMap<Digest, Tracker>,
    requests: BTreeMap<RequestId, mirroring::Request>,
    streams: BTreeMap<StreamId, serving::Stream>,
    /// How much is fetched from the origin at a time.
    origin_slots: origin_slots::OriginSlots,
    pacing: pacing::Pacing,
    /// Who waits for an upload slot.
    choked: Choked,
    ops: BTreeMap<OpId, Op>,
    /// Incomplete blobs on disk that no flight works on.
    partials: BTreeMap<Digest, PartialBlob>,
    /// What verified manifests said about blobs.
    sizes: BTreeMap<Digest, Named>,
    /// Spines of complete blobs; empty ones for blobs that have none.
    spines: BTreeMap<Digest, Vec<Midstate>>,
    /// Downloads of blobs that were committed lately: they vouch for pieces that peers are asking for.
    recent: BTreeMap<Digest, Download>,
    spine_waiters: BTreeMap<Digest, Vec<hearing::SpineWaiter>>,
    /// Registries that limit how often they are asked, while requests wait for them.
    limited: BTreeMap<Arc<str>, asking::Limited>,
    /// Who uses which credential: requests and flights.
    credentials: BTreeMap<CredentialId, u32>,
    /// Credentials that the origin accepted for a private blob, until when.
    authorized: BTreeMap<(CredentialId, Digest), Time>,
    /// The last calls' fates, one bit each: the share of answered ones is the health of the view.
    recent_calls: u32,
    uploads: Uploads,
    /// The way to peers, whatever they were asked for: the next flight begins with it.
    way: Way,
    generations: u64,
    recovered: bool,
    draining: bool,
    drained: bool,
    #[cfg(debug_assertions)]
    #[serde(skip)]
    must_drain: bool,
}

impl Agent {
    /// An agent with nothing on disk and nobody in its view, until inputs say otherwise. `seed` decides every choice that
    /// is left to chance; `now` is the present on the driver's time line.
    #[must_use]
    pub fn new(config: Config, seed: u64, now: Time) -> Self {
        let mut cx = Context::new(seed, now);
        let members = Members::new(&config);
        cx.wake(Deadline::Sweep, SWEEP_INTERVAL);
        let reconcile = cx.jitter(config.reconcile_interval);
        cx.wake(Deadline::Reconcile, reconcile);
        Self {
            config,
            cx,
            members,
            failures: Failures::default(),
            cache: Cache::default(),
            presence: Presence::default(),
            calls: Calls::default(),
            flights: BTreeMap::new(),
            trackers: BTreeMap::new(),
            requests: BTreeMap::new(),
            streams: BTreeMap::new(),
            origin_slots: Default::default(),
            pacing: Default::default(),
            choked: Choked::default(),
            ops: BTreeMap::new(),
            partials: BTreeMap::new(),
            sizes: BTreeMap::new(),
            spines: BTreeMap::new(),
            recent: BTreeMap::new(),
            spine_waiters: BTreeMap::new(),
            limited: BTreeMap::new(),
            credentials: BTreeMap::new(),
            authorized: BTreeMap::new(),
            recent_calls: u32::MAX,
            uploads: Uploads::default(),
            way: Way::default(),
            generations: 0,
            recovered: false,
            draining: false,
            drained: false,
            #[cfg(debug_assertions)]
            must_drain: false,
        }
    }

    /// Something happened. Drain [`poll_output`](Self::poll_output) afterwards; debug builds insist on it.
    pub fn handle(&mut self, now: Time, input: Input) {
        #[cfg(debug_assertions)]
        {
            debug_assert!(!self.must_drain, "the outputs of the last input were not drained");
            self.must_drain = true;
        }
        // A driver's clock that steps back must not make deadlines fire twice.
        self.cx.now = self.cx.now.max(now);
        self.dispatch(input);
        if self.draining {
            self.drained_yet();
        }
    }

    /// The same, with what is to be done put at the end of `outbox` instead of being kept for
    /// [`poll_output`](Self::poll_output): whoever drives a thousand agents has one piece of memory for all of them.
    pub fn handle_into(&mut self, now: Time, input: Input, outbox: &mut VecDeque<Output>) {
        core::mem::swap(&mut self.cx.outbox, outbox);
        self.handle(now, input);
        core::mem::swap(&mut self.cx.outbox, outbox);
        #[cfg(debug_assertions)]
        {
            self.must_drain = !self.cx.outbox.is_empty();
        }
    }

    /// The next thing to do, until there is nothing left.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.cx.outbox.pop_front();
        #[cfg(debug_assertions)]
        {
            self.must_drain &= output.is_some();
        }
        output
    }

    /// When to hand in [`Input::Tick`] at the latest, and why.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<(Time, Deadline)> {
        self.cx.timers.next()
    }

    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.cx.counters
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    fn dispatch(&mut self, input: Input) {
        match input {
            Input::Tick => self.tick(),
            Input::Members(members) => self.members_changed(members),
            Input::Mirror { request, method, source, digest, credential } => {
                self.mirror_requested(request, method, source, digest, credential);
            }
            Input::MirrorClosed { request, sent_bytes } => self.mirror_closed(request, sent_bytes),
            Input::StreamOpened { stream, peer, protocol } => self.stream_opened(stream, peer, protocol),
            Input::StreamRequest { stream, request } => self.stream_request(stream, request),
            Input::PieceRequested { stream, request } => self.piece_requested(stream, request),
            Input::StreamNotices { stream } => self.stream_notices(stream),
            Input::StreamClosed { stream, error, sent_bytes } => self.stream_closed(stream, error, sent_bytes),
            Input::Notice { peer, notice } => self.noticed(&peer, &notice),
            Input::Reply { call, response } => self.call_answered(call, Ok(response)),
            Input::CallFailed { call, error } => self.call_answered(call, Err(error)),
            Input::Disconnected { peer } => self.peer_disconnected(&peer),
            Input::Transfer { op, event } => self.transfer_event(op, event),
            Input::OriginStat { op, result } => self.origin_stat(op, result),
            Input::Providers { op, peers } => self.providers_found(op, peers),
            Input::Recovered { blobs, partials } => self.recover(blobs, partials),
            Input::PieceHashed { op, result } => self.piece_hashed(op, result),
            Input::Committed { digest, result } => self.committed(digest, result),
            Input::Evicted { digest } => self.evicted(digest),
            Input::StoreFailed { digest, error } => self.store_failed(digest, &error),
            Input::Spine { digest, states } => self.spine_read(digest, states),
            Input::Manifest { digest, media_type, children } => self.manifest_read(digest, media_type, children),
            Input::Drain => self.drain(),
            Input::Verified { digest, result } => self.verified(digest, result),
        }
    }

    fn tick(&mut self) {
        while let Some(deadline) = self.cx.timers.pop(self.cx.now) {
            match deadline {
                Deadline::Handshake(stream) => self.handshake_late(stream),
                Deadline::Call(call) => self.call_late(call),
                Deadline::Transfer(op) => self.op_late(op),
                Deadline::Headers(request) => self.headers_due(request),
                Deadline::Body(request) => self.body_late(request),
                Deadline::NoProgress(digest) => self.no_progress(digest),
                Deadline::Probe(digest) => self.probe_grace_over(digest),
                Deadline::Enrol(digest) => self.enrol(digest),
                Deadline::Track(digest) => self.track(digest),
                Deadline::Fetch(digest) => self.fill(digest),
                Deadline::Tell(digest) => self.tell(digest),
                Deadline::Unchoke => self.unchoke(),
                Deadline::Announce => self.presence.flush(&mut self.cx),
                Deadline::Reconcile => self.reconcile(),
                Deadline::Sweep => self.sweep(),
            }
        }
    }

    fn sweep(&mut self) {
        let now = self.cx.now;
        self.failures.sweep(now);
        self.authorized.retain(|_, until| *until > now || mutant!("authorization-never-swept"));
        if !mutant!("sweep-happens-once") {
            self.cx.wake(Deadline::Sweep, SWEEP_INTERVAL);
        }
    }

    fn members_changed(&mut self, members: Arc<Roster>) {
        self.members.replace(members);
        for (peer, member) in self.members.reachable() {
            self.cx.emit(Output::Learn { peer: peer.clone(), addresses: member.addresses.clone() });
        }
    }

    fn start_op(&mut self, op: Op, patience: Duration) -> OpId {
        let id = self.cx.next_op();
        if !mutant!("transfer-without-deadline") {
            self.cx.wake(Deadline::Transfer(id), patience);
        }
        self.ops.insert(id, op);
        id
    }

    fn finish_op(&mut self, id: OpId) -> Option<Op> {
        self.cx.timers.clear(Deadline::Transfer(id));
        self.origin_slots.ended(id);
        if mutant!("finished-op-kept") {
            return self.ops.get(&id).cloned();
        }
        self.ops.remove(&id)
    }

    fn use_credential(&mut self, credential: Option<CredentialId>) {
        if let Some(credential) = credential {
            *self.credentials.entry(credential).or_default() += 1;
        }
    }

    fn release_credential(&mut self, credential: Option<CredentialId>) {
        let Some(credential) = credential else { return };
        let Some(uses) = self.credentials.get_mut(&credential) else { return };
        *uses -= 1;
        if *uses == 0 {
            self.credentials.remove(&credential);
            self.cx.emit(Output::ForgetCredential { credential });
        }
    }

    fn drain(&mut self) {
        self.draining = true;
        self.presence.withdraw_all(&mut self.cx);
    }

    fn drained_yet(&mut self) {
        let serving = self.streams.values().any(serving::Stream::is_piece);
        if !self.drained && self.requests.is_empty() && !serving {
            self.drained = true;
            self.cx.emit(Output::Drained);
        }
    }
}

#[cfg(test)]
mod tests;

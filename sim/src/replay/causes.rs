//! What an input is about, and which earlier input brought it about.
//!
//! Numbers connect them: an answer names the call, a transfer names the operation, and these were numbered by an output,
//! which followed from an input. Where there is no number, the last input about the same digest stands in.

use std::collections::BTreeMap;

use longshore_core::digest::Digest;
use longshore_core::input::{Input, TransferEvent};
use longshore_core::message::{Notice, Request};
use longshore_core::names::PeerId;
use longshore_core::output::{Explanation, Output};
use longshore_core::timers::Deadline;

use super::Step;

/// What an input or an output is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// Digests, most specific first.
    pub digests: Vec<Digest>,
    /// Peers.
    pub peers: Vec<PeerId>,
}

impl Subject {
    fn add(&mut self, other: &Self) {
        self.digests.extend(other.digests.iter().filter(|it| !self.digests.contains(it)).copied().collect::<Vec<_>>());
        self.peers.extend(other.peers.iter().filter(|it| !self.peers.contains(it)).cloned().collect::<Vec<_>>());
    }

    fn digest(digest: &Digest) -> Self {
        Self { digests: vec![*digest], peers: Vec::new() }
    }

    fn peer(peer: &PeerId) -> Self {
        Self { digests: Vec::new(), peers: vec![peer.clone()] }
    }

    fn both(digest: &Digest, peer: &PeerId) -> Self {
        Self { digests: vec![*digest], peers: vec![peer.clone()] }
    }

    fn all(digests: &[Digest]) -> Self {
        Self { digests: digests.to_vec(), peers: Vec::new() }
    }
}

/// The number that connects an input with an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Thread {
    Request(u64),
    Stream(u64),
    Call(u64),
    Op(u64),
    Commit(Digest),
    Evict(Digest),
    ReadManifest(Digest),
    ReadSpine(Digest),
    Verify(Digest),
    About(Digest),
}

/// Where an input comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The earlier input.
    pub number: u64,
    /// How the two are connected.
    pub why: String,
}

/// Follows an agent step by step, and tells what each step is about and what caused it.
#[derive(Clone, Debug, Default)]
pub struct Threads {
    /// The last input of each thread, and what it is about.
    threads: BTreeMap<Thread, (u64, Subject)>,
}

impl Threads {
    /// Takes in the next step.
    pub fn follow(&mut self, step: &Step<'_>) -> (Subject, Option<Cause>) {
        let number = step.number;
        let mut subject = of_input(step.input);
        let (thread, why) = match (&step.due, connection(step.input)) {
            (Some(deadline), _) => of_deadline(deadline),
            (None, connection) => connection,
        };
        let mut cause = None;
        if let Some(thread) = thread {
            if let Some((number, about)) = self.threads.get(&thread) {
                cause = Some(Cause { number: *number, why: why.to_owned() });
                subject.add(&about.clone());
            } else if let Thread::About(digest) = thread {
                subject.add(&Subject::digest(&digest));
            }
        }
        // Nothing numbers what the store reports by itself, but the digest has a history here. What peers and containerd
        // say is a beginning.
        if cause.is_none()
            && matches!(step.input, Input::StoreFailed { .. })
            && let Some(digest) = subject.digests.first()
            && let Some((number, _)) = self.threads.get(&Thread::About(*digest))
        {
            let why = format!("the last input about {}", digest.short());
            cause = Some(Cause { number: *number, why });
        }
        for (thread, about) in begun(step.input) {
            self.threads.insert(thread, (number, about));
        }
        for output in step.outputs {
            let mut about = of_output(output);
            subject.add(&about);
            if let Some(thread) = started(output) {
                if about.digests.is_empty() {
                    about.digests = subject.digests.clone();
                }
                self.threads.insert(thread, (number, about));
            }
        }
        if let Some(thread) = thread
            && matches!(thread, Thread::Stream(_))
        {
            // A stream says what it wants only in its second input: the third is about that, too.
            self.threads.insert(thread, (number, subject.clone()));
        }
        for digest in &subject.digests {
            self.threads.insert(Thread::About(*digest), (number, Subject::digest(digest)));
        }
        if let Some(thread) = thread
            && ends(step.input)
        {
            self.threads.remove(&thread);
        }
        (subject, cause)
    }
}

/// The thread that an input continues.
pub(crate) fn connection(input: &Input) -> (Option<Thread>, &'static str) {
    match input {
        Input::MirrorClosed { request, .. } => (Some(Thread::Request(request.0)), "ends the request"),
        Input::StreamRequest { stream, .. }
        | Input::PieceRequested { stream, .. }
        | Input::StreamNotices { stream }
        | Input::StreamClosed { stream, .. } => (Some(Thread::Stream(stream.0)), "continues the stream"),
        Input::Reply { call, .. } => (Some(Thread::Call(call.0)), "answers the call made at"),
        Input::CallFailed { call, .. } => (Some(Thread::Call(call.0)), "fails the call made at"),
        Input::Transfer { op, .. } => (Some(Thread::Op(op.0)), "belongs to the transfer started at"),
        Input::OriginStat { op, .. } => (Some(Thread::Op(op.0)), "answers the question asked at"),
        Input::Providers { op, .. } => (Some(Thread::Op(op.0)), "answers the query made at"),
        Input::PieceHashed { op, .. } => (Some(Thread::Op(op.0)), "ends the hashing ordered at"),
        Input::Committed { digest, .. } => (Some(Thread::Commit(*digest)), "ends the commit ordered at"),
        Input::Evicted { digest } => (Some(Thread::Evict(*digest)), "ends the eviction ordered at"),
        Input::Spine { digest, .. } => (Some(Thread::ReadSpine(*digest)), "ends the reading ordered at"),
        Input::Manifest { digest, .. } => (Some(Thread::ReadManifest(*digest)), "ends the reading ordered at"),
        Input::Verified { digest, .. } => (Some(Thread::Verify(*digest)), "ends the hashing ordered at"),
        Input::Tick
        | Input::Members(_)
        | Input::Mirror { .. }
        | Input::StreamOpened { .. }
        | Input::Notice { .. }
        | Input::Disconnected { .. }
        | Input::Recovered { .. }
        | Input::StoreFailed { .. }
        | Input::Drain => (None, ""),
    }
}

/// Whether nothing more comes with the number of this input.
pub(crate) fn ends(input: &Input) -> bool {
    match input {
        Input::Transfer { event, .. } => matches!(event, TransferEvent::Done | TransferEvent::Failed(_)),
        Input::MirrorClosed { .. }
        | Input::StreamClosed { .. }
        | Input::Reply { .. }
        | Input::CallFailed { .. }
        | Input::OriginStat { .. }
        | Input::Providers { .. }
        | Input::PieceHashed { .. } => true,
        _ => false,
    }
}

pub(crate) fn of_deadline(deadline: &Deadline) -> (Option<Thread>, &'static str) {
    match deadline {
        Deadline::Handshake(stream) => (Some(Thread::Stream(stream.0)), "waited for the stream opened at"),
        Deadline::Call(call) => (Some(Thread::Call(call.0)), "waited for the call made at"),
        Deadline::Transfer(op) => (Some(Thread::Op(op.0)), "waited for what was started at"),
        Deadline::Headers(request) | Deadline::Body(request) => {
            (Some(Thread::Request(request.0)), "waited on behalf of the request at")
        }
        Deadline::NoProgress(digest)
        | Deadline::Probe(digest)
        | Deadline::Enrol(digest)
        | Deadline::Track(digest)
        | Deadline::Fetch(digest)
        | Deadline::Tell(digest) => (Some(Thread::About(*digest)), "was due; the last input about this digest is"),
        Deadline::Unchoke | Deadline::Announce | Deadline::Reconcile | Deadline::Sweep => (None, ""),
    }
}

/// The threads that begin with an input.
pub(crate) fn begun(input: &Input) -> Vec<(Thread, Subject)> {
    match input {
        Input::Mirror { request, digest, .. } => vec![(Thread::Request(request.0), Subject::digest(digest))],
        Input::StreamOpened { stream, peer, .. } => vec![(Thread::Stream(stream.0), Subject::peer(peer))],
        _ => Vec::new(),
    }
}

/// The thread that begins with an output.
pub(crate) fn started(output: &Output) -> Option<Thread> {
    match output {
        Output::Call { call, .. } => Some(Thread::Call(call.0)),
        Output::FetchPiece { op, .. }
        | Output::FetchOrigin { op, .. }
        | Output::StatOrigin { op, .. }
        | Output::FindProviders { op, .. }
        | Output::HashPiece { op, .. } => Some(Thread::Op(op.0)),
        Output::Commit { digest, .. } => Some(Thread::Commit(*digest)),
        Output::Evict { digest } => Some(Thread::Evict(*digest)),
        Output::ReadSpine { digest } => Some(Thread::ReadSpine(*digest)),
        Output::ReadManifest { digest } => Some(Thread::ReadManifest(*digest)),
        Output::Verify { digest } => Some(Thread::Verify(*digest)),
        _ => None,
    }
}

fn of_request(request: &Request) -> Subject {
    match request {
        Request::PullIntent { digest, .. } => Subject::digest(digest),
        Request::PleasePull(pull) => Subject::all(&pull.digests),
        Request::Enrol(enrol) => Subject::digest(&enrol.digest),
    }
}

fn of_notice(peer: &PeerId, notice: &Notice) -> Subject {
    match notice {
        Notice::Have { digest, .. }
        | Notice::Assign { digest, .. }
        | Notice::Unassigned { digest, .. }
        | Notice::Starving { digest, .. }
        | Notice::Unchoke { digest, .. }
        | Notice::Leave { digest } => Subject::both(digest, peer),
    }
}

pub(crate) fn of_input(input: &Input) -> Subject {
    match input {
        Input::Mirror { digest, .. }
        | Input::Committed { digest, .. }
        | Input::Evicted { digest }
        | Input::StoreFailed { digest, .. }
        | Input::Spine { digest, .. }
        | Input::Verified { digest, .. }
        | Input::Manifest { digest, .. } => Subject::digest(digest),
        Input::StreamOpened { peer, .. } | Input::Disconnected { peer } => Subject::peer(peer),
        Input::StreamRequest { request, .. } => of_request(request),
        Input::PieceRequested { request, .. } => Subject::digest(&request.digest),
        Input::Notice { peer, notice } => of_notice(peer, notice),
        Input::Providers { peers, .. } => {
            Subject { digests: Vec::new(), peers: peers.iter().map(|found| found.peer.clone()).collect() }
        }
        Input::Recovered { .. }
        | Input::Tick
        | Input::Members(_)
        | Input::MirrorClosed { .. }
        | Input::StreamNotices { .. }
        | Input::StreamClosed { .. }
        | Input::Reply { .. }
        | Input::CallFailed { .. }
        | Input::Transfer { .. }
        | Input::OriginStat { .. }
        | Input::PieceHashed { .. }
        | Input::Drain => Subject::default(),
    }
}

pub(crate) fn of_output(output: &Output) -> Subject {
    match output {
        Output::MirrorServe { digest, .. }
        | Output::Release { digest, .. }
        | Output::PieceServe { digest, .. }
        | Output::FetchOrigin { digest, .. }
        | Output::StatOrigin { digest, .. }
        | Output::FindProviders { digest, .. }
        | Output::Stage { digest, .. }
        | Output::Record { digest, .. }
        | Output::HashPiece { digest, .. }
        | Output::Commit { digest, .. }
        | Output::KeepSpine { digest, .. }
        | Output::ReadSpine { digest }
        | Output::Discard { digest }
        | Output::Evict { digest }
        | Output::Touch { digest }
        | Output::Verify { digest }
        | Output::ReadManifest { digest } => Subject::digest(digest),
        Output::FetchPiece { digest, peer, .. } => Subject::both(digest, peer),
        Output::Call { peer, request, .. } => {
            let mut subject = of_request(request);
            subject.peers.push(peer.clone());
            subject
        }
        Output::Notify { peer, notice } => of_notice(peer, notice),
        Output::Announce { digests } | Output::Withdraw { digests } => Subject::all(digests),
        // Every member is learnt at once: that is not about any of them.
        Output::Learn { .. }
        | Output::MirrorRefuse { .. }
        | Output::MirrorAbort { .. }
        | Output::StreamAdmit { .. }
        | Output::StreamReset { .. }
        | Output::StreamReply { .. }
        | Output::PieceRefuse { .. }
        | Output::CallCancel { .. }
        | Output::CancelTransfer { .. }
        | Output::ForgetCredential { .. }
        | Output::Drained => Subject::default(),
        Output::Explain(explanation) => match explanation {
            Explanation::Resolved { digest, .. }
            | Explanation::Leading { digest }
            | Explanation::Completed { digest, .. }
            | Explanation::Mismatched { digest }
            | Explanation::Rotten { digest }
            | Explanation::DiskSpoils { digest }
            | Explanation::Failed { digest, .. } => Subject::digest(digest),
            Explanation::Following { digest, tracker } | Explanation::TrackerLost { digest, tracker } => {
                Subject::both(digest, tracker)
            }
            Explanation::Convicted { digest, peer, .. } | Explanation::RankMismatch { digest, peer, .. } => {
                Subject::both(digest, peer)
            }
            Explanation::UnauthorizedPeer { peer, .. } => Subject::peer(peer),
            Explanation::RegistryLimits { .. } => Subject::default(),
        },
    }
}

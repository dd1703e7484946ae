//! What happened in words: one line for each input, in columns.

use core::time::Duration;

use longshore_core::digest::Digest;
use longshore_core::input::{Hashed, Input, TransferEvent, TransferFailure};
use longshore_core::message::{Have, Notice, PieceRefusal, Request, Response};
use longshore_core::names::PeerId;
use longshore_core::output::{Explanation, Output, Refusal, Span};
use longshore_core::timers::Deadline;

use super::Step;

/// The last characters of a peer ID: what tells peers apart at a glance (the first ones are the same for all).
const PEER_TAIL: usize = 6;

/// The kind of an input, as in [`Input`].
#[must_use]
pub const fn kind(input: &Input) -> &'static str {
    match input {
        Input::Tick => "Tick",
        Input::Members(_) => "Members",
        Input::Mirror { .. } => "Mirror",
        Input::MirrorClosed { .. } => "MirrorClosed",
        Input::StreamOpened { .. } => "StreamOpened",
        Input::StreamRequest { .. } => "StreamRequest",
        Input::PieceRequested { .. } => "PieceRequested",
        Input::StreamNotices { .. } => "StreamNotices",
        Input::StreamClosed { .. } => "StreamClosed",
        Input::Notice { .. } => "Notice",
        Input::Reply { .. } => "Reply",
        Input::CallFailed { .. } => "CallFailed",
        Input::Disconnected { .. } => "Disconnected",
        Input::Transfer { .. } => "Transfer",
        Input::OriginStat { .. } => "OriginStat",
        Input::Providers { .. } => "Providers",
        Input::Recovered { .. } => "Recovered",
        Input::PieceHashed { .. } => "PieceHashed",
        Input::Committed { .. } => "Committed",
        Input::Evicted { .. } => "Evicted",
        Input::StoreFailed { .. } => "StoreFailed",
        Input::Spine { .. } => "Spine",
        Input::Manifest { .. } => "Manifest",
        Input::Drain => "Drain",
        Input::Verified { .. } => "Verified",
    }
}

/// The columns' headings.
#[must_use]
pub fn heading() -> String {
    format!("{:>8} {:>13}  {:<56}  what the agent did", "input", "seconds", "what happened")
}

/// A step as a line, with the digest that it is about, if it is about one.
#[must_use]
pub fn line(step: &Step<'_>, about: Option<&Digest>) -> String {
    let (happened, did) = words(step, about);
    let seconds = step.time.as_micros() as f64 / 1e6;
    format!("{:>8} {seconds:>13.6}  {happened:<56}  {did}", step.number).trim_end().to_owned()
}

/// What happened in a step, and what the agent did, with the digest that it is about, if it is about one.
#[must_use]
pub fn words(step: &Step<'_>, about: Option<&Digest>) -> (String, String) {
    let mut happened = match step.due {
        Some(deadline) => format!("Tick {}", self::due(&deadline)),
        None => input(step.input),
    };
    if let Some(about) = about
        && !happened.contains(&about.short())
    {
        happened.push_str(&format!(" [{}]", about.short()));
    }
    let did: Vec<String> = step.outputs.iter().map(output).collect();
    (happened, did.join("; "))
}

fn peer(peer: &PeerId) -> &str {
    let text = peer.as_str();
    let tail = text.char_indices().rev().nth(PEER_TAIL - 1).map_or(0, |(at, _)| at);
    &text[tail..]
}

fn seconds(duration: &Duration) -> String {
    format!("{:.3}s", duration.as_secs_f64())
}

/// A deadline in words.
#[must_use]
pub fn due(deadline: &Deadline) -> String {
    match deadline {
        Deadline::Handshake(stream) => format!("handshake of stream {}", stream.0),
        Deadline::Call(call) => format!("time-out of call {}", call.0),
        Deadline::Transfer(op) => format!("time-out of op {}", op.0),
        Deadline::Headers(request) => format!("headers of request {}", request.0),
        Deadline::Body(request) => format!("body of request {}", request.0),
        Deadline::NoProgress(digest) => format!("no progress {}", digest.short()),
        Deadline::Probe(digest) => format!("probe {}", digest.short()),
        Deadline::Enrol(digest) => format!("enrol {}", digest.short()),
        Deadline::Track(digest) => format!("track {}", digest.short()),
        Deadline::Fetch(digest) => format!("fetch {}", digest.short()),
        Deadline::Tell(digest) => format!("tell {}", digest.short()),
        Deadline::Unchoke => "unchoke".to_owned(),
        Deadline::Announce => "announce".to_owned(),
        Deadline::Reconcile => "reconcile".to_owned(),
        Deadline::Sweep => "sweep".to_owned(),
    }
}

/// An input in words.
#[must_use]
pub fn input(input: &Input) -> String {
    let what = match input {
        Input::Tick | Input::Drain => String::new(),
        Input::Members(members) => format!("{}", members.len()),
        Input::Mirror { request, method, source, digest, .. } => {
            format!("{} {method:?} {} {}/{}", request.0, digest.short(), source.registry, source.repository)
        }
        Input::MirrorClosed { request, sent_bytes } => format!("{} {sent_bytes} B", request.0),
        Input::StreamOpened { stream, peer: from, protocol } => {
            format!("{} {protocol:?} from {}", stream.0, peer(from))
        }
        Input::StreamRequest { stream, request } => format!("{} {}", stream.0, self::request(request)),
        Input::PieceRequested { stream, request } => {
            format!("{} {} piece {}", stream.0, request.digest.short(), request.piece)
        }
        Input::StreamNotices { stream } => format!("{}", stream.0),
        Input::StreamClosed { stream, error, sent_bytes } => match error {
            None => format!("{} {sent_bytes} B", stream.0),
            Some(error) => format!("{} {error:?}", stream.0),
        },
        Input::Notice { peer: from, notice } => format!("{} {}", peer(from), self::notice(notice)),
        Input::Reply { call, response } => format!("{} {}", call.0, self::response(response)),
        Input::CallFailed { call, error } => format!("{} {error:?}", call.0),
        Input::Disconnected { peer: from } => peer(from).to_owned(),
        Input::Transfer { op, event } => format!("{} {}", op.0, transfer(event)),
        Input::OriginStat { op, result } => match result {
            Ok(stat) => format!("{} {} B", op.0, stat.size),
            Err(failure) => format!("{} {}", op.0, failure.class.name()),
        },
        Input::Providers { op, peers } => format!("{} {} peers", op.0, peers.len()),
        Input::Recovered { blobs, partials } => format!("{} blobs, {} incomplete", blobs.len(), partials.len()),
        Input::PieceHashed { op, result } => format!("{} {}", op.0, if result.is_ok() { "good" } else { "failed" }),
        Input::Committed { digest, result } => {
            format!("{} {}", digest.short(), if result.is_ok() { "durable" } else { "failed" })
        }
        Input::Evicted { digest } | Input::StoreFailed { digest, .. } => digest.short(),
        Input::Verified { digest, result } => match result {
            Ok(true) => format!("{} good", digest.short()),
            Ok(false) => format!("{} has another digest", digest.short()),
            Err(error) => format!("{} cannot be read: {error:?}", digest.short()),
        },
        Input::Spine { digest, states } => format!("{} {} midstates", digest.short(), states.len()),
        Input::Manifest { digest, children, .. } => format!("{} {} children", digest.short(), children.len()),
    };
    format!("{} {what}", kind(input)).trim_end().to_owned()
}

fn transfer(event: &TransferEvent) -> String {
    match event {
        TransferEvent::Progress { bytes } => format!("+{bytes} B"),
        TransferEvent::Answered { after } => format!("answered after {} ms", after.as_millis()),
        TransferEvent::Headers { size, .. } => format!("headers, {size} B"),
        TransferEvent::Piece { piece, hashed, .. } => {
            format!("piece {piece} {}", if matches!(hashed, Hashed::Chained(_)) { "chained" } else { "alone" })
        }
        TransferEvent::Done => "done".to_owned(),
        TransferEvent::Failed(failure) => match failure {
            TransferFailure::Refused(refusal) => format!("failed: {}", self::refusal(refusal)),
            TransferFailure::Origin(failure) => format!("failed: origin, {}", failure.class.name()),
            TransferFailure::Store(error) => format!("failed: {error:?}"),
            other => format!("failed: {other:?}"),
        },
    }
}

fn refusal(refusal: &PieceRefusal) -> String {
    match refusal {
        PieceRefusal::Busy(wait) => format!("busy for {}", seconds(wait)),
        PieceRefusal::Missing => "missing".to_owned(),
    }
}

fn request(request: &Request) -> String {
    match request {
        Request::PullIntent { digest, leads } => {
            format!("pull intent {}{}", digest.short(), if *leads { ", leads" } else { "" })
        }
        Request::PleasePull(pull) => {
            let digests: Vec<_> = pull.digests.iter().take(3).map(Digest::short).collect();
            format!("please pull {}{}", digests.join(" "), if pull.digests.len() > 3 { " ..." } else { "" })
        }
        Request::Enrol(enrol) => format!("enrol {}", enrol.digest.short()),
    }
}

fn response(response: &Response) -> String {
    match response {
        Response::PullIntent(intent) => {
            let mut parts = Vec::new();
            if intent.has_cached {
                parts.push("has it".to_owned());
            }
            parts.extend(intent.in_flight_for.as_ref().map(|age| format!("pulling for {}", seconds(age))));
            parts.extend(intent.recently_failed.map(|failure| format!("failed: {}", failure.class.name())));
            parts.extend(intent.rank.map(|rank| format!("rank {rank}")));
            parts.extend(intent.follows.as_ref().map(|leader| format!("follows {}", peer(&leader.peer))));
            parts.join(", ")
        }
        Response::PleasePull(results) => {
            let outcomes: Vec<_> = results.iter().map(|result| format!("{:?}", result.outcome)).collect();
            outcomes.join(", ")
        }
        Response::Enrol(reply) => match reply {
            longshore_core::message::EnrolReply::Enrolled { neighbours, spine, .. } => {
                format!("enrolled: {} neighbours, {} midstates", neighbours.len(), spine.len())
            }
            longshore_core::message::EnrolReply::Elsewhere { tracker } => format!("go to {}", peer(&tracker.peer)),
            longshore_core::message::EnrolReply::NotTracking => "not tracking".to_owned(),
            longshore_core::message::EnrolReply::Failed(failure) => format!("failed: {}", failure.class.name()),
        },
    }
}

fn notice(notice: &Notice) -> String {
    match notice {
        Notice::Have { digest, pieces, .. } => match pieces {
            Have::Exactly(_) => format!("have {} (a set)", digest.short()),
            Have::Also(pieces) => format!("have {} +{}", digest.short(), pieces.len()),
            Have::All => format!("have {} all", digest.short()),
        },
        Notice::Assign { digest, first, count, .. } => format!("assign {} {first}+{count}", digest.short()),
        Notice::Unassigned { digest, first, count, class, .. } => {
            format!("unassigned {} {first}+{count} {}", digest.short(), class.name())
        }
        Notice::Starving { digest, piece } => format!("starving {} {piece}", digest.short()),
        Notice::Unchoke { digest, pieces, .. } => format!("unchoke {} +{}", digest.short(), pieces.len()),
        Notice::Leave { digest } => format!("leave {}", digest.short()),
    }
}

/// An output in words.
#[must_use]
pub fn output(output: &Output) -> String {
    match output {
        Output::MirrorServe { request, size, .. } => format!("serve request {} ({size} B)", request.0),
        Output::MirrorRefuse { request, refusal } => match refusal {
            Refusal::Unavailable { reason } => format!("refuse request {} (503: {reason})", request.0),
            refusal => format!("refuse request {} ({})", request.0, refusal.status()),
        },
        Output::MirrorAbort { request } => format!("cut request {}", request.0),
        Output::Release { digest, bytes } => format!("release {} to {bytes}", digest.short()),
        Output::StreamAdmit { stream, .. } => format!("admit stream {}", stream.0),
        Output::StreamReset { stream } => format!("reset stream {}", stream.0),
        Output::StreamReply { stream, response } => format!("reply to {}: {}", stream.0, self::response(response)),
        Output::PieceServe { stream, len, .. } => format!("send piece to {} ({len} B)", stream.0),
        Output::PieceRefuse { stream, refusal } => format!("refuse piece to {}: {}", stream.0, self::refusal(refusal)),
        Output::Call { call, peer: whom, request, .. } => {
            format!("call {} to {}: {}", call.0, peer(whom), self::request(request))
        }
        Output::CallCancel { call } => format!("cancel call {}", call.0),
        Output::Notify { peer: whom, notice } => format!("tell {}: {}", peer(whom), self::notice(notice)),
        Output::Learn { peer: whom, addresses } => format!("learn {} ({} addresses)", peer(whom), addresses.len()),
        Output::FetchPiece { op, peer: whom, piece, .. } => format!("op {}: piece {piece} from {}", op.0, peer(whom)),
        Output::FetchOrigin { op, span, digest, .. } => match span {
            Span::Unknown { .. } => format!("op {}: {} from the origin", op.0, digest.short()),
            Span::All { size } => format!("op {}: {} from the origin ({size} B)", op.0, digest.short()),
            Span::Pieces { first, count, .. } => format!("op {}: pieces {first}+{count} from the origin", op.0),
        },
        Output::CancelTransfer { op } => format!("cancel op {}", op.0),
        Output::StatOrigin { op, digest, .. } => format!("op {}: ask the origin about {}", op.0, digest.short()),
        Output::ForgetCredential { credential } => format!("forget credential {}", credential.0),
        Output::FindProviders { op, digest } => format!("op {}: find providers of {}", op.0, digest.short()),
        Output::Announce { digests } => format!("announce {}", digests.len()),
        Output::Withdraw { digests } => format!("withdraw {}", digests.len()),
        Output::Stage { digest, size, .. } => format!("stage {} ({size} B)", digest.short()),
        Output::Record { piece, .. } => format!("record piece {}", piece.piece),
        Output::HashPiece { op, piece, .. } => format!("op {}: hash piece {piece}", op.0),
        Output::Commit { digest, .. } => format!("commit {}", digest.short()),
        Output::KeepSpine { digest, states } => format!("keep spine {} ({} midstates)", digest.short(), states.len()),
        Output::ReadSpine { digest } => format!("read spine {}", digest.short()),
        Output::Discard { digest } => format!("discard {}", digest.short()),
        Output::Evict { digest } => format!("evict {}", digest.short()),
        Output::Touch { digest } => format!("touch {}", digest.short()),
        Output::ReadManifest { digest } => format!("read manifest {}", digest.short()),
        Output::Verify { digest } => format!("hash {} again", digest.short()),
        Output::Drained => "drained".to_owned(),
        Output::Explain(explanation) => format!("*{}*", explain(explanation)),
    }
}

fn explain(explanation: &Explanation) -> String {
    match explanation {
        Explanation::Resolved { digest, rule, outcome } => format!("{} resolved by {rule}: {outcome}", digest.short()),
        Explanation::Leading { digest } => format!("leading {}", digest.short()),
        Explanation::Following { digest, tracker } => format!("following {} for {}", peer(tracker), digest.short()),
        Explanation::TrackerLost { digest, tracker } => format!("lost tracker {} of {}", peer(tracker), digest.short()),
        Explanation::Convicted { peer: whom, crime, .. } => format!("convicted {}: {crime}", peer(whom)),
        Explanation::Completed { digest, origin_bytes, peer_bytes } => {
            format!("completed {}: {origin_bytes} B from the origin, {peer_bytes} B from peers", digest.short())
        }
        Explanation::Failed { digest, class, detail } => {
            format!("failed {}: {} ({detail})", digest.short(), class.name())
        }
        Explanation::Rotten { digest } => format!("{} is not what it was", digest.short()),
        Explanation::DiskSpoils { digest } => format!("the disk spoils what it is given: {}", digest.short()),
        Explanation::Mismatched { digest } => format!("what is here is not {}", digest.short()),
        Explanation::RegistryLimits { registry, gap } => format!("{registry} limits requests: one every {gap:?}"),
        Explanation::RankMismatch { peer: whom, ours, theirs, .. } => match theirs {
            Some(theirs) => format!("{} ranks itself {theirs}, here it is {ours}", peer(whom)),
            None => format!("{} does not rank itself, here it is {ours}", peer(whom)),
        },
        Explanation::UnauthorizedPeer { peer: whom, reason, rejected } => {
            format!("{} is no member ({reason}){}", peer(whom), if *rejected { ", rejected" } else { "" })
        }
    }
}

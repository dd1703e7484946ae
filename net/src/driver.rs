//! The borders between the shell and its drivers: what each driver does for the core, and how it reports back.
//!
//! Every method returns at once; what takes time runs in a task of the driver's own and ends in an [`Input`].

use std::sync::Arc;
use std::time::Duration;

use longshore_core::digest::Digest;
use longshore_core::input::{BlobFacts, Input, RecordedPiece};
use longshore_core::message::{Notice, PieceRefusal, PieceSum, Request, Response};
use longshore_core::names::{CallId, CredentialId, OpId, PeerId, RequestId, Source, StreamId};
use longshore_core::output::{Check, Refusal, Span};
use longshore_core::spine::Midstate;
use tokio::sync::mpsc;

/// Where drivers put what happened. Cheap to clone; never blocks.
///
/// The queue behind it has no bound of its own: every input answers something that the core admitted or asked for, so
/// the core's bounds bound it.
#[derive(Clone, Debug)]
pub struct Inputs(mpsc::UnboundedSender<Input>);

impl Inputs {
    /// A sender and the receiving end that the shell reads.
    #[must_use]
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Input>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Reports an input. After the shell has ended, this does nothing.
    pub fn send(&self, input: Input) {
        // The receiver is gone only when the process is stopping: nobody is left to tell.
        let _ = self.0.send(input);
    }
}

/// Answers containerd. See the `Mirror...` outputs of the core.
pub trait Mirror: Send {
    /// 200, 206 or 416 with the blob, as far as it is released.
    fn serve(&mut self, request: RequestId, digest: Digest, size: u64, media_type: Option<Arc<str>>);
    /// An error response.
    fn refuse(&mut self, request: RequestId, refusal: Refusal);
    /// Ends a body short, cleanly.
    fn abort(&mut self, request: RequestId);
}

/// Talks to other agents. See the outputs of the same names.
pub trait Peers: Send {
    /// Reads the first message of an inbound stream.
    fn admit(&mut self, stream: StreamId, max_bytes: usize);
    /// Resets an inbound stream.
    fn reset(&mut self, stream: StreamId);
    /// Replies on an inbound stream.
    fn reply(&mut self, stream: StreamId, response: Response);
    /// Sends a piece on an inbound stream.
    fn serve_piece(&mut self, stream: StreamId, digest: Digest, offset: u64, len: u64, claim: Option<PieceSum>);
    /// Refuses a piece on an inbound stream.
    fn refuse_piece(&mut self, stream: StreamId, refusal: PieceRefusal);
    /// Calls a peer.
    fn call(&mut self, call: CallId, peer: PeerId, request: Request, timeout: Duration);
    /// Forgets a call.
    fn cancel_call(&mut self, call: CallId);
    /// Sends a notice.
    fn notify(&mut self, peer: PeerId, notice: Arc<Notice>);
    /// Remembers addresses.
    fn learn(&mut self, peer: PeerId, addresses: Vec<Arc<str>>);
    /// Fetches a piece into the store's staging file.
    fn fetch_piece(&mut self, op: OpId, peer: PeerId, digest: Digest, size: u64, piece: u32, check: Check);
    /// Stops a piece transfer, if `op` is one of this driver's.
    fn cancel(&mut self, op: OpId);
    /// Asks the provider index.
    fn find_providers(&mut self, op: OpId, digest: Digest);
    /// Tells the provider index.
    fn announce(&mut self, digests: Vec<Digest>);
    /// Tells the provider index.
    fn withdraw(&mut self, digests: Vec<Digest>);
}

/// Talks to registries.
pub trait Origin: Send {
    /// Fetches into the store's staging file.
    fn fetch(
        &mut self,
        op: OpId,
        source: Source,
        digest: Digest,
        span: Span,
        credential: Option<CredentialId>,
        check: Check,
    );
    /// Asks for size and type.
    fn stat(&mut self, op: OpId, source: Source, digest: Digest, credential: Option<CredentialId>);
    /// Stops a fetch or a stat, if `op` is one of this driver's.
    fn cancel(&mut self, op: OpId);
    /// Drops a credential from the vault.
    fn forget_credential(&mut self, credential: CredentialId);
}

/// Keeps blobs.
pub trait BlobStore: Send {
    /// Lets readers have the first `bytes` bytes of a staged blob.
    fn release(&mut self, digest: Digest, bytes: u64);
    /// Makes a staging file, unless there is one.
    fn stage(&mut self, digest: Digest, size: u64, facts: BlobFacts);
    /// Remembers a piece across a restart.
    fn record(&mut self, digest: Digest, piece: RecordedPiece);
    /// Hashes a stored piece from a midstate.
    fn hash_piece(&mut self, op: OpId, digest: Digest, size: u64, piece: u32, from: Midstate);
    /// Makes a staged blob durable.
    fn commit(&mut self, digest: Digest, facts: BlobFacts);
    /// Remembers the spine of a committed blob.
    fn keep_spine(&mut self, digest: Digest, states: Vec<Midstate>);
    /// Reads the spine of a committed blob.
    fn read_spine(&mut self, digest: Digest);
    /// Drops a staged blob.
    fn discard(&mut self, digest: Digest);
    /// Deletes a committed blob.
    fn evict(&mut self, digest: Digest);
    /// Marks a committed blob as used now.
    fn touch(&mut self, digest: Digest);
    /// Reads a committed manifest.
    fn read_manifest(&mut self, digest: Digest);
    /// Hashes a committed blob again.
    fn verify(&mut self, digest: Digest);
}

//! Outbound calls: one stream, one request, one response.

use futures::AsyncWriteExt as _;
use longshore_core::input::CallError;
use longshore_core::message::{MAX_MESSAGE_BYTES, Request, Response};
use longshore_core::names::PeerId;
use tracing::debug;

use super::clock::Clock;
use super::hub::Hub;
use super::streams::OpenError;
use crate::wire::frame::{FrameError, frame, read_frame};
use crate::wire::{decode_response, encode_request};

/// Calls a peer, dialing it if there is no connection.
pub(super) async fn call(hub: &Hub, clock: Clock, peer: &PeerId, request: &Request) -> Result<Response, CallError> {
    let message = frame(&encode_request(request)).map_err(|error| {
        tracing::error!(%error, "a request is too large to be sent");
        CallError::Malformed
    })?;
    let mut stream = hub.open(peer, request.protocol()).await.map_err(|error| {
        debug!(%peer, %error, "a call could not be made");
        match error {
            OpenError::Unreachable(_) => CallError::Unreachable,
            OpenError::Broken(_) => CallError::Reset,
        }
    })?;
    let broken = |error| {
        debug!(%peer, %error, "a call broke");
        CallError::Reset
    };
    stream.write_all(&message).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let bytes = read_frame(&mut stream, MAX_MESSAGE_BYTES).await.map_err(|error| {
        debug!(%peer, %error, "a call has no answer");
        match error {
            FrameError::Ended | FrameError::Broken(_) => CallError::Reset,
            FrameError::BadLength | FrameError::Oversized { .. } => CallError::Malformed,
        }
    })?;
    // The answer is here; whether the stream ends well does not matter any more.
    let _ = stream.close().await;
    decode_response(request, &bytes, clock.now()).map_err(|error| {
        debug!(%peer, %error, "a call's answer makes no sense");
        CallError::Malformed
    })
}

//! Frames: an unsigned varint with the length, then so many bytes (reference, section 2.1).

use std::io;

use futures::{AsyncRead, AsyncReadExt as _};
use longshore_core::message::MAX_MESSAGE_BYTES;

/// Longest length prefix that is read: a `u64` in varint form.
const MAX_PREFIX_BYTES: usize = 10;
/// A frame's buffer grows by this much as its bytes arrive, so that a length alone makes nobody allocate.
const GROWTH_BYTES: usize = 64 * 1024;

/// Why no frame could be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream ended before the first byte of a frame.
    #[error("the stream ended where a frame could begin")]
    Ended,
    /// The length is not a minimal varint.
    #[error("the length of the frame is not a valid unsigned varint")]
    BadLength,
    /// The length is more than allowed.
    #[error("the frame has {found} bytes; at most {allowed} are allowed")]
    Oversized {
        /// Bytes announced.
        found: u64,
        /// Bytes allowed.
        allowed: usize,
    },
    /// The stream broke, or ended inside a frame.
    #[error("the stream broke inside a frame: {0}")]
    Broken(#[from] io::Error),
}

/// Reads one frame of at most `max_bytes` bytes, and nothing behind it.
///
/// # Errors
/// See [`FrameError`].
pub async fn read_frame(stream: &mut (impl AsyncRead + Unpin), max_bytes: usize) -> Result<Vec<u8>, FrameError> {
    let announced = read_length(stream).await?;
    let length = usize::try_from(announced)
        .ok()
        .filter(|length| *length <= max_bytes)
        .ok_or(FrameError::Oversized { found: announced, allowed: max_bytes })?;
    let mut frame = Vec::with_capacity(length.min(GROWTH_BYTES));
    while frame.len() < length {
        let start = frame.len();
        frame.resize(length.min(start + GROWTH_BYTES), 0);
        stream.read_exact(&mut frame[start..]).await?;
    }
    Ok(frame)
}

async fn read_length(stream: &mut (impl AsyncRead + Unpin)) -> Result<u64, FrameError> {
    let mut prefix = [0; MAX_PREFIX_BYTES];
    for end in 0..MAX_PREFIX_BYTES {
        let byte = &mut prefix[end..=end];
        if end == 0 {
            if stream.read(byte).await? == 0 {
                return Err(FrameError::Ended);
            }
        } else {
            stream.read_exact(byte).await?;
        }
        if prefix[end] & 0x80 == 0 {
            return match unsigned_varint::decode::u64(&prefix[..=end]) {
                Ok((length, _)) => Ok(length),
                Err(_) => Err(FrameError::BadLength),
            };
        }
    }
    Err(FrameError::BadLength)
}

/// A message that is too large to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message has {0} bytes; peers accept at most {MAX_MESSAGE_BYTES}")]
pub struct TooLarge(pub usize);

/// The frame around `message`.
///
/// # Errors
/// When no peer would accept it.
pub fn frame(message: &[u8]) -> Result<Vec<u8>, TooLarge> {
    if message.len() > MAX_MESSAGE_BYTES {
        return Err(TooLarge(message.len()));
    }
    let mut prefix = unsigned_varint::encode::usize_buffer();
    let prefix = unsigned_varint::encode::usize(message.len(), &mut prefix);
    Ok([prefix, message].concat())
}

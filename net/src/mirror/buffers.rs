//! Buffers that bodies are read into, used again and again: a new one costs page faults for every byte.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Size of a buffer in bytes. Large enough that system calls do not count, small enough that it stays in a processor's
/// second-level cache between the read and the send.
pub(crate) const BUFFER_BYTES: usize = 128 * 1024;

/// Most idle buffers that are kept: 8 MiB.
const IDLE_LIMIT: usize = 64;

/// A pool of buffers. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffers {
    idle: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// A buffer that goes back to its pool when it is dropped.
#[derive(Debug)]
pub(crate) struct Buffer {
    pool: Buffers,
    bytes: Vec<u8>,
    used: usize,
}

impl Buffers {
    /// A buffer of `len` bytes, at most [`BUFFER_BYTES`], with arbitrary contents.
    pub(crate) fn take(&self, len: usize) -> Buffer {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = idle.unwrap_or_else(|| vec![0; BUFFER_BYTES]);
        let used = len.min(bytes.len());
        Buffer { pool: self.clone(), bytes, used }
    }
}

impl Buffer {
    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.used]
    }

    /// The contents, without a copy; the buffer goes back when the last clone is dropped.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.used]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_LIMIT {
            idle.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_used_again() {
        let pool = Buffers::default();
        let mut first = pool.take(3);
        first.as_mut().copy_from_slice(b"abc");
        let frozen = first.freeze();
        let address = frozen.as_ptr();
        assert_eq!(&frozen[..], b"abc");
        drop(frozen);
        let second = pool.take(BUFFER_BYTES);
        assert_eq!(second.as_ref().as_ptr(), address);
        assert_eq!(second.as_ref().len(), BUFFER_BYTES);
    }

    #[test]
    fn a_pool_keeps_no_more_than_its_limit() {
        let pool = Buffers::default();
        let taken: Vec<Buffer> = (0..IDLE_LIMIT + 5).map(|_| pool.take(1)).collect();
        drop(taken);
        assert_eq!(pool.idle.lock().unwrap().len(), IDLE_LIMIT);
    }
}

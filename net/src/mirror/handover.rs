//! How a connection passes from hyper to a transfer.
//!
//! hyper reads requests and writes heads. The bytes of blobs go from the page cache to the socket without it, by
//! `sendfile`: that halves the CPU time per byte, and needs no buffers, however many clients there are. So the body that
//! hyper gets is forever pending. When hyper has written the head, it asks for the body, and then flushes; once it has
//! flushed, nothing of the answer is left in its buffers, and the connection can be taken from it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::transfer::Transfer;

/// The state of one handover, shared by the answer, its body and the wire.
#[derive(Debug, Default)]
pub(crate) struct Handover {
    transfer: Mutex<Option<Transfer>>,
    head_written: AtomicBool,
    head_flushed: AtomicBool,
}

impl Handover {
    /// What is to be sent after the head.
    pub(crate) fn offer(&self, transfer: Transfer) {
        *self.slot() = Some(transfer);
    }

    /// hyper has asked for the body: the head is in its buffer, or further.
    pub(crate) fn head_is_written(&self) {
        self.head_written.store(true, Ordering::Release);
    }

    /// hyper has emptied its buffer.
    pub(crate) fn buffer_is_flushed(&self) {
        if self.head_written.load(Ordering::Acquire) {
            self.head_flushed.store(true, Ordering::Release);
        }
    }

    /// Whether the connection can be taken from hyper.
    pub(crate) fn is_ready(&self) -> bool {
        self.head_flushed.load(Ordering::Acquire)
    }

    /// What was offered.
    pub(crate) fn take(&self) -> Option<Transfer> {
        self.slot().take()
    }

    fn slot(&self) -> MutexGuard<'_, Option<Transfer>> {
        self.transfer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

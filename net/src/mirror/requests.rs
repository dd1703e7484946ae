//! The requests that wait for the core or are being answered: one entry each, from the input to `MirrorClosed`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longshore_core::digest::Digest;
use longshore_core::input::Input;
use longshore_core::names::RequestId;
use longshore_core::output::Refusal;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::driver::Inputs;

/// What the core decided about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Answer with the blob.
    Serve {
        /// Which.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// Its Content-Type, if known.
        media_type: Option<Arc<str>>,
    },
    /// Answer with a refusal.
    Refuse(Refusal),
}

/// All open requests. Bounded by the connections: each has at most one request at a time.
#[derive(Debug)]
pub(crate) struct Requests {
    inputs: Inputs,
    next: AtomicU64,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// The shell is gone: nobody will ever decide again.
    closed: bool,
    entries: BTreeMap<RequestId, Entry>,
}

#[derive(Debug)]
struct Entry {
    verdict: Option<oneshot::Sender<Verdict>>,
    abort: CancellationToken,
}

impl Requests {
    pub(crate) fn new(inputs: Inputs) -> Arc<Self> {
        Arc::new(Self { inputs, next: AtomicU64::new(1), table: Mutex::default() })
    }

    /// Opens a request and reports it with the input that `describe` makes of its number. `None` when the shell is gone.
    pub(crate) fn open(self: &Arc<Self>, describe: impl FnOnce(RequestId) -> Input) -> Option<Ticket> {
        let id = RequestId(self.next.fetch_add(1, Ordering::Relaxed));
        let (verdict, decided) = oneshot::channel();
        let abort = CancellationToken::new();
        {
            let mut table = self.table();
            if table.closed {
                return None;
            }
            table.entries.insert(id, Entry { verdict: Some(verdict), abort: abort.clone() });
        }
        self.inputs.send(describe(id));
        Some(Ticket { id, requests: Arc::clone(self), decided: Some(decided), abort, sent_bytes: 0 })
    }

    /// Hands a decision to its request. Too late or twice: nothing happens.
    pub(crate) fn decide(&self, id: RequestId, verdict: Verdict) {
        let waiting = self.table().entries.get_mut(&id).and_then(|entry| entry.verdict.take());
        if let Some(waiting) = waiting {
            // The receiver is gone when the client has just hung up.
            let _ = waiting.send(verdict);
        }
    }

    /// Tells a request to end.
    pub(crate) fn abort(&self, id: RequestId) {
        if let Some(entry) = self.table().entries.get(&id) {
            entry.abort.cancel();
        }
    }

    /// Nobody decides any more: requests without a verdict end without one, and no new ones are opened.
    pub(crate) fn close(&self) {
        let mut table = self.table();
        table.closed = true;
        for entry in table.entries.values_mut() {
            entry.verdict = None;
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One open request. Dropping it reports [`Input::MirrorClosed`], whatever the reason.
#[derive(Debug)]
pub(crate) struct Ticket {
    id: RequestId,
    requests: Arc<Requests>,
    decided: Option<oneshot::Receiver<Verdict>>,
    abort: CancellationToken,
    sent_bytes: u64,
}

impl Ticket {
    /// Waits for the decision. `None`: the request was aborted, or the shell is gone.
    pub(crate) async fn decided(&mut self) -> Option<Verdict> {
        let decided = self.decided.take()?;
        tokio::select! {
            biased;
            verdict = decided => verdict.ok(),
            () = self.abort.cancelled() => None,
        }
    }

    /// Whether the core has aborted the request.
    pub(crate) fn is_aborted(&self) -> bool {
        self.abort.is_cancelled()
    }

    /// From now on, an abort ends the connection that `connection` stands for: a body cannot end otherwise, and the
    /// client may not be reading just now.
    pub(crate) fn bind(&mut self, connection: &CancellationToken) {
        let mut table = self.requests.table();
        if let Some(entry) = table.entries.get_mut(&self.id) {
            entry.abort = connection.clone();
        }
        drop(table);
        if self.abort.is_cancelled() {
            connection.cancel();
        }
        self.abort = connection.clone();
    }

    /// Counts body bytes that were handed to the connection.
    pub(crate) fn sent(&mut self, bytes: u64) {
        self.sent_bytes = self.sent_bytes.saturating_add(bytes);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.requests.table().entries.remove(&self.id);
        self.requests.inputs.send(Input::MirrorClosed { request: self.id, sent_bytes: self.sent_bytes });
    }
}

//! The running operations and what they report: nothing after their end, and nothing after they were cancelled.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longshore_core::input::{Input, OriginFailure, OriginStat, TransferEvent};
use longshore_core::names::OpId;
use tokio::task::AbortHandle;

use crate::driver::Inputs;

/// All running operations. Bounded by the core, which starts only so many.
#[derive(Debug)]
pub(super) struct Reports {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inputs: Inputs,
    running: Mutex<BTreeMap<OpId, AbortHandle>>,
}

/// Where one operation reports.
#[derive(Debug)]
pub(super) struct Report {
    op: OpId,
    shared: Arc<Shared>,
}

impl Reports {
    pub(super) fn new(inputs: Inputs) -> Self {
        Self { shared: Arc::new(Shared { inputs, running: Mutex::default() }) }
    }

    /// Runs an operation.
    pub(super) fn start<F: Future<Output = ()> + Send + 'static>(&self, op: OpId, work: impl FnOnce(Report) -> F) {
        let report = Report { op, shared: self.shared.clone() };
        let work = work(report);
        // Locked while the task starts, so that it cannot end before it is entered.
        let mut running = self.shared.running();
        running.insert(op, tokio::spawn(work).abort_handle());
    }

    /// Ends an operation, if it still runs. When this returns, nothing more is reported of it.
    pub(super) fn cancel(&self, op: OpId) {
        if let Some(task) = self.shared.running().remove(&op) {
            task.abort();
        }
    }

    #[cfg(test)]
    pub(super) fn running(&self) -> usize {
        self.shared.running().len()
    }
}

impl Drop for Reports {
    fn drop(&mut self) {
        for task in std::mem::take(&mut *self.shared.running()).into_values() {
            task.abort();
        }
    }
}

impl Report {
    /// Reports what happens to a transfer.
    pub(super) fn event(&self, event: TransferEvent) {
        let running = self.shared.running();
        // Sent under the lock: a cancellation comes before or after it, never in between.
        if running.contains_key(&self.op) {
            self.shared.inputs.send(Input::Transfer { op: self.op, event });
        }
    }

    /// Reports the end of a transfer.
    pub(super) fn end(self, event: TransferEvent) {
        self.finish(|op| Input::Transfer { op, event });
    }

    /// Reports the end of a stat.
    pub(super) fn stat(self, result: Result<OriginStat, OriginFailure>) {
        self.finish(|op| Input::OriginStat { op, result });
    }

    fn finish(self, input: impl FnOnce(OpId) -> Input) {
        let mut running = self.shared.running();
        if running.remove(&self.op).is_some() {
            self.shared.inputs.send(input(self.op));
        }
    }
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, BTreeMap<OpId, AbortHandle>> {
        // Each change under the lock is complete in itself.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

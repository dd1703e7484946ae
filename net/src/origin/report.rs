//! The running operations and what they report: nothing after their end, and nothing after they were cancelled.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longshore_core::input::{Input, OriginFailure, OriginStat, TransferEvent};
use longshore_core::names::OpId;
use tokio::task::AbortHandle;

use crate::driver::Inputs;

#[cfg(test)]
mod tests;

/// All running operations. Bounded by the core, which starts only so many.
#[derive(Debug)]
pub(super) struct Reports {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inputs: Inputs,
    running: Mutex<BTreeMap<OpId, Option<AbortHandle>>>,
}

/// Where one operation reports.
#[derive(Debug)]
pub(super) struct Report {
    op: OpId,
    lost: fn(OpId) -> Input,
    shared: Arc<Shared>,
}

impl Reports {
    pub(super) fn new(inputs: Inputs) -> Self {
        Self { shared: Arc::new(Shared { inputs, running: Mutex::default() }) }
    }

    /// Runs an operation. Should it ever end without a report, `lost` is reported.
    pub(super) fn start<F: Future<Output = ()> + Send + 'static>(
        &self,
        op: OpId,
        lost: fn(OpId) -> Input,
        work: impl FnOnce(Report) -> F,
    ) {
        let report = Report { op, lost, shared: self.shared.clone() };
        // Entered before it starts, for it may end before its handle is here. (Not spawned under the lock: a task that
        // is dropped takes the lock to report that.)
        self.shared.running().insert(op, None);
        let task = tokio::spawn(work(report)).abort_handle();
        if let Some(handle) = self.shared.running().get_mut(&op) {
            *handle = Some(task);
        }
    }

    /// Ends an operation, if it still runs. When this returns, nothing more is reported of it.
    pub(super) fn cancel(&self, op: OpId) {
        let task = self.shared.running().remove(&op).flatten();
        if let Some(task) = task {
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
        let running = std::mem::take(&mut *self.shared.running());
        running.into_values().flatten().for_each(|task| task.abort());
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

    fn finish(&self, input: impl FnOnce(OpId) -> Input) {
        let mut running = self.shared.running();
        if running.remove(&self.op).is_some() {
            self.shared.inputs.send(input(self.op));
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        // Does nothing after an end or a cancellation; without them the task has panicked.
        self.finish(self.lost);
    }
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, BTreeMap<OpId, Option<AbortHandle>>> {
        // Each change under the lock is complete in itself.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Running tasks by the number that the core knows them by.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;

/// Tasks that end by themselves or are aborted by their key. Each may have something to be told by.
#[derive(Debug)]
pub(super) struct Tasks<Key, Contact = ()> {
    running: Arc<Mutex<HashMap<Key, (AbortHandle, Contact)>>>,
    tracker: TaskTracker,
}

impl<Key, Contact> Clone for Tasks<Key, Contact> {
    fn clone(&self) -> Self {
        Self { running: Arc::clone(&self.running), tracker: self.tracker.clone() }
    }
}

impl<Key, Contact> Tasks<Key, Contact>
where
    Key: Copy + Eq + Hash + Send + 'static,
    Contact: Send + 'static,
{
    pub(super) fn new(tracker: TaskTracker) -> Self {
        Self { running: Arc::default(), tracker }
    }

    /// Runs a task. It is forgotten when it ends.
    pub(super) fn spawn(&self, key: Key, contact: Contact, task: impl Future<Output = ()> + Send + 'static) {
        // Held until the task is in the map, so that a quick task is not put there after its end.
        let mut running = self.running();
        let forget = Forget { key, running: Arc::clone(&self.running) };
        let handle = self.tracker.spawn(async move {
            let _forget = forget;
            task.await;
        });
        running.insert(key, (handle.abort_handle(), contact));
    }

    /// Drops a task at its next stop, if it runs.
    pub(super) fn abort(&self, key: Key) {
        let entry = self.running().get(&key).map(|(handle, _)| handle.clone());
        if let Some(handle) = entry {
            handle.abort();
        }
    }

    /// Drops all tasks.
    pub(super) fn abort_all(&self) {
        let handles: Vec<_> = self.running().values().map(|(handle, _)| handle.clone()).collect();
        handles.iter().for_each(AbortHandle::abort);
    }

    /// Tells a task something, if it runs.
    pub(super) fn tell(&self, key: Key, tell: impl FnOnce(&Contact)) {
        if let Some((_, contact)) = self.running().get(&key) {
            tell(contact);
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Key, (AbortHandle, Contact)>> {
        // Nothing panics while it holds the lock; and if it did, the map would still be whole.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Forget<Key: Eq + Hash, Contact> {
    key: Key,
    running: Arc<Mutex<HashMap<Key, (AbortHandle, Contact)>>>,
}

impl<Key: Eq + Hash, Contact> Drop for Forget<Key, Contact> {
    fn drop(&mut self) {
        let entry = self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        drop(entry);
    }
}

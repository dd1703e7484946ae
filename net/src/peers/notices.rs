//! Outbound notices: one stream to each peer that lives as long as there is something to say.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::AsyncWriteExt as _;
use longshore_core::message::{Notice, Protocol};
use longshore_core::names::PeerId;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::hub::Hub;
use crate::wire::frame::frame;
use crate::wire::swarm::encode_notice;

/// Notices that wait for one peer. One for a peer that does not take them this long is dropped: notices may be lost, and
/// the core repeats what matters.
const MAX_WAITING: usize = 256;
/// A stream that nothing is said on for this long is closed, so that idle connections can end.
const IDLE: Duration = Duration::from_secs(60);
/// A peer that takes nothing for this long has gone.
const SEND_STALL: Duration = Duration::from_secs(30);

/// The queues of notices, by peer.
#[derive(Clone, Debug)]
pub(super) struct Notices {
    queues: Arc<Mutex<HashMap<PeerId, mpsc::Sender<Arc<Notice>>>>>,
    tracker: TaskTracker,
    hub: Hub,
}

impl Notices {
    pub(super) fn new(hub: Hub, tracker: TaskTracker) -> Self {
        Self { queues: Arc::default(), tracker, hub }
    }

    /// Queues a notice; its stream is opened when there is none.
    pub(super) fn send(&self, peer: PeerId, notice: Arc<Notice>) {
        let mut queues = self.queues();
        match queues.entry(peer.clone()) {
            Entry::Occupied(queue) => {
                if queue.get().try_send(notice).is_err() {
                    warn!(%peer, "a notice is dropped: {MAX_WAITING} others wait for this peer to take them");
                }
            }
            Entry::Vacant(vacant) => {
                let (queue, waiting) = mpsc::channel(MAX_WAITING);
                // A queue that was just made has room.
                let _ = queue.try_send(notice);
                vacant.insert(queue);
                self.tracker.spawn(self.clone().deliver(peer, waiting));
            }
        }
    }

    /// Drops all queues; their streams end.
    pub(super) fn stop(&self) {
        self.queues().clear();
    }

    async fn deliver(self, peer: PeerId, mut waiting: mpsc::Receiver<Arc<Notice>>) {
        if let Err(problem) = self.write_all(&peer, &mut waiting).await {
            debug!(%peer, problem, "notices cannot be delivered; those that wait are dropped");
            self.queues().remove(&peer);
        }
    }

    /// Ends well only when the queue is out of the map and empty.
    async fn write_all(&self, peer: &PeerId, waiting: &mut mpsc::Receiver<Arc<Notice>>) -> Result<(), String> {
        let mut stream = self.hub.open(peer, Protocol::Swarm).await.map_err(|error| error.to_string())?;
        loop {
            let first = match timeout(IDLE, waiting.recv()).await {
                Ok(Some(notice)) => notice,
                Ok(None) => break,
                Err(_) => {
                    let mut queues = self.queues();
                    // Under the lock nobody can put anything in.
                    if waiting.is_empty() {
                        queues.remove(peer);
                        break;
                    }
                    continue;
                }
            };
            let mut next = Some(first);
            while let Some(notice) = next {
                match frame(&encode_notice(&notice)) {
                    Ok(bytes) => match timeout(SEND_STALL, stream.write_all(&bytes)).await {
                        Ok(written) => written.map_err(|error| error.to_string())?,
                        Err(_) => return Err("the peer takes nothing".to_owned()),
                    },
                    Err(error) => tracing::error!(%error, "a notice is too large to be sent"),
                }
                next = waiting.try_recv().ok();
            }
            match timeout(SEND_STALL, stream.flush()).await {
                Ok(flushed) => flushed.map_err(|error| error.to_string())?,
                Err(_) => return Err("the peer takes nothing".to_owned()),
            }
        }
        // Nothing is left to say; how the stream ends does not matter.
        let _ = timeout(SEND_STALL, stream.close()).await;
        Ok(())
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<PeerId, mpsc::Sender<Arc<Notice>>>> {
        // Nothing panics while it holds the lock; and if it did, the map would still be whole.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

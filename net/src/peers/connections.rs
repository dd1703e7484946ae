//! Who is connected now, for people to see.

use std::collections::BTreeSet;
use std::sync::Arc;

use longshore_core::names::PeerId;
use tokio::sync::watch;

/// The peers that there is a connection with. Cheap to clone; follows what happens.
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<watch::Sender<BTreeSet<PeerId>>>);

impl Connections {
    /// The peers that are connected at this moment.
    #[must_use]
    pub fn now(&self) -> BTreeSet<PeerId> {
        self.0.borrow().clone()
    }

    pub(super) fn opened(&self, peer: PeerId) {
        self.0.send_modify(|peers| {
            peers.insert(peer);
        });
    }

    pub(super) fn closed(&self, peer: &PeerId) {
        self.0.send_modify(|peers| {
            peers.remove(peer);
        });
    }
}

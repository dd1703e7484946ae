//! Who is in the cluster, as this node sees it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::names::PeerId;

/// One agent of the cluster, as the source of membership describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The name that rendezvous hashing works on: the node's name, or the peer ID's text where there is none.
    pub name: Arc<str>,
    /// The agent's authenticated identity; `None` while it has not published one.
    pub peer: Option<PeerId>,
    /// Where it can be reached, as multiaddrs.
    pub addresses: Vec<Arc<str>>,
    /// Its zone.
    pub zone: Option<Arc<str>>,
    /// It is ready and not terminating: a candidate.
    pub ready: bool,
}

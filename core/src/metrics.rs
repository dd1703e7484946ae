//! What the agent counts. The names are the metrics' names without the `longshore_` prefix and the `_total` suffix.

use serde::{Deserialize, Serialize};

macro_rules! counters {
    ($(#[doc = $doc:literal] $name:ident,)*) => {
        /// Counters since the agent started.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Counters {
            $(#[doc = $doc] pub $name: u64,)*
        }

        impl Counters {
            /// Every counter with its name and its description, in declaration order.
            #[must_use]
            pub fn list(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((stringify!($name), $doc.trim_ascii(), self.$name),)*]
            }
        }
    };
}

counters! {
    /// Mirror requests that were answered with a blob from the local store.
    mirror_hits,
    /// Mirror requests that started or joined a flight.
    mirror_misses,
    /// Mirror requests that were refused.
    mirror_refused,
    /// Mirror bodies that were cut short.
    mirror_aborted,
    /// Bytes given to containerd.
    mirror_bytes,
    /// Bytes received from the origin.
    origin_bytes,
    /// Requests made of the origin for content.
    origin_fetches,
    /// Requests to the origin that failed.
    origin_failures,
    /// Bytes received from peers.
    peer_bytes,
    /// Piece bytes sent to peers.
    peer_sent_bytes,
    /// Pieces received from peers and accepted.
    pieces_from_peers,
    /// Pieces received from the origin.
    pieces_from_origin,
    /// Pieces that did not match their hash.
    pieces_rejected,
    /// Pieces refused to peers because all upload slots were taken.
    pieces_busy,
    /// Blobs completed and committed.
    blobs_completed,
    /// Times that what was here of a blob turned out not to be it.
    blobs_mismatched,
    /// Times that a blob in the store turned out not to be what it was when it was committed; it was deleted.
    blobs_rotten,
    /// Blobs evicted to stay under the cap.
    blobs_evicted,
    /// Flights that failed.
    flights_failed,
    /// pull_intent_query requests served.
    coord_pull_intent_served,
    /// please_pull requests served.
    coord_please_pull_served,
    /// Digests started because of a please_pull.
    coord_please_pull_started,
    /// Digests of a please_pull that were declined.
    coord_please_pull_declined,
    /// Inbound streams dropped without a normal reply, authorization aside.
    coord_stream_errors,
    /// Requests of peers that the membership view does not know.
    coord_unauthorized_unrecognized,
    /// Requests rejected because no member has published an identity yet.
    coord_unauthorized_unevaluable,
    /// Responses whose rank differs from ours: the views diverge.
    hrw_rank_mismatch,
    /// Cascades that probed twice as many nodes.
    topk_expansions,
    /// Swarms whose tracker was replaced after it died or stalled.
    tracker_takeovers,
    /// Peers convicted of sending wrong bytes or sums.
    peers_convicted,
}

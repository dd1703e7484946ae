//! The provider index of last resort: Kademlia's provider records.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::num::NonZeroUsize;
use std::time::Duration;

use libp2p::kad::store::{MemoryStore, MemoryStoreConfig};
use libp2p::kad::{self, Event, GetProvidersOk, Mode, QueryId, QueryResult, RecordKey};
use libp2p::{PeerId, StreamProtocol};
use longshore_core::digest::Digest;
use longshore_core::names::OpId;
use tracing::{debug, warn};

/// Its name in negotiation.
pub(super) const INDEX_PROTOCOL: StreamProtocol = StreamProtocol::new("/longshore/kad/1.0.0");
/// Longest that a query for providers may take.
pub(super) const FIND_TIMEOUT: Duration = Duration::from_secs(2);
/// Most providers that a query returns (Kademlia's k, and what Gantry asks for).
pub(super) const MAX_PROVIDERS: usize = 20;
/// Nodes that keep each record. Kademlia's 20 is for an internet of strangers that come and go; here a record lives for
/// minutes, and every copy costs a connection.
const REPLICATION: NonZeroUsize = NonZeroUsize::new(4).expect("four is not zero");
/// Nodes that one query asks at a time.
const PARALLELISM: NonZeroUsize = NonZeroUsize::new(2).expect("two is not zero");
/// Longest that an announcement may look for the nodes to put its record on.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);
/// Announcements that run at a time: a node that has just pulled an image has tens of blobs to announce, and each
/// contacts a handful of nodes.
const MAX_ANNOUNCING: usize = 4;
/// Records of others that are kept, and announcements that wait: far above the blobs of a busy cluster.
const MAX_KEYS: usize = 65_536;

pub(super) type Kademlia = kad::Behaviour<MemoryStore>;

/// Kademlia that keeps quiet: records live for `ttl`, are published again every `republish_interval`, and nothing is looked
/// up unless asked for, but for one walk when the first peers become known.
pub(super) fn kademlia(local: PeerId, ttl: Duration, republish_interval: Duration) -> Kademlia {
    let store = MemoryStore::with_config(
        local,
        MemoryStoreConfig {
            // Values are never stored: only provider records are.
            max_records: 0,
            max_value_bytes: 0,
            max_providers_per_key: MAX_PROVIDERS,
            max_provided_keys: MAX_KEYS,
        },
    );
    let mut config = kad::Config::new(INDEX_PROTOCOL);
    config
        .set_replication_factor(REPLICATION)
        .set_parallelism(PARALLELISM)
        .set_query_timeout(QUERY_TIMEOUT)
        .set_provider_record_ttl(Some(ttl))
        .set_provider_publication_interval(Some(republish_interval))
        .set_publication_interval(None)
        .set_replication_interval(None)
        .set_periodic_bootstrap_interval(None)
        .set_caching(kad::Caching::Disabled);
    let mut kademlia = Kademlia::with_config(local, store, config);
    kademlia.set_mode(Some(Mode::Server));
    kademlia
}

/// What runs in the index on the core's behalf.
#[derive(Debug, Default)]
pub(super) struct Index {
    finding: HashMap<QueryId, Find>,
    announcing: HashSet<QueryId>,
    waiting: VecDeque<Digest>,
    queued: HashSet<Digest>,
}

#[derive(Debug)]
struct Find {
    op: OpId,
    providers: BTreeSet<PeerId>,
}

/// An answer for the core.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) op: OpId,
    pub(super) providers: BTreeSet<PeerId>,
}

fn key(digest: Digest) -> RecordKey {
    RecordKey::new(digest.as_bytes())
}

impl Index {
    /// Starts a query, which [`expire`](Self::expire) has to end in time.
    pub(super) fn find(&mut self, kademlia: &mut Kademlia, op: OpId, digest: Digest) -> QueryId {
        let query = kademlia.get_providers(key(digest));
        self.finding.insert(query, Find { op, providers: BTreeSet::new() });
        query
    }

    /// Ends a query with what it has found, unless it has ended.
    pub(super) fn expire(&mut self, kademlia: &mut Kademlia, query: QueryId) -> Option<Found> {
        let Find { op, providers } = self.finding.remove(&query)?;
        if let Some(mut query) = kademlia.query_mut(&query) {
            query.finish();
        }
        Some(Found { op, providers })
    }

    /// Forgets a query whose answer nobody wants any more.
    pub(super) fn cancel(&mut self, kademlia: &mut Kademlia, op: OpId) {
        let query = self.finding.iter().find(|(_, find)| find.op == op).map(|(query, _)| *query);
        if let Some(query) = query {
            self.expire(kademlia, query);
        }
    }

    pub(super) fn announce(&mut self, kademlia: &mut Kademlia, digests: Vec<Digest>) {
        for digest in digests {
            if self.waiting.len() >= MAX_KEYS {
                warn!(%digest, "not announced: {MAX_KEYS} other announcements are waiting");
            } else if self.queued.insert(digest) {
                self.waiting.push_back(digest);
            }
        }
        self.announce_next(kademlia);
    }

    pub(super) fn withdraw(&mut self, kademlia: &mut Kademlia, digests: &[Digest]) {
        for digest in digests {
            // Its place in the queue stays, and is passed over.
            self.queued.remove(digest);
            kademlia.stop_providing(&key(*digest));
        }
    }

    fn announce_next(&mut self, kademlia: &mut Kademlia) {
        while self.announcing.len() < MAX_ANNOUNCING
            && let Some(digest) = self.waiting.pop_front()
        {
            if !self.queued.remove(&digest) {
                continue;
            }
            match kademlia.start_providing(key(digest)) {
                Ok(query) => {
                    self.announcing.insert(query);
                }
                Err(error) => warn!(%digest, %error, "not announced: the index holds as many records as it can"),
            }
        }
    }

    /// Takes what Kademlia reports; gives the answer that this completes.
    pub(super) fn on_event(&mut self, kademlia: &mut Kademlia, event: Event) -> Option<Found> {
        let Event::OutboundQueryProgressed { id, result, step, .. } = event else { return None };
        match result {
            QueryResult::GetProviders(result) => {
                let find = self.finding.get_mut(&id)?;
                match result {
                    Ok(GetProvidersOk::FoundProviders { providers, .. }) => {
                        let room = MAX_PROVIDERS - find.providers.len();
                        find.providers.extend(providers.into_iter().take(room));
                    }
                    Ok(GetProvidersOk::FinishedWithNoAdditionalRecord { .. }) => {}
                    Err(error) => debug!(%error, "a query for providers failed"),
                }
                if step.last || find.providers.len() == MAX_PROVIDERS { self.expire(kademlia, id) } else { None }
            }
            QueryResult::StartProviding(result) => {
                if let Err(error) = result {
                    debug!(%error, "an announcement failed; it is repeated when records are published again");
                }
                self.announcing.remove(&id);
                self.announce_next(kademlia);
                None
            }
            _ => None,
        }
    }
}

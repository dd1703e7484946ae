//! Chairs, and the pump of each holder that pulls from the registry.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use longshore_core::time::Time;

use crate::chance::Chance;
use crate::rivals::engine::{BlobId, Cluster, Purpose};
use crate::world::NodeIndex;

/// `chair_holder_count`.
const CHAIRS: usize = 64;
/// `chair_seed_count`: of so many held chairs, so many pull a digest; of fewer, as large a part.
const SEEDS: usize = 8;
/// `coord_max_concurrent_pulls`.
const RUNNING: usize = 16;
/// Pulls that a holder takes on: four times those that run.
const ADMITTED: usize = 64;
/// `origin_failure_cooldown_initial`; it does not grow, because the look-up before a retry deletes the entry.
const COOL_DOWN: Duration = Duration::from_secs(10);

/// What a chair says when it is asked to pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It has it, pulls it, or will.
    Accepted,
    /// The registry said no a moment ago.
    Failed,
    /// It is down, or has too much to do.
    Declined,
}

#[derive(Debug, Default)]
struct Pump {
    running: Vec<BlobId>,
    waiting: VecDeque<(BlobId, bool)>,
    cool_until: BTreeMap<BlobId, Time>,
}

/// Who holds which chair, and what they pull.
#[derive(Debug, Default)]
pub(super) struct Chairs {
    holders: Vec<NodeIndex>,
    ranks: BTreeMap<BlobId, Vec<usize>>,
    pumps: BTreeMap<NodeIndex, Pump>,
}

impl Chairs {
    fn sit_down<E>(&mut self, cluster: &mut Cluster<E>) {
        if self.holders.is_empty() {
            let nodes = cluster.nodes();
            self.holders = cluster.chance.some_of(nodes, CHAIRS);
        }
    }

    /// The holders of the chairs that rank highest for a blob; `cohort` 1 are the next ones, and so on.
    pub(super) fn seeds<E>(&mut self, cluster: &mut Cluster<E>, blob: BlobId, cohort: usize) -> Vec<NodeIndex> {
        self.sit_down(cluster);
        let chairs = self.holders.len();
        let ranks = self.ranks.entry(blob).or_insert_with(|| {
            // Any order that all nodes agree on and that differs from digest to digest will do.
            let mut order: Vec<usize> = (0..chairs).collect();
            let score = |chair: &usize| Chance::new((blob as u64) << 32 | *chair as u64).number();
            order.sort_by_cached_key(score);
            order
        });
        let count = (chairs * SEEDS).div_ceil(CHAIRS).clamp(1, SEEDS);
        ranks.iter().skip(cohort * count).take(count).map(|chair| self.holders[*chair]).collect()
    }

    /// A holder is asked to pull.
    pub(super) fn please_pull<E>(
        &mut self,
        cluster: &mut Cluster<E>,
        holder: NodeIndex,
        blob: BlobId,
        has_credential: bool,
    ) -> Answer {
        if !cluster.machines[holder].up {
            return Answer::Declined;
        }
        let pump = self.pumps.entry(holder).or_default();
        if pump.cool_until.get(&blob).is_some_and(|until| *until > cluster.now) {
            return Answer::Failed;
        }
        let waits = pump.waiting.iter().any(|(waiting, _)| *waiting == blob);
        if cluster.has(holder, blob) || waits || pump.running.contains(&blob) {
            return Answer::Accepted;
        }
        if pump.running.len() + pump.waiting.len() >= ADMITTED {
            return Answer::Declined;
        }
        pump.waiting.push_back((blob, has_credential));
        self.go_on(cluster, holder);
        Answer::Accepted
    }

    fn go_on<E>(&mut self, cluster: &mut Cluster<E>, holder: NodeIndex) {
        let Some(pump) = self.pumps.get_mut(&holder) else { return };
        while pump.running.len() < RUNNING
            && let Some((blob, has_credential)) = pump.waiting.pop_front()
        {
            pump.running.push(blob);
            let offset = cluster.partial(holder, blob);
            cluster.fetch(holder, blob, offset, has_credential, Purpose::Store);
        }
    }

    fn ended<E>(&mut self, cluster: &mut Cluster<E>, holder: NodeIndex, blob: BlobId) {
        if let Some(pump) = self.pumps.get_mut(&holder) {
            pump.running.retain(|running| *running != blob);
        }
        self.go_on(cluster, holder);
    }

    /// A holder has pulled a blob.
    pub(super) fn pulled<E>(&mut self, cluster: &mut Cluster<E>, holder: NodeIndex, blob: BlobId) {
        self.ended(cluster, holder, blob);
    }

    /// A holder's pull failed.
    pub(super) fn pull_failed<E>(&mut self, cluster: &mut Cluster<E>, holder: NodeIndex, blob: BlobId) {
        if let Some(pump) = self.pumps.get_mut(&holder) {
            pump.cool_until.insert(blob, cluster.now + COOL_DOWN);
        }
        self.ended(cluster, holder, blob);
    }

    /// A node is gone, and what it pulled with it.
    pub(super) fn holder_died(&mut self, node: NodeIndex) {
        self.pumps.remove(&node);
    }

    /// The lease of a dead node has run out: another node takes its chair.
    pub(super) fn lease_over<E>(&mut self, cluster: &mut Cluster<E>, node: NodeIndex) {
        if cluster.machines[node].up {
            return;
        }
        let Some(chair) = self.holders.iter().position(|holder| *holder == node) else { return };
        let nodes = cluster.nodes();
        let free: Vec<_> =
            (0..nodes).filter(|other| cluster.machines[*other].up && !self.holders.contains(other)).collect();
        if let Some(other) = cluster.chance.pick(&free) {
            self.holders[chair] = *other;
        }
    }
}

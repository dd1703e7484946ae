//! Nodes, zones, links, rates and settings.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longshore_core::config::{Config, Scope};
use longshore_core::message::FailureClass;
use longshore_core::names::PeerId;

use super::super::History;
use super::super::lives::Life;
use super::watch::{Answer, Bytes, Watch};
use super::{Comments, span};
use crate::scenario::units::{Bytes as Size, Rate, Span};
use crate::scenario::{Cluster, Knobs, OriginSpec};

/// A rate is that of the busiest time of this length, in microseconds: long enough that single pieces do not count.
const BUSY: i64 = 250_000;
/// ... or, of small images, of this.
const BUSY_AT_LEAST: i64 = 20_000;

/// Who is who in the scenario.
#[derive(Debug)]
pub(super) struct Topology {
    /// The number of each peer in the scenario.
    indices: BTreeMap<PeerId, usize>,
    zones: Vec<String>,
    zone_of: BTreeMap<PeerId, usize>,
    /// Nodes with a journal.
    pub(super) recorded: usize,
    /// Nodes in all.
    pub(super) nodes: usize,
}

impl Topology {
    pub(super) fn new(history: &History<'_>, watch: &Watch, comments: &mut Comments) -> Self {
        let mut all: BTreeMap<PeerId, (String, Option<String>)> = watch.members.clone();
        for life in history.lives {
            let zone = life.journals.first().and_then(|journal| journal.header.config.zone.as_deref());
            all.insert(life.peer.clone(), (life.name.clone(), zone.map(str::to_owned)));
        }
        for peer in history.missing() {
            all.entry(peer.clone()).or_insert_with(|| (peer.as_str().to_owned(), None));
        }
        let zones: BTreeSet<String> = all.values().filter_map(|(_, zone)| zone.clone()).collect();
        let zones: Vec<String> = zones.into_iter().collect();
        let rank = |zone: &Option<String>| zones.iter().position(|known| Some(known) == zone.as_ref()).unwrap_or(0);
        let mut waiting: Vec<Vec<(&String, &PeerId)>> = vec![Vec::new(); zones.len().max(1)];
        for (peer, (name, zone)) in &all {
            waiting[rank(zone)].push((name, peer));
        }
        waiting.iter_mut().for_each(|zone| zone.sort_unstable_by(|this, that| that.cmp(this)));
        // A scenario puts node i into zone i modulo the number of zones.
        let mut indices = BTreeMap::new();
        let mut elsewhere = 0;
        for index in 0..all.len() {
            let wanted = index % waiting.len();
            let fullest = (0..waiting.len()).max_by_key(|zone| waiting[*zone].len()).unwrap_or(0);
            let zone = if waiting[wanted].is_empty() { fullest } else { wanted };
            elsewhere += usize::from(zone != wanted);
            if let Some((_, peer)) = waiting[zone].pop() {
                indices.insert(peer.clone(), index);
            }
        }
        let recorded: BTreeSet<_> = history.lives.iter().map(|life| &life.peer).collect();
        let (recorded, nodes) = (recorded.len(), all.len());
        comments.push(format!("nodes: the {nodes} of the membership views and journals; {recorded} have a journal"));
        if elsewhere > 0 {
            comments.push(format!("zones have different sizes: {elsewhere} nodes are in another zone here"));
        }
        let zone_of = all.iter().map(|(peer, (_, zone))| (peer.clone(), rank(zone))).collect();
        Self { indices, zones, zone_of, recorded, nodes }
    }

    /// The number of a peer in the scenario.
    pub(super) fn index(&self, peer: &PeerId) -> Option<usize> {
        self.indices.get(peer).copied()
    }

    pub(super) fn cluster(&self, history: &History<'_>, watch: &Watch, comments: &mut Comments) -> Cluster {
        let mut cluster = Cluster { nodes: self.nodes, ..Cluster::default() };
        if !self.zones.is_empty() {
            cluster.zones = self.zones.len();
            cluster.zones_known = true;
        }
        let (mut near, mut far) = (Vec::new(), Vec::new());
        for ((from, to), link) in &history.links.links {
            let zone = |peer: u32| self.zone_of.get(history.peers.peer(peer));
            if link.arrived > 0 {
                let group = if zone(*from) == zone(*to) { &mut near } else { &mut far };
                group.push(link.fastest.max(1));
            }
        }
        let median = |all: &mut Vec<i64>| {
            all.sort_unstable();
            all.get(all.len() / 2).copied()
        };
        if let Some(middle) = median(&mut near).or(median(&mut far)) {
            // Latencies of a scenario lie between one and two times the figure.
            cluster.latency = span((middle * 2 / 3).max(1));
            comments.push(format!("latency: the fastest message of each of {} links", near.len() + far.len()));
            if let (false, Some(across)) = (near.is_empty(), median(&mut far)) {
                cluster.cross_zone_latency = span(across - middle);
            }
        } else {
            comments.push("latency: no message has both ends in a journal; the default".into());
        }
        let rates = [&watch.from_peers, &watch.to_peers].map(|bytes| of_each_life(history, bytes));
        let with_origin: Vec<Bytes> = watch.from_peers.iter().chain(&watch.from_origin).copied().collect();
        let fastest = rates.into_iter().flatten().chain(of_each_life(history, &with_origin)).max();
        match fastest {
            Some(rate) => {
                cluster.node_rate = Rate(rate);
                comments.push("node-rate: the busiest quarter of a second of the busiest node".into());
            }
            None => comments.push("node-rate: too little was moved to tell; the default".into()),
        }
        let ahead: Vec<i64> = (0..history.lives.len()).map(|life| history.clocks.ahead(life)).collect();
        let spread = ahead.iter().max().unwrap_or(&0) - ahead.iter().min().unwrap_or(&0);
        if spread > history.clocks.uncertainty.max(1000) {
            cluster.clock_offset = span(spread);
            comments.push("clock-offset: by how much clocks differ, as messages between nodes tell".into());
        }
        cluster
    }
}

/// The busiest time of each life.
fn of_each_life(history: &History<'_>, bytes: &[Bytes]) -> Vec<u64> {
    let mut lives: BTreeMap<u32, Vec<(i64, u64)>> = BTreeMap::new();
    for Bytes { at: (life, time), bytes } in bytes {
        lives.entry(*life).or_default().push((history.clocks.common(*life as usize, *time), *bytes));
    }
    lives.into_values().filter_map(busiest).collect()
}

/// Bytes per second in the busiest quarter of a second.
fn busiest(mut bytes: Vec<(i64, u64)>) -> Option<u64> {
    bytes.sort_unstable();
    let whole = bytes.last()?.0 - bytes.first()?.0;
    if whole < BUSY_AT_LEAST {
        return None;
    }
    let length = BUSY.min(whole);
    let (mut best, mut sum, mut first) = (0, 0, 0);
    for last in 0..bytes.len() {
        sum += bytes[last].1;
        // What came at the first moment was on its way before.
        while first + 1 < last && bytes[last].0 - bytes[first + 1].0 >= length {
            sum -= bytes[first].1;
            first += 1;
        }
        let took = bytes[last].0 - bytes[first].0;
        if took >= length {
            best = best.max((sum - bytes[first].1) * 1_000_000 / took.cast_unsigned());
        }
    }
    (best > 0).then_some(best)
}

/// The registry.
pub(super) fn origin(history: &History<'_>, watch: &Watch, comments: &mut Comments) -> OriginSpec {
    let mut origin = OriginSpec::default();
    let common = |bytes: &Bytes| (history.clocks.common(bytes.at.0 as usize, bytes.at.1), bytes.bytes);
    match busiest(watch.from_origin.iter().map(common).collect()) {
        Some(rate) => {
            origin.rate = Rate(rate);
            comments.push(
                "origin.rate: the busiest quarter of a second of all nodes together; it may be able to do more".into(),
            );
        }
        None => comments.push("origin.rate: too little came from it to tell; the default".into()),
    }
    if let Some(least) = watch.waits.iter().min() {
        let latencies = history.links.latencies();
        let usual = latencies.get(latencies.len() / 2).copied().unwrap_or(0);
        origin.latency = span((*least as i64 / 2 - usual).max(0));
        comments.push("origin.latency: half of the shortest wait for an answer, less that of the cluster".into());
    }
    let refused =
        |(_, answer): &(_, Answer)| matches!(answer, Answer::Failed(failure) if failure.class == FailureClass::Auth);
    if watch.answers.iter().any(refused) {
        origin.private = true;
        let asked: BTreeSet<u32> = watch.asked.keys().map(|(_, life)| *life).collect();
        origin.credentials_per_million = (watch.credentials.len() * 1_000_000 / asked.len().max(1)) as u32;
        comments.push("origin.private: it wanted credentials; so many nodes were given one".into());
    }
    origin
}

/// Settings that differ from the defaults.
pub(super) fn knobs(lives: &[Life], comments: &mut Comments) -> Knobs {
    let configs: Vec<&Config> =
        lives.iter().filter_map(|life| life.journals.first()).map(|journal| &journal.header.config).collect();
    let Some(first) = configs.first() else { return Knobs::default() };
    let usual = Config::new(&first.name, first.peer.clone());
    let mut different = Vec::new();
    let mut knobs = Knobs::default();
    macro_rules! settings {
        ($($setting:ident => $convert:expr),* $(,)?) => {$(
            let mut values: Vec<_> = configs.iter().map(|config| config.$setting).collect();
            if values.iter().any(|value| *value != values[0]) {
                different.push(stringify!($setting));
            }
            values.sort_unstable();
            // Where nodes differ, the one in the middle stands for all.
            let value = values[values.len() / 2];
            knobs.$setting = (value != usual.$setting).then(|| $convert(value));
        )*};
    }
    let same = |value: u32| value;
    settings! {
        probe_width => same,
        call_timeout => Span,
        max_streams => same,
        max_running_flights => same,
        max_admitted_flights => same,
        no_progress_timeout => Span,
        header_timeout => Span,
        body_timeout => Span,
        prefetch => |value: bool| value,
        max_uploads => same,
        max_downloads => same,
        max_origin_fetches => same,
        max_assignments => same,
    }
    knobs.store_cap = first.store_cap_bytes.map(Size);
    knobs.zone_scope = (first.scope == Scope::Zone).then_some(true);
    comments.push("knobs: from the journals' headers".into());
    if !different.is_empty() {
        comments.push(format!("nodes differ in {}: the middle value stands for all", different.join(", ")));
    }
    if first.handshake_timeout != usual.handshake_timeout
        || first.reconcile_interval != usual.reconcile_interval
        || first.authorization != usual.authorization
        || first.auth_check != usual.auth_check
    {
        comments.push("not taken over: handshake_timeout, reconcile_interval, authorization and auth_check".into());
    }
    knobs
}

/// A duration, for those that the scenario language rounds up.
pub(super) const fn at_least_a_second(micros: i64) -> Span {
    Span(Duration::from_micros(if micros < 1_000_000 { 1_000_000 } else { micros as u64 }))
}

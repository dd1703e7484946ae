//! The cascade: from "this digest is missing" to a tracker to follow, the lead, or a clear failure.
//!
//! The best-ranked nodes are probed once; then seven rules look at the answers in this order, and the first that fits
//! decides. A node that has the blob ends the wait for slower answers, and counts for more than one that failed (rule 2
//! before rule 1): a copy that exists is of use whatever the origin told somebody. The rules and limits are Gantry's, with
//! three of its flaws mended: a puller found stale is not asked again by rule 7; how stale a pull is goes by its last byte,
//! not by its age, where the responder says so; and there is an outcome when nobody can be reached: lead.

use core::time::Duration;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::message::{FailureClass, PullIntent, PullOutcome, RecentFailure};
use crate::names::{Kind, PeerId};

/// A manifest's pull without a new byte for this long is stale (Gantry: 5 s).
pub const MANIFEST_STALL: Duration = Duration::from_secs(5);
/// A blob's pull is expected to take at least this long (Gantry: 10 s)...
pub const BLOB_EXPECTED: Duration = Duration::from_secs(10);
/// ... and to run at least this fast, in bytes per second (Gantry: 50 MiB/s);
pub const BLOB_RATE: u64 = 50 * 1024 * 1024;
/// it is stale after this many times what is expected (Gantry: 3).
pub const STALL_FACTOR: u32 = 3;
/// The second pass probes this many times as many nodes (Gantry: 2).
pub const EXPANSION: usize = 2;
/// Below this share of answered calls the view is not trusted and the second pass is run (Gantry: 0.7).
pub const HEALTHY: f64 = 0.7;
/// A node that ranks itself best waits this long for the others' probes: nobody with a better rank is missing.
pub const PROBE_GRACE: Duration = Duration::from_millis(300);

/// How long a pull may go without a byte before it counts as stale.
#[must_use]
pub fn stall_window(kind: Kind, size: Option<u64>) -> Duration {
    match kind {
        Kind::Manifest => MANIFEST_STALL,
        Kind::Config | Kind::Blob => {
            let expected = Duration::from_secs(size.unwrap_or(0) / BLOB_RATE).max(BLOB_EXPECTED);
            expected * STALL_FACTOR
        }
    }
}

/// Which rule decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rule {
    /// 1: a reachable node failed, and the origin would answer everybody the same.
    FailedElsewhere,
    /// 2: a node has it.
    Cached,
    /// 3: a node is pulling it, and the pull moves.
    InFlight,
    /// 4: a node failed for a passing reason: wait with it.
    CoolingDown,
    /// 5: nobody answered: ask more nodes, once.
    AllUnreachable,
    /// 6: few calls are answered: ask more nodes, once.
    Unhealthy,
    /// 7: ask the best-ranked reachable node to pull.
    AskToPull,
    /// The provider index knows somebody.
    Provider,
}

impl Rule {
    /// The name in logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FailedElsewhere => "rule 1, failed elsewhere",
            Self::Cached => "rule 2, cached",
            Self::InFlight => "rule 3, in flight",
            Self::CoolingDown => "rule 4, cooling down",
            Self::AllUnreachable => "rule 5, all unreachable",
            Self::Unhealthy => "rule 6, unhealthy",
            Self::AskToPull => "rule 7, please pull",
            Self::Provider => "provider index",
        }
    }
}

/// What the cascade wants done next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Answers are missing.
    Wait,
    /// Probe these.
    Probe(Vec<PeerId>),
    /// Ask this node to pull.
    AskToPull(PeerId),
    /// The cascade is over.
    Decided(Rule, Outcome),
}

/// How a cascade ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Enrol at the first of these; the others are sources as well.
    Follow(Vec<PeerId>),
    /// This node pulls and leads.
    Lead,
    /// The origin said no to somebody, and would say it to us.
    Fail(RecentFailure),
    /// Somebody could not get it, for whatever reason, and leaves the digest alone for this long.
    CoolDown(Duration),
}

/// What this node knows about its own situation when a cascade starts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Situation {
    /// This node.
    pub own: PeerId,
    /// What this node would answer to a probe; and if it could not get it from the origin lately, that it could not: nobody pulls
    /// then before the origin was asked again.
    pub own_intent: PullIntent,
    /// Candidates, best first, this node among them if it is one; enough for two passes.
    pub ranked: Vec<PeerId>,
    /// All of the best-ranked nodes, also those that are passed over now: what ranks are compared by.
    pub best: Vec<PeerId>,
    /// How many are probed in the first pass.
    pub width: usize,
    /// How long a pull may go without a byte.
    pub stall: Duration,
    /// Whether the requester has a credential of its own: then another node's authentication failure says nothing.
    pub has_credential: bool,
    /// Whether the origin has been asked and has it: then it does not count what it said to others, or that they could not get it.
    /// (Whoever cools down declines to pull.)
    pub origin_has_it: bool,
    /// Share of recent calls that were answered, 0 to 1.
    pub health: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Answer {
    Pending,
    Unreachable,
    Intent(PullIntent),
    /// It has been asked to pull and declined, or its pull is stale.
    Excluded,
}

/// One run of the cascade for one digest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cascade {
    situation: Situation,
    answers: BTreeMap<usize, Answer>,
    probed: usize,
    expansion: Option<Rule>,
    asked: Option<PeerId>,
    providers: Vec<PeerId>,
    takeovers: u32,
}

impl Cascade {
    /// Starts a cascade. Call [`step`](Self::step) next.
    #[must_use]
    pub fn new(situation: Situation) -> Self {
        Self {
            situation,
            answers: BTreeMap::new(),
            probed: 0,
            expansion: None,
            asked: None,
            providers: Vec::new(),
            takeovers: 0,
        }
    }

    /// How many pullers were passed over as stale.
    #[must_use]
    pub fn takeovers(&self) -> u32 {
        self.takeovers
    }

    /// The rule that made the second pass run, if it was.
    #[must_use]
    pub fn expansion(&self) -> Option<Rule> {
        self.expansion
    }

    /// Our rank for a peer that was probed.
    #[must_use]
    pub fn rank_of(&self, peer: &PeerId) -> Option<u32> {
        self.situation.best.iter().position(|ranked| ranked == peer).map(|rank| rank as u32)
    }

    /// Whether this node ranks best among the candidates.
    #[must_use]
    pub fn ranks_self_best(&self) -> bool {
        self.situation.ranked.first().is_none_or(|best| *best == self.situation.own)
    }

    /// A probe was answered.
    pub fn answered(&mut self, peer: &PeerId, intent: PullIntent) {
        if let Some(slot) = self.slot(peer)
            && matches!(slot, Answer::Pending | Answer::Unreachable)
        {
            *slot = Answer::Intent(intent);
        }
    }

    /// A probe failed or timed out.
    pub fn unreachable(&mut self, peer: &PeerId) {
        if let Some(slot) = self.slot(peer)
            && matches!(slot, Answer::Pending)
        {
            *slot = Answer::Unreachable;
        }
    }

    /// The grace is over: what is missing counts as unreachable, if this node ranks best.
    pub fn grace_over(&mut self) {
        if self.ranks_self_best() {
            for answer in self.answers.values_mut() {
                if matches!(answer, Answer::Pending) {
                    *answer = Answer::Unreachable;
                }
            }
        }
    }

    /// The provider index named these.
    pub fn provided(&mut self, peers: Vec<PeerId>) {
        self.providers = peers;
    }

    /// A node that was asked to pull answered, or did not (`None`).
    pub fn asked(&mut self, peer: &PeerId, outcome: Option<PullOutcome>) -> Step {
        if self.asked.as_ref() != Some(peer) {
            return Step::Wait;
        }
        self.asked = None;
        match outcome {
            Some(PullOutcome::Started | PullOutcome::AlreadyPulling(_)) => {
                return Step::Decided(Rule::AskToPull, Outcome::Follow(vec![peer.clone()]));
            }
            Some(PullOutcome::RecentlyFailed(failure)) => {
                if self.situation.has_credential && failure.class == FailureClass::Auth {
                    // It has no credential; we have one, and it can still lead.
                    return Step::Decided(Rule::AskToPull, Outcome::Follow(vec![peer.clone()]));
                }
                if failure.class.is_trusted() && !self.situation.origin_has_it {
                    return Step::Decided(Rule::FailedElsewhere, Outcome::Fail(failure));
                }
                let cools_down = !failure.class.is_trusted() && failure.cooldown > Duration::ZERO;
                if cools_down && !self.situation.origin_has_it {
                    return Step::Decided(Rule::CoolingDown, Outcome::CoolDown(failure.cooldown));
                }
            }
            Some(PullOutcome::Declined | PullOutcome::StaleChair) | None => {}
        }
        // Too busy, or gone since the probe: the next in rank is asked.
        if let Some(slot) = self.slot(peer)
            && !mutant!("refusing-node-asked-again")
        {
            *slot = Answer::Excluded;
        }
        self.step()
    }

    fn slot(&mut self, peer: &PeerId) -> Option<&mut Answer> {
        let rank = self.situation.ranked.iter().position(|ranked| ranked == peer)?;
        self.answers.get_mut(&rank)
    }

    /// Applies the rules to what is known.
    pub fn step(&mut self) -> Step {
        if self.asked.is_some() {
            return Step::Wait;
        }
        if self.probed == 0 {
            let wave = self.wave(self.situation.width.max(1));
            if !wave.is_empty() {
                return Step::Probe(wave);
            }
        }
        let pending = self.answers.values().any(|answer| matches!(answer, Answer::Pending));
        if let Some((rule, outcome)) = self.early() {
            return Step::Decided(rule, outcome);
        }
        if pending && !mutant!("answers-not-awaited") { Step::Wait } else { self.decide() }
    }

    /// Adds the candidates up to `width` to the probed ones; returns those to send a probe to.
    fn wave(&mut self, width: usize) -> Vec<PeerId> {
        let end = width.min(self.situation.ranked.len());
        let mut wave = Vec::new();
        for rank in self.probed + usize::from(mutant!("best-rank-never-probed"))..end {
            let peer = &self.situation.ranked[rank];
            if *peer == self.situation.own {
                self.answers.insert(rank, Answer::Intent(self.situation.own_intent.clone()));
            } else {
                self.answers.insert(rank, Answer::Pending);
                wave.push(peer.clone());
            }
        }
        self.probed = self.probed.max(end);
        wave
    }

    fn intents(&self) -> impl Iterator<Item = (&PeerId, &PullIntent)> {
        self.answers.iter().filter_map(|(rank, answer)| match answer {
            Answer::Intent(intent) => Some((&self.situation.ranked[*rank], intent)),
            _ => None,
        })
    }

    fn others(&self) -> impl Iterator<Item = (&PeerId, &PullIntent)> {
        self.intents().filter(|(peer, _)| **peer != self.situation.own)
    }

    /// Rules 1 and 2, and the provider index: these need not wait for the missing answers.
    fn early(&self) -> Option<(Rule, Outcome)> {
        let failed = self.others().find_map(|(_, intent)| {
            intent.recently_failed.filter(|failure| {
                failure.class.is_trusted() && !(self.situation.has_credential && failure.class == FailureClass::Auth)
            })
        });
        let own = self.situation.own_intent.recently_failed.filter(|failure| failure.class == FailureClass::NotFound);
        let failed = failed.or(own).filter(|_| !self.situation.origin_has_it);
        let cached: Vec<_> =
            self.others().filter(|(_, intent)| intent.has_cached).map(|(peer, _)| peer.clone()).collect();
        // A copy that exists is of more use than the news that somebody could not get one.
        if !cached.is_empty() {
            return Some((Rule::Cached, Outcome::Follow(cached)));
        }
        if let Some(failure) = failed {
            return Some((Rule::FailedElsewhere, Outcome::Fail(failure)));
        }
        (!self.providers.is_empty()).then(|| (Rule::Provider, Outcome::Follow(self.providers.clone())))
    }

    /// Rules 3 to 7, once all answers are in.
    fn decide(&mut self) -> Step {
        let stall = self.situation.stall;
        let moving =
            |intent: &PullIntent| intent.in_flight_for.is_some_and(|age| intent.idle_for.unwrap_or(age) <= stall);
        let in_flight: Vec<_> =
            self.others().filter(|(_, intent)| moving(intent)).map(|(peer, _)| peer.clone()).collect();
        if !in_flight.is_empty() {
            return Step::Decided(Rule::InFlight, Outcome::Follow(in_flight));
        }
        let stale: Vec<_> =
            self.others().filter(|(_, intent)| intent.in_flight_for.is_some()).map(|(peer, _)| peer.clone()).collect();
        for peer in stale {
            self.takeovers += 1;
            if let Some(slot) = self.slot(&peer) {
                *slot = Answer::Excluded;
            }
        }
        let cooldown = self
            .others()
            .filter_map(|(_, intent)| intent.recently_failed)
            .filter(|failure| !failure.class.is_trusted())
            // Who was told that it cannot be had looks for others who have it, or pull it, before the origin is asked.
            .chain(self.situation.own_intent.recently_failed)
            .filter(|_| !self.situation.origin_has_it);
        if let Some(cooldown) = cooldown.map(|failure| failure.cooldown).max().filter(|length| !length.is_zero()) {
            return Step::Decided(Rule::CoolingDown, Outcome::CoolDown(cooldown));
        }
        if self.expansion.is_none() && self.probed < self.situation.ranked.len() {
            // This node counts: it can reach itself.
            let alone = self.intents().next().is_none();
            if alone || self.situation.health < HEALTHY {
                self.expansion = Some(if alone { Rule::AllUnreachable } else { Rule::Unhealthy });
                let wave = self.wave(self.situation.width.max(1) * EXPANSION);
                if !wave.is_empty() {
                    return Step::Probe(wave);
                }
            }
        }
        let best = self.intents().next().map(|(peer, _)| peer.clone());
        match best {
            Some(best) if best != self.situation.own => {
                self.asked = Some(best.clone());
                Step::AskToPull(best)
            }
            // This node is the best that can be reached, or it can reach nobody: it pulls.
            Some(_) => Step::Decided(Rule::AskToPull, Outcome::Lead),
            None => Step::Decided(Rule::AllUnreachable, Outcome::Lead),
        }
    }
}

#[cfg(test)]
mod tests;

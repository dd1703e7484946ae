//! Looks over every agent's shoulder: what goes in, what comes out, and whether the two fit together.
//!
//! The rules themselves are in [`invariants`](crate::invariants), one file each, with what each has to remember; here is who
//! gets to see what. All of it is cheap: it runs at every step of a thousand agents.

mod transfers;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longshore_core::config::Config;
use longshore_core::digest::Digest;
use longshore_core::input::{Input, TransferEvent, TransferFailure};
use longshore_core::message::Request;
use longshore_core::names::{OpId, PeerId};
use longshore_core::output::{Explanation, Output};
use longshore_core::time::Time;

use crate::invariants::{
    Invariant, announced, answered_once, asked_politely, come_back_later, consistent, cooldowns, credentials,
    kept_word, limits, no_ghosts, one_question, patience, right_blame, told_at_all, told_once, withdrawn,
};
use crate::world::{NodeIndex, World};
pub(crate) use transfers::{Transfer, Transfers};

/// After so many inputs of all agents one is looked into: in a small cluster, and in a large one. Primes, so that clusters that go
/// in step are not always looked into at the same place.
const LOOK_INSIDE: (u64, u64) = (7, 1021);
/// Of those times, this many pass before what its neighbours were told is compared as well, piece by piece.
const COMPARE: u64 = 13;
/// Up to here a cluster is small.
const SMALL: usize = 64;

/// The input that an agent is handling, as far as rules judge by it what it leads to. There is one for all agents: none
/// handles an input before another one is done.
#[derive(Debug, Default)]
pub(crate) struct Occasion {
    /// What is happening is that time passes.
    pub(crate) by_the_clock: bool,
    /// A run has come that was cut off: the rest of it is fetched by whoever was given it, without another word.
    pub(crate) is_rest: bool,
    /// What the origin's failure asks for.
    pub(crate) retry_after: Option<Duration>,
    /// What a peer asks about.
    pub(crate) asked: Option<Digest>,
    /// A peer that has sent a piece which contradicts the sum that came with it.
    pub(crate) guilty: Option<PeerId>,
    /// A peer was told that a flight begins.
    pub(crate) admits: bool,
    /// Blobs whose flight has ended.
    pub(crate) ended: Vec<Digest>,
    /// Swarms that it has begun to lead.
    leads: Vec<Digest>,
    /// What the origin was asked.
    pub(crate) asked_origin: Vec<one_question::Asked>,
    /// The origin has answered what it was asked for a request.
    pub(crate) answers_request: bool,
    pub(crate) patience: patience::Memory,
}

impl Occasion {
    fn begin(&mut self, input: &Input) {
        self.by_the_clock = matches!(input, Input::Tick);
        self.asked_origin.clear();
        self.answers_request = false;
        self.is_rest = matches!(input, Input::Transfer { event: TransferEvent::Done, .. });
        self.retry_after = match input {
            Input::Transfer { event: TransferEvent::Failed(TransferFailure::Origin(failure)), .. }
            | Input::OriginStat { result: Err(failure), .. } => failure.retry_after,
            _ => None,
        };
        self.asked = match input {
            Input::StreamRequest { request: Request::PullIntent { digest, .. }, .. } => Some(*digest),
            _ => None,
        };
    }
}

/// A broken rule, and how.
pub(crate) type Broken = (&'static Invariant, String);

/// What a rule gets to see besides inputs and outputs.
pub(crate) struct Scene<'a> {
    /// By the agent's own clock, which may run fast, slow, or not at all.
    pub(crate) now: Time,
    /// By the world's.
    pub(crate) world_now: Time,
    pub(crate) config: &'a Config,
    /// Somebody in the cluster, or the origin, has sent wrong bytes or lied at some time.
    pub(crate) lies: bool,
    pub(crate) occasion: &'a mut Occasion,
    /// What its drivers fetch, with what begins now and without what ends now.
    pub(crate) transfers: &'a Transfers,
    /// The transfer that ends now.
    pub(crate) over: Option<&'a Transfer>,
    pub(crate) broken: &'a mut Vec<Broken>,
}

impl Scene<'_> {
    pub(crate) fn violate(&mut self, rule: &'static Invariant, detail: String) {
        self.broken.push((rule, detail));
    }
}

/// What rules remember that cost more than others.
#[derive(Debug, Default)]
struct Closely {
    told: told_once::Memory,
    told_at_all: told_at_all::Memory,
    word: kept_word::Memory,
}

/// What the rules remember of one agent's life. In the order of memory: what most inputs look at comes first.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Watched {
    transfers: Transfers,
    limits: limits::Memory,
    manners: asked_politely::Memory,
    later: come_back_later::Memory,
    answers: answered_once::Memory,
    cooldowns: cooldowns::Memory,
    credentials: credentials::Memory,
    announced: announced::Memory,
    questions: one_question::Memory,
    withdrawn: withdrawn::Memory,
    /// Only where all rules are looked at.
    close: Option<Box<Closely>>,
    /// A swarm that it has led, although others rank before it.
    lesser_lead: Option<(Digest, u32)>,
    /// Since when it has the members that it has.
    view_since: Time,
    /// Since when it has been asking others about a blob.
    asks_since: BTreeMap<Digest, Time>,
    config: Config,
}

impl Watched {
    pub(crate) fn new(config: Config, all_rules: bool) -> Self {
        Self {
            transfers: Default::default(),
            limits: Default::default(),
            manners: Default::default(),
            later: Default::default(),
            answers: Default::default(),
            cooldowns: Default::default(),
            credentials: Default::default(),
            announced: Default::default(),
            questions: Default::default(),
            withdrawn: Default::default(),
            close: all_rules.then(Default::default),
            lesser_lead: None,
            view_since: Time::ZERO,
            asks_since: BTreeMap::new(),
            config,
        }
    }

    fn input(
        &mut self,
        (now, world_now): (Time, Time),
        lies: bool,
        occasion: &mut Occasion,
        input: &Input,
    ) -> Vec<Broken> {
        let mut broken = Vec::new();
        let over = self.transfers.input(now, input);
        let (config, transfers, over) = (&self.config, &self.transfers, over.as_ref());
        let scene = &mut Scene { now, world_now, config, lies, occasion, transfers, over, broken: &mut broken };
        if matches!(input, Input::Members(_)) {
            self.view_since = world_now;
        }
        self.answers.input(scene, input);
        self.manners.input(scene, input);
        self.limits.input(scene, input);
        self.later.input(scene, input);
        self.cooldowns.input(now, input);
        credentials::input(&mut self.credentials, input);
        one_question::input(scene.occasion, &mut self.questions, now, input);
        if let Some(close) = &mut self.close {
            close.told.input(input);
            close.word.input(input);
        }
        broken
    }

    fn output(
        &mut self,
        (now, world_now): (Time, Time),
        lies: bool,
        occasion: &mut Occasion,
        output: &Output,
    ) -> Vec<Broken> {
        let mut broken = Vec::new();
        let over = self.transfers.output(now, output);
        let (config, transfers, over) = (&self.config, &self.transfers, over.as_ref());
        let scene = &mut Scene { now, world_now, config, lies, occasion, transfers, over, broken: &mut broken };
        if let Output::Explain(Explanation::Failed { digest, .. } | Explanation::Completed { digest, .. }) = output {
            scene.occasion.ended.push(*digest);
            self.asks_since.remove(digest);
        }
        if let Output::Explain(Explanation::Resolved { digest, .. }) = output {
            self.asks_since.remove(digest);
        }
        if let Output::Call { request: Request::PullIntent { digest, .. }, .. } = output {
            self.asks_since.entry(*digest).or_insert(world_now);
        }
        if let Output::Explain(Explanation::Leading { digest }) = output {
            scene.occasion.leads.push(*digest);
        }
        // What was refused or cut short is judged by what was known before this input.
        self.answers.output(scene, output, &self.cooldowns);
        self.manners.output(scene, output);
        self.cooldowns.output(scene, output);
        if let Output::MirrorAbort { request } = output
            && let Some(digest) = self.answers.digest_of(*request)
        {
            self.cooldowns.cut_short(now, digest);
        }
        self.limits.output(scene, output);
        patience::output(scene, output);
        self.later.output(scene, output);
        self.announced.output(scene, output);
        self.withdrawn.output(scene, output, &self.answers);
        one_question::output(scene.occasion, output);
        if let Some(close) = &mut self.close {
            close.word.output(scene, output, &close.told);
            close.told.output(scene, output, self.limits.uploads(), self.limits.most_uploads(scene.config));
            close.told_at_all.output(output);
        }
        broken
    }
}

impl World {
    /// From the beginning on, all rules are looked at, also those that cost more; the first broken one ends the run.
    pub(crate) fn look_at_all_rules(&mut self) {
        self.strict = true;
        for watched in self.watched.iter_mut().flatten() {
            watched.close = Some(Default::default());
        }
    }

    /// A node's agent begins a new life.
    pub(crate) fn watch_start(&mut self, node: NodeIndex, config: &Config) {
        if self.watched.len() <= node {
            self.watched.resize_with(node + 1, || None);
        }
        self.watched[node] = Some(Watched::new(config.clone(), self.strict));
    }

    #[inline]
    fn report_broken(&mut self, node: NodeIndex, broken: Vec<Broken>) {
        for (rule, detail) in broken {
            self.violate(rule, node, &detail);
        }
    }

    pub(crate) fn watch_input(&mut self, node: NodeIndex, input: &Input) {
        self.inputs += 1;
        self.occasion.begin(input);
        if let Input::Transfer { op, event } = input {
            self.occasion.guilty = self.guilty(node, *op, event);
        }
        let (now, lies) = ((self.clock_of(node), self.now()), self.is_lied_to());
        let Some(Some(watched)) = self.watched.get_mut(node) else { return };
        let broken = watched.input(now, lies, &mut self.occasion, input);
        self.report_broken(node, broken);
    }

    pub(crate) fn watch_output(&mut self, node: NodeIndex, output: &Output) {
        let (now, lies) = ((self.clock_of(node), self.now()), self.is_lied_to());
        let Some(Some(watched)) = self.watched.get_mut(node) else { return };
        let broken = watched.output(now, lies, &mut self.occasion, output);
        self.report_broken(node, broken);
        self.watch_credentials(node, output);
        self.watch_blame(node, output);
        self.watch_ranks(node, output);
    }

    /// A swarm that a node has led although others rank before it, and its rank.
    pub(crate) fn lesser_lead(&self, node: NodeIndex) -> Option<(Digest, u32)> {
        self.watched.get(node)?.as_ref()?.lesser_lead
    }

    /// All that an input led to has been carried out.
    pub(crate) fn watch_settled(&mut self, node: NodeIndex) {
        let every = if self.watched.len() <= SMALL { LOOK_INSIDE.0 } else { LOOK_INSIDE.1 };
        let look = self.inputs.is_multiple_of(every);
        let mut broken = Vec::new();
        right_blame::settled(&mut self.occasion, &mut broken);
        patience::settled(&mut self.occasion, &mut broken);
        let admits = std::mem::take(&mut self.occasion.admits);
        let (ended, leads) = (std::mem::take(&mut self.occasion.ended), std::mem::take(&mut self.occasion.leads));
        if !ended.is_empty() || !self.occasion.asked_origin.is_empty() {
            let flying: BTreeSet<Digest> =
                self.agent(node).map(|agent| agent.flying().copied().collect()).unwrap_or_default();
            let now = self.clock_of(node);
            let over: Vec<_> = ended.into_iter().filter(|digest| !flying.contains(digest)).collect();
            if let Some(Some(watched)) = self.watched.get_mut(node) {
                no_ghosts::check(&watched.transfers, &over, &mut broken);
                watched.questions.settled(now, &mut self.occasion, |digest| flying.contains(digest), &mut broken);
            }
        }
        if admits && let Some(agent) = self.agent(node) {
            limits::check_admission(agent, &mut broken);
        }
        for digest in leads {
            let rank = self.agent(node).and_then(|agent| agent.own_rank(&digest)).filter(|rank| *rank > 0);
            if let (Some(rank), Some(Some(watched))) = (rank, self.watched.get_mut(node)) {
                watched.lesser_lead = Some((digest, rank));
            }
        }
        self.report_broken(node, broken);
        if look {
            self.look_inside(node);
        }
    }

    fn look_inside(&mut self, node: NodeIndex) {
        consistent::check_node(self, node);
        if !self.inputs.is_multiple_of(COMPARE) {
            return;
        }
        let close = self.watched.get(node).and_then(Option::as_ref).and_then(|watched| watched.close.as_ref());
        // Not after a lie: who has lost what it had to one has said that it had it, and was not told of it.
        if let (Some(agent), Some(close), false) = (self.agent(node), close, self.is_lied_to()) {
            let mut broken = Vec::new();
            close.told_at_all.check(agent, &mut broken);
            self.report_broken(node, broken);
        }
    }

    /// How a node is configured.
    pub(crate) fn watched_config(&self, node: NodeIndex) -> Option<&Config> {
        self.watched.get(node)?.as_ref().map(|watched| &watched.config)
    }

    /// For how long two nodes have had the same view; not at all, if they have not.
    pub(crate) fn same_view_for(&self, one: NodeIndex, other: NodeIndex) -> Duration {
        let since = |node: NodeIndex| self.watched.get(node)?.as_ref().map(|watched| watched.view_since);
        let (Some(left), Some(right)) = (since(one), since(other)) else { return Duration::ZERO };
        // What is cheap comes first: views of a thousand members are compared only where both are old.
        let length = self.now() - left.max(right);
        if !length.is_zero() && self.see_the_same(one, other) { length } else { Duration::ZERO }
    }

    /// For how long a node has been asking others about a blob.
    pub(crate) fn asks_for(&self, node: NodeIndex, digest: &Digest) -> Duration {
        let watched = self.watched.get(node).and_then(Option::as_ref);
        let since = watched.and_then(|watched| watched.asks_since.get(digest));
        since.map_or(Duration::ZERO, |since| self.now() - *since)
    }

    /// Whether one node has convicted another for a blob, in this life, and still means it.
    pub(crate) fn has_convicted(&self, node: NodeIndex, other: NodeIndex, digest: &Digest) -> bool {
        let watched = self.watched.get(node).and_then(Option::as_ref);
        watched.is_some_and(|watched| watched.manners.has_convicted(&self.peer(other), digest))
    }

    /// Whether a node asks the origin for as much at a time as it may.
    pub(crate) fn fills_its_share_of_the_origin(&self, node: NodeIndex) -> bool {
        let watched = self.watched.get(node).and_then(Option::as_ref);
        watched.is_some_and(|watched| watched.transfers.of_origin() >= watched.config.max_origin_fetches as usize)
    }

    /// What drivers still do for an agent that is quiet.
    pub(crate) fn still_driving(&self, node: NodeIndex) -> (usize, usize) {
        self.watched
            .get(node)
            .and_then(Option::as_ref)
            .map_or((0, 0), |watched| (watched.transfers.len(), watched.limits.uploads()))
    }

    /// The memory of one agent's credentials.
    pub(crate) fn watched_credentials(&mut self, node: NodeIndex) -> Option<&mut credentials::Memory> {
        self.watched.get_mut(node)?.as_mut().map(|watched| &mut watched.credentials)
    }

    /// A transfer that a node's drivers run.
    pub(crate) fn transfer(&self, node: NodeIndex, op: OpId) -> Option<&Transfer> {
        self.watched.get(node)?.as_ref()?.transfers.get(op)
    }
}

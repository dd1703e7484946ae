//! Looks over every agent's shoulder: what goes in, what comes out, and whether the two fit together.
//!
//! The rules themselves are in [`invariants`](crate::invariants), one file each, with what each has to remember; here is who
//! gets to see what. All of it is cheap: it runs at every step of a thousand agents.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longshore_core::config::Config;
use longshore_core::digest::Digest;
use longshore_core::input::Input;
use longshore_core::message::Request;
use longshore_core::output::{Explanation, Output};
use longshore_core::time::Time;

use crate::invariants::{
    Invariant, announced, answered_once, asked_politely, come_back_later, consistent, cooldowns, credentials, limits,
    no_ghosts, patience, right_blame, told_once,
};
use crate::world::{NodeIndex, World};

/// An agent of a small cluster is looked into after every so many inputs, one of a large cluster less often.
const LOOK_INSIDE: (u64, u64) = (8, 1024);
/// Up to here a cluster is small.
const SMALL: usize = 64;

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
    pub(crate) broken: &'a mut Vec<Broken>,
}

impl Scene<'_> {
    pub(crate) fn violate(&mut self, rule: &'static Invariant, detail: String) {
        self.broken.push((rule, detail));
    }
}

/// What the rules remember of one agent's life.
#[derive(Debug)]
pub(crate) struct Watched {
    config: Config,
    answers: answered_once::Memory,
    manners: asked_politely::Memory,
    cooldowns: cooldowns::Memory,
    credentials: credentials::Memory,
    limits: limits::Memory,
    blame: right_blame::Memory,
    patience: patience::Memory,
    later: come_back_later::Memory,
    announced: announced::Memory,
    /// Only where all rules are looked at.
    told: Option<Box<told_once::Memory>>,
    /// Swarms that it has begun to lead with the present input.
    leads: Vec<Digest>,
    /// A swarm that it has led, although others rank before it.
    lesser_lead: Option<(Digest, u32)>,
    /// Blobs whose flight has ended with the present input.
    ended: Vec<Digest>,
    inputs: u64,
    /// Since when it has the members that it has.
    view_since: Time,
    /// Since when it has been asking others about a blob.
    asks_since: BTreeMap<Digest, Time>,
}

impl Watched {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            answers: Default::default(),
            manners: Default::default(),
            cooldowns: Default::default(),
            credentials: Default::default(),
            limits: Default::default(),
            blame: Default::default(),
            patience: Default::default(),
            later: Default::default(),
            announced: Default::default(),
            told: None,
            leads: Vec::new(),
            lesser_lead: None,
            ended: Vec::new(),
            inputs: 0,
            view_since: Time::ZERO,
            asks_since: BTreeMap::new(),
        }
    }

    fn input(&mut self, (now, world_now): (Time, Time), lies: bool, input: &Input) -> Vec<Broken> {
        let mut broken = Vec::new();
        let scene = &mut Scene { now, world_now, config: &self.config, lies, broken: &mut broken };
        self.ended.clear();
        self.inputs += 1;
        if matches!(input, Input::Members(_)) {
            self.view_since = world_now;
        }
        self.answers.input(scene, input);
        self.manners.input(scene, input);
        self.cooldowns.input(scene, input);
        self.limits.input(input);
        self.patience.input(now, input);
        self.later.input(scene, input);
        if let Some(told) = &mut self.told {
            told.input(input);
        }
        broken
    }

    fn output(&mut self, (now, world_now): (Time, Time), lies: bool, output: &Output) -> Vec<Broken> {
        let mut broken = Vec::new();
        let scene = &mut Scene { now, world_now, config: &self.config, lies, broken: &mut broken };
        if let Output::Explain(Explanation::Failed { digest, .. } | Explanation::Completed { digest, .. }) = output {
            self.ended.push(*digest);
            self.asks_since.remove(digest);
        }
        if let Output::Explain(Explanation::Resolved { digest, .. }) = output {
            self.asks_since.remove(digest);
        }
        if let Output::Call { request: Request::PullIntent { digest }, .. } = output {
            self.asks_since.entry(*digest).or_insert(world_now);
        }
        if let Output::Explain(Explanation::Leading { digest }) = output {
            self.leads.push(*digest);
        }
        // What was refused or cut short is judged by what was known before this input.
        self.answers.output(scene, output, &self.cooldowns, &self.ended);
        self.manners.output(scene, output);
        self.cooldowns.output(scene, output);
        if let Output::MirrorAbort { request } = output
            && let Some(digest) = self.answers.digest_of(*request)
        {
            self.cooldowns.cut_short(now, digest);
        }
        self.limits.output(scene, output);
        self.patience.output(scene, output);
        self.later.output(scene, output);
        self.announced.output(scene, output);
        if let Some(told) = &mut self.told {
            told.output(scene, output, self.limits.under_way().1);
        }
        broken
    }
}

impl World {
    /// A node's agent begins a new life.
    pub(crate) fn watch_start(&mut self, node: NodeIndex, config: &Config) {
        if self.watched.len() <= node {
            self.watched.resize_with(node + 1, || None);
        }
        self.watched[node] = Some(Watched::new(config.clone()));
    }

    fn report_broken(&mut self, node: NodeIndex, broken: Vec<Broken>) {
        for (rule, detail) in broken {
            self.violate(rule, node, &detail);
        }
    }

    pub(crate) fn watch_input(&mut self, node: NodeIndex, input: &Input) {
        let (now, lies) = ((self.clock_of(node), self.now()), self.is_lied_to());
        let Some(Some(watched)) = self.watched.get_mut(node) else { return };
        if self.strict && watched.inputs == 0 {
            watched.told = Some(Default::default());
        }
        let mut broken = watched.input(now, lies, input);
        credentials::input(&mut watched.credentials, input);
        if let Input::Transfer { op, event } = input {
            let digest = watched.limits.transfers.get(op).map(|transfer| transfer.digest);
            let wrong = digest.is_some_and(|digest| self.is_wrong(node, &digest, event));
            if let Some(Some(watched)) = self.watched.get_mut(node) {
                watched.blame.wrong_piece_comes(&watched.limits, *op, wrong);
            }
        }
        if !broken.is_empty() {
            self.report_broken(node, std::mem::take(&mut broken));
        }
    }

    pub(crate) fn watch_output(&mut self, node: NodeIndex, output: &Output) {
        let (now, lies) = ((self.clock_of(node), self.now()), self.is_lied_to());
        let Some(Some(watched)) = self.watched.get_mut(node) else { return };
        let broken = watched.output(now, lies, output);
        if !broken.is_empty() {
            self.report_broken(node, broken);
        }
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
        let Some(Some(watched)) = self.watched.get_mut(node) else { return };
        let ended = std::mem::take(&mut watched.ended);
        let (leads, admits) = (std::mem::take(&mut watched.leads), watched.limits.takes_admission());
        let look = watched.inputs.is_multiple_of(every);
        let mut broken = Vec::new();
        watched.blame.settled(&mut broken);
        watched.patience.settled(&ended, &mut broken);
        if !ended.is_empty() {
            let flying: BTreeSet<Digest> =
                self.agent(node).map(|agent| agent.flying().copied().collect()).unwrap_or_default();
            let over: Vec<_> = ended.into_iter().filter(|digest| !flying.contains(digest)).collect();
            if let Some(Some(watched)) = self.watched.get(node) {
                no_ghosts::check(&watched.limits, &over, &mut broken);
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
            consistent::check_node(self, node);
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
        watched.is_some_and(|watched| watched.limits.origin_requests() >= watched.config.max_origin_fetches as usize)
    }

    /// What drivers still do for an agent that is quiet.
    pub(crate) fn still_driving(&self, node: NodeIndex) -> (usize, usize) {
        self.watched.get(node).and_then(Option::as_ref).map_or((0, 0), |watched| watched.limits.under_way())
    }

    /// The memory of one agent's credentials.
    pub(crate) fn watched_credentials(&mut self, node: NodeIndex) -> Option<&mut credentials::Memory> {
        self.watched.get_mut(node)?.as_mut().map(|watched| &mut watched.credentials)
    }

    /// The memory of whom one agent has to blame.
    pub(crate) fn watched_blame(&mut self, node: NodeIndex) -> Option<&mut right_blame::Memory> {
        self.watched.get_mut(node)?.as_mut().map(|watched| &mut watched.blame)
    }
}

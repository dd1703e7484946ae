//! Faults as they befell the cluster, and which of them may have had a hand in something.

use longshore_core::time::Time;

use super::event::{Event, EventId, What};
use super::{Cause, Record};
use crate::scenario::FaultSpec;
use crate::world::NodeIndex;

/// A fault that began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultRecord {
    /// Its place in the scenario.
    pub number: usize,
    /// The number of the cut that it makes, if it makes one.
    pub cut: u32,
    /// Its kind, as in the scenario.
    pub name: String,
    /// The same with its figures.
    pub words: String,
    /// Whom it befell; empty if everybody.
    pub nodes: Vec<NodeIndex>,
    /// The event with which it began.
    pub event: EventId,
    /// When it began.
    pub at: Time,
    /// When it ended, if it did.
    pub ended: Option<Time>,
}

impl FaultRecord {
    /// Whether it befell one of these nodes, or everybody.
    #[must_use]
    pub fn befalls(&self, nodes: &[NodeIndex]) -> bool {
        self.nodes.is_empty() || nodes.iter().any(|node| self.nodes.contains(node))
    }

    /// Whether it was on at any time between these.
    #[must_use]
    pub fn is_on_between(&self, from: Time, to: Time) -> bool {
        self.at <= to && self.ended.is_none_or(|ended| ended >= from)
    }
}

impl Record {
    /// A fault begins: its place in the scenario, and the number of the cut that it makes.
    pub(crate) fn fault_begins(&mut self, (number, cut): (usize, u32), fault: &FaultSpec, nodes: &[NodeIndex]) {
        let index = self.faults.len();
        let words = words(fault);
        let said = match nodes {
            [] => format!("fault: {words}"),
            nodes => format!("fault: {words}, {}", these(nodes)),
        };
        self.blame.current = None;
        let only = match nodes {
            [node] => Some(*node),
            _ => None,
        };
        let event = Event::new(self.now, only, What::FaultBegins).with_number(index as u32);
        let id = self.note(event, || said);
        for node in nodes {
            self.nodes[*node].faults.push(index);
        }
        if nodes.is_empty() {
            self.everywhere.push(index);
        }
        let (name, at) = (fault.what.name(), self.now);
        self.faults.push(FaultRecord { number, cut, name, words, nodes: nodes.to_vec(), event: id, at, ended: None });
    }

    pub(crate) fn fault_ends(&mut self, (number, cut): (usize, u32), nodes: &[NodeIndex]) {
        self.blame.current = None;
        let now = self.now;
        let ends = |fault: &&mut FaultRecord| {
            let same = fault.nodes == nodes || nodes.is_empty();
            (fault.number, fault.cut) == (number, cut) && fault.ended.is_none() && same
        };
        let Some(fault) = self.faults.iter_mut().find(ends) else { return };
        fault.ended = Some(now);
        let (cause, words) = (Cause { event: fault.event, output: None }, fault.words.clone());
        let event = Event::new(now, None, What::FaultEnds).with_number(number as u32).with_cause(Some(cause));
        self.note(event, || format!("over: {words}"));
    }

    pub(crate) fn heals(&mut self) {
        self.blame.current = None;
        let now = self.now;
        self.faults.iter_mut().for_each(|fault| fault.ended = fault.ended.or(Some(now)));
        self.note(Event::new(now, None, What::Heals), || "all faults end".to_owned());
    }

    /// A node that goes down while a fault without names begins is whom it befalls.
    pub(super) fn falls_to_fault(&mut self, node: NodeIndex) {
        let Some(last) = self.faults.len().checked_sub(1) else { return };
        let fault = &mut self.faults[last];
        if fault.at == self.now && fault.nodes.is_empty() && fault.name.starts_with("kill") {
            fault.nodes.push(node);
            self.nodes[node].faults.push(last);
            self.everywhere.retain(|index| *index != last);
        }
    }

    /// The last fault of these kinds that was on since `since` and befell everybody or one of `nodes`.
    pub(super) fn fault(&self, kinds: &str, since: Time, nodes: [Option<NodeIndex>; 2]) -> Option<EventId> {
        self.find(nodes, |fault| fault.name.starts_with(kinds) && fault.is_on_between(since, self.now))
    }

    /// What makes messages be lost that no cut stops.
    pub(super) fn loss(&self, nodes: [Option<NodeIndex>; 2]) -> Option<EventId> {
        self.find(nodes, |fault| {
            let loses = fault.name.ends_with("loss") && !fault.name.starts_with("informer");
            loses && fault.is_on_between(self.now, self.now)
        })
    }

    /// The fault that made this cut.
    pub(super) fn fault_of_cut(&self, cut: u32, nodes: [Option<NodeIndex>; 2]) -> Option<EventId> {
        self.find(nodes, |fault| fault.cut == cut && fault.is_on_between(self.now, self.now))
            .or_else(|| self.faults.iter().rev().find(|fault| fault.cut == cut).map(|fault| fault.event))
    }

    fn find(&self, nodes: [Option<NodeIndex>; 2], test: impl Fn(&FaultRecord) -> bool) -> Option<EventId> {
        let near = nodes.into_iter().flatten().flat_map(|node| self.nodes[node].faults.iter().rev());
        let found =
            near.chain(self.everywhere.iter().rev()).map(|index| &self.faults[*index]).find(|fault| test(fault));
        found.map(|fault| fault.event)
    }
}

/// Nodes in words: the first ones by name.
pub(crate) fn these(nodes: &[NodeIndex]) -> String {
    let some: Vec<_> = nodes.iter().take(6).map(ToString::to_string).collect();
    match nodes.len() {
        0 => "nobody".to_owned(),
        1 => format!("node {}", some[0]),
        count if count > some.len() => format!("{count} nodes ({}, ...)", some.join(", ")),
        _ => format!("nodes {}", some.join(", ")),
    }
}

/// A fault in words: its kind and figures, as the scenario has them.
fn words(fault: &FaultSpec) -> String {
    let mut words = vec![fault.what.name()];
    let mut add = |name: &str, value: Option<String>| words.extend(value.map(|value| format!("{name} {value}")));
    add("sides", fault.sides.map(|it| it.to_string()));
    add("reach", fault.reach.map(|it| it.to_string()));
    add("per-million", fault.per_million.map(|it| it.to_string()));
    add("delay", fault.delay.map(|it| format!("{} s", it.0.as_secs_f64())));
    add("rate", fault.rate.map(|it| format!("{:.1} MB/s", it.0 as f64 / 1e6)));
    words.join(" ")
}

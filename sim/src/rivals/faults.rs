//! What befalls a cluster of rivals: deaths and returns, slow nodes, and what is wrong with registry and index.
//!
//! Partitions, lost messages, wrong bytes, failing disks, standing processes and views of the membership are not modelled:
//! a comparison says which faults it left out. All of them slow a rival down, so leaving them out favours it.

use std::time::Duration;

use super::engine::{Cluster, Sender, Told};
use crate::scenario::schedule::Step;
use crate::scenario::{FaultKind, FaultSpec, Scenario};
use crate::world::{Fault, NodeIndex};

/// Faults of a scenario that rivals are not subjected to.
pub(super) fn left_out(scenario: &Scenario) -> Vec<String> {
    let mut names: Vec<_> =
        scenario.faults.iter().filter(|fault| !applies(fault)).map(|fault| fault.what.name()).collect();
    names.sort();
    names.dedup();
    names
}

fn applies(fault: &FaultSpec) -> bool {
    // A registry that fails for some, or at times, is not modelled.
    let is_of_origin = fault.what.origin_fault(Duration::ZERO).is_some();
    let is_partial = fault.names_nodes() || fault.per_million.is_some();
    let is_known = matches!(
        fault.what,
        FaultKind::Kill
            | FaultKind::PowerCut
            | FaultKind::Slow
            | FaultKind::OriginErrors
            | FaultKind::OriginEmpty
            | FaultKind::OriginSilent
            | FaultKind::OriginRateLimited
            | FaultKind::OriginSlow
            | FaultKind::IndexEmpty
    );
    is_known && !(is_of_origin && is_partial)
}

/// The step of this number on the timeline happens.
pub(super) fn take<E>(cluster: &mut Cluster<E>, number: usize, patience: Duration) {
    match cluster.schedule.timeline[number].1.clone() {
        Step::Begin((fault, _), nodes) => cluster.begin_fault(fault, &nodes, patience),
        Step::End((fault, _), nodes) => cluster.end_fault(fault, &nodes),
        Step::Heal => cluster.heal(),
    }
}

impl<E> Cluster<E> {
    fn begin_fault(&mut self, number: usize, nodes: &[NodeIndex], patience: Duration) {
        let fault = &self.scenario.faults[number];
        if !applies(fault) {
            return;
        }
        let rate = fault.rate.unwrap_or_default().0;
        let (what, per_million) = (fault.what, fault.per_million.unwrap_or(0));
        let delay = fault.delay.unwrap_or_default().0;
        match what {
            FaultKind::Kill => nodes.iter().for_each(|node| self.kill(*node, true, patience)),
            FaultKind::PowerCut => nodes.iter().for_each(|node| self.kill(*node, false, patience)),
            FaultKind::Slow => nodes.iter().for_each(|node| self.set_rate(*node, rate)),
            FaultKind::OriginErrors => self.registry_breaks(Fault::Errors, true, patience),
            FaultKind::OriginSilent => self.registry_breaks(Fault::Silent, false, patience),
            FaultKind::OriginEmpty => self.registry.fault = Some(Fault::Empty),
            FaultKind::OriginRateLimited => self.registry.fault = Some(Fault::RateLimited(delay)),
            FaultKind::OriginSlow => self.flows.set_rate(self.registry.link, rate),
            FaultKind::IndexEmpty => self.index_false_empty = per_million,
            _ => {}
        }
    }

    fn end_fault(&mut self, number: usize, nodes: &[NodeIndex]) {
        match self.scenario.faults[number].what {
            FaultKind::Kill | FaultKind::PowerCut => nodes.iter().for_each(|node| self.restart(*node)),
            FaultKind::Slow => {
                let rate = self.scenario.cluster.node_rate.0;
                nodes.iter().for_each(|node| self.set_rate(*node, rate));
            }
            FaultKind::OriginErrors
            | FaultKind::OriginSilent
            | FaultKind::OriginEmpty
            | FaultKind::OriginRateLimited => self.registry.fault = None,
            FaultKind::OriginSlow => self.flows.set_rate(self.registry.link, self.scenario.origin.rate.0),
            FaultKind::IndexEmpty => self.index_false_empty = 0,
            _ => {}
        }
    }

    fn heal(&mut self) {
        self.registry.fault = None;
        self.flows.set_rate(self.registry.link, self.scenario.origin.rate.0);
        self.index_false_empty = 0;
        for node in 0..self.nodes() {
            self.set_rate(node, self.scenario.cluster.node_rate.0);
            self.restart(node);
        }
    }

    fn set_rate(&mut self, node: NodeIndex, rate: u64) {
        let machine = &self.machines[node];
        self.flows.set_rate(machine.uplink, rate);
        self.flows.set_rate(machine.downlink, rate);
    }

    fn kill(&mut self, node: NodeIndex, known: bool, patience: Duration) {
        if !self.machines[node].up {
            return;
        }
        self.machines[node].up = false;
        let touches = |from: Sender, to: NodeIndex| from == Sender::Machine(node) || to == node;
        let open: Vec<_> = self
            .flows
            .iter()
            .filter(|(_, transfer)| touches(transfer.from, transfer.to))
            .map(|(flow, _)| flow)
            .collect();
        for flow in open {
            self.cut(flow, known, patience);
        }
        self.machines[node].client.stop();
        self.tell(Told::Died(node));
    }

    fn restart(&mut self, node: NodeIndex) {
        if self.machines[node].up {
            return;
        }
        self.machines[node].up = true;
        self.resume_pull(node);
        self.tell(Told::Returned(node));
    }

    fn registry_breaks(&mut self, fault: Fault, known: bool, patience: Duration) {
        self.registry.fault = Some(fault);
        let open: Vec<_> =
            self.flows.iter().filter(|(_, transfer)| transfer.from == Sender::Registry).map(|(flow, _)| flow).collect();
        for flow in open {
            self.cut(flow, known, patience);
        }
    }
}

//! Membership as each node's informer sees it: a list, then the changes, and all that goes wrong between the two.
//!
//! An informer is modelled by what it does not know: the changes that it missed, and whether its watch is there at all. What
//! it hands to its agent is the cluster's truth, but for those; a list that arrives sets it right.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::input::Input;
use longshore_core::members::Roster;
use longshore_core::time::Time;

use super::{Event, NodeIndex, World};

/// A node's informer.
#[derive(Debug, Default)]
pub(crate) struct Informer {
    /// It has a view of its own, which changes of the cluster do not reach.
    own_view: bool,
    /// A change is on its way.
    due: bool,
    /// There is no watch: nothing reaches it before the next list.
    unwatched: bool,
    /// Who it takes for up (or down) because an event was lost or came out of order.
    mistaken: BTreeMap<NodeIndex, bool>,
}

/// What is wrong with all informers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InformerFaults {
    /// Events that are lost, in a million.
    pub loss: u32,
    /// Events that an earlier one overtakes, so that it counts in the end, in a million.
    pub reordering: u32,
}

impl World {
    /// Gives a node a membership view of its own.
    pub fn set_view(&mut self, node: NodeIndex, visible: &[NodeIndex]) {
        self.nodes[node].informer.own_view = true;
        self.show(node, visible.to_vec());
    }

    /// Gives a node the view that the others have, as a list does.
    pub fn heal_view(&mut self, node: NodeIndex) {
        self.nodes[node].informer = Informer { due: self.nodes[node].informer.due, ..Informer::default() };
        self.view_changes(node);
    }

    /// The watch of a node is lost, and it does not notice: it misses all that happens before the next list
    /// ([`World::heal_view`]).
    pub fn lose_watch(&mut self, node: NodeIndex) {
        self.nodes[node].informer.unwatched = true;
    }

    /// A node gets a list that is `age` old, older than what it has seen, and nothing more before the next one.
    pub fn show_stale_list(&mut self, node: NodeIndex, age: Duration) {
        self.lose_watch(node);
        let then = Time::from_micros(self.now.as_micros().saturating_sub(age.as_micros() as u64));
        let mut up = vec![true; self.nodes.len()];
        for (at, changed, is_up) in &self.membership {
            if *at <= then {
                up[*changed] = *is_up;
            }
        }
        self.show(node, (0..self.nodes.len()).filter(|other| up[*other]).collect());
    }

    /// A node came or went: informers will hear of it, if all goes well.
    pub(super) fn membership_changed(&mut self, changed: NodeIndex) {
        let is_up = self.is_up(changed);
        self.membership.push((self.now, changed, is_up));
        self.roster = None;
        let Some(lag) = self.options.membership_lag else { return };
        let InformerFaults { loss, reordering } = self.informers;
        for node in 0..self.nodes.len() {
            if self.chance.happens(loss) {
                self.nodes[node].informer.mistaken.insert(changed, !is_up);
                continue;
            }
            self.nodes[node].informer.mistaken.remove(&changed);
            if self.chance.happens(reordering) {
                let after = lag + self.chance.up_to(lag);
                self.queue.push(self.now + after, Event::Overtaken(node, changed, !is_up));
            }
            self.view_is_due(node, lag);
        }
    }

    fn view_is_due(&mut self, node: NodeIndex, lag: Duration) {
        let informer = &mut self.nodes[node].informer;
        if !informer.due && !informer.own_view {
            informer.due = true;
            let after = self.chance.up_to(lag);
            self.queue.push(self.now + after, Event::ViewChanges(node));
        }
    }

    /// An event comes that a later one has overtaken: the node believes it.
    pub(super) fn overtaken(&mut self, node: NodeIndex, changed: NodeIndex, is_up: bool) {
        if !self.nodes[node].informer.unwatched && self.informers.reordering > 0 {
            self.nodes[node].informer.mistaken.insert(changed, is_up);
            self.view_changes(node);
        }
    }

    pub(super) fn view_changes(&mut self, node: NodeIndex) {
        let informer = &mut self.nodes[node].informer;
        informer.due = false;
        if informer.own_view || informer.unwatched {
            return;
        }
        let is_watching = self.options.membership_lag.is_some();
        let mistaken = &self.nodes[node].informer.mistaken;
        if mistaken.is_empty() {
            let members = match self.roster.take() {
                Some(known) => known,
                None => {
                    let seen = (0..self.nodes.len()).filter(|other| !is_watching || self.is_up(*other));
                    Roster::new(seen.map(|other| self.member(other)).collect())
                }
            };
            self.roster = Some(members.clone());
            return self.show_roster(node, members);
        }
        let seen = |other: &NodeIndex| mistaken.get(other).copied().unwrap_or_else(|| self.is_up(*other));
        let visible = (0..self.nodes.len()).filter(|other| !is_watching || seen(other)).collect();
        self.show(node, visible);
    }

    fn show(&mut self, node: NodeIndex, visible: Vec<NodeIndex>) {
        let members = Roster::new(visible.into_iter().map(|other| self.member(other)).collect());
        self.show_roster(node, members);
    }

    fn show_roster(&mut self, node: NodeIndex, members: Arc<Roster>) {
        self.nodes[node].members = members.clone();
        self.input(node, Input::Members(members));
    }

    /// Nodes that a node's agent takes for members, as its informer told it.
    #[must_use]
    pub fn members_seen_by(&self, node: NodeIndex) -> Vec<NodeIndex> {
        let peers = self.nodes[node].members.members().iter().filter_map(|member| member.peer.as_ref());
        peers.filter_map(|peer| self.index_of(peer)).collect()
    }
}

//! What is wrong with single links: slow ones, clogged ones, and those that lose in bursts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longshore_core::time::Time;

use super::transfers::Carried;
use super::{Event, NodeIndex, World};
use crate::chance::Chance;
use crate::flows::Step;

/// Links between two groups, both ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowLinks {
    /// One end.
    pub these: BTreeSet<NodeIndex>,
    /// The other end; everybody else, if it is empty.
    pub others: BTreeSet<NodeIndex>,
    /// Added to what they carry.
    pub delay: Duration,
    /// Bytes per second of one piece. `None`: no limit.
    pub rate: Option<u64>,
}

impl SlowLinks {
    fn contains(&self, one: NodeIndex, other: NodeIndex) -> bool {
        let joins = |one: &NodeIndex, other: &NodeIndex| {
            let far = if self.others.is_empty() { !self.these.contains(other) } else { self.others.contains(other) };
            self.these.contains(one) && far
        };
        joins(&one, &other) || joins(&other, &one)
    }
}

/// Loss after Gilbert and Elliott: a link is good for a while, then bad for a while. What it carries then is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bursts {
    /// Share of the time that links are bad, in a million.
    pub share: u32,
    /// How long they are bad, on average.
    pub length: Duration,
    /// Whether a link is bad, and until when that holds.
    links: BTreeMap<(NodeIndex, NodeIndex), (bool, Time)>,
}

impl Bursts {
    /// Links that are bad for `share` millionths of the time, for `length` on average.
    #[must_use]
    pub fn new(share: u32, length: Duration) -> Self {
        Self { share: share.clamp(1, 999_999), length, links: BTreeMap::new() }
    }

    fn is_bad(&mut self, now: Time, from: NodeIndex, to: NodeIndex, chance: &mut Chance) -> bool {
        let good = self.length * (1_000_000 - self.share) / self.share;
        let (is_bad, until) = self.links.entry((from, to)).or_insert_with(|| (!chance.happens(self.share), now));
        while *until <= now {
            *is_bad = !*is_bad;
            let mean = if *is_bad { self.length } else { good };
            *until = *until + chance.up_to(mean * 2) + Duration::from_micros(1);
        }
        *is_bad
    }
}

/// The state of single links.
#[derive(Clone, Debug, Default)]
pub struct Links {
    /// Slow ones, by the number of the fault.
    pub slow: BTreeMap<u32, SlowLinks>,
    /// Nodes whose links are clogged, by the number of the fault: what they carry is held until they are free.
    clogged: BTreeMap<u32, BTreeSet<NodeIndex>>,
    /// Loss in bursts.
    pub bursts: Option<Bursts>,
}

impl Links {
    pub(super) fn delay(&self, from: NodeIndex, to: NodeIndex) -> Duration {
        self.slow.values().filter(|links| links.contains(from, to)).map(|links| links.delay).sum()
    }

    /// The most bytes per second of a piece between these two; `None`: as their links allow.
    #[must_use]
    pub fn rate(&self, from: NodeIndex, to: NodeIndex) -> Option<u64> {
        self.slow.values().filter(|links| links.contains(from, to)).filter_map(|links| links.rate).min()
    }

    /// Whether what `from` sends to `to` is held.
    #[must_use]
    pub fn is_clogged(&self, from: NodeIndex, to: NodeIndex) -> bool {
        self.clogged.values().any(|nodes| nodes.contains(&from) || nodes.contains(&to))
    }
}

impl World {
    /// The links of these nodes hold what they carry, until [`World::unclog`] of the same number.
    pub fn clog(&mut self, number: u32, nodes: BTreeSet<NodeIndex>) {
        self.network.links.clogged.insert(number, nodes);
    }

    /// What was held arrives now, unless another clog holds it.
    pub fn unclog(&mut self, number: u32) {
        self.network.links.clogged.remove(&number);
        for (from, to, event) in std::mem::take(&mut self.held) {
            if self.network.links.is_clogged(from, to) {
                self.held.push((from, to, event));
            } else {
                self.queue.push(self.now, event);
            }
        }
    }

    /// The link that an event comes by, if it comes by one.
    fn comes_by(&self, event: &Event) -> Option<(NodeIndex, NodeIndex)> {
        match event {
            Event::CallArrives(calling) => Some((calling.from, calling.to)),
            Event::NoticeArrives(from, to, _) => Some((*from as NodeIndex, *to)),
            Event::PieceAsked(transfer) => Some((transfer.to, transfer.from)),
            Event::Flow(Step::Comes(flow, _)) => match self.flows.get(*flow) {
                Some(Carried::Piece(transfer)) => Some((transfer.from, transfer.to)),
                _ => None,
            },
            _ => None,
        }
    }

    /// Keeps an event that comes by a clogged link; gives back every other.
    pub(super) fn unless_clogged(&mut self, event: Event) -> Option<Event> {
        if self.network.links.clogged.is_empty() {
            return Some(event);
        }
        match self.comes_by(&event) {
            Some((from, to)) if self.network.links.is_clogged(from, to) => {
                self.held.push((from, to, event));
                None
            }
            _ => Some(event),
        }
    }

    pub(super) fn is_in_a_burst(&mut self, from: NodeIndex, to: NodeIndex) -> bool {
        let Some(bursts) = &mut self.network.links.bursts else { return false };
        bursts.is_bad(self.now, from, to, &mut self.chance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_bad_for_their_share_of_the_time_and_for_a_while_each_time() {
        let mut bursts = Bursts::new(200_000, Duration::from_millis(500));
        let mut chance = Chance::new(1);
        let states: Vec<_> =
            (0..100_000).map(|milli| bursts.is_bad(Time::from_micros(milli * 10_000), 1, 2, &mut chance)).collect();
        let bad = states.iter().filter(|bad| **bad).count();
        assert!((15_000..25_000).contains(&bad), "{bad} of 100,000, expected about 20,000");
        let changes = states.windows(2).filter(|pair| pair[0] != pair[1]).count();
        // A thousand seconds of half a second in every two and a half: 400 bursts.
        assert!((600..1000).contains(&changes), "{changes} changes, expected about 800");
    }

    #[test]
    fn slow_links_join_two_groups_both_ways() {
        let links = |others: &[NodeIndex]| SlowLinks {
            these: [1, 2].into(),
            others: others.iter().copied().collect(),
            delay: Duration::ZERO,
            rate: None,
        };
        let to_all = links(&[]);
        assert!(to_all.contains(1, 3) && to_all.contains(3, 1));
        assert!(!to_all.contains(1, 2) && !to_all.contains(3, 4));
        let to_some = links(&[4]);
        assert!(to_some.contains(2, 4) && to_some.contains(4, 2));
        assert!(!to_some.contains(2, 3) && !to_some.contains(4, 5));
    }
}

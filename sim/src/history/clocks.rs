//! By how much the clocks of nodes differ, as far as messages between them tell.
//!
//! If the fastest message from A to B seems to take `x` and the fastest one back `y`, then the way there and back takes
//! `x + y`, and if both ways are alike, B's clock is `(x - y) / 2` ahead. Every node is compared with the first one over the
//! pairs with the shortest ways, then all pairs have a say. A clock that drifts by more than the latency while it is recorded makes these estimates
//! wrong, but not the order: nothing is put before its cause.

use std::collections::BTreeMap;

use super::gather::{Facts, NONE};
use super::lives::Life;
use super::matching::{Matched, NOWHERE};

/// Rounds in which estimates are improved: each one halves what is wrong.
const ROUNDS: usize = 20;

/// What was found out about the clocks.
#[derive(Clone, Debug, Default)]
pub struct Clocks {
    epochs: Vec<i64>,
    /// What is added to the wall clock of a life.
    offsets: Vec<i64>,
    /// The beginning of the history.
    zero: i64,
    /// From one life to another: what the fastest message seems to take, by both wall clocks.
    fastest: BTreeMap<(u32, u32), i64>,
    /// Half of the longest way that an estimate rests on, in microseconds.
    pub uncertainty: i64,
    /// Lives that no message connects with the first one: their own wall clocks are taken.
    pub unconnected: usize,
    /// Latency of the median pair, in microseconds.
    typical: i64,
}

impl Clocks {
    /// Compares clocks by the messages that were paired.
    #[must_use]
    pub fn compare(lives: &[Life], facts: &[Facts], matched: &Matched) -> Self {
        let epochs: Vec<i64> = lives.iter().map(Life::epoch).collect();
        let begins: Vec<i64> = lives.iter().map(|life| life.epoch() + life.begin().cast_signed()).collect();
        let first = (0..lives.len()).min_by_key(|life| begins[*life]).unwrap_or(0);
        let mut clocks = Self {
            offsets: vec![0; lives.len()],
            zero: begins.get(first).copied().unwrap_or(0),
            fastest: fastest(&epochs, facts, matched),
            epochs,
            ..Self::default()
        };
        clocks.span(first as u32);
        clocks.average(first as u32);
        clocks.mend(first as u32);
        let earliest = (0..begins.len()).map(|life| begins[life] + clocks.offsets[life]).min();
        clocks.zero = earliest.unwrap_or(0);
        clocks
    }

    /// A time by a life's own clock in the common one, in microseconds since the beginning of the history.
    #[must_use]
    pub fn common(&self, life: usize, time: u64) -> i64 {
        self.epochs[life] + time.cast_signed() + self.offsets[life] - self.zero
    }

    /// The same for a wall-clock time of that life.
    #[must_use]
    pub fn at(&self, life: u32, wall: i64) -> i64 {
        wall + self.offsets[life as usize] - self.zero
    }

    /// By how much a life's wall clock is ahead of the first one's, in microseconds.
    #[must_use]
    pub fn ahead(&self, life: usize) -> i64 {
        -self.offsets[life]
    }

    /// What the fastest message between two lives takes; where none is known, what it takes between most.
    #[must_use]
    pub fn shortest(&self, from: u32, to: u32) -> i64 {
        let offset = |life: u32| self.offsets[life as usize];
        self.fastest.get(&(from, to)).map_or(self.typical, |took| took + offset(to) - offset(from))
    }

    /// Estimates the offsets along the pairs with the shortest ways there and back.
    fn span(&mut self, first: u32) {
        let mut pairs: Vec<(i64, u32, u32)> = Vec::new();
        for ((from, to), there) in &self.fastest {
            if from < to
                && let Some(back) = self.fastest.get(&(*to, *from))
            {
                pairs.push((there + back, *from, *to));
            }
        }
        pairs.sort_unstable();
        self.typical = pairs.get(pairs.len() / 2).map_or(0, |(both, ..)| both / 2);
        // Ways that only go one way come last: the latency of the median pair stands in for what is not known.
        let is_known = |from: &u32, to: &u32| self.fastest.contains_key(&(*to, *from));
        let one_way: Vec<_> = self.fastest.keys().filter(|(from, to)| !is_known(from, to)).copied().collect();
        let both: Vec<(u32, u32)> = pairs.iter().map(|(_, from, to)| (*from, *to)).collect();
        let mut trees: Vec<u32> = (0..self.offsets.len() as u32).collect();
        let mut edges: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (from, to) in both.into_iter().chain(one_way) {
            let (one, other) = (root(&mut trees, from), root(&mut trees, to));
            if one != other {
                trees[one as usize] = other;
                edges.entry(from).or_default().push(to);
                edges.entry(to).or_default().push(from);
            }
        }
        let mut known = vec![false; self.offsets.len()];
        let starts = std::iter::once(first).chain(0..self.offsets.len() as u32);
        for start in starts.filter(|life| (*life as usize) < trees.len()) {
            if std::mem::replace(&mut known[start as usize], true) {
                continue;
            }
            self.unconnected += usize::from(start != first);
            let mut next = vec![start];
            while let Some(life) = next.pop() {
                for other in edges.get(&life).into_iter().flatten() {
                    if !std::mem::replace(&mut known[*other as usize], true) {
                        self.offsets[*other as usize] = self.offsets[life as usize] + self.difference(life, *other);
                        next.push(*other);
                    }
                }
            }
        }
    }

    /// The offset of `to` less that of `from`.
    fn difference(&mut self, from: u32, to: u32) -> i64 {
        match (self.fastest.get(&(from, to)).copied(), self.fastest.get(&(to, from)).copied()) {
            (Some(there), Some(back)) => {
                self.uncertainty = self.uncertainty.max((there + back).max(0) / 2);
                (back - there) / 2
            }
            (Some(there), None) => self.typical - there,
            (None, Some(back)) => back - self.typical,
            (None, None) => 0,
        }
    }

    /// Lets all pairs have a say, those with short ways more: of one pair, nobody knows which way is the longer one.
    fn average(&mut self, first: u32) {
        let mut pairs: BTreeMap<u32, Vec<(u32, f64, f64)>> = BTreeMap::new();
        for ((from, to), there) in &self.fastest {
            if let Some(back) = self.fastest.get(&(*to, *from)) {
                let way = (there + back).max(1) as f64;
                pairs.entry(*to).or_default().push((*from, (back - there) as f64 / 2.0, 1.0 / (way * way)));
            }
        }
        for _ in 0..ROUNDS {
            for (life, ways) in pairs.iter().filter(|(life, _)| **life != first) {
                let (mut sum, mut weights) = (0.0, 0.0);
                for (other, difference, weight) in ways {
                    sum += (self.offsets[*other as usize] as f64 + difference) * weight;
                    weights += weight;
                }
                self.offsets[*life as usize] = (sum / weights).round() as i64;
            }
        }
    }

    /// Moves clocks by which a message would arrive before it was sent, as far as the other messages allow.
    fn mend(&mut self, first: u32) {
        let mut neighbours: BTreeMap<u32, Vec<(i64, bool, u32)>> = BTreeMap::new();
        for ((from, to), took) in &self.fastest {
            neighbours.entry(*to).or_default().push((*took, true, *from));
            neighbours.entry(*from).or_default().push((*took, false, *to));
        }
        for _ in 0..ROUNDS {
            let mut wrong = false;
            for (life, ways) in &neighbours {
                let own = self.offsets[*life as usize];
                let (mut incoming, mut outgoing) = (i64::MAX, i64::MAX);
                for (took, comes_in, other) in ways {
                    let other = self.offsets[*other as usize];
                    if *comes_in {
                        incoming = incoming.min(took + own - other);
                    } else {
                        outgoing = outgoing.min(took + other - own);
                    }
                }
                if *life != first && incoming.min(outgoing) < 0 && incoming.max(outgoing) != i64::MAX {
                    wrong = true;
                    self.offsets[*life as usize] += (outgoing - incoming) / 2;
                }
            }
            if !wrong {
                break;
            }
        }
    }
}

/// The fastest message between each two lives, by their wall clocks.
fn fastest(epochs: &[i64], facts: &[Facts], matched: &Matched) -> BTreeMap<(u32, u32), i64> {
    let mut fastest = BTreeMap::new();
    let mut saw = |from: u32, sent: u32, to: u32, received: u32| {
        let wall =
            |life: u32, event: u32| epochs[life as usize] + facts[life as usize].times[event as usize].cast_signed();
        let took = wall(to, received) - wall(from, sent);
        fastest.entry((from, to)).and_modify(|least: &mut i64| *least = took.min(*least)).or_insert(took);
    };
    for (life, places) in matched.received.iter().enumerate() {
        for (send, place) in facts[life].sends.iter().zip(places).filter(|(_, place)| **place != NOWHERE) {
            let receive = facts[place.0 as usize].receives[place.1 as usize];
            saw(life as u32, send.event, place.0, receive.opened);
            if receive.answered != NONE && send.answered != NONE && !receive.bulky {
                saw(place.0, receive.answered, life as u32, send.answered);
            }
        }
    }
    fastest
}

fn root(trees: &mut [u32], mut node: u32) -> u32 {
    while trees[node as usize] != node {
        trees[node as usize] = trees[trees[node as usize] as usize];
        node = trees[node as usize];
    }
    node
}

//! All inputs of all agents in one order: each after the one before it in its life, and after what it was sent by.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Event;
use super::clocks::Clocks;
use super::gather::{Facts, NONE};
use super::lives::Life;
use super::matching::{Matched, NOWHERE};

/// Edges into one life: the input, and where it comes from; in the order of the inputs.
pub type Edges = Vec<(u32, Event)>;

/// The edges into each life.
#[must_use]
pub fn edges(lives: &[Life], facts: &[Facts], matched: &Matched) -> Vec<Edges> {
    let mut edges: Vec<Edges> = vec![Vec::new(); lives.len()];
    for (life, places) in matched.received.iter().enumerate() {
        for (send, place) in facts[life].sends.iter().zip(places).filter(|(_, place)| **place != NOWHERE) {
            let receive = facts[place.0 as usize].receives[place.1 as usize];
            edges[place.0 as usize].push((receive.opened, Event { life: life as u32, index: send.event }));
            if receive.answered != NONE && send.answered != NONE {
                edges[life].push((send.answered, Event { life: place.0, index: receive.answered }));
            }
        }
    }
    for life in 1..lives.len() {
        // A node's next life begins after the one before.
        if lives[life].peer == lives[life - 1].peer
            && let Some(last) = facts[life - 1].times.len().checked_sub(1)
        {
            edges[life].push((0, Event { life: life as u32 - 1, index: last as u32 }));
        }
    }
    edges.iter_mut().for_each(|edges| edges.sort_unstable());
    edges
}

/// Where the merge is in one life.
struct Cursor {
    next: u32,
    count: u32,
    /// Edges that have been respected.
    edge: usize,
    /// Lives that wait for something in this one, and for which input.
    waiting: BinaryHeap<Reverse<(u32, u32)>>,
    /// The common time of what was taken last, with what it had to wait for.
    reached: i64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be settled.
    Loose,
    /// Among the ready ones.
    Ready,
    /// Waits until this was taken.
    Waits(Event),
}

/// The order, and how many edges it does not respect because they contradict each other.
#[must_use]
pub fn order(lives: &[Life], facts: &[Facts], clocks: &Clocks, matched: &Matched) -> (Vec<Event>, u64) {
    let edges = edges(lives, facts, matched);
    let mut cursors: Vec<Cursor> = facts
        .iter()
        .map(|facts| Cursor {
            next: 0,
            count: facts.times.len() as u32,
            edge: 0,
            waiting: BinaryHeap::new(),
            reached: i64::MIN,
            state: State::Loose,
        })
        .collect();
    let mut order = Vec::with_capacity(facts.iter().map(|facts| facts.times.len()).sum());
    let mut contradictions = 0;
    let mut ready = BinaryHeap::new();
    for life in 0..lives.len() as u32 {
        settle(life, &mut cursors, &edges, facts, clocks, &mut ready);
    }
    loop {
        let Some(Reverse((_, life))) = ready.pop() else {
            // Everybody waits for somebody: the earliest goes first all the same.
            let stuck = (0..cursors.len()).filter(|life| cursors[*life].next < cursors[*life].count);
            let time = |life: &usize| clocks.common(*life, facts[*life].times[cursors[*life].next as usize]);
            let Some(life) = stuck.min_by_key(time) else { break };
            contradictions += 1;
            cursors[life].edge += 1;
            cursors[life].state = State::Loose;
            settle(life as u32, &mut cursors, &edges, facts, clocks, &mut ready);
            continue;
        };
        let cursor = &mut cursors[life as usize];
        let taken = cursor.next;
        cursor.state = State::Loose;
        order.push(Event { life, index: taken });
        cursor.next += 1;
        cursor.reached = cursor.reached.max(clocks.common(life as usize, facts[life as usize].times[taken as usize]));
        let mut released = Vec::new();
        while let Some(Reverse((until, waiter))) = cursor.waiting.peek().copied()
            && until <= taken
        {
            cursor.waiting.pop();
            released.push((waiter, Event { life, index: until }));
        }
        settle(life, &mut cursors, &edges, facts, clocks, &mut ready);
        for (waiter, reason) in released {
            // Who was let through by a contradiction waits no more, or for something else.
            if cursors[waiter as usize].state == State::Waits(reason) {
                settle(waiter, &mut cursors, &edges, facts, clocks, &mut ready);
            }
        }
    }
    (order, contradictions)
}

/// Puts the next input of a life where it belongs: among the ready ones, or with what it waits for.
fn settle(
    life: u32,
    cursors: &mut [Cursor],
    edges: &[Edges],
    facts: &[Facts],
    clocks: &Clocks,
    ready: &mut BinaryHeap<Reverse<(i64, u32)>>,
) {
    let (next, count) = (cursors[life as usize].next, cursors[life as usize].count);
    if next >= count {
        return;
    }
    while let Some((to, from)) = edges[life as usize].get(cursors[life as usize].edge)
        && *to <= next
    {
        let source = &mut cursors[from.life as usize];
        if source.next <= from.index {
            source.waiting.push(Reverse((from.index, life)));
            cursors[life as usize].state = State::Waits(*from);
            return;
        }
        let reached = source.reached;
        cursors[life as usize].edge += 1;
        cursors[life as usize].reached = cursors[life as usize].reached.max(reached);
    }
    let time = clocks.common(life as usize, facts[life as usize].times[next as usize]);
    cursors[life as usize].state = State::Ready;
    ready.push(Reverse((time.max(cursors[life as usize].reached), life)));
}

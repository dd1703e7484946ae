//! Which message that was sent is which one that was received.
//!
//! No number of a message is on the wire: Gantry's protocol has no room for one. Sender, receiver and content are in both
//! journals, and nearly every message says something that was not said before between the same two. Of equal ones, those are
//! paired that fit the latency between the two best.

use super::clocks::Clocks;
use super::gather::{Facts, Fate, NONE, Peers};
use super::lives::Life;

/// A send or a receive: which life, and its index there.
pub type Place = (u32, u32);

/// No counterpart.
pub const NOWHERE: Place = (NONE, NONE);

/// What was paired.
#[derive(Clone, Debug, Default)]
pub struct Matched {
    /// For each life and each of its sends: where it was received.
    pub received: Vec<Vec<Place>>,
    /// For each life and each of its receives: where it was sent.
    pub sent: Vec<Vec<Place>>,
    /// Receives of what was sent once and had come already.
    pub doubled: u64,
}

/// One end of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct End {
    from: u32,
    to: u32,
    key: u64,
    incoming: bool,
    /// A node's lives and their inputs are in order, whatever its clock says.
    place: Place,
    /// By the clock of its life, in microseconds since 1970.
    wall: i64,
}

impl End {
    const fn group(&self) -> (u32, u32, u64) {
        (self.from, self.to, self.key)
    }
}

/// Pairs the messages that exist once on both sides.
#[must_use]
pub fn unique(lives: &[Life], facts: &[Facts], peers: &Peers) -> Matched {
    let mut matched = Matched {
        received: facts.iter().map(|facts| vec![NOWHERE; facts.sends.len()]).collect(),
        sent: facts.iter().map(|facts| vec![NOWHERE; facts.receives.len()]).collect(),
        doubled: 0,
    };
    for group in ends(lives, facts, peers).chunk_by(|one, other| one.group() == other.group()) {
        if let [send, receive] = group
            && !send.incoming
            && receive.incoming
        {
            matched.pair(send.place, receive.place);
        }
    }
    matched
}

/// Pairs the others, by the times that the clocks agree on.
pub fn others(lives: &[Life], facts: &[Facts], peers: &Peers, clocks: &Clocks, matched: &mut Matched) {
    for group in ends(lives, facts, peers).chunk_by(|one, other| one.group() == other.group()) {
        let (sends, receives) = group.split_at(group.partition_point(|end| !end.incoming));
        if sends.is_empty() || receives.is_empty() || (sends.len(), receives.len()) == (1, 1) {
            continue;
        }
        if sends.len() == receives.len() {
            sends.iter().zip(receives).for_each(|(send, receive)| matched.pair(send.place, receive.place));
            continue;
        }
        let mut free: Vec<&End> = sends.iter().collect();
        for receive in receives {
            let distance = |send: &End| {
                let expected = clocks.shortest(send.place.0, receive.place.0);
                let took = clocks.at(receive.place.0, receive.wall) - clocks.at(send.place.0, send.wall);
                let early = took + clocks.uncertainty < 0;
                let fate = facts[send.place.0 as usize].sends[send.place.1 as usize].fate;
                let in_vain = matches!(fate, Fate::TimedOut | Fate::Cancelled | Fate::Unreachable);
                (early, in_vain, (took - expected).abs())
            };
            let nearest = (0..free.len()).min_by_key(|index| distance(free[*index]));
            match nearest.filter(|index| !distance(free[*index]).0) {
                Some(index) => matched.pair(free.remove(index).place, receive.place),
                None => matched.doubled += 1,
            }
        }
    }
}

impl Matched {
    fn pair(&mut self, send: Place, receive: Place) {
        self.received[send.0 as usize][send.1 as usize] = receive;
        self.sent[receive.0 as usize][receive.1 as usize] = send;
    }
}

/// All ends of messages between recorded nodes; equal messages together, the sends first, each side in order.
fn ends(lives: &[Life], facts: &[Facts], peers: &Peers) -> Vec<End> {
    let own: Vec<u32> = lives.iter().map(|life| peers.get(&life.peer).unwrap_or(NONE)).collect();
    let mut recorded = own.clone();
    recorded.sort_unstable();
    let is_recorded = |peer: u32| recorded.binary_search(&peer).is_ok();
    let mut ends = Vec::new();
    for (life, facts) in facts.iter().enumerate() {
        let wall = |event: u32| lives[life].epoch() + facts.times[event as usize].cast_signed();
        let place = |index: usize| (life as u32, index as u32);
        for (index, send) in facts.sends.iter().enumerate().filter(|(_, send)| is_recorded(send.to)) {
            let (from, to, key, wall) = (own[life], send.to, send.key, wall(send.event));
            ends.push(End { from, to, key, incoming: false, wall, place: place(index) });
        }
        for (index, receive) in facts.receives.iter().enumerate().filter(|(_, receive)| is_recorded(receive.from)) {
            let (from, to, key, wall) = (receive.from, own[life], receive.key, wall(receive.opened));
            ends.push(End { from, to, key, incoming: true, wall, place: place(index) });
        }
    }
    ends.sort_unstable();
    ends
}

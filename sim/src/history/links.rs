//! Latency and loss between each two recorded nodes, as far as their journals tell.

use std::collections::BTreeMap;

use super::clocks::Clocks;
use super::gather::{Facts, Fate, NONE, Peers};
use super::lives::Life;
use super::matching::{Matched, NOWHERE};

/// Messages this near to the end of the receiver's journal, in microseconds, are not called lost: they may have been on
/// their way, and a killed agent's last second is not in its journal.
const BORDER: i64 = 1_500_000;

/// One direction between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Messages that were sent while both were recorded.
    pub sent: u64,
    /// Those that are in the receiver's journal.
    pub arrived: u64,
    /// Those that are not, although they had the time.
    pub lost: u64,
    /// What the fastest one took, in microseconds.
    pub fastest: i64,
    /// What all took together, in microseconds.
    pub together: i64,
}

/// A message that did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// When it was sent, in microseconds of common time.
    pub at: i64,
    /// By which peer.
    pub from: u32,
    /// To which peer.
    pub to: u32,
}

/// All links.
#[derive(Clone, Debug, Default)]
pub struct Links {
    /// By sender and receiver.
    pub links: BTreeMap<(u32, u32), Link>,
    /// What was lost, by time.
    pub lost: Vec<Lost>,
}

impl Links {
    /// Measures them.
    #[must_use]
    pub fn measure(lives: &[Life], facts: &[Facts], peers: &Peers, clocks: &Clocks, matched: &Matched) -> Self {
        let mut recorded: BTreeMap<u32, Vec<(i64, i64)>> = BTreeMap::new();
        for (life, facts) in facts.iter().enumerate() {
            if let (Some(peer), Some(last)) = (peers.get(&lives[life].peer), facts.times.last()) {
                let begin = clocks.common(life, lives[life].begin());
                recorded.entry(peer).or_default().push((begin, clocks.common(life, *last)));
            }
        }
        let hears = |peer: u32, at: i64| {
            let spans = recorded.get(&peer).into_iter().flatten();
            spans.into_iter().any(|(begin, end)| (begin + BORDER.min(1000)..end - BORDER).contains(&at))
        };
        let mut all = Self::default();
        for (life, places) in matched.received.iter().enumerate() {
            let Some(from) = peers.get(&lives[life].peer) else { continue };
            for (send, place) in facts[life].sends.iter().zip(places) {
                let at = clocks.common(life, facts[life].times[send.event as usize]);
                if *place != NOWHERE {
                    let receiver = &facts[place.0 as usize];
                    let receive = receiver.receives[place.1 as usize];
                    let took = clocks.common(place.0 as usize, receiver.times[receive.opened as usize]) - at;
                    all.arrived(from, send.to, took);
                    if receive.answered != NONE && send.answered != NONE && !receive.bulky {
                        let answered = clocks.common(place.0 as usize, receiver.times[receive.answered as usize]);
                        let back = clocks.common(life, facts[life].times[send.answered as usize]);
                        all.arrived(send.to, from, back - answered);
                    }
                } else if matches!(send.fate, Fate::Unknown | Fate::TimedOut) && hears(send.to, at) {
                    let link = all.link(from, send.to);
                    link.sent += 1;
                    link.lost += 1;
                    all.lost.push(Lost { at, from, to: send.to });
                }
            }
        }
        all.lost.sort_unstable_by_key(|lost| (lost.at, lost.from, lost.to));
        all
    }

    fn link(&mut self, from: u32, to: u32) -> &mut Link {
        let nothing = Link { sent: 0, arrived: 0, lost: 0, fastest: i64::MAX, together: 0 };
        self.links.entry((from, to)).or_insert(nothing)
    }

    fn arrived(&mut self, from: u32, to: u32, took: i64) {
        let link = self.link(from, to);
        link.sent += 1;
        link.arrived += 1;
        link.fastest = link.fastest.min(took);
        link.together += took;
    }

    /// What the fastest message took on each link that carried one, in microseconds, ascending.
    #[must_use]
    pub fn latencies(&self) -> Vec<i64> {
        let mut all: Vec<_> =
            self.links.values().filter(|link| link.arrived > 0).map(|link| link.fastest.max(0)).collect();
        all.sort_unstable();
        all
    }

    /// Messages on all links: sent, arrived, lost.
    #[must_use]
    pub fn totals(&self) -> (u64, u64, u64) {
        self.links
            .values()
            .fold((0, 0, 0), |(sent, arrived, lost), link| (sent + link.sent, arrived + link.arrived, lost + link.lost))
    }
}

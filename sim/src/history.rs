//! Journals of many nodes as the history of one cluster.
//!
//! Each agent numbers what it handles, and each message can be found in the journals of both ends: at the sender as what
//! followed from an input, at the receiver as an input. So the inputs of all agents are in the order of happened-before:
//! those of one agent as they came, and what was sent before what was received. Clocks order only what is concurrent, after
//! they have been compared by the messages themselves.
//!
//! | what | file |
//! |---|---|
//! | files to lives of agents | `history/lives.rs` |
//! | what a life sent and received | `history/gather.rs` |
//! | which message is which | `history/matching.rs` |
//! | by how much clocks differ | `history/clocks.rs` |
//! | what came before what | `history/order.rs` |
//! | latency and loss between two nodes | `history/links.rs` |
//! | what led to an input, across nodes | `history/why.rs` |
//! | a scenario in which the same happens | `history/export.rs` |

pub mod clocks;
pub mod export;
pub mod gather;
pub mod links;
pub mod lives;
pub mod matching;
pub mod order;
pub mod why;

use std::collections::{BTreeMap, BTreeSet};

use longshore_core::journal::JournalError;
use longshore_core::names::PeerId;

use crate::replay::causes::Subject;
use crate::replay::{Divergence, Step};
use clocks::Clocks;
use gather::{Facts, Peers};
use links::Links;
use lives::Life;
use matching::Matched;

/// An input of an agent: which life, and the how manieth input of what is recorded of it (from 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Event {
    /// Index of the life.
    pub life: u32,
    /// Index of the input in that life's journal.
    pub index: u32,
}

/// How the replay of one life went.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Inputs executed.
    pub inputs: u64,
    /// Outputs that followed.
    pub outputs: u64,
    /// How many inputs of each kind.
    pub kinds: BTreeMap<&'static str, u64>,
    /// The agent panicked in the last one, as when it was recorded.
    pub died: bool,
    /// The running digest at the end.
    pub digest: u64,
    /// Where the replay left the path; the rest of this life is not in the history.
    pub divergence: Option<Divergence>,
    /// Why the rest could not be decoded, or the life could not be begun; it is not in the history.
    pub broken: Option<JournalError>,
}

/// The joined history.
#[derive(Debug)]
pub struct History<'a> {
    /// The lives that it is made of.
    pub lives: &'a [Life],
    /// How each one replayed.
    pub outcomes: Vec<Outcome>,
    /// What each one sent and received.
    pub facts: Vec<Facts>,
    /// Everybody who is named.
    pub peers: Peers,
    /// Which message is which.
    pub matched: Matched,
    /// By how much clocks differ.
    pub clocks: Clocks,
    /// Latency and loss.
    pub links: Links,
    /// All inputs in their order.
    pub order: Vec<Event>,
    /// Edges that the order does not respect, because they contradict each other: messages that were taken for another.
    pub contradictions: u64,
}

impl<'a> History<'a> {
    /// Replays all lives and joins them. `observe` is shown every step, life by life, with what it is about.
    pub fn join(lives: &'a [Life], mut observe: impl FnMut(usize, &Step<'_>, &Subject)) -> Self {
        let mut peers = Peers::default();
        for life in lives {
            peers.number(&life.peer);
        }
        let (mut facts, mut outcomes) = (Vec::new(), Vec::new());
        for (index, life) in lives.iter().enumerate() {
            let (found, outcome) = gather::gather(life, &mut peers, |step, subject| observe(index, step, subject));
            facts.push(found);
            outcomes.push(outcome);
        }
        // What can be only one message compares the clocks; with these, the rest can be told apart.
        let mut matched = matching::unique(lives, &facts, &peers);
        let clocks = Clocks::compare(lives, &facts, &matched);
        matching::others(lives, &facts, &peers, &clocks, &mut matched);
        let links = links::Links::measure(lives, &facts, &peers, &clocks, &matched);
        let (order, contradictions) = order::order(lives, &facts, &clocks, &matched);
        Self { lives, outcomes, facts, peers, matched, clocks, links, order, contradictions }
    }

    /// The time of an input, in microseconds since the birth of the first agent, by the first agent's clock as far as the
    /// messages tell.
    #[must_use]
    pub fn time(&self, event: Event) -> i64 {
        self.clocks.common(event.life as usize, self.facts[event.life as usize].times[event.index as usize])
    }

    /// The number of an input, as its agent counts.
    #[must_use]
    pub fn number(&self, event: Event) -> u64 {
        self.lives[event.life as usize].first_number() + u64::from(event.index)
    }

    /// An input as people name it: node and number.
    #[must_use]
    pub fn label(&self, event: Event) -> String {
        format!("{}:{}", self.lives[event.life as usize].label, self.number(event))
    }

    /// The input of this name.
    ///
    /// # Errors
    /// What would be understood, in words.
    pub fn find(&self, label: &str) -> Result<Event, String> {
        let (node, number) = label.rsplit_once(':').ok_or_else(|| {
            format!("'{label}' names no input of a cluster; expected NODE:NUMBER, such as {}", self.example())
        })?;
        let number: u64 = number
            .parse()
            .map_err(|_| format!("'{number}' in '{label}' is no number of an input; expected NODE:NUMBER"))?;
        let named: Vec<usize> = (0..self.lives.len())
            .filter(|life| self.lives[*life].label == node || self.lives[*life].peer.as_str().ends_with(node))
            .collect();
        let life = match named.as_slice() {
            [life] => *life,
            [] => {
                let known: Vec<_> = self.lives.iter().take(10).map(|life| life.label.as_str()).collect();
                return Err(format!("there is no journal of '{node}'; there are {}", known.join(", ")));
            }
            _ => return Err(format!("'{node}' is not one node; name it in full")),
        };
        let (first, count) = (self.lives[life].first_number(), self.facts[life].times.len() as u64);
        let index = number.checked_sub(first).filter(|index| *index < count);
        match index {
            Some(index) => Ok(Event { life: life as u32, index: index as u32 }),
            None => Err(format!(
                "there is no input {number} of {node}; its journal has {first} to {}",
                (first + count).saturating_sub(1)
            )),
        }
    }

    fn example(&self) -> String {
        self.order.last().map_or_else(|| "node-1:42".to_owned(), |event| self.label(*event))
    }

    /// Peers that talked to a recorded node, or were talked to by one, and of which there is no journal.
    #[must_use]
    pub fn missing(&self) -> Vec<&PeerId> {
        let here: BTreeSet<_> = self.lives.iter().map(|life| &life.peer).collect();
        self.peers.talked().filter(|peer| !here.contains(peer)).collect()
    }
}

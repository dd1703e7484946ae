//! What led to an input: back through its own agent, and across to the one that sent a message.

use std::collections::BTreeMap;

use super::gather::NONE;
use super::matching::NOWHERE;
use super::{Event, History};

/// Longest chain: real ones are a tenth of it.
const MOST_CAUSES: usize = 400;

/// Why one input follows from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// It is what the other agent sent.
    Sent,
    /// It is the other agent's answer.
    Answered,
    /// The other agent ended, and its connections broke.
    Died,
    /// It goes on with something in the same agent.
    SameAgent,
}

impl Because {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Sent => "was sent by",
            Self::Answered => "is answered by",
            Self::Died => "follows the end of",
            Self::SameAgent => "goes on from",
        }
    }
}

/// The edges between agents, by what they lead to.
#[derive(Clone, Debug, Default)]
pub struct Causes(BTreeMap<Event, (Event, Because)>);

impl Causes {
    /// The edges of a history.
    #[must_use]
    pub fn of(history: &History<'_>) -> Self {
        let mut causes = BTreeMap::new();
        for (life, places) in history.matched.received.iter().enumerate() {
            for (send, place) in history.facts[life].sends.iter().zip(places).filter(|(_, place)| **place != NOWHERE) {
                let receive = history.facts[place.0 as usize].receives[place.1 as usize];
                let event = |life: u32, index: u32| Event { life, index };
                let sent = (event(life as u32, send.event), Because::Sent);
                causes.insert(event(place.0, receive.opened), sent);
                causes.insert(event(place.0, receive.event), sent);
                if receive.answered != NONE && send.answered != NONE {
                    let answer = (event(place.0, receive.answered), Because::Answered);
                    causes.insert(event(life as u32, send.answered), answer);
                }
            }
        }
        for (life, facts) in history.facts.iter().enumerate() {
            for (index, peer) in &facts.disconnected {
                let event = Event { life: life as u32, index: *index };
                if let Some(last) = last_before(history, *peer, history.time(event)) {
                    causes.insert(event, (last, Because::Died));
                }
            }
        }
        Self(causes)
    }

    /// Where an input comes from, if it comes from somewhere.
    #[must_use]
    pub fn before(&self, history: &History<'_>, event: Event) -> Option<(Event, Because)> {
        if let Some(found) = self.0.get(&event) {
            return Some(*found);
        }
        let index = history.facts[event.life as usize].causes[event.index as usize];
        (index != NONE).then_some((Event { life: event.life, index }, Because::SameAgent))
    }

    /// The chain that led to an input, from its beginning.
    #[must_use]
    pub fn chain(&self, history: &History<'_>, event: Event) -> Vec<(Event, Option<Because>)> {
        let mut chain = Vec::new();
        let mut next = Some(event);
        while let Some(event) = next
            && chain.len() < MOST_CAUSES
            // Messages that were taken for another could make a circle.
            && !chain.iter().any(|(known, _)| *known == event)
        {
            let before = self.before(history, event);
            chain.push((event, before.map(|(_, because)| because)));
            next = before.map(|(event, _)| event);
        }
        chain.reverse();
        chain
    }
}

/// The last input of a peer's life that ended before `time`, if none of its lives goes on.
fn last_before(history: &History<'_>, peer: u32, time: i64) -> Option<Event> {
    let mut last = None;
    for (life, facts) in history.facts.iter().enumerate() {
        if history.peers.get(&history.lives[life].peer) != Some(peer) || facts.times.is_empty() {
            continue;
        }
        let event = |index: usize| Event { life: life as u32, index: index as u32 };
        let (first, end) = (event(0), event(facts.times.len() - 1));
        if history.time(first) <= time && history.time(end) > time {
            return None;
        }
        if history.time(end) <= time && last.is_none_or(|known| history.time(known) < history.time(end)) {
            last = Some(end);
        }
    }
    last
}

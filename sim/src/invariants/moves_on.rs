//! Checked now and then in the liveness phase.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_core::agent::status::FlightStatus;
use longshore_core::config::Scope;
use longshore_core::digest::Digest;
use longshore_core::time::Time;

use super::Invariant;
use crate::world::{NodeIndex, World};

/// The rule.
pub const RULE: Invariant = Invariant {
    name: "moves-on",
    sentence: "Once faults have ended, no flight stands still for long, and of two leaders of one swarm one gives way.",
    source: "design, section 3.2 (trackers that die, views that diverge) and section 6 (liveness phase)",
};

/// How often it is looked.
pub const LOOK: Duration = Duration::from_secs(5);
/// A tracker that stands still is left after 30 s, or three times what the blob should take; then there is a cascade.
const STANDSTILL: u64 = 100;
/// After a mismatch, whoever waits for the one that has the whole waits four times as long as a swarm may stand still, at most: 120 s
/// for blobs of up to 500 MiB, and again if that one was not right either.
const WAITING: u64 = 4 * STANDSTILL;
/// Leaders ask each other once a second, and do not ask those who were stalled or silent for some seconds.
const TWO_LEADERS: Duration = Duration::from_secs(30);

/// What was seen before.
#[derive(Debug, Default)]
pub struct Memory {
    /// Since when a swarm has had several leaders.
    several_lead: BTreeMap<Digest, Time>,
    /// When a flight last waited for somebody who fetches all of it again, and moves; or was in a swarm where others move, and could
    /// take nothing from them.
    waited: BTreeMap<(NodeIndex, Digest), Time>,
}

/// Whether a node is configured to rank another one.
fn ranks(world: &World, node: NodeIndex, other: NodeIndex) -> bool {
    let zone = |node| world.watched_config(node).and_then(|config| config.zone.as_ref());
    let by_zone = world.watched_config(node).is_some_and(|config| config.scope == Scope::Zone);
    !by_zone || zone(node).is_none() || zone(node) == zone(other)
}

/// Whether whom it follows fetches the whole from the registry by its own hand, and moves: what is missing is not given out.
fn waits_for_one_by_hand(world: &World, flight: &FlightStatus) -> bool {
    let tracker = flight.tracker.as_ref().and_then(|peer| world.agent(world.index_of(peer)?));
    let flights = tracker.map(|tracker| tracker.status().flights).unwrap_or_default();
    let moves = |theirs: &FlightStatus| theirs.digest == flight.digest && theirs.idle_seconds <= STANDSTILL;
    flights.iter().any(|theirs| theirs.role == "alone" && moves(theirs))
}

/// Whether those of its swarm who move have all convicted it or were convicted by it: they fetch from the registry, all of them if it
/// sends the whole only, and it gets nothing of that before its turn comes.
fn is_at_odds_with_those_who_move(world: &World, node: NodeIndex, flight: &FlightStatus) -> bool {
    let own = world.watched_config(node).map(|config| config.peer.clone());
    let leader = if flight.role == "leading" { own } else { flight.tracker.clone() };
    let mut moves = false;
    for other in world.node_indices().filter(|other| leader.is_some() && *other != node) {
        let leads = world.watched_config(other).map(|config| config.peer.clone()) == leader;
        let flights = world.agent(other).map(|agent| agent.status().flights).unwrap_or_default();
        let takes_part = |theirs: &&FlightStatus| theirs.digest == flight.digest && (leads || theirs.tracker == leader);
        let Some(theirs) = flights.iter().find(takes_part) else { continue };
        if theirs.idle_seconds > 2 * LOOK.as_secs() {
            continue;
        }
        let at_odds = |one, other| world.has_convicted(one, other, &flight.digest);
        if !at_odds(node, other) && !at_odds(other, node) {
            return false;
        }
        moves = true;
    }
    moves
}

/// Looks at all flights, `healthy` after the last fault.
pub fn check(world: &mut World, memory: &mut Memory, healthy: Duration) {
    let mut leaders: BTreeMap<Digest, Vec<NodeIndex>> = BTreeMap::new();
    let mut still = Vec::new();
    let now = world.now();
    for node in world.node_indices() {
        let Some(agent) = world.agent(node) else { continue };
        if agent.census().flights == 0 {
            continue;
        }
        let status = agent.status();
        // A node whose slots for a slow origin are all taken by other blobs does not stand still, and nor does its leading.
        let waits_for_a_slot = world.fills_its_share_of_the_origin(node);
        for flight in status.flights {
            let awaits_registry = flight.stage == "awaiting-registry";
            let moving = matches!(flight.stage.as_str(), "moving" | "behind") || awaits_registry;
            let active = moving || flight.stage == "resolving";
            let has_turn = !(waits_for_a_slot && flight.role == "leading");
            let place = (node, flight.digest);
            let is_still = flight.idle_seconds > STANDSTILL;
            // Whoever has got its turn at a slow registry a moment ago has not had a byte since before it waited for that.
            let waits_its_turn = awaits_registry || !has_turn;
            if waits_its_turn
                || waits_for_one_by_hand(world, &flight)
                || is_still && is_at_odds_with_those_who_move(world, node, &flight)
            {
                memory.waited.insert(place, now);
            }
            let patience = if flight.role == "waiting" { WAITING } else { STANDSTILL };
            // A registry that limits its requests, or a wait that was excused, excuse it for so long and not for ever;
            // slots that are all taken do for as long as they are.
            let healthy = healthy.as_secs();
            let far_too_long = flight.idle_seconds > WAITING && healthy > WAITING;
            let waited = memory.waited.get(&place).map_or(u64::MAX, |at| (now - *at).as_secs());
            let too_long = flight.idle_seconds.min(waited) > patience && healthy > patience;
            if active && has_turn && (too_long && !awaits_registry || far_too_long) {
                let (digest, idle) = (flight.digest.short(), flight.idle_seconds);
                still.push((node, format!("the flight of {digest} ({}) has had no byte for {idle} s", flight.role)));
            }
            if moving && flight.role == "leading" {
                leaders.entry(flight.digest).or_default().push(node);
            }
        }
    }
    for (node, detail) in still {
        world.violate(&RULE, node, &detail);
    }
    // Nobody takes orders from whom it has convicted: these lead for themselves and those who believe them. A node of a
    // version without swarms enrols nobody. And whoever ranks within its zone does not look for leaders in another one:
    // each zone is a swarm of its own there.
    leaders.retain(|digest, nodes| {
        let at_peace = |one: &NodeIndex, other: &NodeIndex| {
            world.both_swarm(*one, *other)
                && ranks(world, *one, *other)
                && ranks(world, *other, *one)
                && !world.has_convicted(*one, *other, digest)
                && !world.has_convicted(*other, *one, digest)
        };
        nodes.iter().enumerate().any(|(place, one)| nodes[place + 1..].iter().any(|other| at_peace(one, other)))
    });
    memory.several_lead.retain(|digest, _| leaders.contains_key(digest));
    for (digest, nodes) in leaders {
        let since = *memory.several_lead.entry(digest).or_insert(now);
        if now - since > TWO_LEADERS && healthy > TWO_LEADERS {
            world.violate(&RULE, nodes[0], &format!("nodes {nodes:?} all lead the swarm of {digest}"));
        }
    }
}

//! Messages are found again at the other end, and order what happened.

use std::collections::BTreeMap;

use longshore_sim::history::matching::NOWHERE;
use longshore_sim::history::why::{Because, Causes};
use longshore_sim::history::{Event, History};

use super::lived;

const CLUSTER: &str = "name = 'x'\nimages = [{ layers = ['40MiB', '9MiB'] }]\n";

fn with(cluster: &str, faults: &str) -> String {
    format!("{CLUSTER}cluster = {{ {cluster} }}\n{faults}")
}

/// Messages that were paired, and those of them that took another time than the others on their link: without jitter, all
/// take the same time, so these were taken for another.
fn paired(history: &History<'_>) -> (usize, usize) {
    let mut times: BTreeMap<(u32, u32), BTreeMap<i64, usize>> = BTreeMap::new();
    for (life, places) in history.matched.received.iter().enumerate() {
        for (send, place) in history.facts[life].sends.iter().zip(places).filter(|(_, place)| **place != NOWHERE) {
            let receive = history.facts[place.0 as usize].receives[place.1 as usize];
            let at = |life: u32, index: u32| history.time(Event { life, index });
            let took = at(place.0, receive.opened) - at(life as u32, send.event);
            *times.entry((life as u32, place.0)).or_default().entry(took).or_default() += 1;
        }
    }
    let all = times.values().flat_map(BTreeMap::values).sum();
    let usual: usize = times.values().filter_map(|link| link.values().max()).sum();
    (all, all - usual)
}

#[test]
fn every_message_is_found_at_the_other_end_and_clocks_that_differ_by_minutes_agree() {
    let (_, lives) = lived(&with("nodes = 8, clock-offset = '5m'", ""));
    let history = History::join(&lives, |_, _, _| {});
    assert!(history.outcomes.iter().all(|outcome| outcome.divergence.is_none() && outcome.broken.is_none()));
    let (sent, arrived, lost) = history.links.totals();
    assert!(sent > 1000 && (sent, lost) == (arrived, 0), "{sent} {arrived} {lost}");
    assert_eq!((history.contradictions, history.matched.doubled, history.clocks.unconnected), (0, 0, 0));
    assert_eq!(history.missing(), Vec::<&longshore_core::names::PeerId>::new());
    let (all, wrong) = paired(&history);
    assert!(all > 500 && wrong == 0, "{wrong} of {all}");
    // All agents were born at the same moment.
    for (life, found) in lives.iter().enumerate() {
        let born = history.clocks.common(life, found.begin());
        assert!(born <= 2 * history.clocks.uncertainty, "{}: {born}", found.label);
    }
    // The scenario says 300 us to 600 us; of two ways, nobody knows which one is the longer.
    let latencies = history.links.latencies();
    assert!(latencies[0] >= 200 && *latencies.last().unwrap() <= 700, "{latencies:?}");
}

#[test]
fn no_input_comes_before_what_it_was_sent_by_however_wrong_the_clocks_are() {
    let faults = "faults = [{ at = '150ms', for = '20s', what = 'kill', nodes = [3] }]";
    let (_, mut lives) = lived(&with("nodes = 6", faults));
    for (number, life) in lives.iter_mut().enumerate() {
        // A day of difference, which no journal says.
        life.journals[0].header.epoch_unix_micros -= number as u64 % 3 * 86_400_000_000;
    }
    let history = History::join(&lives, |_, _, _| {});
    let mut position = BTreeMap::new();
    for (at, event) in history.order.iter().enumerate() {
        assert_eq!(position.insert(*event, at), None);
        assert!(event.index == 0 || position.contains_key(&Event { index: event.index - 1, ..*event }));
    }
    let inputs: u64 = history.outcomes.iter().map(|outcome| outcome.inputs).sum();
    assert_eq!((position.len() as u64, history.contradictions), (inputs, 0));
    for (life, edges) in
        longshore_sim::history::order::edges(&lives, &history.facts, &history.matched).iter().enumerate()
    {
        for (to, from) in edges {
            assert!(position[from] < position[&Event { life: life as u32, index: *to }]);
        }
    }
}

#[test]
fn lost_and_doubled_messages_are_counted_and_seldom_taken_for_another() {
    let faults = "faults = [{ at = '0s', what = 'loss', per-million = 30000 }, { at = '0s', what = 'duplicate', per-million = 20000 }]";
    let (_, lives) = lived(&with("nodes = 20", faults));
    let history = History::join(&lives, |_, _, _| {});
    let (sent, _, lost) = history.links.totals();
    let share = lost as f64 / sent as f64;
    assert!((0.015..0.045).contains(&share), "{lost} of {sent}");
    assert!(history.matched.doubled > 0);
    let (all, wrong) = paired(&history);
    assert!(wrong * 100 <= all, "{wrong} of {all}");
}

#[test]
fn the_causes_of_a_commit_go_back_to_a_containerd_on_another_node() {
    let (_, lives) = lived(&with("nodes = 6", ""));
    let mut commits = Vec::new();
    let history = History::join(&lives, |life, step, _| {
        if matches!(step.input, longshore_core::input::Input::Committed { .. }) {
            commits.push(Event { life: life as u32, index: step.number as u32 });
        }
    });
    let causes = Causes::of(&history);
    let chains: Vec<_> = commits.iter().map(|commit| causes.chain(&history, *commit)).collect();
    assert!(chains.iter().all(|chain| chain.len() > 3));
    let crosses = |chain: &[(Event, Option<Because>)]| chain.iter().any(|(event, _)| event.life != chain[0].0.life);
    assert!(chains.iter().filter(|chain| crosses(chain)).count() > 5);
    for chain in &chains {
        assert!(chain.windows(2).all(|pair| history.time(pair[0].0) <= history.time(pair[1].0)), "{chain:?}");
    }
}

#[test]
fn nodes_without_a_journal_are_named_and_the_rest_still_joins() {
    let (_, mut lives) = lived(&with("nodes = 6", ""));
    lives.remove(2);
    let history = History::join(&lives, |_, _, _| {});
    let missing: Vec<_> = history.missing().into_iter().map(|peer| peer.as_str().to_owned()).collect();
    assert_eq!(missing, ["peer-00002"]);
    assert_eq!((history.contradictions, history.links.totals().2), (0, 0));
}

#[test]
fn an_input_is_found_by_node_and_number_and_what_is_not_there_is_told() {
    let (_, lives) = lived(&with("nodes = 3", ""));
    let history = History::join(&lives, |_, _, _| {});
    let event = history.find("node-00002:17").unwrap();
    assert_eq!(history.label(event), "node-00002:17");
    for (label, part) in [
        ("17", "NODE:NUMBER"),
        ("node-00009:1", "there are node-00000, node-00001"),
        ("node-00001:99999999", "its journal has 0 to"),
        ("node-00001:x", "no number"),
    ] {
        let error = history.find(label).unwrap_err();
        assert!(error.contains(part), "{label}: {error}");
    }
}

#[test]
fn a_torn_journal_contributes_what_it_has_and_a_hole_between_files_is_told() {
    let (_, files) = super::recorded(&with("nodes = 5", ""));
    let mut journals = Vec::new();
    for (name, bytes) in files {
        let cut = if name == "node-00003" { bytes.len() * 9 / 10 } else { bytes.len() };
        journals.push((name, longshore_sim::replay::Journal::read(&bytes[..cut]).unwrap()));
    }
    // The same file twice counts once.
    journals.push(("again".to_owned(), journals[1].1.clone()));
    let (lives, notes) = longshore_sim::history::lives::sort(journals);
    assert_eq!((lives.len(), notes.len()), (5, 1), "{notes:?}");
    assert!(notes[0].contains("left out"), "{notes:?}");
    assert_eq!(lives[3].damages().count(), 1);
    let history = History::join(&lives, |_, _, _| {});
    assert!(history.outcomes[3].inputs > 10 && history.outcomes[3].inputs < history.outcomes[4].inputs);
    // What was sent to it after its end is not called lost.
    assert_eq!((history.contradictions, history.links.totals().2), (0, 0));
}

//! What happened becomes a scenario in which about the same happens.

use longshore_sim::history::History;
use longshore_sim::history::export::{Exported, export};
use longshore_sim::replay::Journal;
use longshore_sim::replay::redacted::redact_all;
use longshore_sim::run::{Report, run};
use longshore_sim::scenario::{Arrivals, FaultKind, FaultSpec};

use super::lived;

/// A run, its export, and the run of that.
fn there_and_back(text: &str) -> (Report, Exported, Report) {
    let (report, lives) = lived(text);
    let exported = export(&lives).unwrap();
    let again = run(&exported.scenario, exported.scenario.seed);
    assert_eq!(again.violations, Vec::<String>::new(), "{}", exported.text);
    (report, exported, again)
}

fn micros(fault: &FaultSpec) -> (i64, i64) {
    let micros = |span: std::time::Duration| span.as_micros() as i64;
    (micros(fault.at.0), fault.lasts.map_or(-1, |span| micros(span.0)))
}

fn near(found: i64, expected: i64, within: i64) -> bool {
    (found - expected).abs() <= within
}

#[test]
fn a_rollout_comes_back_with_its_topology_images_and_figures() {
    let (before, exported, after) = there_and_back(
        "
name = 'x'
cluster = { nodes = 24, zones = 3, zones-known = true, cross-zone-latency = '2ms', node-rate = '50MB/s' }
origin = { rate = '40MB/s' }
knobs = { max-uploads = 4, probe-width = 2 }
[[images]]
layers = ['48MiB', '9MiB']
[[images]]
layers = ['20MiB']
shared-layers = 1
at = '30s'
arrivals = 'rolling'
over = '12s'
nodes = 10
",
    );
    let text = &exported.text;
    let scenario = &exported.scenario;
    assert_eq!((scenario.cluster.nodes, scenario.cluster.zones, scenario.cluster.zones_known), (24, 3, true), "{text}");
    let rate = |found: u64, real: u64| (real * 85 / 100..=real * 115 / 100).contains(&found);
    assert!(rate(scenario.cluster.node_rate.0, 50_000_000), "{text}");
    assert!(rate(scenario.origin.rate.0, 40_000_000), "{text}");
    let latency = scenario.cluster.latency.0.as_micros();
    assert!((200..=400).contains(&latency), "{text}");
    assert!((1500..=2500).contains(&scenario.cluster.cross_zone_latency.0.as_micros()), "{text}");
    assert_eq!(
        (scenario.knobs.max_uploads, scenario.knobs.probe_width, scenario.knobs.max_downloads),
        (Some(4), Some(2), None)
    );
    assert_eq!(scenario.faults, Vec::new(), "{text}");
    let [first, second] = scenario.images.as_slice() else { panic!("{text}") };
    assert_eq!(first.layers.iter().map(|layer| layer.0 >> 20).collect::<Vec<_>>(), [48, 9]);
    assert_eq!((first.arrivals, first.nodes), (Arrivals::AtOnce, None), "{text}");
    assert_eq!((second.shared_layers, second.layers[0].0 >> 20, second.nodes), (1, 20, Some(10)), "{text}");
    assert_eq!(second.arrivals, Arrivals::Rolling, "{text}");
    assert!(near(second.over.0.as_millis() as i64, 12_000, 100), "{text}");
    let (before, after) = (before.summary, after.summary);
    assert_eq!((before.finished, before.unfinished), (after.finished, after.unfinished));
    assert!((before.origin_copies - after.origin_copies).abs() < 0.1, "{before:?} {after:?}");
    assert!((0.7..1.4).contains(&(before.slowest_ratio / after.slowest_ratio)), "{before:?} {after:?}");
}

#[test]
fn deaths_and_an_outage_come_back_as_such() {
    let (before, exported, after) = there_and_back(
        "
name = 'x'
cluster = { nodes = 12, clock-offset = '2s' }
origin = { rate = '10MB/s' }
images = [{ layers = ['64MiB'] }]
faults = [
    { at = '1s', for = '20s', what = 'kill', nodes = [3] },
    { at = '1500ms', what = 'kill', nodes = [5] },
    { at = '2s', for = '20s', what = 'origin-errors' },
]
",
    );
    let text = &exported.text;
    let of = |what| exported.scenario.faults.iter().filter(move |fault| fault.what == what);
    let kills: Vec<_> = of(FaultKind::Kill).collect();
    let [third, fifth] = kills.as_slice() else { panic!("{text}") };
    assert_eq!((third.nodes.as_slice(), fifth.nodes.as_slice()), (&[3][..], &[5][..]), "{text}");
    let ((at, lasts), (later, never)) = (micros(third), micros(fifth));
    // The clock of the life after the restart is estimated from the few messages of the outage.
    assert!(near(at, 1_000_000, 50_000) && near(lasts, 20_000_000, 1_000_000), "{text}");
    assert!(near(later, 1_500_000, 50_000) && never == -1, "{text}");
    let outages: Vec<_> = of(FaultKind::OriginErrors).map(micros).collect();
    assert!(outages.iter().any(|(at, lasts)| near(*at, 2_000_000, 1_000_000) && *lasts >= 1_000_000), "{text}");
    let (before, after) = (before.summary, after.summary);
    assert_eq!((before.finished, before.unfinished), (after.finished, after.unfinished), "{before:?} {after:?}");
    // Copies are not compared: journals do not say how long an outage lasted after agents had stopped asking.
}

#[test]
fn a_partition_a_pause_and_a_liar_come_back_as_such() {
    let (_, exported, _) = there_and_back(
        "
name = 'x'
cluster = { nodes = 16 }
origin = { rate = '10MB/s' }
images = [{ layers = ['64MiB'] }]
faults = [
    { at = '1s', for = '4s', what = 'partition', nodes = [1, 4, 7, 10] },
    { at = '2s', for = '3s', what = 'pause', nodes = [2] },
    { at = '0s', what = 'corrupt', nodes = [9] },
]
",
    );
    let text = &exported.text;
    let of =
        |what| exported.scenario.faults.iter().find(|fault| fault.what == what).unwrap_or_else(|| panic!("{text}"));
    assert_eq!(of(FaultKind::Corrupt).nodes, [9], "{text}");
    let pause = of(FaultKind::Pause);
    assert_eq!(pause.nodes, [2], "{text}");
    assert!(near(micros(pause).0, 2_000_000, 1_000_000) && near(micros(pause).1, 3_000_000, 1_000_000), "{text}");
    let partition = of(FaultKind::Partition);
    assert_eq!(partition.nodes, [1, 4, 7, 10], "{text}");
    assert!(near(micros(partition).0, 1_000_000, 500_000), "{text}");
}

#[test]
fn journals_without_names_join_and_export_to_the_same_scenario() {
    let (_, mut lives) = lived(
        "name = 'x'\ncluster = { nodes = 6, zones = 2, zones-known = true }\nimages = [{ layers = ['24MiB'] }]\n",
    );
    let plain = export(&lives).unwrap();
    let journals: Vec<&Journal> = lives.iter().flat_map(|life| &life.journals).collect();
    let redacted = redact_all(&journals).unwrap().journals;
    let before = History::join(&lives, |_, _, _| {});
    let (totals, order) = (before.links.totals(), before.order.clone());
    for (life, journal) in lives.iter_mut().zip(redacted) {
        life.journals = vec![journal];
    }
    let after = History::join(&lives, |_, _, _| {});
    assert_eq!((after.links.totals(), &after.order), (totals, &order));
    assert!(after.outcomes.iter().all(|outcome| outcome.divergence.is_none()));
    let exported = export(&lives).unwrap();
    assert_eq!(exported.text, plain.text);
    for name in ["\"zone-0\"", "\"zone-1\"", "origin.example"] {
        assert!(!format!("{:?}", lives[0].journals[0].header).contains(name));
        assert!(!exported.text.contains(name), "{}", exported.text);
    }
}

#[test]
fn journals_in_which_nothing_was_pulled_are_no_scenario() {
    let (_, lives) = lived("name = 'x'\nimages = [{ layers = ['1MiB'], nodes = 0 }]\n");
    let error = export(&lives).unwrap_err();
    assert!(error.contains("no image was pulled"), "{error}");
}

//! What is told about a run: causes, failures, differences and pages.

use longshore_sim::diff::{Side, diff};
use longshore_sim::failure;
use longshore_sim::record::{Wanted, What};
use longshore_sim::run::{Recorded, run, run_with_record};
use longshore_sim::scenario::Scenario;
use longshore_sim::view::page;
use longshore_sim::why::{Chain, Shown, Target, find, why};

const CALM: &str = "name = 'calm'\n[cluster]\nnodes = 5\n[[images]]\nlayers = ['8MiB', '3MiB']\n";

/// Much of what can befall a cluster, and a second image.
const ROUGH: &str = "name = 'rough'\nheal-at = '9s'\n[cluster]\nnodes = 9\nzones = 3\nnode-rate = '100Mbit/s'\n\
    membership-lag = '2s'\n[[images]]\nlayers = ['24MiB', '6MiB']\narrivals = 'poisson'\nover = '1s'\n[[images]]\n\
    layers = ['8MiB']\nshared-layers = 1\nat = '4s'\n[[faults]]\nat = '500ms'\nfor = '2s'\nwhat = 'partition'\nsides = 2\n\
    [[faults]]\nat = '1s'\nfor = '3s'\nwhat = 'kill'\ncount = 2\nover = '1s'\n[[faults]]\nat = '1s'\nfor = '1s'\n\
    what = 'pause'\nnodes = [4]\n[[faults]]\nat = '3s'\nfor = '2s'\nwhat = 'origin-errors'\n[[faults]]\nat = '2s'\nfor = '4s'\n\
    what = 'loss'\nper-million = 20000\n";

/// The registry never answers.
const SILENT: &str = "name = 'silent'\nlimit = '40s'\n[cluster]\nnodes = 3\n[[images]]\nlayers = ['4MiB']\n[[faults]]\n\
    at = '5ms'\nwhat = 'origin-silent'\n";

fn scenario(text: &str) -> Scenario {
    Scenario::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

fn recorded(scenario: &Scenario, seed: u64) -> Recorded {
    run_with_record(scenario, seed, Wanted { events: true, timeline: true, ..Wanted::default() })
}

#[test]
fn a_run_is_the_same_whether_it_is_recorded_or_not() {
    for text in [CALM, ROUGH, SILENT] {
        let scenario = scenario(text);
        for seed in 1..4 {
            let alone = run(&scenario, seed).summary;
            let told = recorded(&scenario, seed).report.expect("no panic").summary;
            assert_eq!((alone.trace_hash, alone.events), (told.trace_hash, told.events), "{} {seed}", scenario.name);
        }
    }
}

#[test]
fn causes_lie_in_the_past() {
    let record = recorded(&scenario(ROUGH), 1).record;
    let mut beginnings = 0;
    for (id, event) in record.events() {
        let earlier = event.cause().map(|cause| cause.event).into_iter().chain(event.because());
        for cause in earlier {
            let before = record.event(cause).expect("a run this small is kept whole");
            assert!(cause < id && before.at <= event.at, "{id} {event:?} follows from {cause} {before:?}");
        }
        if event.cause().is_none() {
            beginnings += 1;
            let begins = matches!(
                event.what,
                What::Starts | What::Told | What::PullBegins | What::FaultBegins | What::Heals | What::Timer(_)
            );
            assert!(begins, "{id} {event:?} follows from nothing");
        }
    }
    assert!(record.len() > 5000, "{}", record.len());
    assert!(beginnings < record.len() / 20, "{beginnings} of {}", record.len());
}

#[test]
fn a_pull_goes_back_to_the_beginning_of_one() {
    let scenario = scenario(CALM);
    let recorded = recorded(&scenario, 1);
    for pull in recorded.record.pulls() {
        let (_, finished) = pull.finished.expect("a done pull");
        let chain = Chain::of(&recorded.record, finished);
        let first = chain.links.first().and_then(|link| recorded.record.event(link.event)).expect("a first event");
        assert_eq!(first.what, What::PullBegins, "node {}", pull.node);
        assert!(chain.links.len() > 5);
    }
}

#[test]
fn every_line_of_a_chain_has_words() {
    let scenario = scenario(ROUGH);
    let recorded = recorded(&scenario, 2);
    let found = find(&scenario, &recorded, &Target::Anything).expect("something to explain");
    let shown = Chain::of(&recorded.record, found.event).shown(&recorded.record);
    let words = Chain::wanted(&recorded.record, &shown);
    let said = run_with_record(&scenario, 2, Wanted { words, ..Wanted::default() }).record;
    for link in shown.iter().filter_map(|shown| if let Shown::Link(link) = shown { Some(link) } else { None }) {
        let words = said.words(link.event).expect("words for each link");
        assert!(!words.happened.is_empty());
        if let Some(output) = link.output {
            assert!(words.did.len() > usize::from(output), "{link:?} {words:?}");
        }
    }
}

#[test]
fn a_broken_rule_is_explained_by_the_fault_that_broke_it() {
    let text = why(&scenario(SILENT), 1, &Target::Violation(1), false).expect("a broken rule");
    assert!(text.starts_with("why: every-pull-finishes"), "{text}");
    assert!(text.contains("fault: origin-silent"), "{text}");
}

#[test]
fn what_is_lost_is_explained_by_the_cut() {
    let cut = scenario(
        "name = 'cut'\n[cluster]\nnodes = 4\nnode-rate = '20Mbit/s'\n[[images]]\nlayers = ['8MiB']\n[[faults]]\n\
         at = '300ms'\nfor = '4s'\nwhat = 'half-open'\nnodes = [2]\n[expect]\nslowest-ratio = 1.0\n",
    );
    let text = failure::report(&cut, 1, "again", "");
    assert!(text.starts_with("NOT AS EXPECTED slowest-ratio"), "{text}");
    assert!(text.contains("half-open, node 2"), "{text}");
}

#[test]
fn a_failure_is_told_in_order() {
    let text = failure::report(&scenario(SILENT), 1, "longshore sim run silent.toml --seed 1", "  nodes = 3\n");
    let parts = [
        "BROKEN every-pull-finishes: 40.0",
        "again: longshore sim run silent.toml",
        "drawn\n  nodes = 3",
        "the last 40 that happened on node",
        "why: every-pull-finishes",
    ];
    let places: Vec<_> =
        parts.iter().map(|part| text.find(part).unwrap_or_else(|| panic!("no '{part}' in {text}"))).collect();
    assert!(places.is_sorted(), "{places:?} {text}");
}

#[test]
fn what_does_not_exist_is_not_explained() {
    let calm = scenario(CALM);
    for (target, expected) in [
        (Target::Violation(1), "no rule was broken"),
        (Target::Event(u32::MAX), "there is no event"),
        (Target::Node(5), "there is no node 5; the last one is 4"),
        (Target::Blob(0, "zz".into()), "no blob of this run"),
    ] {
        let error = why(&calm, 1, &target, false).expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn how_a_node_came_by_a_blob_is_explained() {
    let calm = scenario(CALM);
    let record = recorded(&calm, 1).record;
    let manifest = record.digest(record.pulls()[0].manifest).expect("a digest").hex();
    let text = why(&calm, 1, &Target::Blob(3, manifest[..8].to_owned()), false).expect("a chain");
    assert!(text.contains("on node 3"), "{text}");
}

#[test]
fn a_run_does_not_differ_from_itself() {
    let side = Side { name: "rough.toml".into(), scenario: scenario(ROUGH), seed: 3 };
    let difference = diff([&side, &side]);
    assert!(difference.is_none);
    assert!(difference.text.contains("no difference: all "), "{}", difference.text);
}

#[test]
fn runs_part_where_one_has_a_fault() {
    let one = Side { name: "one.toml".into(), scenario: scenario(CALM), seed: 1 };
    let faulty = format!("{CALM}[[faults]]\nat = '40ms'\nwhat = 'kill'\nnodes = [1]\n");
    let other = Side { name: "other.toml".into(), scenario: scenario(&faulty), seed: 1 };
    let difference = diff([&one, &other]);
    assert!(!difference.is_none);
    let after = difference.text.split("--- other\n").nth(1).expect("the other side").lines().next().unwrap_or_default();
    assert!(after.contains("fault: kill, node 1"), "{}", difference.text);
    assert!(difference.text.contains("pulls done"), "{}", difference.text);
}

#[test]
fn a_page_is_whole_and_needs_nothing_from_elsewhere() {
    let mut rough = scenario(ROUGH);
    rough.about = "</script><img src=x> & \"quotes\"".into();
    let page = page(&rough, 1, "longshore sim view rough.toml --seed 1").expect("a page");
    let html = &page.html;
    for part in
        ["completion", "registry", "peers", "messages", "faults", "lanes", "figures", "problems", "chain", "tip"]
    {
        assert!(html.contains(&format!("id=\"{part}\"")), "no {part}");
    }
    for foreign in ["http://", "https://", "src=\"", "@import", "url(", "<link"] {
        assert!(!html.contains(foreign), "{foreign}");
    }
    assert!(!html.contains("{{"), "a place that was not filled");
    assert_eq!(html.matches("</script>").count(), 2);
    let data = html.split("id=\"run\">").nth(1).and_then(|rest| rest.split("</script>").next()).expect("data");
    let data: serde_json::Value = serde_json::from_str(data).expect("JSON");
    assert_eq!(data["about"], rough.about);
    assert_eq!(data["lanes"].as_array().map(Vec::len), Some(9));
    assert_eq!(data["faults"].as_array().map(Vec::len), Some(5));
    let hash = &page.run.report.expect("no panic").summary.trace_hash;
    assert_eq!(data["trace_hash"], **hash);
}

#[test]
fn neighbours_share_a_lane_when_there_are_many() {
    let many =
        scenario("name = 'many'\n[cluster]\nnodes = 1500\nzones = 2\n[[images]]\nlayers = ['1MiB']\nnodes = 10\n");
    let page = page(&many, 1, "again").expect("a page");
    let data = page.html.split("id=\"run\">").nth(1).and_then(|rest| rest.split("</script>").next()).expect("data");
    let data: serde_json::Value = serde_json::from_str(data).expect("JSON");
    let lanes = data["lanes"].as_array().expect("lanes");
    let nodes: u64 = lanes.iter().filter_map(|lane| lane["count"].as_u64()).sum();
    assert_eq!(nodes, 1500);
    assert!(lanes.len() < 1000, "{}", lanes.len());
    assert!(page.html.len() < 3_000_000, "{}", page.html.len());
}

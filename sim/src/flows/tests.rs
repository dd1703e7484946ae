//! Small networks whose times one can work out by hand. A link of 1 MB/s carries a chunk of 1000 bytes in a millisecond.

use std::collections::BTreeMap;

use super::*;
use crate::queue::Queue;

const RATE: u64 = 1_000_000;
const CHUNK: u64 = 1000;

struct Bench {
    flows: Flows<&'static str>,
    queue: Queue<Step>,
    now: Time,
    later: Vec<(Time, Step)>,
    done: BTreeMap<&'static str, u64>,
    left: BTreeMap<&'static str, u64>,
}

impl Bench {
    fn new() -> Self {
        Self {
            flows: Flows::default(),
            queue: Queue::default(),
            now: Time::ZERO,
            later: Vec::new(),
            done: BTreeMap::new(),
            left: BTreeMap::new(),
        }
    }

    fn begin(&mut self, name: &'static str, from: LinkId, to: LinkId, bytes: u64) -> FlowId {
        self.begin_by(name, Route { from, across: None, to, latency: Duration::ZERO, most: None }, bytes)
    }

    fn begin_by(&mut self, name: &'static str, route: Route, bytes: u64) -> FlowId {
        let id = self.flows.begin(self.now, route, bytes, CHUNK, name, &mut self.later);
        self.schedule();
        id
    }

    fn schedule(&mut self) {
        for (at, step) in self.later.drain(..) {
            self.queue.push(at, step);
        }
    }

    /// Runs to `end` (milliseconds).
    fn run(&mut self, end: u64) {
        while self.queue.next_time().is_some_and(|at| at <= Time::from_micros(end * 1000))
            && let Some((at, step)) = self.queue.pop()
        {
            self.now = at;
            match self.flows.step(at, step, &mut self.later) {
                Progress::Received { flow, all: true, .. } => {
                    let name = self.flows.end(flow).expect("it was not over");
                    self.done.insert(name, at.as_micros() / 1000);
                }
                Progress::Left { flow, bytes, .. } => {
                    let name = self.flows.get(flow).expect("it is not over");
                    *self.left.entry(name).or_default() += bytes;
                }
                _ => {}
            }
            self.schedule();
        }
        self.now = Time::from_micros(end * 1000);
    }
}

#[test]
fn a_flow_alone_has_the_whole_link() {
    let mut bench = Bench::new();
    let (up, down) = (bench.flows.add_link(RATE), bench.flows.add_link(RATE));
    bench.begin("a", up, down, 100_500);
    bench.run(1000);
    assert_eq!(bench.done, BTreeMap::from([("a", 100)]), "cut through: the downlink adds nothing");
    assert_eq!(bench.left["a"], 100_500);
}

#[test]
fn flows_share_an_uplink_to_the_chunk() {
    let mut bench = Bench::new();
    let up = bench.flows.add_link(RATE);
    let downs = [bench.flows.add_link(RATE), bench.flows.add_link(RATE), bench.flows.add_link(RATE)];
    bench.begin("a", up, downs[0], 100_000);
    bench.begin("b", up, downs[1], 100_000);
    bench.run(100);
    assert_eq!(bench.left, BTreeMap::from([("a", 50_000), ("b", 50_000)]));
    bench.begin("late", up, downs[2], 10_000);
    bench.run(1000);
    assert_eq!(bench.done["late"], 130, "a third of the link");
    assert_eq!((bench.done["a"], bench.done["b"]), (209, 210));
}

#[test]
fn flows_share_a_downlink_and_what_one_cannot_use_others_get() {
    let mut bench = Bench::new();
    let ups = [bench.flows.add_link(RATE), bench.flows.add_link(RATE)];
    let (shared, own) = (bench.flows.add_link(RATE), bench.flows.add_link(RATE));
    // Both senders send to `shared`; the first one also to `own`, which can take all that is left of its uplink.
    bench.begin("a", ups[0], shared, 100_000);
    bench.begin("b", ups[1], shared, 100_000);
    bench.begin("c", ups[0], own, 1_000_000);
    bench.run(100);
    assert!(bench.left["a"].abs_diff(bench.left["b"]) <= 3 * CHUNK, "{:?}", bench.left);
    assert!(bench.left["a"] + bench.left["c"] >= 99_000, "the uplink is never idle: {:?}", bench.left);
    bench.run(300);
    assert!(bench.done["a"].max(bench.done["b"]) <= 203, "the downlink is never idle: {:?}", bench.done);
}

#[test]
fn a_slow_receiver_has_a_window_and_no_more_under_way() {
    let mut bench = Bench::new();
    let (up, slow) = (bench.flows.add_link(RATE), bench.flows.add_link(RATE / 100));
    let id = bench.begin("a", up, slow, 100_000);
    bench.run(50);
    assert!(bench.flows.sent(id) <= 3 * CHUNK);
    bench.flows.set_rate(slow, RATE);
    bench.run(1000);
    assert!(bench.done["a"] < 300, "the new rate counts from the next chunk on: {:?}", bench.done);
}

#[test]
fn latency_delays_and_does_not_slow_down() {
    let mut bench = Bench::new();
    let (up, down) = (bench.flows.add_link(RATE), bench.flows.add_link(RATE));
    let route = Route { from: up, across: None, to: down, latency: Duration::from_millis(40), most: None };
    bench.begin_by("a", route, 500_000);
    bench.run(1000);
    assert_eq!(bench.done["a"], 540);
}

#[test]
fn a_way_between_zones_holds_up_what_crosses_it() {
    let mut bench = Bench::new();
    let (ups, downs) =
        ([bench.flows.add_link(RATE), bench.flows.add_link(RATE)], [(); 2].map(|()| bench.flows.add_link(RATE)));
    let across = Some(bench.flows.add_link(RATE / 2));
    for (name, pair) in [("a", 0), ("b", 1)] {
        let route = Route { from: ups[pair], across, to: downs[pair], latency: Duration::ZERO, most: None };
        bench.begin_by(name, route, 100_000);
    }
    bench.run(1000);
    assert!(bench.done.values().all(|at| (398..=402).contains(at)), "{:?}", bench.done);
}

#[test]
fn a_flow_keeps_below_its_own_rate_and_leaves_the_rest_to_others() {
    let mut bench = Bench::new();
    let (up, downs) = (bench.flows.add_link(RATE), [(); 2].map(|()| bench.flows.add_link(RATE)));
    let route = Route { from: up, across: None, to: downs[0], latency: Duration::ZERO, most: Some(RATE / 10) };
    bench.begin_by("slow", route, 10_000);
    bench.begin("fast", up, downs[1], 90_000);
    bench.run(1000);
    assert!((100..=110).contains(&bench.done["slow"]), "{:?}", bench.done);
    assert!(bench.done["fast"] <= 101, "{:?}", bench.done);
}

#[test]
fn what_is_ended_is_gone_and_its_link_serves_the_next() {
    let mut bench = Bench::new();
    let (up, down) = (bench.flows.add_link(RATE), bench.flows.add_link(RATE));
    let first = bench.begin("a", up, down, 100_000);
    bench.run(10);
    assert_eq!(bench.flows.end(first), Some("a"));
    assert_eq!(bench.flows.end(first), None);
    let second = bench.begin("b", up, down, 10_000);
    assert_ne!(first, second);
    bench.run(1000);
    assert_eq!(bench.done, BTreeMap::from([("b", 21)]));
    assert_eq!(bench.flows.iter().count(), 0);
}

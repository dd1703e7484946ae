//! The determinism audit finds nothing where nothing is, and finds leaks that are planted.

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use longshore_sim::audit::pins::pins;
use longshore_sim::audit::{Audited, audit, audit_with_noise, is_in_share};
use longshore_sim::fuzz::{Limits, draw};
use longshore_sim::scenario::Scenario;
use longshore_sim::world::NodeIndex;

/// The only node that the planted leaks reach.
const VICTIM: NodeIndex = 3;

fn scenario() -> Scenario {
    let text = "name = \"audited\"\n[cluster]\nnodes = 8\n[[images]]\nlayers = [\"4MiB\", \"16MiB\"]\n";
    Scenario::parse(text).expect("a scenario")
}

/// The order of a hash set, which the standard library seeds at random.
fn hash_order(node: NodeIndex) -> Duration {
    let numbers: HashSet<u64> = (0..16).collect();
    let first = numbers.into_iter().next().unwrap_or_default();
    if node == VICTIM { Duration::from_micros(first) } else { Duration::ZERO }
}

fn wall_clock(node: NodeIndex) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    if node == VICTIM { Duration::from_micros(u64::from(now.subsec_nanos()) / 100 % 64) } else { Duration::ZERO }
}

fn address(node: NodeIndex) -> Duration {
    let here = Box::new(0_u8);
    let mixed = (std::ptr::from_ref(&*here) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
    if node == VICTIM { Duration::from_micros(mixed) } else { Duration::ZERO }
}

/// What one run leaves behind for all others of the process. (Not modulo anything: of a run with a multiple of that many messages it
/// would leave nothing.)
fn process_wide_state(node: NodeIndex) -> Duration {
    static MESSAGES: AtomicU64 = AtomicU64::new(0);
    let messages = MESSAGES.fetch_add(1, Ordering::Relaxed);
    if node == VICTIM { Duration::from_micros(messages) } else { Duration::ZERO }
}

thread_local! {
    static MESSAGES: Cell<u64> = const { Cell::new(0) };
}

/// What one run leaves behind in its thread.
fn state_of_the_thread(node: NodeIndex) -> Duration {
    let messages = MESSAGES.get();
    MESSAGES.set(messages + 1);
    if node == VICTIM { Duration::from_micros(messages) } else { Duration::ZERO }
}

fn the_first_different_event_is_named(audited: &Audited) {
    let difference = audited.difference.as_ref().unwrap_or_else(|| panic!("the leak was not found: {audited:?}"));
    let event = difference.event.as_ref().unwrap_or_else(|| panic!("the event was not found: {audited:?}"));
    assert_ne!(event.first, event.second);
    assert!(event.number >= difference.window_start);
    // The earlier one of both is what the leak has moved.
    let victim = format!("node {VICTIM} <-");
    assert!(event.first.contains(&victim) || event.second.contains(&victim), "{event:?}");
}

#[test]
fn hash_order_is_found() {
    the_first_different_event_is_named(&audit_with_noise(&scenario(), 5, hash_order));
}

#[test]
fn a_wall_clock_is_found() {
    the_first_different_event_is_named(&audit_with_noise(&scenario(), 5, wall_clock));
}

#[test]
fn an_address_is_found() {
    the_first_different_event_is_named(&audit_with_noise(&scenario(), 5, address));
}

#[test]
fn state_of_the_process_is_found() {
    the_first_different_event_is_named(&audit_with_noise(&scenario(), 5, process_wide_state));
}

#[test]
fn noise_that_follows_from_the_run_is_no_leak() {
    let noise = |node| Duration::from_micros(node as u64 * 7);
    assert_eq!(audit_with_noise(&scenario(), 5, noise).difference, None);
}

#[test]
fn random_scenarios_are_the_same_twice() {
    let limits = Limits { nodes: 16, layer_bytes: 32 << 20 };
    let different: Vec<_> = (500..530)
        .map(|seed| audit(&draw(seed, limits), seed))
        .filter(|audited| audited.difference.is_some())
        .collect();
    assert_eq!(different, []);
}

#[test]
fn what_ran_before_in_the_thread_is_found() {
    // The first run begins its thread; the second comes after another scenario.
    the_first_different_event_is_named(&audit_with_noise(&scenario(), 5, state_of_the_thread));
}

#[test]
fn a_share_of_the_seeds_is_about_that_share() {
    let chosen = (0..10_000).filter(|seed| is_in_share(*seed, 5)).count();
    assert!((400..600).contains(&chosen), "{chosen} of 10000");
    assert_eq!((0..100).filter(|seed| is_in_share(*seed, 100)).count(), 100);
}

/// `make audit` compares a release build with the same snapshot.
#[test]
fn trace_hashes_are_the_pinned_ones() {
    insta::assert_snapshot!("pinned_hashes", pins());
}

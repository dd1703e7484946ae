//! Journals of whole clusters: recorded, joined, and made into scenarios.

#![allow(clippy::unwrap_used, reason = "everything here is a test, helpers of tests included")]

mod exporting;
mod joining;
mod recording;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use longshore_sim::history::lives::{self, Life};
use longshore_sim::replay::Journal;
use longshore_sim::run::{Report, run_recorded};
use longshore_sim::scenario::Scenario;
use longshore_sim::world::recorder::Recorder;

/// A run of a scenario with its journals, by file name.
pub(crate) fn recorded(text: &str) -> (Report, BTreeMap<String, Vec<u8>>) {
    let files = Arc::new(Mutex::new(BTreeMap::<String, Vec<u8>>::new()));
    let shelf = Arc::clone(&files);
    let sink = move |name: &str, bytes: &[u8]| {
        shelf.lock().unwrap().entry(name.to_owned()).or_default().extend(bytes);
        Ok(())
    };
    let scenario = Scenario::parse(text).unwrap();
    let report = run_recorded(&scenario, scenario.seed, Recorder::new(Box::new(sink)), false).unwrap();
    let files = std::mem::take(&mut *files.lock().unwrap());
    (report, files)
}

/// A run of a scenario, and the lives of its agents.
pub(crate) fn lived(text: &str) -> (Report, Vec<Life>) {
    let (report, files) = recorded(text);
    let journals = files.into_iter().map(|(name, bytes)| (name, Journal::read(&bytes).unwrap())).collect();
    let (lives, notes) = lives::sort(journals);
    assert_eq!(notes, Vec::<String>::new());
    (report, lives)
}

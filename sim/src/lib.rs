//! Clusters in a box: many [`longshore_core::Agent`]s in one thread, on virtual time.
//!
//! [`world::World`] holds the nodes, the origin and the network between them; a test or a scenario starts pulls and faults
//! and lets time run. Image bytes do not exist here: a piece is a number that says what its content is, and hashing is a
//! mixing function over such numbers ([`content`]), so that verification is as real as with bytes.
//!
//! [`scenario::Scenario`] says what happens in a file, [`run`] runs it, [`invariants`] are what has to hold, and [`fuzz`]
//! makes scenarios up. [`record`] keeps what happened and what brought it about, and [`why`], [`failure`] and others tell it.

pub mod audit;
pub mod chance;
pub mod content;
pub mod diff;
pub mod failure;
pub mod flows;
pub mod fuzz;
pub mod history;
pub mod invariants;
pub mod queue;
pub mod record;
pub mod replay;
pub mod rivals;
pub mod run;
pub mod scenario;
pub mod stopwatch;
pub mod trace;
pub mod view;
mod watch;
pub mod why;
pub mod world;

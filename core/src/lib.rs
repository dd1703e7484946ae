//! What a Longshore agent decides.
//!
//! One state machine without I/O, [`agent::Agent`]: [`input::Input`]s in, [`output::Output`]s out, time as an argument.
//! Drivers (`longshore-net`) move the bytes and the messages; the simulator (`longshore-sim`) puts many of these machines
//! into one thread.

#[macro_use]
pub mod mutants;

pub mod agent;
pub mod config;
pub mod digest;
pub mod failures;
pub mod input;
pub mod journal;
pub mod members;
pub mod message;
pub mod metrics;
pub mod names;
pub mod output;
pub mod piece;
pub mod presence;
pub mod range;
pub mod resolve;
pub mod spine;
pub mod time;
pub mod timers;

mod cache;
mod calls;
mod context;
mod flight;
mod marks;
mod swarm;

pub use agent::Agent;

//! What a Longshore agent decides.
//!
//! One state machine without I/O: inputs in, outputs out, time as an argument. Drivers (`longshore-net`) move the bytes
//! and the messages; the simulator (`longshore-sim`) puts a thousand of these machines into one thread.

pub mod config;
pub mod digest;
pub mod input;
pub mod members;
pub mod message;
pub mod metrics;
pub mod names;
pub mod output;
pub mod piece;
pub mod range;
pub mod spine;
pub mod time;

//! What a Longshore agent touches: peers, registries, disk, and containerd's requests.
//!
//! The [`driver`] traits are the borders; the shell runs a [`longshore_core`] agent against them.

pub mod agent;
pub mod driver;
pub mod journal;
pub mod membership;
pub mod mirror;
pub mod origin;
pub mod peers;
pub mod shell;
pub mod store;
pub mod vault;
pub mod wire;

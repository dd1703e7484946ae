//! The agent's configuration: one table of keys, four layers, every problem reported at once.
//!
//! Defaults are overridden by the file, the file by the environment, the environment by flags. The table in
//! [`table`] is the only list of keys: the file's parser, the environment's names, the flags with their help, the
//! typed [`Settings`] and `longshore config` all come from it.

pub mod kinds;
pub mod layers;
pub mod print;
pub mod problem;
pub mod raw;
pub mod registries;
pub mod rules;
pub mod table;

pub use layers::{Effective, FileText, Layers, load};
pub use problem::{Origin, Problem, Problems};
pub use table::{Key, Settings, keys};

/// What every environment variable of the configuration starts with.
pub const ENVIRONMENT_PREFIX: &str = "LONGSHORE_";

#[cfg(test)]
mod tests;

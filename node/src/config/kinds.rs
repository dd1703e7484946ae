//! The types that keys have: how each is read, written and explained.

mod listing;
mod numbers;
mod words;

pub use numbers::{ByteSize, Count, parse_size, show_duration};
pub use words::{AuthCheck, Authorization, Encryption, LogFilter, LogFormat, Member, RegistryHost, Scope};

use super::raw::{Complaint, Raw};

/// A type that a key can have.
pub trait Setting: Sized {
    /// What an operator is told to write, as it follows "expected".
    const EXPECTED: &'static str;
    /// What stands for the value in `--help`.
    const PLACEHOLDER: &'static str;

    /// Reads the value.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    fn read(raw: &Raw) -> Result<Self, Vec<Complaint>>;

    /// The value as TOML; `None` if it is not set.
    fn show(&self) -> Option<toml::Value>;
}

//! What is wrong with a configuration, and where it comes from.

use std::fmt;

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a file, at a line counted from 1 (0: the file as a whole).
    File {
        /// Path of the file.
        path: String,
        /// The line.
        line: usize,
    },
    /// In an environment variable of this name.
    Environment(String),
    /// By a flag of this name, dashes included.
    Flag(String),
    /// Nowhere: it is the default.
    Default,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it was set.
    pub origin: Origin,
    /// Which key, with the place inside its value.
    pub key: String,
    /// What was found.
    pub found: String,
    /// What is expected, or what to do.
    pub expected: String,
}

/// Everything that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: 0 } => write!(formatter, "{path}"),
            Self::File { path, line } => write!(formatter, "{path}:{line}"),
            Self::Environment(name) => write!(formatter, "environment variable {name}"),
            Self::Flag(name) => write!(formatter, "flag {name}"),
            Self::Default => write!(formatter, "default"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: ", self.origin)?;
        if !self.key.is_empty() {
            write!(formatter, "{}: ", self.key)?;
        }
        write!(formatter, "found {}; expected {}", self.found, self.expected)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [only] => write!(formatter, "the configuration has a problem: {only}"),
            all => {
                write!(formatter, "the configuration has {} problems:", all.len())?;
                all.iter().try_for_each(|problem| write!(formatter, "\n  {problem}"))
            }
        }
    }
}

/// The candidate that `name` was most likely meant to be, if any is near.
#[must_use]
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Below this Jaro-Winkler similarity, a suggestion is more confusing than none (clap uses 0.7).
    const SIMILAR: f64 = 0.75;
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}

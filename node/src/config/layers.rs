//! Puts the layers on top of each other: defaults, file, environment, flags.

use std::collections::BTreeMap;

use toml::de::DeTable;

use super::problem::{Origin, Problem, Problems, nearest};
use super::raw::{Raw, quote};
use super::rules;
use super::table::{Key, Settings, keys};

/// Most problems that are listed; a file of another kind would give thousands.
const MOST_PROBLEMS: usize = 50;

/// A configuration file that was read.
#[derive(Clone, Debug)]
pub struct FileText {
    /// Its path, as it was given.
    pub path: String,
    /// Its contents.
    pub text: String,
}

/// What is laid over the defaults.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// The file, if one was given.
    pub file: Option<FileText>,
    /// All environment variables, or those that matter; others are ignored.
    pub environment: Vec<(String, String)>,
    /// Flags by the name of their key.
    pub flags: Vec<(String, String)>,
}

/// The settings, and where each that is not a default comes from.
#[derive(Clone, Debug)]
pub struct Effective {
    /// The settings.
    pub settings: Settings,
    origins: BTreeMap<&'static str, Origin>,
}

impl Effective {
    /// Where the value of this key was set.
    #[must_use]
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }
}

/// Lays file, environment and flags over the defaults.
///
/// # Errors
/// Everything that is wrong in any layer, and then what the values mean together.
pub fn load(layers: &Layers) -> Result<Effective, Problems> {
    let mut loader = Loader {
        effective: Effective { settings: Settings::default(), origins: BTreeMap::new() },
        problems: Vec::new(),
    };
    if let Some(file) = &layers.file {
        loader.file(file);
    }
    for (variable, text) in &layers.environment {
        loader.variable(variable, text);
    }
    for (name, text) in &layers.flags {
        match keys().iter().find(|key| key.name == name) {
            Some(key) => loader.set(key, &Raw::bare(text), &Origin::Flag(key.flag())),
            None => loader.unknown(Origin::Flag(format!("--{}", name.replace('_', "-"))), name, name),
        }
    }
    // Values that could not be read would only cause further complaints.
    if loader.problems.is_empty() {
        loader.problems = rules::check(&loader.effective);
    }
    if loader.problems.is_empty() { Ok(loader.effective) } else { Err(Problems(loader.problems)) }
}

struct Loader {
    effective: Effective,
    problems: Vec<Problem>,
}

impl Loader {
    fn report(&mut self, problem: Problem) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(problem);
        }
    }

    fn file(&mut self, file: &FileText) {
        let line_at =
            |offset: usize| Some(file.text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1);
        let at = |offset: usize| Origin::File { path: file.path.clone(), line: line_at(offset).unwrap_or(0) };
        let (table, errors) = DeTable::parse_recoverable(&file.text);
        for error in errors {
            let origin = at(error.span().map_or(0, |span| span.start));
            let found = error.message().replace('\n', " ");
            self.report(Problem { origin, key: String::new(), found, expected: "TOML".to_owned() });
        }
        if !self.problems.is_empty() {
            // After a syntax error the rest of the table is guesswork.
            return;
        }
        let mut entries: Vec<_> = table.get_ref().iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (name, value) in entries {
            let origin = at(name.span().start);
            let mut raw = Raw::from_toml(value.get_ref(), value.span().start, &line_at);
            raw.line = line_at(name.span().start);
            match keys().iter().find(|key| key.name == name.get_ref()) {
                Some(key) => self.set(key, &raw, &origin),
                None => self.unknown(origin, name.get_ref(), name.get_ref()),
            }
        }
    }

    fn variable(&mut self, variable: &str, text: &str) {
        let Some(name) = variable.strip_prefix(super::ENVIRONMENT_PREFIX) else { return };
        if name == "CONFIG" || of_kubernetes(name) {
            return;
        }
        let origin = Origin::Environment(variable.to_owned());
        match keys().iter().find(|key| key.variable() == variable) {
            Some(key) => self.set(key, &Raw::bare(text), &origin),
            None => self.unknown(origin, variable, &name.to_ascii_lowercase()),
        }
    }

    fn set(&mut self, key: &'static Key, raw: &Raw, origin: &Origin) {
        match (key.set)(&mut self.effective.settings, raw) {
            Ok(()) => drop(self.effective.origins.insert(key.name, origin.clone())),
            Err(complaints) => {
                for complaint in complaints {
                    let origin = match (origin, complaint.line) {
                        (Origin::File { path, .. }, Some(line)) => Origin::File { path: path.clone(), line },
                        _ => origin.clone(),
                    };
                    let key = format!("{}{}", key.name, complaint.path);
                    self.report(Problem { origin, key, found: complaint.found, expected: complaint.expected });
                }
            }
        }
    }

    /// `shown` is the name as it was written, `name` is what it would be in a file.
    fn unknown(&mut self, origin: Origin, shown: &str, name: &str) {
        let expected = match nearest(name, keys().iter().map(|key| key.name)) {
            Some(near) => match &origin {
                Origin::Environment(_) => format!("perhaps {}{}", super::ENVIRONMENT_PREFIX, near.to_ascii_uppercase()),
                Origin::Flag(_) => format!("perhaps --{}", near.replace('_', "-")),
                _ => format!("perhaps {near}"),
            },
            None => "a key that 'longshore config' lists".to_owned(),
        };
        let found = format!("the unknown key {}", quote(shown));
        self.report(Problem { origin, key: String::new(), found, expected });
    }
}

/// Kubernetes sets variables such as `LONGSHORE_SERVICE_HOST` and `LONGSHORE_PORT_5000_TCP` in every container of a
/// namespace with a service of this name. They are not ours.
fn of_kubernetes(name: &str) -> bool {
    name == "PORT"
        || name.starts_with("PORT_")
        || name.ends_with("SERVICE_HOST")
        || name.contains("SERVICE_PORT")
        || name.ends_with("_PORT")
        || name.contains("_PORT_")
}

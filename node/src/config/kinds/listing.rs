//! Lists, and values that may be absent.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::Setting;
use crate::config::raw::{Complaint, Raw, RawValue};

/// Most items that a list in the configuration may have: ten times the largest cluster that is simulated.
const MOST_ITEMS: usize = 10_000;

/// A type whose lists are written as `[...]` in a file, and with commas in a flag or a variable.
pub trait Item: Setting {
    /// What an operator is told to write for a list of these.
    const LIST_EXPECTED: &'static str;
}

impl<T: Item> Setting for Vec<T> {
    const EXPECTED: &'static str = T::LIST_EXPECTED;
    const PLACEHOLDER: &'static str = T::PLACEHOLDER;

    fn read(raw: &Raw) -> Result<Self, Vec<Complaint>> {
        let Some(items) = raw.items() else { return Err(vec![raw.complain(Self::EXPECTED)]) };
        if items.len() > MOST_ITEMS {
            let found = format!("a list of {} items", items.len());
            return Err(vec![Complaint { found, ..raw.complain("at most 10000 items") }]);
        }
        let mut values = Self::with_capacity(items.len());
        let mut complaints = Vec::new();
        for (number, item) in items.iter().enumerate() {
            match T::read(item) {
                Ok(value) => values.push(value),
                Err(found) => complaints.extend(
                    found
                        .into_iter()
                        .map(|complaint| Complaint { path: format!("[{number}]{}", complaint.path), ..complaint }),
                ),
            }
        }
        if complaints.is_empty() { Ok(values) } else { Err(complaints) }
    }

    fn show(&self) -> Option<toml::Value> {
        Some(toml::Value::Array(self.iter().filter_map(Setting::show).collect()))
    }
}

/// A value that may be absent: the empty text unsets it.
impl<T: Setting> Setting for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    const PLACEHOLDER: &'static str = T::PLACEHOLDER;

    fn read(raw: &Raw) -> Result<Self, Vec<Complaint>> {
        match &raw.value {
            RawValue::Bare(text) | RawValue::Text(text) if text.is_empty() => Ok(None),
            _ => T::read(raw).map(Some),
        }
    }

    fn show(&self) -> Option<toml::Value> {
        self.as_ref().and_then(Setting::show)
    }
}

impl Setting for String {
    const EXPECTED: &'static str = "a text that is not empty";
    const PLACEHOLDER: &'static str = "TEXT";

    fn read(raw: &Raw) -> Result<Self, Vec<Complaint>> {
        let text = raw.text().filter(|text| !text.trim().is_empty());
        text.map(str::to_owned).ok_or_else(|| vec![raw.complain(Self::EXPECTED)])
    }

    fn show(&self) -> Option<toml::Value> {
        Some(toml::Value::String(self.clone()))
    }
}

impl Setting for PathBuf {
    const EXPECTED: &'static str = "a path";
    const PLACEHOLDER: &'static str = "PATH";

    fn read(raw: &Raw) -> Result<Self, Vec<Complaint>> {
        let text = raw.text().filter(|text| !text.is_empty() && !text.contains('\0'));
        text.map(Self::from).ok_or_else(|| vec![raw.complain(Self::EXPECTED)])
    }

    fn show(&self) -> Option<toml::Value> {
        Some(toml::Value::String(self.display().to_string()))
    }
}

impl Item for PathBuf {
    const LIST_EXPECTED: &'static str = "a list of paths";
}

impl Setting for SocketAddr {
    const EXPECTED: &'static str = "an IP address and a port, such as 127.0.0.1:5000 or [::1]:5000";
    const PLACEHOLDER: &'static str = "IP:PORT";

    fn read(raw: &Raw) -> Result<Self, Vec<Complaint>> {
        let address = raw.text().and_then(|text| text.trim().parse().ok());
        address.ok_or_else(|| vec![raw.complain(Self::EXPECTED)])
    }

    fn show(&self) -> Option<toml::Value> {
        Some(toml::Value::String(self.to_string()))
    }
}

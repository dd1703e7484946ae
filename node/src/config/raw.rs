//! A value before it has a type: as the file's parser gives it, or as the bare words of a flag or a variable.

use std::collections::BTreeMap;

use toml::de::DeValue;

/// Longest quotation of a value in an error, in characters: enough to recognise it, short enough for one line.
const QUOTE_CHARS: usize = 80;

/// A value and where in its file it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Raw {
    /// The value.
    pub value: RawValue,
    /// The line in the file, counted from 1; `None` outside files.
    pub line: Option<usize>,
}

/// A value before it has a type.
#[derive(Clone, Debug, PartialEq)]
pub enum RawValue {
    /// From a flag or the environment: a number, a word or a list, as the key wants it.
    Bare(String),
    /// A string in a file.
    Text(String),
    /// A whole number in a file, as it is written.
    Whole(String),
    /// A boolean in a file.
    Toggle(bool),
    /// An array in a file.
    List(Vec<Raw>),
    /// A table in a file.
    Table(BTreeMap<String, Raw>),
    /// Anything else that TOML knows and no key wants.
    Other(String),
}

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Where inside the value, for example `.quay.url`; empty for the value itself.
    pub path: String,
    /// The line in the file, if it is known better than for the whole value.
    pub line: Option<usize>,
    /// What was found.
    pub found: String,
    /// What is expected instead.
    pub expected: String,
}

impl Raw {
    /// A value from a flag or the environment.
    #[must_use]
    pub fn bare(text: &str) -> Self {
        Self { value: RawValue::Bare(text.to_owned()), line: None }
    }

    /// A parsed TOML value; `line_at` turns a byte offset into a line.
    #[must_use]
    pub fn from_toml(value: &DeValue<'_>, offset: usize, line_at: &dyn Fn(usize) -> Option<usize>) -> Self {
        let child =
            |spanned: &toml::Spanned<DeValue<'_>>| Self::from_toml(spanned.get_ref(), spanned.span().start, line_at);
        let value = match value {
            DeValue::String(text) => RawValue::Text(text.to_string()),
            DeValue::Integer(number) => RawValue::Whole(number.to_string()),
            DeValue::Boolean(toggle) => RawValue::Toggle(*toggle),
            DeValue::Array(items) => RawValue::List(items.iter().map(child).collect()),
            DeValue::Table(table) => RawValue::Table(
                table
                    .iter()
                    .map(|(key, item)| {
                        let mut raw = child(item);
                        // The key's line is where an operator looks; a table's own span may start elsewhere.
                        raw.line = line_at(key.span().start);
                        (key.get_ref().to_string(), raw)
                    })
                    .collect(),
            ),
            DeValue::Float(number) => RawValue::Other(number.to_string()),
            DeValue::Datetime(moment) => RawValue::Other(moment.to_string()),
        };
        Self { value, line: line_at(offset) }
    }

    /// The text of a string, or of a bare word.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            RawValue::Bare(text) | RawValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The digits of a whole number, or a bare word that may be one.
    #[must_use]
    pub fn digits(&self) -> Option<&str> {
        match &self.value {
            RawValue::Bare(text) | RawValue::Whole(text) => Some(text),
            _ => None,
        }
    }

    /// The items of a list; bare words are separated by commas.
    #[must_use]
    pub fn items(&self) -> Option<Vec<Self>> {
        match &self.value {
            RawValue::List(items) => Some(items.clone()),
            RawValue::Bare(text) => {
                Some(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Self::bare).collect())
            }
            _ => None,
        }
    }

    /// A complaint about this value as a whole.
    #[must_use]
    pub fn complain(&self, expected: &str) -> Complaint {
        Complaint { path: String::new(), line: self.line, found: self.describe(), expected: expected.to_owned() }
    }

    fn describe(&self) -> String {
        match &self.value {
            RawValue::Bare(text) if text.is_empty() => "nothing".to_owned(),
            RawValue::Bare(text) | RawValue::Text(text) => quote(text),
            RawValue::Whole(text) | RawValue::Other(text) => text.clone(),
            RawValue::Toggle(toggle) => toggle.to_string(),
            RawValue::List(_) => "a list".to_owned(),
            RawValue::Table(_) => "a table".to_owned(),
        }
    }
}

/// The text in quotation marks, with control characters escaped, cut at a readable length.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut shown: String = text.chars().take(QUOTE_CHARS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

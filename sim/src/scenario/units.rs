//! Durations, sizes and rates as people write them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A text that is no value of its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable(String);

impl fmt::Display for Unreadable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn split(text: &str) -> (&str, &str) {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    (text[..end].trim(), text[end..].trim())
}

/// `text` in the smallest unit, as a whole number: no floating point, so that every machine reads alike.
fn read(text: &str, kind: &str, units: &[(&str, u64)]) -> Result<u64, Unreadable> {
    let (number, unit) = split(text.trim());
    let names = || units.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let refuse = || Unreadable(format!("'{text}' is not a {kind}; expected a number and one of: {}", names()));
    let (_, factor) = units.iter().find(|(name, _)| *name == unit).ok_or_else(refuse)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mut value = whole.parse::<u64>().ok().and_then(|whole| whole.checked_mul(*factor)).ok_or_else(refuse)?;
    let mut place = *factor;
    for digit in fraction.chars() {
        place /= 10;
        value += place * u64::from(digit.to_digit(10).ok_or_else(refuse)?);
    }
    Ok(value)
}

/// The largest unit that gives a whole number.
fn write(value: u64, units: &[(&str, u64)]) -> String {
    let fits = |(_, factor): &&(&str, u64)| value.is_multiple_of(*factor) && value >= *factor;
    let smallest = ("", 1);
    let (name, factor) = units
        .iter()
        .filter(fits)
        .max_by_key(|(_, factor)| *factor)
        .or(units.iter().min_by_key(|(_, factor)| *factor))
        .unwrap_or(&smallest);
    format!("{}{name}", value / factor)
}

macro_rules! unit {
    ($(#[$docs:meta])* $name:ident($inner:ty), $kind:literal, $units:expr, $from:expr, $to:expr) => {
        $(#[$docs])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub $inner);

        impl TryFrom<String> for $name {
            type Error = Unreadable;

            fn try_from(text: String) -> Result<Self, Unreadable> {
                read(&text, $kind, $units).map($from).map(Self)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                write($to(value.0), $units)
            }
        }
    };
}

const TIMES: &[(&str, u64)] = &[("us", 1), ("ms", 1000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000)];
const SIZES: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];
const RATES: &[(&str, u64)] = &[
    ("B/s", 1),
    ("KiB/s", 1 << 10),
    ("MiB/s", 1 << 20),
    ("GiB/s", 1 << 30),
    ("kB/s", 1000),
    ("MB/s", 1_000_000),
    ("GB/s", 1_000_000_000),
    ("Mbit/s", 125_000),
    ("Gbit/s", 125_000_000),
];

unit! {
    /// A duration: `300us`, `2.5s`, `5m`.
    Span(Duration), "duration", TIMES, Duration::from_micros, |span: Duration| span.as_micros() as u64
}
unit! {
    /// Bytes: `256MiB`, `1.5GB`.
    Bytes(u64), "size", SIZES, |bytes| bytes, |bytes| bytes
}
unit! {
    /// Bytes per second: `1Gbit/s`, `100MiB/s`.
    Rate(u64), "rate", RATES, |rate| rate, |rate| rate
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_as_the_same() {
        for text in ["300us", "2500ms", "5m", "0us"] {
            let span = Span::try_from(text.to_owned()).expect(text);
            assert_eq!(Span::try_from(String::from(span)).expect(text), span);
        }
        assert_eq!(Span::try_from("2.5s".to_owned()).map(|span| span.0), Ok(Duration::from_millis(2500)));
        assert_eq!(Bytes::try_from("1.5KiB".to_owned()).map(|bytes| bytes.0), Ok(1536));
        assert_eq!(Rate::try_from("1Gbit/s".to_owned()).map(|rate| rate.0), Ok(125_000_000));
        assert_eq!(String::from(Rate(125_000_000)), "1Gbit/s");
    }

    #[test]
    fn a_wrong_unit_is_refused_with_those_that_are_known() {
        let error = Bytes::try_from("3 parsecs".to_owned()).expect_err("no size").to_string();
        assert!(error.contains("'3 parsecs' is not a size") && error.contains("MiB"), "{error}");
        assert!(Span::try_from("ms".to_owned()).is_err());
        assert!(Span::try_from("99999999999999999999s".to_owned()).is_err());
    }
}

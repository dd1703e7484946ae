//! Numbers with units: durations, sizes, counts.

use std::time::Duration;

use super::Setting;
use crate::config::raw::{Complaint, Raw};

/// Longest duration that a key may have: a day. More is a slip of the unit.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Largest count that a key may have: more than any node has file descriptors for.
const LARGEST_COUNT: u32 = 100_000;

/// A size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// How many of something, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(pub u32);

const BINARY_UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
const DECIMAL_UNITS: [(&str, u64); 4] =
    [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];

/// Splits `12.5ms` into its number and its unit.
fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// `number` times `unit`, exactly; the number may have up to nine decimals.
fn scale(number: &str, unit: u64) -> Option<u64> {
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || decimals.len() > 9 || (number.contains('.') && decimals.is_empty()) {
        return None;
    }
    let whole: u128 = whole.parse().ok()?;
    let scale = 10_u128.pow(u32::try_from(decimals.len()).ok()?);
    let fraction: u128 = if decimals.is_empty() { 0 } else { decimals.parse().ok()? };
    let product = whole.checked_mul(scale)?.checked_add(fraction)?.checked_mul(u128::from(unit))?;
    // A fraction of a byte or of a nanosecond is a slip, not a value.
    if product % scale != 0 {
        return None;
    }
    u64::try_from(product / scale).ok()
}

/// The size in bytes that `text` means, for example `20GiB`, `1.5 GB` or `4096`.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text);
    let units = BINARY_UNITS.iter().chain(&DECIMAL_UNITS);
    let factor = match unit {
        "" | "B" => 1,
        _ => units.clone().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1,
    };
    scale(number, factor)
}

impl std::fmt::Display for ByteSize {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let exact =
            BINARY_UNITS.iter().chain(&DECIMAL_UNITS).find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit));
        match exact {
            Some((name, unit)) => write!(formatter, "{}{name}", self.0 / unit),
            None => write!(formatter, "{}", self.0),
        }
    }
}

impl Setting for ByteSize {
    const EXPECTED: &'static str = "a size such as 512MiB, 20GiB or 4096 (bytes)";
    const PLACEHOLDER: &'static str = "SIZE";

    fn read(raw: &Raw) -> Result<Self, Vec<Complaint>> {
        let text = raw.text().or_else(|| raw.digits());
        text.and_then(parse_size).map(Self).ok_or_else(|| vec![raw.complain(Self::EXPECTED)])
    }

    fn show(&self) -> Option<toml::Value> {
        Some(toml::Value::String(self.to_string()))
    }
}

/// The shortest exact text of a duration, for example `1500ms` or `5m`.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let units: [(&str, u128); 5] =
        [("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)];
    match units.iter().find(|(_, unit)| nanos >= *unit && nanos.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", nanos / unit),
        None => format!("{nanos}ns"),
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text);
    let nanos = match unit {
        "ns" => 1,
        "us" | "µs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" | "min" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let duration = Duration::from_nanos(scale(number, nanos)?);
    (!duration.is_zero() && duration <= LONGEST).then_some(duration)
}

impl Setting for Duration {
    const EXPECTED: &'static str = "a duration with its unit, such as 500ms, 2s or 5m, above zero and at most 24h";
    const PLACEHOLDER: &'static str = "DURATION";

    fn read(raw: &Raw) -> Result<Self, Vec<Complaint>> {
        raw.text().and_then(parse_duration).ok_or_else(|| vec![raw.complain(Self::EXPECTED)])
    }

    fn show(&self) -> Option<toml::Value> {
        Some(toml::Value::String(show_duration(*self)))
    }
}

impl Setting for Count {
    const EXPECTED: &'static str = "a whole number from 1 to 100000";
    const PLACEHOLDER: &'static str = "COUNT";

    fn read(raw: &Raw) -> Result<Self, Vec<Complaint>> {
        raw.digits()
            .and_then(|digits| digits.trim().parse().ok())
            .filter(|count| (1..=LARGEST_COUNT).contains(count))
            .map(Self)
            .ok_or_else(|| vec![raw.complain(Self::EXPECTED)])
    }

    fn show(&self) -> Option<toml::Value> {
        Some(toml::Value::Integer(i64::from(self.0)))
    }
}

impl Setting for bool {
    const EXPECTED: &'static str = "true or false";
    const PLACEHOLDER: &'static str = "true|false";

    fn read(raw: &Raw) -> Result<Self, Vec<Complaint>> {
        match &raw.value {
            crate::config::raw::RawValue::Toggle(toggle) => Ok(*toggle),
            crate::config::raw::RawValue::Bare(text) if text == "true" => Ok(true),
            crate::config::raw::RawValue::Bare(text) if text == "false" => Ok(false),
            _ => Err(vec![raw.complain(Self::EXPECTED)]),
        }
    }

    fn show(&self) -> Option<toml::Value> {
        Some(toml::Value::Boolean(*self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_mean_bytes_in_binary_and_decimal_units() {
        let cases = [
            ("0", 0),
            ("4096", 4096),
            ("20GiB", 20 << 30),
            ("1.5 GB", 1_500_000_000),
            ("256mib", 256 << 20),
            ("7B", 7),
            ("0.5KiB", 512),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
    }

    #[test]
    fn sizes_that_mean_nothing_exact_are_refused() {
        for text in ["", "GiB", "20 G", "-1", "1.", "0.3B", "99999999999TiB", "1e3", "20GiB20"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn a_size_prints_as_what_parses_to_the_same_size() {
        for bytes in [0, 1, 1000, 1024, 1500, 20 << 30, 1_500_000_000, u64::MAX] {
            assert_eq!(parse_size(&ByteSize(bytes).to_string()), Some(bytes));
        }
    }

    #[test]
    fn durations_need_a_unit_and_a_value_between_zero_and_a_day() {
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(parse_duration("5m"), Some(Duration::from_secs(300)));
        for text in ["5", "0s", "25h", "2 fortnights", "-1s", ""] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_duration_prints_as_what_parses_to_the_same_duration() {
        for duration in [Duration::from_millis(1500), Duration::from_secs(300), Duration::from_nanos(7)] {
            assert_eq!(parse_duration(&show_duration(duration)), Some(duration));
        }
    }
}

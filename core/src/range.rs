//! HTTP byte ranges (RFC 9110, section 14) against a representation of known size.

use core::ops::Range;

/// What a `Range` header asks of a representation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Answer 200 with everything: no header, an unknown unit, several ranges or bad syntax (which a server may ignore).
    Whole,
    /// Answer 206 with these bytes; never empty.
    Part(Range<u64>),
    /// Answer 416: the syntax is right and no byte is covered, or the range runs backwards.
    Unsatisfiable,
}

/// Reads a `Range` header for a representation of `size` bytes.
///
/// `first > last` is answered with 416, as the OCI conformance suite wants it (reference, section 10.7).
#[must_use]
pub fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some(header) = header else { return Wanted::Whole };
    let Some((unit, spec)) = header.split_once('=') else { return Wanted::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || spec.contains(',') {
        return Wanted::Whole;
    }
    let Some((first, last)) = spec.trim().split_once('-') else { return Wanted::Whole };
    match (number(first), number(last)) {
        (Number::Absent, Number::Of(suffix)) => {
            if suffix == 0 || size == 0 {
                Wanted::Unsatisfiable
            } else {
                Wanted::Part(size.saturating_sub(suffix)..size)
            }
        }
        (Number::Of(first), Number::Absent) => {
            if first >= size {
                Wanted::Unsatisfiable
            } else {
                Wanted::Part(first..size)
            }
        }
        (Number::Of(first), Number::Of(last)) => {
            if first > last || first >= size {
                Wanted::Unsatisfiable
            } else {
                Wanted::Part(first..last.saturating_add(1).min(size))
            }
        }
        _ => Wanted::Whole,
    }
}

enum Number {
    Absent,
    Of(u64),
    Bad,
}

/// A run of digits; one too long for 64 bits means "beyond any end".
fn number(text: &str) -> Number {
    let text = text.trim();
    if text.is_empty() {
        Number::Absent
    } else if text.bytes().all(|byte| byte.is_ascii_digit()) {
        Number::Of(text.parse().unwrap_or(u64::MAX))
    } else {
        Number::Bad
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_cases_of_the_conformance_suite_hold() {
        for (header, size, expected) in [
            ("bytes=500-1499", 4000, Wanted::Part(500..1500)),
            ("bytes=500-", 4000, Wanted::Part(500..4000)),
            ("bytes=-500", 4000, Wanted::Part(3500..4000)),
            ("bytes=2000-5000", 4000, Wanted::Part(2000..4000)),
            ("bytes=500-0", 4000, Wanted::Unsatisfiable),
            ("bytes=5000-10000", 4000, Wanted::Unsatisfiable),
            ("bytes=0-", 4000, Wanted::Part(0..4000)),
            ("bytes=0-", 0, Wanted::Unsatisfiable),
            ("bytes=-0", 4000, Wanted::Unsatisfiable),
            ("bytes=0-1,3-4", 4000, Wanted::Whole),
            ("bytes=a-b", 4000, Wanted::Whole),
            ("lines=0-1", 4000, Wanted::Whole),
            ("bytes=-", 4000, Wanted::Whole),
        ] {
            assert_eq!(wanted(Some(header), size), expected, "{header} of {size}");
        }
        assert_eq!(wanted(None, 7), Wanted::Whole);
    }

    proptest! {
        #[test]
        fn a_part_is_never_empty_and_never_past_the_end(header: String, size: u64) {
            if let Wanted::Part(range) = wanted(Some(&header), size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }

        #[test]
        fn well_formed_ranges_cover_what_they_say(first: u64, last: u64, size in 1_u64..) {
            let answer = wanted(Some(&format!("bytes={first}-{last}")), size);
            if first <= last && first < size {
                prop_assert_eq!(answer, Wanted::Part(first..last.saturating_add(1).min(size)));
            } else {
                prop_assert_eq!(answer, Wanted::Unsatisfiable);
            }
        }
    }
}

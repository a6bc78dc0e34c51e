//! Durations (`250ms`, `2s`, `1m`) and sizes (`16M`, `1G`) as people write them: parse and print.
//!
//! One spelling for command line, configuration and output (section 9). Whole numbers only, so that what is
//! printed reads back as exactly the same value.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error as _};

/// Why a duration or a size was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnitError {
    /// There is no text at all.
    #[error("it is empty")]
    Empty,
    /// It does not start with a whole number.
    #[error("'{0}' does not start with a whole number")]
    NoNumber(String),
    /// A duration without its unit; a bare number would be guesswork.
    #[error("'{0}' has no unit (ms, s, m or h)")]
    NoUnit(String),
    /// A unit that is not one of ours.
    #[error("'{unit}' is not a unit of a {kind} ({known})")]
    UnknownUnit {
        /// The text after the number.
        unit: String,
        /// "duration" or "size".
        kind: &'static str,
        /// The units that there are.
        known: &'static str,
    },
    /// More than 64 bits hold.
    #[error("'{0}' is too large")]
    TooLarge(String),
}

fn split(text: &str) -> Result<(u64, &str), UnitError> {
    if text.is_empty() {
        return Err(UnitError::Empty);
    }
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    if digits.is_empty() {
        return Err(UnitError::NoNumber(text.to_owned()));
    }
    let number = digits.parse().map_err(|_| UnitError::TooLarge(text.to_owned()))?;
    Ok((number, unit))
}

/// Reads a duration: a whole number and one of `ms`, `s`, `m`, `h`.
///
/// # Errors
/// [`UnitError`] when there is no number, no unit, an unknown unit, or too much of it.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let (number, unit) = split(text)?;
    let millis_per_unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "" => return Err(UnitError::NoUnit(text.to_owned())),
        other => {
            return Err(UnitError::UnknownUnit { unit: other.to_owned(), kind: "duration", known: "ms, s, m, h" });
        }
    };
    number.checked_mul(millis_per_unit).map(Duration::from_millis).ok_or_else(|| UnitError::TooLarge(text.to_owned()))
}

/// Prints a duration with the largest unit that divides it, in whole milliseconds (rounded down).
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0 => "0s".to_owned(),
        n if n % 3_600_000 == 0 => format!("{}h", n / 3_600_000),
        n if n % 60_000 == 0 => format!("{}m", n / 60_000),
        n if n % 1_000 == 0 => format!("{}s", n / 1_000),
        n => format!("{n}ms"),
    }
}

const SIZE_UNITS: [(&str, u32); 5] = [("T", 40), ("G", 30), ("M", 20), ("K", 10), ("", 0)];

/// Reads a size in bytes: a whole number and nothing, `K`, `M`, `G` or `T` (powers of 1024).
///
/// # Errors
/// [`UnitError`] when there is no number, an unknown unit, or more than 64 bits hold.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split(text)?;
    let shift = SIZE_UNITS
        .iter()
        .find_map(|(name, shift)| (*name == unit).then_some(*shift))
        .ok_or_else(|| UnitError::UnknownUnit { unit: unit.to_owned(), kind: "size", known: "none, K, M, G, T" })?;
    number.checked_mul(1 << shift).ok_or_else(|| UnitError::TooLarge(text.to_owned()))
}

/// Prints a size exactly, with the largest unit that divides it.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    SIZE_UNITS
        .iter()
        .find(|(_, shift)| bytes != 0 && bytes.is_multiple_of(1 << shift))
        .map_or_else(|| bytes.to_string(), |(name, shift)| format!("{}{name}", bytes >> shift))
}

/// Prints a size for people, rounded to a tenth of the largest unit that it reaches: `12.3G`. Not read back.
#[must_use]
pub fn round_size(bytes: u64) -> String {
    for (name, shift) in SIZE_UNITS {
        let unit = 1_u64 << shift;
        if bytes >= unit && shift > 0 {
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            return match tenths {
                t if t >= 1_000 => format!("{}{name}", t / 10),
                t => format!("{}.{}{name}", t / 10, t % 10),
            };
        }
    }
    format!("{bytes}B")
}

/// Prints an age or a wait for people, rounded: `210ms`, `1.2s`, `3m05s`, `2h10m`, `4d`. Not read back.
#[must_use]
pub fn round_duration_ms(millis: u64) -> String {
    let seconds = millis / 1_000;
    match seconds {
        0 => format!("{millis}ms"),
        1..10 => format!("{seconds}.{}s", millis % 1_000 / 100),
        10..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Reads a duration from a serde string, for `deserialize_with`.
///
/// # Errors
/// The deserializer's own error, with [`UnitError`] as its text.
pub fn deserialize_duration<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(input)?;
    parse_duration(&text).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_written() {
        for (text, millis) in
            [("250ms", 250), ("2s", 2_000), ("1m", 60_000), ("1h", 3_600_000), ("0s", 0), ("90s", 90_000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn bad_durations_say_what_is_wrong() {
        assert_eq!(parse_duration(""), Err(UnitError::Empty));
        assert_eq!(parse_duration("5"), Err(UnitError::NoUnit("5".into())));
        assert_eq!(parse_duration("s"), Err(UnitError::NoNumber("s".into())));
        assert_eq!(parse_duration("-1s"), Err(UnitError::NoNumber("-1s".into())));
        assert_eq!(parse_duration("99999999999999999999s"), Err(UnitError::TooLarge("99999999999999999999s".into())));
        assert_eq!(parse_duration("18446744073709551615h"), Err(UnitError::TooLarge("18446744073709551615h".into())));
        for text in ["1.5s", "1 s", "2sec", "1m30s", "1S", "１s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn printed_durations_and_sizes_read_back_the_same() {
        for millis in [0, 1, 250, 999, 1_000, 1_500, 59_000, 60_000, 90_000, 3_600_000, 86_400_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
        for bytes in [0, 1, 1_023, 1_024, 1_536, 16 << 20, 1 << 30, 3 << 40, u64::MAX] {
            assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }
        assert_eq!(format_duration(Duration::from_mins(10)), "10m");
        assert_eq!(format_size(16 << 20), "16M");
    }

    #[test]
    fn sizes_are_powers_of_1024_and_bad_ones_refused() {
        assert_eq!(parse_size("16M"), Ok(16 * 1024 * 1024));
        assert_eq!(parse_size("512"), Ok(512));
        assert_eq!(parse_size("18446744073709551615K"), Err(UnitError::TooLarge("18446744073709551615K".into())));
        for text in ["", "M", "1m", "1.5G", "1GB", "-1"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rounded_values_are_short() {
        assert_eq!(round_size(999), "999B");
        assert_eq!(round_size(13_260_000_000), "12.3G");
        assert_eq!(round_size(u64::MAX), "16777215T");
        assert_eq!(round_duration_ms(210), "210ms");
        assert_eq!(round_duration_ms(1_250), "1.2s");
        assert_eq!(round_duration_ms(185_000), "3m05s");
        assert_eq!(round_duration_ms(7_800_000), "2h10m");
    }
}

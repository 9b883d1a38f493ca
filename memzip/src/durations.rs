//! Durations on the command line: 500ms, 10s, 2m, 1h.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// A duration; a number without a unit counts seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Duration);

/// Error of a text that is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum TimeError {
    /// No whole number, or an unknown unit after it.
    #[error("a time is a whole number of seconds, or one with a unit: 500ms, 10s, 2m, 1h")]
    Form,
    /// No time at all.
    #[error("a timeout must be more than 0")]
    Zero,
    /// More milliseconds than 64 bits hold.
    #[error("a time must be below 2^64 milliseconds")]
    TooLong,
}

/// Parses a timeout: a time that is not zero.
pub(crate) fn timeout(text: &str) -> Result<Time, TimeError> {
    text.parse()
        .and_then(|time: Time| if time.0.is_zero() { Err(TimeError::Zero) } else { Ok(time) })
}

impl FromStr for Time {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let millis_each: u64 = match unit {
            "ms" => 1,
            "" | "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(TimeError::Form),
        };
        if number.is_empty() {
            return Err(TimeError::Form);
        }
        let number: u64 = number.parse().map_err(|_| TimeError::TooLong)?;
        number
            .checked_mul(millis_each)
            .map(|millis| Self(Duration::from_millis(millis)))
            .ok_or(TimeError::TooLong)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            millis if millis % 1000 != 0 => write!(f, "{millis}ms"),
            millis => write!(f, "{}s", millis / 1000),
        }
    }
}

/// Converts a duration to microseconds, at most `u64::MAX`.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_parse_with_and_without_a_unit() {
        for (text, millis) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("7", 7000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("0", 0),
        ] {
            assert_eq!(text.parse(), Ok(Time(Duration::from_millis(millis))), "{text}");
        }
        for text in ["", "s", "1.5s", "-1s", "1d", "1 s", "ten"] {
            assert_eq!(text.parse::<Time>(), Err(TimeError::Form), "{text}");
        }
        assert_eq!(timeout("0ms"), Err(TimeError::Zero));
        assert_eq!(timeout("1ms"), Ok(Time(Duration::from_millis(1))));
        assert_eq!("99999999999999999999s".parse::<Time>(), Err(TimeError::TooLong));
        assert_eq!("18446744073709551615h".parse::<Time>(), Err(TimeError::TooLong));
        assert_eq!(
            (
                Time(Duration::from_millis(1500)).to_string(),
                Time(Duration::from_secs(90)).to_string()
            ),
            ("1500ms".into(), "90s".into())
        );
    }
}

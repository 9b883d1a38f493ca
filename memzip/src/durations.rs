//! Durations on the command line: 500ms, 10s, 2m, 1h.

use std::time::{Duration, Instant};

use thiserror::Error;

/// Error of a text that is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum TimeError {
    #[error("a time is a whole number of seconds, or one with a unit: 500ms, 10s, 2m, 1h")]
    Form,
    #[error("a timeout must be more than 0")]
    Zero,
    #[error("a time must be below 2^64 milliseconds")]
    TooLong,
}

/// Parses a duration; a number without a unit counts seconds.
pub(crate) fn parse(text: &str) -> Result<Duration, TimeError> {
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
    let millis = number.parse().ok().and_then(|number: u64| number.checked_mul(millis_each));
    millis.map(Duration::from_millis).ok_or(TimeError::TooLong)
}

/// Parses a timeout: a duration that is not zero.
pub(crate) fn timeout(text: &str) -> Result<Duration, TimeError> {
    let time = parse(text)?;
    if time.is_zero() { Err(TimeError::Zero) } else { Ok(time) }
}

/// Runs `work`; returns its result and its duration.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
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
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "1.5s", "-1s", "1d", "1 s", "ten"] {
            assert_eq!(parse(text), Err(TimeError::Form), "{text}");
        }
        assert_eq!(timeout("0ms"), Err(TimeError::Zero));
        assert_eq!(timeout("1ms"), Ok(Duration::from_millis(1)));
        assert_eq!(parse("99999999999999999999s"), Err(TimeError::TooLong));
        assert_eq!(parse("18446744073709551615h"), Err(TimeError::TooLong));
    }
}

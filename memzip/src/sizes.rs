//! Sizes on the command line and in tables: K, M, G and T are powers of 1024, as in zramctl.

use block::Bytes;
use thiserror::Error;

/// Error of a text that is not a size.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum SizeError {
    #[error(
        "a size is a number and a unit: 4096, 64K, 512M, 4G, 1T (1024-based, \"iB\" may follow)"
    )]
    Number,
    #[error("\"{unit}\" is not a unit of size: use K, M, G, T, P, or none for bytes")]
    Unit { unit: String },
    #[error("a size must be a whole number of bytes")]
    Fraction,
    #[error("a size must be below 2^64 bytes")]
    TooLarge,
    #[error("a size must be at least 1 byte")]
    Zero,
}

/// Parses a size: `4096`, `64K`, `4G`, `4GiB`, `1.5T`.
pub(crate) fn parse(text: &str) -> Result<Bytes, SizeError> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(SizeError::Number);
    }
    let bytes = scale(number, shift(unit.trim())?)?;
    if bytes == 0 { Err(SizeError::Zero) } else { Ok(Bytes(bytes)) }
}

fn shift(unit: &str) -> Result<u32, SizeError> {
    let short = unit.strip_suffix("iB").or_else(|| unit.strip_suffix("ib")).unwrap_or(unit);
    match short {
        "" if short == unit => Ok(0),
        "B" => Ok(0),
        "K" | "k" => Ok(10),
        "M" | "m" => Ok(20),
        "G" | "g" => Ok(30),
        "T" | "t" => Ok(40),
        "P" | "p" => Ok(50),
        _ => Err(SizeError::Unit { unit: unit.to_owned() }),
    }
}

/// Computes `number * 2^shift` exactly; the number may have decimals if the result is whole.
fn scale(number: &str, shift: u32) -> Result<u64, SizeError> {
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let decimals = decimals.trim_end_matches('0');
    if whole.is_empty() || decimals.contains('.') {
        return Err(SizeError::Number);
    }
    // Nine decimals of a terabyte are a kilobyte: more are a typing error. 128 bits hold nine.
    if decimals.len() > 9 {
        return Err(SizeError::Fraction);
    }
    let whole: u64 = whole.parse().map_err(|_| SizeError::TooLarge)?;
    let part: u64 = format!("0{decimals}").parse().map_err(|_| SizeError::Number)?;
    let (part, denominator) = (u128::from(part) << shift, 10u128.pow(decimals.len() as u32));
    if !part.is_multiple_of(denominator) {
        return Err(SizeError::Fraction);
    }
    let bytes = (u128::from(whole) << shift) + part / denominator;
    u64::try_from(bytes).map_err(|_| SizeError::TooLarge)
}

/// Formats bytes as zramctl does, with at most one decimal: `4K`, `1.5G`, `63.9M`.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "K", "M", "G", "T", "P", "E"];
    let mut unit = 0;
    let mut tenths = u128::from(bytes) * 10;
    // 1023.95 K would print as 1024.0K: switch to the next unit before that.
    while tenths >= 10_235 && unit + 1 < UNITS.len() {
        tenths = (tenths + 512) / 1024;
        unit += 1;
    }
    if tenths.is_multiple_of(10) {
        format!("{}{}", tenths / 10, UNITS[unit])
    } else {
        format!("{}.{}{}", tenths / 10, tenths % 10, UNITS[unit])
    }
}

/// Formats a count in groups of three digits: `262,144`.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Result<u64, SizeError> {
        parse(text).map(|size| size.0)
    }

    #[test]
    fn units_are_1024_based_and_ib_is_optional() {
        assert_eq!(bytes("4096"), Ok(4096));
        assert_eq!(bytes("4096B"), Ok(4096));
        assert_eq!(bytes("64K"), Ok(64 << 10));
        assert_eq!(bytes("64k"), Ok(64 << 10));
        assert_eq!(bytes("4G"), Ok(4 << 30));
        assert_eq!(bytes("4GiB"), Ok(4 << 30));
        assert_eq!(bytes(" 4 GiB "), Ok(4 << 30));
        assert_eq!(bytes("1.5T"), Ok(3 << 39));
        assert_eq!(bytes("9223372036854775808"), Ok(1 << 63));
    }

    #[test]
    fn junk_is_refused_with_the_reason() {
        assert_eq!(bytes(""), Err(SizeError::Number));
        assert_eq!(bytes("G"), Err(SizeError::Number));
        assert_eq!(bytes("-1"), Err(SizeError::Number));
        assert_eq!(bytes("4Q"), Err(SizeError::Unit { unit: "Q".into() }));
        assert_eq!(bytes("4iB"), Err(SizeError::Unit { unit: "iB".into() }));
        assert_eq!(bytes("4GB"), Err(SizeError::Unit { unit: "GB".into() }));
        assert_eq!(bytes("1.2.3K"), Err(SizeError::Number));
        assert_eq!(bytes(".5G"), Err(SizeError::Number));
        assert_eq!(bytes("0.5"), Err(SizeError::Fraction));
        assert_eq!(bytes("0.1K"), Err(SizeError::Fraction));
        assert_eq!(bytes("0"), Err(SizeError::Zero));
        assert_eq!(bytes("0G"), Err(SizeError::Zero));
        assert_eq!(bytes("16384P"), Err(SizeError::TooLarge));
        assert_eq!(bytes("99999999999999999999"), Err(SizeError::TooLarge));
    }

    #[test]
    fn sizes_print_with_one_decimal_at_most() {
        assert_eq!(human(0), "0B");
        assert_eq!(human(1000), "1000B");
        assert_eq!(human(1024), "1K");
        assert_eq!(human(1536), "1.5K");
        assert_eq!(human(4 << 30), "4G");
        assert_eq!(human((1 << 20) - 1), "1M");
        assert_eq!(human(u64::MAX), "16E");
    }

    #[test]
    fn counts_are_grouped_by_thousands() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1000), "1,000");
        assert_eq!(grouped(262_144), "262,144");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }

    #[test]
    fn sizes_printed_without_decimals_parse_back() {
        for size in [1, 1023, 1 << 10, 3 << 20, 5 << 30, 7 << 40] {
            assert_eq!(bytes(&human(size)), Ok(size));
        }
    }
}

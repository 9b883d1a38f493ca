//! The choice of a codec and its level.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A codec and its level, written `lz4`, `lz4:4`, `lz4hc:9` or `zstd:3`.
///
/// ```
/// # use zcomp::Algorithm;
/// let algorithm: Algorithm = "lz4hc".parse().unwrap();
/// assert_eq!(algorithm, Algorithm::Lz4hc { level: 9 });
/// assert_eq!(algorithm.to_string(), "lz4hc:9");
/// assert!("zstd:99".parse::<Algorithm>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// The fastest; its ratio is about half of zstd's.
    Lz4 {
        /// 1 compresses best, larger values are faster. Range: 1..=65537.
        acceleration: i32,
    },
    /// A few percent smaller than lz4, as fast to decompress, slow to compress.
    Lz4hc {
        /// Range: 1..=12.
        level: i32,
    },
    /// The smallest output; 3 to 4 times slower than lz4 in both directions.
    Zstd {
        /// Range: from the library's fastest (negative) to 22; 0 selects the library's default.
        level: i32,
    },
}

impl Algorithm {
    /// Returns the name as the kernel spells it, and the level; for lz4 this is the acceleration.
    fn parts(self) -> (&'static str, i32) {
        match self {
            Self::Lz4 { acceleration } => ("lz4", acceleration),
            Self::Lz4hc { level } => ("lz4hc", level),
            Self::Zstd { level } => ("zstd", level),
        }
    }

    /// Returns the same algorithm if the codec accepts its level.
    ///
    /// # Errors
    /// [`LevelError`] if it does not.
    pub fn checked(self) -> Result<Self, LevelError> {
        let (min, max) = match self {
            Self::Lz4 { .. } => (1, 65537),
            Self::Lz4hc { .. } => (1, 12),
            Self::Zstd { .. } => (zstd_safe::min_c_level(), zstd_safe::max_c_level()),
        };
        let (algorithm, level) = self.parts();
        let is_allowed = (min..=max).contains(&level);
        is_allowed.then_some(self).ok_or(LevelError { algorithm, level, min, max })
    }
}

/// zstd at level 3: a store of cold pages needs the ratio more than the speed.
impl Default for Algorithm {
    fn default() -> Self {
        Self::Zstd { level: 3 }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            (name @ "lz4", 1) => f.write_str(name),
            (name, level) => write!(f, "{name}:{level}"),
        }
    }
}

impl FromStr for Algorithm {
    type Err = ParseAlgorithmError;

    fn from_str(text: &str) -> Result<Self, ParseAlgorithmError> {
        let (name, digits) = match text.split_once(':') {
            Some((name, digits)) => (name, Some(digits)),
            None => (text, None),
        };
        let level = |default: i32| match digits {
            None => Ok(default),
            Some(digits) => {
                digits.parse().map_err(|_| ParseAlgorithmError::Number { text: digits.to_owned() })
            }
        };
        let algorithm = match name {
            "lz4" => Self::Lz4 { acceleration: level(1)? },
            "lz4hc" => Self::Lz4hc { level: level(9)? },
            "zstd" => Self::Zstd { level: level(3)? },
            _ => return Err(ParseAlgorithmError::Name { name: name.to_owned() }),
        };
        Ok(algorithm.checked()?)
    }
}

/// A level outside the range that its codec accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("level {level} is out of range for {algorithm}: {min} to {max} are allowed")]
pub struct LevelError {
    /// The name of the codec.
    pub algorithm: &'static str,
    /// The level requested.
    pub level: i32,
    /// The lowest level allowed.
    pub min: i32,
    /// The highest level allowed.
    pub max: i32,
}

/// Why a text could not be parsed as an [`Algorithm`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParseAlgorithmError {
    /// No codec has this name.
    #[error(
        "unknown algorithm {name:?}: lz4[:ACCELERATION], lz4hc[:LEVEL] or zstd[:LEVEL] is allowed"
    )]
    Name {
        /// The text before the colon.
        name: String,
    },
    /// The text after the colon is not a number.
    #[error("compression level {text:?} is not an integer")]
    Number {
        /// The text after the colon.
        text: String,
    },
    /// The codec does not accept the level.
    #[error(transparent)]
    Level(#[from] LevelError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_reads_back() {
        for text in ["lz4", "lz4:17", "lz4hc:1", "lz4hc:12", "zstd:3", "zstd:22", "zstd:-5"] {
            assert_eq!(text.parse::<Algorithm>().expect(text).to_string(), text);
        }
        assert_eq!("zstd".parse(), Ok(Algorithm::default()));
    }

    #[test]
    fn bad_names_numbers_and_levels_are_distinguished() {
        let error = |text: &str| text.parse::<Algorithm>().expect_err(text);
        assert_eq!(error("lzo"), ParseAlgorithmError::Name { name: "lzo".into() });
        assert_eq!(error(""), ParseAlgorithmError::Name { name: String::new() });
        assert_eq!(error("LZ4"), ParseAlgorithmError::Name { name: "LZ4".into() });
        for text in ["", "x", "3.5", "99999999999", "3:4"] {
            assert_eq!(
                error(&format!("zstd:{text}")),
                ParseAlgorithmError::Number { text: text.into() }
            );
        }
        for text in
            ["lz4:0", "lz4:-1", "lz4:65538", "lz4hc:0", "lz4hc:13", "zstd:23", "zstd:-131073"]
        {
            assert!(matches!(error(text), ParseAlgorithmError::Level(_)), "{text}");
        }
        assert_eq!(
            error("lz4hc:13").to_string(),
            "level 13 is out of range for lz4hc: 1 to 12 are allowed"
        );
    }
}

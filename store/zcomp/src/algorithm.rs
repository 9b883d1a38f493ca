//! Which codec, at which level.

use std::fmt;
use std::ops::RangeInclusive;
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
    /// The fastest; about half the ratio of zstd.
    Lz4 {
        /// 1 packs best, larger is faster: 1..=65537.
        acceleration: i32,
    },
    /// Slow to compress, as fast to decompress as lz4, a few percent smaller.
    Lz4hc {
        /// 1..=12.
        level: i32,
    },
    /// The smallest; 3 to 4 times slower than lz4 both ways.
    Zstd {
        /// From the library's fastest (negative) to 22; 0 stands for the library's default.
        level: i32,
    },
}

impl Algorithm {
    /// The name without the level, as the kernel spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Lz4 { .. } => "lz4",
            Self::Lz4hc { .. } => "lz4hc",
            Self::Zstd { .. } => "zstd",
        }
    }

    /// The level; for lz4 its acceleration.
    #[must_use]
    pub fn level(self) -> i32 {
        match self {
            Self::Lz4 { acceleration } => acceleration,
            Self::Lz4hc { level } | Self::Zstd { level } => level,
        }
    }

    /// The levels the codec knows.
    #[must_use]
    pub fn levels(self) -> RangeInclusive<i32> {
        match self {
            Self::Lz4 { .. } => 1..=65537,
            Self::Lz4hc { .. } => 1..=12,
            Self::Zstd { .. } => zstd_safe::min_c_level()..=zstd_safe::max_c_level(),
        }
    }

    /// The same algorithm, if its level is one the codec knows.
    ///
    /// # Errors
    /// [`LevelError`] otherwise.
    pub fn checked(self) -> Result<Self, LevelError> {
        let levels = self.levels();
        if levels.contains(&self.level()) {
            return Ok(self);
        }
        Err(LevelError {
            algorithm: self.name(),
            level: self.level(),
            min: *levels.start(),
            max: *levels.end(),
        })
    }

    fn with_level(self, new: i32) -> Self {
        match self {
            Self::Lz4 { .. } => Self::Lz4 { acceleration: new },
            Self::Lz4hc { .. } => Self::Lz4hc { level: new },
            Self::Zstd { .. } => Self::Zstd { level: new },
        }
    }
}

/// zstd at level 3: the ratio is what a store of cold pages is for.
impl Default for Algorithm {
    fn default() -> Self {
        Self::Zstd { level: 3 }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lz4 { acceleration: 1 } => f.write_str("lz4"),
            _ => write!(f, "{}:{}", self.name(), self.level()),
        }
    }
}

impl FromStr for Algorithm {
    type Err = ParseAlgorithmError;

    fn from_str(text: &str) -> Result<Self, ParseAlgorithmError> {
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level)),
            None => (text, None),
        };
        let algorithm = match name {
            "lz4" => Self::Lz4 { acceleration: 1 },
            "lz4hc" => Self::Lz4hc { level: 9 },
            "zstd" => Self::Zstd { level: 3 },
            _ => return Err(ParseAlgorithmError::Name { name: name.to_owned() }),
        };
        let Some(level) = level else { return Ok(algorithm) };
        let level =
            level.parse().map_err(|_| ParseAlgorithmError::Number { text: level.to_owned() })?;
        Ok(algorithm.with_level(level).checked()?)
    }
}

/// A level outside what its codec knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{algorithm} has levels {min} to {max}, not {level}")]
pub struct LevelError {
    /// The codec.
    pub algorithm: &'static str,
    /// The level asked for.
    pub level: i32,
    /// The lowest there is.
    pub min: i32,
    /// The highest there is.
    pub max: i32,
}

/// Why a text names no algorithm.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParseAlgorithmError {
    /// No codec has this name.
    #[error("unknown algorithm {name:?}: lz4, lz4hc[:LEVEL] or zstd[:LEVEL]")]
    Name {
        /// What stood before the colon.
        name: String,
    },
    /// What follows the colon is no number.
    #[error("{text:?} is no compression level")]
    Number {
        /// What stood after the colon.
        text: String,
    },
    /// The codec has no such level.
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
    fn bad_names_numbers_and_levels_are_told_apart() {
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
        assert_eq!(error("lz4hc:13").to_string(), "lz4hc has levels 1 to 12, not 13");
    }
}

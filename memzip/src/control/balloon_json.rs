//! Request and answer of `POST /v1/balloon`, and the balloon's part of `GET /v1/stat`.

use serde::{Deserialize, Deserializer, Serialize};

/// Target of the balloon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum BalloonTarget {
    /// The balloon is empty.
    #[default]
    Off,
    /// The balloon follows memory pressure.
    Auto,
    /// Size in bytes, rounded up to a frame.
    Bytes(u64),
}

/// Body of `POST /v1/balloon`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BalloonRequest {
    /// The requested target.
    pub(crate) target: BalloonTarget,
}

impl<'de> Deserialize<'de> for BalloonTarget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let word = value.as_str();
        match (word, value.as_u64()) {
            (Some("off"), _) => Ok(Self::Off),
            (Some("auto"), _) => Ok(Self::Auto),
            (_, Some(bytes)) => Ok(Self::Bytes(bytes)),
            _ => Err(serde::de::Error::custom(format!(
                "{value} is not a target: use a whole number of bytes from 0 up, \"auto\" or \"off\""
            ))),
        }
    }
}

/// The balloon: a part of the arena that the store cannot use.
///
/// Its memory has left the process; a part that was never used had no memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BalloonReport {
    /// `off`, `fixed` or `auto`.
    pub(crate) mode: String,
    /// Target size. Units: bytes.
    pub(crate) target: u64,
    /// Size now. Units: bytes.
    pub(crate) actual: u64,
    /// Largest target that can be set now. Units: bytes.
    pub(crate) most: u64,
    /// Memory the arena holds now, for any use, without the balloon's. Memory that left the process
    /// lowers it. Units: bytes.
    #[serde(default)]
    pub(crate) held: u64,
    /// The part of `actual` in whole blocks of 2 MiB. Units: bytes.
    pub(crate) in_blocks: u64,
    /// Sum of all inflations. Units: bytes.
    pub(crate) inflated_total: u64,
    /// Sum of all deflations. Units: bytes.
    pub(crate) deflated_total: u64,
    /// The part of `deflated_total` because the arena was full. Units: bytes.
    pub(crate) oom_deflated_total: u64,
    /// Times the OS refused the offered memory.
    pub(crate) host_refusals: u64,
    /// Times the arena had no memory left for the balloon.
    pub(crate) allocation_failures: u64,
    /// The memory pressure that the balloon follows in mode `auto`.
    pub(crate) pressure: Option<PressureReport>,
}

/// Memory pressure as the balloon sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PressureReport {
    /// The pressure file.
    pub(crate) source: String,
    /// Share of the last 10 seconds in which at least one task stalled, in hundredths of a percent;
    /// null before the first reading.
    pub(crate) some_avg10: Option<u16>,
    /// The same for the last 60 seconds.
    pub(crate) some_avg60: Option<u16>,
    /// Why there is no newer reading; the balloon keeps its size meanwhile.
    pub(crate) problem: Option<String>,
    /// Readings made.
    pub(crate) readings: u64,
    /// Readings that failed.
    #[serde(default)]
    pub(crate) failures: u64,
    /// Times the target was raised.
    pub(crate) raised: u64,
    /// Times the target was lowered.
    pub(crate) lowered: u64,
}

/// Answer to `POST /v1/balloon`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BalloonChange {
    /// `reached`, `following pressure`, or why the change ended before.
    pub(crate) outcome: String,
    /// Memory the arena held before the change and no longer holds. Units: bytes.
    #[serde(default)]
    pub(crate) freed: u64,
    /// The balloon after the change.
    pub(crate) balloon: BalloonReport,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_bytes_or_one_of_two_words() {
        let parse =
            |text: &str| serde_json::from_str::<BalloonRequest>(text).map(|request| request.target);
        assert_eq!(parse("{\"target\": 0}").ok(), Some(BalloonTarget::Bytes(0)));
        assert_eq!(
            parse("{\"target\": 18446744073709551615}").ok(),
            Some(BalloonTarget::Bytes(u64::MAX))
        );
        assert_eq!(parse("{\"target\": \"auto\"}").ok(), Some(BalloonTarget::Auto));
        assert_eq!(parse("{\"target\": \"off\"}").ok(), Some(BalloonTarget::Off));
        for junk in ["-1", "1.5", "1e3", "\"4G\"", "null", "[1]", "true", "18446744073709551616"] {
            let error = parse(&format!("{{\"target\": {junk}}}")).expect_err(junk).to_string();
            assert!(error.contains("whole number of bytes"), "{junk}: {error}");
        }
        assert!(parse("{}").is_err() && parse("{\"target\": 1, \"now\": true}").is_err());
    }
}

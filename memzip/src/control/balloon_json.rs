//! What `POST /v1/balloon` takes and answers, and the balloon's part of `GET /v1/stat`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How large the balloon should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum BalloonTarget {
    /// Nothing is lent.
    #[default]
    Off,
    /// It follows memory pressure.
    Auto,
    /// So many bytes, rounded up to a frame.
    Bytes(u64),
}

/// Body of `POST /v1/balloon`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BalloonRequest {
    /// What is asked for.
    pub(crate) target: BalloonTarget,
}

impl Serialize for BalloonTarget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::Off => serializer.serialize_str("off"),
            Self::Auto => serializer.serialize_str("auto"),
            Self::Bytes(bytes) => serializer.serialize_u64(bytes),
        }
    }
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
                "the target {value} is none: a whole number of bytes from 0 on, \"auto\" or \"off\""
            ))),
        }
    }
}

/// The balloon: a part of the arena that the store does without. Its memory has left the process; a part that was never used had none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BalloonReport {
    /// `off`, `fixed` or `auto`.
    pub(crate) mode: String,
    /// How large it is meant to be.
    pub(crate) target: u64,
    /// How large it is.
    pub(crate) actual: u64,
    /// The largest target that can be set now.
    pub(crate) most: u64,
    /// Memory the arena holds now, for any use. The balloon's is not in it. What left the process
    /// shows here.
    #[serde(default)]
    pub(crate) held: u64,
    /// Of `actual`, whole blocks of 2 MiB.
    pub(crate) in_blocks: u64,
    /// By how much it grew so far, all times together.
    pub(crate) inflated_total: u64,
    /// By how much it shrank so far.
    pub(crate) deflated_total: u64,
    /// Of that, because the arena was full.
    pub(crate) oom_deflated_total: u64,
    /// Times the OS did not take what was offered.
    pub(crate) host_refusals: u64,
    /// Times the arena had nothing left for it.
    pub(crate) allocation_failures: u64,
    /// What it follows in the mode `auto`.
    pub(crate) pressure: Option<PressureReport>,
}

/// Memory pressure as the balloon sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PressureReport {
    /// The file that is read.
    pub(crate) source: String,
    /// Time in which at least one task stood still, of the last 10 seconds, in hundredths of a percent; null before the first reading.
    pub(crate) some_avg10: Option<u16>,
    /// The same of the last 60 seconds.
    pub(crate) some_avg60: Option<u16>,
    /// Why there is no newer reading; the balloon is left as it is meanwhile.
    pub(crate) problem: Option<String>,
    /// Readings made.
    pub(crate) readings: u64,
    /// Readings that failed.
    #[serde(default)]
    pub(crate) failures: u64,
    /// Times it grew.
    pub(crate) raised: u64,
    /// Times it shrank.
    pub(crate) lowered: u64,
}

/// What a `POST /v1/balloon` came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BalloonChange {
    /// `reached`, `following pressure`, or why it ended before.
    pub(crate) outcome: String,
    /// Memory the arena held before and does not hold any more.
    #[serde(default)]
    pub(crate) freed: u64,
    /// The balloon afterwards.
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
        for target in [BalloonTarget::Off, BalloonTarget::Auto, BalloonTarget::Bytes(7)] {
            let text = serde_json::to_string(&BalloonRequest { target }).expect("JSON");
            assert_eq!(parse(&text).ok(), Some(target));
        }
    }
}

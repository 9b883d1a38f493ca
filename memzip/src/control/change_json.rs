//! Requests that change something, and their answers: `POST /v1/compact`, `/v1/balloon`,
//! `/v1/mem_limit` and `/v1/mem_used_max`. The last two have the names and the meaning of the files
//! of `/sys/block/zram0`. The balloon's part of `GET /v1/stat` is here, too.

use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;
use zram::{Compaction, FrameCompaction, Stat};

/// Body of `POST /v1/compact`; each field may be left out, and the body as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CompactRequest {
    /// Whether to compact objects.
    pub(crate) objects: bool,
    /// Whether to compact frames, after the objects.
    pub(crate) frames: bool,
    /// Time limit of both kinds together. Units: milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) budget_ms: Option<u64>,
}

impl Default for CompactRequest {
    fn default() -> Self {
        Self { objects: true, frames: true, budget_ms: None }
    }
}

/// Result of a compaction, and `mem_used_total` and `mem_total` around it in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CompactReport {
    /// Object compaction; null when it was not requested.
    pub(crate) objects: Option<PartReport>,
    /// Frame compaction; null when it was not requested.
    pub(crate) frames: Option<PartReport>,
    /// The sum over the attempts to compact objects.
    #[serde(flatten)]
    pub(crate) object_work: Compaction,
    /// The last attempt to compact frames.
    #[serde(flatten)]
    pub(crate) frame_work: FrameCompaction,
    /// The worse outcome of both parts: `done`, `out of time` or `already running`.
    pub(crate) outcome: String,
    /// Duration. Units: microseconds.
    pub(crate) duration_us: u64,
    pub(crate) mem_used_before: u64,
    pub(crate) mem_used_after: u64,
    pub(crate) mem_total_before: u64,
    pub(crate) mem_total_after: u64,
}

/// One of the two kinds of compaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartReport {
    /// `done`, `out of time` or `already running`.
    pub(crate) outcome: String,
    /// Duration. Units: microseconds.
    pub(crate) duration_us: u64,
}

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
    /// Memory of the process that the arena holds for any use but the balloon. Units: bytes.
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
    /// Share of the last 10 s in which a task stalled, in hundredths of a percent; null at first.
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

/// Body of `POST /v1/mem_limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitRequest {
    /// The new limit, rounded up to a frame; 0 for none. Units: bytes.
    pub(crate) mem_limit: u64,
}

/// Body of `POST /v1/mem_used_max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PeakRequest {
    /// 0, as for the kernel's file: the peak starts again from what is used now.
    pub(crate) mem_used_max: u64,
}

/// Answer to both: the values of `GET /v1/stat` after the change. Units: bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct LimitReport {
    mem_limit: u64,
    mem_total: u64,
    mem_used_total: u64,
    mem_used_max: u64,
}

impl From<Stat> for LimitReport {
    fn from(stat: Stat) -> Self {
        Self {
            mem_limit: stat.mm.mem_limit,
            mem_total: stat.memory.mem_total,
            mem_used_total: stat.mm.mem_used_total,
            mem_used_max: stat.mm.mem_used_max,
        }
    }
}

/// Reason why one of the two is refused; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum LimitRefusal {
    /// The limit is larger than the arena, which has its size from the start.
    #[error(
        "a limit of {asked} bytes is too large: the arena was made for {max} bytes when the server started; use 0 for no limit"
    )]
    ExceedsArena { asked: u64, max: u64 },
    /// The peak is measured and cannot be chosen.
    #[error(
        "mem_used_max is measured: set it to 0 to start again from mem_used_total, not to {asked}"
    )]
    PeakNotZero { asked: u64 },
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

//! The part of `GET /v1/stat` about memory that moves: migration, both compactions, maintenance.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::balloon_json::BalloonReport;

/// Statistics of everything that moves memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MovementStats {
    /// `on`, or `off` when frames cannot move (`--movability off`).
    pub(crate) movability: String,
    /// Counters of migration and frame compaction under their names in `/proc/vmstat`.
    /// `nr_isolated` is a level, the others never fall.
    pub(crate) vmstat: BTreeMap<String, u64>,
    /// All object compactions so far, on demand and in the background.
    pub(crate) compaction: CompactionCounts,
    /// Compaction in the background.
    pub(crate) background: BackgroundReport,
    /// The balloon in the arena.
    pub(crate) balloon: BalloonReport,
    /// Pages kept uncompressed.
    pub(crate) hot_cache: HotReport,
}

/// Sums over all object compactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CompactionCounts {
    /// Compactions that have ended; each slice in the background is one.
    pub(crate) runs: u64,
    /// Objects moved.
    pub(crate) objects_moved: u64,
    /// Their bytes.
    pub(crate) bytes_moved: u64,
    /// Frames that became free.
    pub(crate) frames_freed: u64,
    /// Zspages that became free.
    pub(crate) zspages_freed: u64,
    /// Zspages passed over: in use, damaged, or without a frame for their objects.
    pub(crate) skipped: u64,
    /// Time spent. Units: microseconds.
    pub(crate) time_us: u64,
}

/// The cache of uncompressed hot pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HotReport {
    /// Size limit; 0 without a cache. Units: bytes.
    pub(crate) limit: u64,
    /// Size. Units: bytes.
    pub(crate) bytes: u64,
    /// Size in pages.
    pub(crate) pages: u64,
    /// Cached pages read or overwritten in place.
    pub(crate) hits: u64,
    /// Pages admitted so far.
    pub(crate) admissions: u64,
    /// Pages compressed to make room.
    pub(crate) evictions: u64,
}

/// Compaction in the background.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BackgroundReport {
    /// `off`, `watching`, `working`, or `backing off` after work without success.
    pub(crate) state: String,
    /// Limit in percent of one CPU; 0 when it is off.
    pub(crate) cpu_percent: u8,
    /// CPU time used. Units: microseconds.
    pub(crate) cpu_us: u64,
    /// Times it polled how much compaction could free.
    pub(crate) looks: u64,
    /// Slices of work.
    pub(crate) slices: u64,
    /// Objects moved; part of `compaction`.
    pub(crate) objects_moved: u64,
    /// Frames freed; part of `compaction`.
    pub(crate) frames_freed: u64,
    /// Frames moved by frame compaction.
    #[serde(default)]
    pub(crate) frames_moved: u64,
    /// Frames returned to the OS, in whole 2 MiB blocks.
    #[serde(default)]
    pub(crate) frames_released: u64,
    /// Memory that wholly free 2 MiB blocks keep for the next writes, at most. Units: bytes.
    #[serde(default)]
    pub(crate) kept_max: u64,
    /// Frames that compaction could free at the last poll.
    pub(crate) frames_freeable: u64,
}

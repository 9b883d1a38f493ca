//! The part of `GET /v1/stat` about memory that moves: migration, both compactions, and what works by itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::balloon_json::BalloonReport;

/// Everything that moves memory, and how far it got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MovementStats {
    /// `on`, or `off` when frames stay where they are (`--movability off`).
    pub(crate) movability: String,
    /// Counters of migration and frame compaction under their names in `/proc/vmstat`. `nr_isolated` is a level, the others only grow.
    pub(crate) vmstat: BTreeMap<String, u64>,
    /// All object compactions so far, asked for or not.
    pub(crate) compaction: CompactionCounts,
    /// Compaction in the background.
    pub(crate) background: BackgroundReport,
    /// Memory of the arena that is lent to the OS.
    pub(crate) balloon: BalloonReport,
    /// Pages kept uncompressed.
    pub(crate) hot_cache: HotReport,
}

/// All object compactions together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CompactionCounts {
    /// Compactions that have ended; a slice of the one in the background is one.
    pub(crate) runs: u64,
    /// Objects that got a new place.
    pub(crate) objects_moved: u64,
    /// Their bytes.
    pub(crate) bytes_moved: u64,
    /// Frames that became free.
    pub(crate) frames_freed: u64,
    /// Zspages that became free.
    pub(crate) zspages_freed: u64,
    /// Zspages passed over, since they were in use.
    pub(crate) skipped: u64,
    /// Time spent.
    pub(crate) time_us: u64,
}

/// The cache of uncompressed hot pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HotReport {
    /// The most it may hold; 0 without a cache.
    pub(crate) limit: u64,
    /// What it holds.
    pub(crate) bytes: u64,
    /// The same in pages.
    pub(crate) pages: u64,
    /// Pages read from it, or written to in place.
    pub(crate) hits: u64,
    /// Pages that ever came into it.
    pub(crate) admissions: u64,
    /// Pages that were compressed to make room.
    pub(crate) evictions: u64,
}

/// Compaction in the background.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BackgroundReport {
    /// `off`, `watching`, `working`, or `backing off` after work in vain.
    pub(crate) state: String,
    /// The most of one CPU it may use, in percent; 0 when it is off.
    pub(crate) cpu_percent: u8,
    /// CPU time it used.
    pub(crate) cpu_us: u64,
    /// Times it looked how much there is to be gained.
    pub(crate) looks: u64,
    /// Slices it worked.
    pub(crate) slices: u64,
    /// Objects it moved; part of `compaction`.
    pub(crate) objects_moved: u64,
    /// Frames it freed; part of `compaction`.
    pub(crate) frames_freed: u64,
    /// Frames it moved together.
    #[serde(default)]
    pub(crate) frames_moved: u64,
    /// Frames it gave back to the OS, in whole 2 MiB blocks.
    #[serde(default)]
    pub(crate) frames_released: u64,
    /// The most that wholly free 2 MiB blocks keep for the next writes. Units: bytes.
    #[serde(default)]
    pub(crate) kept_max: u64,
    /// Frames that could be freed when it last looked.
    pub(crate) frames_freeable: u64,
}

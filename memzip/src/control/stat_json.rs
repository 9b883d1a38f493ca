//! The answer to `GET /v1/stat`, field by field.
//!
//! Field names are the kernel's where it has the same value (`/sys/block/zram0/mm_stat`, `io_stat`,
//! debugfs `zsmalloc/classes`), so that scripts can be reused. All sizes are in bytes.
//! `memzip stat` parses these types. Fields may be added; none may be renamed. A part that a
//! library counts is that library's type.

use std::collections::BTreeMap;

use frames::MemoryFailureStats;
use serde::{Deserialize, Serialize};
use zram::{HotStat, IoStat, LimitStat, MemoryBreakdown, MmStat};
use zsmalloc::{BackgroundStats, CompactionTotals};

use super::change_json::BalloonReport;

/// Statistics of one server at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StatReport {
    /// NBD URI for clients.
    pub(crate) uri: String,
    /// Size of the disk as clients see it.
    pub(crate) disksize: u64,
    /// Algorithm and level, `zstd:3` for example.
    pub(crate) comp_algorithm: String,
    /// Whether writes are refused.
    pub(crate) read_only: bool,
    /// The kernel's `mm_stat`.
    #[serde(flatten)]
    pub(crate) mm: MmStat,
    /// Everything the store holds, book-keeping and free committed frames included: the sum of
    /// `memory`. `mem_limit` is the limit on this and the balloon together.
    pub(crate) mem_total: u64,
    /// Part of the limit reserved for zeros that a client wants allocated. It is no memory yet.
    #[serde(default)]
    pub(crate) mem_reserved: u64,
    /// What happens near the limit.
    #[serde(flatten)]
    pub(crate) limit: LimitStat,
    /// Resident memory of the whole server process, as the OS counts it; null if unknown.
    pub(crate) rss: Option<u64>,
    /// The parts of `mem_total`. They add up to it exactly.
    pub(crate) memory: MemoryBreakdown,
    /// Frames whose memory has failed; what was stored in them is lost.
    #[serde(default)]
    pub(crate) memory_failure: MemoryFailureStats,
    /// Reads and writes of the disk, in pages; a part of a page counts as one.
    pub(crate) io: IoStat,
    /// Statistics of the NBD server. Its buffers are not in `mem_total`, and outside `mem_limit`.
    pub(crate) nbd: nbd::Stats,
    /// Size classes that have frames.
    pub(crate) classes: Vec<ClassRow>,
    /// Free blocks of the arena by order, in the format of `/proc/buddyinfo`.
    pub(crate) buddyinfo: String,
    /// Free blocks by migrate type, in the format of `/proc/pagetypeinfo`.
    pub(crate) pagetypeinfo: String,
    /// `on`, or `off` when frames cannot move (`--movability off`).
    pub(crate) movability: String,
    /// Counters of migration and frame compaction under their names in `/proc/vmstat`.
    /// `nr_isolated` is a level, the others never fall.
    pub(crate) vmstat: BTreeMap<String, u64>,
    /// All object compactions so far, on demand and in the background.
    pub(crate) compaction: CompactionTotals,
    /// Compaction in the background.
    pub(crate) background: BackgroundReport,
    /// The balloon in the arena.
    pub(crate) balloon: BalloonReport,
    /// Pages kept uncompressed.
    pub(crate) hot_cache: HotStat,
}

/// Compaction in the background.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BackgroundReport {
    /// `off`, `watching`, `working`, or `backing off` after work without success.
    pub(crate) state: String,
    /// Limit in percent of one CPU; 0 when it is off.
    pub(crate) cpu_percent: u8,
    /// Memory that wholly free 2 MiB blocks keep for the next writes, at most. Units: bytes.
    #[serde(default)]
    pub(crate) kept_max: u64,
    /// What it did; `compaction` includes these objects and frames.
    #[serde(flatten)]
    pub(crate) stats: BackgroundStats,
}

/// Returns the parts of `mem_total`, the most important first, with JSON names and explanations.
pub(crate) fn memory_parts(memory: &MemoryBreakdown) -> [(&'static str, u64, &'static str); 11] {
    [
        ("live", memory.live, "stored bytes"),
        ("rounding", memory.rounding, "between an object's length and its size class"),
        ("holes", memory.holes, "free slots in used frames; compaction closes most"),
        ("free_frames", memory.free_frames, "empty frames kept for the next writes"),
        ("descriptors", memory.descriptors, "book-keeping of frames"),
        ("handles", memory.handles, "book-keeping of objects"),
        ("zspages", memory.zspages, "book-keeping of zspages"),
        ("slots", memory.slots, "the disk's table, one word a page"),
        ("hot", memory.hot, "pages kept uncompressed"),
        ("hot_records", memory.hot_records, "book-keeping of pages kept uncompressed"),
        ("streams", memory.streams, "codec contexts, one for each CPU"),
    ]
}

/// Returns every count of error replies with its name, and that of broken connections.
pub(crate) fn nbd_errors(errors: &nbd::Errors) -> [(&'static str, u64); 8] {
    [
        ("eperm", errors.not_permitted),
        ("eio", errors.io),
        ("einval", errors.invalid),
        ("enospc", errors.no_space),
        ("eoverflow", errors.overflow),
        ("enotsup", errors.not_supported),
        ("eshutdown", errors.shutting_down),
        ("broken_conversation", errors.broken_connections),
    ]
}

/// One size class, named after the columns of debugfs `zsmalloc/<pool>/classes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClassRow {
    /// Index of the class.
    pub(crate) class: u64,
    /// Size of an object slot. Units: bytes.
    pub(crate) size: u64,
    /// Zspages by how full they are: 0 %, ten steps up to 99 %, 100 %.
    pub(crate) fullness: Vec<u64>,
    /// Object slots in its zspages.
    pub(crate) obj_allocated: u64,
    /// Object slots in use.
    pub(crate) obj_used: u64,
    /// Frames of its zspages.
    pub(crate) pages_used: u64,
    /// Frames of a whole zspage.
    pub(crate) pages_per_zspage: u64,
    /// Frames that compaction could free.
    pub(crate) freeable: u64,
}

/// Body of every answer with a status other than 200.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ErrorReport {
    /// The error in one sentence.
    pub(crate) error: String,
}

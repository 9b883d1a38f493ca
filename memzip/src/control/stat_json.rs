//! The answer to `GET /v1/stat`, field by field.
//!
//! Field names are the kernel's where it has the same value (`/sys/block/zram0/mm_stat`, `io_stat`,
//! debugfs `zsmalloc/classes`), so that scripts can be reused. All sizes are in bytes.
//! `memzip stat` parses these types. Fields may be added; none may be renamed. A part that a
//! library counts is that library's type.

use frames::MemoryFailureStats;
use serde::{Deserialize, Serialize};
use zram::{IoStat, MemoryBreakdown};

use super::movement::MovementStats;

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
    /// Stored content before compression, same-filled pages included.
    pub(crate) orig_data_size: u64,
    /// Stored content after compression; most same-filled pages count as nothing.
    pub(crate) compr_data_size: u64,
    /// Memory of the frames that belong to zspages.
    pub(crate) mem_used_total: u64,
    /// Everything the store holds, book-keeping and free committed frames included: the sum of
    /// `memory`.
    pub(crate) mem_total: u64,
    /// Limit on the sum of `mem_total` and the balloon, so also on `mem_used_total`; 0 for none.
    pub(crate) mem_limit: u64,
    /// Part of the limit reserved for zeros that a client wants allocated. It is no memory yet.
    #[serde(default)]
    pub(crate) mem_reserved: u64,
    /// Whether the limit is nearly reached: set above 95 %, cleared below 90 %.
    #[serde(default)]
    pub(crate) nearly_full: bool,
    /// Times `nearly_full` was set.
    #[serde(default)]
    pub(crate) nearly_full_total: u64,
    /// Pages whose write found no memory at first and waited until other threads freed some.
    #[serde(default)]
    pub(crate) writestall: u64,
    /// Highest `mem_used_total` so far.
    pub(crate) mem_used_max: u64,
    /// Pages of one repeated word; they use no pool memory.
    pub(crate) same_pages: u64,
    /// Pages that did not compress and are stored whole.
    pub(crate) huge_pages: u64,
    /// Number of such pages ever stored.
    pub(crate) huge_pages_since: u64,
    /// Frames freed by compaction.
    pub(crate) pages_compacted: u64,
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
    /// Statistics of everything that moves memory.
    #[serde(flatten)]
    pub(crate) movement: MovementStats,
}

/// Returns every part of `mem_total` with its JSON name and a hint for people, the most important
/// first.
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

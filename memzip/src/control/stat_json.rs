//! The answer to `GET /v1/stat`, field by field.
//!
//! Field names are the kernel's where it has the same value (`/sys/block/zram0/mm_stat`, `io_stat`,
//! debugfs `zsmalloc/classes`), so that scripts can be reused. All sizes are in bytes.
//! `memzip stat` parses these types. Fields may be added; none may be renamed.

use serde::{Deserialize, Serialize};

use super::movement_json::MovementStats;

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
    /// The parts of `mem_total`.
    pub(crate) memory: MemoryParts,
    /// Frames whose memory has failed.
    #[serde(default)]
    pub(crate) memory_failure: MemoryFailureCounts,
    /// Reads and writes of the disk, in pages.
    pub(crate) io: IoCounts,
    /// Statistics of the NBD server.
    pub(crate) nbd: NbdCounts,
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

/// The parts of `mem_total`. They add up to it exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemoryParts {
    /// Stored bytes.
    pub(crate) live: u64,
    /// Bytes between an object's length and its class's size, object headers included.
    pub(crate) rounding: u64,
    /// Bytes of zspages' frames outside objects: free object slots, which compaction closes, and
    /// tails.
    pub(crate) holes: u64,
    /// Committed frames that hold nothing, kept for the next writes.
    pub(crate) free_frames: u64,
    /// Frame descriptors.
    pub(crate) descriptors: u64,
    /// Location words of handles.
    pub(crate) handles: u64,
    /// Records of zspages.
    pub(crate) zspages: u64,
    /// The disk's table: one word a page.
    pub(crate) slots: u64,
    /// Pages kept uncompressed (`--hot-cache`).
    #[serde(default)]
    pub(crate) hot: u64,
    /// Records of the pages kept uncompressed.
    #[serde(default)]
    pub(crate) hot_records: u64,
    /// Codec contexts and their buffers.
    #[serde(default)]
    pub(crate) streams: u64,
}

impl MemoryParts {
    /// Returns every part with its JSON name and a hint for people, the most important first.
    pub(crate) fn named(&self) -> [(&'static str, u64, &'static str); 11] {
        [
            ("live", self.live, "stored bytes"),
            ("rounding", self.rounding, "between an object's length and its size class"),
            ("holes", self.holes, "free slots in used frames; compaction closes most"),
            ("free_frames", self.free_frames, "empty frames kept for the next writes"),
            ("descriptors", self.descriptors, "book-keeping of frames"),
            ("handles", self.handles, "book-keeping of objects"),
            ("zspages", self.zspages, "book-keeping of zspages"),
            ("slots", self.slots, "the disk's table, one word a page"),
            ("hot", self.hot, "pages kept uncompressed"),
            ("hot_records", self.hot_records, "book-keeping of pages kept uncompressed"),
            ("streams", self.streams, "codec contexts, one for each CPU"),
        ]
    }

    /// Returns the sum of all parts.
    pub(crate) fn sum(&self) -> u64 {
        self.named().iter().map(|(_, bytes, _)| bytes).sum()
    }
}

/// Frames whose memory has failed, named after the kernel's `memory_failure` statistics of a node.
/// What was stored in them is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemoryFailureCounts {
    /// Frames that ever failed.
    pub(crate) total: u64,
    /// The part of `total` that is out of use.
    pub(crate) recovered: u64,
    /// The part of `total` still in use: each goes out of use when its content is overwritten or
    /// discarded.
    pub(crate) delayed: u64,
}

/// Reads and writes of the disk in pages; a part of a page counts as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IoCounts {
    /// Pages read.
    pub(crate) reads: u64,
    /// Pages written.
    pub(crate) writes: u64,
    /// Pages that could not be read back.
    pub(crate) failed_reads: u64,
    /// Pages that could not be stored, for lack of memory for example.
    pub(crate) failed_writes: u64,
    /// Requests past the end of the disk.
    pub(crate) invalid_io: u64,
    /// Pages freed by discard.
    pub(crate) notify_free: u64,
}

/// Statistics of the NBD server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NbdCounts {
    /// Clients served now.
    pub(crate) connections: u64,
    /// Clients in the handshake now.
    pub(crate) handshakes: u64,
    /// Clients served so far.
    pub(crate) connections_total: u64,
    /// Clients refused: at the connection limit, or of another user.
    pub(crate) connections_refused: u64,
    /// Content sent to clients.
    pub(crate) bytes_read: u64,
    /// Content taken from clients.
    pub(crate) bytes_written: u64,
    /// Memory of the buffers of current connections; not in `mem_total`, and outside `mem_limit`.
    #[serde(default)]
    pub(crate) buffer_bytes: u64,
    /// Requests by command.
    pub(crate) requests: NbdRequests,
    /// Error replies by error number, and broken connections.
    pub(crate) errors: NbdErrors,
}

/// Requests by NBD command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NbdRequests {
    pub(crate) read: u64,
    pub(crate) write: u64,
    pub(crate) flush: u64,
    pub(crate) trim: u64,
    pub(crate) cache: u64,
    pub(crate) write_zeroes: u64,
    pub(crate) block_status: u64,
    pub(crate) unknown: u64,
}

impl NbdRequests {
    /// Returns every count with its name.
    pub(crate) fn named(&self) -> [(&'static str, u64); 8] {
        [
            ("read", self.read),
            ("write", self.write),
            ("flush", self.flush),
            ("trim", self.trim),
            ("cache", self.cache),
            ("write_zeroes", self.write_zeroes),
            ("block_status", self.block_status),
            ("unknown", self.unknown),
        ]
    }
}

/// Error replies by NBD error number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NbdErrors {
    /// Writes to a read-only disk.
    pub(crate) eperm: u64,
    /// Damaged pages.
    pub(crate) eio: u64,
    /// Invalid requests.
    pub(crate) einval: u64,
    /// Writes without memory.
    pub(crate) enospc: u64,
    /// Reads that were too long.
    pub(crate) eoverflow: u64,
    /// Zeroing that was required to be fast.
    pub(crate) enotsup: u64,
    /// Requests during a shutdown.
    pub(crate) eshutdown: u64,
    /// Connections that ended in the middle of a message or with garbage.
    pub(crate) broken_conversations: u64,
}

impl NbdErrors {
    /// Returns every count with its name.
    pub(crate) fn named(&self) -> [(&'static str, u64); 8] {
        [
            ("eperm", self.eperm),
            ("eio", self.eio),
            ("einval", self.einval),
            ("enospc", self.enospc),
            ("eoverflow", self.eoverflow),
            ("enotsup", self.enotsup),
            ("eshutdown", self.eshutdown),
            ("broken_conversation", self.broken_conversations),
        ]
    }
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

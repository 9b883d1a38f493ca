//! What `GET /v1/stat` answers, field by field.
//!
//! Field names are the kernel's where it has the thing (`/sys/block/zram0/mm_stat`, `io_stat`, debugfs `zsmalloc/classes`), so that
//! scripts need not learn new words. All sizes are in bytes. These types are read back by `memzip stat`; fields may be added, none renamed.

use serde::{Deserialize, Serialize};

use super::movement_json::MovementStats;

/// One server's numbers at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StatReport {
    /// The NBD URI clients use.
    pub(crate) uri: String,
    /// Size of the disk as clients see it.
    pub(crate) disksize: u64,
    /// Algorithm and level, `zstd:3` for example.
    pub(crate) comp_algorithm: String,
    /// Whether writes are refused.
    pub(crate) read_only: bool,
    /// What clients stored, uncompressed, same-filled pages included.
    pub(crate) orig_data_size: u64,
    /// The same, compressed; most same-filled pages count nothing.
    pub(crate) compr_data_size: u64,
    /// Frames that belong to zspages.
    pub(crate) mem_used_total: u64,
    /// Everything the store holds, book-keeping and free committed frames included: the sum of `memory`.
    pub(crate) mem_total: u64,
    /// Limit on `mem_total` and what a balloon lent together, so also on `mem_used_total`; 0 for none.
    pub(crate) mem_limit: u64,
    /// Room that counts against the limit and is kept for zeros a client wants allocated. It is no memory yet.
    #[serde(default)]
    pub(crate) mem_reserved: u64,
    /// Whether more than 95 % of the limit is needed, and since then not less than 90 %.
    #[serde(default)]
    pub(crate) nearly_full: bool,
    /// How often it came to that.
    #[serde(default)]
    pub(crate) nearly_full_total: u64,
    /// Pages whose write found no memory at first, and waited while others made room.
    #[serde(default)]
    pub(crate) writestall: u64,
    /// The highest `mem_used_total` so far.
    pub(crate) mem_used_max: u64,
    /// Pages of one repeated word; they take no pool memory.
    pub(crate) same_pages: u64,
    /// Pages that did not compress and are stored whole.
    pub(crate) huge_pages: u64,
    /// How many such pages were ever stored.
    pub(crate) huge_pages_since: u64,
    /// Frames that compaction freed.
    pub(crate) pages_compacted: u64,
    /// Resident memory of the whole server process, as the OS counts it; null where it does not tell.
    pub(crate) rss: Option<u64>,
    /// `mem_total`, part by part.
    pub(crate) memory: MemoryParts,
    /// Frames whose memory has failed.
    #[serde(default)]
    pub(crate) memory_failure: MemoryFailureCounts,
    /// What went through the disk, in pages.
    pub(crate) io: IoCounts,
    /// The NBD side.
    pub(crate) nbd: NbdCounts,
    /// Size classes that hold something.
    pub(crate) classes: Vec<ClassRow>,
    /// Free blocks of the arena by order, in the format of `/proc/buddyinfo`.
    pub(crate) buddyinfo: String,
    /// Free blocks by migrate type, in the format of `/proc/pagetypeinfo`.
    pub(crate) pagetypeinfo: String,
    /// What was moved, and what moves by itself.
    #[serde(flatten)]
    pub(crate) movement: MovementStats,
}

/// Where `mem_total` goes. The parts sum to it exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemoryParts {
    /// Stored bytes.
    pub(crate) live: u64,
    /// Between an object's length and its class's size, object headers included.
    pub(crate) rounding: u64,
    /// Bytes of zspages' frames outside objects: freed places, which compaction closes, and their tails.
    pub(crate) holes: u64,
    /// Committed frames that hold nothing: kept for the next writes.
    pub(crate) free_frames: u64,
    /// Frame descriptors.
    pub(crate) descriptors: u64,
    /// Location words of handles.
    pub(crate) handles: u64,
    /// Records of zspages.
    pub(crate) zspages: u64,
    /// The disk's own table: one word a page.
    pub(crate) slots: u64,
    /// Pages kept uncompressed (`--hot-cache`).
    #[serde(default)]
    pub(crate) hot: u64,
    /// Records of these.
    #[serde(default)]
    pub(crate) hot_records: u64,
    /// Codec contexts and their buffers.
    #[serde(default)]
    pub(crate) streams: u64,
}

impl MemoryParts {
    /// Every part with its JSON name and a hint for people, largest meaning first.
    pub(crate) fn named(&self) -> [(&'static str, u64, &'static str); 11] {
        [
            ("live", self.live, "stored bytes"),
            ("rounding", self.rounding, "between an object's length and its size class"),
            ("holes", self.holes, "free places in used frames; compaction closes most"),
            ("free_frames", self.free_frames, "empty frames kept for the next writes"),
            ("descriptors", self.descriptors, "book-keeping of frames"),
            ("handles", self.handles, "book-keeping of objects"),
            ("zspages", self.zspages, "book-keeping of zspages"),
            ("slots", self.slots, "the disk's table, one word a page"),
            ("hot", self.hot, "pages kept uncompressed"),
            ("hot_records", self.hot_records, "book-keeping of these"),
            ("streams", self.streams, "codec contexts, one for each CPU"),
        ]
    }

    /// The whole.
    pub(crate) fn sum(&self) -> u64 {
        self.named().iter().map(|(_, bytes, _)| bytes).sum()
    }
}

/// Frames whose memory has failed, by the names of the kernel's `memory_failure` statistics of a node. What was stored in them is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemoryFailureCounts {
    /// All that ever failed.
    pub(crate) total: u64,
    /// Of these, frames that are out of use.
    pub(crate) recovered: u64,
    /// Of these, frames that are still in use: each is out of use when what is in it is overwritten or discarded.
    pub(crate) delayed: u64,
}

/// Pages that went through the disk; a part of a page counts as one.
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
    /// Requests that did not fit the disk.
    pub(crate) invalid_io: u64,
    /// Pages freed by discard.
    pub(crate) notify_free: u64,
}

/// What NBD clients did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NbdCounts {
    /// Clients served now.
    pub(crate) connections: u64,
    /// Clients in the handshake now.
    pub(crate) handshakes: u64,
    /// Clients that were ever served.
    pub(crate) connections_total: u64,
    /// Clients turned away: there was no room, or they belong to another user.
    pub(crate) connections_refused: u64,
    /// Content sent to clients.
    pub(crate) bytes_read: u64,
    /// Content taken from clients.
    pub(crate) bytes_written: u64,
    /// Buffers of the connections there are now; not in `mem_total`, and outside `mem_limit`.
    #[serde(default)]
    pub(crate) buffer_bytes: u64,
    /// Requests by command.
    pub(crate) requests: NbdRequests,
    /// Error replies by number, and conversations that ended badly.
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
    /// Every count with its name.
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
    /// Requests that made no sense.
    pub(crate) einval: u64,
    /// Writes that found no memory.
    pub(crate) enospc: u64,
    /// Reads that were too long.
    pub(crate) eoverflow: u64,
    /// Zeros that were wanted fast or not at all.
    pub(crate) enotsup: u64,
    /// Requests that came during a shutdown.
    pub(crate) eshutdown: u64,
    /// Clients that broke off in the middle of a message or sent garbage.
    pub(crate) broken_conversations: u64,
}

impl NbdErrors {
    /// Every count with its name.
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

/// One size class, after the columns of debugfs `zsmalloc/<pool>/classes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClassRow {
    /// Number of the class.
    pub(crate) class: u64,
    /// Bytes an object takes in it.
    pub(crate) size: u64,
    /// Zspages by how full they are: 0 %, ten steps up to 99 %, 100 %.
    pub(crate) fullness: Vec<u64>,
    /// Places for objects in its zspages.
    pub(crate) obj_allocated: u64,
    /// Places taken.
    pub(crate) obj_used: u64,
    /// Frames its zspages hold.
    pub(crate) pages_used: u64,
    /// Frames of a whole zspage.
    pub(crate) pages_per_zspage: u64,
    /// Frames a compaction could free.
    pub(crate) freeable: u64,
}

/// Body of every answer that is not 200.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ErrorReport {
    /// One sentence.
    pub(crate) error: String,
}

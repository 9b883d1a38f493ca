//! The statistics of a device, with the kernel's names.

use std::fmt;
use std::str::FromStr;

use page::PAGE_SIZE;
use thiserror::Error;
use zsmalloc::{BackgroundStats, ClassStats, CompactionTotals, PoolStats};

use crate::counters::Counter;
use crate::hot::HotCache;
use crate::zram::Zram;

const PAGE: u64 = PAGE_SIZE as u64;

/// The kernel's `mm_stat`. Its [`fmt::Display`] prints the kernel's line. Units: bytes for sizes,
/// pages for the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MmStat {
    /// The uncompressed size of all pages that are not empty.
    pub orig_data_size: u64,
    /// The payload of all objects. A same-filled page counts 0, or 8 if it needs an object.
    pub compr_data_size: u64,
    /// The frames of zspages.
    pub mem_used_total: u64,
    /// The limit on [`MemoryBreakdown::mem_total`] plus ballooned frames; 0 for none.
    pub mem_limit: u64,
    /// The largest `mem_used_total` since the device was created or the value was reset.
    pub mem_used_max: u64,
    /// The pages that repeat one pattern.
    pub same_pages: u64,
    /// The frames freed by object compaction.
    pub pages_compacted: u64,
    /// The pages stored uncompressed in the pool.
    pub huge_pages: u64,
    /// The pages ever stored uncompressed in the pool.
    pub huge_pages_since: u64,
}

/// The kernel's `io_stat`, and the two counters of its `stat`. Its [`fmt::Display`] prints the
/// kernel's line. Units: pages; a part of a page counts as one. `invalid_io` counts requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
pub struct IoStat {
    /// The pages read.
    pub reads: u64,
    /// The pages written.
    pub writes: u64,
    /// The pages that could not be read.
    pub failed_reads: u64,
    /// The pages that could not be written.
    pub failed_writes: u64,
    /// The requests outside the device.
    pub invalid_io: u64,
    /// The whole pages that clients discarded.
    pub notify_free: u64,
}

/// The cache of uncompressed hot pages; all zero without one. Units: pages, or bytes where it says
/// so. A part of a page counts as one hit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
pub struct HotStat {
    /// The most bytes allowed; 0 without a cache.
    #[cfg_attr(feature = "serde", serde(rename = "limit"))]
    pub hot_limit: u64,
    /// The bytes of the frames of these pages.
    #[cfg_attr(feature = "serde", serde(rename = "bytes"))]
    pub hot_bytes: u64,
    /// The pages kept uncompressed now.
    #[cfg_attr(feature = "serde", serde(rename = "pages"))]
    pub hot_pages: u64,
    /// The pages read from the cache, or written in place.
    pub hits: u64,
    /// The pages that ever became hot.
    pub admissions: u64,
    /// The hot pages that were stored again because the cache was full or memory was short.
    pub evictions: u64,
}

/// All memory that grows with the number of pages and objects, by use. The parts sum to
/// `mem_total`. Units: bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
pub struct MemoryBreakdown {
    /// The sum of all fields below. Serialized without it.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub mem_total: u64,
    /// The payload of objects.
    pub live: u64,
    /// Headers, and rounding up to the size of the class.
    pub rounding: u64,
    /// Free object slots, and the unused ends of zspages.
    pub holes: u64,
    /// Frames held by the device that belong to no zspage.
    pub free_frames: u64,
    /// Frame descriptors and the zone's other tables.
    pub descriptors: u64,
    /// The handle table.
    pub handles: u64,
    /// Zspage and chain records.
    pub zspages: u64,
    /// The slot table.
    pub slots: u64,
    /// Frames of hot pages.
    pub hot: u64,
    /// The tables of the cache of hot pages.
    pub hot_records: u64,
    /// Codec contexts and their buffers.
    pub streams: u64,
}

/// The events at the memory limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
pub struct LimitStat {
    /// The pages whose write found no memory at first and had to reclaim: the kernel's counter.
    pub writestall: u64,
    /// Whether the device is nearly full: see [`Zram::on_nearly_full`].
    pub nearly_full: bool,
    /// How often the device became nearly full.
    pub nearly_full_total: u64,
}

/// All statistics of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// The kernel's `mm_stat`.
    pub mm: MmStat,
    /// The kernel's `io_stat`.
    pub io: IoStat,
    /// The memory by use.
    pub memory: MemoryBreakdown,
    /// The frames reserved for zeros that clients want allocated. They count against the limit but
    /// take no memory yet. Units: bytes.
    pub reserved: u64,
    /// The cache of uncompressed hot pages.
    pub hot: HotStat,
    /// The events at the memory limit.
    pub limit: LimitStat,
    /// The totals of object compaction.
    pub compaction: CompactionTotals,
    /// The totals of the pool's background thread, if there is one.
    pub background: BackgroundStats,
    /// The size classes, smallest first.
    pub classes: Vec<ClassStats>,
    /// The free blocks by order, in the kernel's format.
    pub buddyinfo: String,
}

impl fmt::Display for MmStat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = [
            [self.orig_data_size, self.compr_data_size, self.mem_used_total],
            [self.mem_limit, self.mem_used_max, self.same_pages],
            [self.pages_compacted, self.huge_pages, self.huge_pages_since],
        ];
        line(f, numbers.as_flattened())
    }
}

/// A text that is not a line of the kernel's `mm_stat`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("mm_stat is at least seven numbers in a line, not {line:?}")]
pub struct ParseMmStatError {
    /// The text.
    pub line: String,
}

impl FromStr for MmStat {
    type Err = ParseMmStatError;

    /// Parses the kernel's line. Old kernels lack the last two columns, which are 0 then; columns
    /// that newer ones add are ignored.
    fn from_str(line: &str) -> Result<Self, ParseMmStatError> {
        let error = || ParseMmStatError { line: line.to_owned() };
        let numbers: Result<Vec<u64>, _> = line.split_whitespace().map(str::parse).collect();
        let numbers = numbers.map_err(|_| error())?;
        let (first, later) = numbers.split_first_chunk().ok_or_else(error)?;
        let &[stored, compressed, used, limit, used_max, same, compacted] = first;
        Ok(Self {
            orig_data_size: stored,
            compr_data_size: compressed,
            mem_used_total: used,
            mem_limit: limit,
            mem_used_max: used_max,
            same_pages: same,
            pages_compacted: compacted,
            huge_pages: later.first().copied().unwrap_or(0),
            huge_pages_since: later.get(1).copied().unwrap_or(0),
        })
    }
}

impl fmt::Display for IoStat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, &[self.failed_reads, self.failed_writes, self.invalid_io, self.notify_free])
    }
}

/// Writes numbers right-aligned in 8 columns with one space between, like the kernel's two lines.
fn line(f: &mut fmt::Formatter<'_>, numbers: &[u64]) -> fmt::Result {
    for (at, number) in numbers.iter().enumerate() {
        let gap = if at == 0 { "" } else { " " };
        write!(f, "{gap}{number:8}")?;
    }
    Ok(())
}

impl MemoryBreakdown {
    /// Returns the breakdown with its sum.
    pub(crate) fn summed(self) -> Self {
        let frames = self.live + self.rounding + self.holes + self.free_frames + self.hot;
        let tables = self.descriptors + self.handles + self.zspages + self.slots + self.hot_records;
        Self { mem_total: frames + tables + self.streams, ..self }
    }
}

impl Zram {
    /// Returns a snapshot: exact while no thread changes the device, and consistent within each
    /// size class.
    ///
    /// Locking: takes each size class lock in turn, then the zone lock, each briefly.
    #[must_use]
    pub fn stat(&self) -> Stat {
        // Discards since the last write count, too.
        self.0.check_limit();
        let pool = self.0.pages.pool().stats();
        let count = |counter| self.0.counters.get(counter);
        Stat {
            mm: self.mm_stat(&pool),
            io: IoStat {
                reads: count(Counter::Reads),
                writes: count(Counter::Writes),
                failed_reads: count(Counter::FailedReads),
                failed_writes: count(Counter::FailedWrites),
                invalid_io: count(Counter::InvalidIo),
                notify_free: count(Counter::NotifyFree),
            },
            memory: self.memory_breakdown(&pool),
            reserved: count(Counter::Reserved) * PAGE,
            hot: self.hot_stat(),
            limit: LimitStat {
                writestall: count(Counter::WriteStalls),
                nearly_full: self.0.alarm.is_raised(),
                nearly_full_total: self.0.alarm.raised_total(),
            },
            buddyinfo: self.0.zone.buddyinfo().to_string(),
            compaction: pool.compaction,
            background: pool.background,
            classes: pool.classes,
        }
    }

    fn mm_stat(&self, pool: &PoolStats) -> MmStat {
        let count = |counter| self.0.counters.get(counter);
        MmStat {
            orig_data_size: count(Counter::PagesStored) * PAGE,
            compr_data_size: pool.live_bytes,
            mem_used_total: pool.frames * PAGE,
            mem_limit: self.0.zone.memory().limit.unwrap_or(0),
            mem_used_max: self.0.pages.pool().frames_max() * PAGE,
            same_pages: count(Counter::SamePages),
            pages_compacted: pool.compaction.frames_freed,
            huge_pages: count(Counter::HugePages),
            huge_pages_since: count(Counter::HugePagesSince),
        }
    }

    fn hot_stat(&self) -> HotStat {
        let Some(hot) = &self.0.hot else { return HotStat::default() };
        let count = |counter| self.0.counters.get(counter);
        HotStat {
            hot_pages: hot.used_frames(),
            hot_bytes: hot.used_frames() * PAGE,
            hot_limit: hot.limit * PAGE,
            hits: count(Counter::HotHits),
            admissions: count(Counter::HotAdmissions),
            evictions: count(Counter::HotEvictions),
        }
    }

    fn memory_breakdown(&self, pool: &PoolStats) -> MemoryBreakdown {
        let zone = self.0.zone.stats();
        let hot = self.0.hot.as_ref().map_or(0, HotCache::used_frames) * PAGE;
        let in_use = zone.ballooned.bytes() + pool.frames * PAGE + hot;
        MemoryBreakdown {
            mem_total: 0,
            live: pool.live_bytes,
            rounding: pool.rounding_bytes,
            holes: pool.hole_bytes,
            // Saturating: the pool may have grown between the two snapshots.
            free_frames: zone.reached.bytes().saturating_sub(in_use),
            descriptors: zone.descriptor_bytes,
            handles: pool.handle_bytes,
            zspages: pool.zspage_bytes,
            slots: self.0.slots.bytes(),
            hot,
            hot_records: self.0.hot.as_ref().map_or(0, HotCache::metadata_bytes),
            streams: self.0.stream_bytes,
        }
        .summed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The formats of the kernel's mm_stat_show and io_stat_show.
    #[test]
    fn lines_are_formatted_like_the_kernels() {
        let mm = MmStat {
            orig_data_size: 4096,
            compr_data_size: 74,
            mem_used_total: 12288,
            mem_limit: 0,
            mem_used_max: 123_456_789,
            ..MmStat::default()
        };
        assert_eq!(
            mm.to_string(),
            "    4096       74    12288        0 123456789        0        0        0        0"
        );
        assert_eq!(mm.to_string().parse(), Ok(mm));
        let io = IoStat { failed_reads: 1, notify_free: 42, reads: 7, ..IoStat::default() };
        assert_eq!(io.to_string(), "       1        0        0       42");
    }

    #[test]
    fn lines_of_older_and_newer_kernels_are_parsed() {
        let numbers = MmStat { orig_data_size: 1, pages_compacted: 7, ..MmStat::default() };
        assert_eq!("1 0 0 0 0 0 7\n".parse(), Ok(numbers));
        let newer = MmStat { huge_pages: 8, huge_pages_since: 9, ..numbers };
        assert_eq!("1 0 0 0 0 0 7 8 9 10".parse(), Ok(newer));
        for line in ["", "1 2 3", "1 2 3 4 5 six 7", "1 2 3 4 5 6 -7"] {
            assert_eq!(line.parse::<MmStat>(), Err(ParseMmStatError { line: line.into() }));
        }
    }
}

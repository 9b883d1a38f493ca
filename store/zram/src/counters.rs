//! Sharded counters, so that threads do not contend for them.

use sync::atomic::{AtomicU64, Ordering::Relaxed};
use sync::this_shard;

/// The identity of a counter.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Counter {
    /// Pages read.
    Reads,
    /// Pages written.
    Writes,
    /// Pages that could not be read.
    FailedReads,
    /// Pages that could not be written.
    FailedWrites,
    /// Requests outside the device.
    InvalidIo,
    /// Whole pages that clients discarded.
    NotifyFree,
    /// Slots that are not empty; can decrease.
    PagesStored,
    /// Slots that repeat one pattern; can decrease.
    SamePages,
    /// Slots that are zeros with a reserved frame; can decrease.
    Reserved,
    /// Slots that hold a raw page; can decrease.
    HugePages,
    /// Raw pages stored since the device was created.
    HugePagesSince,
    /// Pages read from the cache of hot pages, or changed in it.
    HotHits,
    /// Pages that became hot.
    HotAdmissions,
    /// Hot pages that were evicted from the full cache or for lack of memory.
    HotEvictions,
    /// Objects, hot pages and reservations freed.
    Freed,
    /// Pages whose write found no memory at first and had to reclaim.
    WriteStalls,
}

const COUNTERS: usize = Counter::WriteStalls as usize + 1;
const SHARDS: usize = 16;

/// The counters of a device, in shards of their own cache line pairs; a counter's value is the
/// sum over the shards.
///
/// Relaxed throughout: counters order no other data. A sum taken during updates is a snapshot: of
/// a counter that can decrease it may be short by the updates in progress, but [`Counters::get`]
/// saturates and never returns a wrapped value.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    shards: [Shard; SHARDS],
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard([AtomicU64; COUNTERS]);

impl Counters {
    /// Adds to this thread's shard.
    pub(crate) fn add(&self, counter: Counter, count: u64) {
        self.shard_value(counter).fetch_add(count, Relaxed);
    }

    /// Returns whether this thread's shard passed a multiple of `every` when `count` was just
    /// added to it. A hint: threads may share a shard.
    pub(crate) fn crossed(&self, counter: Counter, count: u64, every: u64) -> bool {
        let now = self.shard_value(counter).load(Relaxed);
        now / every != now.saturating_sub(count) / every
    }

    /// Subtracts what any thread has added: the shard may wrap, the sum does not.
    pub(crate) fn sub(&self, counter: Counter, count: u64) {
        self.shard_value(counter).fetch_sub(count, Relaxed);
    }

    /// Returns the sum over all shards.
    pub(crate) fn get(&self, counter: Counter) -> u64 {
        let sum = self
            .shards
            .iter()
            .fold(0u64, |sum, shard| sum.wrapping_add(shard.0[counter as usize].load(Relaxed)));
        // A subtraction seen before its addition makes the sum negative for a moment.
        u64::try_from(sum as i64).unwrap_or(0)
    }

    fn shard_value(&self, counter: Counter) -> &AtomicU64 {
        &self.shards[this_shard(SHARDS)].0[counter as usize]
    }
}

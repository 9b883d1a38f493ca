//! Counters that threads do not fight over.

use sync::atomic::{AtomicU64, Ordering::Relaxed};
use sync::this_shard;

/// What is counted.
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
    /// Requests that do not fit the device.
    InvalidIo,
    /// Whole pages clients have given back.
    NotifyFree,
    /// Slots that are not empty. Goes down, too.
    PagesStored,
    /// Slots that are one pattern repeated. Goes down, too.
    SamePages,
    /// Slots that are zeros with reserved room. Goes down, too.
    Reserved,
    /// Slots that hold a raw page. Goes down, too.
    HugePages,
    /// Raw pages ever stored.
    HugePagesSince,
    /// Pages read from the cache of hot pages, or changed in it.
    HotHits,
    /// Pages that became hot.
    HotAdmissions,
    /// Hot pages stored to make room.
    HotEvictions,
    /// Objects given back to the pool, and hot pages that ended.
    Freed,
    /// Pages that found no memory at first, and waited while others made room.
    WriteStalls,
}

const COUNTERS: usize = Counter::WriteStalls as usize + 1;
const SHARDS: usize = 16;

/// One line pair of counters for each of a few threads; a counter's value is the sum.
///
/// Relaxed throughout: counters order nothing. A sum taken while threads count is a snapshot; one that goes down may be short by what is under way,
/// never wrapped, since [`Counters::get`] saturates.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    shards: [Shard; SHARDS],
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard([AtomicU64; COUNTERS]);

impl Counters {
    pub(crate) fn add(&self, counter: Counter, count: u64) {
        self.shard_value(counter).fetch_add(count, Relaxed);
    }

    /// Whether this thread's part of a counter passed a multiple of `every` when `count` was added to it just now. A hint: threads may share a part.
    pub(crate) fn crossed(&self, counter: Counter, count: u64, every: u64) -> bool {
        let now = self.shard_value(counter).load(Relaxed);
        now / every != now.saturating_sub(count) / every
    }

    /// Takes away what some thread, maybe another one, has added: the shard may wrap, the sum does not.
    pub(crate) fn sub(&self, counter: Counter, count: u64) {
        self.shard_value(counter).fetch_sub(count, Relaxed);
    }

    pub(crate) fn get(&self, counter: Counter) -> u64 {
        let sum = self
            .shards
            .iter()
            .fold(0u64, |sum, shard| sum.wrapping_add(shard.0[counter as usize].load(Relaxed)));
        // A removal seen before its addition makes the sum negative for a moment.
        u64::try_from(sum as i64).unwrap_or(0)
    }

    fn shard_value(&self, counter: Counter) -> &AtomicU64 {
        &self.shards[this_shard(SHARDS)].0[counter as usize]
    }
}

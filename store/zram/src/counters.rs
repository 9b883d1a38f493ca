//! Sharded counters, so that threads do not contend for them.

use sync::atomic::{AtomicU64, Ordering::Relaxed};
use sync::this_shard;

/// The identity of a counter. [`crate::Stat`] says what those count that have no comment here.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Counter {
    Reads,
    Writes,
    FailedReads,
    FailedWrites,
    InvalidIo,
    NotifyFree,
    /// Slots that are not empty. Can decrease, as the next three.
    PagesStored,
    SamePages,
    Reserved,
    HugePages,
    HugePagesSince,
    HotHits,
    HotAdmissions,
    HotEvictions,
    /// Objects, hot pages and reservations freed.
    Freed,
    WriteStalls,
}

const COUNTERS: usize = Counter::WriteStalls as usize + 1;
const SHARDS: usize = 16;

/// The counters of a device, in shards of their own cache line pairs; a counter's value is the sum
/// over the shards, without the updates in progress. Relaxed throughout: they order no other data.
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

    pub(crate) fn get(&self, counter: Counter) -> u64 {
        let values = self.shards.iter().map(|shard| shard.0[counter as usize].load(Relaxed));
        // A subtraction seen before its addition makes the sum negative for a moment.
        (values.fold(0, u64::wrapping_add) as i64).max(0) as u64
    }

    fn shard_value(&self, counter: Counter) -> &AtomicU64 {
        &self.shards[this_shard(SHARDS)].0[counter as usize]
    }
}

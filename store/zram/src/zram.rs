//! The device: a slot table and a store of pages.

use std::sync::{Arc, Weak};

use block::Bytes;
use frames::{CmaRegion, CompactRequest, FrameCompaction, ShrinkerPriority, Zone};
use page::{Pages, Streams};
use zsmalloc::{Budget, Compaction, Pool};

use crate::config::{MAX_SIZE, ZramConfig, round_up_to_pages};
use crate::counters::Counters;
use crate::error::ZramError;
use crate::hot::HotCache;
use crate::inner::Inner;
use crate::nearly_full::{NearlyFull, NearlyFullAlarm};
use crate::reclaimer::Reclaimer;
use crate::slots::Slots;

/// A compressed block device in memory.
///
/// Locking: reads and writes take no lock of the device; slots change by compare-and-swap.
#[derive(Debug)]
pub struct Zram(pub(crate) Arc<Inner>);

impl Zram {
    /// Creates a device of empty pages. It takes memory as it is written.
    ///
    /// # Errors
    /// [`ZramError`]; nothing is left behind.
    pub fn new(config: ZramConfig) -> Result<Self, ZramError> {
        Self::with_streams(config, config.streams()?)
    }

    /// Creates a device that compresses with these streams, whatever `config.algorithm` says.
    pub(crate) fn with_streams(config: ZramConfig, streams: Streams) -> Result<Self, ZramError> {
        let size = config.size.0;
        if size == 0 || size > MAX_SIZE {
            return Err(ZramError::Size { size, max: MAX_SIZE });
        }
        let zone = Arc::new(Zone::new(config.zone())?);
        // The streams are charged before the tables: a limit below them is an error.
        let stream_bytes = streams.memory();
        zone.charge(stream_bytes).map_err(|_| ZramError::Limit {
            needed: zone.memory().held + stream_bytes,
            limit: config.mem_limit.map_or(0, |limit| limit.0),
        })?;
        let pool = Pool::new(Arc::clone(&zone), config.pool())?;
        let slots = Slots::new(Arc::clone(&zone), config.pages() as usize, config.backing)?;
        let cache = |size| HotCache::new(&zone, size, config.backing);
        let hot = config.cache_size().map(cache).transpose()?;
        // From here on the zone may migrate frames of hot pages, and evict pages.
        let register = |this: &Weak<Inner>, hot: &HotCache| {
            hot.chains.publish(this.clone());
            zone.register_shrinker(ShrinkerPriority::Cache, this.clone())
        };
        Ok(Self(Arc::new_cyclic(|this| Inner {
            _shrinker: hot.as_ref().map(|hot| register(this, hot)),
            slots,
            pages: Pages::new(pool, streams),
            counters: Counters::default(),
            hot,
            reclaimer: Reclaimer::new(),
            alarm: NearlyFullAlarm::default(),
            stream_bytes,
            config,
            zone: Arc::clone(&zone),
        })))
    }

    /// Returns the configuration of the device. [`Zram::stat`] returns the present limit.
    #[must_use]
    pub fn config(&self) -> &ZramConfig {
        &self.0.config
    }

    /// Returns the zone that the device's frames come from.
    #[must_use]
    pub fn zone(&self) -> &Arc<Zone> {
        &self.0.zone
    }

    /// Returns the CMA area, if there is one.
    #[must_use]
    pub fn contiguous(&self) -> Option<CmaRegion> {
        self.config().arena_layout().1
    }

    /// Returns the pool of the device's objects.
    #[must_use]
    pub fn pool(&self) -> &Arc<Pool> {
        self.0.pages.pool()
    }

    /// Changes the memory limit, rounded up to a frame: see [`ZramConfig::mem_limit`]. If the
    /// device holds more already, writes that need memory are refused until enough is freed.
    pub fn set_mem_limit(&self, limit: Option<Bytes>) {
        self.zone().set_memory_limit(limit.map(round_up_to_pages));
    }

    /// Calls `notify` when the device becomes nearly full, before a write is refused: at
    /// [`NEARLY_FULL_PERCENT`](crate::NEARLY_FULL_PERCENT) of the limit, and again only after it
    /// was below [`NEARLY_FULL_CLEAR_PERCENT`](crate::NEARLY_FULL_CLEAR_PERCENT).
    ///
    /// `notify` runs on the thread that writes or calls [`Zram::stat`]. A later call has no effect.
    pub fn on_nearly_full(&self, notify: fn(NearlyFull)) {
        self.0.alarm.on_raise(notify);
    }

    /// Compacts objects: moves them together so that frames become free. The free frames may be
    /// scattered: see [`Zram::compact_frames`]. Reads and writes continue meanwhile.
    pub fn compact(&self, budget: &Budget) -> Compaction {
        self.pool().compact(budget)
    }

    /// Compacts frames: moves them together so that whole 2 MiB pageblocks become free, and
    /// decommits those, best after [`Zram::compact`]. Reads and writes continue meanwhile.
    pub fn compact_frames(&self, budget: &Budget) -> FrameCompaction {
        let request = CompactRequest { budget: *budget, ..CompactRequest::default() };
        let report = self.zone().compact(request);
        self.zone().trim();
        report
    }

    /// Resets the high-water mark `mem_used_max` to what is used now.
    pub fn reset_mem_used_max(&self) {
        self.pool().reset_frames_max();
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

#[cfg(all(test, shuttle))]
mod tests {
    mod shuttle;
}

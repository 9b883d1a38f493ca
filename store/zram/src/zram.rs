//! The device: a slot table and a store of pages.

use std::sync::{Arc, OnceLock};

use block::{BlockError, Bytes};
use frames::{
    CmaRegion, CompactRequest, FrameCompaction, FrameCount, PAGEBLOCK_FRAMES, Pfn, Reservation,
    ShrinkerRegistration, Zone, ZoneConfig,
};
use page::{PAGE_SIZE, Page, Pages, StoreError, Streams};
use zsmalloc::{AllocError, Budget, Compaction, Pool, PoolConfig};

use crate::counters::{Counter, Counters};
use crate::hot::HotCache;
use crate::inner::{Inner, ReplaceOutcome, offset_of};
use crate::nearly_full::{LIMIT_CHECK_INTERVAL, NearlyFull, NearlyFullAlarm};
use crate::reclaimer::{self, Reclaimer};
use crate::slots::{SlotEntry, Slots};
use crate::{Access, ZramConfig, ZramError};

/// The size of the largest device: 2 TiB, so that 32-bit numbers suffice for its pages and for
/// their frames when nothing compresses. Units: bytes.
pub const MAX_SIZE: u64 = 2 << 40;

/// The least number of free pageblocks that stay committed for the next writes; a 64th of those
/// in use if that is more ([`Zone::kept`]). It is one, since 2 MiB matter in what a small disk
/// holds.
const MIN_KEPT_BLOCKS: u32 = 1;
/// The share of the memory limit that streams may take, as a divisor. One stream is always there.
const STREAM_LIMIT_DIVISOR: u64 = 4;

/// A compressed block device in memory. See the crate's documentation.
///
/// Locking: reads and writes take no lock of the device; slots change by compare-and-swap.
#[derive(Debug)]
pub struct Zram {
    pub(crate) config: ZramConfig,
    pub(crate) inner: Arc<Inner>,
    reclaimer: Reclaimer,
    /// Registered until the device is dropped.
    _shrinker: Option<ShrinkerRegistration>,
    pub(crate) alarm: NearlyFullAlarm,
    on_nearly_full: OnceLock<fn(NearlyFull)>,
    /// The memory of the streams, which is charged to the zone. Units: bytes.
    pub(crate) stream_bytes: u64,
}

impl Zram {
    /// Creates a device of empty pages. It reserves address space, and takes memory as it is
    /// written.
    ///
    /// # Errors
    /// [`ZramError`]; nothing is left behind.
    pub fn new(config: ZramConfig) -> Result<Self, ZramError> {
        // One stream per CPU, since more would only compete for the caches. Fewer where they
        // would exceed their share of the limit.
        let max_bytes = config.mem_limit.map_or(u64::MAX, |limit| limit.0 / STREAM_LIMIT_DIVISOR);
        let streams =
            Streams::with_memory_limit(config.algorithm, sys::host::cpus().min(64), max_bytes)?;
        Self::with_streams(config, streams)
    }

    /// Creates a device that compresses with these streams, whatever `config.algorithm` says.
    ///
    /// # Errors
    /// [`ZramError`]; nothing is left behind.
    pub fn with_streams(config: ZramConfig, streams: Streams) -> Result<Self, ZramError> {
        let size = config.size.0;
        if size == 0 || size > MAX_SIZE {
            return Err(ZramError::Size { size, max: MAX_SIZE });
        }
        let pages = size.div_ceil(PAGE_SIZE as u64);
        let (capacity, cma) = arena_layout(&config, pages);
        let zone = Arc::new(Zone::new(ZoneConfig {
            capacity,
            cma,
            limit: frame_limit(&config, capacity),
            memory_limit: config.mem_limit.map(round_up_to_pages),
            backing: config.backing,
            movability: config.movability,
            keep_blocks: MIN_KEPT_BLOCKS,
            ..ZoneConfig::default()
        })?);
        // The streams are charged before the tables: a limit below them is an error.
        let stream_bytes = streams.memory();
        zone.charge(stream_bytes).map_err(|_| {
            let held = zone.memory().held;
            ZramError::Limit {
                needed: held + stream_bytes,
                limit: config.mem_limit.map_or(0, round_up_to_pages),
            }
        })?;
        let pool = Pool::new(Arc::clone(&zone), pool_config(&config, pages))?;
        let cache = config.hot_cache.filter(|size| size.0 > 0);
        let inner = Arc::new(Inner {
            // At most MAX_SIZE / PAGE_SIZE, which fits a `usize`.
            slots: Slots::new(Arc::clone(&zone), pages as usize, config.backing)?,
            pages: Pages::new(pool, streams),
            counters: Counters::default(),
            hot: cache.map(|size| HotCache::new(&zone, size, config.backing)).transpose()?,
            zone,
        });
        Ok(Self {
            _shrinker: inner.publish(),
            inner,
            reclaimer: Reclaimer::new(),
            alarm: NearlyFullAlarm::default(),
            on_nearly_full: OnceLock::new(),
            stream_bytes,
            config,
        })
    }

    /// Returns the configuration of the device. [`Zram::stat`] returns the present limit.
    #[must_use]
    pub fn config(&self) -> &ZramConfig {
        &self.config
    }

    /// Returns the zone that the device's frames come from.
    #[must_use]
    pub fn zone(&self) -> &Arc<Zone> {
        &self.inner.zone
    }

    /// Returns the CMA area, if there is one.
    #[must_use]
    pub fn contiguous(&self) -> Option<CmaRegion> {
        let pages = self.config.size.0.div_ceil(PAGE_SIZE as u64);
        arena_layout(&self.config, pages).1
    }

    /// Returns the pool of the device's objects.
    #[must_use]
    pub fn pool(&self) -> &Arc<Pool> {
        self.inner.pages.pool()
    }

    /// Changes the memory limit, rounded up to a frame: see [`ZramConfig::mem_limit`]. If the
    /// device holds more already, writes that need memory are refused until enough is freed.
    pub fn set_mem_limit(&self, limit: Option<Bytes>) {
        self.inner.zone.set_memory_limit(limit.map(round_up_to_pages));
    }

    /// Calls `notify` when the device comes near its memory limit, before a write is refused: at
    /// [`NEARLY_FULL_PERCENT`](crate::NEARLY_FULL_PERCENT) of the limit, and again only after it
    /// was below [`NEARLY_FULL_CLEAR_PERCENT`](crate::NEARLY_FULL_CLEAR_PERCENT).
    ///
    /// `notify` runs on the thread that writes or calls [`Zram::stat`]. A later call of this
    /// method has no effect.
    pub fn on_nearly_full(&self, notify: fn(NearlyFull)) {
        let _first = self.on_nearly_full.set(notify);
    }

    /// Checks from time to time whether the limit is near, after `pages` were written.
    pub(crate) fn check_limit_after_write(&self, pages: u64) {
        let counters = &self.inner.counters;
        if counters.crossed(Counter::Writes, pages, LIMIT_CHECK_INTERVAL) {
            self.check_limit();
        }
    }

    /// Calls the callback if the device just came near its limit.
    pub(crate) fn check_limit(&self) {
        if let (Some(near), Some(notify)) =
            (self.alarm.update(self.inner.zone.memory()), self.on_nearly_full.get())
        {
            notify(near);
        }
    }

    /// Compacts objects: moves them together so that frames become free. The free frames may be
    /// scattered: see [`Zram::compact_frames`].
    ///
    /// Locking: reads and writes continue meanwhile.
    pub fn compact(&self, budget: &Budget) -> Compaction {
        self.inner.pages.pool().compact(budget)
    }

    /// Compacts frames: moves them together so that whole 2 MiB pageblocks become free, and
    /// decommits those. Most effective after [`Zram::compact`].
    ///
    /// Locking: reads and writes continue meanwhile.
    pub fn compact_frames(&self, budget: &Budget) -> FrameCompaction {
        let report = self
            .inner
            .zone
            .compact(CompactRequest { budget: *budget, ..CompactRequest::default() });
        self.inner.zone.trim();
        report
    }

    /// Resets the high-water mark `mem_used_max` to what is used now.
    pub fn reset_mem_used_max(&self) {
        self.inner.pages.pool().reset_frames_max();
    }

    /// Stores a page, after a reclaim if memory is short.
    pub(crate) fn store(&self, slot: usize, page: &Page) -> Result<SlotEntry, BlockError> {
        let mut tries = 0;
        loop {
            let old = self.inner.slots.get(slot).handle();
            let error = match self.inner.pages.store(page, old) {
                Ok(stored) => return Ok(stored.into()),
                Err(error) => error,
            };
            // At the limit the slot's own reservation comes first.
            if let Some(stored) = self.inner.store_reserved(slot, page, error) {
                return Ok(stored);
            }
            self.reclaim(slot, error, &mut tries)?;
        }
    }

    /// Reserves frames for the slot, after a reclaim if memory is short.
    pub(crate) fn reserve(
        &self,
        slot: usize,
        frames: FrameCount,
    ) -> Result<Reservation<'_>, BlockError> {
        let mut tries = 0;
        loop {
            match self.inner.zone.reserve(frames) {
                Ok(reservation) => return Ok(reservation),
                Err(error) => self.reclaim(slot, StoreError::Alloc(error.into()), &mut tries)?,
            }
        }
    }

    /// Puts an entry into a slot, after a reclaim if there is no memory for the slot's chunk.
    /// Frees what the entry refers to if that fails.
    pub(crate) fn set_entry(&self, slot: usize, new: SlotEntry) -> Result<(), BlockError> {
        let mut tries = 0;
        while self.inner.set_entry(slot, new)? == ReplaceOutcome::NoMemory {
            if let Err(error) = self.reclaim(slot, StoreError::Alloc(AllocError::Limit), &mut tries)
            {
                self.inner.free(new)?;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Reclaims memory for a request that was refused for lack of it. `Ok` means that the caller
    /// tries the request again. `tries` counts the calls for this request.
    ///
    /// # Errors
    /// The error of the request, if a retry cannot succeed.
    pub(crate) fn reclaim(
        &self,
        slot: usize,
        error: StoreError,
        tries: &mut u32,
    ) -> Result<(), BlockError> {
        let offset = offset_of(slot);
        let error = match error {
            StoreError::Codec(_) => return Err(BlockError::Codec { offset }),
            StoreError::Alloc(AllocError::Poisoned) => return Err(BlockError::Poisoned),
            StoreError::Alloc(error) => error,
        };
        if self.inner.zone.is_poisoned() {
            return Err(BlockError::Poisoned);
        }
        // Only lack of memory below the limit or of frames is worth a reclaim.
        if !matches!(error, AllocError::Limit | AllocError::NoFrames)
            || *tries >= reclaimer::MAX_RECLAIMS
        {
            return Err(BlockError::NoSpace { offset });
        }
        if *tries == 0 {
            self.inner.counters.add(Counter::WriteStalls, 1);
            self.check_limit();
        }
        *tries += 1;
        if !self.reclaimer.reclaim(&self.inner.zone, || self.inner.counters.get(Counter::Freed)) {
            // One last try: another thread may have reclaimed memory just before.
            *tries = reclaimer::MAX_RECLAIMS;
        }
        Ok(())
    }

    /// Returns whether clients may change the content.
    pub(crate) fn is_writable(&self) -> bool {
        self.config.access == Access::ReadWrite
    }
}

/// Returns the frames that hold so many bytes.
pub(crate) fn frames_in(bytes: Bytes) -> FrameCount {
    FrameCount::holding(bytes.0)
}

/// Returns the frames that suffice when nothing compresses: one per page, and some more for new
/// content that is stored before the old is freed, for per-CPU lists, and for partly filled
/// classes.
fn default_arena_frames(pages: u64) -> FrameCount {
    FrameCount::holding((pages + pages / 32 + 8192) * PAGE_SIZE as u64)
}

/// Returns the arena's frames, and the CMA area at its end.
fn arena_layout(config: &ZramConfig, pages: u64) -> (FrameCount, Option<CmaRegion>) {
    let block_frames = u64::from(PAGEBLOCK_FRAMES);
    let whole = |frames: FrameCount| frames.0.next_multiple_of(block_frames);
    let needed = default_arena_frames(pages);
    let capacity = whole(config.arena.map_or(needed, |arena| frames_in(arena).min(needed)))
        + arena_margin(config).0;
    let region = config.contiguous.map(|bytes| {
        let frames = whole(frames_in(bytes)).min(capacity);
        // A zone has fewer frames than 32 bits can number; creating a larger one fails.
        CmaRegion { first: Pfn((capacity - frames) as u32), frames: FrameCount(frames) }
    });
    (FrameCount(capacity), region)
}

/// Returns the frames of the arena that are above every limit. A hot page is compressed before
/// its frame is free, so a full cache needs another frame for a moment
/// ([`Zone::allow_over_limit`]).
fn arena_margin(config: &ZramConfig) -> FrameCount {
    FrameCount(if has_cache(config) { PAGEBLOCK_FRAMES.into() } else { 0 })
}

/// Returns the most frames that may be in use, whatever the memory limit. Only a cache sets such
/// a limit, since it needs frames above it.
fn frame_limit(config: &ZramConfig, capacity: FrameCount) -> Option<FrameCount> {
    has_cache(config).then(|| FrameCount(capacity.0.saturating_sub(arena_margin(config).0)))
}

/// Returns the memory limit as it is enforced and shown. Units: bytes.
fn round_up_to_pages(limit: Bytes) -> u64 {
    frames_in(limit).bytes()
}

/// Returns whether the device has a cache of hot pages.
fn has_cache(config: &ZramConfig) -> bool {
    config.hot_cache.is_some_and(|size| size.0 > 0)
}

fn pool_config(config: &ZramConfig, pages: u64) -> PoolConfig {
    // An index is retired after 16 million uses, so there are twice as many as pages.
    let objects = u32::try_from(pages * 2 + (1 << 16)).unwrap_or(u32::MAX);
    PoolConfig {
        chain: config.chain,
        rule: config.rule,
        max_objects: Some(objects),
        movability: config.zspages,
        ..PoolConfig::default()
    }
}

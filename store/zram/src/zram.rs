//! The device: a slot table over a pool of pages.

use std::sync::Arc;

use block::{BlockError, Bytes};
use frames::{CompactRequest, FrameCompaction, FrameCount, NoLocksHeld, Zone, ZoneConfig};
use page::{LoadError, PAGE_SIZE, Page, Pages, StoreError, Stored, Streams};
use sync::atomic::{AtomicU64, Ordering::Relaxed};
use zsmalloc::{AllocError, Budget, Compaction, Outcome, Pool, PoolConfig};

use crate::counters::{Counter, Counters};
use crate::relief::Relief;
use crate::slots::Slots;
use crate::{Access, ZramConfig, ZramError};

/// The largest device: 2 TiB. Its pages and their frames must be nameable by 32-bit numbers also when nothing compresses. Units: bytes.
pub const MAX_SIZE: u64 = 2 << 40;

/// Tries before a word that keeps being stale is taken for damage.
const STALE_TRIES: u32 = 1 << 16;

/// Tries to make room before a write is refused: other writers may take what a compaction freed.
const RELIEF_TRIES: u32 = 8;

/// A compressed block device in memory. See the crate's page.
///
/// Locking: no lock of its own on the paths of reads and writes; slots are changed by compare-and-swap.
#[derive(Debug)]
pub struct Zram {
    pub(crate) config: ZramConfig,
    pub(crate) zone: Arc<Zone>,
    pub(crate) pages: Pages,
    pub(crate) slots: Slots,
    pub(crate) counters: Counters,
    relief: Relief,
    /// Bytes, as given; `u64::MAX` for none.
    pub(crate) limit: AtomicU64,
}

impl Zram {
    /// A device of empty pages. It takes address space, and memory only as it is written.
    ///
    /// # Errors
    /// [`ZramError`]; nothing is left behind.
    pub fn new(config: ZramConfig) -> Result<Self, ZramError> {
        // One stream for each thread that can run; more would only be in the way of the caches.
        let streams = Streams::of(config.algorithm, sys::host::cpus().min(64))?;
        Self::with_streams(config, streams)
    }

    /// A device that compresses with these streams, whatever `config.algorithm` says.
    ///
    /// # Errors
    /// [`ZramError`].
    pub fn with_streams(config: ZramConfig, streams: Streams) -> Result<Self, ZramError> {
        let size = config.size.0;
        if size == 0 || size > MAX_SIZE {
            return Err(ZramError::Size { size, max: MAX_SIZE });
        }
        let pages = size.div_ceil(PAGE_SIZE as u64);
        let zone = Arc::new(Zone::new(ZoneConfig {
            capacity: config.arena.map_or_else(|| arena_for(pages), frames_in),
            limit: config.mem_limit.map(frames_in),
            backing: config.backing,
            movability: config.movability,
            ..ZoneConfig::default()
        })?);
        let pool = Pool::new(Arc::clone(&zone), pool_config(&config, pages))?;
        Ok(Self {
            // At most MAX_SIZE / PAGE_SIZE, which fits everywhere.
            slots: Slots::new(pages as usize, config.backing)?,
            pages: Pages::new(pool, streams),
            zone,
            counters: Counters::default(),
            relief: Relief::new(),
            limit: AtomicU64::new(config.mem_limit.map_or(u64::MAX, |limit| limit.0)),
            config,
        })
    }

    /// How the device was set up. The limit may have changed since: [`Zram::stat`] tells the present one.
    #[must_use]
    pub fn config(&self) -> &ZramConfig {
        &self.config
    }

    /// The zone its frames come from.
    #[must_use]
    pub fn zone(&self) -> &Arc<Zone> {
        &self.zone
    }

    /// The pool its objects are in.
    #[must_use]
    pub fn pool(&self) -> &Arc<Pool> {
        self.pages.pool()
    }

    /// Changes the most the frames of zspages may take, rounded up to a frame. When more is taken already, writes that need memory are refused until
    /// enough was freed.
    pub fn set_mem_limit(&self, limit: Option<Bytes>) {
        // Relaxed: shown in statistics only; the zone holds the limit that counts.
        self.limit.store(limit.map_or(u64::MAX, |limit| limit.0), Relaxed);
        self.zone.set_limit(limit.map(frames_in));
    }

    /// Object compaction: moves objects together so that frames become free. They may lie anywhere: see [`Zram::compact_frames`].
    ///
    /// Locking: reads and writes go on meanwhile.
    pub fn compact(&self, budget: &Budget) -> Compaction {
        self.pages.pool().compact(budget)
    }

    /// Frame compaction: moves frames together so that whole 2 MiB blocks become free, and gives all that are to the OS. Worth it after
    /// [`Zram::compact`].
    ///
    /// Locking: reads and writes go on meanwhile.
    pub fn compact_frames(&self, budget: &Budget) -> FrameCompaction {
        let report = self.zone.compact(CompactRequest { budget: *budget, ..CompactRequest::default() });
        self.zone.trim();
        report
    }

    /// Starts the high-water mark `mem_used_max` again from what is used now.
    pub fn reset_mem_used_max(&self) {
        self.pages.pool().reset_frames_max();
    }

    /// Reads a slot's page, whatever it holds by now.
    pub(crate) fn load(&self, slot: usize, page: &mut Page) -> Result<Stored, BlockError> {
        for tries in 0..STALE_TRIES {
            let stored = self.slots.get(slot);
            match self.pages.load(stored, page) {
                Ok(()) => return Ok(stored),
                // Overwritten between the two lines above: the slot holds another word by now (Z2).
                Err(LoadError::Stale) => sync::relax(tries),
                Err(LoadError::Poisoned) => return Err(BlockError::Poisoned),
                Err(_) => break,
            }
        }
        Err(BlockError::Damaged { offset: offset_of(slot) })
    }

    /// Stores a page, after a compaction if that is what it takes.
    pub(crate) fn store(&self, slot: usize, page: &Page) -> Result<Stored, BlockError> {
        let offset = offset_of(slot);
        let mut tries = 0;
        loop {
            let error = match self.pages.store_over(page, self.slots.get(slot)) {
                Ok(stored) => return Ok(stored),
                Err(StoreError::Codec(_)) => return Err(BlockError::Codec { offset }),
                Err(StoreError::Alloc(error)) => error,
            };
            if error == AllocError::Poisoned {
                return Err(BlockError::Poisoned);
            }
            tries += 1;
            if tries > RELIEF_TRIES || !self.make_room(error) {
                return Err(BlockError::NoSpace { offset });
            }
        }
    }

    /// Whether it is worth trying again.
    fn make_room(&self, error: AllocError) -> bool {
        let frames_are_short = matches!(error, AllocError::Limit | AllocError::NoFrames);
        let compact = || self.relief.seek(self.pages.pool(), || self.counters.get(Counter::Freed));
        let helped = |report: Compaction| report.frames_freed > 0 || report.outcome == Outcome::AlreadyRunning;
        // Last, whoever else has frames of this zone and can do without: a balloon.
        let shrink = || self.zone.shrink(FrameCount(1), &NoLocksHeld::promise()).0 > 0;
        frames_are_short && (compact().is_some_and(helped) || shrink())
    }

    /// Puts `new` in the slot if it still holds `old`, and frees the one of the two that is then nobody's.
    pub(crate) fn replace(&self, slot: usize, old: Stored, new: Stored) -> Result<Replaced, BlockError> {
        let replaced = self.slots.replace(slot, old, new);
        let unused = if replaced.is_ok() { old } else { new };
        if replaced.is_ok() {
            self.account(old, new);
        }
        self.free(unused)?;
        Ok(replaced.map_or_else(Replaced::Lost, |()| Replaced::Done))
    }

    /// Puts `new` in the slot, whatever it held.
    pub(crate) fn put(&self, slot: usize, new: Stored) -> Result<(), BlockError> {
        let mut old = self.slots.get(slot);
        while let Err(now) = self.slots.replace(slot, old, new) {
            old = now;
        }
        self.account(old, new);
        self.free(old)
    }

    fn free(&self, stored: Stored) -> Result<(), BlockError> {
        if stored.handle().is_none() {
            return Ok(());
        }
        let freed = self.pages.free(stored);
        // Afterwards: who finds the count unchanged may conclude that nothing was freed.
        self.counters.add(Counter::Freed, 1);
        match freed {
            Ok(()) => Ok(()),
            // INV-SLOT-3: the word was ours alone, so its object is there; a pool that has lost it is not to be trusted.
            Err(_) => Err(BlockError::Poisoned),
        }
    }

    /// Moves the counters that follow what slots hold.
    fn account(&self, old: Stored, new: Stored) {
        let shift = |counter, was: bool, is: bool| match (was, is) {
            (false, true) => self.counters.add(counter, 1),
            (true, false) => self.counters.sub(counter, 1),
            _ => {}
        };
        shift(Counter::Stored, old != Stored::EMPTY, new != Stored::EMPTY);
        shift(Counter::Same, old.is_same_filled(), new.is_same_filled());
        shift(Counter::Huge, old.is_huge(), new.is_huge());
        if new.is_huge() {
            self.counters.add(Counter::HugeSince, 1);
        }
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.config.access == Access::ReadWrite
    }
}

/// How a [`Zram::replace`] went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replaced {
    Done,
    /// Somebody was faster; this is what the slot holds now.
    Lost(Stored),
}

pub(crate) fn offset_of(slot: usize) -> u64 {
    slot as u64 * PAGE_SIZE as u64
}

pub(crate) fn frames_in(bytes: Bytes) -> FrameCount {
    FrameCount::holding(bytes.0)
}

/// Enough frames for a disk on which nothing compresses: one a page, and some for new contents that are stored before the old ones are freed, for
/// frames at hand in per-CPU lists, and for classes that are partly filled.
fn arena_for(pages: u64) -> FrameCount {
    FrameCount::holding((pages + pages / 32 + 8192) * PAGE_SIZE as u64)
}

fn pool_config(config: &ZramConfig, pages: u64) -> PoolConfig {
    // An index is retired after 16 million uses, so there are twice as many as pages.
    let objects = u32::try_from(pages * 2 + (1 << 16)).unwrap_or(u32::MAX);
    PoolConfig { chain: config.chain, max_objects: Some(objects), ..PoolConfig::default() }
}

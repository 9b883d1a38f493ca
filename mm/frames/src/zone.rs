//! The zone: all frames of one arena and the rules for handing them out.
//!
//! ```text
//!  alloc_frame --> per-CPU list --refill--> buddy --commit--> released or never used pageblock
//!  drop(Frame) --> per-CPU list --spill---> buddy --release--> the OS, in whole pageblocks
//! ```
//! # Accounting
//! `charged = in use + cached` never exceeds the limit. A list is refilled only below it; so in-use frames need no count of their own, and the
//! hot path writes nothing shared. A request is refused only after all lists were empty at one moment, when `charged` is `in use`.
//!
//! # Locking
//! Per-CPU lists (in ascending order when several are taken), then the zone lock. Nothing is called under them.

use std::sync::Arc;
// Not the modelled atomics: it orders nothing, and a model checker would try every order of it.
use std::sync::atomic::AtomicU64;

use sync::atomic::Ordering::Relaxed;
use sync::atomic::{AtomicBool, AtomicU32};
use sync::{Mutex, Rank, this_shard};

use crate::arena::Arena;
use crate::ballooned::BalloonTotals;
use crate::buddy::{Buddy, MemoryLedger};
use crate::compaction::{Deferrals, ScanPosition};
use crate::descriptor::Put;
use crate::error::{AllocError, PutError, ZoneError};
use crate::events::Events;
use crate::frame::{Block, Frame};
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::kswapd::KswapdState;
use crate::migrate::{Movability, Registry, TargetCharge};
use crate::pageblock::CommitState;
use crate::percpu::{self, CpuList, CpuListGuard, ListMask};
use crate::reclaim::{Reclaim, ReclaimProgress};
use crate::shrinker::Shrinkers;
use crate::state::State;
use crate::tables::Tables;
use crate::units::{FrameCount, MigrateType, Order, Pfn};
use crate::zone_config::{ZoneConfig, blocks_of, default_lists, region_of};
use crate::zone_lock::{ZoneGuard, ZoneLock};

/// An arena of frames with everything needed to hand them out and take them back.
#[derive(Debug)]
pub struct Zone {
    pub(crate) arena: Arena,
    pub(crate) tables: Tables,
    pub(crate) lists: Arc<[CpuList]>,
    /// Which of them may hold frames.
    pub(crate) filled: Arc<ListMask>,
    pub(crate) buddy: ZoneLock,
    /// How long a per-CPU list may be just now: 0 while more is in use than a lowered limit allows.
    list_capacity: AtomicU32,
    pub(crate) keep_blocks: u32,
    pub(crate) movability: Movability,
    pub(crate) registry: Registry,
    pub(crate) shrinkers: Shrinkers,
    pub(crate) kswapd: KswapdState,
    pub(crate) events: Events,
    /// One compaction of the whole zone at a time; where the next one goes on with a pass that is not over.
    pub(crate) compacting: Mutex<Option<ScanPosition>>,
    /// Frames in use whose memory somebody else has.
    pub(crate) ballooned: BalloonTotals,
    /// Direct compactions that are put off.
    pub(crate) deferrals: Mutex<Deferrals>,
    /// Whether a free left more free pageblocks than are kept: [`Zone::release_excess_if_due`] has work.
    excess: AtomicBool,
    /// Reports of failed memory that were acted upon.
    pub(crate) failures_seen: AtomicU64,
}

/// What a look at the buddy lists knows of the per-CPU lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CpuListsState {
    /// All of them were empty at one moment.
    Empty,
    /// A frame came to one of them just now.
    Filled,
}

/// All locks of a zone.
///
/// The zone lock is the first to go: a panic poisons the lists before anyone can have them.
pub(crate) struct ZoneLocked<'z> {
    pub(crate) buddy: ZoneGuard<'z>,
    pub(crate) lists: Vec<CpuListGuard<'z>>,
}

impl Zone {
    /// A zone of free frames. Nothing of it is committed yet.
    ///
    /// # Errors
    /// [`ZoneError`] when the capacity is unusable or the address space cannot be had.
    pub fn new(config: ZoneConfig) -> Result<Self, ZoneError> {
        let blocks = blocks_of(config.capacity)?;
        let refused = |source| ZoneError::Reserve { capacity: config.capacity, source };
        let frames = blocks as usize * PAGEBLOCK_FRAMES as usize;
        let lists = config.lists.unwrap_or_else(default_lists).max(1);
        let filled = Arc::new(ListMask::new(lists));
        let region = region_of(config.cma, blocks)?;
        let tables = Tables::reserve(blocks, config.backing).map_err(refused)?;
        tables.blocks.set_cma_region(region.clone());
        let registry = Registry::new();
        let cpu_lists: Arc<[CpuList]> =
            (0..lists).map(|list| CpuList::new(&filled, list)).collect();
        let memory = MemoryLedger {
            limit: config.memory_limit,
            touched: 0,
            charged: 0,
            fixed: (size_of::<Self>()
                + lists * size_of::<CpuList>()
                + filled.bytes()
                + registry.bytes()) as u64,
            granule: config.granule(),
            exceeded: false,
        };
        let mut buddy = Buddy::new(config.limit, memory, region.clone());
        // What is set aside is found without a walk later on, with the lock held.
        buddy.bring_online(&tables, region.end);
        Ok(Self {
            arena: Arena::reserve(frames, config.arena_backing(), Arc::clone(&tables.failed))
                .map_err(refused)?,
            tables,
            buddy: ZoneLock::new(buddy, Arc::clone(&cpu_lists)),
            lists: cpu_lists,
            filled,
            list_capacity: AtomicU32::new(1),
            excess: AtomicBool::new(false),
            failures_seen: AtomicU64::new(0),
            keep_blocks: config.keep_blocks,
            movability: config.movability,
            registry,
            shrinkers: Shrinkers::new(),
            kswapd: KswapdState::new(),
            events: Events::default(),
            compacting: Mutex::ranked(Rank::Compacting, None),
            ballooned: BalloonTotals::default(),
            deferrals: Mutex::ranked(Rank::Leaf, Deferrals::default()),
        })
    }

    /// Frames there can be.
    #[must_use]
    pub fn capacity(&self) -> FrameCount {
        FrameCount(u64::from(self.tables.len) * u64::from(PAGEBLOCK_FRAMES))
    }

    /// Changes how many frames may be in use. When more are already, requests are refused until enough were freed.
    ///
    /// Locking: takes all locks of the zone for a moment, then as [`Zone::release_excess_if_due`].
    pub fn set_limit(&self, limit: Option<FrameCount>) {
        let mut all = self.lock_all();
        all.drain(self);
        all.buddy.limit = limit;
        self.update_list_capacity(&all.buddy);
        drop(all);
        self.release_excess_if_due();
    }

    /// One frame. Frames asked for one after the other by one thread are neighbours where they can be.
    ///
    /// Locking: one per-CPU list; every 16 frames also the zone lock; before refusing, each list that holds frames.
    ///
    /// # Errors
    /// [`AllocError`] when the limit is reached or the arena has no free frame; nothing has changed.
    pub fn alloc_frame(
        &self,
        migrate_type: MigrateType,
        reclaim: Reclaim,
    ) -> Result<Frame<'_>, AllocError> {
        Ok(Frame::new(self, self.alloc_single(migrate_type, reclaim, State::used(Order::SINGLE))?))
    }

    /// As [`Zone::alloc_frame`], frozen: until the caller publishes it, or gives it back, nobody can get a reference to it.
    pub(crate) fn alloc_frozen(
        &self,
        migrate_type: MigrateType,
        reclaim: Reclaim,
    ) -> Result<Pfn, AllocError> {
        self.alloc_single(migrate_type, reclaim, State::FROZEN)
    }

    fn alloc_single(
        &self,
        migrate_type: MigrateType,
        reclaim: Reclaim,
        to: State,
    ) -> Result<Pfn, AllocError> {
        self.process_memory_failures();
        loop {
            let mut list = self.this_list().lock();
            let cached = match list.pop(migrate_type) {
                None => self.refill(list, migrate_type, &reclaim),
                // A look for failures passes a list over whose holder has not told its length yet.
                Some(pfn) if self.has_failed(pfn) => {
                    drop(list);
                    self.free_frames([pfn], |_| {});
                    continue;
                }
                some => some,
            };
            let Some(pfn) = cached else {
                return self.alloc_slow_path(Order::SINGLE, migrate_type, reclaim, to);
            };
            self.tables.frames.change(pfn, State::CACHED, to);
            return Ok(pfn);
        }
    }

    /// A block of neighbouring frames.
    ///
    /// Locking: the zone lock; before refusing, each per-CPU list that holds frames.
    ///
    /// # Errors
    /// As [`Zone::alloc_frame`].
    pub fn alloc_block(
        &self,
        order: Order,
        migrate_type: MigrateType,
        reclaim: Reclaim,
    ) -> Result<Block<'_>, AllocError> {
        self.process_memory_failures();
        let mut buddy = self.buddy.lock();
        let room = buddy.headroom() >= u64::from(order.frames());
        let used = State::used(order);
        let found =
            if room { buddy.take_block(&self.tables, migrate_type, order, used) } else { None };
        drop(buddy);
        let first =
            found.map_or_else(|| self.alloc_slow_path(order, migrate_type, reclaim, used), Ok)?;
        Ok(Block::new(self, first, order))
    }

    /// Returns whether a panic cut short a change of the free lists. A poisoned zone hands out nothing
    /// and moves nothing; frames in use keep their bytes, and those that are freed are lost.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.buddy.is_poisoned()
    }

    /// Whether the pageblock of a frame has memory.
    pub(crate) fn is_committed(&self, pfn: Pfn) -> bool {
        self.tables.blocks.state(pfn.block()).commit_state == CommitState::Committed
    }

    /// Pageblocks below the high-water mark.
    pub(crate) fn online_blocks(&self) -> u32 {
        self.buddy.lock().online
    }

    /// One more reference to a frame that is in use; `None` when it is not (R-008), or not published yet: taken for a chain, or as the target of a
    /// migration.
    #[must_use]
    pub fn get(&self, pfn: Pfn) -> Option<Frame<'_>> {
        let known = u64::from(pfn.0) < self.capacity().0;
        (known && self.tables.frames.get_unless_zero(pfn)).then(|| Frame::new(self, pfn))
    }

    /// Empties the per-CPU lists, so that no stray frame pins a pageblock.
    ///
    /// Locking: one list after the other, each with the zone lock; then as [`Zone::release_excess_if_due`].
    pub fn drain(&self) {
        self.drain_lists_above(0);
        self.release_excess_if_due();
    }

    /// Gives a free pageblock back to the OS when there are more than the zone keeps: [`RELEASE_BATCH`](crate::RELEASE_BATCH) at most, and wakes the
    /// reclaim thread when memory is short. Two loads when neither is so. [`Zone::trim`] and [`Zone::release_excess`] give all of them back.
    ///
    /// Freeing a frame that is held by a chain only leaves a reminder: the caller holds locks, and the OS takes its time. Call this after
    /// releasing them.
    pub fn release_excess_if_due(&self) {
        self.wake_kswapd();
        // Relaxed: as above. The swap makes one of several threads do the work.
        if self.excess.load(Relaxed) && self.excess.swap(false, Relaxed) {
            self.release_batch();
        }
    }

    /// Leaves a reminder for [`Zone::release_excess_if_due`] when more pageblocks are free than are kept.
    pub(crate) fn flag_excess(&self, buddy: &Buddy) {
        if buddy.idle > self.keep_blocks && buddy.idle > self.kept_blocks(buddy) {
            // Relaxed: only a reminder; `release_excess_if_due` looks at the numbers under the lock.
            self.excess.store(true, Relaxed);
        }
    }

    /// The bytes. Only chains ask.
    pub(crate) fn arena(&self) -> &Arena {
        &self.arena
    }

    /// The frame an owner stored the number of. Dropping the result gives back that owner's reference.
    pub(crate) fn frame_from_pfn(&self, pfn: Pfn) -> Frame<'_> {
        Frame::new(self, pfn)
    }

    /// Gives one reference back; the last one frees the frame or block.
    pub(crate) fn put(&self, pfn: Pfn) -> Result<(), PutError> {
        match self.tables.frames.put(pfn)? {
            Put::Shared => {}
            Put::Last(Order::SINGLE) => self.free_to_cpu_list(pfn),
            Put::Last(order) => {
                let mut buddy = self.buddy.lock();
                buddy.free(&self.tables, pfn, order, State::INSIDE);
                self.after_free(buddy);
            }
        }
        Ok(())
    }

    /// Gives a reference back that migration had; the last one frees the frame straight to the buddy lists, where it can merge. A target that was on the
    /// move is so no longer, in the same step.
    pub(crate) fn put_migrated(&self, pfn: Pfn, charge: TargetCharge) {
        let last = match self.tables.frames.put(pfn) {
            Ok(Put::Shared) => None,
            Ok(Put::Last(order)) => Some(order),
            // Already unwinding: a second panic would abort, and the frame is merely lost.
            Err(_) if std::thread::panicking() => None,
            Err(error) => panic!("{error}"),
        };
        if last.is_none() && charge == TargetCharge::Charged {
            return;
        }
        let mut buddy = self.buddy.lock();
        if let Some(order) = last {
            self.tables.frames.clear_private(pfn);
            let was = if order == Order::SINGLE { State::CACHED } else { State::INSIDE };
            buddy.free(&self.tables, pfn, order, was);
        }
        if !buddy.is_poisoned() {
            buddy.in_flight -= charge.in_flight();
        }
        self.after_free(buddy);
    }

    /// Frees frames without references, straight to the buddy lists. What they leave in the books changes in the same step: in between, somebody would get
    /// a frame beyond the limit.
    pub(crate) fn free_frames(
        &self,
        frames: impl IntoIterator<Item = Pfn>,
        book: impl FnOnce(&mut Buddy),
    ) {
        let mut buddy = self.buddy.lock();
        frames
            .into_iter()
            .for_each(|pfn| buddy.free(&self.tables, pfn, Order::SINGLE, State::CACHED));
        if !buddy.is_poisoned() {
            book(&mut buddy);
        }
        self.after_free(buddy);
    }

    fn this_list(&self) -> &CpuList {
        &self.lists[this_shard(self.lists.len())]
    }

    /// Fills a list from one pageblock, lets it go and returns the first frame of what came.
    fn refill(
        &self,
        mut list: CpuListGuard<'_>,
        migrate_type: MigrateType,
        reclaim: &Reclaim,
    ) -> Option<Pfn> {
        let mut frames = [Pfn(0); percpu::BATCH];
        let mut buddy = self.buddy.lock();
        // At most BATCH.
        let want = (percpu::capacity_for(buddy.charged) as usize)
            .min(percpu::BATCH)
            .min(buddy.headroom() as usize);
        if want == 0 {
            return None;
        }
        let count = buddy.take_frames(&self.tables, migrate_type, &mut frames[..want]);
        self.update_list_capacity(&buddy);
        self.request_kswapd_if_low(&buddy);
        if count > 0 {
            // With the zone lock: a request at the limit that takes it next waits for this list.
            list.mark_filled();
        }
        drop(buddy);
        frames[..count].iter().rev().for_each(|&pfn| list.push(migrate_type, pfn));
        let first = list.pop(migrate_type);
        drop(list);
        if matches!(reclaim, Reclaim::Allowed(_)) {
            self.wake_kswapd();
        }
        first
    }

    /// Puts a frame that just lost its last owner on this thread's list.
    pub(crate) fn free_to_cpu_list(&self, pfn: Pfn) {
        self.tables.frames.clear_private(pfn);
        let mut list = self.this_list().lock();
        // Under the list's lock: a capture comes after the pageblocks were marked as isolated, and locks
        // each list to empty it. So the mark is seen here, or the frame there.
        let block_state = self.tables.blocks.state(pfn.block());
        // A frame whose memory has failed is on no list (S-38).
        if block_state.isolated || list.is_poisoned() || self.tables.failed.contains(pfn.index()) {
            drop(list);
            return self.free_frames([pfn], |_| {});
        }
        list.push(block_state.migrate_type, pfn);
        // Relaxed: written under the zone lock; a lowered limit sets it while all lists are locked.
        let capacity = self.list_capacity.load(Relaxed);
        if list.len() <= capacity {
            return;
        }
        let mut buddy = self.buddy.lock();
        list.spill(capacity / 2, |pfn| buddy.free(&self.tables, pfn, Order::SINGLE, State::CACHED));
        drop(list);
        self.after_free(buddy);
    }

    /// Looks whether the zone now holds too much, in lists or in free pageblocks.
    fn after_free(&self, buddy: ZoneGuard<'_>) {
        let capacity = self.update_list_capacity(&buddy);
        drop(buddy);
        self.drain_lists_above(capacity);
    }

    /// Sets how long lists may be from what is charged now, and leaves a reminder when more pageblocks are free than are kept. Whenever frames came or went.
    fn update_list_capacity(&self, buddy: &Buddy) -> u32 {
        if buddy.is_poisoned() {
            // Nothing spills from a list any more, so none is drained.
            return percpu::MAX_LEN as u32;
        }
        self.flag_excess(buddy);
        let over = buddy.frame_limit().is_some_and(|limit| buddy.charged > limit);
        let capacity = if over { 0 } else { percpu::capacity_for(buddy.charged) };
        self.list_capacity.store(capacity, Relaxed);
        capacity
    }

    pub(crate) fn drain_lists_above(&self, capacity: u32) {
        for list in self.lists.iter().filter(|list| list.len_hint() > capacity) {
            // A list that is busy belongs to a thread that is just adapting it itself; a full drain waits for it.
            let Some(mut list) = (if capacity == 0 { Some(list.lock()) } else { list.try_lock() })
            else {
                continue;
            };
            let mut buddy = self.buddy.lock();
            list.spill(0, |pfn| buddy.free(&self.tables, pfn, Order::SINGLE, State::CACHED));
            self.update_list_capacity(&buddy);
        }
    }

    /// Looks again with all lists empty, and after others made room if the request may ask for that.
    fn alloc_slow_path(
        &self,
        order: Order,
        migrate_type: MigrateType,
        reclaim: Reclaim,
        to: State,
    ) -> Result<Pfn, AllocError> {
        let mut tries = 0;
        loop {
            let error = match self.alloc_drained(order, migrate_type, to) {
                Ok(pfn) => return Ok(pfn),
                Err(error) => error,
            };
            let Reclaim::Allowed(promise) = &reclaim else { return Err(error) };
            match self.compact_or_reclaim(order, migrate_type, error, promise, tries) {
                ReclaimProgress::Captured(pfn) => return Ok(pfn),
                ReclaimProgress::Freed => tries += 1,
                ReclaimProgress::Nothing => return Err(error),
            }
        }
    }

    /// Looks with all lists empty; only this may refuse.
    fn alloc_drained(
        &self,
        order: Order,
        migrate_type: MigrateType,
        to: State,
    ) -> Result<Pfn, AllocError> {
        let frames = u64::from(order.frames());
        self.with_drained_lists(|buddy, lists| {
            let room = buddy.headroom() >= frames;
            if room && let Some(pfn) = buddy.take_block(&self.tables, migrate_type, order, to) {
                return Some(Ok(pfn));
            }
            match lists {
                CpuListsState::Filled => None,
                CpuListsState::Empty if !room => Some(Err(AllocError::Limit)),
                // Free frames may be on their way to the OS; the thread that brings them there holds no lock.
                CpuListsState::Empty if buddy.releasing > 0 => None,
                CpuListsState::Empty if buddy.touchable() < frames => Some(Err(AllocError::Limit)),
                CpuListsState::Empty => Some(Err(AllocError::NoFrames)),
            }
        })
    }

    /// Empties the lists that hold frames and calls `look` with the zone lock, until it has an answer. A
    /// refusal needs [`CpuListsState::Empty`]. Lists that are empty anyway are not locked, and nothing is allocated:
    /// callers may hold the lock of a class.
    ///
    /// Locking: one list after the other, each with the zone lock.
    ///
    /// # Errors
    /// What `look` answers, or [`AllocError::Poisoned`].
    pub(crate) fn with_drained_lists<T>(
        &self,
        mut look: impl FnMut(&mut Buddy, CpuListsState) -> Option<Result<T, AllocError>>,
    ) -> Result<T, AllocError> {
        let mut spins = 0;
        loop {
            self.drain_filled();
            let mut buddy = self.buddy.lock();
            if buddy.is_poisoned() {
                return Err(AllocError::Poisoned);
            }
            // With the zone lock: lists only fill, so if all are empty now there was a moment at which what
            // is charged was in use.
            let lists =
                if self.filled.is_empty() { CpuListsState::Empty } else { CpuListsState::Filled };
            if let Some(answer) = look(&mut buddy, lists) {
                return answer;
            }
            drop(buddy);
            sync::relax(spins);
            spins += 1;
        }
    }

    /// Empties the lists that hold frames, one after the other.
    fn drain_filled(&self) {
        for list in self.filled.iter() {
            let mut list = self.lists[list].lock();
            let mut buddy = self.buddy.lock();
            list.spill(0, |pfn| buddy.free(&self.tables, pfn, Order::SINGLE, State::CACHED));
            list.mark_empty();
            self.update_list_capacity(&buddy);
        }
    }

    /// Empties each list, and waits for the threads that are about to put a frame on one: what such a
    /// thread read of a pageblock under its list's lock is what it is now, or the frame is found here.
    ///
    /// Locking: each list, one after the other, with the zone lock where it holds frames. For callers
    /// without the lock of a class.
    pub(crate) fn drain_each_list(&self) {
        for list in self.lists.iter() {
            let mut list = list.lock();
            if list.len() > 0 {
                let mut buddy = self.buddy.lock();
                list.spill(0, |pfn| buddy.free(&self.tables, pfn, Order::SINGLE, State::CACHED));
                self.update_list_capacity(&buddy);
            }
        }
    }

    /// Stops the zone.
    pub(crate) fn lock_all(&self) -> ZoneLocked<'_> {
        let lists = self.lists.iter().map(CpuList::lock).collect();
        ZoneLocked { buddy: self.buddy.lock(), lists }
    }
}

impl ZoneLocked<'_> {
    /// Empties all lists: afterwards what is charged is exactly what is in use.
    pub(crate) fn drain(&mut self, zone: &Zone) {
        for list in &mut self.lists {
            list.spill(0, |pfn| self.buddy.free(&zone.tables, pfn, Order::SINGLE, State::CACHED));
        }
        zone.update_list_capacity(&self.buddy);
    }

    /// Frames on all lists.
    pub(crate) fn cached(&self) -> u64 {
        self.lists.iter().map(|list| u64::from(list.len())).sum()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests;

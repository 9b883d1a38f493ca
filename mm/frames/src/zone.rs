//! The zone: all frames of one arena, and the rules for allocating them.
//!
//! ```text
//!  alloc_frame --> per-CPU list --refill--> buddy --commit--> released or never used pageblock
//!  drop(Frame) --> per-CPU list --spill---> buddy --release--> the OS, in whole pageblocks
//! ```
//! # Accounting
//! `charged = in use + cached + retired` never exceeds the limit, unless the limit was lowered. A
//! list is refilled only below the limit. So frames in use need no count of their own, and the hot
//! path writes nothing shared. A request is refused only after all lists were empty at one moment,
//! when no charged frame was free.
//!
//! # Locking
//! Per-CPU lists (in ascending order when several are locked), then the zone lock. No callback and
//! no OS call runs under them.

use std::sync::Arc;
// Not the modelled atomics: it orders nothing, and loom would explore every order of it.
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

/// An arena of frames, with everything needed to allocate and free them.
#[derive(Debug)]
pub struct Zone {
    pub(crate) arena: Arena,
    pub(crate) tables: Tables,
    pub(crate) lists: Arc<[CpuList]>,
    /// The lists that may hold frames.
    pub(crate) filled: Arc<ListMask>,
    pub(crate) buddy: ZoneLock,
    /// The most frames a per-CPU list may hold now: 0 while more frames are in use than a lowered
    /// limit allows.
    list_capacity: AtomicU32,
    pub(crate) keep_blocks: u32,
    pub(crate) movability: Movability,
    pub(crate) registry: Registry,
    pub(crate) shrinkers: Shrinkers,
    pub(crate) kswapd: KswapdState,
    pub(crate) events: Events,
    /// Locked by a compaction of the whole zone, so that only one runs. Contains the position of an
    /// unfinished pass.
    pub(crate) compacting: Mutex<Option<ScanPosition>>,
    /// Frames in use whose memory was given to the host.
    pub(crate) ballooned: BalloonTotals,
    /// The state of deferred direct compaction.
    pub(crate) deferrals: Mutex<Deferrals>,
    /// Whether more pageblocks are free than are kept, so that [`Zone::release_excess_if_due`] has
    /// work.
    excess: AtomicBool,
    /// Reports of failed memory that were processed.
    pub(crate) failures_seen: AtomicU64,
}

/// What a look at the buddy lists knows about the per-CPU lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CpuListsState {
    /// All of them were empty at one moment.
    Empty,
    /// One of them has received a frame since.
    Filled,
}

/// All locks of a zone.
///
/// The zone lock is dropped first: after a panic it poisons the lists while they are still locked.
pub(crate) struct ZoneLocked<'z> {
    pub(crate) buddy: ZoneGuard<'z>,
    pub(crate) lists: Vec<CpuListGuard<'z>>,
}

impl Zone {
    /// Creates a zone of free frames. No frame is committed yet.
    ///
    /// # Errors
    /// [`ZoneError`] when the capacity or the CMA region is invalid, or the OS refuses the address
    /// space.
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
        // The zone itself counts against the memory limit.
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
        // The CMA region is below the high-water mark from the start, so no walk finds it later
        // under the lock.
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

    /// Returns the number of frames of the arena.
    #[must_use]
    pub fn capacity(&self) -> FrameCount {
        FrameCount(u64::from(self.tables.len) * u64::from(PAGEBLOCK_FRAMES))
    }

    /// Sets the limit on frames in use. If more are in use already, the zone refuses requests until
    /// enough were freed.
    ///
    /// Locking: all locks of the zone for a moment, then as [`Zone::release_excess_if_due`].
    pub fn set_limit(&self, limit: Option<FrameCount>) {
        let mut all = self.lock_all();
        all.drain(self);
        all.buddy.limit = limit;
        self.update_list_capacity(&all.buddy);
        drop(all);
        self.release_excess_if_due();
    }

    /// Allocates one frame. Consecutive requests of one thread get adjacent frames where possible.
    ///
    /// Locking: one per-CPU list; for every 16 frames also the zone lock; before a refusal, each
    /// list that holds frames.
    ///
    /// # Errors
    /// [`AllocError`] when a limit is reached, the arena has no free frame or the zone is poisoned;
    /// nothing has changed then.
    pub fn alloc_frame(
        &self,
        migrate_type: MigrateType,
        reclaim: Reclaim,
    ) -> Result<Frame<'_>, AllocError> {
        Ok(Frame::new(self, self.alloc_single(migrate_type, reclaim, State::used(Order::SINGLE))?))
    }

    /// Allocates a frozen frame: no thread can get a reference to it until the caller publishes it.
    ///
    /// # Errors
    /// As [`Zone::alloc_frame`].
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
                // The search for failed frames skips a list whose holder has not published its
                // length yet.
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

    /// Allocates a block of adjacent frames.
    ///
    /// Locking: the zone lock; before a refusal, each per-CPU list that holds frames.
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

    /// Returns whether a panic interrupted a change of the free lists. A poisoned zone allocates
    /// and moves nothing. Frames in use keep their bytes; those that are freed are lost.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.buddy.is_poisoned()
    }

    /// Returns whether the pageblock of a frame is committed.
    pub(crate) fn is_committed(&self, pfn: Pfn) -> bool {
        self.tables.blocks.state(pfn.block()).commit_state == CommitState::Committed
    }

    /// Returns the number of pageblocks below the high-water mark.
    pub(crate) fn online_blocks(&self) -> u32 {
        self.buddy.lock().online
    }

    /// Takes one more reference to a frame in use. Returns `None` when the frame is not in use
    /// (R-008) or not published yet: taken for a chain, or as a migration target.
    #[must_use]
    pub fn get(&self, pfn: Pfn) -> Option<Frame<'_>> {
        let known = u64::from(pfn.0) < self.capacity().0;
        (known && self.tables.frames.get_unless_zero(pfn)).then(|| Frame::new(self, pfn))
    }

    /// Drains the per-CPU lists, so that no stray frame pins a pageblock.
    ///
    /// Locking: one list after the other, each with the zone lock; then as
    /// [`Zone::release_excess_if_due`].
    pub fn drain(&self) {
        self.drain_lists_above(0);
        self.release_excess_if_due();
    }

    /// Decommits free pageblocks if there are more than the zone keeps, at most
    /// [`RELEASE_BATCH`](crate::RELEASE_BATCH), and wakes the reclaim thread if memory is short.
    /// Costs two loads if neither is the case. [`Zone::trim`] and [`Zone::release_excess`] decommit
    /// all of them.
    ///
    /// Freeing a frame of a chain only sets a flag: the caller holds locks, and the OS may block.
    /// Call this after releasing them.
    pub fn release_excess_if_due(&self) {
        self.wake_kswapd();
        // Relaxed: only a flag, see `flag_excess`. The swap picks one of several threads.
        if self.excess.load(Relaxed) && self.excess.swap(false, Relaxed) {
            self.release_batch();
        }
    }

    /// Sets the flag for [`Zone::release_excess_if_due`] if more pageblocks are free than are kept.
    pub(crate) fn flag_excess(&self, buddy: &Buddy) {
        if buddy.idle > self.keep_blocks && buddy.idle > self.kept_blocks(buddy) {
            // Relaxed: only a flag; `release_excess_if_due` checks the numbers under the lock.
            self.excess.store(true, Relaxed);
        }
    }

    /// Returns the bytes of the frames. Only chains use them.
    pub(crate) fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Returns the frame whose number an owner stored. Dropping the result puts that owner's
    /// reference.
    pub(crate) fn frame_from_pfn(&self, pfn: Pfn) -> Frame<'_> {
        Frame::new(self, pfn)
    }

    /// Puts one reference. The last one frees the frame or block.
    ///
    /// # Errors
    /// [`PutError`]; nothing has changed then.
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

    /// Puts a reference that migration held. The last one frees the frame straight to the buddy
    /// lists, where it can merge. An in-flight target leaves that count in the same step.
    ///
    /// # Panics
    /// When the descriptor is broken: see [`PutError`].
    pub(crate) fn put_migrated(&self, pfn: Pfn, charge: TargetCharge) {
        // Put the reference, then update the free lists and the in-flight count in one step.
        let last = match self.tables.frames.put(pfn) {
            Ok(Put::Shared) => None,
            Ok(Put::Last(order)) => Some(order),
            // Already unwinding: a second panic would abort the process, so leak the frame.
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

    /// Frees frames without references, straight to the buddy lists. `book` adjusts the accounting
    /// in the same step: otherwise another thread could get a frame above the limit in between.
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

    /// Refills a list from one pageblock and unlocks it. Returns one of the frames.
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
            // Under the zone lock: a request at the limit that locks it next waits for this list.
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

    /// Frees a frame without references to this thread's list.
    pub(crate) fn free_to_cpu_list(&self, pfn: Pfn) {
        self.tables.frames.clear_private(pfn);
        let mut list = self.this_list().lock();
        // Under the list's lock: a capture first marks the pageblocks as isolated and then locks
        // each list to drain it. So either this thread sees the mark, or the capture finds the
        // frame on the list.
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

    /// Drains lists that are longer than is allowed now, and sets the flag for excess free
    /// pageblocks.
    fn after_free(&self, buddy: ZoneGuard<'_>) {
        let capacity = self.update_list_capacity(&buddy);
        drop(buddy);
        self.drain_lists_above(capacity);
    }

    /// Sets the allowed length of lists from what is charged now, and sets the flag for excess free
    /// pageblocks. Called whenever frames were allocated or freed.
    fn update_list_capacity(&self, buddy: &Buddy) -> u32 {
        if buddy.is_poisoned() {
            // A poisoned zone spills no list, so none is drained.
            return percpu::MAX_LEN as u32;
        }
        self.flag_excess(buddy);
        let over = buddy.frame_limit().is_some_and(|limit| buddy.charged > limit);
        let capacity = if over { 0 } else { percpu::capacity_for(buddy.charged) };
        self.list_capacity.store(capacity, Relaxed);
        capacity
    }

    /// Drains the lists that hold more than `capacity` frames.
    pub(crate) fn drain_lists_above(&self, capacity: u32) {
        for list in self.lists.iter().filter(|list| list.len_hint() > capacity) {
            // The holder of a busy list updates it itself. A full drain waits for it.
            let Some(mut list) = (if capacity == 0 { Some(list.lock()) } else { list.try_lock() })
            else {
                continue;
            };
            let mut buddy = self.buddy.lock();
            list.spill(0, |pfn| buddy.free(&self.tables, pfn, Order::SINGLE, State::CACHED));
            self.update_list_capacity(&buddy);
        }
    }

    /// Retries with drained lists, and after compaction or reclaim if the request allows that.
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

    /// Allocates with drained lists. Only this may refuse a request.
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
                // Wait for pageblocks that are being released: the thread that releases them holds
                // no lock.
                CpuListsState::Empty if buddy.releasing > 0 => None,
                CpuListsState::Empty if buddy.touchable() < frames => Some(Err(AllocError::Limit)),
                CpuListsState::Empty => Some(Err(AllocError::NoFrames)),
            }
        })
    }

    /// Drains the lists that hold frames and calls `look` under the zone lock, until it returns an
    /// answer. A refusal requires [`CpuListsState::Empty`]. It locks no list that is empty, and
    /// allocates nothing: callers may hold the lock of a class.
    ///
    /// Locking: one list after the other, each with the zone lock.
    ///
    /// # Errors
    /// What `look` returns, or [`AllocError::Poisoned`].
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
            // Under the zone lock lists only fill. So if all are empty now, there was a moment at
            // which no charged frame was free.
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

    /// Drains the lists that hold frames, one after the other.
    fn drain_filled(&self) {
        for list in self.filled.iter() {
            let mut list = self.lists[list].lock();
            let mut buddy = self.buddy.lock();
            list.spill(0, |pfn| buddy.free(&self.tables, pfn, Order::SINGLE, State::CACHED));
            list.mark_empty();
            self.update_list_capacity(&buddy);
        }
    }

    /// Drains each list, and waits for the threads that are about to put a frame on one. Such a
    /// thread read the state of a pageblock under its list's lock: either it sees the present
    /// state, or this finds its frame on the list.
    ///
    /// Locking: each list, one after the other, with the zone lock if it holds frames. The caller
    /// must not hold the lock of a class.
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

    /// Takes all locks of the zone.
    pub(crate) fn lock_all(&self) -> ZoneLocked<'_> {
        let lists = self.lists.iter().map(CpuList::lock).collect();
        ZoneLocked { buddy: self.buddy.lock(), lists }
    }
}

impl ZoneLocked<'_> {
    /// Drains all lists: no charged frame is free then.
    pub(crate) fn drain(&mut self, zone: &Zone) {
        for list in &mut self.lists {
            list.spill(0, |pfn| self.buddy.free(&zone.tables, pfn, Order::SINGLE, State::CACHED));
        }
        zone.update_list_capacity(&self.buddy);
    }

    /// Returns the number of frames on all lists.
    pub(crate) fn cached(&self) -> u64 {
        self.lists.iter().map(|list| u64::from(list.len())).sum()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests;

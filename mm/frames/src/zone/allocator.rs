//! The allocator of a zone: takes and frees frames by itself, without an owner's help.
//!
//! ```text
//!  pop  --> per-CPU list --refill--> buddy --commit--> released or never used pageblock
//!  push --> per-CPU list --spill---> buddy --release--> the OS, in whole pageblocks
//! ```
//! # Accounting
//! `charged = in use + cached + retired` never exceeds the limit, unless the limit was lowered: a
//! list is refilled only below it. So frames in use need no count of their own, and the hot path
//! writes nothing shared. A request is refused only after all lists were empty at one moment, when
//! no charged frame was free.
//!
//! # Locking
//! Per-CPU lists (in ascending order when several are locked), then the zone lock. No callback and
//! no OS call runs under them.

use std::sync::Arc;
// Not the modelled atomics: these order nothing, and loom would explore every order of them.
use std::sync::atomic::AtomicU64;

use sync::atomic::Ordering::Relaxed;
use sync::atomic::{AtomicBool, AtomicU32};
use sync::this_shard;

use super::config::ZoneConfig;
use super::kswapd_state::KswapdState;
use super::lock::{ZoneGuard, ZoneLock};
use super::pcp::{self, CpuList, CpuListGuard, ListMask};
use super::shrinker::Reclaim;
use crate::buddy::{Buddy, InFlight, LimitLedger, Tables};
use crate::error::{PutError, ZoneError};
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::page::{Arena, Put, State};
use crate::units::{FrameCount, MigrateType, Order, Pfn};

/// The free frames of a zone, what counts against its limits, and the bytes of all frames.
#[derive(Debug)]
pub(crate) struct FrameAllocator {
    /// The bytes of the frames. Only chains and balloons use them.
    pub(crate) arena: Arena,
    pub(crate) tables: Tables,
    pub(crate) lists: Arc<[CpuList]>,
    /// The lists that may hold frames.
    pub(super) filled: Arc<ListMask>,
    pub(crate) buddy: ZoneLock,
    /// The most frames a per-CPU list may hold now: 0 above a limit that was lowered.
    list_capacity: AtomicU32,
    pub(super) keep_blocks: u32,
    /// Frames that balloons gave to the host, and the bytes of their owners' records: statistics.
    pub(crate) ballooned: AtomicU64,
    pub(crate) balloon_record_bytes: AtomicU64,
    /// Whether more pageblocks are free than are kept.
    pub(super) excess: AtomicBool,
    /// Reports of failed memory that were processed.
    pub(crate) failures_seen: AtomicU64,
    pub(crate) kswapd: KswapdState,
}

impl FrameAllocator {
    /// Creates an allocator of free frames. No frame is committed yet. `fixed` bytes of the zone
    /// count against its memory limit.
    ///
    /// # Errors
    /// [`ZoneError`] when the capacity or the CMA region is invalid, or the OS refuses the address
    /// space.
    pub(super) fn new(config: ZoneConfig, fixed: usize) -> Result<Self, ZoneError> {
        let blocks = config.blocks()?;
        let refused = |source| ZoneError::Reserve { capacity: config.capacity, source };
        let frames = blocks as usize * PAGEBLOCK_FRAMES as usize;
        let region = config.region(blocks)?;
        let tables = Tables::reserve(blocks, region, config.backing).map_err(refused)?;
        let filled = Arc::new(ListMask::new(config.lists()));
        let list = |index| CpuList::new(&filled, index);
        let lists: Arc<[CpuList]> = (0..config.lists()).map(list).collect();
        // The zone itself counts against the memory limit.
        let fixed = (fixed + size_of_val(&*lists) + filled.bytes()) as u64;
        let ledger = LimitLedger::new(config.limit, config.memory_limit, fixed, config.granule());
        let mut buddy = Buddy::new(ledger);
        // Below the high-water mark from the start, so no walk finds the region under the lock.
        buddy.bring_online(&tables, tables.region.end);
        Ok(Self {
            arena: Arena::reserve(frames, config.arena_backing(), Arc::clone(&tables.failed))
                .map_err(refused)?,
            tables,
            buddy: ZoneLock::new(buddy, Arc::clone(&lists)),
            lists,
            filled,
            list_capacity: AtomicU32::new(1),
            keep_blocks: config.keep_blocks,
            ballooned: AtomicU64::new(0),
            balloon_record_bytes: AtomicU64::new(0),
            excess: AtomicBool::new(false),
            failures_seen: AtomicU64::new(0),
            kswapd: KswapdState::new(),
        })
    }

    pub(crate) fn capacity(&self) -> FrameCount {
        FrameCount(u64::from(self.tables.len) * u64::from(PAGEBLOCK_FRAMES))
    }

    /// Calls `change` under the zone lock. Returns `None` when the zone is poisoned.
    pub(crate) fn with_buddy<T>(&self, change: impl FnOnce(&mut Buddy, &Tables) -> T) -> Option<T> {
        let mut buddy = self.buddy.lock_unpoisoned()?;
        Some(change(&mut buddy, &self.tables))
    }

    /// Calls `read` under the zone lock. The counts of a poisoned zone may contradict each other.
    pub(crate) fn read_buddy<T>(&self, read: impl FnOnce(&Buddy) -> T) -> T {
        read(&self.buddy.lock())
    }

    /// Takes a single frame out of this thread's list, which is refilled if it is empty. Its state
    /// is "cached". Returns `None` when the slow path has to find one.
    pub(crate) fn pop(&self, migrate_type: MigrateType, reclaim: &Reclaim) -> Option<Pfn> {
        self.process_memory_failures();
        loop {
            let mut list = self.this_list().lock();
            match list.pop(migrate_type) {
                None => return self.refill(list, migrate_type, reclaim),
                // The search for failed frames skips lists with a length not published yet.
                Some(pfn) if self.has_failed(pfn) => {
                    drop(list);
                    self.free_frames([pfn], |_| {});
                }
                some => return some,
            }
        }
    }

    /// Takes a block if the limits have room for it. Its first frame is then in the state `to`.
    pub(crate) fn take_block(
        &self,
        order: Order,
        migrate_type: MigrateType,
        to: State,
    ) -> Option<Pfn> {
        let mut buddy = self.lock_for(order)?;
        buddy.take_block(&self.tables, migrate_type, order, to)
    }

    /// Takes the zone lock for a request of this order if the limits have room for it.
    fn lock_for(&self, order: Order) -> Option<ZoneGuard<'_>> {
        self.process_memory_failures();
        Some(self.buddy.lock()).filter(|buddy| buddy.headroom() >= u64::from(order.frames()))
    }

    /// Takes a single frame that has memory, if the limits have room. Its state is "cached".
    pub(crate) fn take_committed(&self, migrate_type: MigrateType) -> Option<Pfn> {
        let mut buddy = self.lock_for(Order::SINGLE)?;
        let mut taken = [Pfn(0)];
        (buddy.take_committed(&self.tables, migrate_type, &mut taken) == 1).then_some(taken[0])
    }

    /// Takes a pageblock that has memory, if the limits have room. Commits no memory.
    pub(crate) fn take_committed_block(&self, migrate_type: MigrateType) -> Option<Pfn> {
        let order = Order::PAGEBLOCK;
        let mut buddy = self.lock_for(order)?;
        // Blocks on lists have memory; an idle pageblock is taken before one is committed.
        self.tables.idle.lowest_outside(&self.tables.region)?;
        buddy.take_block(&self.tables, migrate_type, order, State::used(order))
    }

    /// Puts one reference. The last one frees the frame or block.
    ///
    /// # Errors
    /// [`PutError`]; nothing has changed then.
    pub(crate) fn put(&self, pfn: Pfn) -> Result<(), PutError> {
        match self.tables.frames.put(pfn)? {
            Put::Shared => {}
            Put::Last(Order::SINGLE) => self.push(pfn),
            Put::Last(order) => self.free_blocks([(pfn, order)], |_| {}),
        }
        Ok(())
    }

    /// Puts a reference that migration held. The last one frees the frame straight to the buddy
    /// lists, where it can merge. An in-flight target leaves that count in the same step.
    ///
    /// # Panics
    /// When the descriptor is broken: see [`PutError`].
    pub(crate) fn put_migrated(&self, pfn: Pfn, arrived: InFlight) {
        let last = self.tables.frames.put_last(pfn);
        if last.is_some() {
            self.tables.frames.clear_private(pfn);
        } else if arrived.is_empty() {
            return;
        }
        self.free_blocks(last.map(|order| (pfn, order)), |buddy| buddy.ledger.land(arrived));
    }

    /// Frees frames without references, straight to the buddy lists. `book` adjusts the accounting
    /// in the same step: otherwise another thread could get a frame above the limit in between.
    pub(crate) fn free_frames(
        &self,
        frames: impl IntoIterator<Item = Pfn>,
        book: impl FnOnce(&mut Buddy),
    ) {
        self.free_blocks(frames.into_iter().map(|pfn| (pfn, Order::SINGLE)), book);
    }

    fn free_blocks(
        &self,
        blocks: impl IntoIterator<Item = (Pfn, Order)>,
        book: impl FnOnce(&mut Buddy),
    ) {
        let mut buddy = self.buddy.lock();
        for (pfn, order) in blocks {
            let was = if order == Order::SINGLE { State::CACHED } else { State::INSIDE };
            buddy.free(&self.tables, pfn, order, was);
        }
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
        let mut frames = [Pfn(0); pcp::BATCH];
        let mut buddy = self.buddy.lock();
        // At most BATCH.
        let want = (pcp::capacity_for(buddy.ledger.charged) as usize)
            .min(pcp::BATCH)
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
    pub(crate) fn push(&self, pfn: Pfn) {
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

    /// Drains lists that are longer than is allowed now, and flags excess free pageblocks.
    fn after_free(&self, buddy: ZoneGuard<'_>) {
        let capacity = self.update_list_capacity(&buddy);
        drop(buddy);
        self.drain_lists_above(capacity);
    }

    /// Sets the allowed length of lists and flags excess free pageblocks, after each change.
    pub(super) fn update_list_capacity(&self, buddy: &Buddy) -> u32 {
        if buddy.is_poisoned() {
            // A poisoned zone spills no list, so none is drained.
            return pcp::MAX_LEN as u32;
        }
        self.flag_excess(buddy);
        let over = buddy.ledger.frame_limit().is_some_and(|limit| buddy.ledger.charged > limit);
        let capacity = if over { 0 } else { pcp::capacity_for(buddy.ledger.charged) };
        self.list_capacity.store(capacity, Relaxed);
        capacity
    }
}

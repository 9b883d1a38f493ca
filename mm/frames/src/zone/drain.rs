//! Draining: frames on per-CPU lists go back to the buddy lists.

use super::allocator::FrameAllocator;
use super::lock::ZoneGuard;
use super::pcp::{CpuList, CpuListGuard};
use crate::buddy::Buddy;
use crate::error::AllocError;
use crate::page::State;
use crate::units::{MigrateType, Order, Pfn};

/// What a look at the buddy lists knows about the per-CPU lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CpuListsState {
    /// All of them were empty at one moment.
    Empty,
    /// One of them has received a frame since.
    Filled,
}

/// All locks of a zone. The zone lock is dropped first: after a panic it poisons the lists while
/// they are still locked.
pub(crate) struct ZoneLocked<'z> {
    pub(crate) buddy: ZoneGuard<'z>,
    pub(crate) lists: Vec<CpuListGuard<'z>>,
}

impl FrameAllocator {
    /// Drains the lists that hold more than `capacity` frames.
    pub(crate) fn drain_lists_above(&self, capacity: u32) {
        for list in self.lists.iter().filter(|list| list.len_hint() > capacity) {
            // The holder of a busy list updates it itself. A full drain waits for it.
            let list = if capacity == 0 { Some(list.lock()) } else { list.try_lock() };
            if let Some(mut list) = list {
                drop(self.drain_list(&mut list));
            }
        }
    }

    /// Drains a locked list. Returns the zone lock, under which that happened.
    fn drain_list(&self, list: &mut CpuListGuard<'_>) -> ZoneGuard<'_> {
        let mut buddy = self.buddy.lock();
        list.spill(0, |pfn| buddy.free(&self.tables, pfn, Order::SINGLE, State::CACHED));
        self.update_list_capacity(&buddy);
        buddy
    }

    /// Allocates with drained lists. Only this may refuse a request.
    pub(crate) fn alloc_drained(
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
            // Wait for pageblocks that are being released, by a thread that holds no lock.
            if lists == CpuListsState::Filled || room && buddy.releasing > 0 {
                return None;
            }
            let limited = !room || buddy.ledger.touchable() < frames;
            Some(Err(if limited { AllocError::Limit } else { AllocError::NoFrames }))
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

    fn drain_filled(&self) {
        for list in self.filled.iter() {
            let mut list = self.lists[list].lock();
            let _buddy = self.drain_list(&mut list);
            list.mark_empty();
        }
    }

    /// Drains each list, and waits for the threads that are about to put a frame on one: see
    /// [`FrameAllocator::push`].
    ///
    /// Locking: each list, one after the other, with the zone lock if it holds frames. The caller
    /// must not hold the lock of a class.
    pub(crate) fn drain_each_list(&self) {
        for list in self.lists.iter() {
            let mut list = list.lock();
            if list.len() > 0 {
                drop(self.drain_list(&mut list));
            }
        }
    }

    /// Drains all lists at one moment and calls `change` with all locks held.
    pub(super) fn with_all_drained(&self, change: impl FnOnce(&mut Buddy)) {
        let mut all = self.lock_all();
        all.drain(self);
        change(&mut all.buddy);
        self.update_list_capacity(&all.buddy);
    }

    pub(crate) fn lock_all(&self) -> ZoneLocked<'_> {
        let lists = self.lists.iter().map(CpuList::lock).collect();
        ZoneLocked { buddy: self.buddy.lock(), lists }
    }
}

impl ZoneLocked<'_> {
    /// Drains all lists: no charged frame is free then.
    pub(crate) fn drain(&mut self, allocator: &FrameAllocator) {
        for list in &mut self.lists {
            list.spill(0, |pfn| {
                self.buddy.free(&allocator.tables, pfn, Order::SINGLE, State::CACHED)
            });
        }
        allocator.update_list_capacity(&self.buddy);
    }

    pub(crate) fn cached(&self) -> u64 {
        self.lists.iter().map(|list| u64::from(list.len())).sum()
    }
}

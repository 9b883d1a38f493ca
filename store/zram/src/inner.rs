//! The state of a device that requests touch: slot table, page store and cache of hot pages.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use block::BlockError;
use frames::{FrameCount, Reservation, Zone};
use page::{LoadError, PAGE_SIZE, Page, Pages, StoreError, StoredPage};
use zsmalloc::AllocError;

use crate::counters::{Counter, Counters};
use crate::hot::{HotCache, PinnedHotPage};
use crate::slots::{EntryKind, ExchangeError, SlotEntry, Slots};

/// The retries before an entry that stays stale counts as damage.
const MAX_STALE_RETRIES: u32 = 1 << 16;

/// The time to wait for a page that has too many readers.
const READER_WAIT_TIMEOUT: Duration = Duration::from_millis(200);

/// The state that requests share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) zone: Arc<Zone>,
    pub(crate) slots: Slots,
    pub(crate) pages: Pages,
    pub(crate) counters: Counters,
    pub(crate) hot: Option<HotCache>,
}

/// The result of replacing a slot's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplaceOutcome {
    Done,
    /// Another thread changed the slot first; it holds this entry now.
    Changed(SlotEntry),
    /// The slot is empty, and there is no memory for its chunk.
    NoMemory,
}

impl Inner {
    /// Reads the page of a slot and returns the entry it was read from.
    pub(crate) fn load(&self, slot: usize, page: &mut Page) -> Result<SlotEntry, BlockError> {
        let (mut tries, mut waiting_since) = (0, None);
        while tries < MAX_STALE_RETRIES {
            tries += 1;
            let entry = self.slots.get(slot);
            let stored = match entry.kind() {
                EntryKind::Stored(stored) => stored,
                EntryKind::Empty | EntryKind::Reserved => {
                    page.fill(0);
                    return Ok(entry);
                }
                // Copy the page under its lock.
                EntryKind::Hot(_) => {
                    let Some(pinned) = self.pin(slot) else { continue };
                    pinned.copy_to(0..PAGE_SIZE, page);
                    if pinned.has_failed() {
                        break;
                    }
                    return Ok(pinned.entry());
                }
                EntryKind::Invalid => break,
            };
            match self.pages.load(stored, page) {
                Ok(()) => return Ok(entry),
                // Overwritten between `get` and `load`: the slot holds another entry now (Z2).
                Err(LoadError::Stale) => sync::relax(tries),
                // Waiting for other readers is bounded by time, not by `tries`.
                Err(LoadError::TooManyReaders) => {
                    if waiting_since.get_or_insert_with(Instant::now).elapsed()
                        > READER_WAIT_TIMEOUT
                    {
                        return Err(BlockError::Busy { offset: offset_of(slot) });
                    }
                    tries -= 1;
                    sync::relax(u32::MAX);
                }
                Err(LoadError::Poisoned) => return Err(BlockError::Poisoned),
                Err(_) => break,
            }
        }
        Err(BlockError::Damaged { offset: offset_of(slot) })
    }

    /// Locks the slot's page if it is hot.
    pub(crate) fn pin(&self, slot: usize) -> Option<PinnedHotPage<'_>> {
        self.hot.as_ref()?.pin(&self.slots, slot)
    }

    /// Reads a part of the slot's page if it is hot. Returns whether it is.
    pub(crate) fn read_hot(
        &self,
        slot: usize,
        inside: Range<usize>,
        buf: &mut [u8],
    ) -> Result<bool, BlockError> {
        let Some(pinned) = self.pin(slot) else { return Ok(false) };
        pinned.copy_to(inside, buf);
        if pinned.has_failed() {
            return Err(BlockError::Damaged { offset: offset_of(slot) });
        }
        self.counters.add(Counter::HotHits, 1);
        Ok(true)
    }

    /// Makes a page hot that a reader just decompressed, if it is read often. Lack of memory for
    /// it is not an error.
    pub(crate) fn promote_on_read(
        &self,
        slot: usize,
        stored: SlotEntry,
        page: &Page,
    ) -> Result<(), BlockError> {
        let Some(hot) = &self.hot else { return Ok(()) };
        if !matches!(stored.kind(), EntryKind::Stored(StoredPage::Compressed(_)))
            || !hot.has_free_frame()
            || !hot.doorkeeper.seen_before(slot)
        {
            return Ok(());
        }
        self.admit(slot, page).map_or(Ok(()), |fresh| self.install(slot, stored, fresh).map(drop))
    }

    /// Changes the slot's page in place if it is hot and not in use. Returns whether it did.
    pub(crate) fn write_in_place(&self, slot: usize, change: impl FnOnce(&mut [u8])) -> bool {
        let changed =
            self.hot.as_ref().is_some_and(|hot| hot.write_in_place(&self.slots, slot, change));
        if changed {
            self.counters.add(Counter::HotHits, 1);
        }
        changed
    }

    /// Puts `new` in the slot if it still holds `old`, and frees the entry that is left over.
    pub(crate) fn replace(
        &self,
        slot: usize,
        old: SlotEntry,
        new: SlotEntry,
    ) -> Result<ReplaceOutcome, BlockError> {
        let replaced = self.slots.compare_exchange(slot, old, new);
        // The slot owns one of the two entries now; the other one is freed.
        let unused = if replaced.is_ok() { old } else { new };
        if replaced.is_ok() {
            self.account(old, new);
        }
        self.free(unused)?;
        Ok(match replaced {
            Ok(()) => ReplaceOutcome::Done,
            Err(ExchangeError::Changed(now)) => ReplaceOutcome::Changed(now),
            Err(ExchangeError::NoMemory) => ReplaceOutcome::NoMemory,
        })
    }

    /// Puts `new` in the slot and frees the entry it replaces. With [`ReplaceOutcome::NoMemory`],
    /// which never happens when `new` is the empty entry, nothing has changed and the caller
    /// still owns `new`.
    pub(crate) fn set_entry(
        &self,
        slot: usize,
        new: SlotEntry,
    ) -> Result<ReplaceOutcome, BlockError> {
        let mut old = self.slots.get(slot);
        loop {
            match self.slots.compare_exchange(slot, old, new) {
                Ok(()) => break,
                Err(ExchangeError::Changed(now)) => old = now,
                Err(ExchangeError::NoMemory) => return Ok(ReplaceOutcome::NoMemory),
            }
        }
        self.account(old, new);
        self.free(old)?;
        Ok(ReplaceOutcome::Done)
    }

    /// Puts reserved zeros in the slot if it still holds `old`, and takes one frame out of
    /// `reservation` for it.
    pub(crate) fn set_reserved(
        &self,
        slot: usize,
        old: SlotEntry,
        reservation: &mut Reservation<'_>,
    ) -> Result<ReplaceOutcome, BlockError> {
        match self.slots.compare_exchange(slot, old, SlotEntry::RESERVED) {
            Ok(()) => {}
            Err(ExchangeError::Changed(now)) => return Ok(ReplaceOutcome::Changed(now)),
            Err(ExchangeError::NoMemory) => return Ok(ReplaceOutcome::NoMemory),
        }
        // From here on the entry stands for the reserved frame.
        let detached = reservation.detach(FrameCount(1));
        debug_assert!(detached, "the reservation has no frame");
        self.account(old, SlotEntry::RESERVED);
        self.free(old)?;
        Ok(ReplaceOutcome::Done)
    }

    /// Stores a page with the frame that its slot reserves, after storing it was refused for lack
    /// of memory. The slot then holds plain zeros, until the caller replaces them by the returned
    /// entry.
    ///
    /// Returns `None` if the slot reserves nothing or the frame does not help; the slot is as it
    /// was then. The exception: if the memory of the reserved frame fails and the page fits
    /// nowhere else, the reservation is spent and the slot holds plain zeros.
    pub(crate) fn store_reserved(
        &self,
        slot: usize,
        page: &Page,
        refused: StoreError,
    ) -> Option<SlotEntry> {
        if !matches!(refused, StoreError::Alloc(AllocError::Limit | AllocError::NoFrames)) {
            return None;
        }
        // The thread that replaces the entry owns the reservation (INV-SLOT-3).
        self.slots.compare_exchange(slot, SlotEntry::RESERVED, SlotEntry::ZEROS).ok()?;
        self.account(SlotEntry::RESERVED, SlotEntry::ZEROS);
        let mut reservation = self.zone.reattach(FrameCount(1));
        let put = |bytes: &[u8]| self.pages.pool().store_reserved(bytes, &mut reservation);
        let stored = self.pages.store_with(page, None, put).ok();
        // The reservation has no frame left if the frame's memory failed: the slot keeps plain
        // zeros.
        if stored.is_none() && reservation.frames() > FrameCount(0) {
            // Put it back. If the slot was written meanwhile the reservation is dropped.
            let _ = self.set_reserved(slot, SlotEntry::ZEROS, &mut reservation);
        }
        stored.map(SlotEntry::from)
    }

    /// Frees what the entry refers to: an object, a hot page or a reservation.
    pub(crate) fn free(&self, entry: SlotEntry) -> Result<(), BlockError> {
        let freed = match entry.kind() {
            EntryKind::Empty | EntryKind::Invalid | EntryKind::Stored(StoredPage::Same(_)) => {
                return Ok(());
            }
            EntryKind::Stored(page) => self.pages.free(page),
            // INV-SLOT-3: only this thread owns the entry, so its reservation is released once.
            EntryKind::Reserved => {
                drop(self.zone.reattach(FrameCount(1)));
                Ok(())
            }
            EntryKind::Hot(chain) => {
                if let Some(hot) = &self.hot {
                    hot.free_or_defer(&self.slots, chain);
                }
                Ok(())
            }
        };
        // After the free: a thread that sees the count unchanged may conclude that nothing was
        // freed.
        self.counters.add(Counter::Freed, 1);
        // INV-SLOT-3: only this thread owns the entry, so its object is live; a pool that lost it
        // is damaged.
        freed.map_err(|_| BlockError::Poisoned)
    }

    /// Updates the counters that follow the content of slots.
    fn account(&self, old: SlotEntry, new: SlotEntry) {
        let shift = |counter, was: bool, is: bool| match (was, is) {
            (false, true) => self.counters.add(counter, 1),
            (true, false) => self.counters.sub(counter, 1),
            _ => {}
        };
        shift(Counter::PagesStored, old != SlotEntry::EMPTY, new != SlotEntry::EMPTY);
        shift(Counter::Reserved, old == SlotEntry::RESERVED, new == SlotEntry::RESERVED);
        shift(Counter::SamePages, old.is_same_filled(), new.is_same_filled());
        shift(Counter::HugePages, old.is_huge(), new.is_huge());
        if new.is_huge() {
            self.counters.add(Counter::HugePagesSince, 1);
        }
    }
}

/// Releases the remaining reservations, since the zone may outlive the device.
impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.zone.reattach(FrameCount(self.counters.get(Counter::Reserved))));
    }
}

/// Returns the byte offset of the slot's page.
pub(crate) fn offset_of(slot: usize) -> u64 {
    slot as u64 * PAGE_SIZE as u64
}

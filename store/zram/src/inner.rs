//! What the slots hold: the table of words, the pool of pages behind them, and the cache of hot pages before it.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use block::BlockError;
use frames::{FrameCount, Reservation, Zone};
use page::{EntryKind, LoadError, PAGE_SIZE, Page, Pages, SlotEntry, StoreError};
use zsmalloc::AllocError;

use crate::counters::{Counter, Counters};
use crate::hot::{HotCache, PinnedHotPage};
use crate::slots::{ExchangeError, Slots};

/// Tries before a word that keeps being stale is taken for damage.
const MAX_STALE_RETRIES: u32 = 1 << 16;

/// How long a page is waited for that too many others are reading.
const READER_WAIT_TIMEOUT: Duration = Duration::from_millis(200);

/// Everything a request for a page touches.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) zone: Arc<Zone>,
    pub(crate) slots: Slots,
    pub(crate) pages: Pages,
    pub(crate) counters: Counters,
    pub(crate) hot: Option<HotCache>,
}

/// How a [`Inner::replace`] went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplaceOutcome {
    Done,
    /// Another thread was faster; this is what the slot holds now.
    Changed(SlotEntry),
    /// The slot is empty, and there is no memory for its part of the slot table.
    NoMemory,
}

impl Inner {
    /// Reads a slot's page, whatever it holds by now.
    pub(crate) fn load(&self, slot: usize, page: &mut Page) -> Result<SlotEntry, BlockError> {
        let (mut tries, mut waiting_since) = (0, None);
        while tries < MAX_STALE_RETRIES {
            tries += 1;
            let stored = self.slots.get(slot);
            match self.pages.load(stored, page) {
                Ok(()) => return Ok(stored),
                // Overwritten between the two lines above: the slot holds another word by now (Z2).
                Err(LoadError::Stale) => sync::relax(tries),
                Err(LoadError::TooManyReaders) => {
                    if waiting_since.get_or_insert_with(Instant::now).elapsed()
                        > READER_WAIT_TIMEOUT
                    {
                        return Err(BlockError::Busy { offset: offset_of(slot) });
                    }
                    tries -= 1;
                    sync::relax(u32::MAX);
                }
                Err(LoadError::NotInPool) => {
                    if let Some(pinned) = self.pin(slot) {
                        pinned.copy_to(0..PAGE_SIZE, page);
                        if pinned.has_failed() {
                            break;
                        }
                        return Ok(pinned.entry());
                    }
                }
                Err(LoadError::Poisoned) => return Err(BlockError::Poisoned),
                Err(_) => break,
            }
        }
        Err(BlockError::Damaged { offset: offset_of(slot) })
    }

    /// Holds the slot's page if it is hot.
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

    /// Makes a page hot that was just decompressed for a reader, if that happens often to it. The reader does not mind if it fails.
    pub(crate) fn promote_on_read(
        &self,
        slot: usize,
        stored: SlotEntry,
        page: &Page,
    ) -> Result<(), BlockError> {
        let Some(hot) = &self.hot else { return Ok(()) };
        if !matches!(stored.kind(), EntryKind::Compressed(_))
            || !hot.has_room()
            || !hot.doorkeeper.seen_before(slot)
        {
            return Ok(());
        }
        self.admit(slot, page).map_or(Ok(()), |fresh| self.install(slot, stored, fresh).map(drop))
    }

    /// Changes the slot's page in place if it is hot and nobody is inside.
    pub(crate) fn write_in_place(&self, slot: usize, change: impl FnOnce(&mut [u8])) -> bool {
        let changed =
            self.hot.as_ref().is_some_and(|hot| hot.write_in_place(&self.slots, slot, change));
        if changed {
            self.counters.add(Counter::HotHits, 1);
        }
        changed
    }

    /// Puts `new` in the slot if it still holds `old`, and frees the one of the two that is then nobody's.
    pub(crate) fn replace(
        &self,
        slot: usize,
        old: SlotEntry,
        new: SlotEntry,
    ) -> Result<ReplaceOutcome, BlockError> {
        let replaced = self.slots.compare_exchange(slot, old, new);
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

    /// Puts `new` in the slot, whatever it held. Returns [`ReplaceOutcome::NoMemory`] with nothing changed and `new` still the caller's; that cannot happen when
    /// `new` is the empty page.
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

    /// Puts zeros with reserved room in the slot if it still holds `old`. The room comes out of `room`.
    pub(crate) fn set_reserved(
        &self,
        slot: usize,
        old: SlotEntry,
        room: &mut Reservation<'_>,
    ) -> Result<ReplaceOutcome, BlockError> {
        match self.slots.compare_exchange(slot, old, SlotEntry::RESERVED) {
            Ok(()) => {}
            Err(ExchangeError::Changed(now)) => return Ok(ReplaceOutcome::Changed(now)),
            Err(ExchangeError::NoMemory) => return Ok(ReplaceOutcome::NoMemory),
        }
        // From here on the word stands for it.
        let detached = room.detach(FrameCount(1));
        debug_assert!(detached, "the caller has room for one");
        self.account(old, SlotEntry::RESERVED);
        self.free(old)?;
        Ok(ReplaceOutcome::Done)
    }

    /// Stores a page for a slot with what is reserved there, after it was refused for want of memory. The slot holds plain zeros afterwards, until the
    /// caller puts the page in. `None` when nothing is reserved there, or it is of no use; the slot is as it was then. When the memory
    /// of the reserved frame fails and the page finds no other place, the reservation is spent: the slot holds plain zeros then, too.
    pub(crate) fn store_reserved(
        &self,
        slot: usize,
        page: &Page,
        refused: StoreError,
    ) -> Option<SlotEntry> {
        if !matches!(refused, StoreError::Alloc(AllocError::Limit | AllocError::NoFrames)) {
            return None;
        }
        // Whoever swaps the word out has the room, as with an object (INV-SLOT-3).
        self.slots.compare_exchange(slot, SlotEntry::RESERVED, SlotEntry::ZEROS).ok()?;
        self.account(SlotEntry::RESERVED, SlotEntry::ZEROS);
        let mut room = self.zone.reattach(FrameCount(1));
        let stored = self.pages.store_reserved(page, &mut room).ok();
        // Without a frame when the memory of the reserved one failed: then the slot holds plain zeros.
        if stored.is_none() && room.frames() > FrameCount(0) {
            // Put back, unless the slot was written meanwhile: then the room is not wanted any more.
            let _ = self.set_reserved(slot, SlotEntry::ZEROS, &mut room);
        }
        stored
    }

    pub(crate) fn free(&self, stored: SlotEntry) -> Result<(), BlockError> {
        if stored.handle().is_none() {
            if stored == SlotEntry::RESERVED {
                // INV-SLOT-3: the word was ours alone, so its reservation is given up once.
                drop(self.zone.reattach(FrameCount(1)));
                self.counters.add(Counter::Freed, 1);
            }
            if let (EntryKind::Hot(chain), Some(hot)) = (stored.kind(), &self.hot) {
                hot.free_or_defer(&self.slots, chain);
                self.counters.add(Counter::Freed, 1);
            }
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

/// Gives up what is still reserved: the zone may live on.
impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.zone.reattach(FrameCount(self.counters.get(Counter::Reserved))));
    }
}

pub(crate) fn offset_of(slot: usize) -> u64 {
    slot as u64 * PAGE_SIZE as u64
}

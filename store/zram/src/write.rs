//! Writing of pages.
//!
//! A whole page is stored straight from the client's buffer. A part of a page is merged in place if
//! the page is hot. Otherwise the page is read, merged and stored, and merged again if it
//! changed meanwhile. A write that is refused for lack of memory is tried again after a reclaim.

use block::BlockError;
use frames::{FrameCount, Reservation};
use page::{PAGE_SIZE, Page, StoreError};
use zsmalloc::AllocError;

use crate::counters::Counter;
use crate::inner::{Inner, Replaced, offset_of};
use crate::reclaimer::MAX_RECLAIMS;
use crate::segments::Segment;
use crate::slots::SlotEntry;

/// The refusal of memory for a table.
const NO_TABLE_MEMORY: StoreError = StoreError::Alloc(AllocError::Limit);

impl Inner {
    pub(crate) fn write_segment(&self, segment: &Segment, buf: &[u8]) -> Result<(), BlockError> {
        if let Ok(page) = <&Page>::try_from(buf) {
            if self.write_in_place(segment.slot, |hot| hot.copy_from_slice(page)) {
                return Ok(());
            }
            return self.put_entry(segment.slot, self.store(segment.slot, page)?);
        }
        self.read_modify_write(segment, |part| part.copy_from_slice(buf))
    }

    /// Makes a part of a page read as zeros.
    pub(crate) fn zero_segment(&self, segment: &Segment) -> Result<(), BlockError> {
        if self.slots.get(segment.slot).is_zeros() {
            return Ok(());
        }
        self.read_modify_write(segment, |part| part.fill(0))
    }

    /// Changes the slot's page in place if it is hot and not in use. Returns whether it did.
    fn write_in_place(&self, slot: usize, change: impl FnOnce(&mut [u8])) -> bool {
        let changed =
            self.hot.as_ref().is_some_and(|hot| hot.write_in_place(&self.slots, slot, change));
        if changed {
            self.counters.add(Counter::HotHits, 1);
        }
        changed
    }

    /// Changes a part of a page: in place if it is hot. Otherwise reads the page, changes it, and
    /// makes it hot, or stores it. Starts again if another write came in between.
    fn read_modify_write(
        &self,
        segment: &Segment,
        change: impl Fn(&mut [u8]),
    ) -> Result<(), BlockError> {
        let slot = segment.slot;
        let mut page = [0; PAGE_SIZE];
        let mut reclaims = 0;
        loop {
            if self.write_in_place(slot, |hot| change(&mut hot[segment.page_range.clone()])) {
                return Ok(());
            }
            // Locked until the entry is replaced if the page is hot: its bytes can change in
            // place without a change of the entry.
            let pinned = self.pin(slot);
            let old = match &pinned {
                Some(hot) => {
                    page.copy_from_slice(hot);
                    if hot.has_failed() {
                        return Err(BlockError::Damaged { offset: offset_of(slot) });
                    }
                    hot.entry()
                }
                None => self.load(slot, &mut page)?,
            };
            // The page became hot after `pin`, so its bytes may change: start again.
            if pinned.is_none() && old.chain().is_some() {
                continue;
            }
            change(&mut page[segment.page_range.clone()]);
            // Make it hot, else store it, else store it in the slot's reserved frame.
            let replaced = match self.admit(slot, &page) {
                Some(fresh) => self.replace(slot, old, fresh.entry())?,
                None => match self.pages.store(&page, old.handle()) {
                    Ok(new) => self.replace(slot, old, new.into())?,
                    Err(error) => {
                        // No thread may hold a page while it waits for memory.
                        drop(pinned);
                        // Only a page that was merged from reserved zeros may take their frame.
                        let reserved = old == SlotEntry::RESERVED;
                        match reserved.then(|| self.store_reserved(slot, &page, error)).flatten() {
                            Some(new) => self.replace(slot, SlotEntry::ZEROS, new)?,
                            None => {
                                self.reclaim(slot, error, &mut reclaims)?;
                                continue;
                            }
                        }
                    }
                },
            };
            match replaced {
                Replaced::Done => return Ok(()),
                Replaced::Changed(_) => {}
                // The slot was empty, so no hot page is locked.
                Replaced::NoMemory => self.reclaim(slot, NO_TABLE_MEMORY, &mut reclaims)?,
            }
        }
    }

    /// Stores a page, after a reclaim if memory is short.
    fn store(&self, slot: usize, page: &Page) -> Result<SlotEntry, BlockError> {
        let mut reclaims = 0;
        loop {
            let error = match self.pages.store(page, self.slots.get(slot).handle()) {
                Ok(stored) => return Ok(stored.into()),
                Err(error) => error,
            };
            // At the limit the slot's own reservation comes first.
            if let Some(stored) = self.store_reserved(slot, page, error) {
                return Ok(stored);
            }
            self.reclaim(slot, error, &mut reclaims)?;
        }
    }

    /// Stores a page with the frame that its slot reserves, after storing it was refused for lack
    /// of memory. The caller then replaces the plain zeros in the slot by the returned entry.
    ///
    /// Returns `None` if the slot reserves nothing or the frame does not help. The slot is as it
    /// was then, but holds plain zeros if the memory of the reserved frame failed.
    fn store_reserved(&self, slot: usize, page: &Page, refused: StoreError) -> Option<SlotEntry> {
        if !matches!(refused, StoreError::Alloc(AllocError::Limit | AllocError::NoFrames)) {
            return None;
        }
        // The thread that replaces the entry owns the reservation (INV-SLOT-3).
        self.slots.compare_exchange(slot, SlotEntry::RESERVED, SlotEntry::ZEROS).ok()?;
        self.account(SlotEntry::RESERVED, SlotEntry::ZEROS);
        let mut reservation = self.zone.reattach(FrameCount(1));
        let put = |bytes: &[u8]| self.pages.pool().store_reserved(bytes, &mut reservation);
        let stored = self.pages.store_with(page, None, put).ok();
        // Without a frame in the reservation its memory failed.
        if stored.is_none() && reservation.frames() > FrameCount(0) {
            // Put it back. If the slot was written meanwhile the reservation is dropped.
            let _ = self.set_reserved(slot, SlotEntry::ZEROS, &mut reservation);
        }
        stored.map(SlotEntry::from)
    }

    /// Puts an entry into a slot, after a reclaim if there is no memory for the slot's chunk. Frees
    /// what the entry refers to if that fails.
    fn put_entry(&self, slot: usize, new: SlotEntry) -> Result<(), BlockError> {
        let mut reclaims = 0;
        while self.set_entry(slot, new)? == Replaced::NoMemory {
            if let Err(error) = self.reclaim(slot, NO_TABLE_MEMORY, &mut reclaims) {
                self.free(new)?;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Reserves frames for the slot, after a reclaim if memory is short.
    pub(crate) fn reserve(
        &self,
        slot: usize,
        frames: FrameCount,
    ) -> Result<Reservation<'_>, BlockError> {
        let mut reclaims = 0;
        loop {
            match self.zone.reserve(frames) {
                Ok(reservation) => return Ok(reservation),
                Err(error) => self.reclaim(slot, StoreError::Alloc(error.into()), &mut reclaims)?,
            }
        }
    }

    /// Puts reserved zeros in the slot if it holds `old`; reclaims memory for its chunk if needed.
    pub(crate) fn put_reserved<'z>(
        &'z self,
        slot: usize,
        old: SlotEntry,
        reservation: &mut Reservation<'z>,
    ) -> Result<Replaced, BlockError> {
        if reservation.frames() == FrameCount(0) {
            // The caller counted this slot as reserved; another request has spent or released it.
            *reservation = self.reserve(slot, FrameCount(1))?;
        }
        let mut reclaims = 0;
        loop {
            match self.set_reserved(slot, old, reservation)? {
                Replaced::NoMemory => self.reclaim(slot, NO_TABLE_MEMORY, &mut reclaims)?,
                replaced => return Ok(replaced),
            }
        }
    }

    /// Reclaims memory for a request that was refused for lack of it. `Ok` means that the caller
    /// tries the request again. `count` is the number of calls for this request.
    ///
    /// # Errors
    /// The error of the request, if a retry cannot succeed.
    fn reclaim(&self, slot: usize, error: StoreError, count: &mut u32) -> Result<(), BlockError> {
        let offset = offset_of(slot);
        let error = match error {
            StoreError::Codec(_) => return Err(BlockError::Codec { offset }),
            StoreError::Alloc(AllocError::Poisoned) => return Err(BlockError::Poisoned),
            StoreError::Alloc(error) => error,
        };
        if self.zone.is_poisoned() {
            return Err(BlockError::Poisoned);
        }
        // Only lack of memory below the limit or of frames is worth a reclaim.
        if !matches!(error, AllocError::Limit | AllocError::NoFrames) || *count >= MAX_RECLAIMS {
            return Err(BlockError::NoSpace { offset });
        }
        if *count == 0 {
            self.counters.add(Counter::WriteStalls, 1);
            self.check_limit();
        }
        *count += 1;
        if !self.reclaimer.reclaim(&self.zone, || self.counters.get(Counter::Freed)) {
            // One last try: another thread may have reclaimed memory just before.
            *count = MAX_RECLAIMS;
        }
        Ok(())
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

//! Zeros that stay allocated: the slot's entry says that a frame is reserved for the next write.
//!
//! The entry is the reservation. As with an object, the thread that replaces the entry owns the
//! reservation: a write spends it, or releases it if it found memory elsewhere; a discard
//! releases it. So each reservation is released exactly once, whatever races for the slot.

use std::ops::Range;

use block::{BlockError, Span};
use frames::{FrameCount, Reservation};
use page::StoreError;
use zsmalloc::AllocError;

use crate::Zram;
use crate::inner::ReplaceOutcome;
use crate::segments::{Segment, partial_segments, whole_slots};
use crate::slots::SlotEntry;

impl Zram {
    /// Makes the span read as zeros, with frames reserved for all of it. They are reserved before
    /// any page changes.
    pub(crate) fn keep_allocated(&self, span: Span) -> Result<(), BlockError> {
        let size = self.config.size.0;
        let whole = whole_slots(span, size);
        let parts =
            partial_segments(span, size).filter(|segment| !self.is_reserved(segment.slot)).count();
        let wanted = FrameCount(parts as u64 + self.count_unreserved(whole.clone()));
        let mut reservation =
            self.reserve((span.offset() / page::PAGE_SIZE as u64) as usize, wanted)?;
        partial_segments(span, size)
            .try_for_each(|segment| self.zero_part(&segment, &mut reservation))?;
        whole.into_iter().try_for_each(|slot| self.zero_whole(slot, &mut reservation))
    }

    /// Zeros a part of a page. A page that still holds other data is allocated and stays as it
    /// is.
    fn zero_part<'z>(
        &'z self,
        segment: &Segment,
        reservation: &mut Reservation<'z>,
    ) -> Result<(), BlockError> {
        if !self.inner.slots.get(segment.slot).is_zeros() {
            self.read_modify_write(segment, |part| part.fill(0))?;
        }
        loop {
            // Locked until the entry is replaced: writing a hot page in place does not change its
            // entry.
            let pinned = self.inner.pin(segment.slot);
            let (old, zeros) = match &pinned {
                Some(hot) => (hot.entry(), hot.iter().all(|&byte| byte == 0)),
                None => {
                    let old = self.inner.slots.get(segment.slot);
                    (old, old.is_zeros() && old != SlotEntry::RESERVED)
                }
            };
            // The page still holds other data, which is allocated.
            if !zeros {
                return Ok(());
            }
            match self.set_reserved(segment.slot, old, reservation)? {
                ReplaceOutcome::Done => return Ok(()),
                // The slot changed or memory was reclaimed: look again.
                ReplaceOutcome::Changed(_) | ReplaceOutcome::NoMemory => {}
            }
        }
    }

    /// Zeros a whole page.
    fn zero_whole<'z>(
        &'z self,
        slot: usize,
        reservation: &mut Reservation<'z>,
    ) -> Result<(), BlockError> {
        let mut old = self.inner.slots.get(slot);
        while old != SlotEntry::RESERVED {
            match self.set_reserved(slot, old, reservation)? {
                ReplaceOutcome::Done => return Ok(()),
                ReplaceOutcome::Changed(now) => old = now,
                // Nothing changed: look again.
                ReplaceOutcome::NoMemory => {}
            }
        }
        Ok(())
    }

    /// Puts reserved zeros in the slot if it holds `old`; reclaims memory for its chunk if
    /// needed.
    fn set_reserved<'z>(
        &'z self,
        slot: usize,
        old: SlotEntry,
        reservation: &mut Reservation<'z>,
    ) -> Result<ReplaceOutcome, BlockError> {
        if reservation.frames() == FrameCount(0) {
            // `keep_allocated` counted this slot as reserved; another request has spent or
            // released it.
            *reservation = self.reserve(slot, FrameCount(1))?;
        }
        let mut tries = 0;
        loop {
            match self.inner.set_reserved(slot, old, reservation)? {
                ReplaceOutcome::NoMemory => {
                    self.reclaim(slot, StoreError::Alloc(AllocError::Limit), &mut tries)?
                }
                replaced => return Ok(replaced),
            }
        }
    }

    fn is_reserved(&self, slot: usize) -> bool {
        self.inner.slots.get(slot) == SlotEntry::RESERVED
    }

    /// Counts the slots of the range that reserve nothing yet. Unused chunks are not visited.
    fn count_unreserved(&self, slots: Range<usize>) -> u64 {
        let (mut slot, mut count) = (slots.start, 0);
        while slot < slots.end {
            let used = self.inner.slots.chunk_is_used(slot);
            let next = if used { slot + 1 } else { crate::slots::next_chunk(slot).min(slots.end) };
            count += if used { u64::from(!self.is_reserved(slot)) } else { (next - slot) as u64 };
            slot = next;
        }
        count
    }
}

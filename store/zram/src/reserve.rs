//! Zeros that stay allocated: a slot says that room for one frame is reserved for its next write.
//!
//! The word is the reservation. Whoever swaps it out has the room, as with an object: a write spends it, or gives it up when it found memory
//! elsewhere; a discard gives it up. So room is given back exactly once, whatever races for the slot.

use std::ops::Range;

use block::{BlockError, Span};
use frames::{FrameCount, Reservation};
use page::{SlotEntry, StoreError};
use zsmalloc::AllocError;

use crate::Zram;
use crate::inner::ReplaceOutcome;
use crate::segments::{Segment, partial_segments, whole_slots};

impl Zram {
    /// Makes the span read as zeros with room for all of it. The room is reserved before any page changes.
    pub(crate) fn keep_allocated(&self, span: Span) -> Result<(), BlockError> {
        let size = self.config.size.0;
        let whole = whole_slots(span, size);
        let parts =
            partial_segments(span, size).filter(|segment| !self.is_reserved(segment.slot)).count();
        let wanted = FrameCount(parts as u64 + self.count_unreserved(whole.clone()));
        let mut room = self.reserve((span.offset() / page::PAGE_SIZE as u64) as usize, wanted)?;
        partial_segments(span, size).try_for_each(|segment| self.zero_part(&segment, &mut room))?;
        whole.into_iter().try_for_each(|slot| self.zero_whole(slot, &mut room))
    }

    /// Zeros a part of a page. A page that holds other data keeps what it has, which is allocated.
    fn zero_part<'z>(
        &'z self,
        segment: &Segment,
        room: &mut Reservation<'z>,
    ) -> Result<(), BlockError> {
        if !self.inner.slots.get(segment.slot).is_zeros() {
            self.read_modify_write(segment, |part| part.fill(0))?;
        }
        loop {
            // Held until the word is swapped: a hot page can be changed in place, which its word does not tell.
            let pinned = self.inner.pin(segment.slot);
            let (old, zeros) = match &pinned {
                Some(hot) => (hot.entry(), hot.iter().all(|&byte| byte == 0)),
                None => {
                    let old = self.inner.slots.get(segment.slot);
                    (old, old.is_zeros() && old != SlotEntry::RESERVED)
                }
            };
            // Other data is left of it, and that is allocated.
            if !zeros {
                return Ok(());
            }
            match self.set_reserved(segment.slot, old, room)? {
                ReplaceOutcome::Done => return Ok(()),
                // Looked at again.
                ReplaceOutcome::Changed(_) | ReplaceOutcome::NoMemory => {}
            }
        }
    }

    fn zero_whole<'z>(&'z self, slot: usize, room: &mut Reservation<'z>) -> Result<(), BlockError> {
        let mut old = self.inner.slots.get(slot);
        while old != SlotEntry::RESERVED {
            match self.set_reserved(slot, old, room)? {
                ReplaceOutcome::Done => return Ok(()),
                ReplaceOutcome::Changed(now) => old = now,
                // Nothing changed: looked at again.
                ReplaceOutcome::NoMemory => {}
            }
        }
        Ok(())
    }

    fn set_reserved<'z>(
        &'z self,
        slot: usize,
        old: SlotEntry,
        room: &mut Reservation<'z>,
    ) -> Result<ReplaceOutcome, BlockError> {
        if room.frames() == FrameCount(0) {
            // Counted as reserved above, and spent or given up by another request since.
            *room = self.reserve(slot, FrameCount(1))?;
        }
        let mut tries = 0;
        loop {
            match self.inner.set_reserved(slot, old, room)? {
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

    /// Slots of the range for which nothing is reserved yet. Chunks that are not used are passed over.
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

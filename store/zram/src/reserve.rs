//! Zeros that stay allocated: the slot's entry says that a frame is reserved for the next write.
//!
//! As with an object, the thread that replaces the entry owns the reservation: a write spends it,
//! or releases it if it found memory elsewhere; a discard releases it.

use std::ops::Range;

use block::{BlockError, Span};
use frames::{FrameCount, Reservation};
use page::PAGE_SIZE;

use crate::inner::{Inner, Replaced};
use crate::segments::{Segment, partial_segments, whole_slots};
use crate::slots::SlotEntry;

impl Inner {
    /// Makes the span read as zeros. Frames for all of it are reserved before any page changes.
    pub(crate) fn keep_allocated(&self, span: Span) -> Result<(), BlockError> {
        let size = self.config.size.0;
        let whole = whole_slots(span, size);
        let parts =
            partial_segments(span, size).filter(|segment| !self.is_reserved(segment.slot)).count();
        let wanted = FrameCount((parts + self.count_unreserved(whole.clone())) as u64);
        let mut reservation = self.reserve((span.offset() / PAGE_SIZE as u64) as usize, wanted)?;
        partial_segments(span, size)
            .try_for_each(|segment| self.zero_part(&segment, &mut reservation))?;
        whole.into_iter().try_for_each(|slot| self.zero_whole(slot, &mut reservation))
    }

    /// Zeros a part of a page. A page that still holds other data is allocated and stays as it is.
    fn zero_part<'z>(
        &'z self,
        segment: &Segment,
        reservation: &mut Reservation<'z>,
    ) -> Result<(), BlockError> {
        self.zero_segment(segment)?;
        loop {
            // Locked until the entry is replaced: a hot page can change while its entry stays.
            let pinned = self.pin(segment.slot);
            let (old, zeros) = match &pinned {
                Some(hot) => (hot.entry(), hot.iter().all(|&byte| byte == 0)),
                None => {
                    let old = self.slots.get(segment.slot);
                    (old, old.is_zeros() && old != SlotEntry::RESERVED)
                }
            };
            // If the slot has changed, look again.
            if !zeros || self.put_reserved(segment.slot, old, reservation)? == Replaced::Done {
                return Ok(());
            }
        }
    }

    fn zero_whole<'z>(
        &'z self,
        slot: usize,
        reservation: &mut Reservation<'z>,
    ) -> Result<(), BlockError> {
        let mut old = self.slots.get(slot);
        while old != SlotEntry::RESERVED {
            match self.put_reserved(slot, old, reservation)? {
                Replaced::Done => break,
                Replaced::Changed(now) => old = now,
                // Nothing changed: look again.
                Replaced::NoMemory => {}
            }
        }
        Ok(())
    }

    fn is_reserved(&self, slot: usize) -> bool {
        self.slots.get(slot) == SlotEntry::RESERVED
    }

    /// Counts the slots of the range that reserve nothing yet.
    fn count_unreserved(&self, slots: Range<usize>) -> usize {
        let reserved = self.slots.used(slots.clone()).filter(|&slot| self.is_reserved(slot));
        slots.len() - reserved.count()
    }
}

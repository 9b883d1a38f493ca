//! Zeros that stay allocated: a slot says that room for one frame is reserved for its next write.
//!
//! The word is the reservation. Whoever swaps it out has the room, as with an object: a write spends it, or gives it up when it found memory
//! elsewhere; a discard gives it up. So room is given back exactly once, whatever races for the slot.

use std::ops::Range;

use block::{BlockError, Span};
use frames::{FrameCount, Reservation};
use page::{StoreError, Stored};
use zsmalloc::AllocError;

use crate::Zram;
use crate::contents::Replaced;
use crate::pieces::{Piece, edges, whole_slots};

impl Zram {
    /// Makes the span read as zeros with room for all of it. The room is reserved before any page changes.
    pub(crate) fn keep_allocated(&self, span: Span) -> Result<(), BlockError> {
        let size = self.config.size.0;
        let whole = whole_slots(span, size);
        let parts = edges(span, size).filter(|piece| !self.is_reserved(piece.slot)).count();
        let wanted = FrameCount(parts as u64 + self.not_reserved(whole.clone()));
        let mut room = self.reserve((span.offset() / page::PAGE_SIZE as u64) as usize, wanted)?;
        edges(span, size).try_for_each(|piece| self.zero_part(&piece, &mut room))?;
        whole.into_iter().try_for_each(|slot| self.zero_whole(slot, &mut room))
    }

    /// Zeros a part of a page. A page that holds other data keeps what it has, which is allocated.
    fn zero_part<'z>(
        &'z self,
        piece: &Piece,
        room: &mut Reservation<'z>,
    ) -> Result<(), BlockError> {
        if !self.contents.slots.get(piece.slot).is_zeros() {
            self.merge(piece, |part| part.fill(0))?;
        }
        loop {
            // Held until the word is swapped: a hot page can be changed in place, which its word does not tell.
            let pinned = self.contents.pin(piece.slot);
            let (old, zeros) = match &pinned {
                Some(hot) => (hot.stored(), hot.iter().all(|&byte| byte == 0)),
                None => {
                    let old = self.contents.slots.get(piece.slot);
                    (old, old.is_zeros() && old != Stored::RESERVED)
                }
            };
            // Other data is left of it, and that is allocated.
            if !zeros {
                return Ok(());
            }
            match self.put_reserved(piece.slot, old, room)? {
                Replaced::Done => return Ok(()),
                // Looked at again.
                Replaced::Lost(_) | Replaced::NoMemory => {}
            }
        }
    }

    fn zero_whole<'z>(&'z self, slot: usize, room: &mut Reservation<'z>) -> Result<(), BlockError> {
        let mut old = self.contents.slots.get(slot);
        while old != Stored::RESERVED {
            match self.put_reserved(slot, old, room)? {
                Replaced::Done => return Ok(()),
                Replaced::Lost(now) => old = now,
                // Nothing changed: looked at again.
                Replaced::NoMemory => {}
            }
        }
        Ok(())
    }

    fn put_reserved<'z>(
        &'z self,
        slot: usize,
        old: Stored,
        room: &mut Reservation<'z>,
    ) -> Result<Replaced, BlockError> {
        if room.frames() == FrameCount(0) {
            // Counted as reserved above, and spent or given up by another request since.
            *room = self.reserve(slot, FrameCount(1))?;
        }
        let mut tries = 0;
        loop {
            match self.contents.put_reserved(slot, old, room)? {
                Replaced::NoMemory => {
                    self.make_room(slot, StoreError::Alloc(AllocError::Limit), &mut tries)?
                }
                replaced => return Ok(replaced),
            }
        }
    }

    fn is_reserved(&self, slot: usize) -> bool {
        self.contents.slots.get(slot) == Stored::RESERVED
    }

    /// Slots of the range for which nothing is reserved yet. Chunks that are not used are passed over.
    fn not_reserved(&self, slots: Range<usize>) -> u64 {
        let (mut slot, mut count) = (slots.start, 0);
        while slot < slots.end {
            let used = self.contents.slots.chunk_is_used(slot);
            let next = if used { slot + 1 } else { crate::slots::next_chunk(slot).min(slots.end) };
            count += if used { u64::from(!self.is_reserved(slot)) } else { (next - slot) as u64 };
            slot = next;
        }
        count
    }
}

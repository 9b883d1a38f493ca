//! The block device interface: requests on slots.
//!
//! A request is split into pages. A whole page is stored straight from the client's buffer and
//! read straight into it. A part of a page is merged in place if the page is hot. Otherwise the
//! page is read, merged and stored, and merged again if it changed meanwhile.
//!
//! The client's bytes must not change while they are compressed. `&[u8]` guarantees that
//! within this process; the server that maps memory others can write copies it first.

use std::ops::Range;

use block::{
    AllocationState, BlockDevice, BlockError, BlockSizes, Bytes, OutOfRange, Span, StatusExtent,
    ZeroMode, ZeroSpeed,
};
use page::{PAGE_SIZE, Page, StoreError};
use zsmalloc::AllocError;

use crate::Zram;
use crate::counters::Counter;
use crate::inner::{ReplaceOutcome, offset_of};
use crate::segments::{Segment, partial_segments, segments, whole_slots};
use crate::slots::{SlotEntry, next_chunk};

impl BlockDevice for Zram {
    fn size(&self) -> Bytes {
        self.config.size
    }

    fn block_sizes(&self) -> BlockSizes {
        BlockSizes { minimum: 1, preferred: PAGE_SIZE as u32 }
    }

    fn is_read_only(&self) -> bool {
        !self.is_writable()
    }

    fn read(&self, span: Span, buf: &mut [u8]) -> Result<(), BlockError> {
        self.check_bounds(span, buf.len() as u64)?;
        let mut pages = 0;
        let result = segments(span).try_for_each(|segment| {
            pages += 1;
            self.read_segment(&segment, &mut buf[segment.buf_range.clone()])
        });
        self.inner.counters.add(Counter::Reads, pages);
        self.count_failure(Counter::FailedReads, &result);
        result
    }

    fn verify(&self, span: Span) -> Result<(), BlockError> {
        self.check_bounds(span, span.len())?;
        let mut page = [0; PAGE_SIZE];
        let result = segments(span)
            .try_for_each(|segment| self.inner.load(segment.slot, &mut page).map(drop));
        self.count_failure(Counter::FailedReads, &result);
        result
    }

    fn write(&self, span: Span, buf: &[u8]) -> Result<(), BlockError> {
        self.check_writable(span, buf.len() as u64)?;
        let mut pages = 0;
        let result = segments(span).try_for_each(|segment| {
            pages += 1;
            self.write_segment(&segment, &buf[segment.buf_range.clone()])
        });
        self.inner.counters.add(Counter::Writes, pages);
        self.check_limit_after_write(pages);
        self.count_failure(Counter::FailedWrites, &result);
        result
    }

    fn flush(&self) -> Result<(), BlockError> {
        // A device in memory has no other storage to write to.
        Ok(())
    }

    fn discard(&self, span: Span) -> Result<(), BlockError> {
        self.check_writable(span, span.len())?;
        let slots = whole_slots(span, self.config.size.0);
        self.inner.counters.add(Counter::NotifyFree, slots.len() as u64);
        self.discard_slots(slots)
    }

    fn write_zeroes(&self, span: Span, mode: ZeroMode, speed: ZeroSpeed) -> Result<(), BlockError> {
        self.check_writable(span, span.len())?;
        let size = self.config.size.0;
        if speed == ZeroSpeed::FastOnly {
            return self.write_zeroes_fast(span, mode);
        }
        let result = match mode {
            ZeroMode::MayUnmap => partial_segments(span, size)
                .try_for_each(|segment| self.zero_segment(&segment))
                .and_then(|()| self.discard_slots(whole_slots(span, size))),
            ZeroMode::KeepAllocated => {
                let kept = self.keep_allocated(span);
                // A reservation counts as needed memory.
                self.check_limit();
                kept
            }
        };
        self.count_failure(Counter::FailedWrites, &result);
        result
    }

    fn status(&self, span: Span, visit: &mut dyn FnMut(StatusExtent) -> bool) {
        if span.end() > self.config.size.0 {
            return;
        }
        let mut at = span.offset();
        let mut last: Option<StatusExtent> = None;
        // Adjacent slots of one state are merged; a run is reported when the next one begins.
        while at < span.end() {
            let (content, end) = self.allocation_at(at);
            let len = end.min(span.end()) - at;
            at += len;
            last = Some(match last {
                Some(run) if run.content == content => StatusExtent { len: run.len + len, content },
                Some(run) if !visit(run) => return,
                _ => StatusExtent { len, content },
            });
        }
        if let Some(run) = last {
            visit(run);
        }
    }
}

impl Zram {
    /// Checks that a request fits the device. Servers check before, so `invalid_io` counts their
    /// bugs.
    fn check_bounds(&self, span: Span, buf_len: u64) -> Result<(), BlockError> {
        let size = self.config.size;
        let checked = Span::new(span.offset(), span.len().max(buf_len), size);
        if let (Ok(_), true) = (checked, span.len() == buf_len) {
            return Ok(());
        }
        self.inner.counters.add(Counter::InvalidIo, 1);
        Err(OutOfRange { offset: span.offset(), len: span.len().max(buf_len), size: size.0 }.into())
    }

    /// Checks that a request fits the device and may change it.
    fn check_writable(&self, span: Span, buf_len: u64) -> Result<(), BlockError> {
        if !self.is_writable() {
            return Err(BlockError::ReadOnly);
        }
        self.check_bounds(span, buf_len)
    }

    fn count_failure(&self, counter: Counter, result: &Result<(), BlockError>) {
        if result.is_err() {
            self.inner.counters.add(counter, 1);
        }
    }

    fn read_segment(&self, segment: &Segment, buf: &mut [u8]) -> Result<(), BlockError> {
        if let Ok(page) = <&mut Page>::try_from(&mut *buf) {
            return self.read_page(segment.slot, page);
        }
        if self.inner.read_hot(segment.slot, segment.page_range.clone(), buf)? {
            return Ok(());
        }
        let mut page = [0; PAGE_SIZE];
        self.read_page(segment.slot, &mut page)?;
        buf.copy_from_slice(&page[segment.page_range.clone()]);
        Ok(())
    }

    fn read_page(&self, slot: usize, page: &mut Page) -> Result<(), BlockError> {
        let stored = self.inner.load(slot, page)?;
        if stored.chain().is_some() {
            self.inner.counters.add(Counter::HotHits, 1);
            return Ok(());
        }
        self.inner.promote_on_read(slot, stored, page)
    }

    fn write_segment(&self, segment: &Segment, buf: &[u8]) -> Result<(), BlockError> {
        if let Ok(page) = <&Page>::try_from(buf) {
            if self.inner.write_in_place(segment.slot, |hot| hot.copy_from_slice(page)) {
                return Ok(());
            }
            return self.set_entry(segment.slot, self.store(segment.slot, page)?);
        }
        self.read_modify_write(segment, |part| part.copy_from_slice(buf))
    }

    /// Zeros a span by emptying whole pages, which is fast. Partial pages must read as zeros
    /// already.
    fn write_zeroes_fast(&self, span: Span, mode: ZeroMode) -> Result<(), BlockError> {
        let size = self.config.size.0;
        // Reading the entry is all that a partial page may cost. A write to it meanwhile comes
        // after these zeros.
        let is_zero = |segment: Segment| self.inner.slots.get(segment.slot).is_zeros();
        if mode == ZeroMode::KeepAllocated || !partial_segments(span, size).all(is_zero) {
            return Err(BlockError::NotFast);
        }
        self.discard_slots(whole_slots(span, size))
    }

    fn zero_segment(&self, segment: &Segment) -> Result<(), BlockError> {
        if self.inner.slots.get(segment.slot).is_zeros() {
            return Ok(());
        }
        self.read_modify_write(segment, |part| part.fill(0))
    }

    /// Changes a part of a page: in place if it is hot. Otherwise reads the page, changes it, and
    /// makes it hot, or stores it if the cache cannot take it. Starts again if another write came
    /// in between.
    pub(crate) fn read_modify_write(
        &self,
        segment: &Segment,
        change: impl Fn(&mut [u8]),
    ) -> Result<(), BlockError> {
        let (inner, slot) = (&*self.inner, segment.slot);
        let mut page = [0; PAGE_SIZE];
        let mut tries = 0;
        loop {
            if inner.write_in_place(slot, |hot| change(&mut hot[segment.page_range.clone()])) {
                return Ok(());
            }
            // Locked until the entry is replaced if the page is hot: its bytes can change in
            // place without a change of the entry.
            let pinned = inner.pin(slot);
            let old = match &pinned {
                Some(hot) => {
                    let entry = hot.copy_page(&mut page);
                    if hot.has_failed() {
                        return Err(BlockError::Damaged { offset: offset_of(slot) });
                    }
                    entry
                }
                None => inner.load(slot, &mut page)?,
            };
            // The page became hot after `pin`, so its bytes may change: start again.
            if pinned.is_none() && old.chain().is_some() {
                continue;
            }
            change(&mut page[segment.page_range.clone()]);
            // Make it hot, else store it, else store it in the slot's reserved frame.
            let replaced = match inner.admit(slot, &page) {
                Some(fresh) => inner.install(slot, old, fresh)?,
                None => match inner.pages.store(&page, old.handle()) {
                    Ok(new) => inner.replace(slot, old, new.into())?,
                    Err(error) => {
                        // No thread may hold a page while it waits for memory.
                        drop(pinned);
                        // The reservation may be used only if the page was merged from reserved
                        // zeros.
                        let reserved = old == SlotEntry::RESERVED;
                        match reserved.then(|| inner.store_reserved(slot, &page, error)).flatten() {
                            Some(new) => inner.replace(slot, SlotEntry::ZEROS, new)?,
                            None => {
                                self.reclaim(slot, error, &mut tries)?;
                                continue;
                            }
                        }
                    }
                },
            };
            match replaced {
                ReplaceOutcome::Done => return Ok(()),
                ReplaceOutcome::Changed(_) => {}
                // The slot was empty, so no hot page is locked.
                ReplaceOutcome::NoMemory => {
                    self.reclaim(slot, StoreError::Alloc(AllocError::Limit), &mut tries)?
                }
            }
        }
    }

    /// Empties these slots; skips unused chunks.
    fn discard_slots(&self, slots: Range<usize>) -> Result<(), BlockError> {
        let mut slot = slots.start;
        while slot < slots.end {
            if !self.inner.slots.chunk_is_used(slot) {
                slot = next_chunk(slot);
                continue;
            }
            if self.inner.slots.get(slot) != SlotEntry::EMPTY {
                let _emptied = self.inner.set_entry(slot, SlotEntry::EMPTY)?;
            }
            slot += 1;
        }
        Ok(())
    }

    /// Returns the state of the byte at this offset, and a later offset up to which it is known
    /// to be the same.
    fn allocation_at(&self, offset: u64) -> (AllocationState, u64) {
        let slot = (offset / PAGE_SIZE as u64) as usize;
        if !self.inner.slots.chunk_is_used(slot) {
            return (AllocationState::Hole, offset_of(next_chunk(slot)));
        }
        let content = match self.inner.slots.get(slot) {
            SlotEntry::EMPTY | SlotEntry::ZEROS => AllocationState::Hole,
            SlotEntry::RESERVED => AllocationState::Zero,
            _ => AllocationState::Data,
        };
        (content, offset_of(slot + 1))
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::ZramConfig;

    const SIZE: Bytes = Bytes(16 * PAGE_SIZE as u64);

    /// Z6, R-503: a part of a page that another write changed meanwhile is merged with what that
    /// write left.
    #[test]
    fn z6_a_part_is_merged_again_after_another_write() {
        let disk = Zram::new(ZramConfig::new(SIZE)).expect("a small disk");
        let span = |at, len| Span::new(at, len, SIZE).expect("inside");
        let segment = segments(span(100, 100)).next().expect("one page");
        let undisturbed = Cell::new(true);
        let write = |part: &mut [u8]| {
            if undisturbed.replace(false) {
                disk.write(span(4000, 50), &[2; 50]).expect("enough memory");
            }
            part.fill(1);
        };
        disk.read_modify_write(&segment, write).expect("enough memory");
        let mut page = [0; PAGE_SIZE];
        disk.read(span(0, PAGE_SIZE as u64), &mut page).expect("nothing is damaged");
        assert!(page[100..200].iter().all(|&byte| byte == 1), "what was merged");
        assert!(page[4000..4050].iter().all(|&byte| byte == 2), "the other write is lost");
        disk.check().expect("sound");
    }
}

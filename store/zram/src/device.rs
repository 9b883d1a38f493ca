//! The block device interface: requests on slots.
//!
//! The client's bytes must not change while they are compressed. `&[u8]` guarantees that
//! within this process; a server that maps memory others can write copies it first.

use std::ops::Range;

use block::{
    AllocationState, BlockDevice, BlockError, BlockSizes, Bytes, OutOfRange, Span, StatusExtent,
    ZeroMode, ZeroSpeed,
};
use page::PAGE_SIZE;

use crate::config::Access;
use crate::counters::Counter;
use crate::inner::{Inner, offset_of};
use crate::nearly_full::LIMIT_CHECK_INTERVAL;
use crate::segments::{Segment, partial_segments, segments, whole_slots};
use crate::slots::{SlotEntry, next_chunk};
use crate::zram::Zram;

impl BlockDevice for Zram {
    fn size(&self) -> Bytes {
        self.0.config.size
    }

    fn block_sizes(&self) -> BlockSizes {
        BlockSizes { minimum: 1, preferred: PAGE_SIZE as u32 }
    }

    fn is_read_only(&self) -> bool {
        self.0.config.access == Access::ReadOnly
    }

    fn read(&self, span: Span, buf: &mut [u8]) -> Result<(), BlockError> {
        self.0.check_bounds(span, buf.len() as u64)?;
        let mut pages = 0;
        let result = segments(span).try_for_each(|segment| {
            pages += 1;
            self.0.read_segment(&segment, &mut buf[segment.buf_range.clone()])
        });
        self.0.counters.add(Counter::Reads, pages);
        self.0.count_error(Counter::FailedReads, result)
    }

    fn verify(&self, span: Span) -> Result<(), BlockError> {
        self.0.check_bounds(span, span.len())?;
        let mut page = [0; PAGE_SIZE];
        let result =
            segments(span).try_for_each(|segment| self.0.load(segment.slot, &mut page).map(drop));
        self.0.count_error(Counter::FailedReads, result)
    }

    fn write(&self, span: Span, buf: &[u8]) -> Result<(), BlockError> {
        self.0.check_writable(span, buf.len() as u64)?;
        let mut pages = 0;
        let result = segments(span).try_for_each(|segment| {
            pages += 1;
            self.0.write_segment(&segment, &buf[segment.buf_range.clone()])
        });
        self.0.counters.add(Counter::Writes, pages);
        if self.0.counters.crossed(Counter::Writes, pages, LIMIT_CHECK_INTERVAL) {
            self.0.check_limit();
        }
        self.0.count_error(Counter::FailedWrites, result)
    }

    /// Does nothing: a device in memory has no other storage to write to.
    fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }

    fn discard(&self, span: Span) -> Result<(), BlockError> {
        self.0.check_writable(span, span.len())?;
        let slots = whole_slots(span, self.0.config.size.0);
        self.0.counters.add(Counter::NotifyFree, slots.len() as u64);
        self.0.discard_slots(slots)
    }

    fn write_zeroes(&self, span: Span, mode: ZeroMode, speed: ZeroSpeed) -> Result<(), BlockError> {
        self.0.check_writable(span, span.len())?;
        let size = self.0.config.size.0;
        if speed == ZeroSpeed::FastOnly {
            return self.0.write_zeroes_fast(span, mode);
        }
        let result = match mode {
            ZeroMode::MayUnmap => partial_segments(span, size)
                .try_for_each(|segment| self.0.zero_segment(&segment))
                .and_then(|()| self.0.discard_slots(whole_slots(span, size))),
            ZeroMode::KeepAllocated => {
                let kept = self.0.keep_allocated(span);
                // A reservation counts as needed memory.
                self.0.check_limit();
                kept
            }
        };
        self.0.count_error(Counter::FailedWrites, result)
    }

    fn status(&self, span: Span, visit: &mut dyn FnMut(StatusExtent) -> bool) {
        if span.end() > self.0.config.size.0 {
            return;
        }
        let mut at = span.offset();
        let mut last: Option<StatusExtent> = None;
        // Adjacent slots of one state are merged; a run is reported when the next one begins.
        while at < span.end() {
            let (content, end) = self.0.allocation_at(at);
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

impl Inner {
    /// Checks that a request fits the device. Servers check first: `invalid_io` counts their bugs.
    fn check_bounds(&self, span: Span, buf_len: u64) -> Result<(), BlockError> {
        let size = self.config.size;
        let checked = Span::new(span.offset(), span.len().max(buf_len), size);
        if let (Ok(_), true) = (checked, span.len() == buf_len) {
            return Ok(());
        }
        self.counters.add(Counter::InvalidIo, 1);
        Err(OutOfRange { offset: span.offset(), len: span.len().max(buf_len), size: size.0 }.into())
    }

    /// Checks that a request fits the device and may change it.
    fn check_writable(&self, span: Span, buf_len: u64) -> Result<(), BlockError> {
        if self.config.access == Access::ReadOnly {
            return Err(BlockError::ReadOnly);
        }
        self.check_bounds(span, buf_len)
    }

    fn count_error(
        &self,
        counter: Counter,
        result: Result<(), BlockError>,
    ) -> Result<(), BlockError> {
        result.inspect_err(|_| self.counters.add(counter, 1))
    }

    /// Zeros a span by emptying whole pages, which is fast. Partial pages must be zeros already.
    fn write_zeroes_fast(&self, span: Span, mode: ZeroMode) -> Result<(), BlockError> {
        let size = self.config.size.0;
        // Reading the entry is all that a partial page may cost.
        let is_zero = |segment: Segment| self.slots.get(segment.slot).is_zeros();
        if mode == ZeroMode::KeepAllocated || !partial_segments(span, size).all(is_zero) {
            return Err(BlockError::NotFast);
        }
        self.discard_slots(whole_slots(span, size))
    }

    /// Empties these slots.
    fn discard_slots(&self, slots: Range<usize>) -> Result<(), BlockError> {
        self.slots
            .used(slots)
            .filter(|&slot| self.slots.get(slot) != SlotEntry::EMPTY)
            .try_for_each(|slot| self.set_entry(slot, SlotEntry::EMPTY).map(drop))
    }

    /// Returns the state of the byte at this offset, and the offset up to which it is the same.
    fn allocation_at(&self, offset: u64) -> (AllocationState, u64) {
        let slot = (offset / PAGE_SIZE as u64) as usize;
        if !self.slots.chunk_is_used(slot) {
            return (AllocationState::Hole, offset_of(next_chunk(slot)));
        }
        let content = match self.slots.get(slot) {
            SlotEntry::EMPTY | SlotEntry::ZEROS => AllocationState::Hole,
            SlotEntry::RESERVED => AllocationState::Zero,
            _ => AllocationState::Data,
        };
        (content, offset_of(slot + 1))
    }
}

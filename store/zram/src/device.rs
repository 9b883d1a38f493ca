//! Requests: the block device interface on top of slots.
//!
//! A request is cut into pages. A whole page is stored straight from the client's buffer and read straight into it; a part of a page is read,
//! merged and stored whole, and merged again when the page changed meanwhile. The client's bytes must not change while they are compressed
//! `&[u8]` says so in this process, and memory others can write is copied by the server that maps it.

use std::ops::Range;

use block::{BlockDevice, BlockError, Bytes, Content, Limits, OutOfRange, Run, Span, ZeroMode};
use page::{PAGE_SIZE, Page, Stored};

use crate::Zram;
use crate::counters::Counter;
use crate::pieces::{Piece, edges, pieces, whole_slots};
use crate::slots::CHUNK;
use crate::zram::{Replaced, offset_of};

impl BlockDevice for Zram {
    fn size(&self) -> Bytes {
        self.config.size
    }

    fn limits(&self) -> Limits {
        Limits { minimum: 1, preferred: PAGE_SIZE as u32 }
    }

    fn is_read_only(&self) -> bool {
        !self.is_writable()
    }

    fn read(&self, span: Span, buf: &mut [u8]) -> Result<(), BlockError> {
        self.admit(span, buf.len() as u64)?;
        let mut pages = 0;
        let result = pieces(span).try_for_each(|piece| {
            pages += 1;
            self.read_piece(&piece, &mut buf[piece.request.clone()])
        });
        self.counters.add(Counter::Reads, pages);
        self.count_failure(Counter::FailedReads, &result);
        result
    }

    fn write(&self, span: Span, buf: &[u8]) -> Result<(), BlockError> {
        self.admit_change(span, buf.len() as u64)?;
        let mut pages = 0;
        let result = pieces(span).try_for_each(|piece| {
            pages += 1;
            self.write_piece(&piece, &buf[piece.request.clone()])
        });
        self.counters.add(Counter::Writes, pages);
        self.count_failure(Counter::FailedWrites, &result);
        result
    }

    fn flush(&self) -> Result<(), BlockError> {
        // Whatever was acknowledged is in memory, and memory is all there is.
        Ok(())
    }

    fn discard(&self, span: Span) -> Result<(), BlockError> {
        self.admit_change(span, span.len())?;
        let slots = whole_slots(span, self.config.size.0);
        self.counters.add(Counter::NotifyFree, slots.len() as u64);
        self.empty(slots)
    }

    fn write_zeroes(&self, span: Span, mode: ZeroMode) -> Result<(), BlockError> {
        self.admit_change(span, span.len())?;
        let size = self.config.size.0;
        let result = edges(span, size).try_for_each(|piece| self.zero_piece(&piece, mode)).and_then(|()| match mode {
            ZeroMode::MayUnmap => self.empty(whole_slots(span, size)),
            ZeroMode::KeepAllocated => whole_slots(span, size).try_for_each(|slot| self.put(slot, Stored::ZEROS)),
        });
        self.count_failure(Counter::FailedWrites, &result);
        result
    }

    fn status(&self, span: Span, visit: &mut dyn FnMut(Run) -> bool) {
        if span.end() > self.config.size.0 {
            return;
        }
        let mut at = span.offset();
        let mut last: Option<Run> = None;
        while at < span.end() {
            let (content, end) = self.content_at(at);
            let len = end.min(span.end()) - at;
            at += len;
            last = Some(match last {
                Some(run) if run.content == content => Run { len: run.len + len, content },
                Some(run) if !visit(run) => return,
                _ => Run { len, content },
            });
        }
        if let Some(run) = last {
            visit(run);
        }
    }
}

impl Zram {
    /// Refuses what does not fit; servers check before, so this counts their mistakes.
    fn admit(&self, span: Span, buf_len: u64) -> Result<(), BlockError> {
        let size = self.config.size;
        let checked = Span::new(span.offset(), span.len().max(buf_len), size);
        if let (Ok(_), true) = (checked, span.len() == buf_len) {
            return Ok(());
        }
        self.counters.add(Counter::InvalidIo, 1);
        Err(OutOfRange { offset: span.offset(), len: span.len().max(buf_len), size: size.0 }.into())
    }

    fn admit_change(&self, span: Span, buf_len: u64) -> Result<(), BlockError> {
        if !self.is_writable() {
            return Err(BlockError::ReadOnly);
        }
        self.admit(span, buf_len)
    }

    fn count_failure(&self, counter: Counter, result: &Result<(), BlockError>) {
        if result.is_err() {
            self.counters.add(counter, 1);
        }
    }

    fn read_piece(&self, piece: &Piece, buf: &mut [u8]) -> Result<(), BlockError> {
        if let Ok(page) = <&mut Page>::try_from(&mut *buf) {
            return self.load(piece.slot, page).map(drop);
        }
        let mut page = [0; PAGE_SIZE];
        self.load(piece.slot, &mut page)?;
        buf.copy_from_slice(&page[piece.inside.clone()]);
        Ok(())
    }

    fn write_piece(&self, piece: &Piece, buf: &[u8]) -> Result<(), BlockError> {
        if let Ok(page) = <&Page>::try_from(buf) {
            return self.put(piece.slot, self.store(piece.slot, page)?);
        }
        self.merge(piece, |part| part.copy_from_slice(buf))
    }

    fn zero_piece(&self, piece: &Piece, mode: ZeroMode) -> Result<(), BlockError> {
        if mode == ZeroMode::MayUnmap && self.slots.get(piece.slot) == Stored::EMPTY {
            return Ok(());
        }
        self.merge(piece, |part| part.fill(0))
    }

    /// Reads a page, changes a part of it and stores it, all over again when another write came between.
    fn merge(&self, piece: &Piece, change: impl Fn(&mut [u8])) -> Result<(), BlockError> {
        let mut page = [0; PAGE_SIZE];
        loop {
            let old = self.load(piece.slot, &mut page)?;
            change(&mut page[piece.inside.clone()]);
            let new = self.store(piece.slot, &page)?;
            if self.replace(piece.slot, old, new)? == Replaced::Done {
                return Ok(());
            }
        }
    }

    /// Empties these slots and passes over chunks that are empty.
    fn empty(&self, slots: Range<usize>) -> Result<(), BlockError> {
        let mut slot = slots.start;
        while slot < slots.end {
            if !self.slots.chunk_is_used(slot) {
                slot = next_chunk(slot);
                continue;
            }
            if self.slots.get(slot) != Stored::EMPTY {
                self.put(slot, Stored::EMPTY)?;
            }
            slot += 1;
        }
        Ok(())
    }

    /// What the byte at this offset belongs to, and where that ends, as far as one look tells.
    fn content_at(&self, offset: u64) -> (Content, u64) {
        let slot = (offset / PAGE_SIZE as u64) as usize;
        if !self.slots.chunk_is_used(slot) {
            return (Content::Hole, offset_of(next_chunk(slot)));
        }
        let content = match self.slots.get(slot) {
            Stored::EMPTY => Content::Hole,
            Stored::ZEROS => Content::Zero,
            _ => Content::Data,
        };
        (content, offset_of(slot + 1))
    }
}

fn next_chunk(slot: usize) -> usize {
    (slot / CHUNK + 1) * CHUNK
}

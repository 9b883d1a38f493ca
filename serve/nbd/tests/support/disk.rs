//! Block devices in memory, simple enough to be a reference. Pages can be damaged, and the space
//! can be limited.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::thread;
use std::time::Duration;

use block::{
    AllocationState, BlockDevice, BlockError, BlockSizes, Bytes, Span, StatusExtent, ZeroMode,
    ZeroSpeed,
};

/// Page size of the device. Units: bytes.
pub(crate) const PAGE: u64 = 4096;

/// A block device in a vector.
pub(crate) struct Disk {
    bytes: RwLock<Vec<u8>>,
    written: RwLock<Vec<bool>>,
    damaged: Mutex<HashSet<u64>>,
    room: AtomicU64,
    read_only: bool,
    /// Number of calls of `flush`.
    pub flushes: AtomicU64,
    /// Bytes read by `read`.
    pub bytes_read: AtomicU64,
}

impl Disk {
    /// Creates a disk of zeros. Units of `size`: bytes.
    pub(crate) fn new(size: u64) -> Self {
        let pages = size.div_ceil(PAGE) as usize;
        Self {
            bytes: RwLock::new(vec![0; size as usize]),
            written: RwLock::new(vec![false; pages]),
            damaged: Mutex::default(),
            room: AtomicU64::new(u64::MAX),
            read_only: false,
            flushes: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
        }
    }

    /// Creates a read-only disk of zeros.
    pub(crate) fn read_only(size: u64) -> Self {
        Self { read_only: true, ..Self::new(size) }
    }

    /// Makes the page that holds the byte at `offset` unreadable.
    pub(crate) fn damage(&self, offset: u64) {
        self.damaged.lock().unwrap().insert(offset / PAGE);
    }

    /// Limits later writes to `bytes` in total; further writes fail with `NoSpace`.
    pub(crate) fn limit(&self, bytes: u64) {
        self.room.store(bytes, Ordering::Relaxed);
    }

    /// Returns the whole content.
    pub(crate) fn content(&self) -> Vec<u8> {
        self.bytes.read().unwrap().clone()
    }

    fn pages(span: Span) -> std::ops::Range<usize> {
        if span.is_empty() {
            0..0
        } else {
            (span.offset() / PAGE) as usize..(span.end().div_ceil(PAGE)) as usize
        }
    }

    fn range(span: Span) -> std::ops::Range<usize> {
        span.offset() as usize..span.end() as usize
    }

    fn changeable(&self) -> Result<(), BlockError> {
        if self.read_only { Err(BlockError::ReadOnly) } else { Ok(()) }
    }
}

impl BlockDevice for Disk {
    fn size(&self) -> Bytes {
        Bytes(self.bytes.read().unwrap().len() as u64)
    }

    fn block_sizes(&self) -> BlockSizes {
        BlockSizes { minimum: 1, preferred: 4096 }
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn read(&self, span: Span, buf: &mut [u8]) -> Result<(), BlockError> {
        self.verify(span)?;
        self.bytes_read.fetch_add(span.len(), Ordering::Relaxed);
        buf.copy_from_slice(&self.bytes.read().unwrap()[Self::range(span)]);
        Ok(())
    }

    fn verify(&self, span: Span) -> Result<(), BlockError> {
        let damaged = self.damaged.lock().unwrap();
        match Self::pages(span).map(|page| page as u64).find(|page| damaged.contains(page)) {
            Some(page) => Err(BlockError::Damaged { offset: page * PAGE }),
            None => Ok(()),
        }
    }

    fn write(&self, span: Span, buf: &[u8]) -> Result<(), BlockError> {
        self.changeable()?;
        self.room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(span.len()))
            .map_err(|_| BlockError::NoSpace { offset: span.offset() / PAGE * PAGE })?;
        self.bytes.write().unwrap()[Self::range(span)].copy_from_slice(buf);
        self.written.write().unwrap()[Self::pages(span)].fill(true);
        Ok(())
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn discard(&self, span: Span) -> Result<(), BlockError> {
        self.changeable()?;
        let first = span.offset().div_ceil(PAGE);
        let last = span.end() / PAGE;
        if first < last {
            self.bytes.write().unwrap()[(first * PAGE) as usize..(last * PAGE) as usize].fill(0);
            self.written.write().unwrap()[first as usize..last as usize].fill(false);
        }
        Ok(())
    }

    /// `ZeroSpeed::FastOnly` succeeds only if the span is whole pages that may become holes.
    fn write_zeroes(&self, span: Span, mode: ZeroMode, speed: ZeroSpeed) -> Result<(), BlockError> {
        self.changeable()?;
        let ragged = !span.offset().is_multiple_of(PAGE) || !span.end().is_multiple_of(PAGE);
        if speed == ZeroSpeed::FastOnly && (ragged || mode == ZeroMode::KeepAllocated) {
            return Err(BlockError::NotFast);
        }
        self.bytes.write().unwrap()[Self::range(span)].fill(0);
        match mode {
            ZeroMode::MayUnmap => self.discard(span),
            ZeroMode::KeepAllocated => {
                self.written.write().unwrap()[Self::pages(span)].fill(true);
                Ok(())
            }
        }
    }

    fn status(&self, span: Span, visit: &mut dyn FnMut(StatusExtent) -> bool) {
        let content = |page: usize, written: &[bool], bytes: &[u8]| {
            let start = page * PAGE as usize;
            let end = bytes.len().min(start + PAGE as usize);
            match (written[page], bytes[start..end].iter().any(|&byte| byte != 0)) {
                (_, true) => AllocationState::Data,
                (true, false) => AllocationState::Zero,
                (false, false) => AllocationState::Hole,
            }
        };
        let mut extents: Vec<StatusExtent> = Vec::new();
        {
            let (bytes, written) = (self.bytes.read().unwrap(), self.written.read().unwrap());
            let mut at = span.offset();
            while at < span.end() {
                let end = ((at / PAGE + 1) * PAGE).min(span.end());
                let content = content((at / PAGE) as usize, &written, &bytes);
                match extents.last_mut() {
                    Some(last) if last.content == content => last.len += end - at,
                    _ => extents.push(StatusExtent { len: end - at, content }),
                }
                at = end;
            }
        }
        for extent in extents {
            if !visit(extent) {
                return;
            }
        }
    }
}

/// A disk whose writes take the given time. They panic for `Duration::MAX`.
pub(crate) struct Slow(pub Disk, pub Duration);

impl BlockDevice for Slow {
    fn size(&self) -> Bytes {
        self.0.size()
    }
    fn block_sizes(&self) -> BlockSizes {
        self.0.block_sizes()
    }
    fn is_read_only(&self) -> bool {
        false
    }
    fn read(&self, span: Span, buf: &mut [u8]) -> Result<(), BlockError> {
        self.0.read(span, buf)
    }
    fn verify(&self, span: Span) -> Result<(), BlockError> {
        self.0.verify(span)
    }
    fn write(&self, span: Span, buf: &[u8]) -> Result<(), BlockError> {
        assert!(self.1 < Duration::MAX, "the device panics on purpose");
        thread::sleep(self.1);
        self.0.write(span, buf)
    }
    fn flush(&self) -> Result<(), BlockError> {
        self.0.flush()
    }
    fn discard(&self, span: Span) -> Result<(), BlockError> {
        self.0.discard(span)
    }
    fn write_zeroes(&self, span: Span, mode: ZeroMode, speed: ZeroSpeed) -> Result<(), BlockError> {
        self.0.write_zeroes(span, mode, speed)
    }
    fn status(&self, span: Span, visit: &mut dyn FnMut(StatusExtent) -> bool) {
        self.0.status(span, visit);
    }
}

/// A disk of any size that stores only written pages.
pub(crate) struct Sparse {
    size: u64,
    pages: RwLock<std::collections::BTreeMap<u64, Vec<u8>>>,
}

impl Sparse {
    /// Creates a disk of holes. Units of `size`: bytes.
    pub(crate) fn new(size: u64) -> Self {
        Self { size, pages: RwLock::default() }
    }

    /// Returns the pages that a span touches, and the touched part of each.
    fn parts(span: Span) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
        let mut at = span.offset();
        std::iter::from_fn(move || {
            let (page, from) = (at / PAGE, at % PAGE);
            let len = (span.end() - at).min(PAGE - from);
            at += len;
            (len > 0).then_some((page, from as usize..(from + len) as usize))
        })
    }
}

impl BlockDevice for Sparse {
    fn size(&self) -> Bytes {
        Bytes(self.size)
    }

    fn block_sizes(&self) -> BlockSizes {
        BlockSizes { minimum: 1, preferred: 4096 }
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn read(&self, span: Span, mut buf: &mut [u8]) -> Result<(), BlockError> {
        let pages = self.pages.read().unwrap();
        for (page, part) in Self::parts(span) {
            let (here, rest) = buf.split_at_mut(part.len());
            match pages.get(&page) {
                Some(bytes) => here.copy_from_slice(&bytes[part]),
                None => here.fill(0),
            }
            buf = rest;
        }
        Ok(())
    }

    fn verify(&self, _: Span) -> Result<(), BlockError> {
        Ok(())
    }

    fn write(&self, span: Span, mut buf: &[u8]) -> Result<(), BlockError> {
        let mut pages = self.pages.write().unwrap();
        for (page, part) in Self::parts(span) {
            let (here, rest) = buf.split_at(part.len());
            pages.entry(page).or_insert_with(|| vec![0; PAGE as usize])[part].copy_from_slice(here);
            buf = rest;
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }

    fn discard(&self, span: Span) -> Result<(), BlockError> {
        let (first, last) = (span.offset().div_ceil(PAGE), span.end() / PAGE);
        self.pages.write().unwrap().retain(|page, _| !(first..last).contains(page));
        Ok(())
    }

    fn write_zeroes(&self, span: Span, _: ZeroMode, speed: ZeroSpeed) -> Result<(), BlockError> {
        let whole = span.offset().is_multiple_of(PAGE) && span.end().is_multiple_of(PAGE);
        match speed {
            ZeroSpeed::FastOnly if !whole => return Err(BlockError::NotFast),
            _ if whole => return self.discard(span),
            _ => {}
        }
        let mut pages = self.pages.write().unwrap();
        for (page, bytes) in pages.iter_mut() {
            let (from, to) = (span.offset().max(page * PAGE), span.end().min(page * PAGE + PAGE));
            if from < to {
                bytes[(from - page * PAGE) as usize..(to - page * PAGE) as usize].fill(0);
            }
        }
        Ok(())
    }

    fn status(&self, span: Span, visit: &mut dyn FnMut(StatusExtent) -> bool) {
        let pages = self.pages.read().unwrap();
        let mut at = span.offset();
        while at < span.end() {
            let is_data = pages.contains_key(&(at / PAGE));
            let mut end = at;
            while end < span.end() && pages.contains_key(&(end / PAGE)) == is_data {
                // A hole ends at the next written page.
                let next = pages
                    .range(end / PAGE + 1..)
                    .next()
                    .map_or(span.end(), |(page, _)| page * PAGE);
                end = if is_data { (end / PAGE + 1) * PAGE } else { next }.min(span.end());
            }
            let content = if is_data { AllocationState::Data } else { AllocationState::Hole };
            if !visit(StatusExtent { len: end - at, content }) {
                return;
            }
            at = end;
        }
    }
}

//! A zram device in this process, accessed page by page.

use std::error::Error;
use std::sync::Arc;

use block::{BlockDevice, Bytes, Span};
use testkit::{PAGE_SIZE, Page};
use zcomp::Algorithm;
use zram::{Zram, ZramConfig};
use zsmalloc::{Budget, Compaction, Pool};

/// A device of exactly `len` pages.
pub(crate) struct Disk {
    zram: Zram,
    size: Bytes,
}

impl Disk {
    /// Creates an empty device.
    pub(crate) fn new(len: usize, algorithm: Algorithm) -> Result<Self, Box<dyn Error>> {
        let size = Bytes((len * PAGE_SIZE) as u64);
        Ok(Self { zram: Zram::new(ZramConfig { algorithm, ..ZramConfig::new(size) })?, size })
    }

    /// Creates a device with `pages` in their order.
    pub(crate) fn filled(pages: &[Page], algorithm: Algorithm) -> Result<Self, Box<dyn Error>> {
        let disk = Self::new(pages.len(), algorithm)?;
        for (at, page) in (0..).zip(pages) {
            disk.write(at, page);
        }
        Ok(disk)
    }

    fn span(&self, at: u32) -> Span {
        Span::new(u64::from(at) * PAGE_SIZE as u64, PAGE_SIZE as u64, self.size)
            .expect("the page lies on the disk")
    }

    /// Writes a page. An error ends the benchmark.
    pub(crate) fn write(&self, at: u32, page: &Page) {
        self.zram.write(self.span(at), &page[..]).expect("there is room and the codec works");
    }

    /// Reads a page. An error ends the benchmark.
    pub(crate) fn read(&self, at: u32, page: &mut Page) {
        self.zram.read(self.span(at), &mut page[..]).expect("what was written can be read");
    }

    /// Discards a page.
    pub(crate) fn discard(&self, at: u32) {
        self.zram.discard(self.span(at)).expect("the disk is writable");
    }

    /// Returns the pool of the device.
    pub(crate) fn pool(&self) -> &Arc<Pool> {
        self.zram.pool()
    }

    /// Compacts objects without a time limit.
    pub(crate) fn compact(&self) -> Compaction {
        self.zram.compact(&Budget::unlimited())
    }

    /// Returns the size of the frames of zspages. Units: bytes.
    pub(crate) fn used(&self) -> u64 {
        self.zram.stat().mm.mem_used_total
    }

    /// Returns the device's count of all its memory. Units: bytes.
    pub(crate) fn total(&self) -> u64 {
        self.zram.stat().memory.mem_total
    }

    /// Returns the device's count of live bytes.
    pub(crate) fn live(&self) -> u64 {
        self.zram.stat().memory.live
    }
}

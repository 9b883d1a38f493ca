//! A zram device used in process, page by page.

use std::error::Error;
use std::sync::Arc;

use block::{BlockDevice, Bytes, Span};
use testkit::{PAGE_SIZE, Page};
use zcomp::Algorithm;
use zram::{Zram, ZramConfig};
use zsmalloc::{Budget, Compaction, Pool};

/// A device that holds exactly `len` pages.
pub struct Disk {
    zram: Zram,
    size: Bytes,
}

impl Disk {
    /// An empty device.
    pub fn new(len: usize, algorithm: Algorithm) -> Result<Self, Box<dyn Error>> {
        let size = Bytes((len * PAGE_SIZE) as u64);
        Ok(Self { zram: Zram::new(ZramConfig { algorithm, ..ZramConfig::new(size) })?, size })
    }

    /// A device with `pages` in their order.
    pub fn filled(pages: &[Page], algorithm: Algorithm) -> Result<Self, Box<dyn Error>> {
        let disk = Self::new(pages.len(), algorithm)?;
        for (at, page) in (0..).zip(pages) {
            disk.write(at, page);
        }
        Ok(disk)
    }

    fn span(&self, at: u32) -> Span {
        Span::new(u64::from(at) * PAGE_SIZE as u64, PAGE_SIZE as u64, self.size)
            .expect("the benchmark knows its disk")
    }

    /// Writes one page. A store that fails has no speed, so it ends the benchmark.
    pub fn write(&self, at: u32, page: &Page) {
        self.zram.write(self.span(at), &page[..]).expect("there is room and the codec works");
    }

    /// Reads one page.
    pub fn read(&self, at: u32, page: &mut Page) {
        self.zram.read(self.span(at), &mut page[..]).expect("what was written can be read");
    }

    /// Forgets one page.
    pub fn discard(&self, at: u32) {
        self.zram.discard(self.span(at)).expect("the disk is writable");
    }

    /// The pool underneath.
    pub fn pool(&self) -> &Arc<Pool> {
        self.zram.pool()
    }

    /// Object compaction, as long as it takes.
    pub fn compact(&self) -> Compaction {
        self.zram.compact(&Budget::unlimited())
    }

    /// Bytes of the frames that belong to zspages.
    pub fn used(&self) -> u64 {
        self.zram.stat().mm.mem_used_total
    }

    /// Bytes of everything, as the device counts it.
    pub fn total(&self) -> u64 {
        self.zram.stat().memory.mem_total
    }

    /// Live bytes, as the device counts them.
    pub fn live(&self) -> u64 {
        self.zram.stat().memory.live
    }
}

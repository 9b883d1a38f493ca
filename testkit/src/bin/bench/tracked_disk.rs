//! A store with known content, and the steps that memzip and the kernel's zram execute alike:
//! discard, overwrite, compact.

use std::error::Error;
use std::sync::Arc;

use fastrand::Rng;
use testkit::{PAGE_SIZE, Page, permutation};
use zcomp::Algorithm;
use zsmalloc::{ChainRule, Compaction, Pool, SizeClasses};

use crate::codec;
use crate::disk::Disk;
use crate::zram_device::KernelZram;

const LZ4: Algorithm = Algorithm::Lz4 { acceleration: 1 };

/// A store whose pages can be discarded.
pub(crate) trait Store {
    /// Discards a page.
    fn discard_page(&self, at: u32) -> std::io::Result<()>;
}

impl Store for Disk {
    fn discard_page(&self, at: u32) -> std::io::Result<()> {
        self.discard(at);
        Ok(())
    }
}

impl Store for KernelZram {
    fn discard_page(&self, at: u32) -> std::io::Result<()> {
        self.discard(at)
    }
}

/// Discards `percent` of the pages and returns them. The same percentage chooses the same pages in
/// any store.
pub(crate) fn discard_at_random(
    store: &impl Store,
    len: usize,
    percent: u64,
) -> Result<Vec<u32>, Box<dyn Error>> {
    let mut order = permutation(u32::try_from(len)?, percent);
    order.truncate((order.len() as u64 * percent / 100) as usize);
    order.iter().try_for_each(|&at| store.discard_page(at))?;
    Ok(order)
}

/// Chooses an overwrite: the page of the disk and its new content.
pub(crate) fn choose_overwrite(len: usize, rng: &mut Rng) -> (u32, u32) {
    (rng.usize(..len) as u32, rng.usize(..len) as u32)
}

/// A memzip device and its expected content.
pub(crate) struct TrackedDisk<'a> {
    disk: Disk,
    pages: &'a [Page],
    /// Stored length of every page of `pages`. Units: bytes.
    lengths: Vec<u64>,
    /// The page of `pages` in every page of the disk.
    held: Vec<Option<u32>>,
}

impl<'a> TrackedDisk<'a> {
    /// Creates a device filled with these pages.
    pub(crate) fn new(pages: &'a [Page]) -> Result<Self, Box<dyn Error>> {
        let classes = SizeClasses::new(frames::MAX_CHAIN, ChainRule::LeastWaste);
        // A page that does not fit below the huge class is stored raw, which is a page of live
        // bytes, as in the kernel.
        let stored = |len: u64| {
            if len > classes.largest_with_header() as u64 { PAGE_SIZE as u64 } else { len }
        };
        let lengths = codec::lengths(LZ4, pages)?.into_iter().map(stored).collect();
        let held = (0..u32::try_from(pages.len())?).map(Some).collect();
        Ok(Self { disk: Disk::filled(pages, LZ4)?, pages, lengths, held })
    }

    /// Returns the live bytes, added up from the bare codec's lengths.
    pub(crate) fn live(&self) -> u64 {
        self.held.iter().flatten().map(|&page| self.lengths[page as usize]).sum()
    }

    /// Returns live bytes over the bytes of zspages' frames: the original's frag ratio.
    pub(crate) fn density(&self) -> f64 {
        self.live() as f64 / self.disk.used().max(1) as f64
    }

    /// Discards `percent` of the pages.
    pub(crate) fn discard_at_random(&mut self, percent: u64) -> Result<(), Box<dyn Error>> {
        for at in discard_at_random(&self.disk, self.held.len(), percent)? {
            self.held[at as usize] = None;
        }
        Ok(())
    }

    /// Compacts objects without a time limit.
    pub(crate) fn compact(&self) -> Compaction {
        self.disk.compact()
    }

    /// Makes a random overwrite and returns the change of the live bytes.
    pub(crate) fn overwrite_one(&mut self, rng: &mut Rng) -> i64 {
        let (at, source) = choose_overwrite(self.held.len(), rng);
        self.disk.write(at, &self.pages[source as usize]);
        let old = self.held[at as usize].replace(source);
        let len = |page: u32| self.lengths[page as usize].cast_signed();
        len(source) - old.map_or(0, len)
    }

    /// Returns the device.
    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Returns the pool of the device.
    pub(crate) fn pool(&self) -> &Arc<Pool> {
        self.disk.pool()
    }

    /// Returns a note when the store's count of live bytes differs from the benchmark's.
    pub(crate) fn remark(&self) -> String {
        let (counted, ours) = (self.disk.live(), self.live());
        if counted == ours {
            return String::new();
        }
        format!("the store counts {counted} live bytes, the bare codec's lengths sum up to {ours}")
    }
}

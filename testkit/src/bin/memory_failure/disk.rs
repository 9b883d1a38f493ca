//! A disk and the expected content of its pages.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use block::{BlockDevice, BlockError, Bytes, Span};
use frames::{Pfn, Zone};
use sys::Backing;
use sys::memory_failure::Injection;
use testkit::PAGE_SIZE;
use zcomp::Algorithm;
use zram::{Budget, Zram, ZramConfig};

use crate::content::{Content, Kind, MARK, MARK_AT};
use crate::kernel::{self, FailureMode, TestResult};

/// Pages of the disk: more than are ever written, so that a balloon can inflate.
pub(crate) const PAGES: u64 = 12_288;
/// Frames of the cache of hot pages.
pub(crate) const HOT: u64 = 256;

/// A disk and its expected content.
pub(crate) struct Disk {
    zram: Zram,
    /// Address of the arena.
    arena: u64,
    /// Content of each page; `None` for zeros.
    pages: Vec<Option<Content>>,
    next_seed: u64,
    /// Number of reads that returned the expected bytes.
    verified: AtomicU64,
}

impl Disk {
    /// Creates an empty disk on an arena of this backing.
    pub(crate) fn new(backing: Backing) -> TestResult<Self> {
        let (algorithm, hot_cache) =
            (Algorithm::Lz4 { acceleration: 1 }, Some(Bytes(HOT * PAGE_SIZE as u64)));
        let config = ZramConfig {
            algorithm,
            hot_cache,
            backing,
            ..ZramConfig::new(Bytes(PAGES * PAGE_SIZE as u64))
        };
        let zram = Zram::new(config).map_err(text)?;
        let arena = kernel::mapping(zram.zone().capacity().bytes())?;
        Ok(Self {
            zram,
            arena,
            pages: vec![None; PAGES as usize],
            next_seed: 1,
            verified: AtomicU64::new(0),
        })
    }

    /// Returns the zone of the disk.
    pub(crate) fn zone(&self) -> &Zone {
        self.zram.zone()
    }

    /// Returns the device.
    pub(crate) fn zram(&self) -> &Zram {
        &self.zram
    }

    /// Returns the number of reads so far that returned the expected bytes.
    pub(crate) fn verified(&self) -> u64 {
        // Relaxed: a count.
        self.verified.load(Ordering::Relaxed)
    }

    /// Returns whether a page was written since it was last discarded.
    pub(crate) fn is_written(&self, number: u64) -> bool {
        self.pages[number as usize].is_some()
    }

    /// Writes new content of this kind to a page.
    pub(crate) fn write(&mut self, number: u64, kind: Kind) -> TestResult<()> {
        let content = Content::new(kind, (number << 24) | self.next_seed);
        self.next_seed += 1;
        let mut page = [0; PAGE_SIZE];
        content.fill(&mut page);
        self.zram
            .write(span(number, 0, PAGE_SIZE), &page)
            .map_err(|error| format!("write of page {number}: {error}"))?;
        self.pages[number as usize] = Some(content);
        Ok(())
    }

    /// Writes a part of a page, which reads the rest of the page and makes it hot.
    pub(crate) fn mark(&mut self, number: u64) -> Result<(), BlockError> {
        self.zram.write(span(number, MARK_AT, MARK.len()), &MARK)?;
        if let Some(content) = &mut self.pages[number as usize] {
            content.is_marked = true;
        }
        Ok(())
    }

    /// Discards a page.
    pub(crate) fn discard(&mut self, number: u64) -> TestResult<()> {
        self.zram
            .discard(span(number, 0, PAGE_SIZE))
            .map_err(|error| format!("discard of page {number}: {error}"))?;
        self.pages[number as usize] = None;
        Ok(())
    }

    /// Reads all pages of a range and returns the lost ones.
    ///
    /// # Errors
    /// When a page reads as other bytes than expected, or an error other than its own is
    /// reported.
    pub(crate) fn lost(&self, range: Range<u64>) -> TestResult<Vec<u64>> {
        let (mut lost, mut page, mut expected) = (Vec::new(), [0; PAGE_SIZE], [0; PAGE_SIZE]);
        for number in range {
            // Neither zeros nor the previous content, so that a read that copies nothing is
            // detected.
            page.fill(0xA5);
            match self.zram.read(span(number, 0, PAGE_SIZE), &mut page) {
                Ok(()) => {
                    expected.fill(0);
                    self.pages[number as usize]
                        .iter()
                        .for_each(|content| content.fill(&mut expected));
                    if page != expected {
                        return Err(format!(
                            "page {number} is not what was written: {}",
                            described(&page)
                        ));
                    }
                    // Relaxed: a count.
                    self.verified.fetch_add(1, Ordering::Relaxed);
                }
                Err(BlockError::Damaged { offset }) if offset == number * PAGE_SIZE as u64 => {
                    lost.push(number)
                }
                Err(error) => return Err(format!("read of page {number}: {error}")),
            }
        }
        Ok(lost)
    }

    /// Reads all pages. Fails unless exactly the pages `lost` are lost.
    pub(crate) fn verify(&self, lost: &[u64], when: &str) -> TestResult<()> {
        let found = self.lost(0..PAGES).map_err(|error| format!("{when}: {error}"))?;
        if found != lost {
            return Err(format!("{when}: {} pages are lost, not {}", found.len(), lost.len()));
        }
        self.check(when)
    }

    /// Checks the invariants of the device and of its zone.
    pub(crate) fn check(&self, when: &str) -> TestResult<()> {
        self.zram.check().map_err(|error| format!("{when}: {error}"))?;
        self.zone().check().map_err(|error| format!("{when}: {error}"))
    }

    /// Returns the frames in use.
    pub(crate) fn frames(&self) -> BTreeSet<u32> {
        let zone = self.zone();
        (0..zone.capacity().0 as u32).filter(|&number| zone.get(Pfn(number)).is_some()).collect()
    }

    /// Compacts objects, then frames. Returns how many of each moved.
    pub(crate) fn compact(&self) -> (u64, u64) {
        let objects = self.zram.compact(&Budget::unlimited()).objects_moved;
        (objects, self.zram.compact_frames(&Budget::unlimited()).frames_moved)
    }

    /// Makes the kernel report a failure of a frame's memory.
    pub(crate) fn fail(&self, frame: u32, mode: FailureMode) -> TestResult<()> {
        match mode {
            FailureMode::Madvise => self.inject(frame, Injection::Hwpoison),
            FailureMode::OnAccess | FailureMode::AtOnce => {
                kernel::hard_offline(self.arena + u64::from(frame) * PAGE_SIZE as u64)
            }
        }
    }

    /// Makes the kernel move the content of a frame to other memory.
    pub(crate) fn replace(&self, frame: u32) -> TestResult<()> {
        self.inject(frame, Injection::SoftOffline)
    }

    fn inject(&self, frame: u32, injection: Injection) -> TestResult<()> {
        let done = self.zone().inject_memory_failure(Pfn(frame), injection);
        done.map_err(|error| format!("{injection:?} of frame {frame}: {error}"))
    }
}

fn span(number: u64, offset: usize, len: usize) -> Span {
    let disk = Bytes(PAGES * PAGE_SIZE as u64);
    Span::new(number * PAGE_SIZE as u64 + offset as u64, len as u64, disk)
        .expect("the span lies inside the disk")
}

fn described(page: &[u8; PAGE_SIZE]) -> &'static str {
    if page.iter().all(|&byte| byte == 0) { "it is zeros" } else { "it is other bytes" }
}

pub(crate) fn text(error: impl Display) -> String {
    error.to_string()
}

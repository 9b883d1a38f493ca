//! The expected content of every page of a disk, against which reads are checked.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::{PAGE_SIZE, Page};

/// The corpus page in each page of the disk: 0 means zeros, `n + 1` means page `n` of the corpus.
///
/// All accesses are `Relaxed`: one connection at a time writes a page of the disk, and the page
/// is checked only after that write was answered. Joining the threads orders everything else.
#[derive(Debug)]
pub struct DiskModel<'a> {
    pages: &'a [Page],
    disk: Vec<AtomicU32>,
}

impl<'a> DiskModel<'a> {
    /// Creates the model of a disk of `size` bytes that holds zeros and is filled from `pages`.
    #[must_use]
    pub fn new(pages: &'a [Page], size: u64) -> Self {
        let len = usize::try_from(size / PAGE_SIZE as u64).unwrap_or(usize::MAX);
        Self { pages, disk: (0..len).map(|_| AtomicU32::new(0)).collect() }
    }

    /// Returns the length of the disk. Units: pages.
    #[must_use]
    pub fn len(&self) -> u32 {
        u32::try_from(self.disk.len()).unwrap_or(u32::MAX)
    }

    /// Returns whether the disk has no page.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.disk.is_empty()
    }

    /// Returns the corpus.
    #[must_use]
    pub fn pages(&self) -> &'a [Page] {
        self.pages
    }

    /// Records that page `at` of the disk holds page `corpus` of the corpus.
    pub fn set(&self, at: u32, corpus: u32) {
        self.disk[at as usize].store(corpus + 1, Ordering::Relaxed);
    }

    /// Records that page `at` of the disk holds zeros.
    pub fn set_zeros(&self, at: u32) {
        self.disk[at as usize].store(0, Ordering::Relaxed);
    }

    /// Returns whether `bytes` are the expected content of page `at`.
    #[must_use]
    pub fn matches(&self, at: u32, bytes: &[u8]) -> bool {
        match self.disk[at as usize].load(Ordering::Relaxed) {
            0 => bytes.iter().all(|&byte| byte == 0),
            corpus => bytes == &self.pages[corpus as usize - 1][..],
        }
    }
}

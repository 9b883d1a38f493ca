//! What every page of a disk must hold, so that every byte read back can be checked.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::{PAGE_SIZE, Page};

/// Which page of the corpus lies in which page of the disk; 0 means zeros, `n + 1` means page `n` of the corpus.
///
/// Relaxed throughout: a page of the disk is written by one connection at a time and checked only after that write was answered;
/// threads meet at joins, which order everything.
#[derive(Debug)]
pub struct DiskModel<'a> {
    pages: &'a [Page],
    disk: Vec<AtomicU32>,
}

impl<'a> DiskModel<'a> {
    /// A disk of `size` bytes full of zeros, to be filled from `pages`.
    #[must_use]
    pub fn new(pages: &'a [Page], size: u64) -> Self {
        let len = usize::try_from(size / PAGE_SIZE as u64).unwrap_or(usize::MAX);
        Self { pages, disk: (0..len).map(|_| AtomicU32::new(0)).collect() }
    }

    /// Units: pages of the disk.
    #[must_use]
    pub fn len(&self) -> u32 {
        u32::try_from(self.disk.len()).unwrap_or(u32::MAX)
    }

    /// Whether the disk has no page.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.disk.is_empty()
    }

    /// The corpus.
    #[must_use]
    pub fn pages(&self) -> &'a [Page] {
        self.pages
    }

    /// Page `at` of the disk now holds page `corpus` of the corpus.
    pub fn set(&self, at: u32, corpus: u32) {
        self.disk[at as usize].store(corpus + 1, Ordering::Relaxed);
    }

    /// Page `at` of the disk now holds zeros.
    pub fn set_zeros(&self, at: u32) {
        self.disk[at as usize].store(0, Ordering::Relaxed);
    }

    /// Whether `bytes` is what page `at` must hold.
    #[must_use]
    pub fn matches(&self, at: u32, bytes: &[u8]) -> bool {
        match self.disk[at as usize].load(Ordering::Relaxed) {
            0 => bytes.iter().all(|&byte| byte == 0),
            corpus => bytes == &self.pages[corpus as usize - 1][..],
        }
    }
}

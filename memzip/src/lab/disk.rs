//! The disk of an experiment, with a record of its expected content.

use anyhow::{Context, Result, bail, ensure};
use block::{BlockDevice, BlockError, Bytes, Span};
use fastrand::Rng;
use zram::{Zram, ZramConfig};

use super::choice;
use super::pages::Pages;
use crate::corpus::PAGE;

/// A compressed disk and its expected content.
#[derive(Debug)]
pub(super) struct Disk<'p> {
    pub(super) zram: Zram,
    pages: &'p Pages,
    /// Index in `pages` of the content of each page of the disk.
    held: Vec<Option<usize>>,
}

impl<'p> Disk<'p> {
    /// Creates an empty disk of `pages.len()` pages, configured as `config` except for the size.
    pub(super) fn new(pages: &'p Pages, config: ZramConfig) -> Result<Self> {
        let config = ZramConfig { size: Bytes((pages.len() * PAGE) as u64), ..config };
        let zram = Zram::new(config)
            .context("cannot make the disk (\"memzip doctor\" shows what this host allows)")?;
        Ok(Self { zram, pages, held: vec![None; pages.len()] })
    }

    /// Creates a disk and writes all pages in order.
    pub(super) fn filled(pages: &'p Pages, config: ZramConfig) -> Result<Self> {
        let mut disk = Self::new(pages, config)?;
        (0..pages.len()).try_for_each(|at| disk.write(at, at))?;
        Ok(disk)
    }

    /// Returns the size of the disk in pages.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Writes a run of pages to their own positions in one request; [`Self::note_run`] records it.
    pub(super) fn write_run(&self, run: std::ops::Range<usize>) -> Result<()> {
        let mut buf = Vec::with_capacity(run.len() * PAGE);
        run.clone().for_each(|page| buf.extend_from_slice(self.pages.get(page)));
        let span = Span::new((run.start * PAGE) as u64, buf.len() as u64, self.zram.size())?;
        self.zram.write(span, &buf).with_context(|| format!("cannot write page {}", run.start))
    }

    /// Records that these pages were written to their own positions.
    pub(super) fn note_run(&mut self, run: std::ops::Range<usize>) {
        run.for_each(|at| self.held[at] = Some(at));
    }

    fn span(&self, at: usize) -> Result<Span> {
        Ok(Span::new((at * PAGE) as u64, PAGE as u64, self.zram.size())?)
    }

    /// Writes page `page` to position `at`.
    pub(super) fn write(&mut self, at: usize, page: usize) -> Result<()> {
        let done = self.zram.write(self.span(at)?, self.pages.get(page));
        done.with_context(|| format!("cannot write page {at}"))?;
        self.held[at] = Some(page);
        Ok(())
    }

    /// Writes the pages in order until the arena is full; returns how many were written.
    ///
    /// # Errors
    /// A write fails for another reason, or all pages fit.
    pub(super) fn fill_until_full(&mut self) -> Result<usize> {
        for at in 0..self.pages.len() {
            match self.zram.write(self.span(at)?, self.pages.get(at)) {
                Ok(()) => self.held[at] = Some(at),
                Err(BlockError::NoSpace { .. }) => return Ok(at),
                Err(error) => return Err(error).with_context(|| format!("cannot write page {at}")),
            }
        }
        bail!(
            "all pages fit, but the experiment needs a full arena: choose a larger --size or files that compress less"
        )
    }

    /// Discards one page.
    pub(super) fn discard(&mut self, at: usize) -> Result<()> {
        self.zram.discard(self.span(at)?).with_context(|| format!("cannot discard page {at}"))?;
        self.held[at] = None;
        Ok(())
    }

    /// Discards `percent` of the first `len` pages, chosen at random.
    pub(super) fn discard_some(&mut self, rng: &mut Rng, len: usize, percent: usize) -> Result<()> {
        choice::choose(rng, len, percent).into_iter().try_for_each(|page| self.discard(page))
    }

    /// Returns whether a page has content.
    pub(super) fn holds(&self, at: usize) -> bool {
        self.held[at].is_some()
    }

    /// Returns the stored bytes.
    pub(super) fn content(&self) -> u64 {
        self.zram.stat().mm.compr_data_size
    }

    /// Returns stored bytes over bytes of the frames they take: the ratio of the original's tables.
    pub(super) fn ratio(&self) -> f64 {
        let mm = self.zram.stat().mm;
        mm.compr_data_size as f64 / mm.mem_used_total.max(1) as f64
    }

    /// Compares the whole disk byte for byte and checks the book-keeping; returns the page count.
    ///
    /// # Errors
    /// A page differs, or the book-keeping is inconsistent.
    pub(super) fn verify(&self) -> Result<usize> {
        self.compare()?;
        // The check accounts for every frame of the zone, so no other owner may have frames now.
        self.zram.check().context("the disk's book-keeping is inconsistent")?;
        Ok(self.held.len())
    }

    /// Compares all pages; a page without content must read as zeros.
    pub(super) fn compare(&self) -> Result<()> {
        let (mut buf, zeros) = (vec![0; PAGE], vec![0; PAGE]);
        for (at, held) in self.held.iter().enumerate() {
            let done = self.zram.read(self.span(at)?, &mut buf);
            done.with_context(|| format!("cannot read page {at}"))?;
            let expected = held.map_or(&zeros[..], |page| self.pages.get(page));
            ensure!(buf == expected, "page {at} differs from what was written");
        }
        Ok(())
    }
}

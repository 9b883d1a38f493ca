//! The disk of an experiment: page by page, with the content it must have beside it.

use anyhow::{Context, Result, bail, ensure};
use block::{BlockDevice, BlockError, Bytes, Span};
use zram::{Zram, ZramConfig};

use super::pages::Pages;
use crate::corpus::PAGE;

/// A compressed disk, and what was written to it.
#[derive(Debug)]
pub(super) struct Disk<'p> {
    pub(super) zram: Zram,
    pages: &'p Pages,
    /// Which page of `pages` lies in every page of the disk.
    held: Vec<Option<usize>>,
}

impl<'p> Disk<'p> {
    /// An empty disk for as many pages as there are; its size is what `config` is given apart from that.
    pub(super) fn new(pages: &'p Pages, config: ZramConfig) -> Result<Self> {
        let config = ZramConfig { size: Bytes((pages.len() * PAGE) as u64), ..config };
        let zram = Zram::new(config)
            .context("cannot make the disk (\"memzip doctor\" shows what this host allows)")?;
        Ok(Self { zram, pages, held: vec![None; pages.len()] })
    }

    /// A disk with all pages in their order, written by this thread.
    pub(super) fn filled(pages: &'p Pages, config: ZramConfig) -> Result<Self> {
        let mut disk = Self::new(pages, config)?;
        (0..pages.len()).try_for_each(|at| disk.write(at, at))?;
        Ok(disk)
    }

    /// Returns how many pages there are.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Writes pages to their places in one request. See [`Self::note_fill`].
    pub(super) fn write_run(&self, run: std::ops::Range<usize>) -> Result<()> {
        let mut buf = Vec::with_capacity(run.len() * PAGE);
        run.clone().for_each(|page| buf.extend_from_slice(self.pages.get(page)));
        let span = Span::new((run.start * PAGE) as u64, buf.len() as u64, self.zram.size())?;
        self.zram.write(span, &buf).with_context(|| format!("cannot write page {}", run.start))
    }

    /// Notes that the first `len` pages were written to their places.
    pub(super) fn note_fill(&mut self, len: usize) {
        self.held.iter_mut().take(len).enumerate().for_each(|(at, held)| *held = Some(at));
    }

    fn span(&self, at: usize) -> Result<Span> {
        Ok(Span::new((at * PAGE) as u64, PAGE as u64, self.zram.size())?)
    }

    /// Writes one of the pages.
    pub(super) fn write(&mut self, at: usize, page: usize) -> Result<()> {
        self.zram
            .write(self.span(at)?, self.pages.get(page))
            .with_context(|| format!("cannot write page {at}"))?;
        self.held[at] = Some(page);
        Ok(())
    }

    /// Writes the pages in their order until there is no room for another. Says how many there were.
    pub(super) fn fill_until_full(&mut self) -> Result<usize> {
        for at in 0..self.pages.len() {
            match self.zram.write(self.span(at)?, self.pages.get(at)) {
                Ok(()) => self.held[at] = Some(at),
                Err(BlockError::NoSpace { .. }) => return Ok(at),
                Err(error) => return Err(error).with_context(|| format!("cannot write page {at}")),
            }
        }
        bail!(
            "all pages found room, and an arena that is not full teaches nothing: choose a larger --size, or files that compress less"
        )
    }

    /// Forgets one page.
    pub(super) fn discard(&mut self, at: usize) -> Result<()> {
        self.zram.discard(self.span(at)?).with_context(|| format!("cannot discard page {at}"))?;
        self.held[at] = None;
        Ok(())
    }

    /// Returns whether there is anything in a page.
    pub(super) fn holds(&self, at: usize) -> bool {
        self.held[at].is_some()
    }

    /// Stored bytes.
    pub(super) fn content(&self) -> u64 {
        self.zram.stat().mm.compr_data_size
    }

    /// Stored bytes over bytes of the frames they take: the ratio of the original's tables.
    pub(super) fn ratio(&self) -> f64 {
        let mm = self.zram.stat().mm;
        mm.compr_data_size as f64 / mm.mem_used_total.max(1) as f64
    }

    /// Reads the whole disk, compares it byte for byte, and checks the book-keeping. Says how many pages there are.
    pub(super) fn verify(&self) -> Result<usize> {
        self.compare()?;
        // It accounts for every frame of the zone: none may belong to another owner now.
        self.zram.check().context("the disk's book-keeping does not add up")?;
        Ok(self.held.len())
    }

    /// Compares what was kept and, as zeros, what was not.
    pub(super) fn compare(&self) -> Result<()> {
        let (mut buf, zeros) = (vec![0; PAGE], vec![0; PAGE]);
        for (at, held) in self.held.iter().enumerate() {
            self.zram
                .read(self.span(at)?, &mut buf)
                .with_context(|| format!("cannot read page {at}"))?;
            let expected = held.map_or(&zeros[..], |page| self.pages.get(page));
            ensure!(buf == expected, "page {at} came back different from what was written");
        }
        Ok(())
    }
}

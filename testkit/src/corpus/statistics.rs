//! lz4 statistics of a set of pages, which decide whether it is fit for a benchmark.

use std::fmt;

use lzzzz::lz4;

use crate::{PAGE_SIZE, Page};

/// Upper ends of the histogram's buckets; the last is for pages that did not shrink.
/// Units: bytes of lz4 output for a page.
const BUCKET_ENDS: [usize; 11] =
    [256, 512, 1024, 1536, 2048, 2560, 3072, 3276, 3686, 4095, usize::MAX];

/// The lz4 sizes of a set of pages.
#[derive(Clone, Debug)]
pub struct Statistics {
    /// Number of pages measured.
    pub pages: usize,
    /// Compressed bytes of all pages; a page that does not shrink counts as a whole page.
    pub compressed: u64,
    /// Number of compressed sizes in each bucket, by upper end.
    pub buckets: [usize; 11],
}

impl Statistics {
    /// Compresses every page with lz4 (acceleration 1) and counts the sizes.
    #[must_use]
    pub fn measure(pages: &[Page]) -> Self {
        let mut statistics = Self { pages: pages.len(), compressed: 0, buckets: [0; 11] };
        let mut scratch = [0; PAGE_SIZE + PAGE_SIZE / 128];
        for page in pages {
            let len = lz4::compress(&page[..], &mut scratch, lz4::ACC_LEVEL_DEFAULT)
                .unwrap_or(usize::MAX);
            statistics.compressed += len.min(PAGE_SIZE) as u64;
            statistics.buckets
                [BUCKET_ENDS.partition_point(|&end| end < len).min(BUCKET_ENDS.len() - 1)] += 1;
        }
        statistics
    }

    /// Returns original bytes over compressed bytes.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        (self.pages * PAGE_SIZE) as f64 / (self.compressed.max(1)) as f64
    }

    /// Returns the share of pages that lz4 cannot shrink, 0.0 to 1.0.
    #[must_use]
    pub fn incompressible(&self) -> f64 {
        self.buckets[10] as f64 / self.pages.max(1) as f64
    }

    /// Returns whether the set may stand for real data in a benchmark: at least 0.5 GiB, an lz4
    /// ratio of 1.6 to 2.4, and at most 10 % incompressible pages.
    #[must_use]
    pub fn is_fit(&self) -> bool {
        self.pages * PAGE_SIZE >= 512 << 20
            && (1.6..=2.4).contains(&self.ratio())
            && self.incompressible() <= 0.10
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |count: usize| 100.0 * count as f64 / self.pages.max(1) as f64;
        write!(
            out,
            "{:>7} pages, {:>4} MiB, lz4 ratio {:.3}",
            self.pages,
            (self.pages * PAGE_SIZE) >> 20,
            self.ratio()
        )?;
        write!(
            out,
            ", {:.1} % incompressible; % of pages by lz4 size",
            100.0 * self.incompressible()
        )?;
        for (end, &count) in BUCKET_ENDS.iter().zip(&self.buckets) {
            match end {
                &usize::MAX => write!(out, " more {:.1}", percent(count))?,
                end => write!(out, " <={end} {:.1}", percent(count))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;
    use crate::sample;

    #[test]
    fn noise_is_incompressible_and_real_pages_are_not() {
        let mut rng = Rng::with_seed(1);
        let noise: Vec<Page> =
            (0..8).map(|_| Page::new(std::array::from_fn(|_| rng.u8(..)))).collect();
        let statistics = Statistics::measure(&noise);
        assert_eq!((statistics.incompressible(), statistics.ratio()), (1.0, 1.0));
        let real = Statistics::measure(&sample(64, 1));
        assert!(real.ratio() > 1.2 && real.incompressible() < 0.5, "{real}");
        assert_eq!(real.buckets.iter().sum::<usize>(), real.pages);
        assert!(!real.is_fit(), "64 pages are too few for a benchmark");
    }
}

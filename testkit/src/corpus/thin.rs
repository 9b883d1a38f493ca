//! Evenly spaced selection of pages.

/// Pages that stay together when a source is thinned: 1 MiB, so that neighbours remain
/// neighbours.
pub(crate) const RUN_PAGES: usize = 256;

/// Returns the runs of pages to keep so that at most `cap` of `total` remain, evenly spaced.
pub(crate) fn runs(total: usize, cap: usize) -> Vec<std::ops::Range<usize>> {
    if total <= cap {
        return std::iter::once(0..total).filter(|run| !run.is_empty()).collect();
    }
    let kept = cap.div_ceil(RUN_PAGES);
    let mut left = cap;
    (0..kept)
        .map(|index| {
            let len = left.min(RUN_PAGES);
            left -= len;
            // The spacing total / kept is at least RUN_PAGES, or there is one run: runs never
            // overlap.
            let start = index * total.saturating_sub(len) / kept;
            start..start + len
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{RUN_PAGES, runs};

    #[test]
    fn a_small_source_is_kept_whole() {
        assert_eq!(runs(10, 100), vec![0..10]);
        assert!(runs(0, 100).is_empty());
    }

    #[test]
    fn a_large_source_is_thinned_evenly_to_the_cap() {
        let kept = runs(100_000, 1000);
        assert_eq!(kept.iter().map(ExactSizeIterator::len).sum::<usize>(), 1000);
        assert!(kept.iter().all(|run| run.end <= 100_000 && run.len() <= RUN_PAGES));
        assert!(kept.last().is_some_and(|run| run.start > 50_000));
        assert!(kept.windows(2).all(|pair| pair[0].end <= pair[1].start));
    }
}

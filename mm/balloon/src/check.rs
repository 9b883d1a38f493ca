//! Consistency checks of a balloon.

use frames::{FrameCount, Order, Pfn};
use thiserror::Error;

use crate::balloon::Balloon;
use crate::host::FrameRange;

/// An inconsistency of a balloon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CheckError {
    /// The balloon's records name a frame that is free.
    #[error("the balloon holds {pfn}, which is free")]
    Free {
        /// The frame.
        pfn: Pfn,
    },
    /// The balloon's records name a frame twice.
    #[error("the balloon holds {pfn} twice")]
    Twice {
        /// The frame.
        pfn: Pfn,
    },
    /// The totals of inflated and deflated frames do not fit the current size.
    #[error(
        "{inflated} frames were inflated and {deflated} deflated, but the balloon has {actual}"
    )]
    Count {
        /// The total of inflated frames.
        inflated: u64,
        /// The total of deflated frames.
        deflated: u64,
        /// The current size.
        actual: FrameCount,
    },
}

impl Balloon {
    /// Returns all ranges that the host should have, in ascending order.
    ///
    /// Locking: the pages lock.
    #[must_use]
    pub fn ranges(&self) -> Vec<FrameRange> {
        let inner = self.inner.lock();
        let singles = inner.list.iter().chain(inner.isolated.iter()).map(FrameRange::frame);
        let mut ranges: Vec<_> = inner.blocks().map(FrameRange::block).chain(singles).collect();
        ranges.sort_unstable();
        ranges
    }

    /// Checks the balloon's records. No other thread may use the balloon meanwhile.
    ///
    /// # Errors
    /// [`CheckError`] names the first inconsistency.
    pub fn check(&self) -> Result<(), CheckError> {
        // Every range is in use and begins behind the end of the one before.
        let (ranges, mut end) = (self.ranges(), 0);
        for range in &ranges {
            let (pfn, first) = (range.first, u64::from(range.first.0));
            if first < end {
                return Err(CheckError::Twice { pfn });
            }
            if self.zone.get(pfn).is_none() {
                return Err(CheckError::Free { pfn });
            }
            end = first + range.frames().0;
        }
        // The totals fit the size.
        let stats = self.stats();
        let sum = ranges.iter().filter(|range| range.order == Order::SINGLE).count() as u64;
        if stats.inflated_total - stats.deflated_total != stats.actual.0 || sum != stats.frames.0 {
            let (inflated, deflated) = (stats.inflated_total, stats.deflated_total);
            return Err(CheckError::Count { inflated, deflated, actual: stats.actual });
        }
        Ok(())
    }
}

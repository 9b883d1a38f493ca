//! The balloon's equations.

use frames::{FrameCount, Order, Pfn};
use thiserror::Error;

use crate::balloon::Balloon;
use crate::host::FrameRange;

/// What is wrong in a balloon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CheckError {
    /// The balloon says it holds a frame that is free.
    #[error("the balloon holds {pfn}, which is free")]
    Free {
        /// Which.
        pfn: Pfn,
    },
    /// The balloon says it holds a frame twice.
    #[error("the balloon holds {pfn} twice")]
    Twice {
        /// Which.
        pfn: Pfn,
    },
    /// What went in and what came out do not make what is there.
    #[error("{inflated} frames went in and {deflated} came out, but {actual} are there")]
    Count {
        /// Ever inflated.
        inflated: u64,
        /// Ever deflated.
        deflated: u64,
        /// There now.
        actual: FrameCount,
    },
}

impl Balloon {
    /// Everything the host should have, by number, ascending.
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

    /// Proves that the balloon's books agree with each other and with the zone. For tests and for doubts: nobody else may be inside meanwhile.
    ///
    /// # Errors
    /// [`CheckError`].
    pub fn check(&self) -> Result<(), CheckError> {
        let ranges = self.ranges();
        for (range, next) in ranges.iter().zip(ranges.iter().skip(1).map(Some).chain([None])) {
            if self.zone.get(range.first).is_none() {
                return Err(CheckError::Free { pfn: range.first });
            }
            let end = u64::from(range.first.0) + range.frames().0;
            if let Some(next) = next
                && u64::from(next.first.0) < end
            {
                return Err(CheckError::Twice { pfn: next.first });
            }
        }
        let stats = self.stats();
        let sum = ranges.iter().filter(|range| range.order == Order::SINGLE).count() as u64;
        if stats.inflated_total - stats.deflated_total != stats.actual.0 || sum != stats.frames.0 {
            let (inflated, deflated) = (stats.inflated_total, stats.deflated_total);
            return Err(CheckError::Count { inflated, deflated, actual: stats.actual });
        }
        Ok(())
    }
}

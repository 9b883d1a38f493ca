//! The balloon's equations.

use frames::{FrameCount, Order, Pfn};
use thiserror::Error;

use crate::balloon::Balloon;
use crate::host::Piece;

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
    pub fn pieces(&self) -> Vec<Piece> {
        let held = self.held.lock();
        let singles = held.list.iter().chain(held.isolated.iter()).map(Piece::frame);
        let mut pieces: Vec<_> = held.blocks().map(Piece::block).chain(singles).collect();
        pieces.sort_unstable();
        pieces
    }

    /// Proves that the balloon's books agree with each other and with the zone. For tests and for doubts: nobody else may be inside meanwhile.
    ///
    /// # Errors
    /// [`CheckError`].
    pub fn check(&self) -> Result<(), CheckError> {
        let pieces = self.pieces();
        for (piece, next) in pieces.iter().zip(pieces.iter().skip(1).map(Some).chain([None])) {
            if self.zone.get(piece.first).is_none() {
                return Err(CheckError::Free { pfn: piece.first });
            }
            let end = u64::from(piece.first.0) + piece.frames().0;
            if let Some(next) = next
                && u64::from(next.first.0) < end
            {
                return Err(CheckError::Twice { pfn: next.first });
            }
        }
        let stats = self.stats();
        let sum = pieces.iter().filter(|piece| piece.order == Order::SINGLE).count() as u64;
        if stats.inflated_total - stats.deflated_total != stats.actual.0 || sum != stats.frames.0 {
            let (inflated, deflated) = (stats.inflated_total, stats.deflated_total);
            return Err(CheckError::Count { inflated, deflated, actual: stats.actual });
        }
        Ok(())
    }
}

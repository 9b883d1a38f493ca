//! Memory that leaves the process while its frames stay in use: what a balloon does.
//!
//! ```text
//!  in use, with memory --discard--> in use, without --drop--> free; zeros when it is next touched
//! ```
//! The frames keep their owner, so nobody else gets them and they count against the limit; only the bytes behind them are gone.
//!
//! # Invariants
//! - INV-LEND-1: only the bytes of a frame whose one reference the caller holds *as a value* are given away. An extent holds its frames by number, and
//!   that number is a reference too; so a frame with one reference, held as a value, is in no extent and nobody can reach its bytes.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use thiserror::Error;

use crate::error::AllocError;
use crate::frame::{Block, Frame};
use crate::migrate::Target;
use crate::reclaim::Reclaim;
use crate::units::{FrameCount, MigrateType, Order, Pfn};
use crate::zone::Zone;

/// Why memory stayed. The frames are their owner's as before; each byte of them is as it was, or zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LendError {
    /// Somebody else has a reference to the frame, so its bytes are not the caller's alone.
    #[error("{pfn} has another owner besides")]
    Shared {
        /// Which.
        pfn: Pfn,
    },
    /// The OS did not take it.
    #[error(transparent)]
    Refused(#[from] sys::MapError),
}

impl Frame<'_> {
    /// Gives the memory of these frames back to the OS, neighbours together; they read as zeros afterwards. The frames stay in use.
    ///
    /// It sorts them by number. Memory below a huge page breaks it up: whole [`OwnedBlock`]s are better where they can be had.
    ///
    /// # Errors
    /// [`LendError`]. Some may have gone before one was refused; that is harmless, since the bytes were nobody's.
    pub fn discard_all(frames: &mut [Frame<'_>]) -> Result<(), LendError> {
        frames.sort_unstable_by_key(Frame::pfn);
        for run in frames.chunk_by(|a, b| a.pfn().plus(1) == b.pfn() && std::ptr::eq(a.zone(), b.zone())) {
            run.iter().try_for_each(|frame| alone(frame.zone(), frame.pfn()))?;
            // A run is at most all frames of a zone, which are fewer than u32::MAX.
            run[0].zone().arena().give_back(run[0].pfn(), run.len() as u32)?;
        }
        Ok(())
    }
}

impl Target<'_> {
    /// Gives the memory of the target back to the OS: for owners whose frames have none.
    ///
    /// # Errors
    /// [`LendError`].
    pub fn discard(&mut self) -> Result<(), LendError> {
        alone(self.zone(), self.pfn())?;
        Ok(self.zone().arena().give_back(self.pfn(), 1)?)
    }
}

/// How many frames in use an owner has lent to the host: a part of [`ZoneStats::lent`](crate::ZoneStats::lent). Dropping it counts them as held again.
#[derive(Debug)]
pub struct Lent {
    zone: Arc<Zone>,
    frames: AtomicU64,
}

/// The sum over all owners. Not a modelled atomic: statistics order nothing.
#[derive(Debug, Default)]
pub(crate) struct LentTotal(AtomicU64);

impl LentTotal {
    pub(crate) fn get(&self) -> FrameCount {
        // Relaxed: a statistic; so for the rest.
        FrameCount(self.0.load(Relaxed))
    }
}

impl Zone {
    /// Nothing lent yet, by an owner who is going to.
    #[must_use]
    pub fn lending(self: &Arc<Self>) -> Lent {
        Lent { zone: Arc::clone(self), frames: AtomicU64::new(0) }
    }
}

impl Lent {
    /// The host has the memory of so many frames more.
    pub fn add(&self, frames: FrameCount) {
        self.frames.fetch_add(frames.0, Relaxed);
        self.zone.lent.0.fetch_add(frames.0, Relaxed);
    }

    /// It has the memory of so many frames less. Said before the frames become free.
    ///
    /// # Panics
    /// When it never had so many: the owner counts wrongly, and so would the zone.
    pub fn remove(&self, frames: FrameCount) {
        let less = self.frames.fetch_update(Relaxed, Relaxed, |lent| lent.checked_sub(frames.0));
        assert!(less.is_ok() || std::thread::panicking(), "{frames} come back, but only {:?} were lent", less);
        self.zone.lent.0.fetch_sub(frames.0, Relaxed);
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.zone.lent.0.fetch_sub(*self.frames.get_mut(), Relaxed);
    }
}

/// A [`Block`] that keeps its zone alive instead of borrowing it, for owners that outlive a call. Dropping it frees the frames.
#[derive(Debug)]
#[must_use = "dropping a block gives it back"]
pub struct OwnedBlock {
    zone: Arc<Zone>,
    first: Pfn,
    order: Order,
}

impl Zone {
    /// [`Zone::alloc_block`], for owners that outlive the call.
    ///
    /// # Errors
    /// As [`Zone::alloc_frame`].
    pub fn alloc_owned_block(
        self: &Arc<Self>,
        order: Order,
        migrate_type: MigrateType,
        reclaim: Reclaim,
    ) -> Result<OwnedBlock, AllocError> {
        let block = self.alloc_block(order, migrate_type, reclaim)?;
        let first = block.first();
        // The number is the reference now; `drop` turns it into a block again.
        mem::forget(block);
        Ok(OwnedBlock { zone: Arc::clone(self), first, order })
    }
}

impl OwnedBlock {
    /// The first frame.
    #[must_use]
    pub fn first(&self) -> Pfn {
        self.first
    }

    /// How many frames it has, as a power of two.
    #[must_use]
    pub fn order(&self) -> Order {
        self.order
    }

    /// Gives the memory of the block back to the OS; it reads as zeros afterwards. The frames stay in use.
    ///
    /// # Errors
    /// [`LendError`].
    pub fn discard(&mut self) -> Result<(), LendError> {
        alone(&self.zone, self.first)?;
        Ok(self.zone.arena().give_back(self.first, self.order.frames())?)
    }
}

impl Drop for OwnedBlock {
    fn drop(&mut self) {
        drop(Block::new(&self.zone, self.first, self.order));
    }
}

/// INV-LEND-1. A reference that comes later cannot reach the bytes either: it is a value of its own, and in no extent.
fn alone(zone: &Zone, pfn: Pfn) -> Result<(), LendError> {
    match zone.tables.frames.state(pfn).references() {
        1 => Ok(()),
        _ => Err(LendError::Shared { pfn }),
    }
}

#[cfg(all(test, not(loom)))]
#[path = "lend_tests.rs"]
mod tests;

//! Memory that leaves the process while its frames stay in use: what a balloon does.
//!
//! ```text
//!  in use, with memory --discard--> in use, without --drop--> free; zeros when it is next touched
//! ```
//! The frames keep their owner, so nobody else gets them and they count against the limit; only the bytes behind them are gone.
//!
//! # Invariants
//! - INV-BALLOON-1: only the bytes of a frame whose one reference the caller holds *as a value* are given away. A chain holds its frames by number, and
//!   that number is a reference too; so a frame with one reference, held as a value, is in no chain and nobody can reach its bytes.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use thiserror::Error;

use crate::error::AllocError;
use crate::frame::{Block, Frame};
use crate::migrate::Target;
use crate::reclaim::Reclaim;
use crate::state::State;
use crate::units::{FrameCount, MigrateType, Order, Pfn};
use crate::zone::Zone;

/// Why memory stayed. The frames are their owner's as before; each byte of them is as it was, or zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DiscardError {
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
    /// [`DiscardError`]. Some may have gone before one was refused; that is harmless, since the bytes were nobody's.
    pub fn discard_all(frames: &mut [Frame<'_>]) -> Result<(), DiscardError> {
        frames.sort_unstable_by_key(Frame::pfn);
        for run in
            frames.chunk_by(|a, b| a.pfn().plus(1) == b.pfn() && std::ptr::eq(a.zone(), b.zone()))
        {
            run.iter().try_for_each(|frame| check_sole_reference(frame.zone(), frame.pfn()))?;
            // A run is at most all frames of a zone, which are fewer than u32::MAX.
            run[0].zone().arena().decommit(run[0].pfn(), run.len() as u32)?;
        }
        Ok(())
    }
}

impl Target<'_> {
    /// Gives the memory of the target back to the OS: for owners whose frames have none.
    ///
    /// # Errors
    /// [`DiscardError`].
    pub fn discard(&mut self) -> Result<(), DiscardError> {
        check_sole_reference(self.zone(), self.pfn())?;
        Ok(self.zone().arena().decommit(self.pfn(), 1)?)
    }
}

/// How many frames in use an owner has lent to the host: a part of [`ZoneStats::ballooned`](crate::ZoneStats::ballooned). Dropping it counts them as held again.
#[derive(Debug)]
pub struct BalloonAccount {
    zone: Arc<Zone>,
    frames: AtomicU64,
    record_bytes: AtomicU64,
}

/// The sums over all owners. Not modelled atomics: statistics order nothing.
#[derive(Debug, Default)]
pub(crate) struct BalloonTotals {
    frames: AtomicU64,
    record_bytes: AtomicU64,
}

impl BalloonTotals {
    pub(crate) fn frames(&self) -> FrameCount {
        // Relaxed: a statistic; so for the rest.
        FrameCount(self.frames.load(Relaxed))
    }

    /// Units: bytes.
    pub(crate) fn record_bytes(&self) -> u64 {
        self.record_bytes.load(Relaxed)
    }
}

impl Zone {
    /// Nothing lent yet, by an owner who is going to.
    #[must_use]
    pub fn balloon_account(self: &Arc<Self>) -> BalloonAccount {
        BalloonAccount {
            zone: Arc::clone(self),
            frames: AtomicU64::new(0),
            record_bytes: AtomicU64::new(0),
        }
    }

    /// A frame out of memory the zone holds and nobody uses, lowest pageblock first; `None` when there is none. No memory is begun for it and nobody is
    /// asked to make room: for owners who give memory away, to whom a frame that has none is worth nothing. Frames on per-CPU lists do
    /// not count: [`Zone::drain`] empties them.
    ///
    /// Locking: the zone lock.
    #[must_use]
    pub fn alloc_committed_frame(&self, migrate_type: MigrateType) -> Option<Frame<'_>> {
        self.process_memory_failures();
        let mut buddy = self.buddy.lock();
        let mut taken = [Pfn(0)];
        let count = if buddy.headroom() > 0 {
            buddy.take_committed(&self.tables, migrate_type, &mut taken)
        } else {
            0
        };
        drop(buddy);
        (count == 1).then(|| {
            self.tables.frames.change(taken[0], State::CACHED, State::used(Order::SINGLE));
            Frame::new(self, taken[0])
        })
    }

    /// The same for a whole pageblock; `None` also when the free memory is in pieces.
    ///
    /// Locking: the zone lock.
    #[must_use]
    pub fn alloc_committed_block(
        self: &Arc<Self>,
        migrate_type: MigrateType,
    ) -> Option<OwnedBlock> {
        self.process_memory_failures();
        let order = Order::PAGEBLOCK;
        let mut buddy = self.buddy.lock();
        // Blocks on lists have memory, and a pageblock that is idle is taken before one without memory is begun.
        let whole = self.tables.idle.lowest_outside(&buddy.region).is_some();
        let may = whole && buddy.headroom() >= u64::from(order.frames());
        let first = if may {
            buddy.take_block(&self.tables, migrate_type, order, State::used(order))
        } else {
            None
        };
        first.map(|first| OwnedBlock { zone: Arc::clone(self), first, order })
    }
}

impl BalloonAccount {
    /// The host has the memory of so many frames more.
    pub fn add(&self, frames: FrameCount) {
        self.frames.fetch_add(frames.0, Relaxed);
        self.zone.ballooned.frames.fetch_add(frames.0, Relaxed);
    }

    /// The owner's own records take this many bytes now. They are a part of [`ZoneStats::descriptor_bytes`](crate::ZoneStats::descriptor_bytes).
    pub fn set_record_bytes(&self, bytes: u64) {
        let before = self.record_bytes.swap(bytes, Relaxed);
        // Wrapping, so it may go down as well; the sum over all owners never does below zero.
        self.zone.ballooned.record_bytes.fetch_add(bytes.wrapping_sub(before), Relaxed);
    }

    /// It has the memory of so many frames less. Said before the frames become free.
    ///
    /// # Panics
    /// When it never had so many: the owner counts wrongly, and so would the zone.
    pub fn remove(&self, frames: FrameCount) {
        let less = self.frames.fetch_update(Relaxed, Relaxed, |lent| lent.checked_sub(frames.0));
        assert!(
            less.is_ok() || std::thread::panicking(),
            "{frames} come back, but only {:?} were lent",
            less
        );
        self.zone.ballooned.frames.fetch_sub(frames.0, Relaxed);
    }
}

impl Drop for BalloonAccount {
    fn drop(&mut self) {
        self.zone.ballooned.frames.fetch_sub(*self.frames.get_mut(), Relaxed);
        self.set_record_bytes(0);
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
    /// [`DiscardError`].
    pub fn discard(&mut self) -> Result<(), DiscardError> {
        check_sole_reference(&self.zone, self.first)?;
        Ok(self.zone.arena().decommit(self.first, self.order.frames())?)
    }
}

impl Drop for OwnedBlock {
    fn drop(&mut self) {
        drop(Block::new(&self.zone, self.first, self.order));
    }
}

/// INV-BALLOON-1. A reference that comes later cannot reach the bytes either: it is a value of its own, and in no chain.
fn check_sole_reference(zone: &Zone, pfn: Pfn) -> Result<(), DiscardError> {
    match zone.tables.frames.state(pfn).references() {
        1 => Ok(()),
        _ => Err(DiscardError::Shared { pfn }),
    }
}

#[cfg(all(test, not(loom)))]
#[path = "ballooned_tests.rs"]
mod tests;

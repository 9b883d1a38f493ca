//! Memory that is released to the OS while its frames stay in use, as for a balloon.
//!
//! ```text
//!  in use, with memory --discard--> in use, without --drop--> free; reads as zeros when next used
//! ```
//! The frames keep their owner and count against the limit. Only their memory is gone.
//!
//! # Invariants
//! - INV-BALLOON-1: only the bytes of a frame whose one reference the caller holds *as a value*
//!   are discarded. A chain holds a reference to each of its frames, too. So that frame is in no
//!   chain, and no other thread can reach its bytes.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use thiserror::Error;

use crate::error::AllocError;
use crate::page::State;
use crate::units::{FrameCount, MigrateType, Order, Pfn};
use crate::zone::{Block, Frame, FrameAllocator, Reclaim, Target, Zone};

/// Why memory was not released. The frames still belong to their owner; each byte is unchanged or
/// zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DiscardError {
    /// Another reference to the frame exists, so its bytes are not the caller's alone.
    #[error("{pfn} has references besides the caller's")]
    Shared {
        /// The frame.
        pfn: Pfn,
    },
    /// The OS did not release the memory.
    #[error(transparent)]
    Refused(#[from] sys::MapError),
}

impl Frame<'_> {
    /// Releases the memory of these frames to the OS, sorted by number, neighbours together. They
    /// read as zeros afterwards and stay in use. Releasing part of a huge page splits it: prefer
    /// whole [`OwnedBlock`]s.
    ///
    /// # Errors
    /// [`DiscardError`]. Some memory may have been released before the error.
    pub fn discard_all(frames: &mut [Frame<'_>]) -> Result<(), DiscardError> {
        frames.sort_unstable_by_key(Frame::pfn);
        for run in
            frames.chunk_by(|a, b| a.pfn().plus(1) == b.pfn() && std::ptr::eq(a.zone(), b.zone()))
        {
            run.iter().try_for_each(|frame| {
                check_sole_reference(frame.zone().allocator(), frame.pfn())
            })?;
            // A run is at most all frames of a zone, which are fewer than u32::MAX.
            run[0].zone().allocator().arena.decommit(run[0].pfn(), run.len() as u32)?;
        }
        Ok(())
    }
}

impl Target<'_> {
    /// Releases the memory of the target to the OS: for owners whose frames have none.
    ///
    /// # Errors
    /// [`DiscardError`] when another reference exists or the OS refuses.
    pub fn discard(&mut self) -> Result<(), DiscardError> {
        check_sole_reference(self.allocator(), self.pfn())?;
        Ok(self.allocator().arena.decommit(self.pfn(), 1)?)
    }
}

/// The frames in use whose memory an owner has given to the host: a part of
/// [`ZoneStats::ballooned`](crate::ZoneStats::ballooned). Dropping it subtracts them.
#[derive(Debug)]
pub struct BalloonAccount {
    zone: Arc<Zone>,
    frames: AtomicU64,
    record_bytes: AtomicU64,
}

/// A [`Block`] that keeps its zone alive instead of borrowing it. Dropping it frees the frames.
#[derive(Debug)]
#[must_use = "dropping a block frees it"]
pub struct OwnedBlock {
    zone: Arc<Zone>,
    first: Pfn,
    order: Order,
}

impl Zone {
    /// Creates an account without ballooned frames.
    #[must_use]
    pub fn balloon_account(self: &Arc<Self>) -> BalloonAccount {
        BalloonAccount {
            zone: Arc::clone(self),
            frames: AtomicU64::new(0),
            record_bytes: AtomicU64::new(0),
        }
    }

    /// Allocates a free frame that has memory, from the lowest pageblock; `None` when there is
    /// none. Commits no memory and reclaims none: for owners that give memory to the host. Frames
    /// on per-CPU lists do not count: [`Zone::drain`] empties the lists.
    ///
    /// Locking: takes the zone lock.
    #[must_use]
    pub fn alloc_committed_frame(&self, migrate_type: MigrateType) -> Option<Frame<'_>> {
        let pfn = self.allocator().take_committed(migrate_type)?;
        self.tables().frames.change(pfn, State::CACHED, State::used(Order::SINGLE));
        Some(Frame::new(self, pfn))
    }

    /// Allocates a free pageblock that has memory; `None` also when the free memory is
    /// fragmented.
    ///
    /// Locking: takes the zone lock.
    #[must_use]
    pub fn alloc_committed_block(
        self: &Arc<Self>,
        migrate_type: MigrateType,
    ) -> Option<OwnedBlock> {
        let first = self.allocator().take_committed_block(migrate_type)?;
        Some(OwnedBlock { zone: Arc::clone(self), first, order: Order::PAGEBLOCK })
    }

    /// Allocates a block as [`Zone::alloc_block`] does, for owners that outlive the call.
    ///
    /// # Errors
    /// Those of [`Zone::alloc_frame`].
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

impl BalloonAccount {
    /// Counts frames as ballooned: the host has their memory now.
    pub fn add(&self, frames: FrameCount) {
        self.frames.fetch_add(frames.0, Relaxed);
        self.zone.allocator().ballooned.fetch_add(frames.0, Relaxed);
    }

    /// Sets the size of the owner's own records. They are a part of
    /// [`ZoneStats::descriptor_bytes`](crate::ZoneStats::descriptor_bytes). Units: bytes.
    pub fn set_record_bytes(&self, bytes: u64) {
        let before = self.record_bytes.swap(bytes, Relaxed);
        // Wrapping, so it can also decrease. The sum over all accounts never goes below zero.
        let change = bytes.wrapping_sub(before);
        self.zone.allocator().balloon_record_bytes.fetch_add(change, Relaxed);
    }

    /// Counts frames as no longer ballooned. Call it before the frames become free.
    ///
    /// # Panics
    /// When fewer frames are ballooned: the owner's count is wrong, and the zone's would be.
    pub fn remove(&self, frames: FrameCount) {
        let less = self.frames.fetch_update(Relaxed, Relaxed, |now| now.checked_sub(frames.0));
        assert!(
            less.is_ok() || std::thread::panicking(),
            "{frames} leave the balloon, but it holds only {less:?}"
        );
        self.zone.allocator().ballooned.fetch_sub(frames.0, Relaxed);
    }
}

impl Drop for BalloonAccount {
    fn drop(&mut self) {
        let left = *self.frames.get_mut();
        self.zone.allocator().ballooned.fetch_sub(left, Relaxed);
        self.set_record_bytes(0);
    }
}

impl OwnedBlock {
    /// Returns the first frame.
    #[must_use]
    pub fn first(&self) -> Pfn {
        self.first
    }

    /// Returns the order.
    #[must_use]
    pub fn order(&self) -> Order {
        self.order
    }

    /// Releases the memory of the block to the OS, as [`Frame::discard_all`] does.
    ///
    /// # Errors
    /// [`DiscardError`] when another reference exists or the OS refuses.
    pub fn discard(&mut self) -> Result<(), DiscardError> {
        check_sole_reference(self.zone.allocator(), self.first)?;
        Ok(self.zone.allocator().arena.decommit(self.first, self.order.frames())?)
    }
}

impl Drop for OwnedBlock {
    fn drop(&mut self) {
        drop(Block::new(&self.zone, self.first, self.order));
    }
}

/// Checks INV-BALLOON-1. A later reference is a value, in no chain, and reaches no bytes either.
fn check_sole_reference(allocator: &FrameAllocator, pfn: Pfn) -> Result<(), DiscardError> {
    match allocator.tables.frames.state(pfn).references() {
        1 => Ok(()),
        _ => Err(DiscardError::Shared { pfn }),
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

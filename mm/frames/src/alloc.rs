//! Allocation: the fast path, and what a request does when no frame is free.
//!
//! ```text
//!  fast path   per-CPU list, refilled from the buddy lists
//!  slow path   drain all lists; then, if the request allows it: compact (blocks), call shrinkers
//! ```

use crate::error::AllocError;
use crate::page::State;
use crate::units::{FrameCount, MigrateType, Order, Pfn};
use crate::zone::{Block, Frame, Reclaim, Zone};

/// How often one request reclaims: other requests may take what it freed.
const MAX_RETRIES: u32 = 8;

impl Zone {
    /// Allocates one frame. Consecutive requests of one thread get adjacent frames where possible.
    ///
    /// Locking: one per-CPU list; for every 16 frames also the zone lock; before a refusal, each
    /// list that holds frames.
    ///
    /// # Errors
    /// [`AllocError`] when a limit is reached, the arena has no free frame or the zone is poisoned;
    /// nothing has changed then.
    pub fn alloc_frame(
        &self,
        migrate_type: MigrateType,
        reclaim: Reclaim,
    ) -> Result<Frame<'_>, AllocError> {
        let pfn = alloc_single(self, migrate_type, reclaim, State::used(Order::SINGLE))?;
        Ok(Frame::new(self, pfn))
    }

    /// Allocates a block of adjacent frames.
    ///
    /// Locking: the zone lock; before a refusal, each per-CPU list that holds frames.
    ///
    /// # Errors
    /// As [`Zone::alloc_frame`].
    pub fn alloc_block(
        &self,
        order: Order,
        migrate_type: MigrateType,
        reclaim: Reclaim,
    ) -> Result<Block<'_>, AllocError> {
        let used = State::used(order);
        let first = match self.allocator().take_block(order, migrate_type, used) {
            Some(first) => first,
            None => slow_path(self, order, migrate_type, reclaim, used)?,
        };
        Ok(Block::new(self, first, order))
    }
}

/// Allocates a frozen frame: no thread can get a reference to it until the caller publishes it.
///
/// # Errors
/// As [`Zone::alloc_frame`].
pub(crate) fn alloc_frozen(
    zone: &Zone,
    migrate_type: MigrateType,
    reclaim: Reclaim,
) -> Result<Pfn, AllocError> {
    alloc_single(zone, migrate_type, reclaim, State::FROZEN)
}

fn alloc_single(
    zone: &Zone,
    migrate_type: MigrateType,
    reclaim: Reclaim,
    to: State,
) -> Result<Pfn, AllocError> {
    let Some(pfn) = zone.allocator().pop(migrate_type, &reclaim) else {
        return slow_path(zone, Order::SINGLE, migrate_type, reclaim, to);
    };
    zone.tables().frames.change(pfn, State::CACHED, to);
    Ok(pfn)
}

/// Retries with drained lists, and after compaction or reclaim if the request allows that.
fn slow_path(
    zone: &Zone,
    order: Order,
    migrate_type: MigrateType,
    reclaim: Reclaim,
    to: State,
) -> Result<Pfn, AllocError> {
    let mut tries = 0;
    loop {
        let error = match zone.allocator().alloc_drained(order, migrate_type, to) {
            Ok(pfn) => return Ok(pfn),
            Err(error) => error,
        };
        let Reclaim::Allowed(promise) = &reclaim else { return Err(error) };
        if tries == MAX_RETRIES {
            return Err(error);
        }
        // For a block compact first: that takes no memory from an owner.
        if error == AllocError::NoFrames
            && order > Order::SINGLE
            && let Ok(pfn) = zone.compact_direct(order, migrate_type)
        {
            return Ok(pfn);
        }
        if zone.reclaim_direct(FrameCount(order.frames().into()), promise).0 == 0 {
            return Err(error);
        }
        tries += 1;
    }
}

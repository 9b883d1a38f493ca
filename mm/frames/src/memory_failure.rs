//! Frames whose memory has failed. They are retired: never used again (R-025, S-38; KERNEL:
//! `mm/memory-failure.c`).
//!
//! ```text
//!  reported by the OS               --+-> marked --+-- free or cached: retired by the next request
//!  (sys::memory_failure)              |   failed   |
//!  Zone::soft_offline, content moved--+            +-- in use: retired at its last reference
//! ```
//! A frame is marked as failed before its last reference is put, and the thread that frees it
//! checks the mark: so no free list ever gets it. Migration does not move a failed frame. Its
//! content is lost: a caller that copies bytes out of a chain checks
//! [`Shared::has_failed`](crate::Shared::has_failed) afterwards.
//!
//! A retired frame stays charged, like the kernel's `HardwareCorrupted` memory, and its pageblock
//! is never wholly free again. The OS maps a healthy page in its place, or none; after
//! [`Zone::soft_offline`] it keeps its page, which is not accessed any more.

use thiserror::Error;

use crate::alloc;
use crate::migrate::{MigratedSource, Targets};
use crate::page::Kind;
use crate::units::{FrameCount, MigrateType, Order, Pfn};
use crate::zone::{MigrateMode, Reclaim, Target, Zone};

/// What memory failures did to a zone (KERNEL: `memory_failure_stats`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
pub struct MemoryFailureStats {
    /// Frames that have failed: the kernel's `num_poisoned_pages`.
    pub total: FrameCount,
    /// Those of them that are retired.
    pub recovered: FrameCount,
    /// Those of them that are still in use, to be retired when freed.
    pub delayed: FrameCount,
}

/// Why a frame was not retired. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OfflineError {
    /// The zone has no such frame.
    #[error("the zone does not contain {pfn}")]
    Unknown {
        /// The frame.
        pfn: Pfn,
    },
    /// The frame has no owner that could move its content, or its owner cannot move it now.
    #[error("{pfn} is in use and cannot be moved now")]
    Busy {
        /// The frame.
        pfn: Pfn,
    },
    /// No free frame is left to move its content to.
    #[error("no free frame is left to move the content of {pfn} to")]
    NoFrames {
        /// The frame.
        pfn: Pfn,
    },
}

impl Zone {
    /// Retires a frame whose memory can still be read. Moves its content first, if it has any
    /// (KERNEL: `soft_offline_page`).
    ///
    /// Locking: briefly all locks of the zone, then as migration. Call it with no lock of the
    /// zone or of an owner held.
    ///
    /// # Errors
    /// [`OfflineError`]; nothing has changed then.
    pub fn soft_offline(&self, pfn: Pfn) -> Result<(), OfflineError> {
        if u64::from(pfn.0) >= self.capacity().0 {
            return Err(OfflineError::Unknown { pfn });
        }
        // A free frame is retired at once; a failed one needs no move.
        if self.allocator().offline_free(pfn) || self.has_failed(pfn) {
            return Ok(());
        }
        let mut batch = vec![self.isolate(pfn).ok_or(OfflineError::Busy { pfn })?];
        let mut targets = OfflineTargets { zone: self };
        let done = self.migrate_pages(&mut batch, &mut targets, MigrateMode::Sync);
        match (done.migrated + done.gone, done.out_of_frames) {
            (1, _) => Ok(()),
            (_, true) => Err(OfflineError::NoFrames { pfn }),
            _ => Err(OfflineError::Busy { pfn }),
        }
    }

    /// Returns what memory failures did so far. Retires free frames that have failed first.
    ///
    /// Locking: takes the zone lock briefly. After a new failure also the per-CPU lists, one
    /// after the other, and the zone lock in short turns.
    #[must_use]
    pub fn memory_failure_stats(&self) -> MemoryFailureStats {
        self.allocator().process_memory_failures();
        let retired = self.allocator().read_buddy(|buddy| buddy.retired);
        let failed = &self.tables().failed;
        let delayed = failed.iter().filter(|&pfn| self.is_in_use(Pfn(pfn as u32))).count() as u64;
        MemoryFailureStats {
            total: FrameCount(failed.count()),
            recovered: FrameCount(retired),
            delayed: FrameCount(delayed),
        }
    }

    /// Returns whether a frame, or the block that contains it, is in use.
    fn is_in_use(&self, pfn: Pfn) -> bool {
        Order::SINGLE.and_larger().into_iter().any(|order| {
            let state = self.tables().frames.state(Pfn(pfn.0 & !(order.frames() - 1)));
            matches!(state.kind(), Some(Kind::Used | Kind::Frozen)) && state.order() == Some(order)
        })
    }

    /// Makes the memory of a frame fail, for tests.
    ///
    /// # Errors
    /// The error of the OS, as text.
    ///
    /// # Panics
    /// When the zone does not contain the frame.
    #[cfg(feature = "memory-failure-injection")]
    pub fn inject_memory_failure(
        &self,
        pfn: Pfn,
        injection: sys::memory_failure::Injection,
    ) -> Result<(), String> {
        self.allocator().arena.inject(pfn, injection).map_err(|errno| errno.to_string())
    }
}

/// Targets for a soft offline. Marks the old frame as failed before it is freed (R-025).
struct OfflineTargets<'z> {
    zone: &'z Zone,
}

impl<'z> Targets<'z> for OfflineTargets<'z> {
    fn next(&mut self, _: Pfn) -> Option<Target<'z>> {
        // The old frame stays charged, so the new one is charged as well.
        let fresh =
            alloc::alloc_frozen(self.zone, MigrateType::Movable, Reclaim::NotAllowed).ok()?;
        Some(Target::from_frozen(self.zone.allocator(), fresh))
    }

    fn free_source(&mut self, old: MigratedSource<'z>) {
        old.pfn().map(|pfn| self.zone.tables().failed.note(pfn.index()));
        // The thread that puts the last reference frees the frame and checks the mark.
        drop(old);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

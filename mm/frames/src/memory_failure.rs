//! Frames whose memory has failed. They are retired: never used again (R-025, S-38; KERNEL:
//! `mm/memory-failure.c`).
//!
//! ```text
//!  reported by the OS               --+-> marked --+-- free or cached: retired by the next request
//!  (sys::memory_failure)              |   failed   |
//!  Zone::soft_offline, content moved--+            +-- in use: retired at its last reference
//! ```
//! A frame is marked as failed before its last reference is put, and the thread that frees it
//! checks the mark: so no free list ever gets it. The content of a failed frame is lost. A caller
//! that copies bytes out of a chain checks [`Shared::has_failed`](crate::Shared::has_failed)
//! afterwards. Migration does not move a failed frame.
//!
//! A retired frame stays charged: like the kernel's `HardwareCorrupted` memory it is no longer
//! usable, and its pageblock is never wholly free again. The OS maps a healthy page in its place,
//! or none. A frame that [`Zone::soft_offline`] retired keeps its page, which is not accessed any
//! more.

use sync::atomic::Ordering::Relaxed;
use thiserror::Error;

use crate::migrate::{Isolated, MigrateMode, MigratedSource, Target, TargetCharge, Targets};
use crate::reclaim::Reclaim;
use crate::state::Kind;
use crate::units::{FrameCount, MigrateType, Order, Pfn};
use crate::zone::Zone;

/// The most frames retired in one turn with the zone lock.
const LOCK_BATCH: usize = 128;

/// What memory failures did to a zone (KERNEL: `memory_failure_stats`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
pub struct MemoryFailureStats {
    /// Frames that have failed: the kernel's `num_poisoned_pages`.
    pub total: FrameCount,
    /// Those of them that are retired.
    pub recovered: FrameCount,
    /// Those of them that are still in use. Each is retired when its owner frees it.
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
    /// Returns whether the memory of a frame has failed. If it returns `false`, the bytes that
    /// the calling thread read before were valid.
    #[must_use]
    pub fn has_failed(&self, pfn: Pfn) -> bool {
        self.tables.failed.contains(pfn.index())
    }

    /// Returns how often memory of the zone was reported as failed. One load.
    #[must_use]
    pub fn failure_reports(&self) -> u64 {
        self.tables.failed.reports()
    }

    /// Retires free frames that have failed since the last call. Called before frames are
    /// allocated. One load while no memory has failed.
    ///
    /// A frame that another thread puts on a per-CPU list meanwhile may be missed. Each request
    /// that takes a frame from such a list checks it again.
    #[inline]
    pub(crate) fn process_memory_failures(&self) {
        let reports = self.tables.failed.reports();
        // Relaxed: written by a thread that retired frames. Two threads that find the same
        // reports both retire them, which is harmless.
        if reports != 0 && reports != self.failures_seen.load(Relaxed) {
            self.offline_failed_frames(reports);
        }
    }

    #[cold]
    fn offline_failed_frames(&self, reports: u64) {
        // Frames on the lists go through `Buddy::free`, which checks for failures.
        self.drain_lists_above(0);
        // Frame numbers fit: the zone has as many bits as frames.
        let mut failed = self.tables.failed.iter().map(|pfn| Pfn(pfn as u32));
        let mut turn = [Pfn(0); LOCK_BATCH];
        loop {
            // Collected without the lock: failed frames may be far apart in a large zone.
            let count = turn.iter_mut().zip(&mut failed).map(|(place, pfn)| *place = pfn).count();
            if count == 0 {
                break;
            }
            let mut buddy = self.buddy.lock();
            turn[..count].iter().for_each(|&pfn| buddy.offline_if_free(&self.tables, pfn));
        }
        self.failures_seen.store(reports, Relaxed);
    }

    /// Retires a frame whose memory can still be read, as corrected errors announce. Moves its
    /// content first, if it has any (KERNEL: `soft_offline_page`).
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
        if self.offline_free(pfn) || self.has_failed(pfn) {
            return Ok(());
        }
        let mut batch: Vec<Isolated<'_>> = self.isolate(pfn).into_iter().collect();
        if batch.is_empty() {
            return Err(OfflineError::Busy { pfn });
        }
        let done =
            self.migrate_pages(&mut batch, &mut OfflineTargets { zone: self }, MigrateMode::Sync);
        match (done.migrated + done.gone, done.out_of_frames) {
            (1, _) => Ok(()),
            (_, true) => Err(OfflineError::NoFrames { pfn }),
            _ => Err(OfflineError::Busy { pfn }),
        }
    }

    /// Marks and retires a frame if it is free. Returns whether it was.
    fn offline_free(&self, pfn: Pfn) -> bool {
        let mut all = self.lock_all();
        all.drain(self);
        let is_free = !all.buddy.is_poisoned() && self.tables.blocks.is_free(pfn);
        if is_free {
            self.tables.failed.note(pfn.index());
            all.buddy.offline_if_free(&self.tables, pfn);
        }
        is_free
    }

    /// Returns what memory failures did so far. Retires free frames that have failed first.
    ///
    /// Locking: takes the zone lock briefly. After a new failure also the per-CPU lists, one
    /// after the other, and the zone lock in short turns.
    #[must_use]
    pub fn memory_failure_stats(&self) -> MemoryFailureStats {
        self.process_memory_failures();
        let retired = self.buddy.lock().retired;
        let delayed =
            self.tables.failed.iter().filter(|&pfn| self.is_in_use(Pfn(pfn as u32))).count() as u64;
        MemoryFailureStats {
            total: FrameCount(self.tables.failed.count()),
            recovered: FrameCount(retired),
            delayed: FrameCount(delayed),
        }
    }

    /// Returns whether a frame, or the block that contains it, is in use. The state is in the
    /// first frame of the block.
    fn is_in_use(&self, pfn: Pfn) -> bool {
        Order::SINGLE.and_larger().into_iter().any(|order| {
            let state = self.tables.frames.state(Pfn(pfn.0 & !(order.frames() - 1)));
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
        self.arena().inject(pfn, injection).map_err(|errno| errno.to_string())
    }
}

/// Targets for a soft offline. Marks the old frame as failed before it is freed (R-025: once, and
/// after the owner's reference was put).
struct OfflineTargets<'z> {
    zone: &'z Zone,
}

impl<'z> Targets<'z> for OfflineTargets<'z> {
    fn next(&mut self, _: Pfn) -> Option<Target<'z>> {
        // The old frame stays charged, so the new one is charged as well.
        let fresh = self.zone.alloc_frozen(MigrateType::Movable, Reclaim::NotAllowed).ok()?;
        Some(Target::from_frozen(self.zone, fresh, TargetCharge::Charged))
    }

    fn free_source(&mut self, old: MigratedSource<'z>) {
        old.pfn().map(|pfn| self.zone.tables.failed.note(pfn.index()));
        // The thread that puts the last reference frees the frame and checks the mark.
        drop(old);
    }
}

impl crate::buddy::Buddy {
    /// Removes a free frame from its list and retires it. Does nothing when it is not free or the
    /// zone is poisoned.
    pub(crate) fn offline_if_free(&mut self, tables: &crate::tables::Tables, pfn: Pfn) {
        if !self.is_poisoned() && tables.blocks.is_free(pfn) {
            self.take_off_buddy(tables, pfn);
        }
    }

    /// Frees the frames of a block that have not failed and retires the others. Returns `false`,
    /// with nothing changed, when none has failed.
    pub(crate) fn free_around_failed(
        &mut self,
        tables: &crate::tables::Tables,
        pfn: Pfn,
        order: Order,
        was: crate::state::State,
    ) -> bool {
        let frames = || (0..order.frames()).map(|step| pfn.plus(step));
        let has_failed = |pfn: &Pfn| tables.failed.contains(pfn.index());
        if !frames().any(|pfn| has_failed(&pfn)) {
            return false;
        }
        tables.frames.change(pfn, was, crate::state::State::INSIDE);
        let (failed, healthy): (Vec<Pfn>, Vec<Pfn>) = frames().partition(has_failed);
        failed.into_iter().for_each(|pfn| self.retire_frame(tables, pfn));
        healthy.into_iter().for_each(|pfn| self.free_inside(tables, pfn, Order::SINGLE));
        true
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
#[path = "memory_failure_tests.rs"]
mod tests;

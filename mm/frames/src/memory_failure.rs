//! Frames whose memory has failed: they are retired, which is for good (R-025, S-38; KERNEL: `mm/memory-failure.c`).
//!
//! ```text
//!  the OS says so (sys::memory_failure) --+--> noted --+-- free or cached: retired by the next request for a frame
//!  Zone::soft_offline, content moved -----+            +-- in use: retired when its last reference goes
//! ```
//! A frame is noted before its last reference goes, and the thread that frees it looks: so no free list ever gets it. What a noted frame holds is lost. Whoever copies
//! bytes out of a chain asks [`Shared::has_failed`](crate::Shared::has_failed) afterwards, and nobody moves them.
//!
//! A retired frame stays charged: like the kernel's `HardwareCorrupted` memory it is gone from what can be used, and its pageblock is never wholly free
//! again. In its place the OS holds a healthy page, or none. A frame that [`Zone::soft_offline`] retired keeps its page, which nothing touches any more.

use sync::atomic::Ordering::Relaxed;
use thiserror::Error;

use crate::migrate::{Isolated, MigrateMode, MigratedSource, Target, TargetCharge, Targets};
use crate::reclaim::Reclaim;
use crate::state::Kind;
use crate::units::{FrameCount, MigrateType, Order, Pfn};
use crate::zone::Zone;

/// Frames looked at in one turn with the zone lock.
const LOCK_BATCH: usize = 128;

/// What memory failures did to a zone (KERNEL: `memory_failure_stats`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryFailureStats {
    /// Frames that have failed: the kernel's `num_poisoned_pages`.
    pub total: FrameCount,
    /// Of these, frames that are out of use for good.
    pub recovered: FrameCount,
    /// Of these, frames that are still in use: each is retired when its owner frees it.
    pub delayed: FrameCount,
}

/// Why a frame was not taken out of use. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OfflineError {
    /// The zone has no such frame.
    #[error("{pfn} is no frame of the zone")]
    Unknown {
        /// The frame.
        pfn: Pfn,
    },
    /// Nobody can move what it holds, or its owner does not just now.
    #[error("{pfn} is in use and cannot be moved now")]
    Busy {
        /// The frame.
        pfn: Pfn,
    },
    /// There is no frame to move its content to.
    #[error("there is no free frame for the content of {pfn}")]
    NoFrames {
        /// The frame.
        pfn: Pfn,
    },
}

impl Zone {
    /// Whether the memory of a frame has failed. What the calling thread read of it before is covered.
    #[must_use]
    pub fn has_failed(&self, pfn: Pfn) -> bool {
        self.tables.failed.contains(pfn.index())
    }

    /// How often memory of the zone was reported to have failed. One load.
    #[must_use]
    pub fn failure_reports(&self) -> u64 {
        self.tables.failed.reports()
    }

    /// Retires free frames that failed since the last look. Called before frames are handed out; one
    /// load when nothing has failed.
    ///
    /// A frame that another thread puts on a per-CPU list meanwhile may be missed. Each request that
    /// takes one from there looks again.
    #[inline]
    pub(crate) fn process_memory_failures(&self) {
        let reports = self.tables.failed.reports();
        // Relaxed: written by the thread that did the work; two threads that do it do it twice.
        if reports != 0 && reports != self.failures_seen.load(Relaxed) {
            self.offline_failed_frames(reports);
        }
    }

    #[cold]
    fn offline_failed_frames(&self, reports: u64) {
        // What is on the lists goes through `Buddy::free`, which looks.
        self.drain_lists_above(0);
        // Frame numbers fit: the zone has as many bits as frames.
        let mut failed = self.tables.failed.iter().map(|pfn| Pfn(pfn as u32));
        let mut turn = [Pfn(0); LOCK_BATCH];
        loop {
            // Collected first: the way from one failed frame to the next is long in a large zone.
            let count = turn.iter_mut().zip(&mut failed).map(|(place, pfn)| *place = pfn).count();
            if count == 0 {
                break;
            }
            let mut buddy = self.buddy.lock();
            turn[..count].iter().for_each(|&pfn| buddy.offline_if_free(&self.tables, pfn));
        }
        self.failures_seen.store(reports, Relaxed);
    }

    /// Takes a frame out of use for good whose memory can still be read: what corrected errors announce. Its content moves first, if it has any
    /// (KERNEL: `soft_offline_page`).
    ///
    /// Locking: all locks of the zone for a moment, then as migration. Call it with no lock of the zone or of an owner held.
    ///
    /// # Errors
    /// [`OfflineError`].
    pub fn soft_offline(&self, pfn: Pfn) -> Result<(), OfflineError> {
        if u64::from(pfn.0) >= self.capacity().0 {
            return Err(OfflineError::Unknown { pfn });
        }
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

    /// Notes and retires a frame that is free. Returns whether it was.
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

    /// What memory failures did so far. Free frames that have failed are retired first.
    ///
    /// Locking: the zone lock for a moment. After a new failure also the per-CPU lists, one after the
    /// other, and the zone lock in short turns.
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

    /// Returns whether a frame, or the block it lies in, is in use. Only the first frame of a block says so.
    fn is_in_use(&self, pfn: Pfn) -> bool {
        Order::SINGLE.and_larger().into_iter().any(|order| {
            let state = self.tables.frames.state(Pfn(pfn.0 & !(order.frames() - 1)));
            matches!(state.kind(), Some(Kind::Used | Kind::Frozen)) && state.order() == Some(order)
        })
    }

    /// Makes the memory of a frame fail, for tests.
    ///
    /// # Errors
    /// What the OS said.
    ///
    /// # Panics
    /// When the zone has no such frame.
    #[cfg(feature = "memory-failure-injection")]
    pub fn inject_memory_failure(
        &self,
        pfn: Pfn,
        injection: sys::memory_failure::Injection,
    ) -> Result<(), String> {
        self.arena().inject(pfn, injection).map_err(|errno| errno.to_string())
    }
}

/// Gives fresh frames, and notes what is vacated before it is freed (R-025: once, and after the owner's reference went).
struct OfflineTargets<'z> {
    zone: &'z Zone,
}

impl<'z> Targets<'z> for OfflineTargets<'z> {
    fn next(&mut self, _: Pfn) -> Option<Target<'z>> {
        // The old frame stays charged, so the new one needs room of its own.
        let fresh = self.zone.alloc_frozen(MigrateType::Movable, Reclaim::NotAllowed).ok()?;
        Some(Target::from_frozen(self.zone, fresh, TargetCharge::Charged))
    }

    fn free_source(&mut self, old: MigratedSource<'z>) {
        old.pfn().map(|pfn| self.zone.tables.failed.note(pfn.index()));
        // Freed, and looked at, by the thread that gives the last reference back.
        drop(old);
    }
}

impl crate::buddy::Buddy {
    /// Takes a free frame off its list for good; nothing when it is not free, or the lists cannot be trusted.
    pub(crate) fn offline_if_free(&mut self, tables: &crate::tables::Tables, pfn: Pfn) {
        if !self.is_poisoned() && tables.blocks.is_free(pfn) {
            self.take_off_buddy(tables, pfn);
        }
    }

    /// Frees those frames of a block that have not failed, and retires the others. `false`, with nothing changed, when none has failed.
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

//! Frames of a zone whose memory has failed: free ones are retired before the next allocation.

use sync::atomic::Ordering::Relaxed;

use super::allocator::FrameAllocator;
use crate::units::Pfn;

/// The most frames retired in one turn with the zone lock.
const LOCK_BATCH: usize = 128;

impl FrameAllocator {
    pub(crate) fn has_failed(&self, pfn: Pfn) -> bool {
        self.tables.failed.contains(pfn.index())
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

    /// Marks and retires a frame if it is free. Returns whether it was.
    pub(crate) fn offline_free(&self, pfn: Pfn) -> bool {
        let mut all = self.lock_all();
        all.drain(self);
        let is_free = !all.buddy.is_poisoned() && self.tables.blocks.is_free(pfn);
        if is_free {
            self.tables.failed.note(pfn.index());
            all.buddy.offline_if_free(&self.tables, pfn);
        }
        is_free
    }
}

//! Eviction of hot pages: one for each new page when the cache is full, many when memory is short.

use std::time::{Duration, Instant};

use frames::{
    Committed, FrameCount, LockedFrame, MigrateError, MigrateMode, MovableOps, NoLocksHeld,
    Shrinker, Target,
};
use page::{Page, StoreError, StoredPage};
use zsmalloc::AllocError;

use crate::counters::Counter;
use crate::hot::{HotCache, NewHotPage};
use crate::inner::{Inner, Replaced};

/// The evictions attempted for one new page: the oldest page may be in use.
const MAX_EVICT_RETRIES: u32 = 4;
/// The time limit of one [`Shrinker::scan`].
const SHRINK_TIMEOUT: Duration = Duration::from_millis(20);

/// The result of an attempt to evict the oldest page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EvictOutcome {
    Done,
    /// The page was in use, or its entry changed meanwhile.
    Busy,
    /// The page cannot be stored, and other pages could not be stored either.
    NoMemory,
}

impl Inner {
    /// Copies a page into the cache. The page becomes hot when the caller has put its entry into
    /// the slot, before it drops the result: a thread that follows the entry waits for that.
    /// Returns `None` without a cache, and if the cache is full and nothing is evicted.
    pub(crate) fn admit(&self, slot: usize, page: &Page) -> Option<NewHotPage<'_>> {
        let hot = self.hot.as_ref()?;
        for tries in 0..=MAX_EVICT_RETRIES {
            if let Some(fresh) = hot.admit(&self.slots, slot, page) {
                self.counters.add(Counter::HotAdmissions, 1);
                return Some(fresh);
            }
            // If the cache is not full the zone is: other allocations need its frames more.
            if hot.has_free_frame() || tries == MAX_EVICT_RETRIES {
                break;
            }
            let worthwhile =
                tries > 0 || hot.admission.admit(|| self.counters.get(Counter::HotHits));
            if !worthwhile || self.evict() == EvictOutcome::NoMemory {
                break;
            }
        }
        None
    }

    /// Evicts the oldest page: stores it in the pool.
    fn evict(&self) -> EvictOutcome {
        let Some(hot) = &self.hot else { return EvictOutcome::NoMemory };
        let Some(pinned) = hot.pin_oldest(&self.slots) else { return EvictOutcome::Busy };
        let Ok(page) = <&Page>::try_from(&*pinned) else { return EvictOutcome::Busy };
        let Some(stored) = self.store_evicted(page) else { return EvictOutcome::NoMemory };
        if pinned.has_failed() {
            // What was stored is not valid. The slot keeps naming the failed page.
            let freed = self.pages.free(stored);
            return if freed.is_ok() { EvictOutcome::Busy } else { EvictOutcome::NoMemory };
        }
        // Locked until the entry is replaced, so what was stored is what the page holds.
        match self.replace(pinned.slot, pinned.entry(), stored.into()) {
            Ok(Replaced::Done) => {
                self.counters.add(Counter::HotEvictions, 1);
                EvictOutcome::Done
            }
            Ok(Replaced::Changed(_) | Replaced::NoMemory) => EvictOutcome::Busy,
            Err(_) => EvictOutcome::NoMemory,
        }
    }

    /// Stores a page whose frame is freed right after. The page stays hot if that fails.
    fn store_evicted(&self, page: &Page) -> Option<StoredPage> {
        match self.pages.store(page, None) {
            Err(StoreError::Alloc(AllocError::Limit)) => {
                // At the limit it takes a frame for a moment to free one.
                let _over_limit = self.zone.allow_over_limit(FrameCount(1));
                self.pages.store(page, None).ok()
            }
            result => result.ok(),
        }
    }
}

/// Evicts pages when memory is short until enough frames are free.
impl Shrinker for Inner {
    fn count(&self) -> FrameCount {
        FrameCount(self.hot.as_ref().map_or(0, HotCache::used_frames))
    }

    /// Returns the frames of evicted pages minus the frames that their stored forms took.
    fn scan(&self, target: FrameCount, _: &NoLocksHeld) -> FrameCount {
        let start = Instant::now();
        let (pool, before) = (self.pages.pool(), self.pages.pool().frames());
        let (mut evicted, mut misses) = (0u64, 0);
        let freed = |evicted: u64| evicted.saturating_sub(pool.frames().saturating_sub(before));
        // Pages in use are skipped a few times; a page that cannot be stored ends the scan.
        while freed(evicted) < target.0
            && misses < MAX_EVICT_RETRIES
            && start.elapsed() < SHRINK_TIMEOUT
        {
            match self.evict() {
                EvictOutcome::Done => evicted += 1,
                EvictOutcome::Busy => misses += 1,
                EvictOutcome::NoMemory => break,
            }
        }
        FrameCount(freed(evicted))
    }
}

/// Migrates frames of hot pages like any other. As the lock of a reverse map in the kernel,
/// the chain's lock makes a page in use keep its frame.
impl MovableOps for Inner {
    fn isolate(&self, frame: &LockedFrame<'_>) -> bool {
        self.hot.as_ref().is_some_and(|hot| hot.chains.can_isolate(frame))
    }

    fn migrate<'z>(
        &self,
        from: &LockedFrame<'_>,
        to: Target<'z>,
        _: MigrateMode,
    ) -> Result<Committed, MigrateError<'z>> {
        match &self.hot {
            Some(hot) => hot.migrate(&self.slots, from, to),
            None => Err(MigrateError::Failed(to)),
        }
    }

    fn putback(&self, _: &LockedFrame<'_>) {
        // Migration handles the LRU lists; nothing else was taken from the page.
    }
}

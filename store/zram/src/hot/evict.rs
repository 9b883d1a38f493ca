//! Pages leave the cache: one by one as others come, or many when memory is short.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use frames::{
    Committed, FrameCount, LockedFrame, Lru, MigrateError, MigrateMode, MovableOps, NoLocksHeld,
    Shrinker, ShrinkerPriority, ShrinkerRegistration, Target,
};
use page::{Page, SlotEntry, StoreError};
use zsmalloc::AllocError;

use super::{NewHotPage, PinnedHotPage};
use crate::counters::Counter;
use crate::inner::{Inner, ReplaceOutcome};

/// Pages looked at to make room for one: the oldest may be in use.
const MAX_EVICT_RETRIES: u32 = 4;

/// How long a thread that is short of memory waits for it here.
const SHRINK_TIMEOUT: Duration = Duration::from_millis(20);

/// What became of an attempt at the oldest page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EvictOutcome {
    Done,
    /// It was in use, or changed hands meanwhile.
    Busy,
    /// It cannot be stored, and the others would fare no better.
    NoMemory,
}

impl Inner {
    /// Lets the zone call: from here on frames of hot pages may be moved, and asked for when memory is short. Nothing without a cache.
    pub(crate) fn publish(self: &Arc<Self>) -> Option<ShrinkerRegistration> {
        let hot = self.hot.as_ref()?;
        let (ops, shrinker): (Weak<dyn MovableOps>, Weak<dyn Shrinker>) =
            (Arc::downgrade(self) as _, Arc::downgrade(self) as _);
        hot.publish(ops);
        Some(self.zone.register_shrinker(ShrinkerPriority::Cache, shrinker))
    }

    /// Makes a page hot: its content is in the cache when this returns, and in its slot when the caller has swapped the word. `None` when the
    /// cache has no room and cannot get any or had better not, or there is none.
    pub(crate) fn admit(&self, slot: usize, page: &Page) -> Option<NewHotPage<'_>> {
        let hot = self.hot.as_ref()?;
        let mut tries = 0;
        let fresh = loop {
            if let Some(fresh) = hot.admit(&self.slots, slot, page) {
                break fresh;
            }
            tries += 1;
            // Full, or the zone is: then others need the frames more than this page does.
            if hot.used_frames() < hot.limit() || tries > MAX_EVICT_RETRIES {
                return None;
            }
            let pays = tries > 1 || hot.admission.admit(|| self.counters.get(Counter::HotHits));
            if !pays || self.evict() == EvictOutcome::NoMemory {
                return None;
            }
        };
        self.counters.add(Counter::HotAdmissions, 1);
        Some(fresh)
    }

    /// Puts a fresh hot page into the slot that holds `old`.
    pub(crate) fn install(
        &self,
        slot: usize,
        old: SlotEntry,
        fresh: NewHotPage<'_>,
    ) -> Result<ReplaceOutcome, block::BlockError> {
        // Held alone until this returns: a thread that follows the word waits for as long.
        let replaced = self.replace(slot, old, fresh.entry());
        drop(fresh);
        replaced
    }

    /// Stores the oldest page as if it had been written now.
    fn evict(&self) -> EvictOutcome {
        let Some(hot) = &self.hot else { return EvictOutcome::NoMemory };
        let Some(pinned) = hot.pin_oldest(&self.slots) else { return EvictOutcome::Busy };
        let Ok(page) = <&Page>::try_from(&*pinned) else { return EvictOutcome::Busy };
        let Some(stored) = self.store_evicted(page) else { return EvictOutcome::NoMemory };
        if pinned.has_failed() {
            // What was stored is no page. The slot keeps naming the failed one, whose readers are told.
            let freed = self.pages.free(stored);
            return if freed.is_ok() { EvictOutcome::Busy } else { EvictOutcome::NoMemory };
        }
        // Held until the word is swapped: what was stored is what the page holds.
        match self.replace(pinned.slot(), pinned.entry(), stored) {
            Ok(ReplaceOutcome::Done) => {
                self.counters.add(Counter::HotEvictions, 1);
                EvictOutcome::Done
            }
            Ok(ReplaceOutcome::Changed(_) | ReplaceOutcome::NoMemory) => EvictOutcome::Busy,
            Err(_) => EvictOutcome::NoMemory,
        }
    }

    /// Stores a page whose frame is given back right after. It stays hot when that fails.
    fn store_evicted(&self, page: &Page) -> Option<SlotEntry> {
        match self.pages.store(page) {
            Err(StoreError::Alloc(AllocError::Limit)) => {
                // At the limit it takes a frame to give one back.
                let _room = self.zone.allow_over_limit(FrameCount(1));
                self.pages.store(page).ok()
            }
            result => result.ok(),
        }
    }
}

/// Memory is short: pages are compressed until enough frames are free.
impl Shrinker for Inner {
    fn count(&self) -> FrameCount {
        FrameCount(self.hot.as_ref().map_or(0, super::HotCache::used_frames))
    }

    /// Counts what compressed pages took against what hot ones gave.
    fn scan(&self, target: FrameCount, _: &NoLocksHeld) -> FrameCount {
        let start = Instant::now();
        let (pool, before) = (self.pages.pool(), self.pages.pool().frames());
        let (mut evicted, mut misses) = (0u64, 0);
        let freed = |evicted: u64| evicted.saturating_sub(pool.frames().saturating_sub(before));
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

/// Frames of hot pages move like any other. The slot try-lock is the chain's: whoever uses the page keeps its frame where it is.
impl MovableOps for Inner {
    fn isolate(&self, frame: &LockedFrame<'_>) -> bool {
        self.hot.as_ref().is_some_and(|hot| hot.can_isolate(frame))
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
        // The lists are migration's business; nothing else was taken from the page.
    }

    fn lru(&self) -> Option<&Lru> {
        self.hot.as_ref().and_then(super::HotCache::lru)
    }
}

impl PinnedHotPage<'_> {
    /// Copies the page, and says what its slot's word is as long as this lives.
    pub(crate) fn copy_page(&self, page: &mut Page) -> SlotEntry {
        page.copy_from_slice(self);
        self.entry()
    }

    /// Copies the page, or a part of it, for a reader.
    pub(crate) fn copy_to(&self, inside: std::ops::Range<usize>, buf: &mut [u8]) {
        buf.copy_from_slice(&self[inside]);
        self.mark_accessed();
    }
}

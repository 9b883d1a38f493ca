//! Frames of another owner in the zone of an experiment, as the page cache was in the original's
//! guest. They can always be moved.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use anyhow::{Context, Result, ensure};
use frames::{
    Backing, ChainId, ChainKind, Committed, FrameChains, LockedFrame, MigrateError, MigrateMode,
    MovableOps, OwnerWords, Reclaim, ReleaseStatus, Target, Zone,
};

use super::pages::Pages;
use crate::corpus::PAGE;

/// A cache of pages with one frame each.
#[derive(Debug)]
pub(super) struct PageCache<'p> {
    frames: Arc<Frames>,
    pages: &'p Pages,
    /// The chain of each cached page.
    held: Vec<Option<ChainId>>,
}

/// The part of the cache that migration calls.
#[derive(Debug)]
struct Frames {
    chains: FrameChains,
    moved: AtomicU64,
}

impl<'p> PageCache<'p> {
    /// Creates an empty cache that takes its frames from `zone`.
    pub(super) fn new(zone: &Arc<Zone>, pages: &'p Pages) -> Result<Self> {
        let owner = zone.reserve_owner()?;
        let chains =
            FrameChains::new(owner, pages.len(), OwnerWords::default(), Backing::AnonymousSmall)?;
        let frames = Arc::new(Frames { chains, moved: AtomicU64::new(0) });
        frames.chains.publish(Arc::downgrade(&frames) as Weak<dyn MovableOps>);
        Ok(Self { frames, pages, held: vec![None; pages.len()] })
    }

    /// Copies a page into a new frame.
    ///
    /// # Errors
    /// The zone has no free frame or no chain id.
    pub(super) fn insert(&mut self, page: usize) -> Result<()> {
        let chains = &self.frames.chains;
        let fresh = chains.create(ChainKind::Single, 0);
        let mut fresh = fresh.context("the page cache has no chain id for another frame")?;
        if let Err(error) = fresh.attach(0, Reclaim::NotAllowed) {
            fresh.destroy();
            return Err(error).context("no free frame for the page cache");
        }
        let (bytes, _) = fresh.pieces_mut(0..PAGE).context("the chain has no frame")?;
        bytes.copy_from_slice(self.pages.get(page));
        self.held[page] = Some(fresh.id());
        let status = fresh.release();
        ensure!(status == ReleaseStatus::Clean, "another thread freed a chain of the page cache");
        Ok(())
    }

    /// Frees the frame of a page, if the page is cached.
    pub(super) fn remove(&mut self, page: usize) {
        let Some(id) = self.held[page].take() else { return };
        // Only this thread enters the chain or moves its frame, so the lock is free.
        if let Some(held) = self.frames.chains.try_exclusive(id) {
            held.destroy();
        }
    }

    /// Returns the number of frames moved so far.
    pub(super) fn moved(&self) -> u64 {
        // Relaxed: the moves were made by this thread.
        self.frames.moved.load(Ordering::Relaxed)
    }

    /// Compares every cached page byte for byte and frees it.
    ///
    /// # Errors
    /// A page is missing or differs.
    pub(super) fn verify_and_clear(&mut self) -> Result<()> {
        for page in 0..self.held.len() {
            let Some(id) = self.held[page] else { continue };
            let shared = self.frames.chains.share(id);
            let shared = shared.with_context(|| format!("cached page {page} is gone"))?;
            let bytes = shared.pieces(0..PAGE).map(|(bytes, _)| bytes);
            let is_same = bytes == Some(self.pages.get(page));
            ensure!(is_same, "cached page {page} differs from its original");
            drop(shared);
            self.remove(page);
        }
        Ok(())
    }
}

impl MovableOps for Frames {
    fn isolate(&self, frame: &LockedFrame<'_>) -> bool {
        self.chains.can_isolate(frame)
    }

    fn migrate<'z>(
        &self,
        from: &LockedFrame<'_>,
        to: Target<'z>,
        _: MigrateMode,
    ) -> Result<Committed, MigrateError<'z>> {
        let moved = self.chains.migrate_frame(from, to);
        if moved.result.is_ok() {
            // Relaxed: read by the thread that runs the migration.
            self.moved.fetch_add(1, Ordering::Relaxed);
        }
        moved.result
    }

    fn putback(&self, _: &LockedFrame<'_>) {}
}

#[cfg(test)]
mod tests {
    use frames::{CompactRequest, FrameCount, ZoneConfig};

    use super::*;

    #[test]
    fn cached_frames_move_and_keep_their_bytes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let content: Vec<u8> = (0..64 * PAGE).map(|at| (at % 253) as u8).collect();
        std::fs::write(folder.path().join("a"), content).expect("a small file");
        let pages = Pages::load(&[folder.path().to_owned()], 1024).expect("pages");
        let zone = Zone::new(ZoneConfig { capacity: FrameCount(2048), ..ZoneConfig::default() });
        let zone = Arc::new(zone.expect("a small zone"));
        let mut cache = PageCache::new(&zone, &pages).expect("a small cache");
        (0..1024).for_each(|page| cache.insert(page).expect("room"));
        (0..1024).filter(|page| page % 4 != 0).for_each(|page| cache.remove(page));
        assert_eq!(cache.held.iter().flatten().count(), 256);
        zone.compact(CompactRequest::default());
        assert!(cache.moved() > 0);
        cache.verify_and_clear().expect("every byte is unchanged");
        assert_eq!(zone.stats().in_use, FrameCount(0));
    }
}

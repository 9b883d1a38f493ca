//! An owner of movable frames like a graphics driver: large buffers of many single frames, some
//! of them pinned for a long time while the hardware has their addresses. Each frame has a tag,
//! which moves with it.

pub(crate) mod zones;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};

use frames::{
    AllocError, Block, Committed, FrameCount, LockedFrame, MigrateError, MigrateMode, MigrateType,
    MovableOps, NoLocksHeld, Order, Owner, PAGEBLOCK_FRAMES, Pfn, Reclaim, Target, Zone,
    ZoneConfig,
};

/// Creates a zone of `blocks` pageblocks on the heap with two per-CPU lists.
pub(crate) fn zone_of_blocks(blocks: u32, change: impl FnOnce(&mut ZoneConfig)) -> Arc<Zone> {
    zones::zone_with((blocks * PAGEBLOCK_FRAMES).into(), |config| {
        config.lists = Some(2);
        change(config);
    })
}

/// Allocates a block; memory is compacted for it if necessary.
pub(crate) fn compacted_block(
    zone: &Zone,
    order: Order,
    migrate_type: MigrateType,
) -> Result<Block<'_>, AllocError> {
    zone.alloc_block(order, migrate_type, Reclaim::Allowed(NoLocksHeld::promise()))
}

/// How the driver responds when one of its frames is to be moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Response {
    /// Moves it, unless it is pinned.
    #[default]
    Move,
    /// Always returns that it is busy.
    Again,
    /// Always fails.
    Fails,
    /// Panics.
    Panics,
}

#[derive(Debug, Default)]
struct DriverState {
    /// The frame of each page, by the page's tag.
    pages: BTreeMap<u32, Pfn>,
    pinned: BTreeMap<Pfn, u32>,
    response: Response,
    next: u32,
    /// Whether it unpins a frame when asked to.
    yields: bool,
}

/// The driver. Its lock is never held while it calls the zone, so callbacks may take it.
#[derive(Debug)]
pub(crate) struct Driver {
    owner: Owner,
    state: Mutex<DriverState>,
    pub moved: AtomicU64,
}

impl Driver {
    /// Creates a driver without pages and publishes it.
    pub(crate) fn new(zone: &Arc<Zone>) -> Arc<Self> {
        let owner = zone.reserve_owner().expect("a number");
        let driver = Arc::new(Self { owner, state: Mutex::default(), moved: AtomicU64::new(0) });
        let ops: Weak<dyn MovableOps> = Arc::downgrade(&driver) as _;
        driver.owner.publish(ops);
        driver
    }

    fn state(&self) -> std::sync::MutexGuard<'_, DriverState> {
        self.state.lock().expect("no panic while it is held")
    }

    /// Returns the zone of the pages.
    pub(crate) fn zone(&self) -> &Zone {
        self.owner.zone()
    }

    /// Allocates a page and returns its tag.
    pub(crate) fn take(&self) -> Result<u32, AllocError> {
        let frame =
            self.owner.zone().alloc_frame(self.owner.migrate_type(), Reclaim::NotAllowed)?;
        let tag = {
            let mut state = self.state();
            let tag = state.next;
            state.next += 1;
            state.pages.insert(tag, frame.pfn());
            tag
        };
        let _recorded_above = self.owner.set_movable(frame, tag, 0).expect("no other reference");
        Ok(tag)
    }

    /// Allocates pages until no frame is free; returns their tags.
    pub(crate) fn fill(&self) -> Vec<u32> {
        std::iter::from_fn(|| self.take().ok()).collect()
    }

    /// Frees a page.
    pub(crate) fn release(&self, tag: u32) {
        let pfn = self.state().pages.remove(&tag).expect("a page it has");
        self.owner.release(pfn);
    }

    /// Returns the frame of a page.
    pub(crate) fn place(&self, tag: u32) -> Pfn {
        self.state().pages[&tag]
    }

    /// Returns the tags of all pages, ascending.
    pub(crate) fn tags(&self) -> Vec<u32> {
        self.state().pages.keys().copied().collect()
    }

    /// Returns the frames of all pages, ascending.
    pub(crate) fn places(&self) -> Vec<Pfn> {
        let mut places: Vec<_> = self.state().pages.values().copied().collect();
        places.sort_unstable();
        places
    }

    /// Returns the number of pages.
    pub(crate) fn frames(&self) -> FrameCount {
        FrameCount(self.state().pages.len() as u64)
    }

    /// Pins a page, as if the hardware had its address: it must not move. Returns its frame.
    pub(crate) fn pin(&self, tag: u32) -> Pfn {
        let mut state = self.state();
        let pfn = state.pages[&tag];
        *state.pinned.entry(pfn).or_default() += 1;
        pfn
    }

    /// Unpins all pages.
    pub(crate) fn unpin_all(&self) {
        self.state().pinned.clear();
    }

    /// Makes the driver unpin frames when asked to.
    pub(crate) fn yield_pins(&self) {
        self.state().yields = true;
    }

    /// Sets how the driver responds from now on.
    pub(crate) fn set_response(&self, response: Response) {
        self.state().response = response;
    }

    /// Checks that the zone is consistent and that the frame of each page is in use.
    pub(crate) fn check(&self) {
        self.owner.zone().check().expect("consistent");
        let pages: Vec<_> = self.state().pages.iter().map(|(&tag, &pfn)| (tag, pfn)).collect();
        for (tag, pfn) in pages {
            assert!(self.owner.zone().get(pfn).is_some(), "page {tag} is at {pfn}, which is free");
        }
    }
}

impl MovableOps for Driver {
    fn isolate(&self, frame: &LockedFrame<'_>) -> bool {
        let (tag, _) = frame.private().expect("set with the owner");
        let state = self.state();
        state.pages.get(&tag) == Some(&frame.pfn()) && !state.pinned.contains_key(&frame.pfn())
    }

    fn migrate<'z>(
        &self,
        from: &LockedFrame<'_>,
        to: Target<'z>,
        _: MigrateMode,
    ) -> Result<Committed, MigrateError<'z>> {
        let mut state = self.state();
        let response = state.response;
        match response {
            Response::Move if state.pinned.contains_key(&from.pfn()) => {
                return Err(MigrateError::Again(to));
            }
            Response::Move => {}
            Response::Again => return Err(MigrateError::Again(to)),
            Response::Fails => return Err(MigrateError::Failed(to)),
            Response::Panics => {
                drop(state);
                panic!("a driver that breaks")
            }
        }
        let (tag, _) = from.private().expect("set with the owner");
        let committed = to.commit(from)?;
        let old = state.pages.insert(tag, committed.pfn());
        assert_eq!(old, Some(from.pfn()), "the page moved meanwhile");
        self.moved.fetch_add(1, Relaxed);
        Ok(committed)
    }

    fn putback(&self, frame: &LockedFrame<'_>) {
        assert!(frame.private().is_some());
    }

    fn request_unpin(&self, pfn: Pfn) {
        let mut state = self.state();
        if state.yields {
            state.pinned.remove(&pfn);
        }
    }
}

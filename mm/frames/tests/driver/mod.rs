//! An owner of movable frames as a graphics driver is one: large buffers of many single frames, some of them pinned for a long time while the hardware
//! has their addresses. Each frame carries a tag, which moves with it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};

use frames::{
    AllocError, Committed, FrameCount, LockedFrame, MigrateError, MigrateMode, MovableOps, Owner,
    Pfn, Reclaim, Target, Zone,
};

/// What the driver does when one of its frames is to be moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// Moves it, unless it is pinned.
    #[default]
    Willing,
    /// Always says that it is busy.
    Again,
    /// Always fails.
    Fails,
    /// Breaks.
    Panics,
}

#[derive(Debug, Default)]
struct Book {
    /// Where each page is, by its tag.
    pages: BTreeMap<u32, Pfn>,
    pinned: BTreeMap<Pfn, u32>,
    mood: Mood,
    next: u32,
    /// Whether it ends a pin when the frame is wanted.
    yields: bool,
}

/// The driver. Its lock is never held while it calls the zone, so callbacks may take it.
#[derive(Debug)]
pub struct Driver {
    owner: Owner,
    book: Mutex<Book>,
    pub moved: AtomicU64,
}

impl Driver {
    pub fn new(zone: &Arc<Zone>) -> Arc<Self> {
        let owner = zone.reserve_owner().expect("a number");
        let driver = Arc::new(Self { owner, book: Mutex::default(), moved: AtomicU64::new(0) });
        let ops: Weak<dyn MovableOps> = Arc::downgrade(&driver) as _;
        driver.owner.publish(ops);
        driver
    }

    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().expect("no panic while it is held")
    }

    pub fn zone(&self) -> &Zone {
        self.owner.zone()
    }

    /// One more page; its tag says which.
    pub fn take(&self) -> Result<u32, AllocError> {
        let frame =
            self.owner.zone().alloc_frame(self.owner.migrate_type(), Reclaim::NotAllowed)?;
        let tag = {
            let mut book = self.book();
            let tag = book.next;
            book.next += 1;
            book.pages.insert(tag, frame.pfn());
            tag
        };
        let _the_book_has_it = self.owner.set_movable(frame, tag, 0).expect("nobody else has it");
        Ok(tag)
    }

    /// Takes frames until there are none.
    pub fn fill(&self) -> Vec<u32> {
        std::iter::from_fn(|| self.take().ok()).collect()
    }

    pub fn let_go(&self, tag: u32) {
        let pfn = self.book().pages.remove(&tag).expect("a page it has");
        self.owner.release(pfn);
    }

    pub fn place(&self, tag: u32) -> Pfn {
        self.book().pages[&tag]
    }

    pub fn tags(&self) -> Vec<u32> {
        self.book().pages.keys().copied().collect()
    }

    /// All places, ascending.
    pub fn places(&self) -> Vec<Pfn> {
        let mut places: Vec<_> = self.book().pages.values().copied().collect();
        places.sort_unstable();
        places
    }

    pub fn frames(&self) -> FrameCount {
        FrameCount(self.book().pages.len() as u64)
    }

    /// The hardware has the address of the page: it stays where it is.
    pub fn pin(&self, tag: u32) -> Pfn {
        let mut book = self.book();
        let pfn = book.pages[&tag];
        *book.pinned.entry(pfn).or_default() += 1;
        pfn
    }

    pub fn unpin_all(&self) {
        self.book().pinned.clear();
    }

    /// From here on it ends the pin of a frame that is wanted.
    pub fn yield_pins(&self) {
        self.book().yields = true;
    }

    pub fn set_mood(&self, mood: Mood) {
        self.book().mood = mood;
    }

    /// Fails unless the zone's books are right and each page is where the zone thinks it is, in use.
    pub fn check(&self) {
        self.owner.zone().check().expect("consistent");
        let pages: Vec<_> = self.book().pages.iter().map(|(&tag, &pfn)| (tag, pfn)).collect();
        for (tag, pfn) in pages {
            assert!(self.owner.zone().get(pfn).is_some(), "page {tag} is at {pfn}, which is free");
        }
    }
}

impl MovableOps for Driver {
    fn isolate(&self, frame: &LockedFrame<'_>) -> bool {
        let (tag, _) = frame.private().expect("it was adopted with one");
        let book = self.book();
        book.pages.get(&tag) == Some(&frame.pfn()) && !book.pinned.contains_key(&frame.pfn())
    }

    fn migrate<'z>(
        &self,
        from: &LockedFrame<'_>,
        to: Target<'z>,
        _: MigrateMode,
    ) -> Result<Committed, MigrateError<'z>> {
        let mut book = self.book();
        let mood = book.mood;
        match mood {
            Mood::Willing if book.pinned.contains_key(&from.pfn()) => {
                return Err(MigrateError::Again(to));
            }
            Mood::Willing => {}
            Mood::Again => return Err(MigrateError::Again(to)),
            Mood::Fails => return Err(MigrateError::Failed(to)),
            Mood::Panics => {
                drop(book);
                panic!("a driver that breaks")
            }
        }
        let (tag, _) = from.private().expect("it was adopted with one");
        let accepted = to.commit(from)?;
        let old = book.pages.insert(tag, accepted.pfn());
        assert_eq!(old, Some(from.pfn()), "a page that is not where it was");
        self.moved.fetch_add(1, Relaxed);
        Ok(accepted)
    }

    fn putback(&self, frame: &LockedFrame<'_>) {
        assert!(frame.private().is_some());
    }

    fn request_unpin(&self, pfn: Pfn) {
        let mut book = self.book();
        if book.yields {
            book.pinned.remove(&pfn);
        }
    }
}

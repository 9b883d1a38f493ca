//! Owned frames: values that give themselves back to their zone.

use std::mem;

use crate::units::{Order, Pfn};
use crate::zone::Zone;

/// One reference to a frame in use. Dropping it gives the reference back; the last one frees the frame.
///
/// It is a right, not a view: bytes are reached through extents only. A frame comes with whatever bytes it has. Fresh memory is zero, but a
/// frame that was used before still holds its last owner's bytes, so an owner shows nothing it has not written itself.
#[derive(Debug)]
#[must_use = "dropping a frame gives it back"]
pub struct Frame<'z> {
    zone: &'z Zone,
    pfn: Pfn,
}

impl<'z> Frame<'z> {
    pub(crate) fn new(zone: &'z Zone, pfn: Pfn) -> Self {
        Self { zone, pfn }
    }

    /// Its number.
    #[must_use]
    pub fn pfn(&self) -> Pfn {
        self.pfn
    }

    /// Keeps the reference without the value: whoever stores the number owns the frame from here on.
    #[must_use = "the frame is lost if its number is"]
    pub fn into_pfn(self) -> Pfn {
        let pfn = self.pfn;
        mem::forget(self);
        pfn
    }

    /// Takes the page lock if nobody has it. Never waits.
    #[must_use]
    pub fn try_lock(&self) -> Option<PageLock<'_>> {
        let free = |state: crate::state::State| (!state.is_locked()).then(|| state.locked());
        self.zone.tables.frames.update(self.pfn, free).then(|| PageLock { frame: self })
    }
}

impl Drop for Frame<'_> {
    fn drop(&mut self) {
        give_back(self.zone, self.pfn);
    }
}

/// An owned block of `1 << order` neighbouring frames. Dropping it frees them; bytes as for [`Frame`].
#[derive(Debug)]
#[must_use = "dropping a block gives it back"]
pub struct Block<'z> {
    zone: &'z Zone,
    first: Pfn,
    order: Order,
}

impl<'z> Block<'z> {
    pub(crate) fn new(zone: &'z Zone, first: Pfn, order: Order) -> Self {
        Self { zone, first, order }
    }

    /// The first frame.
    #[must_use]
    pub fn first(&self) -> Pfn {
        self.first
    }

    /// How many frames it has, as a power of two.
    #[must_use]
    pub fn order(&self) -> Order {
        self.order
    }
}

impl Drop for Block<'_> {
    fn drop(&mut self) {
        give_back(self.zone, self.first);
    }
}

/// The type keeps owners from freeing twice, so an error is a broken descriptor: going on would hand the frame to two owners.
fn give_back(zone: &Zone, pfn: Pfn) {
    match zone.put(pfn) {
        Ok(()) => {}
        // Already unwinding: a second panic would abort, and the frame is merely lost.
        Err(_) if std::thread::panicking() => {}
        Err(error) => panic!("{error}"),
    }
}

/// The page lock of a frame, held. It guards what migration may do with the frame; dropping it unlocks.
#[derive(Debug)]
pub struct PageLock<'f> {
    frame: &'f Frame<'f>,
}

impl PageLock<'_> {
    /// Whether the owner said that the frame's content can be moved.
    #[must_use]
    pub fn is_movable(&self) -> bool {
        self.frame.zone.tables.frames.state(self.frame.pfn).is_movable()
    }

    /// Says that the content can be moved from now on.
    pub fn set_movable(&self) {
        self.frame.zone.tables.frames.update(self.frame.pfn, |state| Some(state.movable()));
    }

    /// Says that it cannot. Owners do this before they give their last reference back.
    pub fn clear_movable(&self) {
        self.frame.zone.tables.frames.update(self.frame.pfn, |state| Some(state.unmovable()));
    }
}

impl Drop for PageLock<'_> {
    fn drop(&mut self) {
        self.frame.zone.tables.frames.update(self.frame.pfn, |state| Some(state.unlocked()));
    }
}

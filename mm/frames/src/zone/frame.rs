//! Owned frames: values that free their frames when dropped.

use super::Zone;
use crate::page::State;
use crate::units::{Order, Pfn};

/// One reference to a frame in use. Dropping it puts the reference; the last one frees the frame.
///
/// It gives no access to the bytes: only chains do. A frame that was used before still holds the
/// bytes of its last owner: an owner must not show bytes that it has not written itself.
#[derive(Debug)]
#[must_use = "dropping a frame frees it"]
pub struct Frame<'z> {
    zone: &'z Zone,
    pfn: Pfn,
}

impl Zone {
    /// Takes one more reference to a frame in use. Returns `None` when the frame is not in use
    /// or not published yet: taken for a chain, or as a migration target.
    #[must_use]
    pub fn get(&self, pfn: Pfn) -> Option<Frame<'_>> {
        let known = u64::from(pfn.0) < self.capacity().0;
        (known && self.tables().frames.get_unless_zero(pfn)).then(|| Frame::new(self, pfn))
    }
}

impl<'z> Frame<'z> {
    /// Wraps a reference that the caller holds.
    pub(crate) fn new(zone: &'z Zone, pfn: Pfn) -> Self {
        Self { zone, pfn }
    }

    /// Returns the number of the frame.
    #[must_use]
    pub fn pfn(&self) -> Pfn {
        self.pfn
    }

    pub(crate) fn zone(&self) -> &'z Zone {
        self.zone
    }

    /// Keeps the reference without the value: the code that stores the number owns the frame.
    #[must_use = "dropping the number leaks the frame"]
    pub fn into_pfn(self) -> Pfn {
        std::mem::ManuallyDrop::new(self).pfn
    }

    /// Takes the page lock, unless it is held or the frame is isolated. Never waits.
    #[must_use]
    pub fn try_lock(&self) -> Option<PageLock<'_>> {
        let free =
            |state: State| (!state.is_locked() && !state.is_isolated()).then(|| state.locked());
        self.zone.tables().frames.update(self.pfn, free).map(|_| PageLock { frame: self })
    }
}

impl Drop for Frame<'_> {
    /// Puts the reference. The types keep owners from freeing twice.
    ///
    /// # Panics
    /// When the descriptor is broken: continuing would give the frame to two owners.
    fn drop(&mut self) {
        match self.zone.allocator.put(self.pfn) {
            Ok(()) => {}
            // Already unwinding: a second panic would abort the process, so leak the frame.
            Err(_) if std::thread::panicking() => {}
            Err(error) => panic!("{error}"),
        }
        self.zone.release_excess_if_due();
    }
}

/// `1 << order` adjacent frames, owned like a [`Frame`]. Dropping it frees them.
#[derive(Debug)]
#[must_use = "dropping a block frees it"]
pub struct Block<'z> {
    first: Frame<'z>,
    order: Order,
}

impl<'z> Block<'z> {
    pub(crate) fn new(zone: &'z Zone, first: Pfn, order: Order) -> Self {
        Self { first: Frame::new(zone, first), order }
    }

    /// Returns the first frame.
    #[must_use]
    pub fn first(&self) -> Pfn {
        self.first.pfn
    }

    /// Returns the size of the block.
    #[must_use]
    pub fn order(&self) -> Order {
        self.order
    }
}

/// The held page lock of a frame: no thread can isolate the frame. Dropping it unlocks.
#[derive(Debug)]
#[must_use = "dropping it unlocks"]
pub struct PageLock<'f> {
    frame: &'f Frame<'f>,
}

impl Drop for PageLock<'_> {
    fn drop(&mut self) {
        self.frame.zone.tables().frames.update(self.frame.pfn, |state| Some(state.unlocked()));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::zones::{heap_zone, take, take_block};
    use crate::{FrameCount, PutError};

    fn one(zone: &Zone) -> Frame<'_> {
        take(zone).expect("free frames")
    }

    ///
    #[test]
    fn a_second_put_is_an_error_and_changes_nothing() {
        let zone = heap_zone(1024);
        let pfn = one(&zone).into_pfn();
        assert_eq!(zone.allocator.put(pfn), Ok(()));
        assert_eq!(zone.allocator.put(pfn), Err(PutError::NotInUse(pfn)));
        let block = take_block(&zone, Order::new(2).expect("small")).expect("free frames");
        let inside = Pfn(block.first().0 + 1);
        assert_eq!(
            zone.allocator.put(inside),
            Err(PutError::NotInUse(inside)),
            "not the first frame of the block"
        );
        drop(block);
        zone.check().expect("consistent");
    }

    ///
    #[test]
    fn a_locked_frame_keeps_its_last_reference() {
        let zone = heap_zone(1024);
        let frame = one(&zone);
        let lock = frame.try_lock().expect("not locked");
        assert!(frame.try_lock().is_none(), "already locked");
        assert_eq!(zone.allocator.put(frame.pfn()), Err(PutError::Busy(frame.pfn())));
        drop(lock);
        assert!(frame.try_lock().is_some());
        drop(frame);
        zone.check().expect("consistent");
    }

    ///
    #[test]
    fn a_frame_lives_as_long_as_its_last_reference() {
        let zone = heap_zone(1024);
        let first = one(&zone);
        let pfn = first.pfn();
        let second = zone.get(pfn).expect("in use");
        drop(first);
        assert_eq!(zone.stats().in_use, FrameCount(1));
        drop(second);
        assert_eq!(zone.stats().in_use, FrameCount(0));
        assert!(zone.get(pfn).is_none());
        assert!(zone.get(Pfn(u32::MAX)).is_none(), "the arena has no such frame");
    }
}

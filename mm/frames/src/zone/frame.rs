//! Owned frames: values that free their frames when dropped.

use std::mem;

use super::Zone;
use crate::page::State;
use crate::units::{Order, Pfn};

/// One reference to a frame in use. Dropping it puts the reference; putting the last one frees the
/// frame.
///
/// It gives no access to the bytes: only chains do. Fresh memory is zero, but a frame that was used
/// before still holds the bytes of its last owner, so an owner must not show bytes that it
/// has not written itself.
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

    /// Returns the frame whose number an owner stored. Dropping the result puts that owner's
    /// reference.
    pub(crate) fn frame_from_pfn(&self, pfn: Pfn) -> Frame<'_> {
        Frame::new(self, pfn)
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

    /// Returns the zone of the frame.
    pub(crate) fn zone(&self) -> &'z Zone {
        self.zone
    }

    /// Keeps the reference without the value: the code that stores the number owns the frame from
    /// now on.
    #[must_use = "dropping the number leaks the frame"]
    pub fn into_pfn(self) -> Pfn {
        let pfn = self.pfn;
        mem::forget(self);
        pfn
    }

    /// Takes the page lock, unless it is held or the frame is isolated. Never waits. While the lock
    /// is held the frame cannot be isolated.
    #[must_use]
    pub fn try_lock(&self) -> Option<PageLock<'_>> {
        let free =
            |state: State| (!state.is_locked() && !state.is_isolated()).then(|| state.locked());
        self.zone.tables().frames.update(self.pfn, free).map(|_| PageLock { frame: self })
    }
}

impl Drop for Frame<'_> {
    fn drop(&mut self) {
        put_frame(self.zone, self.pfn);
        self.zone.release_excess_if_due();
    }
}

/// An owned block of `1 << order` adjacent frames. Dropping it frees them. Its bytes are as for
/// [`Frame`].
#[derive(Debug)]
#[must_use = "dropping a block frees it"]
pub struct Block<'z> {
    zone: &'z Zone,
    first: Pfn,
    order: Order,
}

impl<'z> Block<'z> {
    /// Wraps a block that the caller has allocated.
    pub(crate) fn new(zone: &'z Zone, first: Pfn, order: Order) -> Self {
        Self { zone, first, order }
    }

    /// Returns the first frame.
    #[must_use]
    pub fn first(&self) -> Pfn {
        self.first
    }

    /// Returns the size of the block.
    #[must_use]
    pub fn order(&self) -> Order {
        self.order
    }
}

impl Drop for Block<'_> {
    fn drop(&mut self) {
        put_frame(self.zone, self.first);
        self.zone.release_excess_if_due();
    }
}

/// Puts a reference. The types keep owners from freeing twice, so an error is a broken descriptor.
///
/// # Panics
/// When the descriptor is broken: continuing would give the frame to two owners.
fn put_frame(zone: &Zone, pfn: Pfn) {
    match zone.allocator.put(pfn) {
        Ok(()) => {}
        // Already unwinding: a second panic would abort the process, so leak the frame.
        Err(_) if std::thread::panicking() => {}
        Err(error) => panic!("{error}"),
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
    use crate::{Backing, FrameCount, MigrateType, PutError, Reclaim, ZoneConfig};

    fn zone() -> Zone {
        let config = ZoneConfig {
            capacity: FrameCount(1024),
            backing: Backing::Heap,
            ..ZoneConfig::default()
        };
        Zone::new(config).expect("a small zone")
    }

    fn one(zone: &Zone) -> Frame<'_> {
        zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).expect("free frames")
    }

    ///
    #[test]
    fn a_second_put_is_an_error_and_changes_nothing() {
        let zone = zone();
        let pfn = one(&zone).into_pfn();
        assert_eq!(zone.allocator.put(pfn), Ok(()));
        assert_eq!(zone.allocator.put(pfn), Err(PutError::NotInUse { pfn }));
        let block = zone.alloc_block(
            Order::new(2).expect("small"),
            MigrateType::Movable,
            Reclaim::NotAllowed,
        );
        let block = block.expect("free frames");
        let inside = Pfn(block.first().0 + 1);
        assert_eq!(
            zone.allocator.put(inside),
            Err(PutError::NotInUse { pfn: inside }),
            "not the first frame of the block"
        );
        drop(block);
        zone.check().expect("consistent");
    }

    ///
    #[test]
    fn a_locked_frame_keeps_its_last_reference() {
        let zone = zone();
        let frame = one(&zone);
        let lock = frame.try_lock().expect("not locked");
        assert!(frame.try_lock().is_none(), "already locked");
        assert_eq!(zone.allocator.put(frame.pfn()), Err(PutError::Busy { pfn: frame.pfn() }));
        drop(lock);
        assert!(frame.try_lock().is_some());
        drop(frame);
        zone.check().expect("consistent");
    }

    ///
    #[test]
    fn a_frame_lives_as_long_as_its_last_reference() {
        let zone = zone();
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

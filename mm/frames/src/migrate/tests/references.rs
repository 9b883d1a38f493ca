//! What keeps the last reference of a frame, and how a batch of every kind of frame ends (R-007,
//!

use super::*;
use crate::page::{OwnerId, Put};
use crate::{Lru, PutError};

/// each mark alone keeps the last reference, and nothing changes. Without marks the frame
/// is freed and loses its private value.
#[test]
fn r007_each_mark_keeps_the_last_reference() {
    let zone = zone();
    let owner = zone.reserve_owner().expect("a number");
    let id: OwnerId = owner.id();
    let pfn = take(&zone).expect("room").into_pfn();
    let (plain, frames) = (state(&zone, pfn), &zone.tables().frames);
    let owned = |state: State| state.owned_by(id).expect("it has no owner");
    let marks: [(State, PutError); 5] = [
        (plain.locked(), PutError::Busy(pfn)),
        (plain.isolated(), PutError::Busy(pfn)),
        (plain.locked().isolated(), PutError::Busy(pfn)),
        (owned(plain), PutError::Movable(pfn)),
        (owned(plain).isolated(), PutError::Busy(pfn)),
    ];
    frames.set_private(pfn, 41, 3);
    for (marked, error) in marks {
        frames.update(pfn, |_| Some(marked));
        assert_eq!(zone.allocator().put(pfn), Err(error));
        assert_eq!((state(&zone, pfn), frames.private(pfn)), (marked, Some((41, 3))), "{error}");
        // With two references, one can be put whatever the marks are.
        assert!(frames.get_unless_zero(pfn));
        assert_eq!(frames.put(pfn), Ok(Put::Shared));
    }
    frames.update(pfn, |_| Some(plain));
    assert_eq!(zone.allocator().put(pfn), Ok(()));
    assert_eq!(zone.allocator().put(pfn), Err(PutError::NotInUse(pfn)));
    assert_eq!(state(&zone, pfn).references(), 0);
    zone.check().expect("consistent");
}

/// R-063, S-11: a batch holds frames of a driver and of an LRU owner, and of each a frame that
/// its owner released since. Putting it back calls each owner for the frame that it still has,
/// and no other. The LRU frame is on its list again; the released frames are free.
#[test]
fn r063_a_batch_of_every_kind_is_put_back() {
    let zone = zone();
    let driver = Driver::new(&zone);
    let cache = crate::store::Store::new(zone.reserve_lru_owner().expect("a number"), 64);
    let lru: Lru<'_> = cache.lru();
    let fill = || {
        let id = cache.filled(crate::ChainKind::Single, 1, 7);
        let pfn = cache.chains.share(id).and_then(|shared| shared.frame(0)).expect("live");
        assert!(lru.add(pfn));
        (id, pfn)
    };
    let (kept, gone) = (driver.take(), driver.take());
    let ((_, kept_page), (gone_id, gone_page)) = (fill(), fill());
    let all = [kept, gone, kept_page, gone_page];
    let batch: Vec<_> = all.map(|pfn| zone.isolate(pfn).expect("movable")).into();
    assert_eq!((lru.stats().inactive.0, zone.isolated()), (0, 4));
    driver.release(gone);
    cache.end(gone_id);
    drop(batch);
    assert_eq!((driver.putbacks.load(Relaxed), lru.stats().inactive.0, zone.isolated()), (1, 1, 0));
    assert_eq!(all.map(|pfn| references(&zone, pfn)), [1, 0, 1, 0]);
    assert_eq!(zone.stats().in_use, FrameCount(2));
    lru.check().expect("sound lists");
    zone.check().expect("consistent");
}

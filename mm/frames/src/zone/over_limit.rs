//! Room beyond the limit for callers that are about to free as many frames (the kernel's memalloc
//! reserve).

use super::Zone;
use crate::buddy::InFlight;
use crate::units::FrameCount;

/// Room beyond the zone's limit. Dropping it withdraws the room.
#[derive(Debug)]
#[must_use = "dropping it withdraws the room"]
pub struct OverLimit<'z> {
    zone: &'z Zone,
    room: InFlight,
}

impl Zone {
    /// Lets `frames` more be allocated than the limit allows, for a caller that has as many in
    /// use and frees them right afterwards. Without it, a cache at the limit could never write
    /// its content to where it takes less room. As for a target of migration, such a frame counts
    /// once the old one is free.
    ///
    /// If another request takes that room, the caller's request is refused like any other. The
    /// zone then is above its limit by what was taken until the next frame is freed: never by
    /// more than the room of all `OverLimit` values at one time.
    ///
    /// In a zone above a limit that was lowered, the room is beyond what is in use. Otherwise
    /// nothing could move to where it takes less room, and the zone would stay above its limit.
    /// Its use never grows by more than that room.
    ///
    /// Locking: takes the zone lock briefly.
    pub fn allow_over_limit(&self, frames: FrameCount) -> OverLimit<'_> {
        let most = self.capacity().0;
        let room = self.allocator.with_buddy(|buddy, _| {
            let frames = buddy.ledger.over_limit(frames.0).min(most);
            buddy.ledger.begin_flight(frames)
        });
        OverLimit { zone: self, room: room.unwrap_or_default() }
    }
}

impl Drop for OverLimit<'_> {
    fn drop(&mut self) {
        let room = std::mem::take(&mut self.room);
        self.zone.allocator.with_buddy(|buddy, _| buddy.ledger.land(room));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{AllocError, Backing, MigrateType, Reclaim, ZoneConfig};

    /// At the limit, one more frame can be allocated against one that is freed afterwards, and no
    /// second one.
    #[test]
    fn over_limit_allows_one_frame_while_held() {
        let limit = Some(FrameCount(4));
        let config = ZoneConfig {
            capacity: FrameCount(1024),
            limit,
            backing: Backing::Heap,
            ..ZoneConfig::default()
        };
        let zone = Zone::new(config).expect("a small zone");
        let take = || zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed);
        let mut held: Vec<_> = (0..4).map(|_| take().expect("below the limit")).collect();
        assert_eq!(take().map(drop), Err(AllocError::Limit));
        let over_limit = zone.allow_over_limit(FrameCount(1));
        held.push(take().expect("room beyond the limit"));
        assert_eq!(take().map(drop), Err(AllocError::Limit));
        drop(over_limit);
        held.truncate(4);
        assert_eq!(take().map(drop), Err(AllocError::Limit));
        drop(held);
        zone.check().expect("consistent");
    }

    /// What a caller is going to free may no longer be counted.
    #[test]
    fn over_limit_may_exceed_frames_in_use() {
        let limit = Some(FrameCount(4));
        let config = ZoneConfig {
            capacity: FrameCount(1024),
            limit,
            backing: Backing::Heap,
            ..ZoneConfig::default()
        };
        let zone = Zone::new(config).expect("a small zone");
        let _over_limit = zone.allow_over_limit(FrameCount(2));
        let _first =
            zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).expect("an empty zone");
    }

    /// The same in a zone above a lowered limit: otherwise it could never shrink to it.
    #[test]
    fn over_limit_works_above_a_lowered_limit() {
        let limit = Some(FrameCount(8));
        let config = ZoneConfig {
            capacity: FrameCount(1024),
            limit,
            backing: Backing::Heap,
            ..ZoneConfig::default()
        };
        let zone = Zone::new(config).expect("a small zone");
        let take = || zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed);
        let held: Vec<_> = (0..8).map(|_| take().expect("below the limit")).collect();
        zone.set_limit(Some(FrameCount(4)));
        let over_limit = zone.allow_over_limit(FrameCount(1));
        let one = take().expect("room beyond the limit");
        assert_eq!(take().map(drop), Err(AllocError::Limit));
        drop((over_limit, one, held));
        assert_eq!(std::iter::from_fn(|| take().ok()).collect::<Vec<_>>().len(), 4);
        zone.check().expect("consistent");
    }
}

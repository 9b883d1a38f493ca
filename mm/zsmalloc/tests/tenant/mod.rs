//! Frames held by the test, so that the frames of a pool lie above them and frame compaction has work to do.
//!
//! The zone gives out its lowest frames first. A small pool therefore fits into the first pageblock, where no compaction ever moves it.

use frames::{Frame, MigrateType, Reclaim, Zone};

/// Takes `count` frames, or as many as there are. What is allocated while they are held lies above them.
pub fn occupy(zone: &Zone, count: usize) -> Vec<Frame<'_>> {
    let take = || zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).ok();
    std::iter::from_fn(take).take(count).collect()
}

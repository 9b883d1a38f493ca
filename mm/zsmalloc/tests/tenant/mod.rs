//! Frames held by the test, so that a pool's frames lie above them and frame compaction has work.
//!
//! The zone allocates its lowest frames first. So a small pool fits into the first pageblock,
//! where compaction never moves it.

use frames::{Frame, MigrateType, Reclaim, Zone};

/// Takes `count` frames, or as many as are free. Frames allocated while they are held lie above
/// them.
pub(crate) fn occupy(zone: &Zone, count: usize) -> Vec<Frame<'_>> {
    let take = || zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).ok();
    std::iter::from_fn(take).take(count).collect()
}

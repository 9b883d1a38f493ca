//! The zone calls the shrinker of a pool.

use std::sync::Arc;

use frames::{FrameCount, NoLocksHeld};

use super::{content, fill, free_every, pool};
use crate::{Budget, Handle};

/// the zone's shrinker call frees the frames that the pool counted, and none when nothing
/// can be gained.
#[test]
fn r337_the_zone_gets_its_frames_from_a_sparse_pool() {
    let promise = NoLocksHeld::promise();
    let pool = pool();
    let handles = fill(&pool, 1850, 2000);
    assert_eq!(
        (pool.zone().shrinkable(), pool.zone().shrink(FrameCount(10), &promise)),
        (FrameCount(0), FrameCount(0))
    );
    free_every(&pool, &handles, |number| number % 4 == 0);
    let (before, could) = (pool.frames(), pool.zone().shrinkable());
    assert!(could.0 > before / 2, "{could:?} of {before}");
    let freed = pool.zone().shrink(could, &promise);
    assert_eq!((freed, pool.frames()), (could, before - could.0));
    assert_eq!(
        (pool.zone().shrinkable(), pool.zone().shrink(FrameCount(1), &promise)),
        (FrameCount(0), FrameCount(0))
    );
    pool.check().expect("consistent");
    let zone = Arc::clone(pool.zone());
    drop(pool);
    assert_eq!(
        zone.shrink(FrameCount(1), &promise),
        FrameCount(0),
        "L-05: a dropped pool is not asked"
    );
}

/// R-337, B13: concurrent scans and compactions each report what they freed.
#[test]
fn r337_a_scan_counts_exactly_beside_a_compaction() {
    for _ in 0..10 {
        let pool = pool();
        let handles: Vec<Handle> = (0..4000)
            .map(|number| {
                pool.store(&content(number, 300 + number as usize * 61 % 3000)).expect("room")
            })
            .collect();
        free_every(&pool, &handles, |number| number % 3 == 0);
        let before = pool.frames();
        let (scanned, compacted) = std::thread::scope(|scope| {
            let scan =
                scope.spawn(|| pool.zone().shrink(FrameCount(u64::MAX), &NoLocksHeld::promise()));
            let compacted = pool.compact(&Budget::unlimited());
            (scan.join().expect("no panic"), compacted)
        });
        assert_eq!(scanned.0 + compacted.frames_freed, before - pool.frames());
        pool.check().expect("consistent");
    }
}

//! Migrating, storing, reading and freeing allocate no heap memory. The counting
//! allocator is global, so these tests have their own file.

use allocation_counter::measure;
use frames::{Isolated, MigrateMode, Pfn};
use zsmalloc::{Budget, Handle, Pool};

#[expect(dead_code, reason = "each test uses a part of it")]
mod support;
use support::{pool, take};

fn store(pool: &Pool, bytes: &[u8; 4096]) -> Vec<Handle> {
    (0..500).map(|number| pool.store(&bytes[..1 + number * 613 % 4096]).expect("room")).collect()
}

/// migrating every frame of a pool allocates nothing.
#[test]
fn r411_migration_allocates_nothing() {
    let pool = pool(2048);
    let zone = pool.zone();
    let handles = store(&pool, &[7; 4096]);
    let mut batch: Vec<Isolated<'_>> =
        (0..2048).filter_map(|number| zone.isolate(Pfn(number))).collect();
    let frames = batch.len() as u64;
    let mut migrated = 0;
    let heap = measure(|| {
        let mode = MigrateMode::SyncLight;
        migrated = zone.migrate_pages(&mut batch, &mut |_| take(zone), mode).migrated;
    });
    assert_eq!((migrated, heap.count_total), (frames, 0));
    assert!(frames > 100);
    handles.into_iter().for_each(|handle| _ = pool.free(handle).expect("live"));
}

/// Storing, reading, overwriting and freeing allocate nothing.
#[test]
fn the_hot_path_allocates_nothing() {
    let pool = pool(2048);
    let bytes = [7; 4096];
    let kept = store(&pool, &bytes);
    let mut scratch = [0; 4096];
    let heap = measure(|| {
        for (number, &handle) in kept.iter().enumerate() {
            let len = pool.len(handle).expect("live");
            assert_eq!(pool.read(handle).expect("live").contiguous(&mut scratch).len(), len);
            pool.write(handle, &bytes[..len]).expect("no thread reads it");
            let other = pool.store(&bytes[..1 + number * 37 % 4096]).expect("room");
            pool.free(other).expect("live");
        }
    });
    assert_eq!(heap.count_total, 0, "{heap:?}");
}

/// Object compaction allocates at most its list of classes, also when it moves thousands of
/// objects.
#[test]
fn compaction_allocates_nothing_for_each_object() {
    let pool = pool(2048);
    let handles: Vec<_> = (0..4000).map(|_| pool.store(&[7; 500]).expect("room")).collect();
    handles.iter().step_by(2).for_each(|&handle| _ = pool.free(handle).expect("live"));
    let mut moved = 0;
    let heap = measure(|| moved = pool.compact(&Budget::unlimited()).objects_moved);
    assert!(
        moved > 500 && heap.count_total <= 2,
        "{moved} objects, {} allocations",
        heap.count_total
    );
}

//! Sources and destinations of object compaction, on prepared pools.

use std::sync::Arc;

use zsmalloc::{Budget, CompactionOutcome, Handle, Pool, PoolConfig};

#[expect(dead_code, reason = "each test uses a part of it")]
mod support;
use support::{pool_in, zone};

/// Number of objects in a frame, of 1000 bytes each.
const OBJECTS: usize = 4;

/// Returns a pool whose zspages are one frame each, with `fills` live objects in the n-th.
fn prepared(fills: &[usize]) -> (Arc<Pool>, Vec<(Handle, Vec<u8>)>) {
    let pool = pool_in(&zone(512), PoolConfig { chain: 1, ..PoolConfig::default() });
    let store = |number: usize| {
        let bytes = vec![number as u8 + 1; 1000];
        (pool.store(&bytes).expect("room"), bytes)
    };
    let all: Vec<_> = (0..fills.len() * OBJECTS).map(store).collect();
    let is_kept = |number: usize| number % OBJECTS < fills[number / OBJECTS];
    let (kept, gone): (Vec<_>, Vec<_>) =
        all.into_iter().enumerate().partition(|(number, _)| is_kept(*number));
    gone.into_iter().for_each(|(_, (handle, _))| _ = pool.free(handle).expect("live"));
    (pool, kept.into_iter().map(|(_, object)| object).collect())
}

/// compaction moves only the objects of the zspages that it frees. A source continues into
/// the next destination when the last one is full. Without a destination, nothing moves.
#[test]
fn r333_sources_are_emptied_into_as_many_as_needed() {
    let cases: [(&[usize], u64, u64); 8] = [
        (&[3, 3, 1, 1], 2, 2),
        // One source, two destinations with one free slot each.
        (&[3, 3, 2], 2, 1),
        // One source, three destinations.
        (&[3, 3, 3, 3], 3, 1),
        // Two sources share a destination.
        (&[2, 1, 1], 2, 2),
        (&[1, 1, 1, 1], 3, 3),
        // No gain is possible.
        (&[4, 4, 1], 0, 0),
        (&[3, 2], 0, 0),
        (&[4, 4], 0, 0),
    ];
    for (fills, moved, freed) in cases {
        let (pool, objects) = prepared(fills);
        assert_eq!(pool.frames(), fills.len() as u64);
        let report = pool.compact(&Budget::unlimited());
        assert_eq!(
            (report.objects_moved, report.frames_freed, report.skipped),
            (moved, freed, 0),
            "{fills:?}"
        );
        assert_eq!(
            (pool.frames(), report.outcome),
            (fills.len() as u64 - freed, CompactionOutcome::Done),
            "{fills:?}"
        );
        for (handle, bytes) in &objects {
            assert_eq!(&pool.read(*handle).expect("live").to_vec(), bytes, "{fills:?}");
        }
        pool.check().expect("consistent");
        assert_eq!(pool.compact(&Budget::unlimited()).objects_moved, 0, "{fills:?} again");
    }
}

/// compaction skips a destination with a reader, which stays unchanged, and uses the
/// next one.
#[test]
fn r333_a_destination_with_a_reader_is_skipped() {
    let (pool, objects) = prepared(&[3, 3, 1]);
    // The first object of the first zspage.
    let reader = pool.read(objects[0].0).expect("live");
    let report = pool.compact(&Budget::unlimited());
    assert_eq!((report.objects_moved, report.frames_freed), (1, 1));
    assert_eq!(reader.to_vec(), objects[0].1);
    drop(reader);
    pool.check().expect("consistent");
}

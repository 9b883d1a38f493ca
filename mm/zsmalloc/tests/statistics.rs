//! Statistics of a pool, in use and at rest.

#![cfg(not(any(loom, shuttle)))]

use std::sync::atomic::{AtomicBool, Ordering};

use zsmalloc::{Budget, FullnessGroup, PoolConfig};

#[expect(dead_code, reason = "each test uses a part of it")]
mod support;
use support::{pool, pool_in, zone};

/// every frame of a zspage is movable, so it is in a movable pageblock.
#[test]
fn r500_frames_of_zspages_are_movable() {
    let pool = pool(2048);
    let handles: Vec<_> =
        (1..=4096).step_by(64).map(|len| pool.store(&vec![7; len]).expect("room")).collect();
    let types = pool.zone().pagetypeinfo().to_string();
    let counts = types.lines().last().expect("the counts come last").split_whitespace();
    let blocks: Vec<u32> = counts.filter_map(|word| word.parse().ok()).collect();
    let [unmovable, movable, cma] = [blocks[0], blocks[1], blocks[2]];
    assert!(movable > 0, "{types}");
    assert_eq!((unmovable, cma), (0, 0), "{types}");
    handles.into_iter().for_each(|handle| _ = pool.free(handle).expect("live"));
}

/// L-01: all counts of a class return to zero when its last object is freed.
#[test]
fn l01_counts_end_at_zero_with_the_last_object() {
    let pool = pool(2048);
    let handles: Vec<_> =
        (1..400usize).map(|number| pool.store(&vec![7; number * 10]).expect("room")).collect();
    handles.into_iter().for_each(|handle| _ = pool.free(handle).expect("live"));
    let stats = pool.stats();
    assert!(!stats.classes.is_empty());
    for class in &stats.classes {
        let counts =
            (class.objects_allocated, class.objects_used, class.frames_used, class.live_bytes);
        assert_eq!(counts, (0, 0, 0, 0), "counts of class {} without objects", class.class.size);
        assert_eq!(
            class.groups.iter().sum::<u32>(),
            0,
            "zspages on lists of class {}",
            class.class.size
        );
    }
    pool.check().expect("consistent");
}

/// B6, L-09: each class is exact in itself while others allocate, free and compact. Its objects
/// never need more frames than it holds, so the difference cannot wrap. Its groups add up to its
/// zspages.
#[test]
fn b6_a_class_never_needs_more_than_it_holds() {
    let pool = pool(2048);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..200 {
                let handles: Vec<_> = (0..200)
                    .map(|n| pool.store(&vec![1; 40 + n * 17 % 3000]).expect("room"))
                    .collect();
                if round % 16 == 0 {
                    pool.compact(&Budget::unlimited());
                }
                handles.into_iter().for_each(|handle| _ = pool.free(handle).expect("live"));
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            for class in pool.stats().classes {
                let needed = class.class.frames_for(class.objects_used);
                assert!(needed <= class.frames_used, "{needed} frames needed: {class:?}");
                if !class.class.is_huge() {
                    assert_eq!(class.frames_used - class.frames_freeable, needed, "{class:?}");
                }
                let zspages: u64 = class.groups.iter().copied().map(u64::from).sum();
                assert_eq!(
                    zspages * u64::from(class.class.objects),
                    class.objects_allocated,
                    "{class:?}"
                );
                assert!(class.objects_used <= class.objects_allocated, "{class:?}");
                assert!(
                    class.live_bytes <= class.objects_used * class.class.payload() as u64,
                    "{class:?}"
                );
            }
        }
    });
    pool.check().expect("consistent");
}

/// the fullest zspage with a free slot takes the next object.
#[test]
fn r280_the_fullest_zspage_takes_the_next_object() {
    // A chain of one frame: four objects of 1000 bytes and their headers in each zspage.
    let pool = pool_in(&zone(2048), PoolConfig { chain: 1, ..PoolConfig::default() });
    let handles: Vec<_> = (0..12).map(|_| pool.store(&[1; 1000]).expect("room")).collect();
    // The first zspage keeps one object, the second three, the third two.
    [0, 1, 2, 4, 8, 9].into_iter().for_each(|number| _ = pool.free(handles[number]).expect("live"));
    let in_use = || {
        let classes = pool.stats().classes;
        let class = classes.iter().find(|class| class.objects_used > 0).expect("one class is used");
        [1, 2, 3, 4].map(|used| class.groups[FullnessGroup::of(used, 4).index()])
    };
    assert_eq!(in_use(), [1, 1, 1, 0]);
    let expected = [[1, 1, 0, 1], [1, 0, 1, 1], [1, 0, 0, 2], [0, 1, 0, 2]];
    for zspages in expected {
        pool.store(&[2; 1000]).expect("room");
        assert_eq!(in_use(), zspages);
    }
}

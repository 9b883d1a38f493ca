//! The original's interface: map an object for reading, writing or both, and unmap it
//! (R-290..R-294).

use std::sync::Arc;

use zsmalloc::{ChainRule, Handle, MapMode, Pool, PoolConfig, SizeClass, SizeClasses};

#[expect(dead_code, reason = "each test uses a part of it")]
mod support;
use support::{pool_in, zone};

fn pool(chain: u8, rule: ChainRule) -> Arc<Pool> {
    pool_in(&zone(512), PoolConfig { chain, rule, ..PoolConfig::default() })
}

fn content(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (number * 31 + at * 7 + 1) as u8).collect()
}

/// Fills one zspage of a class. Each object's bytes name the object.
fn fill(pool: &Pool, class: SizeClass) -> Vec<Handle> {
    let store = |number| pool.store(&content(number, class.payload())).expect("room");
    (0..usize::from(class.objects)).map(store).collect()
}

/// Checks that every object but `number` has the bytes that were stored.
fn assert_others_whole(pool: &Pool, class: SizeClass, handles: &[Handle], number: usize) {
    for (other, &handle) in handles.iter().enumerate().filter(|(other, _)| *other != number) {
        let bytes = pool.read(handle).expect("live").to_vec();
        assert_eq!(
            bytes,
            content(other, class.payload()),
            "object {other} beside {number} of {class:?}"
        );
    }
    // The headers still name their handles (S-49).
    pool.check().expect("consistent");
}

/// Returns the objects to test: the first, the last, and one that crosses a frame boundary, if any.
fn tested(class: SizeClass) -> Vec<usize> {
    let size = usize::from(class.size);
    let crosses = |object: &usize| object * size / 4096 != ((object + 1) * size - 1) / 4096;
    let objects = 0..usize::from(class.objects);
    let mut tested: Vec<usize> = objects.clone().find(crosses).into_iter().collect();
    tested.extend([0, objects.end - 1]);
    tested
}

/// Runs `body` on a full zspage of every class, by both rules, for each object to test.
fn every_class(body: impl Fn(&Pool, SizeClass, &[Handle], usize)) {
    for (chain, rule) in [(4, ChainRule::UsedPercent), (16, ChainRule::LeastWaste)] {
        for class in SizeClasses::new(usize::from(chain), rule).iter() {
            for number in tested(class) {
                let pool = pool(chain, rule);
                let handles = fill(&pool, class);
                body(&pool, class, &handles, number);
                assert_others_whole(&pool, class, &handles, number);
            }
        }
    }
}

/// changes through a read-only map are not written back.
#[test]
fn r292_changes_through_a_read_map_vanish() {
    every_class(|pool, class, handles, number| {
        let mut mapped = pool.map(handles[number], MapMode::ReadOnly).expect("live");
        assert_eq!(&*mapped, content(number, class.payload()));
        mapped.fill(0xee);
        mapped.unmap().expect("nothing is written");
        let bytes = pool.read(handles[number]).expect("live").to_vec();
        assert_eq!(bytes, content(number, class.payload()), "{class:?}");
    });
}

/// S-49: a write-only map starts as zeros, not as old bytes, and all of it
/// is written back. The header stays. For objects in one frame and across two, in every class.
#[test]
fn s49_a_write_map_leaves_header_and_neighbours() {
    every_class(|pool, class, handles, number| {
        let mut mapped = pool.map(handles[number], MapMode::WriteOnly).expect("live");
        assert!(mapped.iter().all(|&byte| byte == 0), "old bytes show in {class:?}");
        mapped[0] = 0xee;
        mapped.unmap().expect("no thread reads it");
        let bytes = pool.read(handles[number]).expect("live").to_vec();
        assert_eq!((bytes.len(), bytes[0]), (class.payload(), 0xee));
        assert!(bytes[1..].iter().all(|&byte| byte == 0), "{class:?}");
    });
}

/// a read-write map starts as the object's bytes and is written back, also when it is
/// dropped.
#[test]
fn r292_a_read_write_map_is_written_back() {
    every_class(|pool, class, handles, number| {
        let mut expected = content(number, class.payload());
        let last = expected.len() - 1;
        expected[last] ^= 0xff;
        let mut mapped = pool.map(handles[number], MapMode::ReadWrite).expect("live");
        mapped[last] ^= 0xff;
        drop(mapped);
        assert_eq!(pool.read(handles[number]).expect("live").to_vec(), expected, "{class:?}");
    });
}

/// B2: the last class with headers at chain 4. Five objects share four frames, and each is
/// overwritten and freed without a change of the others.
#[test]
fn b2_neighbours_of_the_last_headed_class_survive() {
    let pool = pool(4, ChainRule::UsedPercent);
    let class = SizeClasses::new(4, ChainRule::UsedPercent).for_len(3260).expect("a legal length");
    assert_eq!((class.size, class.objects, class.is_huge()), (3264, 5, false));
    let mut handles = fill(&pool, class);
    for number in 0..handles.len() {
        pool.write(handles[number], &vec![0xee; class.payload()]).expect("no thread reads it");
        assert_others_whole(&pool, class, &handles, number);
        pool.free(handles[number]).expect("live");
        handles[number] = pool.store(&content(number, class.payload())).expect("the freed slot");
        assert_others_whole(&pool, class, &handles, number);
    }
    assert_eq!(pool.frames(), 4, "one zspage held them all");
}

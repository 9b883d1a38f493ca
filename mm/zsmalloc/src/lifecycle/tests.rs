//! What is left in a pool at its end.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use frames::FrameCount;
use sys::Backing;

use super::*;
use crate::tests::{pool_in, zone};

fn pool(on_leak: Option<fn(&Leaked)>) -> (Arc<Zone>, Arc<Pool>) {
    let zone = zone(1024, Backing::Heap);
    let pool = pool_in(&zone, PoolConfig { on_leak, ..PoolConfig::default() });
    (zone, pool)
}

/// the report names exactly the lists that are not empty, with their class, group and
/// length.
#[test]
fn r451_destroy_reports_exactly_the_lists_in_use() {
    let (zone, pool) = pool(None);
    let huge: Vec<_> = (0..3).map(|_| pool.store(&[1; 4096]).expect("room")).collect();
    let small = pool.store(&[2; 100]).expect("room");
    let gone = pool.store(&[3; 2000]).expect("room");
    pool.free(gone).expect("live");
    let class = pool.classes.for_len(100).expect("a class");
    let (objects, all) = (huge.len() as u64 + 1, 3);
    assert_eq!(pool.len(small), Ok(100));
    let Err(DestroyError::Leaked(leaked)) = pool.destroy() else { panic!("it is not empty") };
    let partial =
        LeakedGroup { size: class.size, group: FullnessGroup::of(1, class.objects), zspages: 1 };
    let full = LeakedGroup { size: 4096, group: FullnessGroup::FULL, zspages: all };
    assert_eq!(leaked, Leaked { groups: vec![partial, full], objects });
    let line = format!(
        "the pool ended with 4 objects: class {} group 1: 1 zspages, class 4096 group 11: 3 zspages",
        class.size
    );
    assert_eq!(leaked.to_string(), line);
    assert_eq!(zone.stats().in_use, FrameCount(0), "its frames are free");
}

#[test]
fn r451_an_empty_pool_is_destroyed_without_error() {
    let (_, pool) = pool(None);
    let handle = pool.store(&[1; 500]).expect("room");
    pool.free(handle).expect("live");
    assert!(pool.destroy().is_ok());
}

#[test]
fn r451_a_shared_pool_is_not_destroyed() {
    let (_, pool) = pool(None);
    let other = Arc::clone(&pool);
    let handle = pool.store(&[7; 500]).expect("room");
    let Err(DestroyError::Shared(pool)) = pool.destroy() else { panic!("it is shared") };
    assert_eq!(other.read(handle).map(|object| object.to_vec()), Ok(vec![7; 500]));
    assert!(pool.free(handle).is_ok());
}

/// Dropping a pool calls the callback once; destroying it does not.
#[test]
fn r451_a_dropped_pool_calls_its_callback_once() {
    static TOLD: AtomicU64 = AtomicU64::new(0);
    let told: fn(&Leaked) = |leaked| _ = TOLD.fetch_add(leaked.objects, Relaxed);
    let (_, first) = pool(Some(told));
    let _ = (first.store(&[1; 100]).expect("room"), first.store(&[1; 100]).expect("room"));
    drop(first);
    assert_eq!(TOLD.load(Relaxed), 2);
    let (_, second) = pool(Some(told));
    let _ = second.store(&[1; 100]).expect("room");
    assert!(matches!(second.destroy(), Err(DestroyError::Leaked(_))));
    let (_, empty) = pool(Some(told));
    drop(empty);
    assert_eq!(TOLD.load(Relaxed), 2);
}

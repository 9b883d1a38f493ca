//! A worker: stores, overwrites and frees its own objects, and reads all workers' objects.

use fastrand::Rng;
use zsmalloc::{AccessError, AllocError, WriteError};

use crate::content;
use crate::counters::add;
use crate::pool_slot::{LivePool, Object, verify};
use crate::soak::Soak;

/// Operations on a pool before another is chosen. `PoolSlot::recreate` waits for this turn.
const OPS_PER_TURN: usize = 500;

/// Runs random operations until the soak is over.
pub(crate) fn run(soak: &Soak, number: usize) {
    let mut rng = Rng::with_seed(soak.seed << 8 | number as u64);
    while !soak.is_over() {
        let slot = &soak.slots[rng.usize(..soak.slots.len())];
        let live = slot.live.read().expect("no thread panicked");
        for _ in 0..OPS_PER_TURN {
            step(soak, &live, number, &mut rng);
        }
    }
}

fn step(soak: &Soak, live: &LivePool, number: usize, rng: &mut Rng) {
    match rng.u32(..10) {
        0..=3 => store(soak, live, number, rng),
        4..=5 => overwrite(soak, live, number, rng),
        6..=7 => read_random_objects(soak, live, rng),
        _ => free(soak, live, number, rng),
    }
}

fn store(soak: &Soak, live: &LivePool, number: usize, rng: &mut Rng) {
    let (tag, len) = (rng.u64(..), content::len(rng));
    match live.pool.store(&content::of(tag, len)) {
        Ok(handle) => live.objects[number].lock().expect("no thread panicked").push(Object {
            handle,
            tag,
            len,
        }),
        // At the limit: free one object, or sometimes many, so that the pool becomes sparse.
        Err(AllocError::Limit) => {
            add(&soak.counters.refused, 1);
            let some = if rng.u32(..64) == 0 { 3000 } else { 1 };
            (0..some).for_each(|_| free(soak, live, number, rng));
        }
        Err(error) => panic!("{error}"),
    }
    add(&soak.counters.stored, 1);
}

fn overwrite(soak: &Soak, live: &LivePool, number: usize, rng: &mut Rng) {
    let mut objects = live.objects[number].lock().expect("no thread panicked");
    if objects.is_empty() {
        return;
    }
    let which = rng.usize(..objects.len());
    let object = &mut objects[which];
    let tag = rng.u64(..);
    match live.pool.write(object.handle, &content::of(tag, object.len)) {
        Ok(()) => object.tag = tag,
        // Another thread reads the object, and the limit leaves no room for a copy: nothing
        // changed.
        Err(WriteError::Alloc(_)) => add(&soak.counters.refused, 1),
        Err(error) => panic!("{error}"),
    }
    drop(objects);
    add(&soak.counters.overwritten, 1);
}

/// Reads a few objects of a random worker and holds their guards. The lock keeps that worker from
/// changing them.
fn read_random_objects(soak: &Soak, live: &LivePool, rng: &mut Rng) {
    let objects = live.objects[rng.usize(..live.objects.len())].lock().expect("no thread panicked");
    if objects.is_empty() {
        return;
    }
    let some: Vec<Object> = (0..4).map(|_| objects[rng.usize(..objects.len())]).collect();
    let held: Vec<_> = some
        .iter()
        .map(|object| live.pool.read(object.handle).expect("the object is live"))
        .collect();
    for (object, read) in some.iter().zip(&held) {
        let (head, tail) = read.pieces();
        assert!(content::is(object.tag, head, tail), "{object:?} holds other bytes");
        add(&soak.counters.bytes, object.len as u64);
    }
    add(&soak.counters.read, 4);
}

fn free(soak: &Soak, live: &LivePool, number: usize, rng: &mut Rng) {
    let mut objects = live.objects[number].lock().expect("no thread panicked");
    if objects.is_empty() {
        return;
    }
    let which = rng.usize(..objects.len());
    let object = objects.swap_remove(which);
    drop(objects);
    verify(&live.pool, object);
    assert_eq!(live.pool.free(object.handle), Ok(object.len));
    // R-289, L-11: a freed handle is stale.
    assert_eq!(live.pool.free(object.handle), Err(AccessError::Stale));
    add(&soak.counters.freed, 1);
}

//! A worker: stores, reads, overwrites and frees objects of its own, and looks at everybody's.

use testkit::Rng;
use zsmalloc::{AccessError, AllocError, WriteError};

use crate::place::{Life, Object, verify};
use crate::tally::add;
use crate::{World, content};

/// Operations on one pool before the next is chosen; its end waits that long.
const BURST: usize = 500;

pub fn run(world: &World, number: usize) {
    let mut rng = Rng::new(world.seed << 8 | number as u64);
    while !world.is_over() {
        let place = &world.places[rng.index(world.places.len())];
        let life = place.life.read().expect("nobody panicked");
        for _ in 0..BURST {
            step(world, &life, number, &mut rng);
        }
    }
}

fn step(world: &World, life: &Life, number: usize, rng: &mut Rng) {
    match rng.below(10) {
        0..=3 => store(world, life, number, rng),
        4..=5 => overwrite(world, life, number, rng),
        6..=7 => look_at_others(world, life, rng),
        _ => free(world, life, number, rng),
    }
}

fn store(world: &World, life: &Life, number: usize, rng: &mut Rng) {
    let (tag, len) = (rng.bits(), content::len(rng));
    match life.pool.store(&content::of(tag, len)) {
        Ok(handle) => {
            life.objects[number].lock().expect("nobody panicked").push(Object { handle, tag, len })
        }
        // At the limit: make room, by one object or by many, so that the pool is sparse at times.
        Err(AllocError::Limit) => {
            add(&world.tally.refused, 1);
            let some = if rng.below(64) == 0 { 3000 } else { 1 };
            (0..some).for_each(|_| free(world, life, number, rng));
        }
        Err(error) => panic!("{error}"),
    }
    add(&world.tally.stored, 1);
}

fn overwrite(world: &World, life: &Life, number: usize, rng: &mut Rng) {
    let mut objects = life.objects[number].lock().expect("nobody panicked");
    if objects.is_empty() {
        return;
    }
    let which = rng.index(objects.len());
    let object = &mut objects[which];
    let tag = rng.bits();
    match life.pool.write(object.handle, &content::of(tag, object.len)) {
        Ok(()) => object.tag = tag,
        // Somebody reads it, and there is no room beside at the limit: it is what it was.
        Err(WriteError::Alloc(_)) => add(&world.tally.refused, 1),
        Err(error) => panic!("{error}"),
    }
    drop(objects);
    add(&world.tally.overwritten, 1);
}

/// Reads a few objects, holding all of them for a while; one's own or another worker's, who is kept from changing them.
fn look_at_others(world: &World, life: &Life, rng: &mut Rng) {
    let objects = life.objects[rng.index(life.objects.len())].lock().expect("nobody panicked");
    if objects.is_empty() {
        return;
    }
    let some: Vec<Object> = (0..4).map(|_| objects[rng.index(objects.len())]).collect();
    let held: Vec<_> =
        some.iter().map(|object| life.pool.read(object.handle).expect("live")).collect();
    for (object, read) in some.iter().zip(&held) {
        let (head, tail) = read.pieces();
        assert!(content::is(object.tag, head, tail), "{object:?} holds other bytes");
        add(&world.tally.bytes, object.len as u64);
    }
    add(&world.tally.read, 4);
}

fn free(world: &World, life: &Life, number: usize, rng: &mut Rng) {
    let mut objects = life.objects[number].lock().expect("nobody panicked");
    if objects.is_empty() {
        return;
    }
    let which = rng.index(objects.len());
    let object = objects.swap_remove(which);
    drop(objects);
    verify(&life.pool, object);
    assert_eq!(life.pool.free(object.handle), Ok(object.len));
    // R-289, L-11: freed is freed.
    assert_eq!(life.pool.free(object.handle), Err(AccessError::Stale));
    add(&world.tally.freed, 1);
}

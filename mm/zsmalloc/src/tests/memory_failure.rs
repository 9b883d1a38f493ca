//! Memory that fails while an object is written into it.

use std::sync::Arc;

use frames::{FrameCount, Pfn, Zone, ZoneConfig};
use sys::memory_failure::{Injection, catch_memory_failures};

use crate::alloc::alloc_and_write;
use crate::handle::Handle;
use crate::{Pool, PoolConfig};

fn pool() -> Arc<Pool> {
    catch_memory_failures().expect("a handler");
    let zone = super::zone(1024, ZoneConfig::default().backing);
    Pool::new(zone, PoolConfig::default()).expect("a small pool")
}

fn fail_all_in_use(zone: &Zone) {
    let in_use: Vec<_> = (0..1024).map(Pfn).filter(|&pfn| zone.get(pfn).is_some()).collect();
    let inject = |pfn| {
        zone.inject_memory_failure(pfn, Injection::ActionRequired).expect("the signal is sent")
    };
    in_use.into_iter().for_each(inject);
}

/// an object is not published in memory that failed meanwhile. Its slot is freed, and the
/// object is written elsewhere.
#[test]
fn r025_a_write_into_failing_memory_goes_elsewhere() {
    for len in [100, 2500, 4096] {
        let pool = pool();
        let handle = pool.handles.reserve().expect("room");
        let class = pool.classes.for_len(len).expect("a class");
        let bytes = vec![5; len];
        let unpublished = pool.lock(class).alloc_object(handle, len, None).expect("room");
        let chain = unpublished.slot.chain;
        fail_all_in_use(&pool.zone);
        assert!(unpublished.write(&bytes).expect("not poisoned").is_none());
        assert!(pool.zspages.chains.tag(chain).is_none(), "nothing else was in the zspage");
        alloc_and_write(&pool, class, handle, &bytes).expect("room elsewhere").publish();
        let object = pool.read(handle).expect("live");
        assert_eq!((object.to_vec(), object.intact()), (bytes, Ok(())));
        drop(object);
        pool.check().expect("consistent");
        pool.zone.check().expect("consistent");
        assert_eq!(pool.zone.memory_failure_stats().delayed, FrameCount(0));
    }
}

/// Returns the zspage of an object and the frames it lies in.
fn place_of(pool: &Pool, handle: Handle, len: usize) -> (frames::ChainId, Vec<Pfn>) {
    let location = pool.handles.locate(handle).expect("live");
    let class = pool.classes.for_len(len).expect("a class");
    let held = pool.zspages.chains.try_share(location.chain()).expect("an idle chain");
    let frame = |position| held.frame(position).expect("attached");
    (location.chain(), class.frames_of(location.object()).map(frame).collect())
}

/// Zspages whose free slots all lie in failed memory do not hide the zspage behind them.
#[test]
fn failed_slots_do_not_hide_free_ones() {
    const LEN: usize = 700;
    let pool = pool();
    let stored: Vec<_> = (0..1400).map(|_| pool.store(&[1; LEN]).expect("room")).collect();
    let mut zspages = Vec::new();
    let mut firsts = Vec::new();
    for &handle in &stored {
        let (chain, frames) = place_of(&pool, handle, LEN);
        if zspages.last() != Some(&chain) {
            zspages.push(chain);
            firsts.push((handle, chain, frames));
        }
    }
    // The last zspage is not full.
    firsts.pop();
    assert!(firsts.len() > 20, "{} zspages", firsts.len());
    let sound = [firsts[0].1, firsts[firsts.len() - 1].1];
    for (handle, chain, frames) in firsts {
        assert_eq!(pool.free(handle), Ok(LEN));
        if !sound.contains(&chain) {
            let inject = |pfn| {
                pool.zone.inject_memory_failure(pfn, Injection::ActionRequired).expect("sent")
            };
            frames.into_iter().for_each(inject);
        }
    }
    let mut new = [0, 1].map(|_| place_of(&pool, pool.store(&[2; LEN]).expect("room"), LEN).0);
    let mut sound = sound;
    new.sort_unstable_by_key(|id| format!("{id:?}"));
    sound.sort_unstable_by_key(|id| format!("{id:?}"));
    assert_eq!(new, sound, "other zspages of that fullness have no free slot");
    pool.check().expect("consistent");
}

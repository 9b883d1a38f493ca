//! Memory that fails while an object is on its way into it.

use std::sync::Arc;

use frames::{FrameCount, Pfn, Zone, ZoneConfig};
use sys::memory_failure::{Injection, catch_memory_failures};

use crate::{Pool, PoolConfig};

fn pool() -> Arc<Pool> {
    catch_memory_failures().expect("a handler");
    let zone = Zone::new(ZoneConfig { capacity: FrameCount(1024), ..ZoneConfig::default() });
    Pool::new(Arc::new(zone.expect("a small zone")), PoolConfig::default()).expect("a small pool")
}

fn fail_all_in_use(zone: &Zone) {
    let in_use: Vec<_> = (0..1024).map(Pfn).filter(|&pfn| zone.get(pfn).is_some()).collect();
    let inject = |pfn| zone.inject_memory_failure(pfn, Injection::ActionRequired).expect("the signal is sent");
    in_use.into_iter().for_each(inject);
}

/// what was written into memory that failed meanwhile is not acknowledged: the place is given up, and the object goes elsewhere.
#[test]
fn r025_a_write_into_failing_memory_goes_elsewhere() {
    for len in [100, 2500, 4096] {
        let pool = pool();
        let handle = pool.handles.reserve().expect("room");
        let class = pool.classes.for_len(len).expect("a class");
        let bytes = vec![5; len];
        let placed = pool.place(&mut pool.lock(class), class, handle, len).expect("room");
        let extent = placed.slot.extent;
        fail_all_in_use(&pool.zone);
        assert!(pool.write_placed(placed, handle, &bytes).expect("in order").is_none());
        assert!(pool.zspages.extents().tag(extent).is_none(), "nothing else was in the zspage");
        let placed = pool.place_written(class, handle, &bytes).expect("room elsewhere");
        pool.publish(placed, handle, len);
        let object = pool.read(handle).expect("live");
        assert_eq!((object.to_vec(), object.intact()), (bytes, Ok(())));
        drop(object);
        pool.check().expect("consistent");
        pool.zone.check().expect("consistent");
        assert_eq!(pool.zone.memory_failure_stats().delayed, FrameCount(0));
    }
}

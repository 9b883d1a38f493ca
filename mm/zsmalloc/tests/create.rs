//! Making a pool fails at each step that can fail, and leaves nothing (R-450, S-33, B3).
//!
//! The address space of this process is limited for the test, so it has a file of its own.

#![cfg(not(any(loom, shuttle)))]

use std::sync::Arc;

use frames::{FrameCount, Zone, ZoneConfig};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sys::Backing;
use zsmalloc::{Pool, PoolConfig, PoolError};

/// Owners a zone can have at the same time, and some more.
const ATTEMPTS: usize = 600;

/// Lets the process have `more` bytes of address space beyond what it has now.
fn limit_address_space(more: u64) -> Rlimit {
    let before = getrlimit(Resource::As);
    let statm = std::fs::read_to_string("/proc/self/statm").expect("procfs");
    let pages: u64 =
        statm.split(' ').next().and_then(|size| size.parse().ok()).expect("the size comes first");
    let current = Some(pages * rustix::param::page_size() as u64 + more);
    setrlimit(Resource::As, Rlimit { current, maximum: before.maximum })
        .expect("a limit can be lowered");
    before
}

/// S-33, B3: the owner's number is taken before the tables are reserved. When they cannot be, the number comes back: after many more attempts than
/// there are numbers a pool can still be made. The first attempt fails at the zspages' tables, the second one after them, at the handles'.
#[test]
fn b3_a_pool_that_cannot_be_made_leaves_no_owner() {
    let zone = Zone::new(ZoneConfig { capacity: FrameCount(1 << 22), ..ZoneConfig::default() });
    let zone = Arc::new(zone.expect("16 GiB of address space"));
    let with = |max_objects| PoolConfig {
        max_objects: Some(max_objects),
        backing: Backing::AnonymousSmall,
        ..PoolConfig::default()
    };
    for (more, config) in [(16 << 20, with(64)), (3 << 30, with(u32::MAX))] {
        let before = limit_address_space(more);
        let failed = (0..ATTEMPTS)
            .filter(|_| matches!(Pool::new(Arc::clone(&zone), config), Err(PoolError::Reserve(_))))
            .count();
        setrlimit(Resource::As, before).expect("what it was");
        assert_eq!(failed, ATTEMPTS, "with {more} bytes");
        let pool = Pool::new(Arc::clone(&zone), with(64)).expect("every number came back");
        let handle = pool.store(&[1; 100]).expect("room");
        assert_eq!(pool.read(handle).expect("live").to_vec(), [1; 100]);
        pool.free(handle).expect("live");
        drop(pool);
        assert_eq!(zone.stats().in_use, FrameCount(0));
    }
    zone.check().expect("consistent");
}

//! Failed pool creation: at each step that can fail, nothing is left behind (R-450, S-33, B3).
//!
//! The test limits the address space of its process, so it has its own file.

#![cfg(not(any(loom, shuttle)))]

use std::sync::Arc;

use frames::{FrameCount, Zone, ZoneConfig};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sys::Backing;
use zsmalloc::{Pool, PoolConfig, PoolError};

/// Number of attempts: more than the owners that a zone can have.
const ATTEMPTS: usize = 600;

/// Limits the process to `more` bytes of address space beyond what it has. Returns the old limit.
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

/// S-33, B3: the owner number is taken before the tables are reserved, and freed when they cannot
/// be. So a pool can be created after more failures than there are numbers. The first case fails
/// at the zspage tables, the second after them, at the handle table.
#[test]
fn b3_a_failed_pool_creation_leaves_no_owner() {
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
        let pool = Pool::new(Arc::clone(&zone), with(64)).expect("every number was freed");
        let handle = pool.store(&[1; 100]).expect("room");
        assert_eq!(pool.read(handle).expect("live").to_vec(), [1; 100]);
        pool.free(handle).expect("live");
        drop(pool);
        assert_eq!(zone.stats().in_use, FrameCount(0));
    }
    zone.check().expect("consistent");
}

//! The kswapd thread, and requests beside it.

use std::sync::{Mutex, Weak};
use std::time::Instant;

use super::*;
use crate::zones::zone_with;
use crate::{Frame, MigrateType, Order, OwnedBlock, Pressure, Reclaim, Shrinker, ShrinkerPriority};

/// The limit of the zone.
const LIMIT: u64 = 4096;

/// A cache of single frames that frees as many as requested.
#[derive(Debug)]
struct Cache(Mutex<Vec<OwnedBlock>>);

impl Cache {
    fn of(zone: &Arc<Zone>, frames: u64) -> Arc<Self> {
        let take = |_| {
            zone.alloc_owned_block(Order::SINGLE, MigrateType::Movable, Reclaim::NotAllowed)
                .expect("room")
        };
        Arc::new(Self(Mutex::new((0..frames).map(take).collect())))
    }

    fn len(&self) -> usize {
        self.0.lock().expect("no panic while it is held").len()
    }
}

impl Shrinker for Cache {
    fn count(&self) -> FrameCount {
        FrameCount(self.len() as u64)
    }

    fn scan(&self, target: FrameCount, _: &NoLocksHeld) -> FrameCount {
        let mut held = self.0.lock().expect("no panic while it is held");
        let left = held.len() - held.len().min(target.0 as usize);
        FrameCount(held.split_off(left).len() as u64)
    }
}

fn zone() -> Arc<Zone> {
    zone_with(8192, |config| config.limit = Some(FrameCount(LIMIT)))
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn write(zone: &Zone) -> Frame<'_> {
    zone.alloc_frame(MigrateType::Movable, Reclaim::Allowed(NoLocksHeld::promise()))
        .expect("a cache gives way")
}

/// Registers a cache that fills most of the zone, then takes nearly all of the zone frame by
/// frame.
fn fill_beside_a_cache(zone: &Arc<Zone>, mut after_each: impl FnMut()) {
    let cache = Cache::of(zone, LIMIT - 600);
    let weak: Weak<dyn Shrinker> = Arc::downgrade(&cache) as _;
    let _registered = zone.register_shrinker(ShrinkerPriority::Cache, weak);
    let mut held = Vec::new();
    for _ in 0..LIMIT - 300 {
        held.push(write(zone));
        after_each();
    }
    assert!(cache.len() <= 300, "{} frames are still cached", cache.len());
}

/// below the low watermark the thread reclaims up to the high one. A writer that gives it
/// time never reclaims directly.
#[test]
fn r337_a_slow_writer_never_reclaims_itself() {
    let zone = zone();
    let _kswapd = Kswapd::start(&zone).expect("a thread");
    fill_beside_a_cache(&zone, || {
        wait_for("memory is reclaimed", || zone.pressure() < Pressure::BelowLow)
    });
    let stat = zone.vmstat();
    assert_eq!((stat.allocstall, stat.pgsteal_direct), (0, 0));
    assert!(stat.pageoutrun > 1 && stat.pgsteal_kswapd > LIMIT / 2, "{stat:?}");
    // It reclaims no more than needed: no run reclaims more than from below low to high.
    let marks = zone.watermarks();
    let most = 2 * (marks.high.0 - marks.min.0) + SWAP_CLUSTER_MAX;
    assert!(stat.pgsteal_kswapd <= stat.pageoutrun * most, "{stat:?}, {marks:?}");
    zone.check().expect("consistent");
}

/// The same writer without the thread.
#[test]
fn r337_without_the_thread_requests_reclaim() {
    let zone = zone();
    fill_beside_a_cache(&zone, || {});
    let stat = zone.vmstat();
    assert!(stat.allocstall > 0 && stat.pgsteal_direct > LIMIT / 2, "{stat:?}");
    assert_eq!((stat.pageoutrun, stat.pgsteal_kswapd), (0, 0));
}

/// The thread backs off when nothing can be reclaimed, and finds memory that can be reclaimed
/// later.
#[test]
fn failed_runs_back_off() {
    let zone = zone();
    let _kswapd = Kswapd::start(&zone).expect("a thread");
    let held: Vec<_> = (0..LIMIT).map(|_| write(&zone)).collect();
    wait_for("it was woken", || zone.vmstat().pageoutrun > 0);
    let before = zone.vmstat().pageoutrun;
    thread::sleep(Duration::from_millis(300));
    // After 10, 20, 40, 80, 160 ms.
    assert!(zone.vmstat().pageoutrun <= before + 6, "{} runs", zone.vmstat().pageoutrun - before);
    drop(held);
    fill_beside_a_cache(&zone, || {
        wait_for("memory is reclaimed", || zone.pressure() < Pressure::BelowLow)
    });
    assert_eq!(zone.vmstat().allocstall, 0);
}

#[test]
fn there_is_one_thread_and_it_keeps_no_zone_alive() {
    let zone = zone();
    let first = Kswapd::start(&zone).expect("a thread");
    assert!(matches!(Kswapd::start(&zone), Err(KswapdError::AlreadyRunning)));
    drop(first);
    let second = Kswapd::start(&zone).expect("the first thread has stopped");
    let weak = Arc::downgrade(&zone);
    drop(zone);
    wait_for("the zone is gone", || weak.strong_count() == 0);
    drop(second);
}

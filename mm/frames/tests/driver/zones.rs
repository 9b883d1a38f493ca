//! Small zones, and what tests do with them. For integration tests, unit tests and model checkers.

use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, PoisonError};

use frames::{
    AllocError, Backing, Block, Frame, FrameCount, MigrateType, Order, Reclaim, Zone, ZoneConfig,
};

/// Creates a zone of `frames` frames on the heap.
pub(crate) fn heap_zone(frames: u64) -> Arc<Zone> {
    zone_with(frames, |_| {})
}

/// Creates a zone of `frames` frames on the heap, unless `change` sets another backing.
pub(crate) fn zone_with(frames: u64, change: impl FnOnce(&mut ZoneConfig)) -> Arc<Zone> {
    let mut config = ZoneConfig {
        capacity: FrameCount(frames),
        backing: Backing::Heap,
        ..ZoneConfig::default()
    };
    change(&mut config);
    Arc::new(Zone::new(config).expect("a small zone"))
}

/// Allocates a movable frame.
pub(crate) fn take(zone: &Zone) -> Result<Frame<'_>, AllocError> {
    zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed)
}

/// Allocates movable frames until no more can be allocated.
pub(crate) fn take_all(zone: &Zone) -> Vec<Frame<'_>> {
    std::iter::from_fn(|| take(zone).ok()).collect()
}

/// Allocates a movable block.
pub(crate) fn take_block(zone: &Zone, order: Order) -> Result<Block<'_>, AllocError> {
    zone.alloc_block(order, MigrateType::Movable, Reclaim::NotAllowed)
}

/// Runs `work` without printing the messages of panics, for callbacks that must panic.
pub(crate) fn quietly<T>(work: impl FnOnce() -> T) -> T {
    // The hook is the process's, and tests run at the same time.
    static HOOK: Mutex<()> = Mutex::new(());
    let _one_at_a_time = HOOK.lock().unwrap_or_else(PoisonError::into_inner);
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    panic::set_hook(hook);
    result.unwrap_or_else(|message| panic::resume_unwind(message))
}

/// Runs `work` on the same value in the model's second thread.
#[cfg(loom)]
pub(crate) fn beside<S: std::ops::Deref + Clone + 'static, T: 'static>(
    shared: &S,
    work: impl FnOnce(&S::Target) -> T + 'static,
) -> sync::thread::JoinHandle<T> {
    let shared = shared.clone();
    sync::thread::spawn(move || work(&*shared))
}

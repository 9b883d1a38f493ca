//! Shards: which one the calling thread uses, and how many a structure has by default.

use std::cell::Cell;
#[cfg(not(any(loom, shuttle)))]
use std::sync::atomic::{AtomicUsize, Ordering};

/// Shards in a model that sets no number of its own. loom runs every schedule, so only the models
/// that test shards use a second one.
#[cfg(any(loom, shuttle))]
const MODEL_SHARDS: usize = if cfg!(loom) { 1 } else { 2 };

// A model's threads are fibers of one OS thread, and each test has its own OS thread, so these
// belong to one model. They are not atomics of the model, so they order nothing in it.
#[cfg(any(loom, shuttle))]
std::thread_local! {
    static NEXT: Cell<usize> = const { Cell::new(0) };
    static SHARDS: Cell<usize> = const { Cell::new(MODEL_SHARDS) };
}

#[cfg(not(any(loom, shuttle)))]
static NEXT: AtomicUsize = AtomicUsize::new(0);

#[cfg(loom)]
loom::thread_local! {
    static MINE: Cell<usize> = Cell::new(usize::MAX);
}
#[cfg(not(loom))]
crate::base::thread_local! {
    static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Resets the thread numbers and the number of shards, so that all schedules begin alike.
#[cfg(any(loom, shuttle))]
pub(crate) fn begin_schedule() {
    NEXT.set(0);
    SHARDS.set(MODEL_SHARDS);
}

/// Returns a number below `shards`, which is constant for the calling thread.
///
/// Threads are numbered in the order of their first call; a model checker numbers those of each
/// schedule from 0. Few threads are spread better than by CPU numbers, and without a system call.
#[must_use]
pub fn this_shard(shards: usize) -> usize {
    MINE.with(|mine| {
        if mine.get() == usize::MAX {
            #[cfg(any(loom, shuttle))]
            mine.set(NEXT.replace(NEXT.get() + 1));
            // Relaxed: the number only spreads threads over shards; it orders nothing.
            #[cfg(not(any(loom, shuttle)))]
            mine.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        mine.get() % shards
    })
}

/// Returns the number of shards of a structure for `cpus` CPUs: one per CPU. Model checkers use the
/// number of `set_shards`, since their schedules must not depend on the machine.
#[must_use]
pub fn default_shards(cpus: usize) -> usize {
    #[cfg(any(loom, shuttle))]
    let cpus = {
        let _ = cpus;
        SHARDS.get()
    };
    cpus
}

/// Sets the number of shards for structures that this schedule creates from now on.
#[cfg(any(loom, shuttle))]
pub fn set_shards(shards: usize) {
    SHARDS.set(shards);
}

/// Each schedule of a model numbers its threads from 0, independent of earlier schedules.
#[cfg(all(test, any(loom, shuttle)))]
fn two_threads_use_two_shards() {
    use crate::thread;

    assert_eq!(default_shards(64), MODEL_SHARDS);
    set_shards(3);
    assert_eq!(default_shards(64), 3, "the model's number, not the machine's");
    let other = thread::spawn(|| {
        let mine = this_shard(2);
        thread::yield_now();
        assert_eq!(this_shard(2), mine, "a thread keeps its shard");
        mine
    });
    let mine = this_shard(2);
    assert_eq!(this_shard(1), 0);
    assert_ne!(mine, other.join().expect("no panic"));
    assert_eq!(
        thread::spawn(|| this_shard(64)).join().expect("no panic"),
        2,
        "the third thread to call"
    );
}

#[cfg(all(test, loom))]
mod loom_tests {
    #[test]
    fn each_schedule_gives_two_threads_two_shards() {
        crate::model(super::two_threads_use_two_shards);
    }
}

#[cfg(all(test, shuttle))]
mod shuttle_tests {
    #[test]
    fn each_schedule_gives_two_threads_two_shards() {
        crate::check_random(super::two_threads_use_two_shards, 20);
    }
}
